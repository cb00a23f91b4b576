//! The client: one method per operation.

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
pub struct Client(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) http: Http,
    pub(crate) authorization: Authorization,
    /// Without a trailing slash.
    pub(crate) base_url: String,
    pub(crate) version: ApiVersion,
    pub(crate) retry: RetryPolicy,
    pub(crate) deadline: Option<Duration>,
    pub(crate) rate_limit: Mutex<Option<RateLimit>>,
}

impl Client {
    /// Sets the status of a session and returns what Didit confirmed ([Didit's API, §3](crate::didit_api#3-update-v1),
    /// [§4](crate::didit_api#4-update-v2-and-v3)).
    ///
    /// `Ok` means that Didit answered 200 and named this very session.
    ///
    /// # Errors
    /// Any [`ErrorKind`](crate::ErrorKind). [`Error::verdict`] says whether the update may have been applied all the same. Failures that
    /// are safe to repeat have been repeated as the [`RetryPolicy`] and the
    /// [deadline](crate::ClientBuilder::deadline) allow: Approved and Declined after most failures, Resubmitted only
    /// where it was certainly not applied.
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

    /// Reads the id and the status of a session back ([Didit's API, §5](crate::didit_api#5-reading-a-session)). Nothing
    /// else of the answer, which is a person's identity documents, is kept or logged.
    ///
    /// # Errors
    /// As [`update_status`](Client::update_status), but always [`Verdict::NotApplied`]: reading changes nothing.
    ///
    /// ```no_run
    /// use didit::{Client, SessionStatus};
    ///
    /// let client = Client::from_env()?;
    /// let session = client.session(&"4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10".parse()?)?;
    /// match session.status {
    ///     SessionStatus::Approved => println!("approved"),
    ///     SessionStatus::InReview => println!("somebody has to decide"),
    ///     other => println!("{other}"),
    /// }
    /// # Ok::<(), didit::Error>(())
    /// ```
    pub fn session(&self, id: &SessionId) -> Result<Session> {
        self.0.read(id, &mut self.0.call())
    }

    /// Makes sure that a session has a status: reads it first and updates it only if it has another, so that no second
    /// review is written. An update whose outcome is unknown is settled by reading the session back.
    ///
    /// Costs one more request than [`update_status`](Client::update_status), and reads are limited to 100 a minute on
    /// v1 and v2 ([Didit's API, §7](crate::didit_api#7-rate-limits)).
    ///
    /// [`Ensured::Already`] means that the session had the status without this call's doing: the comment of `update`
    /// was not written. [`Ensured::Updated`] means that this call set it: Didit confirmed that, or an attempt of this
    /// call may have been applied and the session has the status now.
    ///
    /// # Errors
    /// As [`update_status`](Client::update_status). `Unknown` is left only where the session could not be read back,
    /// or does not have the status yet although the update may still be on its way.
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

    /// Does the same as [`ensure_status`](Client::ensure_status), but replaces a status only if `may_replace` accepts it,
    /// such as one that nobody has decided on: for a worker that does not know, after a crash, whether it sent the update,
    /// and must not overwrite what a reviewer decided meanwhile.
    ///
    /// `may_replace` is asked about the status that each attempt reads before it sends the update, unless that is the wanted
    /// one. [`Ensured::LeftAlone`] names the status that it rejected; nothing was changed.
    ///
    /// # Errors
    /// As [`ensure_status`](Client::ensure_status). Also `Unknown` if `may_replace` rejects a status after an attempt of this
    /// call may have been applied: that attempt may still be on its way.
    ///
    /// ```no_run
    /// use didit::{Client, Ensured, StatusUpdate};
    ///
    /// let client = Client::from_env()?;
    /// let id = "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10".parse()?;
    /// match client.ensure_status_if(&id, &StatusUpdate::approved(), |status| !status.is_decided())? {
    ///     Ensured::LeftAlone(status) => println!("{id} was not approved: somebody decided that it is {status}"),
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
    /// With client credentials it fetches a new access token, whatever token is kept, and keeps that one. Then, with
    /// either kind of credentials, it reads a session that cannot exist: only an answer in Didit's own JSON counts
    /// ([Didit's API, §6](crate::didit_api#6-errors)), so that a wrong base URL shows.
    ///
    /// # Errors
    /// `Authentication` for credentials, a token or an API key that is refused; any other kind if there was no answer,
    /// or not Didit's. Always [`Verdict::NotApplied`].
    ///
    /// ```no_run
    /// use didit::{Client, ErrorKind};
    ///
    /// let client = Client::from_env()?;
    /// match client.authenticate() {
    ///     Ok(()) => println!("Didit accepts the credentials"),
    ///     Err(error) if error.kind() == ErrorKind::Authentication => eprintln!("check the credentials: {error}"),
    ///     Err(error) => eprintln!("not known yet: {error}"),
    /// }
    /// # Ok::<(), didit::Error>(())
    /// ```
    pub fn authenticate(&self) -> Result<()> {
        let mut call = self.0.call();
        if let Authorization::Token(source) = &self.0.authorization {
            source.refresh(call.deadline)?;
        }
        let missing_id = SessionId::try_from("00000000-0000-0000-0000-000000000000")?;
        match self.0.read(&missing_id, &mut call) {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.status(), Some(400 | 403 | 404)) && error.message().is_some() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Checks whether an update is one that this client's API version can carry: what
    /// [`update_status`](Client::update_status) would refuse before it sends anything. Sends nothing.
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

    /// The rate limit in the latest answer to this client or one of its clones, whether that was a success or not.
    /// `None` until an answer has one. For callers that send many updates and want to slow down before they are
    /// refused.
    ///
    /// ```no_run
    /// use didit::Client;
    ///
    /// fn slow_down(client: &Client) {
    ///     let Some(limit) = client.rate_limit() else { return };
    ///     // Didit advises to, once less than 15 % of the limit remains.
    ///     if limit.remaining.saturating_mul(100) < limit.limit.saturating_mul(15) {
    ///         std::thread::sleep(limit.reset_after.unwrap_or_default());
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn rate_limit(&self) -> Option<RateLimit> {
        *self.0.rate_limit()
    }

    /// Returns the base URL of the sessions, without a trailing slash.
    ///
    /// ```
    /// use didit::{ApiVersion, Client, Credentials};
    ///
    /// let builder = Client::builder(Credentials::client("my-client-id", "my-client-secret"));
    /// let client = builder.base_url("http://localhost:8080/").build()?;
    /// assert_eq!(client.base_url(), "http://localhost:8080");
    /// assert_eq!(client.api_version(), ApiVersion::V1);
    /// assert_eq!(client.client_id(), Some("my-client-id"));
    /// # Ok::<(), didit::Error>(())
    /// ```
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.0.base_url
    }

    /// Returns the version of the API that is called: the one that was set, or the default for the credentials.
    #[must_use]
    pub fn api_version(&self) -> ApiVersion {
        self.0.version
    }

    /// Returns the client id of the credentials, or `None` if they are an API key.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        match &self.0.authorization {
            Authorization::ApiKey(_) => None,
            Authorization::Token(source) => Some(source.client_id()),
        }
    }

    /// Returns a number by which to tell whether two clients have the same credentials, such as those of an earlier run:
    /// a hash of the API key or of the client id, the same in every version of this crate.
    ///
    /// It can be stored: its 32 bits are far too few to reveal anything of a key, but also too few to rule out that two
    /// keys share it.
    #[must_use]
    pub fn credentials_fingerprint(&self) -> u32 {
        self.0.authorization.fingerprint()
    }
}

fn update_subject(id: &SessionId, update: &StatusUpdate) -> String {
    format!("setting session {id} to {}", update.new_status())
}

/// A status for an error's text. One that is not known is not describe: it may be a secret that the server repeats.
fn describe(status: &SessionStatus) -> &str {
    match status {
        SessionStatus::Other(_) => "in another status",
        known => known.as_str(),
    }
}

// What a panic in a caller's thread interrupts leaves nothing half done: all state is behind locks that recover.
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
        // How an attempt failed that may have been applied. The next one reads the session first, which may settle that.
        let mut doubt = None;
        let result = with_retries(&self.retry, call.deadline, &|| update_subject(id, update), || {
            // An update that cannot be sent is rejected before the session is read.
            let body = update.to_body(self.version)?;
            match (self.read(id, &mut call)?.status, doubt) {
                (status, None) if status == update.new_status() => return Ok(Ensured::Already),
                (status, Some(_)) if status == update.new_status() => return Ok(Ensured::Updated),
                (status, _) if may_replace(&status) => {}
                (status, None) => return Ok(Ensured::LeftAlone(status)),
                (status, Some(kind)) => {
                    let problem = format!("the session is {}, which may not be replaced", describe(&status));
                    let error = Error::new(kind, Verdict::NotApplied, problem);
                    return Err(error.with(|error| error.retryable = false));
                }
            }
            let updated = self.update(id, update, &body, &mut call);
            let updated = updated.inspect_err(|error| {
                if error.verdict() == Verdict::Unknown {
                    doubt.get_or_insert(error.kind());
                }
            });
            updated.map(|_| Ensured::Updated)
        });
        let in_doubt = |error: &Error| error.verdict() == Verdict::Unknown;
        let is_wanted = |session: Session| session.status == update.new_status();
        match result {
            Err(error) if in_doubt(&error) && self.read(id, &mut call).is_ok_and(is_wanted) => Ok(Ensured::Updated),
            result => result,
        }
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

    fn read(&self, id: &SessionId, call: &mut Call) -> Result<Session> {
        let subject = || format!("reading session {id}");
        with_retries(&self.retry, call.deadline, &subject, || {
            let operation = Operation::ReadSession;
            let fields = self.exchange(id, operation, None, call)?;
            let unnamed = || verdict::unconfirmed("Didit answered 200, but without a status", operation);
            Ok(Session::new(id.clone(), fields.status.ok_or_else(unnamed)?))
        })
    }

    /// One authorized request about a session, an update if it has a body, and what its 200 says about that session.
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
            let note_limit = |response: &Response| {
                if let Some(seen) = RateLimit::read(response) {
                    *self.rate_limit() = Some(seen);
                }
            };
            verdict::send(&self.http, &request, operation, deadline, secrets, note_limit)
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
