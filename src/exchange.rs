//! One request about a session and its response: authorize, send, note the rate limit, judge, confirm.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::credentials::{Authorization, Credential};
use crate::deadline::Deadline;
use crate::error::{Result, Verdict};
use crate::http::{Http, MAX_BODY, Method, Request, Response, host};
use crate::rate_limit::RateLimit;
use crate::response;
use crate::retry::RetryPolicy;
use crate::session::{SessionId, SessionStatus, UpdatedSession};
use crate::update::{ApiVersion, NewStatus};
use crate::verdict::Operation;

/// The largest session that is read: 4 MiB. A session includes the personal data of a person.
const MAX_SESSION: u64 = 4 * 1024 * 1024;

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
        let response = self.send(credential, id, Operation::ReadSession, None, deadline)?;
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
        let response = self.send(credential, id, Operation::SetStatus(status), Some(body), deadline);
        let result =
            response.and_then(|response| response::updated_session(&response, id, status, host(&self.base_url)));
        if matches!(&result, Err(error) if error.verdict() == Verdict::Unknown) {
            // A gateway that gave up may still pass on a response, which must not confirm another update.
            self.http.abandon_connections();
        }
        result
    }

    /// Sends one request about a session, which is an update if it has a body. Returns a complete 200.
    fn send(
        &self,
        credential: &Credential<'_>,
        id: &SessionId,
        operation: Operation,
        body: Option<&[u8]>,
        deadline: Deadline,
    ) -> Result<Response> {
        let (method, action, max_response) = match body {
            Some(_) => (Method::PATCH, "/update-status/", MAX_BODY),
            None => (Method::GET, "/decision/", MAX_SESSION),
        };
        let version = self.version.as_str();
        let url = [&self.base_url, "/", version, "/session/", id.as_str(), action].concat();
        let headers = [
            ("accept", "application/json"),
            credential.header(),
            ("content-type", "application/json"),
        ];
        let request = Request {
            method,
            url: &url,
            headers: if body.is_some() { &headers } else { &headers[..2] },
            body,
            max_response,
        };
        let timeout = deadline.remaining(self.http.timeout)?;
        let (send_by, new_connection) = match operation {
            // An update that cannot be retried must not fail on a connection that the server has closed.
            Operation::SetStatus(status) => (Some(deadline.send_by(timeout)), !status.is_idempotent()),
            Operation::FetchToken | Operation::ReadSession => (None, false),
        };
        let result = self.http.send(&request, timeout, send_by, new_connection);
        // Reads have a limit of their own.
        if let (Operation::SetStatus(_), Ok(response)) = (operation, &result) {
            if let Some(latest) = RateLimit::read(response) {
                *self.latest_rate_limit() = Some((latest, Instant::now()));
            }
        }
        let secrets = credential.secrets();
        response::complete_200(result, &request, operation, deadline, &secrets).map_err(|error| match error.status() {
            Some(401) => error.with(|error| error.refused_token = credential.discard()),
            _ => error,
        })
    }
}
