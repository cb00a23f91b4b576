//! What an answer, or the lack of one, means for the decision: the table in the README, in code.

use crate::error::{Error, ErrorKind, ServerMessage, sanitize};
use crate::http::{Failure, Reply};
use crate::retry::retry_after;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    FetchToken,
    ReadSession,
    /// `idempotent`: setting the status again changes nothing, so the request may be repeated when in doubt.
    UpdateStatus {
        idempotent: bool,
    },
}

impl Operation {
    /// An outcome that leaves open whether the server acted. It is retryable if the server may recover and the request
    /// is safe to repeat.
    fn leave_in_doubt(self, error: Error, may_recover: bool) -> Error {
        match self {
            Operation::FetchToken | Operation::ReadSession => error.retryable(may_recover),
            Operation::UpdateStatus { idempotent } => error.retryable(may_recover && idempotent).unknown(),
        }
    }

    fn advice(self, for_tokens: &'static str, for_sessions: &'static str) -> &'static str {
        match self {
            Operation::FetchToken => for_tokens,
            _ => for_sessions,
        }
    }
}

/// No answer, or not all of it.
pub(crate) fn of_failure(failure: Failure, operation: Operation) -> Error {
    let Failure {
        kind,
        sent,
        retryable,
        advice,
        problem,
    } = failure;
    let kind = match (operation, kind) {
        (Operation::FetchToken, ErrorKind::UnexpectedResponse) => ErrorKind::Authentication,
        _ => kind,
    };
    let error = Error::new(kind, problem).advice(advice);
    match sent {
        true => operation.leave_in_doubt(error, retryable),
        false => error.retryable(retryable),
    }
}

/// An answer with another status than 200 (docs/didit-api.md §6), from `host`.
pub(crate) fn of_status(reply: &Reply, host: &str, operation: Operation, secrets: &[&str]) -> Error {
    let status = reply.status;
    // Only the body of an error is meant to be shown: a success may hold all about a person.
    let body = match status {
        400.. => reply.body.as_deref().unwrap_or_default(),
        _ => b"",
    };
    let message = ServerMessage::read(
        &serde_json::from_slice(body).unwrap_or_default(),
        reply.header("x-request-id"),
        secrets,
    );
    let from_didit = message.is_from_didit();
    let problem = match status {
        _ if from_didit => format!("Didit answered {status}"),
        400.. if reply.body.is_err() => {
            format!("{host} answered {status}, and its answer could not be read to its end")
        }
        300..400 => format!("{host} answered {status}, a redirect, which is not followed"),
        400..500 => unexpected_content(host, status, body),
        500.. => format!("{host} answered {status} {}", content(body)),
        _ => format!("{host} answered {status}"),
    };
    let check_url = operation.advice(
        "check the auth URL (DIDIT_AUTH_URL)",
        "check the base URL (DIDIT_BASE_URL)",
    );
    let refused = |advice| match from_didit {
        true => operation.advice("check the client id, the client secret and the auth URL", advice),
        false => check_url,
    };
    let (kind, is_certain, may_recover, advice) = match status {
        408 | 500 | 502..=504 => (ErrorKind::Server, false, true, "try again later"),
        499 | 501 | 505..=599 => (ErrorKind::Server, false, false, ""),
        429 => (ErrorKind::RateLimited, true, true, "try again later"),
        401 => (ErrorKind::Authentication, true, false, refused("check the credentials")),
        402 => (
            ErrorKind::Rejected,
            true,
            false,
            refused("check the application's credits"),
        ),
        403 => {
            let advice = refused("check what the application may do, and its credits");
            (ErrorKind::Forbidden, true, false, advice)
        }
        404 => {
            let advice = refused("check the session id; the session may belong to another application");
            (ErrorKind::NotFound, true, false, advice)
        }
        400..=499 => {
            let advice = refused("the same request will be refused again");
            (ErrorKind::Rejected, true, false, advice)
        }
        301 | 307 | 308 => (ErrorKind::UnexpectedResponse, true, false, check_url),
        300..=399 => (ErrorKind::UnexpectedResponse, false, false, check_url),
        _ => (ErrorKind::UnexpectedResponse, false, false, ""),
    };
    let kind = match (operation, kind) {
        (Operation::FetchToken, ErrorKind::Server | ErrorKind::RateLimited) => kind,
        (Operation::FetchToken, _) => ErrorKind::Authentication,
        _ => kind,
    };
    let reset = reply.header("x-ratelimit-reset").filter(|_| status == 429);
    let error = Error::new(kind, problem)
        .with_status(status)
        .with_server_message(message)
        .with_retry_after(retry_after(reply.header("retry-after"), reset, reply.date()))
        .advice(advice);
    match is_certain {
        true => error.retryable(may_recover),
        false => operation.leave_in_doubt(error, may_recover),
    }
}

/// A 200 from `host` that holds no token that can be used.
pub(crate) fn no_token(host: &str, body: &[u8], problem: &str) -> Error {
    let problem = match body.trim_ascii_start().first() {
        Some(b'{') => format!("{host} answered 200, but {problem}"),
        _ => unexpected_content(host, 200, body),
    };
    Error::new(ErrorKind::Authentication, problem)
        .with_status(200)
        .advice("check the auth URL (DIDIT_AUTH_URL)")
}

/// An answer that Didit does not give, and who may have given it instead.
fn unexpected_content(host: &str, status: u16, body: &[u8]) -> String {
    let content = content(body);
    format!("{host} answered {status} {content} (is it a login page or a gateway, or is the URL wrong?)")
}

/// What a body is that is not Didit's JSON.
fn content(body: &[u8]) -> &'static str {
    match body.trim_ascii_start().first() {
        None => "with an empty body",
        Some(b'<') => "with HTML, not JSON",
        Some(b'{') => "with JSON that is not Didit's",
        Some(_) => "with something that is not JSON",
    }
}

/// A 200 that does not confirm what was asked.
pub(crate) fn unconfirmed(problem: &str, operation: Operation) -> Error {
    let error = Error::new(ErrorKind::UnexpectedResponse, sanitize(problem, 300, &[]));
    operation.leave_in_doubt(error.with_status(200), false)
}

/// A 200 from `host` that is not about a session at all.
pub(crate) fn no_session(host: &str, body: &[u8], operation: Operation) -> Error {
    unconfirmed(&unexpected_content(host, 200, body), operation).advice("check the base URL (DIDIT_BASE_URL)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Verdict;

    const IDEMPOTENT: Operation = Operation::UpdateStatus { idempotent: true };
    const ONCE: Operation = Operation::UpdateStatus { idempotent: false };

    #[test]
    fn an_update_that_was_not_confirmed_is_in_doubt_and_a_read_is_not() {
        for (operation, verdict) in [
            (Operation::ReadSession, Verdict::NotApplied),
            (IDEMPOTENT, Verdict::Unknown),
            (ONCE, Verdict::Unknown),
        ] {
            let error = unconfirmed("it is for another session", operation);
            assert_eq!(
                (error.kind(), error.verdict()),
                (ErrorKind::UnexpectedResponse, verdict)
            );
            assert_eq!((error.status(), error.is_retryable()), (Some(200), false));
            assert!(error.to_string().starts_with("it is for another session"));
        }
    }

    #[test]
    fn what_must_not_be_repeated_is_never_worth_another_attempt_in_doubt() {
        let retryable = |operation: Operation, may_recover| {
            let error = Error::new(ErrorKind::Server, "");
            operation.leave_in_doubt(error, may_recover).is_retryable()
        };
        for operation in [Operation::FetchToken, Operation::ReadSession, IDEMPOTENT] {
            assert!(retryable(operation, true));
            assert!(!retryable(operation, false));
        }
        assert!(!retryable(ONCE, true));
        assert!(!retryable(ONCE, false));
    }
}
