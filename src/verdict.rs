//! What an answer, or a failure to get one, means for the decision. Implements the table in the README.

use crate::call::Deadline;
use crate::error::{Error, ErrorKind, Result, Verdict};
use crate::http::{Failure, Http, Outcome, Request, Response, host};
use crate::rate_limit::retry_after;
use crate::server_message::ServerMessage;

/// The purpose of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    FetchToken,
    ReadSession,
    /// If `idempotent`, setting the status again changes nothing, so the request may be repeated when in doubt.
    UpdateStatus {
        idempotent: bool,
    },
}

impl Operation {
    /// Returns the error for a failure of this operation. This is the only place that decides verdicts.
    fn error(self, kind: ErrorKind, outcome: Outcome, problem: String, advice: &'static str) -> Error {
        let kind = match self {
            Operation::FetchToken if !kind.is_transient() => ErrorKind::Authentication,
            _ => kind,
        };
        let (verdict, retryable) = match (outcome, self) {
            (Outcome::Refused, _) => (Verdict::NotApplied, false),
            (Outcome::NotYet | Outcome::TooLate, _) => (Verdict::NotApplied, true),
            (Outcome::Lost, Operation::UpdateStatus { idempotent }) => (Verdict::Unknown, idempotent),
            (Outcome::Unclear, Operation::UpdateStatus { .. }) => (Verdict::Unknown, false),
            // Only an update can change anything.
            (Outcome::Lost, _) => (Verdict::NotApplied, true),
            (Outcome::Unclear, _) => (Verdict::NotApplied, false),
        };
        Error::new(kind, verdict, problem).with(|error| {
            error.advice = advice;
            error.retryable = retryable;
        })
    }

    fn advice(self, for_tokens: &'static str, for_sessions: &'static str) -> &'static str {
        match self {
            Operation::FetchToken => for_tokens,
            _ => for_sessions,
        }
    }

    fn check_url(self) -> &'static str {
        self.advice(
            "check the auth URL (DIDIT_AUTH_URL)",
            "check the base URL (DIDIT_BASE_URL)",
        )
    }
}

/// Sends one request within the deadline, and returns a complete 200. Anything else is an error.
pub(crate) fn send(
    http: &Http,
    request: &Request<'_>,
    operation: Operation,
    deadline: Deadline,
    secrets: &[&str],
    on_response: impl FnOnce(&Response),
) -> Result<(Response, Vec<u8>)> {
    let limit = http.timeout;
    let timeout = deadline.remaining(limit)?;
    let (send_by, new_connection) = match operation {
        // An update that cannot be retried must not fail on a connection that the server has closed.
        Operation::UpdateStatus { idempotent } => (Some(deadline.send_by(timeout)), !idempotent),
        _ => (None, false),
    };
    let failed = |failure: Failure| {
        let too_late = deadline.too_late().filter(|_| failure.outcome == Outcome::TooLate);
        if let Some(error) = too_late {
            return error;
        }
        let advice = match failure.outcome {
            Outcome::NotYet if failure.advice.is_empty() => operation.advice(
                "check the auth URL (DIDIT_AUTH_URL), or retry later",
                "check the base URL (DIDIT_BASE_URL), or retry later",
            ),
            _ => failure.advice,
        };
        let error = operation.error(failure.kind, failure.outcome, failure.problem, advice);
        let own_time = operation == Operation::FetchToken && timeout < limit && error.kind() == ErrorKind::Timeout;
        error.with(|error| error.deadline_exceeded = own_time)
    };
    let result = http.send(request, timeout, send_by, new_connection);
    let (response, mut body) = result.map_err(failed)?;
    on_response(&response);
    if let Ok(body) = &mut body {
        // JSON must not begin with a byte order mark, but a parser may ignore one (RFC 8259 §8.1).
        if body.starts_with(b"\xef\xbb\xbf") {
            body.drain(..3);
        }
    }
    if response.status != 200 {
        return Err(status_error(&response, &body, request, operation, secrets));
    }
    let body = body.map_err(|failure| failed(failure).with(|error| error.status = Some(200)))?;
    Ok((response, body))
}

/// Returns the error for an answer to `request` with another status than 200 (docs/didit-api.md §6).
fn status_error(
    response: &Response,
    body: &Result<Vec<u8>, Failure>,
    request: &Request<'_>,
    operation: Operation,
    secrets: &[&str],
) -> Error {
    use ErrorKind::{Authentication, Forbidden, NotFound, RateLimited, Rejected, Server, UnexpectedResponse};
    use Outcome::{Lost, NotYet, Refused, Unclear};

    let (status, host) = (response.status, host(request.url));
    // Only the body of an error may be shown. A success may contain personal data.
    let shown = match status {
        400.. => body.as_deref().unwrap_or_default(),
        _ => b"",
    };
    let json = serde_json::from_slice(shown).unwrap_or_default();
    let message = ServerMessage::read(&json, response.header("x-request-id"), secrets);
    let from_didit = message.is_from_didit();
    let problem = match status {
        _ if from_didit => format!("Didit answered {status}"),
        400.. if body.is_err() => {
            format!("{host} answered {status}, but the rest of its answer could not be read")
        }
        300..400 => format!("{host} answered {status}, a redirect, which didit does not follow"),
        400..500 => unexpected_body(host, response, shown),
        500.. => format!("{host} answered {status} {}", describe_body(response, shown)),
        _ => format!("{host} answered {status}"),
    };
    let check_url = operation.check_url();
    let check_client = "check the client id, the client secret and the auth URL";
    let unchanged = "retrying the same request will not help";
    let has_key = request.headers.iter().any(|(name, _)| *name == "x-api-key");
    let check = |advice| match from_didit {
        true => operation.advice(check_client, advice),
        false => check_url,
    };
    let (kind, outcome, advice) = match status {
        499 | 501 | 505 => (Server, Unclear, ""),
        408 | 500..=599 => (Server, Lost, "retry later"),
        425 => (Rejected, NotYet, "retry later"),
        429 => (RateLimited, NotYet, "retry later"),
        401 if has_key => (Authentication, Refused, check("check the API key (DIDIT_API_KEY)")),
        401 => (Authentication, Refused, check(check_client)),
        402 => (Rejected, Refused, check("check the application's credits")),
        403 => (
            Forbidden,
            Refused,
            check("check the application's permissions and credits"),
        ),
        404 => (
            NotFound,
            Refused,
            check("check the session id; the session may belong to another application"),
        ),
        400..=499 => (Rejected, Refused, check(unchanged)),
        301 | 307 | 308 => (UnexpectedResponse, Refused, check_url),
        300..=399 => (UnexpectedResponse, Unclear, check_url),
        _ => (UnexpectedResponse, Unclear, ""),
    };
    let reset = response.header("x-ratelimit-reset").filter(|_| status == 429);
    operation.error(kind, outcome, problem, advice).with(|error| {
        error.status = Some(status);
        error.server = message;
        error.retry_after = retry_after(response.header("retry-after"), reset, response.date());
    })
}

/// Returns the error for a 200 that does not confirm the request.
pub(crate) fn unconfirmed(problem: &str, operation: Operation) -> Error {
    unusable(problem.into(), "", operation)
}

/// Returns the error for a 200 of `host` that does not name a session.
pub(crate) fn not_a_session(host: &str, response: &Response, body: &[u8], operation: Operation) -> Error {
    unusable(unexpected_body(host, response, body), operation.check_url(), operation)
}

/// Returns the error for a 200 of `host` without a usable access token.
pub(crate) fn no_token(host: &str, response: &Response, body: &[u8], problem: &str) -> Error {
    let problem = match body.trim_ascii_start().first() {
        Some(b'{') if !is_compressed(response, body) => format!("{host} answered 200, but {problem}"),
        _ => unexpected_body(host, response, body),
    };
    unusable(problem, Operation::FetchToken.check_url(), Operation::FetchToken)
}

fn unusable(problem: String, advice: &'static str, operation: Operation) -> Error {
    let error = operation.error(ErrorKind::UnexpectedResponse, Outcome::Unclear, problem, advice);
    error.with(|error| error.status = Some(200))
}

/// Describes an answer that does not come from Didit, and where it may come from.
fn unexpected_body(host: &str, response: &Response, body: &[u8]) -> String {
    let (status, content) = (response.status, describe_body(response, body));
    format!("{host} answered {status} {content} (is it a login page or a gateway, or is the URL wrong?)")
}

/// Describes a body that is not JSON from Didit.
fn describe_body(response: &Response, body: &[u8]) -> &'static str {
    match body.trim_ascii_start().first() {
        None => "with an empty body",
        Some(_) if is_compressed(response, body) => "with compressed data, which didit did not ask for",
        Some(b'<') => "with HTML, not JSON",
        Some(b'{') => "with JSON that is not Didit's",
        Some(_) => "with a body that is not JSON",
    }
}

/// Returns whether a body is compressed, by its header or by the first bytes of gzip (RFC 1952 §2.3.1).
fn is_compressed(response: &Response, body: &[u8]) -> bool {
    let encoding = response.header("content-encoding").unwrap_or("identity");
    !encoding.eq_ignore_ascii_case("identity") || body.starts_with(b"\x1f\x8b")
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDEMPOTENT: Operation = Operation::UpdateStatus { idempotent: true };
    const ONCE: Operation = Operation::UpdateStatus { idempotent: false };

    #[test]
    fn an_unconfirmed_update_is_unknown_and_a_read_is_not_applied() {
        for (operation, verdict) in [
            (Operation::ReadSession, Verdict::NotApplied),
            (IDEMPOTENT, Verdict::Unknown),
            (ONCE, Verdict::Unknown),
        ] {
            let error = unconfirmed("another session", operation);
            assert_eq!(
                (error.kind(), error.verdict()),
                (ErrorKind::UnexpectedResponse, verdict)
            );
            assert_eq!((error.status(), error.is_retryable()), (Some(200), false));
            assert!(error.to_string().starts_with("another session"));
        }
    }

    #[test]
    fn an_outcome_decides_the_verdict_and_whether_to_retry() {
        use Outcome::{Lost, NotYet, Refused, TooLate, Unclear};
        use Verdict::{NotApplied, Unknown};

        for (outcome, others, idempotent, once) in [
            (Refused, (NotApplied, false), (NotApplied, false), (NotApplied, false)),
            (NotYet, (NotApplied, true), (NotApplied, true), (NotApplied, true)),
            (TooLate, (NotApplied, true), (NotApplied, true), (NotApplied, true)),
            (Lost, (NotApplied, true), (Unknown, true), (Unknown, false)),
            (Unclear, (NotApplied, false), (Unknown, false), (Unknown, false)),
        ] {
            for (operation, expected) in [
                (Operation::FetchToken, others),
                (Operation::ReadSession, others),
                (IDEMPOTENT, idempotent),
                (ONCE, once),
            ] {
                let error = operation.error(ErrorKind::Server, outcome, String::new(), "");
                let meaning = (error.verdict(), error.is_retryable());
                assert_eq!(meaning, expected, "{outcome:?} {operation:?}");
            }
        }
    }
}
