//! What a response, or the lack of one, means for its request: the table of the README. Pure.

use crate::error::{Error, ErrorKind, Verdict};
use crate::http::{Failure, Phase};
use crate::update::NewStatus;

/// The purpose of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    FetchToken,
    ReadSession,
    SetStatus(NewStatus),
}

/// What a failed request means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meaning {
    pub(crate) kind: ErrorKind,
    /// Whether the server may have acted on the request.
    pub(crate) in_doubt: bool,
    /// Whether the same request may succeed later.
    pub(crate) may_succeed_later: bool,
}

/// A 200 that does not confirm its request.
pub(crate) const UNCONFIRMED: Meaning = Meaning {
    kind: ErrorKind::UnexpectedResponse,
    in_doubt: true,
    may_succeed_later: false,
};

impl Meaning {
    /// Returns what a response with this status means, unless it is a 200 (docs/didit-api.md §6).
    pub(crate) fn of_status(status: u16) -> Meaning {
        use ErrorKind::{Authentication, Forbidden, NotFound, RateLimited, Rejected, Server, UnexpectedResponse};

        let (kind, in_doubt, may_succeed_later) = match status {
            401 => (Authentication, false, false),
            402 | 403 => (Forbidden, false, false),
            404 => (NotFound, false, false),
            425 => (Rejected, false, true),
            429 => (RateLimited, false, true),
            499 | 501 | 505 => (Server, true, false),
            408 | 500..=599 => (Server, true, true),
            400..=498 => (Rejected, false, false),
            301 | 307 | 308 => (UnexpectedResponse, false, false),
            _ => (UnexpectedResponse, true, false),
        };
        Meaning {
            kind,
            in_doubt,
            may_succeed_later,
        }
    }

    /// Returns what it means that there is no complete response.
    pub(crate) fn of_failure(failure: &Failure) -> Meaning {
        Meaning {
            kind: failure.kind,
            in_doubt: matches!(failure.phase, Phase::Sent | Phase::Receiving),
            may_succeed_later: failure.may_succeed_later,
        }
    }
}

impl Operation {
    /// Returns the error for a request that failed, with its verdict. A call adds up the verdicts of its attempts.
    pub(crate) fn error(self, meaning: Meaning, problem: String, advice: &'static str) -> Error {
        let Meaning {
            kind,
            in_doubt,
            may_succeed_later,
        } = meaning;
        let (verdict, retryable) = match self {
            Operation::SetStatus(_) if !in_doubt => (Verdict::NotApplied, may_succeed_later),
            Operation::SetStatus(status) => (Verdict::Unknown, may_succeed_later && status.is_idempotent()),
            // Only an update can change anything.
            Operation::FetchToken | Operation::ReadSession => (Verdict::NotApplied, may_succeed_later),
        };
        let kind = match self {
            Operation::FetchToken if !kind.is_transient() => ErrorKind::Authentication,
            _ => kind,
        };
        Error::new(kind, verdict, problem).with(|error| {
            error.advice = advice;
            error.retryable = retryable;
        })
    }

    /// Returns the advice that suits the host of the request.
    pub(crate) fn advice(self, for_tokens: &'static str, for_sessions: &'static str) -> &'static str {
        match self {
            Operation::FetchToken => for_tokens,
            Operation::ReadSession | Operation::SetStatus(_) => for_sessions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_means_what_the_table_says() {
        use ErrorKind::{Authentication, Forbidden, NotFound, RateLimited, Rejected, Server, UnexpectedResponse};

        for status in 100..=999 {
            let expected = match status {
                401 => (Authentication, false, false),
                402 | 403 => (Forbidden, false, false),
                404 => (NotFound, false, false),
                408 => (Server, true, true),
                425 => (Rejected, false, true),
                429 => (RateLimited, false, true),
                499 | 501 | 505 => (Server, true, false),
                301 | 307 | 308 => (UnexpectedResponse, false, false),
                _ if status / 100 == 4 => (Rejected, false, false),
                _ if status / 100 == 5 => (Server, true, true),
                _ => (UnexpectedResponse, true, false),
            };
            let Meaning {
                kind,
                in_doubt,
                may_succeed_later,
            } = Meaning::of_status(status);
            assert_eq!((kind, in_doubt, may_succeed_later), expected, "{status}");
        }
    }

    #[test]
    fn only_an_update_can_be_in_doubt_and_only_an_idempotent_one_is_retried_then() {
        use Verdict::{NotApplied, Unknown};

        for (in_doubt, later, others, idempotent, once) in [
            (
                false,
                false,
                (NotApplied, false),
                (NotApplied, false),
                (NotApplied, false),
            ),
            (false, true, (NotApplied, true), (NotApplied, true), (NotApplied, true)),
            (true, true, (NotApplied, true), (Unknown, true), (Unknown, false)),
            (true, false, (NotApplied, false), (Unknown, false), (Unknown, false)),
        ] {
            for (operation, expected) in [
                (Operation::FetchToken, others),
                (Operation::ReadSession, others),
                (Operation::SetStatus(NewStatus::Approved), idempotent),
                (Operation::SetStatus(NewStatus::Declined), idempotent),
                (Operation::SetStatus(NewStatus::Resubmitted), once),
            ] {
                let meaning = Meaning {
                    kind: ErrorKind::Server,
                    in_doubt,
                    may_succeed_later: later,
                };
                let error = operation.error(meaning, String::new(), "");
                let actual = (error.verdict(), error.is_retryable());
                assert_eq!(actual, expected, "{meaning:?} {operation:?}");
            }
        }
    }

    #[test]
    fn a_token_request_that_fails_for_good_is_an_authentication_error() {
        for (status, kind) in [
            (400, ErrorKind::Authentication),
            (404, ErrorKind::Authentication),
            (302, ErrorKind::Authentication),
            (429, ErrorKind::RateLimited),
            (503, ErrorKind::Server),
        ] {
            let error = Operation::FetchToken.error(Meaning::of_status(status), String::new(), "");
            assert_eq!(error.kind(), kind, "{status}");
        }
    }
}
