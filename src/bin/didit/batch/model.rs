//! What ends a row, and what ends a run. Pure: events and the time come in, tasks and records come out.
//!
//! 1. A row ends by Didit's word about its session: applied, already so, or refused. Anything else is a failure.
//! 2. After a failure that certainly changed nothing, the row waits behind the untouched ones, in later runs as well.
//! 3. After any other failure the row is in doubt: its session is read back. Approved and Declined are then sent again,
//!    unless the session shows the opposite decision. Resubmitted is not, as it could be applied twice.
//! 4. What stays in doubt is unknown. Each later run reads it back once more.
//! 5. Eight failures in a row, or an answer that asks for a pause, open the circuit: all workers pause for as long as the
//!    server asks, else 1, 2, 4, 8, 16, 30 s, with one try after each pause. An update that gets through closes it.
//! 6. When it has been open for `--max-outage` seconds, or the credentials are refused, the run stops.
//! 7. A row that fails ten times while others get through is left for the next run.
//! 8. `--retry unknown` and `--retry refused` send such rows once more: that is for a person to decide.
//! 9. The first signal lets requests in flight end and reads back what they left in doubt. The second ends at once.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::circuit::{Change, Circuit, Time};
use super::events::{Action, Answer, Counts, Failure, FailureKind, Outcome, ReadBack, Record, RowState, Stop, Task};
use super::pace::Pace;

/// A row that fails so often while others get through is left for the next run.
const MAX_TRIES: u8 = 10;

/// What was read back this long ago is read once more before the row is sent again: somebody may have decided since.
const MAX_READ_AGE: Duration = Duration::from_secs(10);

/// Until another worker's answer is news, which ends the wait sooner.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

pub struct Settings {
    /// Requests a minute.
    pub writes: u32,
    pub reads: u32,
    pub max_outage: Duration,
    pub retry_unknown: bool,
    pub retry_refused: bool,
}

#[derive(Clone, Copy)]
struct Row {
    stage: Stage,
    /// Approved and Declined may be sent again (didit-api.md §4).
    repeatable: bool,
    in_doubt: bool,
    /// This run sent it, and has not tried to read it back since.
    sent: bool,
    unread: bool,
    /// Didit refused it while it was in doubt.
    refused: bool,
    /// The result of an earlier run, and whether this one has done anything about it.
    before: Option<Outcome>,
    touched: bool,
    /// A person wants it to be sent once more.
    retry: bool,
    tries: u8,
}

#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Untouched,
    Waiting,
    Sending,
    Reading,
    Ended(Outcome),
}

pub struct Model {
    rows: Vec<Row>,
    /// What was said of the update of a row that has not ended.
    causes: HashMap<usize, String>,
    /// Untouched rows begin here.
    untouched: usize,
    /// Rows in doubt, to be read back before untouched rows are sent.
    doubts: VecDeque<usize>,
    /// Rows that were read back and may be sent again, and when they were read.
    resends: VecDeque<(usize, Time)>,
    /// What waits behind the untouched rows.
    later_sends: VecDeque<usize>,
    later_reads: VecDeque<usize>,
    /// Whether the last one of them was read.
    read_later: bool,
    in_flight: usize,
    /// The row that shows whether the circuit may close.
    probe: Option<usize>,
    circuit: Circuit,
    writes: Pace,
    reads: Pace,
    stop: Option<Stop>,
    counts: Counts,
    /// An update was confirmed in this run.
    confirmed: bool,
}

impl Model {
    /// `rows` tells of each whether it may be repeated, its past, and where in the journal its last entry is: what was tried
    /// last comes last, so that every run gets further. `causes` are what the journal says of rows that did not end.
    pub fn new(
        settings: &Settings,
        rows: impl Iterator<Item = (bool, RowState, u64)>,
        causes: HashMap<usize, String>,
    ) -> Model {
        let mut model = Model {
            rows: Vec::with_capacity(rows.size_hint().0),
            causes,
            untouched: 0,
            doubts: VecDeque::new(),
            resends: VecDeque::new(),
            later_sends: VecDeque::new(),
            later_reads: VecDeque::new(),
            read_later: false,
            in_flight: 0,
            probe: None,
            circuit: Circuit::new(settings.max_outage),
            writes: Pace::new(settings.writes),
            reads: Pace::new(settings.reads),
            stop: None,
            counts: Counts::default(),
            confirmed: false,
        };
        let mut waiting = Vec::new();
        for (row, (repeatable, past, last_entry)) in rows.enumerate() {
            let (stage, in_doubt) = match past {
                RowState::Untouched => (Stage::Untouched, false),
                RowState::NotSent => (Stage::Waiting, false),
                RowState::InDoubt { .. } => (Stage::Waiting, true),
                RowState::Refused { in_doubt } if settings.retry_refused => (Stage::Waiting, in_doubt),
                _ => (past.outcome().map_or(Stage::Waiting, Stage::Ended), false),
            };
            match stage {
                Stage::Ended(outcome) => model.counts.add(outcome),
                Stage::Waiting => waiting.push((last_entry, row, past)),
                _ => {}
            }
            model.rows.push(Row {
                stage,
                repeatable,
                in_doubt,
                sent: false,
                unread: false,
                refused: false,
                before: past.outcome(),
                touched: false,
                retry: settings.retry_unknown && matches!(past, RowState::InDoubt { .. }),
                tries: 0,
            });
        }
        waiting.sort_unstable_by_key(|(last_entry, ..)| *last_entry);
        for (_, row, past) in waiting {
            let queue = match past {
                RowState::InDoubt { reported: false } => &mut model.doubts,
                _ if model.rows[row].in_doubt => &mut model.later_reads,
                _ => &mut model.later_sends,
            };
            queue.push_back(row);
        }
        model
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    pub fn stopped(&self) -> Option<&Stop> {
        self.stop.as_ref()
    }

    /// What is left of a pause that all workers keep.
    pub fn pause(&self, now: Time) -> Option<Duration> {
        self.circuit.pause(now)
    }

    /// The first reason stands.
    pub fn stop(&mut self, why: Stop) {
        self.stop.get_or_insert(why);
    }

    /// What the headers of an answer said of the rate limit, to a write or a read.
    pub fn observe(&mut self, now: Time, write: bool, limit: u64, remaining: u64, reset: Option<Duration>) {
        let pace = if write { &mut self.writes } else { &mut self.reads };
        pace.observe(now, limit, remaining, reset);
    }

    pub fn next(&mut self, now: Time) -> Task {
        if self.stop.is_some() {
            return self.next_of_stopped(now);
        }
        if let Some(pause) = self.circuit.pause(now) {
            return Task::Wait(pause);
        }
        while let Some((row, _)) = self.resends.front().filter(|(_, read)| now - *read > MAX_READ_AGE) {
            self.doubts.push_front(*row);
            self.resends.pop_front();
        }
        let rows = &self.rows;
        let left = rows[self.untouched..]
            .iter()
            .position(|row| row.stage == Stage::Untouched);
        self.untouched = left.map_or(rows.len(), |skipped| self.untouched + skipped);
        if self.circuit.is_open() {
            return self.next_probe(now);
        }
        let mut wait = None;
        // Reads and writes have a pace each, so neither holds the other up.
        if let Some((queue, index)) = self.next_read() {
            match self.reads.admit(now) {
                Ok(()) => return self.start(queue, index),
                Err(time) => wait = Some(time),
            }
        }
        if let Some((queue, index)) = self.next_write(false) {
            match self.writes.admit(now) {
                Ok(()) => return self.start(queue, index),
                Err(time) => wait = Some(wait.map_or(time, |other: Duration| other.min(time))),
            }
        }
        match wait {
            Some(wait) => Task::Wait(wait),
            // A row that is under way may have to be taken up again.
            None if self.in_flight > 0 => Task::Wait(POLL_INTERVAL),
            None => Task::Done,
        }
    }

    /// One row while the circuit is open. Writes and reads take turns: only a write can close the circuit, and what is in
    /// doubt can be settled all the same. A write is one that may be repeated, where there is one.
    fn next_probe(&mut self, now: Time) -> Task {
        if self.probe.is_some() {
            return Task::Wait(POLL_INTERVAL);
        }
        let write = self.next_write(true).or_else(|| self.next_write(false));
        let later = || self.later_reads.front().map(|_| (Queue::LaterReads, 0));
        let read = self.doubts.front().map(|_| (Queue::Doubts, 0)).or_else(later);
        let reads = read.is_some() && (write.is_none() || !self.read_later);
        let Some((queue, index)) = (if reads { read } else { write }) else {
            return if self.in_flight > 0 {
                Task::Wait(POLL_INTERVAL)
            } else {
                Task::Done
            };
        };
        let pace = if reads { &mut self.reads } else { &mut self.writes };
        if let Err(wait) = pace.admit(now) {
            return Task::Wait(wait);
        }
        let task = self.start(queue, index);
        self.read_later = reads;
        if let Task::Send(row) | Task::Read(row) = task {
            self.probe = Some(row);
        }
        task
    }

    /// Once somebody asked for the end, what this run left in doubt is read back, and that is all.
    fn next_of_stopped(&mut self, now: Time) -> Task {
        let settles = self.stop == Some(Stop::Signal) && !self.circuit.is_open() && self.circuit.pause(now).is_none();
        let unread = |row: &usize| settles && self.rows[*row].unread;
        let doubt = self.doubts.iter().position(unread).map(|index| (Queue::Doubts, index));
        let later = || self.later_reads.iter().position(unread);
        let Some((queue, index)) = doubt.or_else(|| later().map(|index| (Queue::LaterReads, index))) else {
            return Task::Done;
        };
        match self.reads.admit(now) {
            Ok(()) => self.start(queue, index),
            Err(wait) => Task::Wait(wait),
        }
    }

    /// The next row to be read back. Those behind the untouched rows take turns with what else waits there, so that none of
    /// them holds up the others.
    fn next_read(&self) -> Option<(Queue, usize)> {
        let waits = self.untouched < self.rows.len() || (self.read_later && !self.later_sends.is_empty());
        let later = || {
            self.later_reads
                .front()
                .filter(|_| !waits)
                .map(|_| (Queue::LaterReads, 0))
        };
        self.doubts.front().map(|_| (Queue::Doubts, 0)).or_else(later)
    }

    /// The next row to be sent; behind those that were read back for it, only one that may be repeated if that is asked.
    fn next_write(&self, repeatable: bool) -> Option<(Queue, usize)> {
        let fits = |row: &usize| self.rows[*row].repeatable || !repeatable;
        let untouched = || {
            let mut rows = self.untouched..self.rows.len();
            rows.find(|row| self.rows[*row].stage == Stage::Untouched && fits(row))
        };
        let later = || self.later_sends.iter().position(fits);
        let resend = self.resends.front().map(|_| (Queue::Resends, 0));
        resend
            .or_else(|| untouched().map(|row| (Queue::Untouched, row)))
            .or_else(|| later().map(|index| (Queue::LaterSends, index)))
    }

    fn start(&mut self, queue: Queue, index: usize) -> Task {
        let row = match queue {
            Queue::Untouched => Some(index),
            Queue::Doubts => self.doubts.remove(index),
            Queue::Resends => self.resends.remove(index).map(|(row, _)| row),
            Queue::LaterSends => self.later_sends.remove(index),
            Queue::LaterReads => self.later_reads.remove(index),
        };
        let Some(row) = row else {
            return Task::Wait(POLL_INTERVAL);
        };
        self.in_flight += 1;
        self.read_later = match queue {
            Queue::LaterReads => true,
            Queue::Doubts | Queue::Resends => self.read_later,
            Queue::Untouched | Queue::LaterSends => false,
        };
        let state = &mut self.rows[row];
        state.touched = true;
        if matches!(queue, Queue::Doubts | Queue::LaterReads) {
            state.stage = Stage::Reading;
            state.unread = false;
            return Task::Read(row);
        }
        state.stage = Stage::Sending;
        state.sent = true;
        state.unread = true;
        state.retry = false;
        Task::Send(row)
    }

    /// The intent to send a row could not be written: it was not sent.
    pub fn not_sent(&mut self, row: usize, reason: String) {
        self.is_back(row);
        self.rows[row].stage = Stage::Waiting;
        self.causes.entry(row).or_insert_with(|| reason.clone());
        self.stop(Stop::Failed(reason));
    }

    /// What came of the request that a `Send` or `Read` asked for.
    pub fn answered(&mut self, now: Time, row: usize, answer: Answer) -> Vec<Action> {
        let read = self.rows[row].stage == Stage::Reading;
        let probe = self.is_back(row);
        self.rows[row].stage = Stage::Waiting;
        let in_doubt = self.rows[row].in_doubt;
        let failure = match answer {
            Answer::Applied => {
                self.circuit.close();
                self.confirmed = true;
                return vec![self.end(row, Outcome::Applied, String::new())];
            }
            Answer::ReadBack(seen) => return self.read_back(now, row, &seen),
            Answer::Failed(failure) => failure,
        };
        let refused = matches!(failure.kind, FailureKind::Refused | FailureKind::NoSession);
        if refused && !read {
            self.circuit.close();
        }
        match failure.kind {
            _ if refused && !in_doubt => vec![self.end(row, Outcome::Refused, failure.reason)],
            FailureKind::NoSession => {
                let reason = format!("{}; whether it was applied before that cannot be known", failure.reason);
                vec![self.end(row, Outcome::Refused, reason)]
            }
            FailureKind::Refused | FailureKind::NotPermitted if read => {
                let reason = format!("reading it back: {}", failure.reason);
                vec![self.end(row, Outcome::Unknown, reason)]
            }
            FailureKind::Refused => {
                // It may be refused because the request before was applied.
                self.rows[row].refused = true;
                self.causes.insert(row, failure.reason);
                self.doubts.push_front(row);
                Vec::new()
            }
            FailureKind::NotPermitted if self.confirmed && !in_doubt && !self.circuit.is_open() => {
                let mut actions = self.failure(now, &failure, probe);
                actions.insert(0, self.end(row, Outcome::Refused, failure.reason));
                actions
            }
            _ => self.try_again(now, row, failure, read, probe),
        }
    }

    /// Its request is no longer in flight; whether it was the probe.
    fn is_back(&mut self, row: usize) -> bool {
        self.in_flight -= 1;
        self.probe.take_if(|probe| *probe == row).is_some()
    }

    fn read_back(&mut self, now: Time, row: usize, seen: &ReadBack) -> Vec<Action> {
        let state = self.rows[row];
        let (status, another_decision) = match seen {
            ReadBack::Wanted => {
                let outcome = if state.sent { Outcome::Applied } else { Outcome::Already };
                return vec![self.end(row, outcome, String::new())];
            }
            ReadBack::OtherDecision(status) => (status, true),
            ReadBack::Other(status) => (status, false),
        };
        let repeats = state.repeatable && !another_decision && !state.refused && state.tries < MAX_TRIES;
        if state.retry || repeats {
            self.resends.push_back((row, now));
            return Vec::new();
        }
        let advice = match another_decision {
            true => "somebody may have decided so since",
            false => "look at it, then run again with --retry unknown to set it once more",
        };
        let reason = format!("the session is {status} now; {advice}");
        vec![self.end(row, Outcome::Unknown, reason)]
    }

    /// A failure that says nothing of the row.
    fn try_again(&mut self, now: Time, row: usize, failure: Failure, read: bool, probe: bool) -> Vec<Action> {
        let mut actions = self.failure(now, &failure, probe);
        let state = &mut self.rows[row];
        state.in_doubt |= failure.in_doubt;
        // A probe fails because nothing gets through.
        state.tries += u8::from(!probe);
        let (first, given_up) = (state.tries <= 1, state.tries >= MAX_TRIES);
        let in_doubt = state.in_doubt;
        if !read {
            self.causes.insert(row, failure.reason.clone());
        }
        if failure.in_doubt && first {
            self.doubts.push_back(row);
        } else if failure.in_doubt {
            // A session that the server fails at again and again holds up no others.
            self.later_reads.push_back(row);
        } else if !in_doubt {
            actions.push(Action::NotYet(self.record(row, Outcome::NotSent, String::new())));
            if !given_up {
                self.later_sends.push_back(row);
            }
        } else if given_up {
            let reason = format!("reading it back: {}", failure.reason);
            actions.push(self.end(row, Outcome::Unknown, reason));
        } else {
            self.later_reads.push_back(row);
        }
        actions
    }

    /// What a failure means for all workers.
    fn failure(&mut self, now: Time, failure: &Failure, probe: bool) -> Vec<Action> {
        let reason = || failure.reason.clone();
        if failure.kind == FailureKind::Credentials {
            self.stop(Stop::Credentials(reason()));
            return Vec::new();
        }
        let at_once = failure.kind == FailureKind::RateLimited;
        match self.circuit.failure(now, failure.retry_after, at_once, probe) {
            Change::None => {}
            Change::Opened(pause) => return vec![Action::Pause(pause, reason())],
            Change::GiveUp => self.stop(Stop::Outage(reason(), failure.retry_after)),
        }
        Vec::new()
    }

    fn end(&mut self, row: usize, outcome: Outcome, reason: String) -> Action {
        let record = self.record(row, outcome, reason);
        self.causes.remove(&row);
        self.rows[row].stage = Stage::Ended(outcome);
        self.counts.add(outcome);
        Action::End(record)
    }

    /// `reason` comes after what was said of the update itself.
    fn record(&self, row: usize, outcome: Outcome, reason: String) -> Record {
        let in_doubt = self.rows[row].in_doubt && matches!(outcome, Outcome::Refused | Outcome::Unknown);
        let unsettled = matches!(outcome, Outcome::NotSent | Outcome::Unknown);
        let cause = self.causes.get(&row).filter(|_| unsettled).cloned().unwrap_or_default();
        let join = if cause.is_empty() || reason.is_empty() {
            ""
        } else {
            "; "
        };
        Record {
            row,
            outcome,
            in_doubt,
            reason: [&cause, join, &reason].concat(),
            cause,
        }
    }

    /// The end of the run: the rows that were tried and did not end.
    pub fn finish(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for row in 0..self.rows.len() {
            let state = &mut self.rows[row];
            if matches!(state.stage, Stage::Untouched | Stage::Ended(_)) {
                continue;
            }
            // A worker that failed may have sent it.
            state.in_doubt |= state.stage == Stage::Sending;
            let (in_doubt, before) = (state.in_doubt, state.before.filter(|_| !state.touched));
            if let Some(outcome) = before {
                let reason = "this is from an earlier run: this one did not come to it";
                actions.extend(self.end(row, outcome, reason.into()).record().map(Action::Still));
            } else if in_doubt {
                actions.push(self.end(row, Outcome::Unknown, "it was not read back in this run".into()));
            } else {
                actions.push(Action::Still(self.record(row, Outcome::NotSent, String::new())));
            }
        }
        actions
    }

    /// How many rows were never tried.
    pub fn untouched(&self) -> usize {
        self.rows.iter().filter(|row| row.stage == Stage::Untouched).count()
    }
}

#[derive(Clone, Copy)]
enum Queue {
    Untouched,
    Doubts,
    Resends,
    LaterSends,
    LaterReads,
}

#[cfg(test)]
mod tests {
    use super::*;

    const APPROVED: bool = true;
    const RESUBMITTED: bool = false;

    fn model(rows: &[(bool, RowState)], change: impl FnOnce(&mut Settings)) -> Model {
        let mut settings = Settings {
            writes: 1_000_000,
            reads: 1_000_000,
            max_outage: Duration::from_secs(60),
            retry_unknown: false,
            retry_refused: false,
        };
        change(&mut settings);
        let rows = rows.iter().map(|(repeatable, past)| (*repeatable, *past, 0));
        Model::new(&settings, rows, HashMap::new())
    }

    fn at(seconds: u64) -> Time {
        Duration::from_secs(seconds)
    }

    fn failed(kind: FailureKind, in_doubt: bool) -> Answer {
        Answer::Failed(Failure {
            kind,
            in_doubt,
            reason: "why".into(),
            retry_after: None,
        })
    }

    fn other(in_doubt: bool) -> Answer {
        failed(FailureKind::Other, in_doubt)
    }

    /// The next task, once the pace lets it go out.
    fn next(model: &mut Model, now: Time) -> Task {
        match model.next(now) {
            Task::Wait(wait) if wait < Duration::from_millis(500) => next(model, now + wait),
            task => task,
        }
    }

    /// Lets so many rows fail, one after the other.
    fn fail(model: &mut Model, rows: usize) {
        for row in 0..rows {
            assert_eq!(next(model, at(0)), Task::Send(row));
            model.answered(at(0), row, other(false));
        }
    }

    fn outcome(actions: Vec<Action>) -> Option<Outcome> {
        let record = |action: Action| matches!(action, Action::End(_)).then(|| action.record());
        actions
            .into_iter()
            .find_map(record)
            .flatten()
            .map(|record| record.outcome)
    }

    #[test]
    fn one_write_that_gets_through_lets_all_workers_go_on() {
        let mut model = model(&[(APPROVED, RowState::Untouched); 20], |_| {});
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
    fn a_read_that_works_closes_nothing() {
        let mut model = model(&[(RESUBMITTED, RowState::Untouched); 20], |_| {});
        fail(&mut model, 8);
        assert_eq!(next(&mut model, at(1)), Task::Send(8));
        model.answered(at(1), 8, other(true));
        assert_eq!(next(&mut model, at(3)), Task::Read(8));
        model.answered(at(3), 8, Answer::ReadBack(ReadBack::Other("In Review".into())));
        assert_eq!(next(&mut model, at(3)), Task::Send(9));
        assert_eq!(next(&mut model, at(3)), Task::Wait(POLL_INTERVAL));
    }

    #[test]
    fn the_probe_is_a_row_that_may_be_repeated_where_there_is_one() {
        let mut rows = vec![(RESUBMITTED, RowState::Untouched); 20];
        rows[15].0 = APPROVED;
        let mut model = model(&rows, |_| {});
        fail(&mut model, 8);
        assert_eq!(next(&mut model, at(1)), Task::Send(15));
    }

    #[test]
    fn a_row_that_fails_ten_times_while_others_get_through_is_left_for_the_next_run() {
        let mut model = model(&[(APPROVED, RowState::Untouched); 60], |_| {});
        let mut tries = [0; 60];
        let mut failures = 0;
        while let Task::Send(row) = next(&mut model, at(0)) {
            tries[row] += 1;
            // Every sixth gets through, but never the first.
            failures = if failures == 5 && row != 0 { 0 } else { failures + 1 };
            let answer = if failures == 0 { Answer::Applied } else { other(false) };
            model.answered(at(0), row, answer);
        }
        assert_eq!(tries[0], 10);
        assert_eq!(tries.iter().max(), Some(&10));
        assert_eq!(next(&mut model, at(0)), Task::Done);
        assert_eq!(model.stopped(), None);
    }

    #[test]
    fn a_row_that_fails_in_an_outage_is_not_given_up_for_that() {
        let mut model = model(&[(APPROVED, RowState::Untouched)], |_| {});
        let (mut now, mut tries) = (at(0), 0);
        while model.stopped().is_none() {
            match next(&mut model, now) {
                Task::Send(0) => {
                    tries += 1;
                    model.answered(now, 0, other(false));
                }
                Task::Wait(wait) => now += wait,
                task => panic!("{task:?}"),
            }
        }
        assert_eq!((tries, now.as_secs()), (8 + 6, 60));
    }

    #[test]
    fn behind_the_untouched_rows_reads_and_writes_take_turns() {
        let unknown = RowState::InDoubt { reported: true };
        let rows = [
            (APPROVED, unknown),
            (APPROVED, unknown),
            (APPROVED, RowState::NotSent),
            (APPROVED, RowState::Untouched),
        ];
        let mut model = model(&rows, |_| {});
        let order: Vec<Task> = (0..4).map(|_| next(&mut model, at(0))).collect();
        assert_eq!(order, [Task::Send(3), Task::Read(0), Task::Send(2), Task::Read(1)]);
    }

    #[test]
    fn a_stop_in_an_outage_waits_for_nothing() {
        let mut model = model(&[(RESUBMITTED, RowState::Untouched); 20], |_| {});
        for row in 0..8 {
            assert_eq!(next(&mut model, at(0)), Task::Send(row));
            model.answered(at(0), row, other(true));
            if row < 7 {
                assert_eq!(next(&mut model, at(0)), Task::Read(row));
                model.answered(at(0), row, Answer::ReadBack(ReadBack::Wanted));
            }
        }
        model.stop(Stop::Signal);
        assert_eq!(next(&mut model, at(5)), Task::Done);
    }

    #[test]
    fn what_was_read_too_long_ago_is_read_again_before_it_is_sent() {
        let unknown = RowState::InDoubt { reported: true };
        let mut model = model(&[(RESUBMITTED, unknown)], |settings| settings.retry_unknown = true);
        for now in [at(0), at(60)] {
            assert_eq!(next(&mut model, now), Task::Read(0));
            assert!(
                model
                    .answered(now, 0, Answer::ReadBack(ReadBack::Other("In Review".into())))
                    .is_empty()
            );
        }
        assert_eq!(next(&mut model, at(61)), Task::Send(0));
        model.answered(at(61), 0, other(true));
        // It was sent once more, and that is all.
        assert_eq!(next(&mut model, at(62)), Task::Read(0));
        let actions = model.answered(at(62), 0, Answer::ReadBack(ReadBack::Other("In Review".into())));
        assert_eq!(outcome(actions), Some(Outcome::Unknown));
    }

    #[test]
    fn not_permitted_ends_a_row_only_once_others_got_through_and_never_one_in_doubt_or_in_an_outage() {
        let doubt = RowState::InDoubt { reported: false };
        let mut rows = vec![(APPROVED, RowState::Untouched); 20];
        rows[0].1 = doubt;
        let mut model = model(&rows, |_| {});
        let not_permitted = || failed(FailureKind::NotPermitted, false);
        assert_eq!(next(&mut model, at(0)), Task::Read(0));
        model.answered(at(0), 0, Answer::ReadBack(ReadBack::Other("In Review".into())));
        assert_eq!(next(&mut model, at(0)), Task::Send(0));
        assert_eq!(next(&mut model, at(0)), Task::Send(1));
        assert_eq!(next(&mut model, at(0)), Task::Send(2));
        assert_eq!(outcome(model.answered(at(0), 1, not_permitted())), None);
        model.answered(at(0), 2, Answer::Applied);
        assert_eq!(outcome(model.answered(at(0), 0, not_permitted())), None);
        for row in 3..10 {
            assert_eq!(next(&mut model, at(0)), Task::Send(row));
            assert_eq!(
                outcome(model.answered(at(0), row, not_permitted())),
                Some(Outcome::Refused)
            );
        }
        assert_eq!(next(&mut model, at(1)), Task::Read(0));
        model.answered(at(1), 0, Answer::ReadBack(ReadBack::OtherDecision("Declined".into())));
        assert_eq!(next(&mut model, at(1)), Task::Send(10));
        assert_eq!(outcome(model.answered(at(1), 10, not_permitted())), None);
    }

    #[test]
    fn a_refusal_of_a_row_in_doubt_is_read_back_and_is_no_refusal() {
        let doubt = RowState::InDoubt { reported: false };
        let mut model = model(&[(APPROVED, doubt)], |_| {});
        assert_eq!(next(&mut model, at(0)), Task::Read(0));
        model.answered(at(0), 0, Answer::ReadBack(ReadBack::Other("In Review".into())));
        assert_eq!(next(&mut model, at(0)), Task::Send(0));
        assert_eq!(
            outcome(model.answered(at(0), 0, failed(FailureKind::Refused, false))),
            None
        );
        assert_eq!(next(&mut model, at(0)), Task::Read(0));
        let actions = model.answered(at(0), 0, Answer::ReadBack(ReadBack::Other("In Progress".into())));
        assert_eq!(outcome(actions), Some(Outcome::Unknown));
        assert_eq!(next(&mut model, at(0)), Task::Done);
    }

    #[test]
    fn rows_that_a_run_did_not_come_to_are_what_they_were() {
        let unknown = RowState::InDoubt { reported: true };
        let refused = RowState::Refused { in_doubt: false };
        let rows = [
            (APPROVED, unknown),
            (APPROVED, refused),
            (APPROVED, RowState::NotSent),
            (APPROVED, RowState::Untouched),
        ];
        let mut model = model(&rows, |settings| settings.retry_refused = true);
        model.stop(Stop::Signal);
        assert_eq!(next(&mut model, at(0)), Task::Done);
        let outcomes: Vec<Outcome> = model
            .finish()
            .into_iter()
            .map(|action| match action {
                Action::Still(record) => record.outcome,
                action => panic!("{action:?} would be written again"),
            })
            .collect();
        assert_eq!(outcomes, [Outcome::Unknown, Outcome::Refused, Outcome::NotSent]);
        assert_eq!(
            (model.counts().unknown, model.counts().refused, model.untouched()),
            (1, 1, 1)
        );
    }
}
