//! The client, with one method per operation.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::call::{Call, Deadline, with_retries};
use crate::credentials::Authorization;
use crate::error::{Error, Result, Verdict};
use crate::http::{Http, MAX_BODY, Method, Request, Response, host};
use crate::rate_limit::RateLimit;
use crate::retry::RetryPolicy;
use crate::session::{Ensured, Session, SessionId, SessionStatus, UpdatedSession};
use crate::session_fields::SessionFields;
use crate::update::{ApiVersion, StatusUpdate};
use crate::verdict::{self, Operation};

/// The largest session that is read: 4 MiB. A session includes the personal data of a person.
const MAX_SESSION: u64 = 4 * 1024 * 1024;

/// Sets and reads the status of verification sessions, with blocking I/O.
///
/// A `Client` is cheap to clone and safe to share: clones and threads share its connections and its access token.
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
pub struct Client(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) http: Http,
    pub(crate) authorization: Authorization,
    /// Has no trailing slash.
    pub(crate) base_url: String,
    pub(crate) version: ApiVersion,
    pub(crate) retry: RetryPolicy,
    pub(crate) deadline: Option<Duration>,
    pub(crate) rate_limit: Mutex<Option<RateLimit>>,
}

impl Client {
    /// Sets the status of a session and returns Didit's confirmation ([Didit's API, §3](crate::didit_api#3-update-v1),
    /// [§4](crate::didit_api#4-update-v2-and-v3)).
    ///
    /// `Ok` means that Didit answered 200 and confirmed this session.
    ///
    /// # Errors
    /// Any [`ErrorKind`](crate::ErrorKind). [`Error::verdict`] tells whether the update may have been applied
    /// nonetheless. The client has already retried as far as the [`RetryPolicy`] and the
    /// [deadline](crate::ClientBuilder::deadline) allow: Approved and Declined after most failures, Resubmitted only if
    /// it was certainly not applied.
    ///
    /// ```no_run
    /// use didit::{Client, Credentials, StatusUpdate, Verdict};
    ///
    /// let client = Client::new(Credentials::api_key("my-api-key"))?;
    /// let id = "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10".parse()?;
    /// match client.update_status(&id, &StatusUpdate::approved()) {
    ///     Ok(updated) => println!("{} is approved", updated.session_id),
    ///     Err(error) if error.verdict() == Verdict::NotApplied => eprintln!("not approved: {error}"),
    ///     Err(error) => eprintln!("perhaps approved: {error}"),
    /// }
    /// # Ok::<(), didit::Error>(())
    /// ```
    pub fn update_status(&self, id: &SessionId, update: &StatusUpdate) -> Result<UpdatedSession> {
        let mut call = self.0.call();
        with_retries(&self.0.retry, call.deadline, &|| update_subject(id, update), || {
            let body = update.to_body(self.0.version)?;
            self.0.update(id, update, &body, &mut call)
        })
    }

    /// Reads the status of a session ([Didit's API, §5](crate::didit_api#5-reading-a-session)).
    ///
    /// The rest of the answer is personal data. The client neither keeps nor logs it.
    ///
    /// # Errors
    /// The same as for [`update_status`](Client::update_status), but always [`Verdict::NotApplied`]: a read changes
    /// nothing.
    ///
    /// ```no_run
    /// use didit::{Client, SessionStatus};
    ///
    /// let client = Client::from_env()?;
    /// let session = client.session(&"4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10".parse()?)?;
    /// match session.status {
    ///     SessionStatus::Approved => println!("approved"),
    ///     SessionStatus::InReview => println!("waiting for a decision"),
    ///     other => println!("{other}"),
    /// }
    /// # Ok::<(), didit::Error>(())
    /// ```
    pub fn session(&self, id: &SessionId) -> Result<Session> {
        self.0.read(id, None, &mut self.0.call())
    }

    /// Makes sure that a session has a status: reads the session, and updates it only if its status differs. If an
    /// update is in doubt, the client reads the session back.
    ///
    /// This takes one more request than [`update_status`](Client::update_status). On v1 and v2, Didit allows 100 reads
    /// a minute ([Didit's API, §7](crate::didit_api#7-rate-limits)).
    ///
    /// [`Ensured::Already`] means that the session had the status before this call, and that nothing of `update` was
    /// sent: no comment, email or nodes. [`Ensured::Updated`] means that Didit confirmed the update, or that the client
    /// read the status back after an attempt in doubt.
    ///
    /// # Errors
    /// The same as for [`update_status`](Client::update_status). The verdict is `Unknown` only if an attempt is in
    /// doubt and reading the session back failed or showed another status.
    ///
    /// ```no_run
    /// use didit::{Client, Ensured, StatusUpdate};
    ///
    /// let client = Client::from_env()?;
    /// let id = "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10".parse()?;
    /// match client.ensure_status(&id, &StatusUpdate::declined().comment("Duplicated user"))? {
    ///     Ensured::Already => println!("{id} was declined before; the comment was not written"),
    ///     _ => println!("{id} is declined now, with the comment"),
    /// }
    /// # Ok::<(), didit::Error>(())
    /// ```
    pub fn ensure_status(&self, id: &SessionId, update: &StatusUpdate) -> Result<Ensured> {
        self.0.ensure(id, update, &|_| true)
    }

    /// Does the same as [`ensure_status`](Client::ensure_status), but replaces the status of a session only if
    /// `may_replace` returns true for it.
    ///
    /// Use it in a worker after a crash: the update may have been sent, and a reviewer may have decided since. Each
    /// attempt reads the session before it sends the update. If the session has another status than the wanted one,
    /// `may_replace` decides. [`Ensured::LeftAlone`] returns the status that `may_replace` rejected; nothing was
    /// changed.
    ///
    /// # Errors
    /// The same as for [`ensure_status`](Client::ensure_status). The verdict is also `Unknown` if `may_replace` rejects
    /// a status after an attempt of this call may have been applied: Didit may still apply that attempt.
    ///
    /// ```no_run
    /// use didit::{Client, Ensured, StatusUpdate};
    ///
    /// let client = Client::from_env()?;
    /// let id = "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10".parse()?;
    /// match client.ensure_status_if(&id, &StatusUpdate::approved(), |status| !status.is_decided())? {
    ///     Ensured::LeftAlone(status) => println!("{id} was left alone: it is already {status}"),
    ///     _ => println!("{id} is approved"),
    /// }
    /// # Ok::<(), didit::Error>(())
    /// ```
    pub fn ensure_status_if(
        &self,
        id: &SessionId,
        update: &StatusUpdate,
        may_replace: impl Fn(&SessionStatus) -> bool,
    ) -> Result<Ensured> {
        self.0.ensure(id, update, &may_replace)
    }

    /// Checks that Didit accepts the credentials and that the URLs lead to Didit. Changes nothing.
    ///
    /// With client credentials, the client first fetches a new access token, even if a token is cached, and caches it.
    /// Then it reads a session that does not exist. The check succeeds only if the answer is JSON from Didit ([Didit's
    /// API, §6](crate::didit_api#6-errors)), so a wrong base URL is reported.
    ///
    /// # Errors
    /// `Authentication` if Didit refuses the credentials, the access token or the API key. Any other kind if there was
    /// no answer or it did not come from Didit. Always [`Verdict::NotApplied`].
    ///
    /// ```no_run
    /// use didit::{Client, ErrorKind};
    ///
    /// let client = Client::from_env()?;
    /// match client.authenticate() {
    ///     Ok(()) => println!("Didit accepts the credentials"),
    ///     Err(error) if error.kind() == ErrorKind::Authentication => eprintln!("refused: {error}"),
    ///     Err(error) => eprintln!("could not check the credentials: {error}"),
    /// }
    /// # Ok::<(), didit::Error>(())
    /// ```
    pub fn authenticate(&self) -> Result<()> {
        let mut call = self.0.call();
        if let Authorization::Token(source) = &self.0.authorization {
            source.refresh(call.deadline)?;
        }
        let missing_id = SessionId::try_from("00000000-0000-0000-0000-000000000000")?;
        match self.0.read(&missing_id, Some("checking the credentials"), &mut call) {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.status(), Some(400 | 403 | 404)) && error.message().is_some() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Checks an update as [`update_status`](Client::update_status) does before it sends anything: whether it is
    /// complete, and whether the API version of this client supports it. Sends nothing.
    ///
    /// # Errors
    /// `InvalidInput`, verdict `NotApplied`.
    ///
    /// ```
    /// use didit::{ApiVersion, Client, Credentials, Node, StatusUpdate};
    ///
    /// let update = StatusUpdate::resubmitted([Node::new("feature_ocr_1", "OCR")]);
    /// let builder = Client::builder(Credentials::api_key("my-api-key")).base_url("http://localhost");
    /// assert!(builder.clone().build()?.check(&update).is_ok());
    /// assert!(builder.api_version(ApiVersion::V1).build()?.check(&update).is_err());
    /// # Ok::<(), didit::Error>(())
    /// ```
    pub fn check(&self, update: &StatusUpdate) -> Result<()> {
        update.to_body(self.0.version).map(drop)
    }

    /// Returns the rate limit from the latest answer of the session host, or `None` if no answer had one yet.
    ///
    /// Clones share it. Errors from Didit update it as well. A program that sends many updates can use it to slow down
    /// before Didit refuses requests.
    ///
    /// ```no_run
    /// use didit::Client;
    ///
    /// fn slow_down(client: &Client) {
    ///     let Some(limit) = client.rate_limit() else { return };
    ///     // Didit advises clients to slow down once less than 15 % of the limit remains.
    ///     if limit.remaining.saturating_mul(100) < limit.limit.saturating_mul(15) {
    ///         std::thread::sleep(limit.reset_after.unwrap_or_default());
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn rate_limit(&self) -> Option<RateLimit> {
        *self.0.rate_limit()
    }

    /// Returns the URL of the session host, without a trailing slash.
    ///
    /// ```
    /// use didit::{ApiVersion, Client, Credentials};
    ///
    /// let builder = Client::builder(Credentials::client("my-client-id", "my-client-secret"));
    /// let sandbox = "http://localhost:8080/";
    /// let client = builder.base_url(sandbox).auth_url(sandbox).build()?;
    /// assert_eq!(client.base_url(), "http://localhost:8080");
    /// assert_eq!(client.api_version(), ApiVersion::V1);
    /// assert_eq!(client.client_id(), Some("my-client-id"));
    /// # Ok::<(), didit::Error>(())
    /// ```
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.0.base_url
    }

    /// Returns the version of Didit's API: the configured one, or the default for the credentials.
    #[must_use]
    pub fn api_version(&self) -> ApiVersion {
        self.0.version
    }

    /// Returns the client id, or `None` if the credentials are an API key.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        match &self.0.authorization {
            Authorization::ApiKey(_) => None,
            Authorization::Token(source) => Some(source.client_id()),
        }
    }

    /// Returns a hash of the API key or the client id, to recognize the credentials of an earlier run. It is the same
    /// in every version of this crate.
    ///
    /// Different hashes mean different credentials; equal hashes almost always mean equal ones. The hash is safe to
    /// store: 32 bits are too few to reveal a key.
    #[must_use]
    pub fn credentials_fingerprint(&self) -> u32 {
        self.0.authorization.fingerprint()
    }
}

fn update_subject(id: &SessionId, update: &StatusUpdate) -> String {
    format!("setting session {id} to {}", update.new_status())
}

/// Returns a status for the text of an error. Hides an unknown status, since the server may have put a secret in it.
fn describe(status: &SessionStatus) -> &str {
    match status {
        SessionStatus::Other(_) => "in another status",
        known => known.as_str(),
    }
}

// A panic cannot leave a client in an invalid state: all of its state is behind locks that recover.
impl UnwindSafe for Client {}
impl RefUnwindSafe for Client {}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base_url", &self.0.base_url)
            .field("api_version", &self.0.version)
            .field("authorization", &self.0.authorization)
            .field("retry", &self.0.retry)
            .field("deadline", &self.0.deadline)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn rate_limit(&self) -> MutexGuard<'_, Option<RateLimit>> {
        self.rate_limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self) -> Call {
        Call {
            deadline: Deadline::after(self.deadline, self.http.timeout),
            token_replaced: false,
        }
    }

    fn ensure(
        &self,
        id: &SessionId,
        update: &StatusUpdate,
        may_replace: &dyn Fn(&SessionStatus) -> bool,
    ) -> Result<Ensured> {
        let mut call = self.call();
        // The kind of failure of the first attempt that may have been applied.
        let mut unknown_attempt = None;
        let result = with_retries(&self.retry, call.deadline, &|| update_subject(id, update), || {
            // An update that cannot be sent is rejected before the session is read.
            let body = update.to_body(self.version)?;
            match (self.read(id, None, &mut call)?.status, unknown_attempt) {
                (status, None) if status == update.new_status() => return Ok(Ensured::Already),
                (status, Some(_)) if status == update.new_status() => return Ok(Ensured::Updated),
                (status, _) if may_replace(&status) => {}
                (status, None) => return Ok(Ensured::LeftAlone(status)),
                (status, Some(kind)) => {
                    let now = describe(&status);
                    let problem = format!("the session is already {now}, and this call does not replace that");
                    let error = Error::new(kind, Verdict::NotApplied, problem);
                    return Err(error.with(|error| error.retryable = false));
                }
            }
            let updated = self.update(id, update, &body, &mut call);
            let updated = updated.inspect_err(|error| {
                if error.verdict() == Verdict::Unknown {
                    unknown_attempt.get_or_insert(error.kind());
                }
            });
            updated.map(|_| Ensured::Updated)
        });
        let is_unknown = matches!(&result, Err(error) if error.verdict() == Verdict::Unknown);
        let is_wanted = |session: Session| session.status == update.new_status();
        if is_unknown && self.read(id, None, &mut call).is_ok_and(is_wanted) {
            return Ok(Ensured::Updated);
        }
        result
    }

    fn update(&self, id: &SessionId, update: &StatusUpdate, body: &[u8], call: &mut Call) -> Result<UpdatedSession> {
        let operation = Operation::UpdateStatus {
            idempotent: update.new_status().is_idempotent(),
        };
        let fields = self.exchange(id, operation, Some(body), call)?;
        let wanted = update.new_status().as_str();
        if let Some(other) = fields.status.filter(|status| !status.eq_ignore_ascii_case(wanted)) {
            let other = SessionStatus::from(other);
            let problem = format!("Didit answered 200, but says that the session is {}", describe(&other));
            return Err(verdict::unconfirmed(&problem, operation));
        }
        Ok(UpdatedSession {
            session_token: fields.session_token,
            url: fields.url,
            ..UpdatedSession::new(id.clone())
        })
    }

    /// Reads a session. Errors name the purpose instead of the session, if there is one.
    fn read(&self, id: &SessionId, purpose: Option<&str>, call: &mut Call) -> Result<Session> {
        let subject = || purpose.map_or_else(|| format!("reading session {id}"), str::to_owned);
        with_retries(&self.retry, call.deadline, &subject, || {
            let operation = Operation::ReadSession;
            let fields = self.exchange(id, operation, None, call)?;
            let unnamed = || verdict::unconfirmed("Didit answered 200, but without a status", operation);
            Ok(Session::new(id.clone(), fields.status.ok_or_else(unnamed)?))
        })
    }

    /// Sends an authorized request about a session, which is an update if it has a body. Returns the fields of the
    /// answer.
    fn exchange(
        &self,
        id: &SessionId,
        operation: Operation,
        body: Option<&[u8]>,
        call: &mut Call,
    ) -> Result<SessionFields> {
        let (method, action, max_response) = match body {
            Some(_) => (Method::PATCH, "/update-status/", MAX_BODY),
            None => (Method::GET, "/decision/", MAX_SESSION),
        };
        let version = self.version.as_str();
        let url = [&self.base_url, "/", version, "/session/", id.as_str(), action].concat();
        let deadline = call.deadline;
        let response = self.authorization.authorize(call, |credential, secrets| {
            let headers = [
                ("accept", "application/json"),
                credential,
                ("content-type", "application/json"),
            ];
            let request = Request {
                method: method.clone(),
                url: &url,
                headers: if body.is_some() { &headers } else { &headers[..2] },
                body,
                max_response,
            };
            let save_rate_limit = |response: &Response| {
                if let Some(latest) = RateLimit::read(response) {
                    *self.rate_limit() = Some(latest);
                }
            };
            verdict::send(&self.http, &request, operation, deadline, secrets, save_rate_limit)
        });
        let (response, body) = response?;
        let fields = SessionFields::parse(&body).unwrap_or_default();
        match &fields.session_id {
            Some(named) if id.is(named) => Ok(fields),
            Some(_) => Err(verdict::unconfirmed(
                "Didit answered 200, but for another session",
                operation,
            )),
            None => Err(verdict::not_a_session(host(&url), &response, &body, operation)),
        }
    }
}
