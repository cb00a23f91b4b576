//! One request about a session and its response: authorize, send, note the rate limit, judge, confirm.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::credentials::{Authorization, Credential};
use crate::deadline::Deadline;
use crate::error::{Result, Verdict};
use crate::http::{Failure, Http, MAX_BODY, Method, Request, Response, host};
use crate::rate_limit::RateLimit;
use crate::response;
use crate::retry::RetryPolicy;
use crate::session::{SessionId, SessionStatus, UpdatedSession};
use crate::update::{ApiVersion, NewStatus};
use crate::verdict::Operation;

/// The largest session that is read: 4 MiB. A session includes the personal data of a person.
const MAX_SESSION: u64 = 4 * 1024 * 1024;

const ACCEPT_JSON: (&str, &str) = ("accept", "application/json");

/// What the clones of a client share.
pub(crate) struct Shared {
    pub(crate) http: Http,
    pub(crate) authorization: Authorization,
    /// Has no trailing slash.
    pub(crate) base_url: String,
    pub(crate) version: ApiVersion,
    pub(crate) retry: RetryPolicy,
    /// The rate limit from the latest response to an update that had one, and when it arrived.
    pub(crate) rate_limit: Mutex<Option<(RateLimit, Instant)>>,
}

impl Shared {
    fn latest_rate_limit(&self) -> MutexGuard<'_, Option<(RateLimit, Instant)>> {
        self.rate_limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the rate limit of updates, if its window is not over.
    pub(crate) fn rate_limit(&self) -> Option<RateLimit> {
        let latest = *self.latest_rate_limit();
        latest.and_then(|(limit, arrived)| limit.after(arrived.elapsed()))
    }

    /// Reads the status of a session.
    pub(crate) fn read(
        &self,
        credential: &Credential<'_>,
        id: &SessionId,
        deadline: Deadline,
    ) -> Result<SessionStatus> {
        let request = Request {
            method: Method::GET,
            url: &self.url(id, "decision"),
            headers: &[ACCEPT_JSON, credential.header()],
            body: None,
            max_response: MAX_SESSION,
        };
        let timeout = deadline.remaining(self.http.timeout)?;
        let result = self.http.send(&request, timeout, None, false);
        let response = judge(result, &request, Operation::ReadSession, credential, deadline)?;
        response::session_status(&response, id, host(&self.base_url), &credential.secrets())
    }

    /// Sends an update, and returns Didit's confirmation.
    pub(crate) fn update(
        &self,
        credential: &Credential<'_>,
        id: &SessionId,
        status: NewStatus,
        body: &[u8],
        deadline: Deadline,
    ) -> Result<UpdatedSession> {
        let request = Request {
            method: Method::PATCH,
            url: &self.url(id, "update-status"),
            headers: &[ACCEPT_JSON, credential.header(), ("content-type", "application/json")],
            body: Some(body),
            max_response: MAX_BODY,
        };
        let timeout = deadline.remaining(self.http.timeout)?;
        // An update that cannot be retried must not fail on a connection that the server has closed.
        let new_connection = !status.is_idempotent();
        let result = self
            .http
            .send(&request, timeout, Some(deadline.send_by(timeout)), new_connection);
        // Reads have a limit of their own, which is not noted.
        if let Some(latest) = result.as_ref().ok().and_then(RateLimit::read) {
            *self.latest_rate_limit() = Some((latest, Instant::now()));
        }
        let result = judge(result, &request, Operation::SetStatus(status), credential, deadline)
            .and_then(|response| response::updated_session(&response, id, status, host(&self.base_url)));
        if matches!(&result, Err(error) if error.verdict() == Verdict::Unknown) {
            // A gateway that gave up may still pass on a response, which must not confirm another update.
            self.http.abandon_connections();
        }
        result
    }

    fn url(&self, id: &SessionId, action: &str) -> String {
        let (base, version) = (&self.base_url, self.version.as_str());
        [base, "/", version, "/session/", id.as_str(), "/", action, "/"].concat()
    }
}

/// Returns a complete 200. Discards an access token that Didit refused.
fn judge(
    result: Result<Response, Failure>,
    request: &Request<'_>,
    operation: Operation,
    credential: &Credential<'_>,
    deadline: Deadline,
) -> Result<Response> {
    let result = response::complete_200(result, request, operation, deadline, &credential.secrets());
    result.map_err(|error| match error.status() {
        Some(401) => error.with(|error| error.refused_token = credential.discard()),
        _ => error,
    })
}
