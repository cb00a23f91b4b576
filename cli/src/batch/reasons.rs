//! Why rows have their results, in words.

use std::collections::HashMap;

use didit::{Error, SessionStatus};

use super::result::{Details, RowResult};
use super::rules::{Outcome, RequestKind};
use super::scheduler::{Left, MAX_FAILURES};

/// How the last request failed, for rows without a result. For a row in doubt, how the attempt failed that left it in doubt.
pub struct Reasons(HashMap<usize, Details>);

impl Reasons {
    /// `causes` holds how the attempts of earlier runs failed that left rows in doubt.
    pub fn new(causes: HashMap<usize, String>) -> Reasons {
        let details = |cause| Details {
            cause,
            ..Details::default()
        };
        Reasons(causes.into_iter().map(|(row, cause)| (row, details(cause))).collect())
    }

    pub fn forget(&mut self, row: usize) {
        self.0.remove(&row);
    }

    /// Notes how an attempt failed that may have been applied.
    pub fn note_in_doubt(&mut self, row: usize, error: &Error) {
        let details = Details {
            cause: error.summary(),
            ..Details::default()
        };
        self.0.insert(row, details.with_response(error));
    }

    /// Notes how a request failed after which the row is certainly not applied. Returns that as its explanation.
    pub fn note_not_applied(&mut self, row: usize, error: &Error) -> Details {
        let details = Details::reason(error.to_string()).with_response(error);
        self.0.insert(row, details.clone());
        details
    }

    /// Explains the result of a row whose session was read.
    pub fn explain_read(
        &mut self,
        row: usize,
        result: RowResult,
        found: &SessionStatus,
        was_cut_short: bool,
    ) -> Details {
        let noted = self.0.remove(&row);
        let is = describe(found);
        match result {
            RowResult::Unknown => Details {
                reason: match (found.is_decided(), was_cut_short) {
                    (true, _) => format!(
                        "the session is now {is}; perhaps someone else decided; to overrule that, run with --retry unknown"
                    ),
                    (false, true) => {
                        format!("the session is now {is}; the run ended before it sent the update again")
                    }
                    (false, false) => {
                        format!("the session is now {is}; check it, then run with --retry unknown to resend the row")
                    }
                },
                ..noted.unwrap_or_default()
            },
            RowResult::LeftAlone => Details::reason(format!(
                "the session is {is}: someone has already decided, so --unless-decided left it unchanged"
            )),
            // Printed, because the steps that the person repeats are not necessarily those of the row.
            RowResult::Already if *found == SessionStatus::Resubmitted => {
                Details::reason("the session is already Resubmitted, perhaps with other nodes; nothing was sent")
            }
            _ => Details::default(),
        }
    }

    /// Explains the result of a row whose request failed.
    pub fn explain_failure(
        &mut self,
        row: usize,
        result: RowResult,
        error: &Error,
        request: RequestKind,
        outcome: Outcome,
    ) -> Details {
        let cause = self.0.remove(&row).map_or(String::new(), |noted| noted.cause);
        let was_refused = matches!(outcome, Outcome::SessionRefused | Outcome::NotPermitted);
        let reason = match (result, request) {
            (RowResult::Unknown, _) if !was_refused => too_many_failures(),
            (RowResult::Unknown, RequestKind::Read) => format!("the session cannot be read ({})", error.summary()),
            (RowResult::Unknown, RequestKind::Update) => format!("the update cannot be resent ({})", error.summary()),
            _ if was_refused => error.to_string(),
            _ => format!("{error}; {}", too_many_failures()),
        };
        let cause = if result == RowResult::Unknown {
            cause
        } else {
            String::new()
        };
        Details {
            reason,
            cause,
            ..Details::default()
        }
        .with_response(error)
    }

    /// Notes why the update of a row was not sent.
    pub fn note_not_sent(&mut self, row: usize, problem: &str) {
        self.0.entry(row).or_default().reason = problem.into();
    }

    /// Explains a row without a result at the end of the run. Returns `None` if the run did not reach it.
    pub fn explain_left(&mut self, row: usize, left: Left) -> Option<Details> {
        let noted = self.0.remove(&row);
        let reason = match left {
            Left::NotApplied => return noted,
            Left::InDoubt => "the run ended before it read the session",
            Left::NotChecked { .. } => "unknown since an earlier run; not checked in this one",
        };
        let mut details = noted.unwrap_or_default();
        if details.reason.is_empty() {
            details.reason = reason.into();
        }
        Some(details)
    }
}

fn too_many_failures() -> String {
    format!("left for the next run after {MAX_FAILURES} failures")
}

/// Describes a status. Hides an unknown one, as the library's messages do: the server may have put a secret in it.
fn describe(status: &SessionStatus) -> &str {
    match status {
        SessionStatus::Other(_) => "in another status",
        known => known.as_str(),
    }
}
