//! Configuration from `DIDIT_*` variables (didit-api.md §8).

use std::env;
use std::ffi::OsString;
use std::fs;
use std::str::FromStr;
use std::time::Duration;

use crate::auth::Credentials;
use crate::client::{Client, ClientBuilder};
use crate::error::{Error, Result};
use crate::retry::RetryPolicy;
use crate::session::ApiVersion;

impl Client {
    /// A client configured by the environment; see [`ClientBuilder::from_env`].
    ///
    /// # Errors
    /// `Config`, naming the variable, never its value.
    pub fn from_env() -> Result<Client> {
        ClientBuilder::from_env()?.build()
    }
}

impl ClientBuilder {
    /// A builder configured by the environment. An empty variable counts as unset.
    ///
    /// | variable | |
    /// | --- | --- |
    /// | `DIDIT_CLIENT_ID`, `DIDIT_CLIENT_SECRET` | client credentials |
    /// | `DIDIT_API_KEY` | an API key instead; with both, `DIDIT_API_VERSION` decides: v1 takes the former, v3 the key |
    /// | `DIDIT_API_VERSION` | `v1`, `v2` or `v3` |
    /// | `DIDIT_BASE_URL`, `DIDIT_AUTH_URL` | where sessions are, and where tokens are fetched |
    /// | `DIDIT_TIMEOUT` | of one attempt, in seconds, fractions allowed |
    /// | `DIDIT_MAX_RETRIES` | a whole number; 0 for none |
    /// | `DIDIT_TOKEN_FILE` | see [`ClientBuilder::token_file`] |
    /// | `DIDIT_CA_FILE` | a PEM file for [`ClientBuilder::root_certificates`] |
    /// | `ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY` | see [`ClientBuilder::proxy`] |
    ///
    /// # Errors
    /// `Config`, naming the variable, never its value.
    pub fn from_env() -> Result<ClientBuilder> {
        configure(|name| env::var_os(name))
    }
}

fn configure(get: impl Fn(&str) -> Option<OsString>) -> Result<ClientBuilder> {
    let path = |name: &str| get(name).filter(|value| !value.is_empty());
    let text = |name: &str| match path(name).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(_)) => Err(Error::config("not UTF-8").within(name)),
    };

    let version = parsed::<ApiVersion>(text, "DIDIT_API_VERSION", "use v1, v2 or v3")?;
    let mut builder = Client::builder(credentials(text, version)?);
    if let Some(version) = version {
        builder = builder.api_version(version);
    }
    if let Some(url) = text("DIDIT_BASE_URL")? {
        builder = builder.base_url(url);
    }
    if let Some(url) = text("DIDIT_AUTH_URL")? {
        builder = builder.auth_url(url);
    }
    if let Some(Seconds(timeout)) = parsed(
        text,
        "DIDIT_TIMEOUT",
        "use a number of seconds above 0, such as 30 or 2.5",
    )? {
        builder = builder.timeout(timeout);
    }
    if let Some(retries) = parsed(text, "DIDIT_MAX_RETRIES", "use a whole number, 0 for none")? {
        builder = builder.retry(RetryPolicy::default().max_retries(retries));
    }
    if let Some(path) = path("DIDIT_TOKEN_FILE") {
        builder = builder.token_file(path);
    }
    if let Some(path) = path("DIDIT_CA_FILE") {
        let pem = fs::read(path)
            .map_err(|error| Error::config(format!("the file cannot be read: {error}")).within("DIDIT_CA_FILE"))?;
        builder = builder.root_certificates(pem);
    }
    Ok(builder)
}

/// Seconds with a fraction, above 0. Read without floating point, whose parser would weigh more than the rest of this
/// file in a small binary.
struct Seconds(Duration);

impl FromStr for Seconds {
    type Err = ();

    fn from_str(text: &str) -> Result<Seconds, ()> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(());
        }
        let nanos = format!("{fraction:0<9}")[..9].parse().map_err(|_| ())?;
        let duration = Duration::new(whole.parse().map_err(|_| ())?, nanos);
        if duration.is_zero() {
            Err(())
        } else {
            Ok(Seconds(duration))
        }
    }
}

fn parsed<T: FromStr>(text: impl Fn(&str) -> Result<Option<String>>, name: &str, hint: &str) -> Result<Option<T>> {
    let parse = |value: String| value.parse().map_err(|_| Error::config(hint).within(name));
    text(name)?.map(parse).transpose()
}

fn credentials(text: impl Fn(&str) -> Result<Option<String>>, version: Option<ApiVersion>) -> Result<Credentials> {
    let id = text("DIDIT_CLIENT_ID")?;
    let secret = text("DIDIT_CLIENT_SECRET")?;
    let key = text("DIDIT_API_KEY")?;
    match (id, secret, key, version) {
        (Some(id), Some(secret), None, _) | (Some(id), Some(secret), Some(_), Some(ApiVersion::V1)) => {
            Ok(Credentials::client(id, secret))
        }
        (None, None, Some(key), _) | (Some(_), Some(_), Some(key), Some(ApiVersion::V3)) => {
            Ok(Credentials::api_key(key))
        }
        (Some(_), Some(_), Some(_), _) => Err(Error::config(
            "DIDIT_API_KEY and DIDIT_CLIENT_ID are both set: unset one, or let DIDIT_API_VERSION decide, where v1 takes \
             the client credentials and v3 the key",
        )),
        (Some(_), None, ..) => Err(Error::config("DIDIT_CLIENT_ID is set, but DIDIT_CLIENT_SECRET is not")),
        (None, Some(_), ..) => Err(Error::config("DIDIT_CLIENT_SECRET is set, but DIDIT_CLIENT_ID is not")),
        (None, None, None, _) => Err(Error::config(
            "no credentials: set DIDIT_CLIENT_ID and DIDIT_CLIENT_SECRET, or DIDIT_API_KEY",
        )),
    }
}
