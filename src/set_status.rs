//! Sets the status of a session: one loop for `update_status`, `ensure_status` and `ensure_status_if`.
//!
//! An update that was certainly not applied is as if it had never been sent. An update that may have been applied (in
//! doubt) is read before it is repeated.

use crate::call::{Attempts, with_retries};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result, Verdict};
use crate::exchange::Shared;
use crate::retry::RetryPolicy;
use crate::session::{Ensured, SessionId, SessionStatus, UpdatedSession};
use crate::update::StatusUpdate;

/// How the calls that set a status differ.
pub(crate) struct Rules<'a> {
    /// Whether every attempt reads the session before it sends the update. Otherwise, only those after an attempt in doubt do.
    pub(crate) reads_first: bool,
    /// Whether the update may replace this status, which is not the wanted one.
    pub(crate) may_replace: &'a dyn Fn(&SessionStatus) -> bool,
}

/// Sets the status of a session. Returns Didit's confirmation, if a response was one.
///
/// # Errors
/// If any attempt may have been applied, and no read settled that, the verdict is `Unknown`.
pub(crate) fn set_status(
    client: &Shared,
    deadline: Deadline,
    id: &SessionId,
    update: &StatusUpdate,
    rules: &Rules<'_>,
) -> Result<(Ensured, Option<UpdatedSession>)> {
    let subject = || format!("setting session {id} to {}", update.new_status());
    let result = update
        .to_body(client.version)
        .map_err(|error| error.with_subject(&subject()));
    // An update that cannot be sent is rejected before the session is read.
    let result = result.and_then(|body| {
        let call = SetStatus {
            client,
            deadline,
            id,
            update,
            body: &body,
            rules,
        };
        call.run(Attempts::new(&client.retry, deadline, &subject))
    });
    result.map_err(|error| {
        error.with(|error| {
            error.is_about_update = true;
            if !update.new_status().is_idempotent() {
                error.advice_if_unknown = CHECK_STEPS;
            }
        })
    })
}

/// The advice after a resubmission in doubt, about which a status proves nothing.
const CHECK_STEPS: &str = "read the session's status, and check in Didit's console which steps it asks for: \
                           `ensure_status_if` would resend it";

struct SetStatus<'a> {
    client: &'a Shared,
    deadline: Deadline,
    id: &'a SessionId,
    update: &'a StatusUpdate,
    body: &'a [u8],
    rules: &'a Rules<'a>,
}

impl SetStatus<'_> {
    fn run(&self, mut attempts: Attempts<'_>) -> Result<(Ensured, Option<UpdatedSession>)> {
        loop {
            let error = match self.attempt(attempts.in_doubt()) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            // Only the attempt's own update can be in doubt: a failed read changes nothing.
            let is_in_doubt = error.verdict() == Verdict::Unknown;
            let is_repeatable = error.is_retryable() && self.client.retry.max_retries > 0;
            match attempts.wait_after(error) {
                Ok(()) => {}
                Err(error) if is_in_doubt && (self.rules.reads_first || is_repeatable) => {
                    return self.read_back(&attempts, error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes one attempt, with one credential. If that expires after the read, Didit refuses the update, and the next
    /// attempt reads the session again. `in_doubt` is an earlier attempt that may have been applied.
    fn attempt(&self, in_doubt: Option<&Error>) -> Result<(Ensured, Option<UpdatedSession>)> {
        let credential = self.client.authorization.credential(self.deadline)?;
        if self.rules.reads_first || in_doubt.is_some() {
            let found = self.client.read(&credential, self.id, self.deadline);
            let found = found.map_err(|error| error.with_subject(&self.reading()))?;
            if let Some(ensured) = self.after_read(found, in_doubt)? {
                return Ok((ensured, None));
            }
        }
        let wanted = self.update.new_status();
        let updated = self
            .client
            .update(&credential, self.id, wanted, self.body, self.deadline)?;
        Ok((Ensured::Updated, Some(updated)))
    }

    /// Returns the result of the call, or `None` if the update is to be sent.
    ///
    /// # Errors
    /// The session has a status that may not be replaced, and the call is in doubt.
    fn after_read(&self, found: SessionStatus, in_doubt: Option<&Error>) -> Result<Option<Ensured>> {
        let is_wanted = found == self.update.new_status();
        match in_doubt {
            None if is_wanted => Ok(Some(Ensured::Already)),
            Some(_) if is_wanted => Ok(Some(Ensured::Updated)),
            _ if (self.rules.may_replace)(&found) => Ok(None),
            None => Ok(Some(Ensured::LeftAlone(found))),
            Some(doubt) => Err(not_replaceable(doubt.kind(), &found)),
        }
    }

    /// Reads the session once more, after the last attempt, which ended in doubt with `error`.
    fn read_back(&self, attempts: &Attempts<'_>, error: Error) -> Result<(Ensured, Option<UpdatedSession>)> {
        let found = with_retries(&RetryPolicy::none(), self.deadline, &|| self.reading(), || {
            let credential = self.client.authorization.credential(self.deadline)?;
            self.client.read(&credential, self.id, self.deadline)
        });
        let Ok(found) = found else {
            return Err(error);
        };
        match self.after_read(found, Some(&error)) {
            Ok(Some(ensured)) => Ok((ensured, None)),
            Ok(None) => Err(error),
            Err(decided) => Err(attempts.conclude(decided)),
        }
    }

    fn reading(&self) -> String {
        format!("reading session {}", self.id)
    }
}

/// Returns the error for a session whose status may not be replaced, after an attempt in doubt.
fn not_replaceable(kind: ErrorKind, found: &SessionStatus) -> Error {
    let problem = format!(
        "the session is already {}, which this call may not replace",
        found.describe()
    );
    Error::new(kind, Verdict::NotApplied, problem).with(|error| {
        error.retryable = false;
        error.advice_if_unknown =
            "someone else may have decided, or the session had this decision before; to replace a decision, use `ensure_status`";
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::client::Client;
    use crate::credentials::Credentials;

    #[test]
    fn a_read_that_uses_up_the_reserve_leaves_the_earlier_doubt_as_the_error() {
        let mut server = mockito::Server::new();
        let read = server
            .mock("GET", "/v3/session/abc/decision/")
            .with_body(r#"{"session_id":"abc","status":"In Review"}"#)
            .create();
        let updated = server
            .mock("PATCH", "/v3/session/abc/update-status/")
            .expect(0)
            .create();
        let builder = Client::builder(Credentials::api_key("key")).base_url(server.url());
        let client = builder.proxy("").build().unwrap();
        let (id, update) = ("abc".parse().unwrap(), StatusUpdate::approved());
        let (deadline, subject) = (Deadline::with_used_reserve(), || "setting".to_owned());
        let call = SetStatus {
            client: &client.shared,
            deadline,
            id: &id,
            update: &update,
            body: b"{}",
            rules: &Rules {
                reads_first: false,
                may_replace: &|status| !status.is_decided(),
            },
        };
        let doubt = Error::new(ErrorKind::Network, Verdict::Unknown, "no response").with_retryable(true);
        let policy = RetryPolicy::default().base_delay(Duration::ZERO);
        let mut attempts = Attempts::new(&policy, Deadline::after(Duration::MAX, Duration::ZERO), &subject);
        attempts.wait_after(doubt).unwrap();
        let error = call.run(attempts).unwrap_err();
        assert_eq!((error.kind(), error.verdict()), (ErrorKind::Network, Verdict::Unknown));
        assert!(error.summary().starts_with("setting: no response"), "{error}");
        read.assert();
        updated.assert();
    }
}
