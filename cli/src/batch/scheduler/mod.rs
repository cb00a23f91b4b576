//! What goes out next, and when a run pauses or stops. Pure: events and the time since the run began come in, tasks and results
//! come out. What a response means for its row is decided in `rules`.
//!
//! - First the rows go out that a killed run left in doubt, then the untouched ones in file order, then those that an earlier
//!   run tried, least recently tried first.
//! - A row that failed waits its own back-off (1, 2, 4, … 30 s). Rows whose wait is over take turns with the others.
//! - Ten failures of a row outside an outage leave it for the next run.
//! - Eight failures in a row, a failure of every row that is left, or a requested pause, open the circuit: see `outage`.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use didit::{NewStatus, SessionStatus};

use super::history::{LastEntry, RowHistory};
use super::outage::{AfterFailure, Circuit};
use super::pace::Pace;
use super::result::RowResult::{self, NotApplied, Unknown};
use super::rules::{Action, Outcome, RequestKind, RowFacts, after_read, after_request};

/// A row that fails this many times while others succeed is left for the next run.
pub const MAX_FAILURES: u8 = 10;

const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// How long a worker waits for another worker's response. A response ends the wait early.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

pub struct Settings {
    /// The highest number of updates per minute.
    pub updates: u32,
    /// The highest number of reads per minute.
    pub reads: u32,
    pub max_outage: Duration,
    pub retry_unknown: bool,
    pub retry_refused: bool,
    pub unless_decided: bool,
    /// Another process may have replaced the access token, so the first refusal of a token does not stop the run.
    pub has_access_token: bool,
}

/// What a worker does next. Before it sends an update, the intent must be on disk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Task {
    Update(usize),
    /// Read the session. The response says whether the same worker then sends the update.
    Read(usize),
    /// Ask again after this time, or when another worker has a response.
    Wait(Duration),
    Done,
}

/// What a response leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// The worker that read the session sends the update now.
    Update,
    /// The row was certainly not applied, and waits.
    NotApplied,
    /// The row waits, and is in doubt or has not been sent.
    Wait,
    /// The row has this result, and this run does not try it again.
    Report(RowResult),
}

/// Why a run stops before it has tried all its rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stop {
    /// Didit refused the credentials.
    Credentials,
    /// The TLS handshake or the proxy was refused.
    Connection,
    Outage,
    /// The server asks for a longer pause than the run accepts.
    LongPause(Duration),
    /// The journal cannot be written.
    Journal,
    Signal,
}

/// What is known about a row without a result at the end of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Left {
    /// It was certainly not applied, or never sent.
    NotApplied,
    /// This run tried the row, and it is in doubt.
    InDoubt,
    /// An earlier run left the row in doubt, and may have reported it as unknown. This run did not try it.
    NotChecked { is_reported: bool },
}

#[derive(Clone, Copy)]
struct Row {
    facts: RowFacts,
    /// Whether the last run that tried the row reported its result, unlike a killed run.
    is_reported: bool,
    /// Whether a request of this run has begun.
    is_tried: bool,
    /// Whether the row is done, or this run has reported its result.
    has_result: bool,
    /// How many requests failed outside an outage.
    failures: u8,
}

struct InFlight {
    request: RequestKind,
    since: Duration,
    /// The request began after Didit had refused an access token.
    follows_refused_token: bool,
}

pub struct Scheduler {
    rows: Vec<Row>,
    /// The rows that this run has not tried, the next one first.
    untried: VecDeque<usize>,
    /// The rows that wait, each with the time when its wait is over.
    waiting: BTreeSet<(Duration, usize)>,
    in_flight: HashMap<usize, InFlight>,
    /// Whether the last row that went out had waited.
    was_turn_of_waiting: bool,
    unless_decided: bool,
    has_access_token: bool,
    /// Didit refused an access token, and has answered no update since.
    is_token_refused: bool,
    circuit: Circuit,
    /// A pause that has just begun.
    new_pause: Option<Duration>,
    updates: Pace,
    reads: Pace,
    stop: Option<Stop>,
}

impl Scheduler {
    pub fn new(settings: &Settings, history: &[RowHistory], wanted: impl Fn(usize) -> NewStatus) -> Scheduler {
        let row = |(row, RowHistory { last, .. }): (usize, &RowHistory)| Row {
            facts: RowFacts {
                wanted: wanted(row),
                in_doubt: last.is_in_doubt(),
                // Nobody has seen a row that a killed run left in doubt.
                retry_unknown: settings.retry_unknown && *last == LastEntry::Result(Unknown),
            },
            is_reported: *last != LastEntry::Intent,
            is_tried: false,
            has_result: last.final_result(settings.retry_refused).is_some(),
            failures: 0,
        };
        let rows: Vec<Row> = history.iter().enumerate().map(row).collect();
        let mut untried: Vec<usize> = (0..rows.len()).filter(|row| !rows[*row].has_result).collect();
        // Those that were tried last come last, so every run makes progress.
        untried.sort_unstable_by_key(|row| match history[*row].last {
            LastEntry::Intent => (0, history[*row].place),
            LastEntry::None => (1, *row as u64),
            LastEntry::Result(_) => (2, history[*row].place),
        });
        Scheduler {
            rows,
            untried: untried.into(),
            waiting: BTreeSet::new(),
            in_flight: HashMap::new(),
            was_turn_of_waiting: false,
            unless_decided: settings.unless_decided,
            has_access_token: settings.has_access_token,
            is_token_refused: false,
            circuit: Circuit::new(settings.max_outage),
            new_pause: None,
            updates: Pace::new(settings.updates),
            reads: Pace::new(settings.reads),
            stop: None,
        }
    }

    pub fn stopped(&self) -> Option<Stop> {
        self.stop
    }

    /// Stops the run. Only the first reason counts. Requests in flight are finished.
    pub fn stop(&mut self, why: Stop) {
        self.stop.get_or_insert(why);
    }

    /// Returns how many requests are in flight, and since when the last one of them is.
    pub fn in_flight(&self) -> (usize, Duration) {
        let last = self.in_flight.values().map(|in_flight| in_flight.since).max();
        (self.in_flight.len(), last.unwrap_or_default())
    }

    /// Returns what is left of a pause of all workers.
    pub fn pause(&self, now: Duration) -> Option<Duration> {
        self.circuit.remaining_pause(now)
    }

    /// Returns a pause of all workers that has just begun. Each pause is returned once.
    pub fn take_new_pause(&mut self) -> Option<Duration> {
        self.new_pause.take()
    }

    /// Returns what a worker does next.
    pub fn next(&mut self, now: Duration) -> Task {
        if self.stop.is_some() {
            return Task::Done;
        }
        if let Some(pause) = self.circuit.remaining_pause(now) {
            return Task::Wait(pause);
        }
        let is_open = self.circuit.is_open();
        // An open circuit lets one request through at a time.
        if is_open && !self.in_flight.is_empty() {
            return Task::Wait(POLL_INTERVAL);
        }
        let row = if is_open { self.probe() } else { self.turn(now) };
        let Some(row) = row else {
            // A row in flight may have to wait.
            return match self.waiting.first() {
                Some((due, _)) => Task::Wait(*due - now),
                None if self.in_flight.is_empty() => Task::Done,
                None => Task::Wait(POLL_INTERVAL),
            };
        };
        let facts = self.rows[row].facts;
        let reads = facts.in_doubt || facts.wanted == NewStatus::Resubmitted || self.unless_decided;
        // A row is read only when its update may follow at once.
        let wait = match reads {
            true => self.updates.wait(now).max(self.reads.wait(now)),
            false => self.updates.wait(now),
        };
        if !wait.is_zero() {
            return Task::Wait(wait);
        }
        self.updates.count(now);
        if reads {
            self.reads.count(now);
        }
        self.was_turn_of_waiting = !self.remove_untried(row);
        if self.was_turn_of_waiting {
            self.waiting.retain(|(_, other)| *other != row);
        }
        let request = if reads { RequestKind::Read } else { RequestKind::Update };
        self.begin(now, row, request);
        match request {
            RequestKind::Read => Task::Read(row),
            RequestKind::Update => Task::Update(row),
        }
    }

    /// Returns the row whose turn it is.
    fn turn(&self, now: Duration) -> Option<usize> {
        let waited = self.waiting.first().filter(|(due, _)| *due <= now).map(|(_, row)| *row);
        let untried = self.untried.front().copied();
        match self.was_turn_of_waiting {
            true => untried.or(waited),
            false => waited.or(untried),
        }
    }

    /// Returns the row that shows whether Didit answers updates again. If the response to a Resubmitted is lost, a person has to
    /// check it. Of the others, those come first that this run has not tried, or that failed the longest time ago.
    fn probe(&self) -> Option<usize> {
        let mut rows = self.untried.iter().chain(self.waiting.iter().map(|(_, row)| row));
        let is_repeatable = |row: &&usize| self.rows[**row].facts.wanted != NewStatus::Resubmitted;
        let any = rows.clone().next();
        rows.find(is_repeatable).or(any).copied()
    }

    fn remove_untried(&mut self, row: usize) -> bool {
        if self.untried.front() == Some(&row) {
            return self.untried.pop_front().is_some();
        }
        let place = self.untried.iter().position(|other| *other == row);
        place.is_some_and(|place| self.untried.remove(place).is_some())
    }

    fn begin(&mut self, now: Duration, row: usize, request: RequestKind) {
        let follows_refused_token = self.is_token_refused;
        let in_flight = InFlight {
            request,
            since: now,
            follows_refused_token,
        };
        self.in_flight.insert(row, in_flight);
        self.rows[row].is_tried = true;
    }

    /// Handles a row whose update was not sent, because its intent could not be written.
    pub fn not_journaled(&mut self, row: usize) {
        self.in_flight.remove(&row);
        self.stop(Stop::Journal);
    }

    /// Handles a read that found the session.
    pub fn found(&mut self, now: Duration, row: usize, status: &SessionStatus) -> Step {
        self.in_flight.remove(&row);
        let action = after_read(self.rows[row].facts, status, self.unless_decided);
        if action != Action::Send {
            return self.apply(now, row, action);
        }
        if self.stop.is_some() {
            return match self.rows[row].facts.in_doubt {
                true => self.apply(now, row, Action::Report(Unknown)),
                false => Step::Wait,
            };
        }
        // Someone may decide during a pause, so the row is read again after it.
        let others_probe = self.circuit.is_open() && !self.in_flight.is_empty();
        if self.pause(now).is_some() || others_probe {
            self.waiting.insert((now, row));
            return Step::Wait;
        }
        self.begin(now, row, RequestKind::Update);
        Step::Update
    }

    /// Handles any other end of a request. `asked` is the pause that the server asks for.
    pub fn ended(&mut self, now: Duration, row: usize, outcome: Outcome, asked: Option<Duration>) -> Step {
        let request = self.in_flight.remove(&row);
        let was_open = self.circuit.is_open();
        let action = match after_request(outcome, self.rows[row].facts.in_doubt) {
            Action::StopRun if self.allows_another_token(outcome, request.as_ref()) => Action::Wait,
            action => action,
        };
        match (action, outcome) {
            (Action::StopRun, Outcome::CredentialsRefused) => self.stop(Stop::Credentials),
            (Action::StopRun, _) => self.stop(Stop::Connection),
            (_, Outcome::Confirmed) => self.didit_answered(),
            (_, Outcome::SessionRefused) if is(&request, RequestKind::Update) => self.didit_answered(),
            (_, Outcome::SessionRefused) => {}
            (_, Outcome::RateLimited | Outcome::CredentialsRefused) => self.pause_after_failure(now, asked, true),
            _ => {
                // If every row that is left has failed, no other row can show whether the row is to blame.
                let waits = matches!(action, Action::Wait | Action::WaitInDoubt);
                let is_last = waits && self.in_flight.is_empty() && self.turn(now).is_none();
                self.pause_after_failure(now, asked, is_last);
            }
        }
        // In an outage, the row is not to blame.
        if !was_open {
            self.rows[row].failures += 1;
        }
        self.apply(now, row, action)
    }

    /// Didit answers updates, so the run needs no pause, and the access token is good.
    fn didit_answered(&mut self) {
        self.circuit.close();
        self.is_token_refused = false;
    }

    /// Returns whether a refused access token does not stop the run: no request has been sent with its replacement yet.
    fn allows_another_token(&mut self, outcome: Outcome, request: Option<&InFlight>) -> bool {
        self.is_token_refused |= outcome == Outcome::CredentialsRefused;
        outcome == Outcome::CredentialsRefused
            && self.has_access_token
            && request.is_some_and(|request| !request.follows_refused_token)
    }

    /// Counts a failure, which may make all workers pause.
    fn pause_after_failure(&mut self, now: Duration, asked: Option<Duration>, at_once: bool) {
        match self.circuit.failed(now, asked, at_once) {
            AfterFailure::Continue => {}
            AfterFailure::Pause(pause) => self.new_pause = Some(pause).filter(|pause| !pause.is_zero()),
            AfterFailure::GiveUp => self.stop(Stop::Outage),
            AfterFailure::PauseTooLong(pause) => self.stop(Stop::LongPause(pause)),
        }
    }

    /// Does what the rules say about a row.
    fn apply(&mut self, now: Duration, row: usize, action: Action) -> Step {
        let state = &mut self.rows[row];
        if action == Action::WaitInDoubt {
            (state.facts.in_doubt, state.facts.retry_unknown) = (true, false);
        }
        let in_doubt = state.facts.in_doubt;
        let result = match action {
            Action::Report(result) => result,
            _ if state.failures >= MAX_FAILURES && in_doubt => Unknown,
            _ if state.failures >= MAX_FAILURES => NotApplied,
            _ => {
                self.waiting.insert((now + backoff(state.failures), row));
                return if in_doubt { Step::Wait } else { Step::NotApplied };
            }
        };
        state.has_result = true;
        Step::Report(result)
    }

    /// Returns what is known about a row at the end of the run, if it has no result.
    pub fn left(&self, row: usize) -> Option<Left> {
        let row = self.rows[row];
        let left = match (row.facts.in_doubt, row.is_tried) {
            (false, _) => Left::NotApplied,
            (true, true) => Left::InDoubt,
            (true, false) => Left::NotChecked {
                is_reported: row.is_reported,
            },
        };
        Some(left).filter(|_| !row.has_result)
    }
}

fn is(in_flight: &Option<InFlight>, request: RequestKind) -> bool {
    in_flight.as_ref().is_some_and(|in_flight| in_flight.request == request)
}

/// Returns how long a row waits after this many failures.
fn backoff(failures: u8) -> Duration {
    MAX_BACKOFF.min(Duration::from_secs(1 << failures.saturating_sub(1).min(5)))
}

#[cfg(test)]
mod tests;
