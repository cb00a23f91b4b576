//! Configuration from `DIDIT_*` variables: those of other clients (docs/didit-api.md §8), and some of our own.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::builder::ClientBuilder;
use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::{Error, Result};
use crate::text::system_words;
use crate::update::ApiVersion;

impl Client {
    /// Returns a client configured by the environment. See [`ClientBuilder::from_env`] for details.
    ///
    /// # Errors
    /// `Config`, verdict `NotApplied`. The text names the variable, but not its value, unless that is an absolute path.
    ///
    /// ```no_run
    /// use didit::{Client, StatusUpdate};
    ///
    /// let client = Client::from_env()?;
    /// let id = "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10".parse()?;
    /// client.update_status(&id, &StatusUpdate::approved())?;
    /// # Ok::<(), didit::Error>(())
    /// ```
    pub fn from_env() -> Result<Client> {
        ClientBuilder::from_env()?.build()
    }
}

impl ClientBuilder {
    /// Returns a builder configured by the environment. An empty variable counts as unset.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use didit::ClientBuilder;
    ///
    /// let client = ClientBuilder::from_env()?.deadline(Duration::from_secs(10)).build()?;
    /// # let _ = client;
    /// # Ok::<(), didit::Error>(())
    /// ```
    ///
    /// | variable | meaning |
    /// | --- | --- |
    /// | `DIDIT_CLIENT_ID`, `DIDIT_CLIENT_SECRET` | client credentials |
    /// | `DIDIT_API_KEY` | an API key. If client credentials are set as well, set `DIDIT_API_VERSION` too: `v1` uses the client credentials, `v3` the API key |
    /// | `DIDIT_CLIENT_SECRET_FILE`, `DIDIT_API_KEY_FILE` | a file that contains the secret or the key, such as a mounted secret. Line breaks at its end are ignored |
    /// | `DIDIT_API_VERSION` | `v1`, `v2` or `v3` |
    /// | `DIDIT_BASE_URL`, `DIDIT_AUTH_URL` | the base URL and the auth URL; see [`ClientBuilder::base_url`] and [`ClientBuilder::auth_url`] |
    /// | `DIDIT_TIMEOUT` | the limit on one request in seconds, such as `30` or `2.5`; see [`ClientBuilder::timeout`] |
    /// | `DIDIT_DEADLINE` | the limit on one call in seconds, including all attempts; see [`ClientBuilder::deadline`] |
    /// | `DIDIT_MAX_RETRIES` | a whole number, 0 for no retries; see [`RetryPolicy::max_retries`](crate::RetryPolicy::max_retries) |
    /// | `DIDIT_TOKEN_FILE` | a file that caches the access token; see [`ClientBuilder::token_file`] |
    /// | `DIDIT_CA_FILE` | a PEM file of root certificates; see [`ClientBuilder::root_certificates`] |
    /// | `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY` | proxies; see [`ClientBuilder::proxy`] |
    ///
    /// # Errors
    /// `Config`, verdict `NotApplied`. The text names the variable, but not its value, unless that is an absolute path.
    pub fn from_env() -> Result<ClientBuilder> {
        configure(|name| env::var_os(name))
    }
}

/// The longest secret and a line break.
const MAX_SECRET_FILE: u64 = 8 * 1024 + 2;
const MAX_CA_FILE: u64 = 16 * 1024 * 1024;

/// Returns the value of a variable, if it is set.
type Text<'a> = &'a dyn Fn(&str) -> Result<Option<String>>;

fn configure(get: impl Fn(&str) -> Option<OsString>) -> Result<ClientBuilder> {
    let path = |name: &str| get(name).filter(|value| !value.is_empty());
    let text: Text<'_> = &|name| match path(name).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(_)) => Err(Error::config("not UTF-8").for_setting(name)),
    };
    let secret: Text<'_> = &|name| {
        let name_of_file = format!("{name}_FILE");
        let reject = |problem| Error::config(problem).for_setting(&name_of_file);
        match (text(name)?, path(&name_of_file)) {
            (value, None) => Ok(value),
            (None, Some(file)) => read_secret(&file, name == "DIDIT_API_KEY").map(Some).map_err(reject),
            (Some(_), Some(_)) => Err(reject(format!("{name} is also set: unset one of them"))),
        }
    };

    let hint = "must be a number of seconds above 0, such as 30 or 2.5";
    let seconds = |name| parse_variable(text, name, hint, parse_seconds);
    let retries = parse_variable(
        text,
        "DIDIT_MAX_RETRIES",
        "must be a whole number (0 for no retries)",
        parse,
    )?;
    let certificates = path("DIDIT_CA_FILE").map(|file| read(&file, MAX_CA_FILE)).transpose();
    let certificates = certificates.map_err(|problem| Error::config(problem).for_setting("DIDIT_CA_FILE"))?;

    let version = parse_variable(text, "DIDIT_API_VERSION", "must be v1, v2 or v3", parse)?;
    let mut builder = ClientBuilder::new(credentials(text, secret, version)?);
    builder.api_version = version;
    builder.auth_url = text("DIDIT_AUTH_URL")?;
    if let Some(deadline) = seconds("DIDIT_DEADLINE")? {
        builder.deadline = deadline;
    }
    builder.token_file = path("DIDIT_TOKEN_FILE").map(PathBuf::from);
    builder.settings.root_certificates = certificates;
    if let Some(url) = text("DIDIT_BASE_URL")? {
        builder.base_url = url;
    }
    if let Some(timeout) = seconds("DIDIT_TIMEOUT")? {
        builder.settings.timeout = timeout;
    }
    if let Some(retries) = retries {
        builder.retry = builder.retry.max_retries(retries);
    }
    Ok(builder)
}

/// Parses a number of seconds above 0, which may have a fraction.
// Without floating point, whose parser would be larger than the rest of this file in a small binary.
fn parse_seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let whole = if whole.is_empty() { "0" } else { whole };
    let nanos = parse(&format!("{fraction:0<9}")[..9])?;
    let duration = Duration::new(parse(whole)?, nanos);
    Some(duration).filter(|duration| !duration.is_zero())
}

fn parse<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn parse_variable<T>(text: Text<'_>, name: &str, hint: &str, parse: fn(&str) -> Option<T>) -> Result<Option<T>> {
    let parse = |value: String| parse(&value).ok_or_else(|| Error::config(hint).for_setting(name));
    text(name)?.map(parse).transpose()
}

/// Reads a file of at most `limit` bytes.
fn read(path: &OsStr, limit: u64) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    match File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut content)) {
        Err(error) => {
            // By mistake, a relative path may be the secret itself.
            let path = Path::new(path).is_absolute().then(|| format!(" {path:?}"));
            let (path, why) = (path.unwrap_or_default(), system_words(&error));
            Err(format!("the file{path} cannot be read: {why}"))
        }
        Ok(length) if length as u64 > limit => Err(format!("the file is larger than {} KiB", limit / 1024)),
        Ok(_) => Ok(content),
    }
}

/// Reads a secret from a file. Removes the line breaks that editors and `echo` add, and the spaces after a key.
fn read_secret(path: &OsStr, is_key: bool) -> Result<String, String> {
    let content = String::from_utf8(read(path, MAX_SECRET_FILE)?).map_err(|_| "the file is not UTF-8")?;
    let text = content.trim_start_matches('\u{feff}');
    let line = text.trim_end_matches(['\r', '\n']);
    match if is_key { line.trim_end() } else { line } {
        "" => Err("the file is empty".into()),
        secret => Ok(secret.to_owned()),
    }
}

fn credentials(text: Text<'_>, secret: Text<'_>, version: Option<ApiVersion>) -> Result<Option<Credentials>> {
    let id = text("DIDIT_CLIENT_ID")?;
    let key = secret("DIDIT_API_KEY")?;
    let problem = match (id, secret("DIDIT_CLIENT_SECRET")?, key, version) {
        (Some(id), Some(secret), None, _) | (Some(id), Some(secret), Some(_), Some(ApiVersion::V1)) => {
            return Ok(Some(Credentials::client(id, secret)));
        }
        (None, None, Some(key), _) | (Some(_), Some(_), Some(key), Some(ApiVersion::V3)) => {
            return Ok(Some(Credentials::api_key(key)));
        }
        (Some(_), Some(_), Some(_), _) => {
            "DIDIT_API_KEY and DIDIT_CLIENT_ID are both set: unset one, or set DIDIT_API_VERSION (v1 uses the client \
             credentials, v3 the API key)"
        }
        (Some(_), None, ..) => "DIDIT_CLIENT_ID is set, but DIDIT_CLIENT_SECRET is not",
        (None, Some(_), ..) => "DIDIT_CLIENT_SECRET is set, but DIDIT_CLIENT_ID is not",
        // The program may set the credentials itself.
        (None, None, None, _) => return Ok(None),
    };
    Err(Error::config(problem))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;

    use super::*;
    use crate::error::{ErrorKind, Verdict};

    /// A secret value, which no text may contain.
    const MARKER: &str = "hunter2";

    fn configured(variables: &[(&str, &str)]) -> Result<ClientBuilder> {
        // Loopback URLs, so that the tests pass without TLS as well.
        let loopback = [
            ("DIDIT_BASE_URL", "http://127.0.0.1:1"),
            ("DIDIT_AUTH_URL", "http://127.0.0.1:1"),
        ];
        let variables: HashMap<_, _> = loopback.iter().chain(variables).copied().collect();
        configure(|name| variables.get(name).map(OsString::from))
    }

    /// Returns a client configured by an API key and one more variable.
    fn with_key(name: &str, value: &str) -> Result<Client> {
        configured(&[("DIDIT_API_KEY", "k3y"), (name, value)])?.build()
    }

    fn message(result: Result<impl std::fmt::Debug>) -> String {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert_eq!(error.verdict(), Verdict::NotApplied);
        assert!(!error.is_retryable());
        let text = format!("{error} {error:?} {error:#?}");
        assert!(!text.contains(MARKER), "{text}");
        error.to_string()
    }

    /// Checks that a value is rejected with the name of its variable.
    fn rejected(name: &str, value: &str) {
        let message = message(with_key(name, value));
        assert!(message.contains(name), "{value:?}: {message}");
    }

    #[test]
    fn the_variables_choose_the_credentials() {
        let client = [("DIDIT_CLIENT_ID", "me"), ("DIDIT_CLIENT_SECRET", MARKER)];
        let key = [("DIDIT_API_KEY", MARKER)];
        for (version, by_client, by_key) in [
            ("", "v1", "v3"),
            ("v1", "v1", "v1"),
            ("V2", "v2", "v2"),
            ("v3", "v3", "v3"),
        ] {
            for (credentials, expected) in [(&client[..], by_client), (&key[..], by_key)] {
                let variables = [credentials, &[("DIDIT_API_VERSION", version)]].concat();
                let client = configured(&variables).unwrap().build().unwrap();
                let shown = format!("{client:?}");
                assert_eq!(client.api_version().as_str(), expected);
                assert_eq!(client.client_id(), Some("me").filter(|_| credentials.len() == 2));
                assert!(!shown.contains(MARKER), "{shown}");
            }
        }
    }

    #[test]
    fn the_version_decides_between_both_kinds_of_credentials() {
        let both = [
            ("DIDIT_CLIENT_ID", "me"),
            ("DIDIT_CLIENT_SECRET", MARKER),
            ("DIDIT_API_KEY", MARKER),
        ];
        for version in ["", "v2"] {
            let message = message(configured(&[&both[..], &[("DIDIT_API_VERSION", version)]].concat()));
            for word in ["DIDIT_API_KEY", "DIDIT_CLIENT_ID", "unset one", "DIDIT_API_VERSION"] {
                assert!(message.contains(word), "{message}");
            }
        }
        for (version, by_client) in [("v1", true), ("v3", false)] {
            let variables = [&both[..], &[("DIDIT_API_VERSION", version)]].concat();
            let shown = format!("{:?}", configured(&variables).unwrap());
            assert_eq!(shown.contains("\"me\""), by_client, "{version}: {shown}");
        }
    }

    #[test]
    fn incomplete_credentials_name_the_missing_variable() {
        for (variables, missing) in [
            (&[("DIDIT_CLIENT_ID", MARKER)][..], &["DIDIT_CLIENT_SECRET is not"][..]),
            (&[("DIDIT_CLIENT_SECRET", MARKER)], &["DIDIT_CLIENT_ID is not"]),
            (
                &[("DIDIT_CLIENT_ID", MARKER), ("DIDIT_API_KEY", MARKER)],
                &["DIDIT_CLIENT_SECRET is not"],
            ),
            (
                &[("DIDIT_CLIENT_ID", MARKER), ("DIDIT_CLIENT_SECRET", "")],
                &["DIDIT_CLIENT_SECRET is not"],
            ),
        ] {
            let message = message(configured(variables));
            for words in missing {
                assert!(message.contains(words), "{message}");
            }
        }
    }

    #[test]
    fn a_program_can_set_the_credentials_that_the_environment_lacks() {
        for variables in [&[][..], &[("DIDIT_API_KEY", ""), ("DIDIT_API_VERSION", "v3")]] {
            let builder = configured(variables).unwrap();
            let text = message(builder.clone().build());
            assert_eq!(
                text,
                "no credentials: set DIDIT_API_KEY, or DIDIT_CLIENT_ID and DIDIT_CLIENT_SECRET"
            );
            let client = builder.credentials(Credentials::api_key(MARKER)).build().unwrap();
            assert_eq!((client.api_version(), client.client_id()), (ApiVersion::V3, None));
        }
        let variables = [("DIDIT_API_KEY", MARKER), ("DIDIT_TIMEOUT", "7")];
        let builder = configured(&variables)
            .unwrap()
            .credentials(Credentials::client("me", MARKER));
        assert!(format!("{builder:?}").contains(" timeout: 7s,"));
        assert_eq!(builder.build().unwrap().client_id(), Some("me"));
    }

    #[test]
    fn malformed_credentials_name_their_variables() {
        for (id, secret) in [
            ("a:b", MARKER),
            (MARKER, "hunter2\n"),
            ("hunter2\r", "x"),
            ("hunter2:", "x"),
        ] {
            let builder = configured(&[("DIDIT_CLIENT_ID", id), ("DIDIT_CLIENT_SECRET", secret)]);
            let message = message(builder.unwrap().build());
            assert!(
                message.contains("DIDIT_CLIENT_ID") && message.contains("DIDIT_CLIENT_SECRET"),
                "{message}"
            );
        }
        for key in ["hunter2\n", "hunter2 x", "hunter2é"] {
            let message = message(configured(&[("DIDIT_API_KEY", key)]).unwrap().build());
            assert!(message.contains("DIDIT_API_KEY"), "{message}");
        }
    }

    #[test]
    fn secrets_are_read_from_files() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        let path = file.to_str().unwrap();
        let longest = "k".repeat(8 * 1024);
        for (content, secret, key) in [
            ("s3cret", "s3cret", "s3cret"),
            ("s3cret\n", "s3cret", "s3cret"),
            ("s3cret\r\n", "s3cret", "s3cret"),
            ("\u{feff}s3cret\r\n", "s3cret", "s3cret"),
            (" s3cret \r\n\n", " s3cret ", " s3cret"),
            ("s3cret\n \n", "s3cret\n ", "s3cret"),
            (&format!("{longest}\r\n"), &longest, &longest),
        ] {
            fs::write(&file, content).unwrap();
            let read = |is_key| read_secret(file.as_os_str(), is_key).unwrap();
            assert_eq!((read(false), read(true)), (secret.into(), key.into()), "{content:?}");
        }
        fs::write(&file, "s3cret\n").unwrap();
        let key = configured(&[("DIDIT_API_KEY_FILE", path)]).unwrap();
        assert_eq!(key.build().unwrap().api_version(), ApiVersion::V3);
        let client = [("DIDIT_CLIENT_ID", "me"), ("DIDIT_CLIENT_SECRET_FILE", path)];
        let client_version = configured(&client).unwrap().build().unwrap().api_version();
        assert_eq!(client_version, ApiVersion::V1);
        let message = message(configured(&[client[1]]));
        assert!(message.contains("DIDIT_CLIENT_ID is not"), "{message}");
    }

    #[test]
    fn an_unusable_secret_file_names_its_variable_but_not_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        let path = file.to_str().unwrap();
        let long = MARKER.repeat(2000);
        for name in ["DIDIT_API_KEY_FILE", "DIDIT_CLIENT_SECRET_FILE"] {
            let rejected = |path: &str, problem: &str| {
                let message = message(configured(&[(name, path), ("DIDIT_CLIENT_ID", "me")]));
                assert!(message.starts_with(&format!("{name}: the file {problem}")), "{message}");
            };
            for (content, problem) in [
                (&b""[..], "is empty"),
                (b"\n", "is empty"),
                (b"\r\n", "is empty"),
                (b"\xef\xbb\xbf\n", "is empty"),
                (b"hunter2\xff", "is not UTF-8"),
                (long.as_bytes(), "is larger than 8 KiB"),
            ] {
                fs::write(&file, content).unwrap();
                rejected(path, problem);
            }
            let missing = directory.path().join("a\u{7}");
            for path in [directory.path(), &missing] {
                rejected(path.to_str().unwrap(), &format!("{path:?} cannot be read: "));
            }
            // The secret itself instead of a path to it.
            rejected(MARKER, "cannot be read: ");

            let value = name.trim_end_matches("_FILE");
            let both = [(name, path), (value, MARKER), ("DIDIT_CLIENT_ID", "me")];
            let message = message(configured(&both));
            assert_eq!(message, format!("{name}: {value} is also set: unset one of them"));
        }
    }

    #[test]
    fn quotes_that_an_env_file_left_are_named() {
        for variables in [
            &[("DIDIT_API_KEY", "'hunter2'")][..],
            &[("DIDIT_CLIENT_ID", "\"me\""), ("DIDIT_CLIENT_SECRET", MARKER)],
            &[("DIDIT_CLIENT_ID", "me"), ("DIDIT_CLIENT_SECRET", "\"hunter2\"")],
        ] {
            let message = message(configured(variables).unwrap().build());
            assert!(message.contains(variables.last().unwrap().0), "{message}");
            assert!(message.ends_with("in quotes: remove them"), "{message}");
        }
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let plain = format!("{:?}", configured(&[("DIDIT_API_KEY", "k3y")]).unwrap());
        for name in [
            "DIDIT_CLIENT_ID",
            "DIDIT_CLIENT_SECRET",
            "DIDIT_CLIENT_SECRET_FILE",
            "DIDIT_API_KEY_FILE",
            "DIDIT_API_VERSION",
            "DIDIT_BASE_URL",
            "DIDIT_AUTH_URL",
            "DIDIT_TIMEOUT",
            "DIDIT_DEADLINE",
            "DIDIT_MAX_RETRIES",
            "DIDIT_TOKEN_FILE",
            "DIDIT_CA_FILE",
        ] {
            let builder = configured(&[("DIDIT_API_KEY", "k3y"), (name, "")]).unwrap();
            assert_eq!(format!("{builder:?}"), plain, "{name}");
            builder
                .base_url("http://127.0.0.1")
                .auth_url("http://127.0.0.1")
                .build()
                .unwrap();
        }
    }

    #[test]
    fn an_invalid_url_is_rejected_with_the_name_of_its_variable() {
        let both = [
            ("DIDIT_CLIENT_ID", "me"),
            ("DIDIT_CLIENT_SECRET", "s"),
            ("DIDIT_BASE_URL", "http://127.0.0.1:1/sessions/"),
            ("DIDIT_AUTH_URL", "http://127.0.0.1:2/tokens"),
        ];
        let client = configured(&both).unwrap().build().unwrap();
        let shown = format!("{client:?}");
        assert_eq!(client.base_url(), "http://127.0.0.1:1/sessions");
        assert!(
            shown.contains("\"http://127.0.0.1:2/tokens/auth/v2/token/\""),
            "{shown}"
        );
        for name in ["DIDIT_BASE_URL", "DIDIT_AUTH_URL"] {
            for url in [
                "hunter2",
                "https://hunter2@example.org",
                "https://example.org?hunter2",
                "http://hunter2.example",
                "ftp://hunter2",
            ] {
                rejected(name, url);
            }
        }
    }

    #[test]
    fn a_timeout_and_a_deadline_are_seconds_above_0() {
        for (value, expected) in [
            ("30", "30s"),
            ("2.5", "2.5s"),
            (".25", "250ms"),
            ("0.001", "1ms"),
            ("0.0000000019", "1ns"),
            ("1000000000000000000", "1000000000000000000s"),
        ] {
            let builder = configured(&[("DIDIT_API_KEY", "k3y"), ("DIDIT_TIMEOUT", value)]).unwrap();
            let shown = format!("{builder:?}");
            assert!(shown.contains(&format!(" timeout: {expected},")), "{value}: {shown}");
            let builder = configured(&[("DIDIT_API_KEY", "k3y"), ("DIDIT_DEADLINE", value)]).unwrap();
            let shown = format!("{builder:?}");
            assert!(shown.contains(&format!(" deadline: {expected},")), "{value}: {shown}");
        }
        for value in [
            "0",
            "-0",
            "0.0",
            "-1",
            "5.",
            ".",
            "1e3",
            "0.0000000001",
            "99999999999999999999",
            "1e20",
            "1e999",
            "inf",
            "NaN",
            "30s",
            "1,5",
            " 30",
            "hunter2",
        ] {
            rejected("DIDIT_TIMEOUT", value);
            rejected("DIDIT_DEADLINE", value);
        }
    }

    #[test]
    fn max_retries_is_a_whole_number() {
        for value in ["0", "2", "4294967295"] {
            let builder = configured(&[("DIDIT_API_KEY", "k3y"), ("DIDIT_MAX_RETRIES", value)]).unwrap();
            let shown = format!("{builder:?}");
            assert!(shown.contains(&format!("max_retries: {value},")), "{shown}");
        }
        for value in ["-1", "1.5", "4294967296", "two", " 2", "hunter2"] {
            rejected("DIDIT_MAX_RETRIES", value);
        }
    }

    #[test]
    fn an_unknown_version_is_rejected() {
        for value in ["1", "v4", "v", "v1 ", "3", "hunter2"] {
            rejected("DIDIT_API_VERSION", value);
        }
    }

    #[test]
    fn an_unusable_ca_file_is_rejected() {
        rejected("DIDIT_CA_FILE", "/nowhere/missing.pem");
        rejected("DIDIT_CA_FILE", env!("CARGO_MANIFEST_DIR"));
        rejected("DIDIT_CA_FILE", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_not_utf_8_is_rejected_with_its_name() {
        use std::os::unix::ffi::OsStringExt;

        for name in [
            "DIDIT_CLIENT_ID",
            "DIDIT_CLIENT_SECRET",
            "DIDIT_API_KEY",
            "DIDIT_API_VERSION",
            "DIDIT_BASE_URL",
            "DIDIT_AUTH_URL",
            "DIDIT_TIMEOUT",
            "DIDIT_DEADLINE",
            "DIDIT_MAX_RETRIES",
        ] {
            let builder = configure(|asked| match asked {
                _ if asked == name => Some(OsString::from_vec(b"hunter2\xff".into())),
                "DIDIT_API_KEY" => Some("k3y".into()),
                _ => None,
            });
            let message = message(builder);
            assert!(message.contains(name), "{message}");
        }
    }
}
