//! The plain data that goes into the model and comes out of it.

use std::time::Duration;

use didit::SessionStatus;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Applied,
    /// The session already had the status: no attempt of this batch can have set it.
    Already,
    Refused,
    /// The update was certainly not applied. The row is left for the next run.
    // Earlier versions of the command wrote the alias.
    #[serde(alias = "not_sent")]
    NotApplied,
    Unknown,
}

/// The state of a row according to the journal. The default is a row that was never tried.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowState {
    /// The last result, unless an attempt began after it.
    pub result: Option<Outcome>,
    /// An attempt may have been applied.
    pub in_doubt: bool,
}

impl RowState {
    pub fn is_applied(self) -> bool {
        matches!(self.result, Some(Outcome::Applied | Outcome::Already))
    }

    /// Returns whether an attempt began and the journal does not say how it ended.
    pub fn is_interrupted(self) -> bool {
        self.in_doubt && self.result.is_none()
    }

    /// Returns the state after a journal entry. An intent has no result and leaves the row in doubt. An applied row stays applied.
    pub fn after(self, result: Option<Outcome>, in_doubt: bool) -> RowState {
        let in_doubt = in_doubt || result.is_none();
        match self.is_applied() {
            true => self,
            false => RowState { result, in_doubt },
        }
    }

    /// Returns the outcome of the row, if it was tried.
    pub fn outcome(self) -> Option<Outcome> {
        self.result.or(self.in_doubt.then_some(Outcome::Unknown))
    }
}

/// What a worker does next. Before it sends a row, the intent must be on disk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Task {
    Send(usize),
    Read(usize),
    /// Ask again after this time, or when another worker has an answer.
    Wait(Duration),
    Done,
}

/// How a request ended.
#[derive(Debug)]
pub enum Answer {
    /// Didit confirmed the update.
    Applied,
    /// The session was read back.
    ReadBack(SessionStatus),
    Failed(Failure),
}

#[derive(Debug)]
pub struct Failure {
    pub kind: FailureKind,
    /// Whether the update may have been applied.
    pub in_doubt: bool,
    pub reason: String,
    /// What the failure means for the update, and what to do next. It is printed after the reason.
    pub verdict: String,
    /// The pause that the server asks for.
    pub retry_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FailureKind {
    /// Didit refused this update.
    Refused,
    /// Didit says that the session does not exist.
    NoSession,
    /// Didit says that this is not permitted or not paid for (402, 403). The cause may be the row or the account.
    NotPermitted,
    /// Didit refused the credentials.
    Credentials,
    /// Too many requests.
    RateLimited,
    /// Any other failure. It is not about the row.
    Other,
}

/// The result of a row: it has ended, or an attempt was not applied and will be retried.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub row: usize,
    pub outcome: Outcome,
    /// Whether the update may have been applied.
    pub in_doubt: bool,
    /// Why the update was not applied, or may not have been.
    pub reason: String,
    /// Why the row is in doubt: how the update failed.
    pub cause: String,
    /// Whether the journal already has this result.
    pub journaled: bool,
}

/// Why a run stops before all its rows have ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    Credentials(String),
    /// Requests keep failing, or the server asks for a longer pause than the run accepts.
    Outage(String, Option<Duration>),
    /// The journal cannot be written, or a worker failed.
    Failed(String),
    /// A signal arrived.
    Signal,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counts {
    pub applied: usize,
    pub already: usize,
    pub refused: usize,
    pub unknown: usize,
}

impl FromIterator<Outcome> for Counts {
    fn from_iter<I: IntoIterator<Item = Outcome>>(outcomes: I) -> Counts {
        let mut counts = Counts::default();
        outcomes.into_iter().for_each(|outcome| counts.add(outcome));
        counts
    }
}

impl Counts {
    pub fn add(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Applied => &mut self.applied,
            Outcome::Already => &mut self.already,
            Outcome::Refused => &mut self.refused,
            Outcome::Unknown => &mut self.unknown,
            Outcome::NotApplied => return,
        } += 1;
    }

    pub fn ended(&self) -> usize {
        self.applied + self.already + self.refused + self.unknown
    }
}
