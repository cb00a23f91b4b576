//! The client: one method per operation.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::auth::{Authorization, Credentials, Kind, TokenSource};
use crate::call::{Deadline, with_retries};
use crate::error::{Error, ErrorKind, Result, Verdict};
use crate::http::{Http, MAX_BODY, Request, Settings, base_url};
use crate::rate_limit::RateLimit;
use crate::retry::RetryPolicy;
use crate::secret::Secret;
use crate::session::{ApiVersion, Ensured, Session, SessionId, SessionStatus, StatusUpdate, UpdatedSession};
use crate::verdict::{self, Effect};

const AUTH_URL: &str = "auth_url (DIDIT_AUTH_URL)";

/// A whole session with all that was found out about the person: 4 MiB.
const MAX_SESSION: u64 = 4 * 1024 * 1024;

/// Sets the status of verification sessions, over plain blocking I/O.
///
/// Cheap to clone, and meant to be shared: clones and threads use the same connections and the same access token.
///
/// ```no_run
/// use didit::{Client, Credentials, StatusUpdate};
///
/// let client = Client::new(Credentials::client("my-client-id", "my-client-secret"))?;
/// let id = "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10".parse()?;
/// let updated = client.update_status(&id, &StatusUpdate::declined().comment("Duplicated user"))?;
/// println!("{} is declined", updated.session_id);
/// # Ok::<(), didit::Error>(())
/// ```
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    http: Http,
    authorization: Authorization,
    /// Where sessions are: `https://verification.didit.me/v1/session`.
    sessions: String,
    version: ApiVersion,
    retry: RetryPolicy,
    deadline: Option<Duration>,
    rate_limit: Mutex<Option<RateLimit>>,
}

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

    /// Sets the status of a session and returns what Didit confirmed (didit-api.md §3, §4).
    ///
    /// `Ok` means that Didit answered 200 and named this very session.
    ///
    /// # Errors
    /// Any [`ErrorKind`]; [`Error::verdict`] says whether the update may have been applied all the same. Failures that
    /// are safe to repeat have been repeated as the [`RetryPolicy`] allows: Approved and Declined after most failures,
    /// Resubmitted only where it was certainly not applied.
    pub fn update_status(&self, id: &SessionId, update: &StatusUpdate) -> Result<UpdatedSession> {
        let mut call = self.0.call();
        let result = update.to_body(self.0.version).and_then(|body| {
            with_retries(&self.0.retry, call.deadline, || {
                self.0.patch(id, update, &body, &mut call)
            })
        });
        result.map_err(|error| error.about(about_update(id, update)))
    }

    /// Reads the id and the status of a session back (didit-api.md §5). Nothing else of the answer, which is a
    /// person's identity documents, is kept or logged.
    ///
    /// # Errors
    /// As [`update_status`](Client::update_status), but always `NotApplied`: reading changes nothing.
    pub fn session(&self, id: &SessionId) -> Result<Session> {
        let mut call = self.0.call();
        self.0.read(id, &mut call)
    }

    /// Makes sure that a session has a status: reads it first and updates it only if it has another, so that no second
    /// review is written. An update whose outcome is unknown is settled by reading the session back.
    ///
    /// Costs one more request than [`update_status`](Client::update_status), and reads are limited to 100 a minute on
    /// v1 and v2 (didit-api.md §7).
    ///
    /// # Errors
    /// As [`update_status`](Client::update_status). `Unknown` is left only where the session could not be read back,
    /// or does not have the status yet although the update may still be on its way.
    pub fn ensure_status(&self, id: &SessionId, update: &StatusUpdate) -> Result<Ensured> {
        let mut call = self.0.call();
        let mut sent = false;
        let result = update.to_body(self.0.version).and_then(|body| {
            // Each attempt looks first: what an attempt before it left in doubt is settled by that.
            with_retries(&self.0.retry, call.deadline, || {
                if self.0.read(id, &mut call)?.status == update.new_status() {
                    return Ok(if sent { Ensured::Updated } else { Ensured::Already });
                }
                sent = true;
                self.0.patch(id, update, &body, &mut call)?;
                Ok(Ensured::Updated)
            })
        });
        let error = match result {
            Ok(ensured) => return Ok(ensured),
            Err(error) => error.about(about_update(id, update)),
        };
        let mut settled = || {
            self.0
                .read(id, &mut call)
                .is_ok_and(|session| session.status == update.new_status())
        };
        if error.verdict() == Verdict::Unknown && settled() {
            return Ok(Ensured::Updated);
        }
        Err(error)
    }

    /// Makes sure that there is a usable access token now, and so that Didit takes the credentials. With an API key
    /// there is nothing to do.
    ///
    /// # Errors
    /// `Authentication`, `Network`, `Timeout`, `Server` or `RateLimited`, always `NotApplied`.
    pub fn authenticate(&self) -> Result<()> {
        match &self.0.authorization {
            Authorization::ApiKey(_) => Ok(()),
            Authorization::Token(source) => {
                let call = self.0.call();
                source.token(&self.0.http, &self.0.retry, call.deadline).map(drop)
            }
        }
    }

    /// Whether an update is one that this client's API version can carry: what
    /// [`update_status`](Client::update_status) would refuse before sending. Sends nothing.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub fn check(&self, update: &StatusUpdate) -> Result<()> {
        update.to_body(self.0.version).map(drop)
    }

    /// The rate limit as the latest answer to this client and its clones told it, be it a success or a refusal; `None`
    /// while none has. For callers that send many updates and want to slow down before they are refused.
    #[must_use]
    pub fn rate_limit(&self) -> Option<RateLimit> {
        *self.0.rate_limit()
    }
}

fn about_update(id: &SessionId, update: &StatusUpdate) -> String {
    format!("setting session {id} to {}", update.new_status())
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("sessions", &self.0.sessions)
            .field("authorization", &self.0.authorization)
            .field("retry", &self.0.retry)
            .field("deadline", &self.0.deadline)
            .finish_non_exhaustive()
    }
}

/// What the attempts of one call share.
struct Call {
    deadline: Deadline,
    /// Whether a token was refused and replaced: that is tried once.
    replaced: bool,
}

#[derive(Deserialize)]
struct Decision {
    session_id: String,
    status: String,
}

impl Inner {
    fn rate_limit(&self) -> MutexGuard<'_, Option<RateLimit>> {
        self.rate_limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self) -> Call {
        Call {
            deadline: Deadline::after(self.deadline),
            replaced: false,
        }
    }

    fn patch(&self, id: &SessionId, update: &StatusUpdate, body: &[u8], call: &mut Call) -> Result<UpdatedSession> {
        let effect = match update.new_status().is_idempotent() {
            true => Effect::Idempotent,
            false => Effect::Once,
        };
        let url = [&self.sessions, "/", id.as_ref(), "/update-status/"].concat();
        let answer = self.exchange("PATCH", &url, Some(body), effect, call)?;
        // What is no JSON names no session either.
        let confirmation: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let text = |key: &str| confirmation[key].as_str().map(str::to_owned);
        match text("session_id") {
            Some(confirmed) if id.is(&confirmed) => Ok(UpdatedSession {
                session_id: id.clone(),
                session_token: text("session_token"),
                url: text("url"),
            }),
            Some(_) => Err(verdict::unconfirmed("for another session", effect)),
            None => Err(verdict::unconfirmed(
                "with something else than the documented JSON",
                effect,
            )),
        }
    }

    fn read(&self, id: &SessionId, call: &mut Call) -> Result<Session> {
        let url = [&self.sessions, "/", id.as_ref(), "/decision/"].concat();
        let result = with_retries(&self.retry, call.deadline, || {
            let answer = self.exchange("GET", &url, None, Effect::None, call)?;
            // What serde_json would say of a malformed answer may quote it.
            let decision: Decision = serde_json::from_slice(&answer)
                .map_err(|_| verdict::unconfirmed("with something else than the documented JSON", Effect::None))?;
            if !id.is(&decision.session_id) {
                return Err(verdict::unconfirmed("for another session", Effect::None));
            }
            Ok(Session {
                session_id: id.clone(),
                status: SessionStatus::from_wire(decision.status),
            })
        });
        result.map_err(|error| error.about(format!("reading session {id}")))
    }

    /// One authorized request, and the body of its answer if that is a 200. A refused token is replaced and the request
    /// repeated, once in a call.
    fn exchange(
        &self,
        method: &'static str,
        url: &str,
        body: Option<&[u8]>,
        effect: Effect,
        call: &mut Call,
    ) -> Result<Vec<u8>> {
        loop {
            let grant = self.authorization.grant(&self.http, &self.retry, call.deadline)?;
            let mut headers = vec![("accept", "application/json")];
            if body.is_some() {
                headers.push(("content-type", "application/json"));
            }
            headers.push(grant.header());
            let request = Request {
                method,
                url,
                headers: &headers,
                body,
                max_reply: if body.is_some() { MAX_BODY } else { MAX_SESSION },
            };
            let timeout = call.deadline.clip(self.http.timeout())?;
            let reply = self.http.send(&request, timeout);
            let reply = reply.map_err(|failure| verdict::of_failure(failure, effect))?;
            if let Some(seen) = RateLimit::read(&reply) {
                *self.rate_limit() = Some(seen);
            }
            if reply.status == 401 && !call.replaced && self.authorization.refuse(&grant) {
                call.replaced = true;
                continue;
            }
            if reply.status != 200 {
                let secrets = self.authorization.secrets(&grant);
                return Err(verdict::of_status(&reply, effect, &secrets));
            }
            return reply.body.map_err(|failure| match (failure.kind, effect) {
                (ErrorKind::Timeout, _) | (ErrorKind::Network, Effect::None) => verdict::of_failure(failure, effect),
                _ => verdict::unconfirmed("the answer is cut short or too large", effect),
            });
        }
    }
}

/// Configures a [`Client`]. What cannot work is refused by [`build`](ClientBuilder::build), not here.
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

    /// Where sessions are. Default `https://verification.didit.me`. It may carry a path prefix; a trailing slash makes
    /// no difference.
    pub fn base_url(mut self, url: impl Into<String>) -> ClientBuilder {
        self.base_url = url.into();
        self
    }

    /// Where tokens are fetched. Default `https://apx.didit.me`; another host than the sessions' (didit-api.md §1).
    pub fn auth_url(mut self, url: impl Into<String>) -> ClientBuilder {
        self.auth_url = Some(url.into());
        self
    }

    /// The longest that one attempt may take, from looking up the host to the end of the answer. Default 30 s.
    pub fn timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.settings.timeout = timeout;
        self
    }

    /// The longest that connecting may take, TLS included, and looking up the host as well. Default 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> ClientBuilder {
        self.settings.connect_timeout = timeout;
        self
    }

    /// The longest that one call may take with all its attempts, waits and token fetches. Default: none.
    ///
    /// No wait is begun that would outlast it.
    pub fn deadline(mut self, deadline: Duration) -> ClientBuilder {
        self.deadline = Some(deadline);
        self
    }

    /// How failures that are safe to repeat are repeated. Default: [`RetryPolicy::default`].
    pub fn retry(mut self, policy: RetryPolicy) -> ClientBuilder {
        self.retry = policy;
        self
    }

    /// An HTTP proxy, `http://user:password@host:port`, for both hosts. Default: what `ALL_PROXY`, `HTTPS_PROXY`,
    /// `HTTP_PROXY` and `NO_PROXY` say. An empty one means none, whatever they say.
    pub fn proxy(mut self, url: impl Into<String>) -> ClientBuilder {
        self.settings.proxy = Some(Secret::new(url));
        self
    }

    /// The certificates to trust, PEM, one or many, in place of the usual ones: for a private CA.
    pub fn root_certificates(mut self, pem: impl AsRef<[u8]>) -> ClientBuilder {
        self.settings.root_certificates = Some(pem.as_ref().to_vec());
        self
    }

    /// A file that keeps the access token for the next process, so that a script that runs often authenticates once.
    ///
    /// It is made readable by its owner alone and replaced as a whole. One that is unreadable, corrupt, another
    /// user's, readable by others, expired, or for other credentials is as if there were none. What is no regular file,
    /// such as a link, is left alone. That the file cannot be written is logged, and no error.
    pub fn token_file(mut self, path: impl AsRef<Path>) -> ClientBuilder {
        self.token_file = Some(path.as_ref().to_owned());
        self
    }

    /// Whether `http://` is accepted for other hosts than loopback ones. Default: no. Credentials and decisions then
    /// cross the network in the clear.
    pub fn allow_insecure_http(mut self, allow: bool) -> ClientBuilder {
        self.allow_insecure_http = allow;
        self
    }

    /// The `User-Agent` header. Default `didit-rust/` and this crate's version.
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
        let check = |url: &str, name| base_url(url, self.allow_insecure_http).map_err(|error| error.within(name));
        let base = check(&self.base_url, "base_url (DIDIT_BASE_URL)")?;
        // A wrong one is a mistake even where an API key leaves it unused.
        let auth = self.auth_url.as_deref().map(|url| check(url, AUTH_URL)).transpose()?;
        if self.deadline.is_some_and(|deadline| deadline.is_zero()) {
            return Err(Error::config("it has to be longer than nothing").within("deadline"));
        }
        let http = Http::new(&self.settings)?;
        let (default, authorization) = match self.credentials.0 {
            Kind::ApiKey(key) => (ApiVersion::V3, Authorization::ApiKey(key)),
            Kind::Client { id, secret } => {
                let auth = auth.map_or_else(|| check("https://apx.didit.me", AUTH_URL), Ok)?;
                let source = TokenSource::new(&auth, id, secret, self.token_file);
                (ApiVersion::V1, Authorization::Token(Box::new(source)))
            }
        };
        let version = self.api_version.unwrap_or(default);
        Ok(Client(Arc::new(Inner {
            http,
            authorization,
            sessions: format!("{base}/{}/session", version.as_str()),
            version,
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
