//! The client's configuration, checked when the client is built.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::client::{Client, Shared};
use crate::credentials::{Authorization, CredentialKind, Credentials};
use crate::error::{Error, Result};
use crate::http::{Http, Settings, base_url};
use crate::retry::RetryPolicy;
use crate::secret::Secret;
use crate::token::source::TokenSource;
use crate::update::ApiVersion;

const AUTH_URL: &str = "auth_url (DIDIT_AUTH_URL)";

impl Client {
    /// A client with the defaults of [`ClientBuilder`]. Nothing is sent yet.
    ///
    /// # Errors
    /// `Config` for credentials that cannot be right, such as empty ones.
    pub fn new(credentials: Credentials) -> Result<Client> {
        Client::builder(credentials).build()
    }

    /// A client to be configured.
    pub fn builder(credentials: Credentials) -> ClientBuilder {
        ClientBuilder {
            credentials,
            api_version: None,
            base_url: "https://verification.didit.me".into(),
            auth_url: None,
            settings: Settings {
                timeout: Duration::from_secs(30),
                connect_timeout: Duration::from_secs(10),
                proxy: None,
                root_certificates: None,
                user_agent: concat!("didit-rust/", env!("CARGO_PKG_VERSION")).into(),
            },
            deadline: None,
            retry: RetryPolicy::default(),
            token_file: None,
            allow_insecure_http: false,
        }
    }
}

/// Configures a [`Client`]. [`build`](ClientBuilder::build) checks it.
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
    credentials: Credentials,
    api_version: Option<ApiVersion>,
    base_url: String,
    auth_url: Option<String>,
    settings: Settings,
    deadline: Option<Duration>,
    retry: RetryPolicy,
    token_file: Option<PathBuf>,
    allow_insecure_http: bool,
}

impl ClientBuilder {
    /// Which API is called. Default: v1 for client credentials, v3 for an API key.
    pub fn api_version(mut self, version: ApiVersion) -> ClientBuilder {
        self.api_version = Some(version);
        self
    }

    /// Where sessions are. Default `https://verification.didit.me`. It may carry a path prefix, but not one that ends in
    /// `v1`, `v2` or `v3`: the client appends the version. A trailing slash makes no difference. At most 8 KiB.
    pub fn base_url(mut self, url: impl Into<String>) -> ClientBuilder {
        self.base_url = url.into();
        self
    }

    /// Where tokens are fetched. Default `https://apx.didit.me`; another host than the sessions'
    /// ([Didit's API, §1](crate::didit_api#1-two-hosts)).
    pub fn auth_url(mut self, url: impl Into<String>) -> ClientBuilder {
        self.auth_url = Some(url.into());
        self
    }

    /// The longest that one attempt may take, from looking up the host to the end of the answer. Default 30 s.
    ///
    /// An update is sent only while a fifth of this is left. The system rounds the time that a read may wait up, so that
    /// an attempt may last a few percent longer.
    pub fn timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.settings.timeout = timeout;
        self
    }

    /// The longest that looking up the host may take, and the longest that connecting may take after that, a proxy's
    /// tunnel and TLS included. Default 10 s, and never more than four fifths of [`timeout`](ClientBuilder::timeout).
    ///
    /// A host with several addresses is tried at each for 250 ms, IPv6 and IPv4 in turn, and then for longer. The address
    /// that connected is tried first from then on. Addresses are remembered for a minute. While they cannot be looked up
    /// again, the old ones serve for up to an hour.
    pub fn connect_timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.settings.connect_timeout = timeout;
        self
    }

    /// The longest that one call may take with all its attempts, waits and token fetches. Default: none, which means up
    /// to 3.5 minutes with an API key and 11 with client credentials.
    ///
    /// Set one when someone is waiting for the answer. An update is sent, or sent again, only while a fifth of the
    /// deadline is left once the connection is made, or one [`timeout`](ClientBuilder::timeout) if that is less: an
    /// update that is cut off leaves it unknown whether it was applied.
    pub fn deadline(mut self, deadline: Duration) -> ClientBuilder {
        self.deadline = Some(deadline);
        self
    }

    /// How failures that are safe to repeat are repeated. Default: [`RetryPolicy::default`], with 2 retries. A program
    /// that repeats on its own, such as a worker over a queue, sets [`RetryPolicy::none`].
    pub fn retry(mut self, policy: RetryPolicy) -> ClientBuilder {
        self.retry = policy;
        self
    }

    /// An HTTP proxy, `http://user:password@host:port`, for both hosts. An empty one means none, whatever the
    /// environment says.
    ///
    /// By default the environment is read as curl reads it, once for each host when the client is built: `https_proxy`
    /// for `https` URLs, `http_proxy` for `http` ones, else `all_proxy`. Each may be in upper case, but the lower case
    /// comes first. In a CGI program, where `REQUEST_METHOD` is set, `HTTP_PROXY` is ignored, and on Windows, where names
    /// have no case, so is `http_proxy`. `no_proxy` lists what is reached directly: domains with all under them, addresses
    /// and networks (`10.0.0.0/8`), with a port if need be, separated by commas or spaces, or `*` for everything. Loopback
    /// hosts are reached directly, too, unless the proxy is named here.
    ///
    /// A proxy that would be used and cannot be, such as a SOCKS one, is a `Config` error. All requests go through a
    /// tunnel that the proxy opens by CONNECT, those to `http` URLs included. `https://` proxies need a TLS feature.
    pub fn proxy(mut self, url: impl Into<String>) -> ClientBuilder {
        self.settings.proxy = Some(Secret::new(url));
        self
    }

    /// The certificates to trust, PEM, one or many, in place of the usual ones: for a private CA.
    ///
    /// Private keys, parameters and revocation lists beside them are skipped. A file without a certificate, one in another
    /// format, such as DER or PKCS #7, and a damaged certificate among others are `Config` errors.
    pub fn root_certificates(mut self, pem: impl AsRef<[u8]>) -> ClientBuilder {
        self.settings.root_certificates = Some(pem.as_ref().to_vec());
        self
    }

    /// A file that keeps the access token for the next process, so that a script that runs often authenticates once.
    ///
    /// It is replaced atomically. One that is unreadable, corrupt, expired, or for other credentials is ignored. Anything
    /// but a regular file, such as a link, is left alone. A file that cannot be written, such as one that is mounted into a
    /// container by itself, is not an error: it is logged once at warn, under the target `didit::token_file`. Mount its
    /// directory instead.
    ///
    /// On Unix it is readable by its owner alone, and one that belongs to another user or that others can read is ignored.
    /// On Windows it has the permissions that its folder passes on, and they are not checked: choose a folder that only
    /// this user can read, such as one under `%LOCALAPPDATA%`.
    pub fn token_file(mut self, path: impl AsRef<Path>) -> ClientBuilder {
        self.token_file = Some(path.as_ref().to_owned());
        self
    }

    /// Whether `http://` is accepted for hosts other than loopback ones. Default: no. Credentials and decisions then
    /// cross the network in the clear.
    pub fn allow_insecure_http(mut self, allow: bool) -> ClientBuilder {
        self.allow_insecure_http = allow;
        self
    }

    /// The `User-Agent` header, visible ASCII and spaces, at most 1 KiB. Default `didit-rust/` and this crate's version.
    pub fn user_agent(mut self, name: impl Into<String>) -> ClientBuilder {
        self.settings.user_agent = name.into();
        self
    }

    /// The client, checked. Nothing is sent yet.
    ///
    /// # Errors
    /// `Config`, naming the option and the environment variable that set it, never a value.
    pub fn build(self) -> Result<Client> {
        self.credentials.check()?;
        let check = |url: &str, name| base_url(url, self.allow_insecure_http).map_err(|error| error.for_setting(name));
        let base = check(&self.base_url, "base_url (DIDIT_BASE_URL)")?;
        // A wrong one is a mistake even where an API key leaves it unused.
        let auth = self.auth_url.as_deref().map(|url| check(url, AUTH_URL)).transpose()?;
        if self.deadline.is_some_and(|deadline| deadline.is_zero()) {
            return Err(Error::config("it must be longer than 0 s").for_setting("deadline"));
        }
        let http = Http::new(&self.settings, &base, None)?;
        let (default, authorization) = match self.credentials.0 {
            CredentialKind::ApiKey(key) => (ApiVersion::V3, Authorization::ApiKey(key)),
            CredentialKind::Client { id, secret } => {
                let auth = auth.map_or_else(|| check("https://apx.didit.me", AUTH_URL), Ok)?;
                let http = Http::new(&self.settings, &auth, Some(&http))?;
                let source = TokenSource::new(http, self.retry.clone(), &auth, id, secret, self.token_file);
                (ApiVersion::V1, Authorization::Token(Box::new(source)))
            }
        };
        Ok(Client(Arc::new(Shared {
            http,
            authorization,
            base_url: base,
            version: self.api_version.unwrap_or(default),
            retry: self.retry,
            deadline: self.deadline,
            rate_limit: Mutex::default(),
        })))
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
