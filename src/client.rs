//! The client: one method per operation.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::call::{Deadline, with_retries};
use crate::credentials::Authorization;
use crate::error::{ErrorKind, Result, Verdict};
use crate::http::{Http, MAX_BODY, Request};
use crate::rate_limit::RateLimit;
use crate::retry::RetryPolicy;
use crate::session::{ApiVersion, Ensured, Session, SessionId, SessionStatus, StatusUpdate, UpdatedSession};
use crate::verdict::{self, Effect};

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
pub struct Client(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) http: Http,
    pub(crate) authorization: Authorization,
    /// Where sessions are: `https://verification.didit.me/v1/session`.
    pub(crate) sessions: String,
    pub(crate) version: ApiVersion,
    pub(crate) retry: RetryPolicy,
    pub(crate) deadline: Option<Duration>,
    pub(crate) rate_limit: Mutex<Option<RateLimit>>,
}

impl Client {
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
