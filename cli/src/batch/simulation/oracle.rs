//! The rules of docs/batch.md, written again and in another way than in `rules` and `scheduler`. The oracle sees the requests,
//! the responses and the results of a run, and fails the test if one of them breaks a rule.

use std::time::Duration;

use super::server::{Response, Server, Status};
use super::{Entry, SECOND, check};
use crate::batch::result::RowResult::{self, Already, Applied, LeftAlone, NotApplied, Refused, Unknown};
use crate::batch::rules::{Outcome, RequestKind};
use crate::batch::scheduler::{Left, Settings, Step, Stop};

/// What the oracle knows about a row.
struct Row {
    wanted: Status,
    /// When the row's first turn comes: its group, and its place in the group.
    order: (u8, usize),
    in_doubt: bool,
    /// Whether `--retry unknown` allows an update whatever the session's status.
    overrides: bool,
    /// Whether the journal has a result for the row.
    is_reported: bool,
    /// The result before this run if the row is done, or the one that this run reported.
    result: Option<RowResult>,
    is_tried: bool,
    /// Whether Didit confirmed an attempt of this run.
    is_confirmed: bool,
    in_flight: Option<RequestKind>,
    /// The status that a read found, if the row's next request is its update.
    found: Option<Status>,
    /// The failures outside an outage, and when the wait before the next turn is over.
    failures: u32,
    due: Duration,
}

pub struct Oracle {
    seed: u64,
    pub now: Duration,
    pub signalled: bool,
    settings: Settings,
    rows: Vec<Row>,
    /// The failures since Didit last answered an update.
    failures: u32,
    /// When the outage began, which `--max-outage` limits.
    outage: Option<Duration>,
    /// How many pauses the outage has had.
    pauses: usize,
    /// No request may go out before this time.
    paused_until: Duration,
    /// Didit refused an access token, and has answered no update since.
    is_token_refused: bool,
    /// Whether the requests in flight began after that.
    has_new_token: Vec<bool>,
    last_turn: Option<Duration>,
    last_read: Option<Duration>,
    last_was_waiting: bool,
    /// Why the run has to stop.
    must_stop: Option<Stop>,
}

impl Oracle {
    pub fn new(seed: u64, now: Duration, settings: Settings, server: &Server, journal: &[Entry]) -> Oracle {
        let row = |index: usize| {
            let last = journal.iter().rposition(|(row, _)| *row == index);
            let result = last.map(|place| journal[place].1);
            let in_doubt = matches!(result, Some(None | Some(Unknown)));
            let is_reported = matches!(result, Some(Some(_)));
            Row {
                wanted: server.sessions[index].wanted,
                order: match result {
                    Some(None) => (0, last.unwrap_or_default()),
                    None => (1, index),
                    Some(Some(_)) => (2, last.unwrap_or_default()),
                },
                in_doubt,
                overrides: settings.retry_unknown && in_doubt && is_reported,
                is_reported,
                result: match result.flatten() {
                    Some(Refused) if settings.retry_refused => None,
                    Some(Unknown | NotApplied) => None,
                    done => done,
                },
                is_tried: false,
                is_confirmed: false,
                in_flight: None,
                found: None,
                failures: 0,
                due: Duration::ZERO,
            }
        };
        let rows: Vec<Row> = (0..server.sessions.len()).map(row).collect();
        Oracle {
            seed,
            now,
            signalled: false,
            settings,
            has_new_token: vec![false; rows.len()],
            rows,
            failures: 0,
            outage: None,
            pauses: 0,
            paused_until: now,
            is_token_refused: false,
            last_turn: None,
            last_read: None,
            last_was_waiting: false,
            must_stop: None,
        }
    }

    fn in_flight(&self) -> usize {
        self.rows.iter().filter(|row| row.in_flight.is_some()).count()
    }

    /// Returns the untried row whose turn is first.
    fn first_untried(&self) -> Option<usize> {
        let untried = (0..self.rows.len()).filter(|row| self.rows[*row].result.is_none() && !self.rows[*row].is_tried);
        untried.min_by_key(|row| self.rows[*row].order)
    }

    /// Returns whether a row has been tried, and may have its next turn.
    fn is_due(&self, row: &Row) -> bool {
        let waits = row.is_tried && row.result.is_none() && row.in_flight.is_none();
        waits && self.now >= row.due
    }

    /// Checks that a row may have its turn, and that it begins with the right request.
    pub fn turn(&mut self, index: usize, request: RequestKind) {
        let row = &self.rows[index];
        check!(
            self,
            !self.signalled && self.must_stop.is_none(),
            "row {index} has its turn after a stop"
        );
        check!(
            self,
            row.result.is_none(),
            "row {index} has its turn after {:?}",
            row.result
        );
        check!(self, row.in_flight.is_none(), "row {index} has two turns at once");
        check!(
            self,
            self.now >= self.paused_until,
            "row {index} has its turn during a pause"
        );
        let reads = row.in_doubt || row.wanted == Status::Resubmitted || self.settings.unless_decided;
        check!(
            self,
            reads == (request == RequestKind::Read),
            "row {index} begins with {request:?}"
        );

        // The rates.
        let interval = |per_minute: u32| SECOND * 60 / per_minute;
        let updates = self
            .last_turn
            .map_or(Duration::ZERO, |last| last + interval(self.settings.updates));
        check!(
            self,
            self.now >= updates,
            "row {index} has its turn too soon for the rate of updates"
        );
        let reads = self
            .last_read
            .map_or(Duration::ZERO, |last| last + interval(self.settings.reads));
        check!(
            self,
            request == RequestKind::Update || self.now >= reads,
            "row {index} is read too soon for the rate of reads"
        );

        // The order.
        let is_waiting = row.is_tried;
        match self.outage {
            Some(_) => {
                check!(
                    self,
                    self.in_flight() == 0,
                    "row {index} has its turn while another one probes"
                );
                let is_left = |row: &&Row| row.result.is_none() && row.wanted != Status::Resubmitted;
                let better = self.rows.iter().filter(is_left).count();
                check!(
                    self,
                    row.wanted != Status::Resubmitted || better == 0,
                    "row {index} probes, and its lost response would need a person"
                );
            }
            None if is_waiting => {
                let needs_no_turn = !self.last_was_waiting || self.first_untried().is_none();
                check!(
                    self,
                    self.is_due(row),
                    "row {index} did not wait after {} failures",
                    row.failures
                );
                check!(
                    self,
                    needs_no_turn,
                    "row {index} has its turn instead of an untried row"
                );
            }
            None => {
                check!(
                    self,
                    self.first_untried() == Some(index),
                    "row {index} goes out before {:?}",
                    self.first_untried()
                );
                let due = self.rows.iter().any(|row| self.is_due(row));
                check!(
                    self,
                    self.last_was_waiting || !due,
                    "row {index} has its turn instead of a row whose wait is over"
                );
            }
        }
        self.last_turn = Some(self.now);
        if request == RequestKind::Read {
            self.last_read = Some(self.now);
        }
        self.last_was_waiting = is_waiting;
        self.has_new_token[index] = self.is_token_refused;
        let row = &mut self.rows[index];
        (row.is_tried, row.in_flight, row.found) = (true, Some(request), None);
    }

    /// Checks that an update may be sent.
    pub fn sends(&mut self, index: usize, server: &Server) {
        let unless_decided = self.settings.unless_decided;
        let row = &mut self.rows[index];
        let (found, in_doubt, overrides) = (row.found.take(), row.in_doubt, row.overrides);
        let (wanted, possibly_applied) = (row.wanted, server.sessions[index].possibly_applied);
        row.in_flight = Some(RequestKind::Update);
        self.has_new_token[index] = self.is_token_refused;
        check!(
            self,
            in_doubt || possibly_applied == 0,
            "row {index} is sent as if it had never been sent, but it may have been applied"
        );
        check!(
            self,
            wanted != Status::Resubmitted || possibly_applied == 0 || overrides,
            "row {index} is resubmitted twice"
        );
        let Some(status) = found else {
            let needs_no_read = !in_doubt && wanted != Status::Resubmitted && !unless_decided;
            check!(
                self,
                needs_no_read,
                "row {index} is sent without a read right before it"
            );
            return;
        };
        check!(self, status != wanted, "row {index} is sent although it has its status");
        if status.is_decided() {
            check!(
                self,
                !unless_decided,
                "row {index} is sent over {status:?} with --unless-decided"
            );
            check!(
                self,
                !in_doubt || overrides,
                "row {index} is in doubt and sent over {status:?}"
            );
        }
        check!(
            self,
            !in_doubt || overrides || wanted != Status::Resubmitted,
            "row {index} is in doubt and resubmitted"
        );
    }

    pub fn not_journaled(&mut self, index: usize) {
        self.rows[index].in_flight = None;
        self.must_stop.get_or_insert(Stop::Journal);
    }

    /// Checks what a response leads to.
    pub fn responded(
        &mut self,
        index: usize,
        request: RequestKind,
        response: &Response,
        step: Step,
        stopped: Option<Stop>,
    ) {
        let had_stopped = self.signalled || self.must_stop.is_some();
        self.rows[index].in_flight = None;
        let expected = match response {
            Response::Found(status) => self.after_read(index, *status, had_stopped),
            Response::Outcome(outcome, asked) => self.after_end(index, request, *outcome, *asked),
        };
        check!(
            self,
            step == expected,
            "row {index}: {response:?} leads to {step:?} instead of {expected:?}"
        );
        let expected = if self.signalled {
            Some(Stop::Signal)
        } else {
            self.must_stop
        };
        check!(
            self,
            self.signalled && stopped.is_some() || stopped == expected,
            "after {response:?} of row {index}, the run has {stopped:?} instead of {expected:?}"
        );
        if let Step::Report(result) = step {
            self.rows[index].result = Some(result);
        }
    }

    fn after_read(&mut self, index: usize, status: Status, had_stopped: bool) -> Step {
        let is_paused = self.now < self.paused_until || self.outage.is_some() && self.in_flight() > 0;
        let unless_decided = self.settings.unless_decided;
        let row = &mut self.rows[index];
        if status == row.wanted {
            return Step::Report(if row.in_doubt { Applied } else { Already });
        }
        let may_overwrite = !row.in_doubt || row.overrides;
        if status.is_decided() && !may_overwrite {
            return Step::Report(Unknown);
        }
        if status.is_decided() && unless_decided {
            return Step::Report(LeftAlone);
        }
        if row.wanted == Status::Resubmitted && !may_overwrite {
            return Step::Report(Unknown);
        }
        match (had_stopped, is_paused) {
            (true, _) if row.in_doubt => Step::Report(Unknown),
            (true, _) => Step::Wait,
            (false, true) => {
                row.due = self.now;
                Step::Wait
            }
            (false, false) => {
                (row.found, row.in_flight) = (Some(status), Some(RequestKind::Update));
                Step::Update
            }
        }
    }

    fn after_end(&mut self, index: usize, request: RequestKind, outcome: Outcome, asked: Option<Duration>) -> Step {
        let was_outage = self.outage.is_some();
        let in_doubt = self.rows[index].in_doubt;
        if outcome == Outcome::Confirmed || outcome == Outcome::SessionRefused && request == RequestKind::Update {
            (self.failures, self.outage, self.is_token_refused) = (0, None, false);
        }
        match outcome {
            Outcome::Confirmed => {
                self.rows[index].is_confirmed = true;
                return Step::Report(Applied);
            }
            Outcome::SessionRefused => return Step::Report(if in_doubt { Unknown } else { Refused }),
            Outcome::ConnectionRefused => self.must_stop = self.must_stop.or(Some(Stop::Connection)),
            Outcome::CredentialsRefused if !self.settings.has_access_token || self.has_new_token[index] => {
                self.must_stop = self.must_stop.or(Some(Stop::Credentials));
            }
            Outcome::CredentialsRefused => {
                self.is_token_refused = true;
                self.failed(asked, true);
            }
            Outcome::RateLimited => self.failed(asked, true),
            Outcome::NotPermitted => self.failed(asked, false),
            Outcome::NotApplied | Outcome::Unclear => {
                let others = self.first_untried().is_some() || self.in_flight() > 0;
                let due = (0..self.rows.len()).any(|row| row != index && self.is_due(&self.rows[row]));
                self.failed(asked, !others && !due);
            }
        }
        let row = &mut self.rows[index];
        if outcome == Outcome::Unclear {
            (row.in_doubt, row.overrides) = (true, false);
        }
        row.failures += u32::from(!was_outage);
        row.due = self.now + SECOND * [1, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30][row.failures as usize];
        match (outcome == Outcome::NotPermitted || row.failures >= 10, row.in_doubt) {
            (true, true) => Step::Report(Unknown),
            (true, false) => Step::Report(NotApplied),
            (false, true) => Step::Wait,
            (false, false) => Step::NotApplied,
        }
    }

    /// Counts a failure of the run.
    fn failed(&mut self, asked: Option<Duration>, at_once: bool) {
        self.failures += 1;
        let max_outage = self.settings.max_outage;
        let was_paused = self.now < self.paused_until;
        let asked = asked.unwrap_or_default();
        self.paused_until = self.paused_until.max(self.now + asked);
        if asked > max_outage {
            self.must_stop = self.must_stop.or(Some(Stop::LongPause(asked)));
            return;
        }
        match self.outage {
            // The request was in flight when the pause began.
            Some(_) if was_paused => return,
            Some(since) if self.now >= since + max_outage => {
                self.must_stop = self.must_stop.or(Some(Stop::Outage));
                return;
            }
            Some(_) => self.pauses += 1,
            None if !at_once && asked.is_zero() && self.failures < 8 => return,
            None => (self.outage, self.pauses) = (Some(self.now + asked), 1),
        }
        let left = self.outage.map(|since| (since + max_outage).saturating_sub(self.now));
        let own = (SECOND * [1, 2, 4, 8, 16, 30][self.pauses.min(6) - 1]).min(left.unwrap_or_default());
        let pause = if asked.is_zero() { own } else { asked };
        self.paused_until = self.paused_until.max(self.now + pause);
    }

    /// Checks that a result is true.
    pub fn is_true(&self, index: usize, result: RowResult, server: &Server) {
        let (row, session) = (&self.rows[index], &server.sessions[index]);
        let certainly_not = !row.in_doubt && session.possibly_applied == 0;
        let is_true = match result {
            Applied => session.had_wanted && (row.is_confirmed || row.in_doubt),
            Already => session.had_wanted && certainly_not,
            LeftAlone => self.settings.unless_decided,
            Refused | NotApplied => certainly_not,
            Unknown => row.in_doubt,
        };
        let possibly_applied = session.possibly_applied;
        check!(
            self,
            is_true,
            "row {index} is {result:?}, with {possibly_applied} updates that were or may be applied"
        );
    }

    /// Checks that a worker may end.
    pub fn worker_ends(&self, stopped: Option<Stop>) {
        let is_left = |row: &&Row| row.result.is_none();
        let left = self.rows.iter().filter(is_left).count();
        check!(
            self,
            stopped.is_some() || left == 0,
            "a worker ends, and {left} rows have no result"
        );
        let expected = self.signalled || self.must_stop.is_some();
        check!(
            self,
            stopped.is_some() == expected,
            "the run stops because of {stopped:?}"
        );
    }

    /// Checks what is said about a row without a result.
    pub fn left(&mut self, index: usize, left: Left) {
        let row = &mut self.rows[index];
        let (result, is_tried, in_doubt, is_reported) = (row.result, row.is_tried, row.in_doubt, row.is_reported);
        let expected = match (in_doubt, is_tried) {
            (false, _) => Left::NotApplied,
            (true, true) => Left::InDoubt,
            (true, false) => Left::NotChecked { is_reported },
        };
        row.result = Some(if in_doubt { Unknown } else { NotApplied });
        check!(
            self,
            result.is_none() && left == expected,
            "row {index} is left as {left:?} after {result:?}"
        );
    }

    pub fn run_ends(&self, stopped: Option<Stop>, is_journal_broken: bool) {
        let unsettled = self.rows.iter().filter(|row| row.result.is_none()).count();
        check!(self, unsettled == 0, "{unsettled} rows are not reported");
        check!(
            self,
            !is_journal_broken || stopped.is_some(),
            "the run continued without a journal"
        );
    }
}
