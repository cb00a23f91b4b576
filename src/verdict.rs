//! What an answer, or the lack of one, means for the decision: the table in the README, in code.

use std::time::SystemTime;

use crate::error::{Error, ErrorKind, Words};
use crate::http::{Failure, Reply};
use crate::retry::retry_after;

/// What a request does at the server when it gets there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It reads, or fetches a token: nothing is ever in doubt.
    None,
    /// It sets a status, and setting it again changes nothing.
    Idempotent,
    /// It sets a status, and must not be repeated on a doubt.
    Once,
}

impl Effect {
    /// An end that leaves open whether the server acted. It is worth another attempt if the server may do better
    /// then and the request may be repeated.
    fn in_doubt(self, error: Error, may_do_better: bool) -> Error {
        let error = error.retryable(may_do_better && self != Effect::Once);
        match self {
            Effect::None => error,
            Effect::Idempotent | Effect::Once => error.unknown(),
        }
    }
}

/// No answer, or not all of it.
pub(crate) fn of_failure(failure: Failure, effect: Effect) -> Error {
    let sent = failure.sent;
    let may_do_better = failure.kind != ErrorKind::UnexpectedResponse;
    let error = Error::from(failure).advice("try again");
    match sent {
        true => effect.in_doubt(error, may_do_better),
        false => error.retryable(true),
    }
}

/// An answer with another status than 200 (didit-api.md §6).
pub(crate) fn of_status(reply: &Reply, effect: Effect, secrets: &[&str]) -> Error {
    let status = reply.status;
    // Only an error's body is made to be shown: a success may tell all about a person.
    let body = match status {
        400.. => reply.body.as_deref().unwrap_or_default(),
        _ => b"",
    };
    let words = Words::read(
        &serde_json::from_slice(body).unwrap_or_default(),
        reply.header("x-request-id"),
        secrets,
    );
    let reset = reply.header("x-ratelimit-reset").filter(|_| status == 429);
    let answered = |kind| {
        Error::new(kind, format!("Didit answered {status}"))
            .with_status(status)
            .with_words(words)
            .with_retry_after(retry_after(reply.header("retry-after"), reset, SystemTime::now()))
    };
    match status {
        401 => answered(ErrorKind::Authentication).advice("check the credentials"),
        403 => answered(ErrorKind::Forbidden).advice("check the permissions and the credits of the application"),
        404 => answered(ErrorKind::NotFound).advice("check the session id; it may be another application's"),
        429 => answered(ErrorKind::RateLimited)
            .retryable(true)
            .advice("try again later"),
        408 | 500 | 502..=504 => effect.in_doubt(answered(ErrorKind::Server), true),
        400..=499 => answered(ErrorKind::Rejected).advice("the same request will be refused again"),
        500..=599 => effect.in_doubt(answered(ErrorKind::Server), false),
        301 | 302 | 307 | 308 => {
            answered(ErrorKind::UnexpectedResponse).advice("redirects are not followed: check the base URL")
        }
        _ => effect.in_doubt(answered(ErrorKind::UnexpectedResponse), false),
    }
}

/// A 200 that does not confirm what was asked.
pub(crate) fn unconfirmed(problem: &str, effect: Effect) -> Error {
    let error = Error::new(
        ErrorKind::UnexpectedResponse,
        format!("Didit answered 200, but {problem}"),
    );
    effect.in_doubt(error.with_status(200), false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Verdict;

    #[test]
    fn an_update_that_was_not_confirmed_is_in_doubt_and_a_question_is_not() {
        for (effect, verdict) in [
            (Effect::None, Verdict::NotApplied),
            (Effect::Idempotent, Verdict::Unknown),
            (Effect::Once, Verdict::Unknown),
        ] {
            let error = unconfirmed("for another session", effect);
            assert_eq!(
                (error.kind(), error.verdict()),
                (ErrorKind::UnexpectedResponse, verdict)
            );
            assert_eq!((error.status(), error.is_retryable()), (Some(200), false));
            assert!(
                error
                    .to_string()
                    .starts_with("Didit answered 200, but for another session")
            );
        }
    }

    #[test]
    fn what_must_not_be_repeated_is_never_worth_another_attempt_in_doubt() {
        let retryable = |effect: Effect, may_do_better| {
            let error = Error::new(ErrorKind::Server, "");
            effect.in_doubt(error, may_do_better).is_retryable()
        };
        for effect in [Effect::None, Effect::Idempotent] {
            assert!(retryable(effect, true));
            assert!(!retryable(effect, false));
        }
        assert!(!retryable(Effect::Once, true));
        assert!(!retryable(Effect::Once, false));
    }
}
