//! Credentials, and the header that authorizes a request.

use std::sync::Arc;

use crate::deadline::Deadline;
use crate::error::{Error, Result, TokenOrigin};
use crate::secret::Secret;
use crate::token::Token;
use crate::token::source::TokenSource;

/// An API key, or a client id and a client secret. `Debug` hides the key and the secret.
///
/// New Didit accounts have an API key. Older applications have a client id and a client secret. You find both in the
/// Didit Business Console ([Didit's API, §4](crate::didit_api#4-update-v2-and-v3)).
///
/// ```no_run
/// use didit::{Client, Credentials};
///
/// let client = Client::new(Credentials::api_key("my-api-key"))?;
/// let client = Client::new(Credentials::client("my-client-id", "my-client-secret"))?;
/// # Ok::<(), didit::Error>(())
/// ```
///
/// [`ClientBuilder::build`](crate::ClientBuilder::build) checks the credentials.
#[derive(Clone, Debug)]
#[must_use]
pub struct Credentials(pub(crate) CredentialKind);

/// Limits the credentials, so that the head of a request fits into its buffer.
const MAX_LENGTH: usize = 8 * 1024;

#[derive(Clone, Debug)]
pub(crate) enum CredentialKind {
    Client { id: String, secret: Secret },
    ApiKey(Secret),
}

impl Credentials {
    /// Returns client credentials. The client exchanges them for an access token on first use ([Didit's API,
    /// §2](crate::didit_api#2-access-token)).
    pub fn client(id: impl Into<String>, secret: impl Into<String>) -> Credentials {
        Credentials(CredentialKind::Client {
            id: id.into(),
            secret: Secret::new(secret),
        })
    }

    /// Returns an API key, which the client sends with every request. It needs no access token ([Didit's API,
    /// §4](crate::didit_api#4-update-v2-and-v3)).
    pub fn api_key(key: impl Into<String>) -> Credentials {
        Credentials(CredentialKind::ApiKey(Secret::new(key)))
    }

    /// Checks that the credentials are well-formed.
    ///
    /// # Errors
    /// `Config`, without the value.
    pub(crate) fn check(&self) -> Result<()> {
        let (name, problem) = match &self.0 {
            CredentialKind::Client { id, secret } => (
                "client credentials (DIDIT_CLIENT_ID, DIDIT_CLIENT_SECRET or DIDIT_CLIENT_SECRET_FILE)",
                client_problem(id, secret.expose()),
            ),
            CredentialKind::ApiKey(key) => (
                "API key (DIDIT_API_KEY or DIDIT_API_KEY_FILE)",
                key_problem(key.expose()),
            ),
        };
        problem.map_or(Ok(()), |problem| Err(Error::config(problem).for_setting(name)))
    }
}

fn client_problem(id: &str, secret: &str) -> Option<String> {
    for (name, value) in [("id", id), ("secret", secret)] {
        if value.is_empty() {
            return Some(format!("the {name} is empty"));
        }
        if is_quoted(value) {
            return Some(format!("the {name} is in quotes: remove them"));
        }
        if value.contains(char::is_control) {
            return Some(format!(
                "the {name} contains a control character; is there a line break at its end?"
            ));
        }
    }
    if id.contains(':') {
        return Some("the id contains a colon, which Basic authentication cannot carry (RFC 7617)".into());
    }
    (id.len() + secret.len() > MAX_LENGTH)
        .then(|| "the id and the secret must not be longer than 8 KiB together".into())
}

fn key_problem(key: &str) -> Option<String> {
    if key.is_empty() {
        Some("must not be empty".into())
    } else if is_quoted(key) {
        Some("is in quotes: remove them".into())
    } else if key.len() > MAX_LENGTH {
        Some("must not be longer than 8 KiB".into())
    } else if key.trim() != key {
        Some("starts or ends with a space or a line break: remove it".into())
    } else {
        let invalid = key.chars().find(|c| !c.is_ascii_graphic());
        invalid.map(|c| format!("contains {c:?}, and only visible ASCII characters are allowed"))
    }
}

/// Returns whether a text is in quotes. `docker run --env-file` does not remove them.
fn is_quoted(text: &str) -> bool {
    ['"', '\'']
        .iter()
        .any(|quote| text.starts_with(*quote) && text.ends_with(*quote))
}

/// Authorizes requests with an API key, or with an access token that is fetched on first use.
#[derive(Debug)]
pub(crate) enum Authorization {
    ApiKey(Secret),
    Token(Box<TokenSource>),
}

impl Authorization {
    /// Returns what authorizes one request.
    ///
    /// # Errors
    /// Those of [`TokenSource::token`].
    pub(crate) fn credential(&self, deadline: Deadline) -> Result<Credential<'_>> {
        Ok(match self {
            Authorization::ApiKey(key) => Credential::ApiKey(key.expose()),
            Authorization::Token(source) => Credential::Token(source, source.token(deadline)?),
        })
    }
}

/// The API key or the access token of one request.
pub(crate) enum Credential<'a> {
    ApiKey(&'a str),
    Token(&'a TokenSource, Arc<Token>),
}

impl Credential<'_> {
    /// Returns the header (docs/didit-api.md §3, §4).
    pub(crate) fn header(&self) -> (&'static str, &str) {
        match self {
            Credential::ApiKey(key) => ("x-api-key", key),
            Credential::Token(_, token) => ("authorization", token.authorization()),
        }
    }

    /// Returns the secrets that no error may show.
    pub(crate) fn secrets(&self) -> [&str; 3] {
        match self {
            Credential::ApiKey(key) => [key, "", ""],
            Credential::Token(source, token) => {
                let [secret, basic] = source.secrets();
                [secret, basic, token.value()]
            }
        }
    }

    /// Discards an access token that Didit refused, and returns where it came from. Returns `None` for an API key.
    pub(crate) fn discard(&self) -> Option<TokenOrigin> {
        match self {
            Credential::ApiKey(_) => None,
            Credential::Token(source, token) => {
                source.discard(token);
                Some(token.origin)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorKind, Verdict};

    #[test]
    fn malformed_credentials_are_rejected_and_never_shown() {
        for (credentials, problem) in [
            (Credentials::client("", "s3cret"), "empty"),
            (Credentials::client("id", ""), "empty"),
            (Credentials::client("i:d", "s3cret"), "colon"),
            (Credentials::client("id\n", "s3cret"), "control character"),
            (Credentials::client("id", "s3cret\r"), "control character"),
            (Credentials::client("'id'", "s3cret"), "in quotes: remove them"),
            (Credentials::client("id", "\"s3cret\""), "in quotes: remove them"),
            (Credentials::api_key("\"s3cret\""), "in quotes: remove them"),
            (Credentials::api_key("'s3cret'"), "in quotes: remove them"),
            (Credentials::api_key(""), "empty"),
            (Credentials::api_key("s3cret\n"), "ends with a space or a line break"),
            (Credentials::api_key(" s3cret"), "starts or ends with a space"),
            (Credentials::api_key("s3 cret"), "contains ' ', and only visible ASCII"),
            (Credentials::api_key("s3crét"), "contains 'é', and only visible ASCII"),
            (Credentials::api_key("“s3cret”"), "contains '“', and only visible ASCII"),
            (Credentials::api_key("s3\u{202e}cret"), "contains '\\u{202e}', and only"),
            (Credentials::api_key("s3".repeat(4097)), "longer than 8 KiB"),
            (Credentials::client("id", "s3".repeat(4096)), "longer than 8 KiB"),
        ] {
            let error = credentials.check().unwrap_err();
            assert_eq!(
                (error.kind(), error.verdict()),
                (ErrorKind::Config, Verdict::NotApplied)
            );
            assert!(error.to_string().contains(problem), "{error}");
            assert!(!error.to_string().contains("s3"), "{error}");
        }
        for credentials in [
            Credentials::client("id", "with: colon, space and ü"),
            Credentials::client("id", "\"s3cret'"),
            Credentials::api_key("!~"),
            Credentials::api_key("k".repeat(8192)),
            Credentials::client("id", "s".repeat(8190)),
        ] {
            credentials.check().unwrap();
        }
    }
}
