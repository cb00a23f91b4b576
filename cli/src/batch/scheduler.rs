//! What goes out next, and what ends a row or a run. Pure: events and the time come in, tasks and records come out.
//!
//! 1. Untouched rows go out in file order, at most `--rate` per minute.
//! 2. Didit's success, or its refusal of that session, ends a row.
//! 3. Any other failure is not about the row; the row waits behind all others. 402 and 403 leave the row for the next run at
//!    once (a row in doubt as unknown).
//! 4. A failure that may have changed something is a doubt: the first time in a run, the session is read before the next
//!    untouched row goes out.
//! 5. Before any second send, and before Resubmitted, the session is read: the wanted status ends the row as applied (already,
//!    if no recorded attempt may have been applied), somebody else's decision makes a second send unknown, otherwise it is sent.
//! 6. A Resubmitted in doubt is never sent again by itself.
//! 7. Ten failures while others get through: left for the next run.
//! 8. Eight failures in a row, or a requested pause, open the circuit: all workers pause (1, 2, 4, … 30 s), then one request at
//!    a time until an update gets through.
//! 9. After `--max-outage` of that, a longer requested pause, or refused credentials, the run stops.
//! 10. Ctrl-C finishes requests in flight and reads doubts back, saying how many and how long; a second one stops at once. The
//!     next run takes doubts first, then untouched rows, then the rest.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use didit::{NewStatus, SessionStatus};

use super::outage::{Change, Circuit, Time};
use super::pace::Pace;
use super::result::{Answer, Counts, Failure, FailureKind, Outcome, Record, RowState, Stop, Task};

/// A row that fails this many times while others succeed is left for the next run.
const MAX_FAILURES: u8 = 10;

/// How long a worker waits for another worker's answer. An answer ends the wait early.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The cause of a doubt if a run ended before it received the answer.
pub const NO_ANSWER: &str = "the run ended before the answer arrived";

/// Printed, because the steps that the person repeats are not necessarily those of the row.
const ALREADY_RESUBMITTED: &str = "the session is already Resubmitted, perhaps with other nodes; nothing was sent";

pub struct Settings {
    /// The highest number of updates per minute.
    pub writes: u32,
    /// The highest number of reads per minute.
    pub reads: u32,
    pub max_outage: Duration,
    pub retry_unknown: bool,
    pub retry_refused: bool,
}

#[derive(Clone, Copy)]
struct Row {
    stage: Stage,
    wanted: NewStatus,
    /// The row was sent or failed, in this run or an earlier one.
    tried: bool,
    /// An attempt may have been applied.
    in_doubt: bool,
    /// An attempt of this run may have been applied.
    doubted: bool,
    /// The result of an earlier run, until this run has tried the row.
    earlier_result: Option<Outcome>,
    /// `--retry` asks to resend this row once, even if its session has another status.
    overridden: bool,
    failures: u8,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    /// Neither in flight nor ended.
    Waiting,
    Sending,
    Reading,
    Ended,
}

pub struct Model {
    rows: Vec<Row>,
    /// The rows that wait for their turn, the next one first.
    waiting: VecDeque<usize>,
    /// Requests that go out before any waiting row: the read of a row in doubt, or the update of a row that was just read. A
    /// pause moves these rows back to the head of `waiting`.
    begun: VecDeque<Task>,
    /// Why the update failed, for rows that have not ended.
    causes: HashMap<usize, String>,
    in_flight: usize,
    circuit: Circuit,
    /// A pause that has just begun, and its reason.
    new_pause: Option<(Duration, String)>,
    writes: Pace,
    reads: Pace,
    stop: Option<Stop>,
    counts: Counts,
}

impl Model {
    /// `history` holds the state of each row in the journal and the position of its last entry. Rows that were tried last come
    /// last, so that every run makes progress. `causes` holds why the updates failed, for rows that have not ended.
    pub fn new(
        settings: &Settings,
        history: &[(RowState, u64)],
        wanted: impl Fn(usize) -> NewStatus,
        causes: HashMap<usize, String>,
    ) -> Model {
        let row = |(row, (state, _)): (usize, &(RowState, u64))| {
            let outcome = state.outcome();
            let overridden = match outcome {
                Some(Outcome::Unknown) => settings.retry_unknown,
                Some(Outcome::Refused) => settings.retry_refused,
                _ => false,
            };
            Row {
                stage: match outcome {
                    Some(Outcome::Refused) if !overridden => Stage::Ended,
                    Some(Outcome::Applied | Outcome::Already) => Stage::Ended,
                    _ => Stage::Waiting,
                },
                wanted: wanted(row),
                tried: outcome.is_some(),
                in_doubt: state.in_doubt,
                doubted: false,
                earlier_result: outcome.filter(|outcome| *outcome != Outcome::NotApplied),
                overridden,
                failures: 0,
            }
        };
        let rows: Vec<Row> = history.iter().enumerate().map(row).collect();
        let ended = rows.iter().filter(|row| row.stage == Stage::Ended);
        let counts = ended.filter_map(|row| row.earlier_result).collect();
        let mut waiting: Vec<usize> = (0..rows.len()).filter(|row| rows[*row].stage != Stage::Ended).collect();
        waiting.sort_by_key(|row| match history[*row] {
            (state, place) if state.is_interrupted() => (0, place),
            _ if !rows[*row].tried => (1, 0),
            (_, place) => (2, place),
        });
        Model {
            rows,
            waiting: waiting.into(),
            begun: VecDeque::new(),
            causes,
            in_flight: 0,
            circuit: Circuit::new(settings.max_outage),
            new_pause: None,
            writes: Pace::new(settings.writes),
            reads: Pace::new(settings.reads),
            stop: None,
            counts,
        }
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn stopped(&self) -> Option<&Stop> {
        self.stop.as_ref()
    }

    /// Returns the number of rows that were never tried.
    pub fn untouched(&self) -> usize {
        let untouched = |row: &&Row| !row.tried && row.stage != Stage::Ended;
        self.rows.iter().filter(untouched).count()
    }

    /// Returns what is left of a pause of all workers.
    pub fn pause(&self, now: Time) -> Option<Duration> {
        self.circuit.remaining_pause(now)
    }

    /// Returns what a run still does after a signal: the number of requests in flight, the number of rows in doubt that it reads
    /// back after them, and roughly how long that takes.
    pub fn rest(&self, now: Time) -> (usize, usize, Duration) {
        let doubts = if self.circuit.is_open() { 0 } else { self.begun.len() };
        (self.in_flight, doubts, self.reads.estimate(now, doubts))
    }

    /// Returns a pause of all workers that has just begun and its reason. Each pause is returned once.
    pub fn take_new_pause(&mut self) -> Option<(Duration, String)> {
        self.new_pause.take()
    }

    /// Stops the run. Only the first reason counts. After a signal, the run still reads back the rows that it left in doubt.
    pub fn stop(&mut self, why: Stop) {
        if self.stop.is_none() {
            let left = |row: &Row| row.stage == Stage::Waiting && row.in_doubt && row.earlier_result.is_none();
            let left = (0..self.rows.len()).filter(|row| left(&self.rows[*row]));
            self.begun = left.map(Task::Read).collect();
            self.stop = Some(why);
        }
    }

    /// Adapts the pace of updates or reads to the rate limit that an answer reports.
    pub fn heed_rate_limit(&mut self, now: Time, write: bool, limit: u64, remaining: u64, reset: Option<Duration>) {
        let pace = if write { &mut self.writes } else { &mut self.reads };
        pace.heed_rate_limit(now, limit, remaining, reset);
    }

    /// Returns what a worker does next.
    pub fn next(&mut self, now: Time) -> Task {
        let open = self.circuit.is_open();
        match (&self.stop, self.circuit.remaining_pause(now)) {
            (Some(Stop::Signal), None) if !open => {}
            (Some(_), _) => return Task::Done,
            (None, Some(pause)) => {
                // A status that was read before a pause is too old after it: someone may decide in the meantime.
                while let Some(Task::Send(row) | Task::Read(row)) = self.begun.pop_back() {
                    self.waiting.push_front(row);
                }
                return Task::Wait(pause);
            }
            // An open circuit lets one request through at a time.
            (None, None) if open && self.in_flight > 0 => return Task::Wait(POLL_INTERVAL),
            (None, None) => {}
        }
        let index = if open { self.probe() } else { 0 };
        let (task, is_turn) = match (self.begun.front(), self.waiting.get(index)) {
            (Some(task), _) => (*task, false),
            (None, Some(row)) if self.stop.is_none() => match &self.rows[*row] {
                // Without a read before it, Resubmitted could not be told from an earlier one: Didit refuses a second one.
                state if state.tried || state.wanted == NewStatus::Resubmitted => (Task::Read(*row), true),
                _ => (Task::Send(*row), true),
            },
            // A row in flight may need a retry.
            (None, None) if self.stop.is_none() && self.in_flight > 0 => return Task::Wait(POLL_INTERVAL),
            (None, _) => return Task::Done,
        };
        // A row is read only when it may also be sent. It is sent right after the read, so the status is never old.
        let read = matches!(task, Task::Read(_));
        let write = (read || is_turn) && self.stop.is_none();
        let mut paces = [read.then_some(&mut self.reads), write.then_some(&mut self.writes)];
        let wait = paces.iter().flatten().map(|pace| pace.wait(now)).max();
        if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
            return Task::Wait(wait);
        }
        paces.iter_mut().flatten().for_each(|pace| pace.count(now));
        match is_turn {
            true => drop(self.waiting.remove(index)),
            false => drop(self.begun.pop_front()),
        }
        self.in_flight += 1;
        match task {
            Task::Send(row) => {
                let row = &mut self.rows[row];
                (row.stage, row.tried, row.earlier_result, row.overridden) = (Stage::Sending, true, None, false);
            }
            Task::Read(row) => self.rows[row].stage = Stage::Reading,
            _ => {}
        }
        task
    }

    /// Returns the position of the row to send while the circuit is open. Only an update can close the circuit, so this prefers
    /// a row that needs no read and may be repeated.
    fn probe(&self) -> usize {
        let suits = |row: &Row| !row.tried && row.wanted != NewStatus::Resubmitted;
        self.waiting.iter().position(|row| suits(&self.rows[*row])).unwrap_or(0)
    }

    /// Handles a row that was not sent because its intent could not be written.
    pub fn not_journaled(&mut self, row: usize, reason: String) {
        self.request_ended(row);
        self.causes.entry(row).or_insert_with(|| reason.clone());
        self.stop(Stop::Failed(reason));
    }

    /// Handles the answer to a `Send` or a `Read`. Returns the row's result if the answer decides it.
    pub fn answered(&mut self, now: Time, row: usize, answer: Answer) -> Option<Record> {
        let read = self.rows[row].stage == Stage::Reading;
        self.request_ended(row);
        let in_doubt = self.rows[row].in_doubt;
        let failure = match answer {
            Answer::Applied => {
                self.circuit.got_through();
                return Some(self.end(row, Outcome::Applied, ""));
            }
            Answer::ReadBack(found) => return self.read_back(row, &found),
            Answer::Failed(failure) => failure,
        };
        let reason = &failure.reason;
        let refusal = match self.causes.get(&row) {
            Some(cause) if read => format!("{cause}; {reason}"),
            _ => [reason.as_str(), &failure.verdict].concat(),
        };
        let refused = matches!(failure.kind, FailureKind::Refused | FailureKind::NoSession);
        if refused && !read {
            self.circuit.got_through();
        }
        match failure.kind {
            FailureKind::NoSession if in_doubt => Some(self.end_in_doubt(row, reason, read)),
            FailureKind::NoSession => Some(self.end(row, Outcome::Refused, &refusal)),
            FailureKind::Refused if !read && !in_doubt => Some(self.end(row, Outcome::Refused, &refusal)),
            FailureKind::Refused if !read => {
                // Didit may refuse it because an earlier attempt was applied.
                self.rows[row].failures = MAX_FAILURES;
                self.causes.insert(row, failure.reason);
                self.begun.push_back(Task::Read(row));
                None
            }
            _ => self.try_again(now, row, &failure, read),
        }
    }

    fn request_ended(&mut self, row: usize) {
        self.in_flight -= 1;
        self.rows[row].stage = Stage::Waiting;
    }

    fn read_back(&mut self, row: usize, found: &SessionStatus) -> Option<Record> {
        let state = self.rows[row];
        if *found == state.wanted {
            let (outcome, reason) = match (state.in_doubt, state.wanted) {
                (true, _) => (Outcome::Applied, ""),
                (false, NewStatus::Resubmitted) => (Outcome::Already, ALREADY_RESUBMITTED),
                (false, _) => (Outcome::Already, ""),
            };
            return Some(self.end(row, outcome, reason));
        }
        let decided = found.is_decided();
        let repeatable = state.wanted != NewStatus::Resubmitted || !state.in_doubt;
        let repeats = repeatable && !decided && state.failures < MAX_FAILURES;
        if !state.tried || state.overridden || repeats {
            if self.stop.is_none() {
                self.begun.push_front(Task::Send(row));
            }
            return None;
        }
        let advice = match decided {
            true => "someone else may have decided this; use --retry unknown only to override that decision",
            false => "check it, then run again with --retry unknown to resend the row",
        };
        Some(self.end(row, Outcome::Unknown, &format!("the session is now {found}; {advice}")))
    }

    /// Handles a failure that is not about the row.
    fn try_again(&mut self, now: Time, row: usize, failure: &Failure, read: bool) -> Option<Record> {
        let open = self.circuit.is_open();
        self.failure(now, failure);
        let state = &mut self.rows[row];
        (state.tried, state.earlier_result) = (true, None);
        let first_doubt = failure.in_doubt && !state.doubted;
        state.doubted |= failure.in_doubt;
        state.in_doubt |= failure.in_doubt;
        // While the circuit is open, the outage is to blame and not the row.
        state.failures += u8::from(!open);
        // The only refusals that arrive here are those of a read.
        let at_once = matches!(failure.kind, FailureKind::NotPermitted | FailureKind::Refused);
        let (in_doubt, left) = (state.in_doubt, at_once || state.failures >= MAX_FAILURES);
        if in_doubt && left && (read || at_once) {
            return Some(self.end_in_doubt(row, &failure.reason, read));
        }
        // A retry or a read that changed nothing does not settle an earlier attempt.
        if failure.in_doubt || !in_doubt {
            let cause = [failure.reason.as_str(), &failure.verdict].concat();
            match read && !left {
                true => drop(self.causes.entry(row).or_insert(cause)),
                false => drop(self.causes.insert(row, cause)),
            }
        }
        if !read && (first_doubt || in_doubt && (left || self.stop.is_some())) {
            self.begun.push_back(Task::Read(row));
        } else if !left {
            // A session that keeps failing does not delay the other rows.
            self.waiting.push_back(row);
        }
        (!in_doubt).then(|| self.record(row, Outcome::NotApplied, ""))
    }

    /// Applies a failure to all workers: it may open the circuit or stop the run.
    fn failure(&mut self, now: Time, failure: &Failure) {
        let reason = || failure.reason.clone();
        if failure.kind == FailureKind::Credentials {
            return self.stop(Stop::Credentials(reason() + &failure.verdict));
        }
        let at_once = failure.kind == FailureKind::RateLimited;
        match self.circuit.failed(now, failure.retry_after, at_once) {
            Change::None => {}
            Change::Opened(pause) => self.new_pause = Some((pause, reason())),
            Change::GiveUp => self.stop(Stop::Outage(reason(), failure.retry_after)),
        }
    }

    /// Ends a row in doubt, because Didit refused to read its session or the retry.
    fn end_in_doubt(&mut self, row: usize, refusal: &str, read: bool) -> Record {
        let what = if read { "read back" } else { "resent" };
        self.end(row, Outcome::Unknown, &format!("it cannot be {what} ({refusal})"))
    }

    fn end(&mut self, row: usize, outcome: Outcome, reason: &str) -> Record {
        let record = self.record(row, outcome, reason);
        self.causes.remove(&row);
        self.rows[row].stage = Stage::Ended;
        self.counts.add(outcome);
        record
    }

    /// Returns the result of a row. Its reason is why the update failed, followed by `reason`.
    fn record(&self, row: usize, outcome: Outcome, reason: &str) -> Record {
        let in_doubt = self.rows[row].in_doubt && outcome == Outcome::Unknown;
        // A row that is unknown only because of another decision is not in doubt, so it has no cause.
        let has_cause = in_doubt || outcome == Outcome::NotApplied;
        let cause = self.causes.get(&row).filter(|_| has_cause).cloned().unwrap_or_default();
        let mut reasons = vec![cause.as_str(), reason];
        reasons.retain(|text| !text.is_empty());
        let reason = reasons.join("; ");
        Record {
            row,
            outcome,
            in_doubt,
            reason,
            cause,
            journaled: false,
        }
    }

    /// Ends the run. Returns the results of the rows that were tried, in this run or an earlier one, and have not ended.
    pub fn finish(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        for row in 0..self.rows.len() {
            let state = &mut self.rows[row];
            if !state.tried || state.stage == Stage::Ended {
                continue;
            }
            // A worker that failed may have sent it.
            if state.stage == Stage::Sending {
                state.in_doubt = true;
                self.causes.insert(row, NO_ANSWER.into());
            }
            let (earlier_result, in_doubt) = (state.earlier_result, state.in_doubt);
            let mut record = match earlier_result {
                Some(outcome) => self.end(
                    row,
                    outcome,
                    "reported by an earlier run; this run did not read it back",
                ),
                None if in_doubt => self.end(row, Outcome::Unknown, "the run ended before it read the session back"),
                None => self.record(row, Outcome::NotApplied, ""),
            };
            record.journaled = earlier_result.is_some() || !in_doubt;
            records.push(record);
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APPROVED: NewStatus = NewStatus::Approved;
    const RESUBMITTED: NewStatus = NewStatus::Resubmitted;

    fn model(rows: &[(NewStatus, RowState)], change: impl FnOnce(&mut Settings)) -> Model {
        let mut settings = Settings {
            writes: 1_000_000,
            reads: 1_000_000,
            max_outage: Duration::from_secs(60),
            retry_unknown: false,
            retry_refused: false,
        };
        change(&mut settings);
        let history: Vec<(RowState, u64)> = rows.iter().map(|(_, state)| (*state, 0)).collect();
        Model::new(&settings, &history, |row| rows[row].0, HashMap::new())
    }

    const UNTOUCHED: RowState = RowState {
        result: None,
        in_doubt: false,
    };
    /// The run was killed after it wrote an intent.
    const INTERRUPTED: RowState = RowState {
        result: None,
        in_doubt: true,
    };
    const NOT_APPLIED: RowState = state(Outcome::NotApplied, false);
    const UNKNOWN: RowState = state(Outcome::Unknown, true);

    const fn state(outcome: Outcome, in_doubt: bool) -> RowState {
        RowState {
            result: Some(outcome),
            in_doubt,
        }
    }

    fn at(seconds: u64) -> Time {
        Duration::from_secs(seconds)
    }

    fn failed(kind: FailureKind, in_doubt: bool) -> Answer {
        Answer::Failed(Failure {
            kind,
            in_doubt,
            reason: "why".into(),
            verdict: if in_doubt { "; unknown" } else { "; nothing was changed" }.into(),
            retry_after: None,
        })
    }

    fn other(in_doubt: bool) -> Answer {
        failed(FailureKind::Other, in_doubt)
    }

    fn in_review() -> Answer {
        Answer::ReadBack(SessionStatus::InReview)
    }

    /// Returns the next task, once the pace allows it.
    fn next(model: &mut Model, now: Time) -> Task {
        match model.next(now) {
            Task::Wait(wait) if wait < Duration::from_millis(500) => next(model, now + wait),
            task => task,
        }
    }

    /// Sends a row that was not tried before. Resubmitted is read first.
    fn begin(model: &mut Model, now: Time, row: usize) {
        let mut task = next(model, now);
        if model.rows[row].wanted == RESUBMITTED {
            assert_eq!(task, Task::Read(row));
            model.answered(now, row, Answer::ReadBack(SessionStatus::InReview));
            task = next(model, now);
        }
        assert_eq!(task, Task::Send(row));
    }

    /// Fails this many rows, one after the other.
    fn fail(model: &mut Model, rows: usize) {
        for row in 0..rows {
            begin(model, at(0), row);
            model.answered(at(0), row, other(false));
        }
    }

    /// Returns the outcome of a row that has ended.
    fn outcome(record: Option<Record>) -> Option<Outcome> {
        let outcome = record.map(|record| record.outcome);
        outcome.filter(|outcome| *outcome != Outcome::NotApplied)
    }

    #[test]
    fn one_successful_update_lets_all_workers_continue() {
        let mut model = model(&[(APPROVED, UNTOUCHED); 20], |_| {});
        fail(&mut model, 8);
        assert_eq!(next(&mut model, at(0)), Task::Wait(at(1)));
        assert_eq!(next(&mut model, at(1)), Task::Send(8));
        assert_eq!(
            next(&mut model, at(1)),
            Task::Wait(POLL_INTERVAL),
            "one probe at a time"
        );
        model.answered(at(1), 8, Answer::Applied);
        assert_eq!(
            [next(&mut model, at(1)), next(&mut model, at(1))],
            [Task::Send(9), Task::Send(10)]
        );
    }

    #[test]
    fn a_successful_read_does_not_close_the_circuit() {
        let mut model = model(&[(RESUBMITTED, UNTOUCHED); 20], |_| {});
        fail(&mut model, 8);
        begin(&mut model, at(1), 8);
        model.answered(at(1), 8, other(true));
        assert_eq!(next(&mut model, at(3)), Task::Read(8));
        model.answered(at(3), 8, Answer::ReadBack(SessionStatus::InReview));
        begin(&mut model, at(3), 9);
        assert_eq!(next(&mut model, at(3)), Task::Wait(POLL_INTERVAL));
    }

    #[test]
    fn resubmitted_is_only_sent_to_a_session_that_has_another_status() {
        use SessionStatus::{Approved, Declined, InReview, Resubmitted};
        for found in [Approved, Declined, InReview] {
            let mut model = model(&[(RESUBMITTED, UNTOUCHED)], |_| {});
            assert_eq!(next(&mut model, at(0)), Task::Read(0));
            assert_eq!(model.answered(at(0), 0, Answer::ReadBack(found)), None);
            assert_eq!(model.untouched(), 1);
            assert_eq!(next(&mut model, at(0)), Task::Send(0));
            model.answered(at(0), 0, other(true));
            assert_eq!(next(&mut model, at(0)), Task::Read(0));
            // So this is the row's own resubmission.
            let record = model.answered(at(0), 0, Answer::ReadBack(Resubmitted)).unwrap();
            assert_eq!((record.outcome, record.reason.as_str()), (Outcome::Applied, ""));
        }
        for (state, retry) in [
            (UNTOUCHED, false),
            (NOT_APPLIED, false),
            (state(Outcome::Refused, false), true),
        ] {
            let mut model = model(&[(RESUBMITTED, state)], |settings| settings.retry_refused = retry);
            assert_eq!(next(&mut model, at(0)), Task::Read(0));
            let record = model.answered(at(0), 0, Answer::ReadBack(Resubmitted)).unwrap();
            assert_eq!(
                (record.outcome, record.reason.as_str()),
                (Outcome::Already, ALREADY_RESUBMITTED)
            );
            assert_eq!(next(&mut model, at(0)), Task::Done);
        }
    }

    #[test]
    fn a_row_that_was_only_read_counts_as_untouched() {
        let mut model = model(&[(RESUBMITTED, UNTOUCHED); 2], |_| {});
        assert_eq!(next(&mut model, at(0)), Task::Read(0));
        model.answered(at(0), 0, Answer::ReadBack(SessionStatus::InReview));
        model.stop(Stop::Signal);
        assert_eq!(next(&mut model, at(0)), Task::Done);
        assert_eq!((model.finish(), model.untouched()), (vec![], 2));
    }

    #[test]
    fn the_probe_is_preferably_a_row_that_may_be_repeated() {
        let mut rows = vec![(RESUBMITTED, UNTOUCHED); 20];
        rows[15].0 = APPROVED;
        let mut model = model(&rows, |_| {});
        fail(&mut model, 8);
        assert_eq!(next(&mut model, at(1)), Task::Send(15));
    }

    #[test]
    fn a_row_that_fails_ten_times_while_others_succeed_is_left_for_the_next_run() {
        let mut model = model(&[(APPROVED, UNTOUCHED); 60], |_| {});
        let mut tries = [0; 60];
        let mut failures = 0;
        loop {
            match next(&mut model, at(0)) {
                Task::Send(row) => {
                    tries[row] += 1;
                    // Every sixth succeeds, but never the first.
                    failures = if failures == 5 && row != 0 { 0 } else { failures + 1 };
                    let answer = if failures == 0 { Answer::Applied } else { other(false) };
                    model.answered(at(0), row, answer);
                }
                Task::Read(row) => drop(model.answered(at(0), row, in_review())),
                _ => break,
            }
        }
        assert_eq!(tries[0], 10);
        assert_eq!(tries.iter().max(), Some(&10));
        assert_eq!(next(&mut model, at(0)), Task::Done);
        assert_eq!(model.stopped(), None);
    }

    #[test]
    fn failures_during_an_outage_do_not_count_against_a_row() {
        let mut model = model(&[(APPROVED, UNTOUCHED)], |_| {});
        let (mut now, mut tries) = (at(0), 0);
        while model.stopped().is_none() {
            match next(&mut model, now) {
                Task::Send(0) => {
                    tries += 1;
                    model.answered(now, 0, other(false));
                }
                Task::Read(0) => drop(model.answered(now, 0, in_review())),
                Task::Wait(wait) => now += wait,
                task => panic!("{task:?}"),
            }
            assert!(tries < 100, "the outage has no end");
        }
        assert_eq!((tries, now.as_secs()), (8 + 6, 60));
    }

    #[test]
    fn a_row_that_was_tried_before_is_read_before_it_is_resent() {
        use SessionStatus::{Approved, Declined, InReview, Resubmitted};
        let refused = state(Outcome::Refused, false);
        for (state, found, retry, outcome) in [
            (NOT_APPLIED, InReview, false, None),
            (NOT_APPLIED, Declined, false, Some(Outcome::Unknown)),
            (NOT_APPLIED, Resubmitted, false, Some(Outcome::Unknown)),
            (NOT_APPLIED, Approved, false, Some(Outcome::Already)),
            // `--retry` resends only rows that were reported as unknown or refused.
            (NOT_APPLIED, Declined, true, Some(Outcome::Unknown)),
            (UNKNOWN, InReview, false, None),
            (UNKNOWN, Declined, false, Some(Outcome::Unknown)),
            (UNKNOWN, Resubmitted, false, Some(Outcome::Unknown)),
            (UNKNOWN, Declined, true, None),
            // A row that may have been applied counts as applied, even if an earlier run sent it.
            (UNKNOWN, Approved, true, Some(Outcome::Applied)),
            (INTERRUPTED, Approved, false, Some(Outcome::Applied)),
            // An earlier run found someone else's decision.
            (state(Outcome::Unknown, false), InReview, false, None),
            (state(Outcome::Unknown, false), Approved, false, Some(Outcome::Already)),
            (refused, Declined, true, None),
            (refused, Approved, true, Some(Outcome::Already)),
        ] {
            let mut model = model(&[(APPROVED, state)], |settings| {
                (settings.retry_unknown, settings.retry_refused) = (retry, retry);
            });
            assert_eq!(next(&mut model, at(0)), Task::Read(0));
            let record = model.answered(at(0), 0, Answer::ReadBack(found.clone()));
            assert_eq!(
                record.map(|record| record.outcome),
                outcome,
                "{state:?}, {found}, {retry}"
            );
            let after = if outcome.is_some() { Task::Done } else { Task::Send(0) };
            assert_eq!(next(&mut model, at(0)), after);
        }
    }

    #[test]
    fn a_decision_made_between_two_attempts_is_not_overwritten() {
        for wanted in [APPROVED, RESUBMITTED] {
            let mut model = model(&[(wanted, UNTOUCHED)], |_| {});
            begin(&mut model, at(0), 0);
            let record = model.answered(at(0), 0, other(false));
            assert_eq!(record.map(|record| record.outcome), Some(Outcome::NotApplied));
            assert_eq!(next(&mut model, at(0)), Task::Read(0));
            let record = model
                .answered(at(0), 0, Answer::ReadBack(SessionStatus::Declined))
                .unwrap();
            assert_eq!((record.outcome, record.in_doubt), (Outcome::Unknown, false));
            assert_eq!(
                record.reason,
                "the session is now Declined; someone else may have decided this; use --retry unknown only to override \
                 that decision"
            );
            assert_eq!(record.cause, "", "a later run would report it as the cause of a doubt");
            assert_eq!(next(&mut model, at(0)), Task::Done);
        }
    }

    #[test]
    fn only_an_answered_update_ends_a_series_of_failures() {
        for refused_by_read in [false, true] {
            let mut rows = vec![(APPROVED, UNTOUCHED); 20];
            rows[19].1 = INTERRUPTED;
            let mut model = model(&rows, |_| {});
            assert_eq!(next(&mut model, at(0)), Task::Read(19));
            fail(&mut model, 7);
            if refused_by_read {
                model.answered(at(0), 19, failed(FailureKind::NoSession, false));
                assert_eq!(next(&mut model, at(0)), Task::Send(7));
            } else {
                assert_eq!(next(&mut model, at(0)), Task::Send(7));
                let record = model.answered(at(0), 7, failed(FailureKind::Refused, false)).unwrap();
                assert_eq!(
                    (record.outcome, record.reason.as_str()),
                    (Outcome::Refused, "why; nothing was changed")
                );
                assert_eq!(next(&mut model, at(0)), Task::Send(8));
            }
            let row = if refused_by_read { 7 } else { 8 };
            model.answered(at(0), row, other(false));
            assert_eq!(model.pause(at(0)).is_some(), refused_by_read);
        }
    }

    #[test]
    fn a_refused_row_reports_the_refusal_and_no_earlier_failure() {
        let mut model = model(&[(APPROVED, UNTOUCHED)], |_| {});
        assert_eq!(next(&mut model, at(0)), Task::Send(0));
        model.answered(at(0), 0, other(false));
        assert_eq!(next(&mut model, at(0)), Task::Read(0));
        model.answered(at(0), 0, in_review());
        assert_eq!(next(&mut model, at(0)), Task::Send(0));
        let Answer::Failed(mut failure) = failed(FailureKind::NoSession, false) else {
            unreachable!()
        };
        failure.reason = "no such session".into();
        let record = model.answered(at(0), 0, Answer::Failed(failure)).unwrap();
        assert_eq!(record.reason, "no such session; nothing was changed");
    }

    #[test]
    fn a_refused_read_does_not_decide_the_row() {
        let states = [NOT_APPLIED, UNKNOWN];
        for (state, outcome) in states.into_iter().zip([Outcome::NotApplied, Outcome::Unknown]) {
            let mut model = model(&[(APPROVED, state)], |_| {});
            assert_eq!(next(&mut model, at(0)), Task::Read(0));
            let record = model.answered(at(0), 0, failed(FailureKind::Refused, false));
            assert_eq!(record.map(|record| record.outcome), Some(outcome));
        }
    }

    #[test]
    fn the_reason_is_why_the_update_failed_and_not_why_the_read_failed() {
        let read_failed = || {
            let Answer::Failed(mut failure) = other(false) else {
                unreachable!()
            };
            (failure.reason, failure.verdict) = ("no read".into(), String::new());
            Answer::Failed(failure)
        };
        for (in_doubt, expected) in [(false, "why; nothing was changed"), (true, "why; unknown")] {
            let mut model = model(&[(APPROVED, UNTOUCHED)], |_| {});
            assert_eq!(next(&mut model, at(0)), Task::Send(0));
            let record = model.answered(at(0), 0, other(in_doubt));
            let cause = record.map(|record| record.cause);
            assert_eq!(
                cause,
                (!in_doubt).then(|| expected.to_owned()),
                "a later run reports it too"
            );
            assert_eq!(next(&mut model, at(0)), Task::Read(0));
            model.answered(at(0), 0, read_failed());
            model.stop(Stop::Signal);
            let record = model.finish().remove(0);
            assert!(record.reason.starts_with(expected), "{record:?}");
            assert!(!record.reason.contains("no read"), "{record:?}");
        }
        // A row of an earlier run reports only that the read failed.
        for (outcome, in_doubt, expected) in [
            (Outcome::Refused, false, "no read"),
            (Outcome::Unknown, true, "the run ended before it read the session back"),
        ] {
            let mut model = model(&[(APPROVED, state(outcome, in_doubt))], |settings| {
                settings.retry_refused = true;
            });
            assert_eq!(next(&mut model, at(0)), Task::Read(0));
            model.answered(at(0), 0, read_failed());
            model.stop(Stop::Signal);
            assert_eq!(model.finish().remove(0).reason, expected);
        }
    }

    #[test]
    fn a_row_that_someone_else_set_counts_as_already_set_unless_it_was_in_doubt() {
        for (in_doubt, outcome) in [(false, Outcome::Already), (true, Outcome::Applied)] {
            let mut model = model(&[(APPROVED, UNTOUCHED)], |_| {});
            assert_eq!(next(&mut model, at(0)), Task::Send(0));
            model.answered(at(0), 0, other(in_doubt));
            assert_eq!(next(&mut model, at(0)), Task::Read(0));
            let record = model.answered(at(0), 0, Answer::ReadBack(SessionStatus::Approved));
            assert_eq!(record.map(|record| record.outcome), Some(outcome));
        }
    }

    #[test]
    fn tried_rows_follow_the_untouched_ones_and_are_sent_right_after_their_read() {
        let rows = [(APPROVED, UNKNOWN), (APPROVED, NOT_APPLIED), (APPROVED, UNTOUCHED)];
        let mut model = model(&rows, |_| {});
        let mut order = Vec::new();
        // Reads are so slow that the first status would be too old if all rows were read before the first is sent.
        for now in [0, 8, 8, 16, 16].map(at) {
            let task = next(&mut model, now);
            match task {
                Task::Read(row) => drop(model.answered(now, row, in_review())),
                Task::Send(row) => drop(model.answered(now, row, Answer::Applied)),
                _ => {}
            }
            order.push(task);
        }
        assert_eq!(
            order,
            [
                Task::Send(2),
                Task::Read(0),
                Task::Send(0),
                Task::Read(1),
                Task::Send(1)
            ]
        );
    }

    #[test]
    fn a_stop_reports_requests_in_flight_and_rows_in_doubt_and_how_long_they_take() {
        let mut model = model(&[(APPROVED, UNTOUCHED); 20], |settings| settings.reads = 60);
        for row in 0..5 {
            assert_eq!(next(&mut model, at(0)), Task::Send(row));
        }
        for row in 0..3 {
            model.answered(at(0), row, other(true));
        }
        model.stop(Stop::Signal);
        assert_eq!(model.rest(at(0)), (2, 3, at(2)));
        assert_eq!(next(&mut model, at(0)), Task::Read(0));
        assert_eq!(model.rest(at(0)), (3, 2, at(2)));
    }

    #[test]
    fn a_stop_during_an_outage_waits_for_nothing() {
        let mut model = model(&[(RESUBMITTED, UNTOUCHED); 20], |_| {});
        for row in 0..8 {
            begin(&mut model, at(0), row);
            model.answered(at(0), row, other(true));
            if row < 7 {
                assert_eq!(next(&mut model, at(0)), Task::Read(row));
                model.answered(at(0), row, Answer::ReadBack(SessionStatus::Resubmitted));
            }
        }
        model.stop(Stop::Signal);
        assert_eq!(model.rest(at(5)), (0, 0, at(0)));
        assert_eq!(next(&mut model, at(5)), Task::Done);
    }

    #[test]
    fn a_row_is_sent_right_after_its_read_and_read_again_after_a_pause() {
        let rows = [(RESUBMITTED, UNKNOWN), (APPROVED, UNTOUCHED)];
        let mut model = model(&rows, |settings| {
            (settings.retry_unknown, settings.writes, settings.max_outage) = (true, 1, at(600));
        });
        assert_eq!(next(&mut model, at(0)), Task::Send(1));
        assert_eq!(
            next(&mut model, at(0)),
            Task::Wait(at(60)),
            "the row may not be sent yet"
        );
        for now in [at(60), at(120)] {
            assert_eq!(next(&mut model, now), Task::Read(0));
            assert!(
                model
                    .answered(now, 0, Answer::ReadBack(SessionStatus::InReview))
                    .is_none()
            );
            if now == at(60) {
                model.answered(now, 1, failed(FailureKind::RateLimited, false));
                assert_eq!(next(&mut model, now), Task::Wait(at(1)));
            }
        }
        assert_eq!(next(&mut model, at(120)), Task::Send(0));
        model.answered(at(120), 0, other(true));
        assert_eq!(next(&mut model, at(120)), Task::Wait(at(2)));
        // `--retry` resends the row only once.
        assert_eq!(next(&mut model, at(180)), Task::Read(0));
        let record = model.answered(at(180), 0, Answer::ReadBack(SessionStatus::InReview));
        assert_eq!(outcome(record), Some(Outcome::Unknown));
    }

    #[test]
    fn a_row_without_permission_is_left_for_the_next_run_at_any_position() {
        for row in [0, 1, 2] {
            let mut model = model(&[(APPROVED, UNTOUCHED); 3], |_| {});
            for sent in 0..3 {
                assert_eq!(next(&mut model, at(0)), Task::Send(sent));
                let answer = match sent == row {
                    true => failed(FailureKind::NotPermitted, false),
                    false => Answer::Applied,
                };
                let record = model.answered(at(0), sent, answer).unwrap();
                assert_eq!(record.outcome == Outcome::NotApplied, sent == row);
            }
            assert_eq!(next(&mut model, at(0)), Task::Done);
            let record = model.finish().remove(0);
            assert_eq!((record.row, record.outcome), (row, Outcome::NotApplied));
            assert_eq!(record.reason, "why; nothing was changed");
        }
    }

    #[test]
    fn missing_permission_counts_as_a_failure_and_refuses_no_row() {
        let mut model = model(&[(APPROVED, UNTOUCHED); 20], |settings| settings.max_outage = at(2));
        let mut now = at(0);
        let mut sent = 0;
        loop {
            match next(&mut model, now) {
                Task::Send(row) => {
                    sent += 1;
                    let record = model.answered(now, row, failed(FailureKind::NotPermitted, false));
                    assert_eq!(record.unwrap().outcome, Outcome::NotApplied);
                }
                Task::Wait(wait) => now += wait,
                task => break assert_eq!(task, Task::Done),
            }
            assert!(sent < 100, "the outage has no end");
        }
        // Eight failures open the circuit, and one probe follows each pause.
        assert_eq!((sent, now), (8 + 2, at(2)));
        assert!(matches!(model.stopped(), Some(Stop::Outage(..))));
        assert_eq!(model.counts().ended(), 0);
    }

    #[test]
    fn without_permission_a_row_in_doubt_is_unknown_and_any_other_is_not_applied() {
        let not_permitted = || failed(FailureKind::NotPermitted, false);
        for (state, outcome) in [(INTERRUPTED, Outcome::Unknown), (NOT_APPLIED, Outcome::NotApplied)] {
            for read in [true, false] {
                let mut model = model(&[(APPROVED, state)], |_| {});
                assert_eq!(next(&mut model, at(0)), Task::Read(0));
                if !read {
                    assert_eq!(model.answered(at(0), 0, in_review()), None);
                    assert_eq!(next(&mut model, at(0)), Task::Send(0));
                }
                let record = model.answered(at(0), 0, not_permitted()).unwrap();
                assert_eq!((record.outcome, record.in_doubt), (outcome, state.in_doubt));
                assert!(
                    !(state.in_doubt && record.reason.contains("nothing was changed")),
                    "{record:?}"
                );
                assert_eq!(next(&mut model, at(0)), Task::Done);
            }
        }
    }

    #[test]
    fn a_first_doubt_is_read_before_the_next_untouched_row_and_a_later_doubt_after_them_all() {
        let mut model = model(&[(APPROVED, UNTOUCHED); 3], |_| {});
        let mut order = Vec::new();
        for _ in 0..5 {
            let task = next(&mut model, at(0));
            match task {
                Task::Send(0) => drop(model.answered(at(0), 0, other(true))),
                Task::Send(row) => drop(model.answered(at(0), row, Answer::Applied)),
                Task::Read(row) => drop(model.answered(at(0), row, in_review())),
                _ => {}
            }
            order.push(task);
        }
        let again = [
            Task::Send(0),
            Task::Read(0),
            Task::Send(0),
            Task::Send(1),
            Task::Send(2),
        ];
        assert_eq!(order, again);
        assert_eq!(next(&mut model, at(0)), Task::Read(0));
    }

    #[test]
    fn a_refused_row_in_doubt_is_read_back_and_not_reported_as_refused() {
        let mut model = model(&[(APPROVED, INTERRUPTED)], |_| {});
        assert_eq!(next(&mut model, at(0)), Task::Read(0));
        model.answered(at(0), 0, Answer::ReadBack(SessionStatus::InReview));
        assert_eq!(next(&mut model, at(0)), Task::Send(0));
        assert_eq!(
            outcome(model.answered(at(0), 0, failed(FailureKind::Refused, false))),
            None
        );
        assert_eq!(next(&mut model, at(0)), Task::Read(0));
        let record = model.answered(at(0), 0, Answer::ReadBack(SessionStatus::InProgress));
        assert_eq!(outcome(record), Some(Outcome::Unknown));
        assert_eq!(next(&mut model, at(0)), Task::Done);
    }

    #[test]
    fn a_row_in_doubt_never_reports_that_nothing_was_changed() {
        for kind in [FailureKind::Other, FailureKind::Refused, FailureKind::NoSession] {
            let mut model = model(&[(APPROVED, UNTOUCHED)], |_| {});
            assert_eq!(next(&mut model, at(0)), Task::Send(0));
            assert_eq!(model.answered(at(0), 0, other(true)), None);
            assert_eq!(next(&mut model, at(0)), Task::Read(0));
            model.answered(at(0), 0, Answer::ReadBack(SessionStatus::InReview));
            assert_eq!(next(&mut model, at(0)), Task::Send(0));
            let ended = model.answered(at(0), 0, failed(kind, false));
            let record = ended.unwrap_or_else(|| model.finish().remove(0));
            assert_eq!((record.outcome, record.in_doubt), (Outcome::Unknown, true));
            assert!(!record.reason.contains("nothing was changed"), "{record:?}");
        }
    }

    #[test]
    fn rows_that_a_run_did_not_reach_keep_their_earlier_results() {
        let refused = state(Outcome::Refused, false);
        let rows = [
            (APPROVED, UNKNOWN),
            (APPROVED, refused),
            (APPROVED, NOT_APPLIED),
            (APPROVED, UNTOUCHED),
        ];
        let mut model = model(&rows, |settings| settings.retry_refused = true);
        model.stop(Stop::Signal);
        assert_eq!(next(&mut model, at(0)), Task::Done);
        let outcomes: Vec<Outcome> = model
            .finish()
            .into_iter()
            .map(|record| {
                assert!(record.journaled, "{record:?} would be written twice");
                record.outcome
            })
            .collect();
        assert_eq!(outcomes, [Outcome::Unknown, Outcome::Refused, Outcome::NotApplied]);
        assert_eq!(
            (model.counts().unknown, model.counts().refused, model.untouched()),
            (1, 1, 1)
        );
    }

    #[test]
    fn a_row_that_was_read_back_is_not_reported_as_not_read_back() {
        let mut model = model(&[(APPROVED, UNTOUCHED)], |_| {});
        assert_eq!(next(&mut model, at(0)), Task::Send(0));
        model.answered(at(0), 0, other(true));
        assert_eq!(next(&mut model, at(0)), Task::Read(0));
        model.stop(Stop::Signal);
        assert_eq!(model.answered(at(0), 0, in_review()), None);
        assert_eq!(next(&mut model, at(0)), Task::Done);
        let record = model.finish().remove(0);
        assert_eq!(record.outcome, Outcome::Unknown);
        assert!(!record.reason.contains("not read back"), "{record:?}");
    }

    #[test]
    fn a_row_that_certainly_was_not_applied_is_not_reported_as_unknown() {
        let mut rows = vec![(APPROVED, NOT_APPLIED)];
        rows.extend([(APPROVED, UNTOUCHED); 40]);
        let mut model = model(&rows, |_| {});
        let mut reported = None;
        loop {
            match next(&mut model, at(0)) {
                Task::Send(row) => drop(model.answered(at(0), row, Answer::Applied)),
                Task::Read(row) => {
                    reported = model.answered(at(0), row, other(false)).or(reported);
                    model.circuit.got_through();
                }
                _ => break,
            }
        }
        assert_eq!(reported.map(|record| record.outcome), Some(Outcome::NotApplied));
    }
}
