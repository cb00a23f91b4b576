//! What goes into the model, and what comes out: plain data.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Applied,
    /// A row in doubt, whose session turned out to have the status.
    Already,
    Refused,
    NotSent,
    Unknown,
}

/// How far a row had come by what the journal says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum RowState {
    #[default]
    Untouched,
    /// It was tried, and certainly not applied.
    NotSent,
    /// It may have been applied; `told` if a run ended with that.
    InDoubt { reported: bool },
    /// `in_doubt` if its session did not exist when it was read back.
    Refused { in_doubt: bool },
    /// `already` if the session had the status when it was read back.
    Applied { already: bool },
}

impl RowState {
    /// Once its request was about to be sent.
    pub fn after_intent(self) -> RowState {
        match self {
            RowState::Applied { .. } => self,
            _ => RowState::InDoubt { reported: false },
        }
    }

    /// Once its result was written. A result that leaves it in doubt says so.
    pub fn after_result(self, outcome: Outcome, in_doubt: bool) -> RowState {
        match outcome {
            _ if matches!(self, RowState::Applied { .. }) => self,
            Outcome::Applied | Outcome::Already => RowState::Applied {
                already: outcome == Outcome::Already,
            },
            Outcome::Refused => RowState::Refused { in_doubt },
            Outcome::NotSent => RowState::NotSent,
            Outcome::Unknown => RowState::InDoubt { reported: true },
        }
    }

    pub fn outcome(self) -> Option<Outcome> {
        match self {
            RowState::Applied { already: false } => Some(Outcome::Applied),
            RowState::Applied { already: true } => Some(Outcome::Already),
            RowState::Refused { .. } => Some(Outcome::Refused),
            RowState::InDoubt { reported: true } => Some(Outcome::Unknown),
            _ => None,
        }
    }
}

/// What a worker is to do next. Before a row is sent, the intent to do so has to be on disk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Task {
    Send(usize),
    Read(usize),
    /// To ask again after that time, or once another worker has an answer.
    Wait(Duration),
    Done,
}

/// What came of a request.
#[derive(Debug)]
pub enum Answer {
    /// The update was confirmed.
    Applied,
    /// The session was read back.
    ReadBack(ReadBack),
    Failed(Failure),
}

#[derive(Debug)]
pub enum ReadBack {
    Wanted,
    /// Approved where Declined is wanted, or the reverse: somebody may have decided so.
    OtherDecision(String),
    Other(String),
}

#[derive(Debug)]
pub struct Failure {
    pub kind: FailureKind,
    /// Whether the update may have been applied.
    pub in_doubt: bool,
    pub reason: String,
    /// The pause that the server asks for.
    pub retry_after: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FailureKind {
    /// Didit refused the update for what it is.
    Refused,
    /// Didit says that there is no such session.
    NoSession,
    /// Didit says that this may not be done, or is not paid for: it may be the row, and it may be the account.
    NotPermitted,
    /// Didit refused the credentials.
    Credentials,
    /// Too many requests.
    RateLimited,
    /// Everything else: it says nothing of the row.
    Other,
}

/// A row's result, to be written into the journal and told.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub row: usize,
    pub outcome: Outcome,
    /// Whether it may have been applied all the same.
    pub in_doubt: bool,
    /// Why it was not applied, or may not have been.
    pub reason: String,
    /// Why it is in doubt: what was said of the update itself.
    pub cause: String,
}

/// What follows from an answer.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// The row ends with this in this run.
    End(Record),
    /// It was not applied and waits for another try. To be written into the journal; `finish` tells it if it comes to that.
    NotYet(Record),
    /// The run ends, and the row is where it was before. To be told, and not written into the journal again.
    Still(Record),
    /// All workers pause, because of this.
    Pause(Duration, String),
}

impl Action {
    pub fn record(self) -> Option<Record> {
        match self {
            Action::End(record) | Action::NotYet(record) | Action::Still(record) => Some(record),
            Action::Pause(..) => None,
        }
    }
}

/// Why a run ends before all its rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    Credentials(String),
    /// Nothing gets through, or only after a longer pause than is waited for.
    Outage(String, Option<Duration>),
    /// The journal cannot be written, or a worker failed.
    Failed(String),
    /// Somebody asked for it.
    Signal,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub applied: usize,
    pub already: usize,
    pub refused: usize,
    pub unknown: usize,
}

/// What rows have come to by the journal.
pub fn counts(rows: impl Iterator<Item = RowState>) -> Counts {
    let mut counts = Counts::default();
    for past in rows {
        match past {
            RowState::InDoubt { .. } => counts.add(Outcome::Unknown),
            past => past.outcome().into_iter().for_each(|outcome| counts.add(outcome)),
        }
    }
    counts
}

impl Counts {
    pub fn add(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Applied => &mut self.applied,
            Outcome::Already => &mut self.already,
            Outcome::Refused => &mut self.refused,
            Outcome::Unknown => &mut self.unknown,
            Outcome::NotSent => return,
        } += 1;
    }

    pub fn ended(&self) -> usize {
        self.applied + self.already + self.refused + self.unknown
    }
}
