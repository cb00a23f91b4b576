//! The client, with one method per operation.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use crate::call::with_retries;
use crate::credentials::Authorization;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::exchange::Shared;
use crate::rate_limit::RateLimit;
use crate::session::{Ensured, Session, SessionId, SessionStatus, UpdatedSession};
use crate::set_status::{Rules, set_status};
use crate::update::{ApiVersion, StatusUpdate};

/// A client that sets and reads the status of verification sessions, with blocking I/O.
///
/// A `Client` is cheap to clone and safe to share: clones and threads share its connections and its access token. After
/// `fork`, the child process must build a client of its own, since both would write to the same connections.
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
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    /// How long one call may take.
    pub(crate) deadline: Duration,
}

impl Client {
    /// Sets the status of a session and returns Didit's confirmation ([Didit's API, §3](crate::didit_api#3-update-v1),
    /// [§4](crate::didit_api#4-update-v2-and-v3)).
    ///
    /// `Ok` means that Didit answered 200 and confirmed this session, or that the client read the wanted status after an
    /// attempt in doubt: one that may have been applied. In the second case, the result has no session token and no URL,
    /// and the session may have another comment than yours.
    ///
    /// An attempt that was certainly not applied is as if it had never been sent. After an attempt in doubt, the client
    /// reads the session before it sends the update again:
    ///
    /// - If the session has the wanted status, the call succeeds.
    /// - If it has no decision yet, the client sends the update again.
    /// - If it has another decision, someone else may have made it. The client leaves it, and the call ends `Unknown`.
    ///
    /// An attempt in doubt ends the call without a read if the status is Resubmitted, with
    /// [`RetryPolicy::none`](crate::RetryPolicy::none), and after a response that no retry would change: a 200 that
    /// confirms nothing, another 2xx or 3xx, 499, 501 or 505.
    ///
    /// # Errors
    /// Any [`ErrorKind`](crate::ErrorKind). [`Error::verdict`](crate::Error::verdict) says whether the update may have
    /// been applied nonetheless. The client has already retried as far as the [`RetryPolicy`](crate::RetryPolicy) and
    /// the [deadline](crate::ClientBuilder::deadline) allow. Do not repeat a call that ended `Unknown` as it is: it
    /// would begin with the update. Use [`ensure_status_if`](Client::ensure_status_if).
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
        let rules = Rules {
            reads_first: false,
            may_replace: &|status| !status.is_decided(),
        };
        let (_, confirmed) = set_status(&self.shared, self.call_deadline(), id, update, &rules)?;
        Ok(confirmed.unwrap_or_else(|| UpdatedSession::new(id.clone())))
    }

    /// Reads the status of a session ([Didit's API, §5](crate::didit_api#5-reading-a-session)).
    ///
    /// The rest of the response is personal data. The client neither keeps nor logs it.
    ///
    /// # Errors
    /// The same as for [`update_status`](Client::update_status), but always
    /// [`Verdict::NotApplied`](crate::Verdict::NotApplied): a read changes nothing.
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
        let status = self.read(id, self.call_deadline(), &|| format!("reading session {id}"))?;
        Ok(Session::new(id.clone(), status))
    }

    /// Makes sure that a session has a status: reads the session, and updates it only if its status differs. It may
    /// replace any status, including a decision.
    ///
    /// This takes one more request than [`update_status`](Client::update_status). On v1 and v2, Didit allows 100 reads
    /// a minute ([Didit's API, §7](crate::didit_api#7-rate-limits)).
    ///
    /// Every attempt reads the session first. If the last attempt is in doubt, the client reads the session once more.
    ///
    /// [`Ensured::Already`] means that the session already had the status, and that nothing of `update` was applied: no
    /// comment, email or nodes. [`Ensured::Updated`] means that Didit confirmed the update, or that the client
    /// read the wanted status after an attempt in doubt.
    ///
    /// # Errors
    /// The same as for [`update_status`](Client::update_status). The verdict is `Unknown` only if an attempt is in
    /// doubt, and reading the session failed or showed another status.
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
        self.ensure_status_if(id, update, |_| true)
    }

    /// Does the same as [`ensure_status`](Client::ensure_status), but replaces the status of a session only if
    /// `may_replace` returns true for it.
    ///
    /// Use it in a worker after a crash: the update may have been sent, and a reviewer may have decided since. If a read
    /// shows another status than the wanted one, `may_replace` decides. [`Ensured::LeftAlone`] returns the status that
    /// `may_replace` did not accept; nothing was changed.
    ///
    /// Do not use it to repeat a resubmission in doubt: it would resend it. No status proves that the first one did not
    /// happen, so a person has to check the session.
    ///
    /// Every update is sent right after a read, also when an access token had to be replaced. Didit has no conditional
    /// update, so a gap of one round trip remains in which a reviewer may decide. It is longer if the update needs a new
    /// connection, or if the machine is suspended between the read and the update.
    ///
    /// # Errors
    /// The same as for [`ensure_status`](Client::ensure_status). The verdict is also `Unknown` if `may_replace` does not accept
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
        let rules = Rules {
            reads_first: true,
            may_replace: &may_replace,
        };
        set_status(&self.shared, self.call_deadline(), id, update, &rules).map(|(ensured, _)| ensured)
    }

    /// Returns a client whose calls may take this long, instead of the [deadline](crate::ClientBuilder::deadline) of
    /// this one. It shares everything else with this one: connections, access token, rate limit.
    ///
    /// Use it when the caller has only so much time left, such as in a web handler. With zero, every call ends with
    /// `Timeout`, verdict `NotApplied`.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use didit::{Client, SessionId, StatusUpdate};
    ///
    /// fn approve_within(client: &Client, id: &SessionId, left: Duration) -> didit::Result<()> {
    ///     client.with_deadline(left).update_status(id, &StatusUpdate::approved()).map(drop)
    /// }
    /// ```
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Client {
        let shared = self.shared.clone();
        Client { shared, deadline }
    }

    /// Checks that Didit accepts the credentials and that both URLs lead to Didit. Changes nothing.
    ///
    /// With client credentials, the client first fetches a new access token, even if a token is cached, and caches it.
    /// Then it reads a session that does not exist: with a 404, 403 or 400, Didit has accepted the credentials and refused only
    /// the session. The check succeeds only if the response is JSON in one of Didit's shapes
    /// ([Didit's API, §6](crate::didit_api#6-errors)), so a wrong base URL is reported, unless a gateway there answers in such
    /// a shape.
    ///
    /// # Errors
    /// `Authentication` if the credentials, the access token or the API key are refused. Any other kind if there was no
    /// response, or it was not a refusal. If [`Error::message`](crate::Error::message) is `None`, the response did not come
    /// from Didit. Always [`Verdict::NotApplied`](crate::Verdict::NotApplied).
    ///
    /// ```no_run
    /// use didit::{Client, ErrorKind};
    ///
    /// let client = Client::from_env()?;
    /// match client.authenticate() {
    ///     Ok(()) => println!("Didit accepts the credentials"),
    ///     Err(error) if error.kind() == ErrorKind::Authentication && error.message().is_some() => {
    ///         eprintln!("Didit refused the credentials: {error}");
    ///     }
    ///     Err(error) => eprintln!("could not check the credentials: {error}"),
    /// }
    /// # Ok::<(), didit::Error>(())
    /// ```
    pub fn authenticate(&self) -> Result<()> {
        let subject = || "checking the credentials".to_owned();
        let deadline = self.call_deadline();
        if let Authorization::Token(source) = &self.shared.authorization {
            with_retries(&self.shared.retry, deadline, &subject, || source.refresh(deadline))?;
        }
        let missing_id = SessionId::try_from("00000000-0000-0000-0000-000000000000")?;
        match self.read(&missing_id, deadline, &subject) {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.status(), Some(400 | 403 | 404)) && error.0.server.is_documented => Ok(()),
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
        update.to_body(self.shared.version).map(drop)
    }

    /// Returns the rate limit of updates from the latest response to one, or `None` if no response had one, or its window
    /// is over.
    ///
    /// Clones share it. Refusals update it as well. A program that sends many updates can use it to slow down before
    /// Didit refuses requests.
    ///
    /// ```no_run
    /// use didit::Client;
    ///
    /// fn slow_down(client: &Client) {
    ///     let Some(limit) = client.rate_limit() else { return };
    ///     // Didit advises clients to slow down once less than 15 % of the limit remains.
    ///     if limit.remaining.saturating_mul(100) < limit.limit.saturating_mul(15) {
    ///         // Spread what remains over the rest of the window, instead of waiting for its end.
    ///         let left = limit.reset_after.unwrap_or_default();
    ///         std::thread::sleep(left / u32::try_from(limit.remaining.max(1)).unwrap_or(u32::MAX));
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn rate_limit(&self) -> Option<RateLimit> {
        self.shared.rate_limit()
    }

    /// Returns the base URL, without a trailing slash.
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
        &self.shared.base_url
    }

    /// Returns the version of Didit's API: the configured one, or the default for the credentials.
    #[must_use]
    pub fn api_version(&self) -> ApiVersion {
        self.shared.version
    }

    /// Returns the client id, or `None` if the credentials are an API key.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        match &self.shared.authorization {
            Authorization::ApiKey(_) => None,
            Authorization::Token(source) => Some(source.client_id()),
        }
    }

    /// Returns how long one request may take: the configured [`timeout`](crate::ClientBuilder::timeout), or the default.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.shared.http.timeout
    }

    fn call_deadline(&self) -> Deadline {
        Deadline::after(self.deadline, self.shared.http.timeout)
    }

    fn read(&self, id: &SessionId, deadline: Deadline, subject: &dyn Fn() -> String) -> Result<SessionStatus> {
        with_retries(&self.shared.retry, deadline, subject, || {
            let credential = self.shared.authorization.credential(deadline)?;
            self.shared.read(&credential, id, deadline)
        })
    }
}

// A panic cannot leave the client's own state invalid: it is behind locks that recover. The lock of ureq's pool does not: if a
// logger panics while ureq holds it, later calls panic as well.
impl UnwindSafe for Client {}
impl RefUnwindSafe for Client {}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base_url", &self.shared.base_url)
            .field("api_version", &self.shared.version)
            .field("authorization", &self.shared.authorization)
            .field("retry", &self.shared.retry)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
