//! The configuration of a client, which is checked when the client is built.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::client::Client;
use crate::credentials::{Authorization, CredentialKind, Credentials};
use crate::error::{Error, Result};
use crate::exchange::Shared;
use crate::http::{Http, Settings, base_url};
use crate::retry::RetryPolicy;
use crate::secret::Secret;
use crate::token::source::TokenSource;
use crate::update::ApiVersion;

const AUTH_URL: &str = "auth_url (DIDIT_AUTH_URL)";
const DEFAULT_BASE_URL: &str = "https://verification.didit.me";
const DEFAULT_AUTH_URL: &str = "https://apx.didit.me";
const DEFAULT_DEADLINE: Duration = Duration::from_secs(120);

impl Client {
    /// Returns a client with the defaults of [`ClientBuilder`]. Sends nothing yet.
    ///
    /// # Errors
    /// `Config`, verdict `NotApplied`, for malformed credentials, such as empty ones.
    pub fn new(credentials: Credentials) -> Result<Client> {
        Client::builder(credentials).build()
    }

    /// Returns a builder for a client.
    pub fn builder(credentials: Credentials) -> ClientBuilder {
        ClientBuilder::new(Some(credentials))
    }
}

/// The configuration of a [`Client`], which [`build`](ClientBuilder::build) checks.
///
/// ```no_run
/// use std::time::Duration;
/// use didit::{Client, Credentials, RetryPolicy};
///
/// let client = Client::builder(Credentials::api_key("my-api-key"))
///     .deadline(Duration::from_secs(60))
///     .retry(RetryPolicy::default().max_retries(4))
///     .build()?;
/// # let _ = client;
/// # Ok::<(), didit::Error>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct ClientBuilder {
    pub(crate) credentials: Option<Credentials>,
    pub(crate) api_version: Option<ApiVersion>,
    pub(crate) base_url: String,
    pub(crate) auth_url: Option<String>,
    pub(crate) settings: Settings,
    pub(crate) deadline: Duration,
    pub(crate) retry: RetryPolicy,
    pub(crate) token_file: Option<PathBuf>,
    allow_insecure_http: bool,
}

impl ClientBuilder {
    pub(crate) fn new(credentials: Option<Credentials>) -> ClientBuilder {
        ClientBuilder {
            credentials,
            api_version: None,
            base_url: DEFAULT_BASE_URL.into(),
            auth_url: None,
            settings: Settings {
                timeout: Duration::from_secs(30),
                connect_timeout: Duration::from_secs(10),
                proxy: None,
                root_certificates: None,
                user_agent: concat!("didit-rust/", env!("CARGO_PKG_VERSION")).into(),
            },
            deadline: DEFAULT_DEADLINE,
            retry: RetryPolicy::default(),
            token_file: None,
            allow_insecure_http: false,
        }
    }

    /// Sets the credentials, in place of those that the builder has. [`from_env`](ClientBuilder::from_env) needs none in
    /// the environment if you set them here, such as a key from a vault.
    pub fn credentials(mut self, credentials: Credentials) -> ClientBuilder {
        self.credentials = Some(credentials);
        self
    }

    /// Sets the version of Didit's API. Default: v1 for client credentials, v3 for an API key.
    pub fn api_version(mut self, version: ApiVersion) -> ClientBuilder {
        self.api_version = Some(version);
        self
    }

    /// Sets the base URL: where sessions are read and updated. Default: `https://verification.didit.me`.
    ///
    /// It may have a path prefix that does not end in `v1`, `v2` or `v3`: the client appends the version. A trailing
    /// slash makes no difference. At most 8 KiB.
    pub fn base_url(mut self, url: impl Into<String>) -> ClientBuilder {
        self.base_url = url.into();
        self
    }

    /// Sets the auth URL: where access tokens are fetched. Default: `https://apx.didit.me`.
    ///
    /// It is not the base URL ([Didit's API, §1](crate::didit_api#1-two-hosts)). An API key needs no access token.
    pub fn auth_url(mut self, url: impl Into<String>) -> ClientBuilder {
        self.auth_url = Some(url.into());
        self
    }

    /// Limits how long one request may take, from the DNS lookup to the end of the response. Default: 30 s. An attempt may
    /// need several requests: for an access token, to read the session, and to update it.
    ///
    /// The client sends an update only if at least a fifth of this time is left, because an update that is cut off may or
    /// may not have been applied. The operating system rounds timeouts up, so a request may take a few percent longer.
    pub fn timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.settings.timeout = timeout;
        self
    }

    /// Limits how long the DNS lookup may take, and how long connecting may take after it, including a proxy's tunnel
    /// and the TLS handshake. Default: 10 s each, and connecting takes at most four fifths of
    /// [`timeout`](ClientBuilder::timeout).
    ///
    /// If a host has several addresses, the client tries each for 250 ms, alternating between IPv6 and IPv4; then it
    /// retries the silent ones with longer limits. From then on, it first tries the address that connected. It caches
    /// addresses for a minute, or for up to an hour while lookups fail.
    pub fn connect_timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.settings.connect_timeout = timeout;
        self
    }

    /// Limits how long one call may take, including all attempts, waits and token fetches. Default: 2 minutes.
    /// `Duration::MAX` lifts the limit.
    ///
    /// Set another deadline when someone is waiting, such as in a web handler. Once connected, the client sends an update
    /// only if at least a fifth of the deadline is left, or one [`timeout`](ClientBuilder::timeout) if that is shorter. This
    /// reserve is for the response: without it, updates would be cut off at the end of the time, and their results unknown.
    pub fn deadline(mut self, deadline: Duration) -> ClientBuilder {
        self.deadline = deadline;
        self
    }

    /// Sets when and how many times failed attempts are retried. Default: [`RetryPolicy::default`], with 2 retries.
    ///
    /// A program with retries of its own, such as a queue worker, sets [`RetryPolicy::none`].
    pub fn retry(mut self, policy: RetryPolicy) -> ClientBuilder {
        self.retry = policy;
        self
    }

    /// Sets an HTTP proxy for both hosts, such as `http://user:password@host:port`. An empty one means no proxy, even
    /// if the environment has one.
    ///
    /// By default, [`build`](ClientBuilder::build) reads the environment for each host much as curl does: `https_proxy`
    /// for `https` URLs, `http_proxy` for `http` URLs, else `all_proxy`. Names may be in upper case; lower case takes
    /// precedence. In a CGI program, where `REQUEST_METHOD` is set, `HTTP_PROXY` is ignored; on Windows, variable names are
    /// case-insensitive, so `http_proxy` is ignored too.
    ///
    /// `no_proxy` lists hosts to reach directly, separated by commas or spaces: domains with their subdomains,
    /// addresses and networks (`10.0.0.0/8`), or `*` for all hosts. Domains and addresses may have a port. Loopback
    /// hosts are reached directly as well, unless the proxy is set here.
    ///
    /// An invalid or unsupported proxy, such as a SOCKS proxy, is a `Config` error if it would be used. The client
    /// sends all requests, even those to `http` URLs, through a CONNECT tunnel. `https://` proxies need a TLS feature.
    pub fn proxy(mut self, url: impl Into<String>) -> ClientBuilder {
        self.settings.proxy = Some(Secret::new(url));
        self
    }

    /// Sets the root certificates to trust, as PEM, in place of the default ones. For a private certificate authority.
    ///
    /// Private keys, parameters and revocation lists in the same file are skipped. A file without a certificate, a file
    /// in another format, such as DER or PKCS #7, and an invalid or damaged certificate are `Config` errors.
    pub fn root_certificates(mut self, pem: impl AsRef<[u8]>) -> ClientBuilder {
        self.settings.root_certificates = Some(pem.as_ref().to_vec());
        self
    }

    /// Sets a file that caches the access token for the next process, so that a script that runs often authenticates
    /// once.
    ///
    /// Set the same file for all processes with the same client credentials: some servers accept only the newest token, so
    /// that processes without a common file would invalidate each other's.
    ///
    /// The file is replaced atomically. A file that is unreadable, corrupt, expired, or for other credentials is
    /// ignored. Only an empty file or one that begins as a token file does is replaced, and never a path that is not a
    /// regular file, such as a symbolic link. If the file cannot be used, the call still succeeds, and a warning is logged
    /// once under the target `didit::token_file`. In a container, mount the directory of the file: a file that is mounted by
    /// itself cannot be replaced.
    ///
    /// On Unix, only the owner can read the file. If it belongs to another user or others can read it, it is ignored.
    /// On Windows, the file inherits the permissions of its folder, which are not checked: choose a folder that only
    /// this user can read, such as one under `%LOCALAPPDATA%`.
    pub fn token_file(mut self, path: impl AsRef<Path>) -> ClientBuilder {
        self.token_file = Some(path.as_ref().to_owned());
        self
    }

    /// Sets whether `http://` is allowed for hosts other than loopback hosts. Default: no.
    ///
    /// Over `http://`, credentials and decisions cross the network in the clear.
    pub fn allow_insecure_http(mut self, allow: bool) -> ClientBuilder {
        self.allow_insecure_http = allow;
        self
    }

    /// Sets the `User-Agent` header: 1 to 1024 visible ASCII characters or spaces. Default: `didit-rust/` and the
    /// version of this crate.
    pub fn user_agent(mut self, name: impl Into<String>) -> ClientBuilder {
        self.settings.user_agent = name.into();
        self
    }

    /// Checks the configuration and returns the client. Sends nothing yet.
    ///
    /// # Errors
    /// `Config`, verdict `NotApplied`. The text names the option, and its environment variable if it has one, but
    /// never a value.
    pub fn build(self) -> Result<Client> {
        let no_credentials = "no credentials: set DIDIT_API_KEY, or DIDIT_CLIENT_ID and DIDIT_CLIENT_SECRET";
        let credentials = self.credentials.ok_or_else(|| Error::config(no_credentials))?;
        credentials.check()?;
        let check = |url: &str, name| base_url(url, self.allow_insecure_http).map_err(|error| error.for_setting(name));
        let base = check(&self.base_url, "base_url (DIDIT_BASE_URL)")?;
        // An invalid auth URL is a mistake even if an API key leaves it unused.
        let auth = self.auth_url.as_deref().map(|url| check(url, AUTH_URL)).transpose()?;
        if self.deadline.is_zero() {
            return Err(Error::config("must be longer than 0 s").for_setting("deadline"));
        }
        let http = Http::new(&self.settings, &base, None)?;
        let (default, authorization) = match credentials.0 {
            CredentialKind::ApiKey(key) => (ApiVersion::V3, Authorization::ApiKey(key)),
            CredentialKind::Client { id, secret } => {
                let auth = auth.map_or_else(|| check(DEFAULT_AUTH_URL, AUTH_URL), Ok)?;
                let http = Http::new(&self.settings, &auth, Some(&http))?;
                let source = TokenSource::new(http, &auth, id, secret, self.token_file);
                (ApiVersion::V1, Authorization::Token(Box::new(source)))
            }
        };
        let shared = Shared {
            http,
            authorization,
            base_url: base,
            version: self.api_version.unwrap_or(default),
            retry: self.retry,
            rate_limit: Mutex::default(),
        };
        Ok(Client {
            shared: Arc::new(shared),
            deadline: self.deadline,
        })
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("credentials", &self.credentials)
            .field("api_version", &self.api_version)
            .field("timeout", &self.settings.timeout)
            .field("connect_timeout", &self.settings.connect_timeout)
            .field("deadline", &self.deadline)
            .field("retry", &self.retry)
            .field("allow_insecure_http", &self.allow_insecure_http)
            .finish_non_exhaustive()
    }
}
