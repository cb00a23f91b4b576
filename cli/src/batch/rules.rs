//! What a response means for its row: the two tables of docs/batch.md, as one `match` each.
//!
//! A row that was certainly not applied is as if it had never been sent. A row that may have been applied (in doubt) is read
//! before anything else happens to it.

use didit::{Error, ErrorKind, NewStatus, SessionStatus, Verdict};

use super::result::RowResult::{self, Already, Applied, LeftAlone, NotApplied, Refused, Unknown};
use crate::exit::is_by_didit;

/// What happens to a row next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Action {
    /// The update is sent.
    Send,
    /// The row waits for its next attempt. What was known about it stays true.
    Wait,
    /// The row is in doubt from now on, and waits for its next attempt, which begins with a read.
    WaitInDoubt,
    /// The row has this result. This run does not try it again.
    Report(RowResult),
    StopRun,
}

use Action::{Report, Send, StopRun, Wait, WaitInDoubt};

/// What the rules know about a row.
#[derive(Clone, Copy, Debug)]
pub struct RowFacts {
    pub wanted: NewStatus,
    /// Whether an attempt may have been applied.
    pub in_doubt: bool,
    /// `--retry unknown` selects this row, and no attempt of this run is in doubt.
    pub retry_unknown: bool,
}

/// The first table: what happens after the session was read.
pub fn after_read(row: RowFacts, found: &SessionStatus, unless_decided: bool) -> Action {
    match (
        Found::of(found, row.wanted),
        row.in_doubt,
        row.retry_unknown,
        unless_decided,
    ) {
        (Found::Wanted, false, _, _) => Report(Already),
        (Found::Wanted, true, _, _) => Report(Applied),

        (Found::OtherDecision, false, _, false) => Send,
        (Found::OtherDecision, false, _, true) => Report(LeftAlone),
        (Found::OtherDecision, true, false, _) => Report(Unknown),
        (Found::OtherDecision, true, true, false) => Send,
        (Found::OtherDecision, true, true, true) => Report(LeftAlone),

        (Found::NoDecision, false, _, _) => Send,
        (Found::NoDecision, true, true, _) => Send,
        (Found::NoDecision, true, false, _) if row.wanted == NewStatus::Resubmitted => Report(Unknown),
        (Found::NoDecision, true, false, _) => Send,
    }
}

/// The second table: what happens after a request ended, apart from a read that found the session.
pub fn after_request(outcome: Outcome, in_doubt: bool) -> Action {
    match (outcome, in_doubt) {
        (Outcome::Confirmed, _) => Report(Applied),

        (Outcome::SessionRefused, false) => Report(Refused),
        (Outcome::SessionRefused, true) => Report(Unknown),

        (Outcome::NotPermitted, false) => Report(NotApplied),
        (Outcome::NotPermitted, true) => Report(Unknown),

        (Outcome::CredentialsRefused, _) => StopRun,
        (Outcome::ConnectionRefused, _) => StopRun,

        (Outcome::RateLimited, _) => Wait,
        (Outcome::NotApplied, _) => Wait,

        (Outcome::Unclear, _) => WaitInDoubt,
    }
}

/// The status that a read found, compared with the wanted one.
enum Found {
    Wanted,
    OtherDecision,
    NoDecision,
}

impl Found {
    fn of(status: &SessionStatus, wanted: NewStatus) -> Found {
        match (*status == wanted, status.is_decided()) {
            (true, _) => Found::Wanted,
            (false, true) => Found::OtherDecision,
            (false, false) => Found::NoDecision,
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// Didit confirmed the update.
    Confirmed,
    /// Didit refused to update this session, or does not know it.
    SessionRefused,
    /// Didit asks for credits or permissions (402, 403). The reason may be the row or the account.
    NotPermitted,
    /// Didit refused the credentials.
    CredentialsRefused,
    /// The TLS handshake or the proxy was refused, and so would every later one be.
    ConnectionRefused,
    /// Too many requests (429).
    RateLimited,
    /// The update was certainly not applied, or a read failed. The reason is not the row.
    NotApplied,
    /// There is no clear response to an update: it may have been applied.
    Unclear,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RequestKind {
    Read,
    Update,
}

impl Outcome {
    /// Returns how a request ended that failed. Only Didit's own words decide about a row, the credentials or the account. A 413
    /// is about the size of the request, whoever sends it.
    pub fn of(error: &Error, request: RequestKind) -> Outcome {
        match (error.kind(), error.status()) {
            _ if error.verdict() == Verdict::Unknown => Outcome::Unclear,
            (ErrorKind::Network, None) if !error.is_retryable() => Outcome::ConnectionRefused,
            (ErrorKind::RateLimited, _) => Outcome::RateLimited,
            (ErrorKind::Rejected, Some(413)) if request == RequestKind::Update => Outcome::SessionRefused,
            _ if error.is_retryable() || !is_by_didit(error) => Outcome::NotApplied,
            (ErrorKind::Authentication, _) => Outcome::CredentialsRefused,
            (_, Some(402 | 403)) => Outcome::NotPermitted,
            (ErrorKind::NotFound, _) => Outcome::SessionRefused,
            (ErrorKind::Rejected, _) if request == RequestKind::Update => Outcome::SessionRefused,
            _ => Outcome::NotApplied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [NewStatus; 3] = [NewStatus::Approved, NewStatus::Declined, NewStatus::Resubmitted];

    /// The options `--retry unknown` and `--unless-decided`.
    const OPTIONS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

    fn decided(wanted: NewStatus) -> impl Iterator<Item = SessionStatus> {
        let decisions = [
            SessionStatus::Approved,
            SessionStatus::Declined,
            SessionStatus::Resubmitted,
        ];
        decisions.into_iter().filter(move |status| *status != wanted)
    }

    fn undecided() -> Vec<SessionStatus> {
        use SessionStatus::{Abandoned, AwaitingUser, Expired, InProgress, InReview, KycExpired, NotStarted};
        let other = SessionStatus::from("On Hold");
        vec![
            NotStarted,
            InProgress,
            InReview,
            Abandoned,
            Expired,
            KycExpired,
            AwaitingUser,
            other,
        ]
    }

    fn read(wanted: NewStatus, in_doubt: bool, options: (bool, bool), found: &SessionStatus) -> Action {
        let (retry_unknown, unless_decided) = options;
        // `--retry unknown` selects only rows in doubt.
        let row = RowFacts {
            wanted,
            in_doubt,
            retry_unknown: in_doubt && retry_unknown,
        };
        after_read(row, found, unless_decided)
    }

    #[test]
    fn a_session_with_the_wanted_status_is_already_set_or_was_applied_if_the_row_is_in_doubt() {
        for wanted in ALL {
            for options in OPTIONS {
                let found = SessionStatus::from(wanted);
                assert_eq!(read(wanted, false, options, &found), Report(Already));
                assert_eq!(read(wanted, true, options, &found), Report(Applied));
            }
        }
    }

    #[test]
    fn another_decision_is_overwritten_unless_the_row_is_in_doubt_or_an_option_forbids_it() {
        for wanted in ALL {
            for found in decided(wanted) {
                let of = |in_doubt, options| read(wanted, in_doubt, options, &found);
                assert_eq!(of(false, (false, false)), Send, "{wanted} over {found}");
                assert_eq!(of(false, (false, true)), Report(LeftAlone), "{wanted} over {found}");
                assert_eq!(of(true, (false, false)), Report(Unknown), "{wanted} over {found}");
                assert_eq!(of(true, (false, true)), Report(Unknown), "{wanted} over {found}");
                assert_eq!(of(true, (true, false)), Send, "{wanted} over {found}");
                assert_eq!(of(true, (true, true)), Report(LeftAlone), "{wanted} over {found}");
            }
        }
    }

    #[test]
    fn a_session_without_a_decision_is_updated_but_a_resubmission_in_doubt_only_with_retry_unknown() {
        for found in undecided() {
            for wanted in ALL {
                for options in OPTIONS {
                    assert_eq!(read(wanted, false, options, &found), Send, "{wanted}, {found}");
                    let retried = wanted != NewStatus::Resubmitted || options.0;
                    let expected = if retried { Send } else { Report(Unknown) };
                    assert_eq!(read(wanted, true, options, &found), expected, "{wanted}, {found}");
                }
            }
        }
    }

    #[test]
    fn the_end_of_a_request_decides_what_happens_to_its_row() {
        let table = [
            (Outcome::Confirmed, Report(Applied), Report(Applied)),
            (Outcome::SessionRefused, Report(Refused), Report(Unknown)),
            (Outcome::NotPermitted, Report(NotApplied), Report(Unknown)),
            (Outcome::CredentialsRefused, StopRun, StopRun),
            (Outcome::ConnectionRefused, StopRun, StopRun),
            (Outcome::RateLimited, Wait, Wait),
            (Outcome::NotApplied, Wait, Wait),
            (Outcome::Unclear, WaitInDoubt, WaitInDoubt),
        ];
        for (outcome, not_in_doubt, in_doubt) in table {
            assert_eq!(after_request(outcome, false), not_in_doubt, "{outcome:?}");
            assert_eq!(after_request(outcome, true), in_doubt, "{outcome:?}");
        }
    }

    fn failed(kind: ErrorKind, status: impl Into<Option<u16>>, message: Option<&str>) -> Error {
        let error = Error::new(kind, Verdict::NotApplied, "it failed");
        let error = status.into().map_or(error.clone(), |status| error.with_status(status));
        message.map_or(error.clone(), |message| error.with_message(message))
    }

    #[test]
    fn an_update_that_may_have_been_applied_ends_unclear_whatever_the_response() {
        for status in [200, 302, 404, 413, 429, 499, 503] {
            let error = Error::new(ErrorKind::Server, Verdict::Unknown, "it failed").with_status(status);
            for error in [error.clone(), error.with_message("Busy.")] {
                assert_eq!(Outcome::of(&error, RequestKind::Update), Outcome::Unclear, "{status}");
            }
        }
    }

    #[test]
    fn only_didits_words_decide_about_a_row_the_credentials_or_credits() {
        use ErrorKind::{Authentication, Forbidden, NotFound, Rejected};
        for (kind, status, update, read) in [
            (Rejected, 400, Outcome::SessionRefused, Outcome::NotApplied),
            (
                Authentication,
                401,
                Outcome::CredentialsRefused,
                Outcome::CredentialsRefused,
            ),
            (Forbidden, 402, Outcome::NotPermitted, Outcome::NotPermitted),
            (Forbidden, 403, Outcome::NotPermitted, Outcome::NotPermitted),
            (NotFound, 404, Outcome::SessionRefused, Outcome::SessionRefused),
            (Rejected, 407, Outcome::NotApplied, Outcome::NotApplied),
            (Rejected, 409, Outcome::SessionRefused, Outcome::NotApplied),
            (Rejected, 422, Outcome::SessionRefused, Outcome::NotApplied),
        ] {
            let of = |message, request| Outcome::of(&failed(kind, status, message), request);
            assert_eq!(of(Some("No."), RequestKind::Update), update, "{status}");
            assert_eq!(of(Some("No."), RequestKind::Read), read, "{status}");
            // A gateway's page.
            assert_eq!(of(None, RequestKind::Update), Outcome::NotApplied, "{status}");
            assert_eq!(of(None, RequestKind::Read), Outcome::NotApplied, "{status}");
        }
    }

    #[test]
    fn a_413_refuses_the_update_whoever_says_so() {
        for message in [None, Some("Too large.")] {
            let error = failed(ErrorKind::Rejected, 413, message);
            assert_eq!(Outcome::of(&error, RequestKind::Update), Outcome::SessionRefused);
            assert_eq!(Outcome::of(&error, RequestKind::Read), Outcome::NotApplied);
        }
        // It was about the request for an access token.
        let error = failed(ErrorKind::Authentication, 413, None);
        assert_eq!(Outcome::of(&error, RequestKind::Update), Outcome::NotApplied);
    }

    #[test]
    fn a_429_limits_the_rate_whoever_says_so() {
        for message in [None, Some("Slow down.")] {
            let error = failed(ErrorKind::RateLimited, 429, message);
            for request in [RequestKind::Update, RequestKind::Read] {
                assert_eq!(Outcome::of(&error, request), Outcome::RateLimited);
            }
        }
    }

    #[test]
    fn only_a_network_error_that_no_retry_can_help_is_a_refused_connection() {
        for request in [RequestKind::Update, RequestKind::Read] {
            let of = |error: Error| Outcome::of(&error, request);
            let network = failed(ErrorKind::Network, None, None);
            assert_eq!(of(network.clone().with_retryable(false)), Outcome::ConnectionRefused);
            assert_eq!(of(network), Outcome::NotApplied);
            // Of a gateway.
            assert_eq!(
                of(failed(ErrorKind::Network, 403, None).with_retryable(false)),
                Outcome::NotApplied
            );
            assert_eq!(
                of(failed(ErrorKind::Timeout, None, None).with_retryable(false)),
                Outcome::NotApplied
            );
            assert_eq!(
                of(failed(ErrorKind::UnexpectedResponse, 301, None)),
                Outcome::NotApplied
            );
        }
    }

    #[test]
    fn a_response_that_a_retry_can_help_decides_nothing() {
        let too_early = failed(ErrorKind::Rejected, 425, Some("Too early.")).with_retryable(true);
        assert_eq!(Outcome::of(&too_early, RequestKind::Update), Outcome::NotApplied);
        let read = failed(ErrorKind::Server, 503, Some("Busy."));
        assert_eq!(Outcome::of(&read, RequestKind::Read), Outcome::NotApplied);
    }
}
