//! What goes into the model, and what comes out: plain data.

use std::time::Duration;

use didit::SessionStatus;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Applied,
    /// The session has the status, and no attempt of this batch can have set it.
    Already,
    Refused,
    /// Certainly not applied, and left for the next run.
    // The alias is what earlier versions of the command wrote.
    #[serde(alias = "not_sent")]
    NotApplied,
    Unknown,
}

/// What the journal says of a row. The default is a row that was never tried.
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

    /// An attempt began, and nothing says how it ended.
    pub fn is_interrupted(self) -> bool {
        self.in_doubt && self.result.is_none()
    }

    /// After a result was written, or an intent, which has none and leaves the row in doubt. An applied row stays so.
    pub fn after(self, result: Option<Outcome>, in_doubt: bool) -> RowState {
        let in_doubt = in_doubt || result.is_none();
        match self.is_applied() {
            true => self,
            false => RowState { result, in_doubt },
        }
    }

    /// What became of the row, if it was tried.
    pub fn outcome(self) -> Option<Outcome> {
        self.result.or(self.in_doubt.then_some(Outcome::Unknown))
    }
}

/// What a worker is to do next. Before a row is sent, the intent to do so has to be on disk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Task {
    Send(usize),
    Read(usize),
    /// Ask again after this time, or once another worker has an answer.
    Wait(Duration),
    Done,
}

/// How a request ended.
#[derive(Debug)]
pub enum Answer {
    /// The update was confirmed.
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
    /// What that means for the update, and what to do about it; it follows the reason.
    pub verdict: String,
    /// The pause that the server asks for.
    pub retry_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FailureKind {
    /// Didit refused this update.
    Refused,
    /// Didit says that there is no such session.
    NoSession,
    /// Didit says that this is not permitted or not paid for (402, 403), which may be about the row or about the account.
    NotPermitted,
    /// Didit refused the credentials.
    Credentials,
    /// Too many requests.
    RateLimited,
    /// Everything else. It is not about the row.
    Other,
}

/// The result of a row: an end, or a try that changed nothing and will be repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub row: usize,
    pub outcome: Outcome,
    /// Whether it may have been applied all the same.
    pub in_doubt: bool,
    /// Why it was not applied, or may not have been.
    pub reason: String,
    /// Why it is in doubt: how the update itself failed.
    pub cause: String,
    /// Whether the journal has it already.
    pub journaled: bool,
}

/// Why a run ends before all its rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    Credentials(String),
    /// Nothing gets through, or only after a longer pause than is waited for.
    Outage(String, Option<Duration>),
    /// The journal cannot be written, or a worker failed.
    Failed(String),
    /// A signal asked for it.
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
