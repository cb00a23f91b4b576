//! Drives the model through random days, each generated from a seed. A day has several runs of one batch, with faults, outages,
//! requested pauses, decisions by others, requests that arrive long after they timed out, kills at any step, and resumes from
//! the journal as written by then.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use didit::{NewStatus, SessionStatus};
use fastrand::Rng;

use super::outage::Time;
use super::result::{Answer, Failure, FailureKind, Outcome, Record, RowState, Stop, Task};
use super::scheduler::{Model, Settings};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Status {
    InReview,
    Approved,
    Declined,
    Resubmitted,
    /// The person is using the session, so that Didit rejects every update.
    InProgress,
}

use Status::{Approved, Declined, InProgress, InReview, Resubmitted};

/// A fault of a row's session that lasts.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Missing,
    Forbidden,
    /// Every update of the session fails.
    Poison,
    /// The session cannot be read.
    Unreadable,
}

struct Session {
    wanted: Status,
    fault: Fault,
    status: Status,
    had_wanted: bool,
    /// How many times the update was applied. A Resubmitted counts each time.
    applied: u32,
    /// How many updates were applied or may still be applied. The client cannot know this number.
    possibly_applied: u32,
    /// Whether an attempt may have been applied, according to the journal and to this run's answers, and whether Didit confirmed
    /// an attempt of this run.
    in_doubt: bool,
    confirmed: bool,
    /// The status that the last read of this run returned, and when.
    read: Option<(Status, Time)>,
    /// How many times this run sent the row and read it back, and whether its last request was a read.
    sent: u32,
    reads: u32,
    read_last: bool,
    /// Whether this run left the row in doubt, and whether the row must be read before the next untouched row is sent.
    doubted: bool,
    read_first: bool,
    /// Whether the row had ended before this run, and `--retry` did not select it.
    ended: bool,
    /// Whether `--retry` selected the row, so that this run resends it even if its session has another status.
    retry: bool,
}

/// The state of the network and the server for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Network {
    Good,
    /// Some requests fail, in various ways.
    Flaky,
    /// Updates fail during read-only maintenance.
    WritesFail,
    ReadsFail,
    /// The server cannot be reached.
    Down,
    /// Every answer is a maintenance page, with status 200 or 404.
    Page,
    /// Every answer is 429, with or without a requested pause.
    Limited(Option<u32>),
}

/// An entry of the journal.
#[derive(Clone, Copy)]
enum Entry {
    Intent(usize),
    Result(usize, Outcome, bool),
}

enum Event {
    /// A worker asks for its next task.
    Free,
    Sent {
        row: usize,
    },
    Read {
        row: usize,
    },
    Answered {
        row: usize,
        answer: Answer,
    },
    /// An update arrives after its request timed out.
    Late {
        row: usize,
    },
    Decision {
        row: usize,
        status: Status,
    },
    Network(Network),
    Signal,
}

struct Day {
    seed: u64,
    random: Rng,
    now: Time,
    sessions: Vec<Session>,
    journal: Vec<Entry>,
    /// How many entries would survive a power failure.
    synced: usize,
    network: Network,
    events: BinaryHeap<Reverse<(Time, u64)>>,
    payloads: HashMap<u64, Event>,
    sequence: u64,
    /// The end of a requested pause. No request may be sent before it.
    paused_until: Time,
    /// Whether the network stays good.
    fixed: bool,
}

/// Facts about a run that decide which rules apply to it.
struct Facts {
    start: Time,
    max_outage: Duration,
    /// The network at the start of the run, whether it stayed the same, and whether it was always good.
    network: Network,
    unchanged: bool,
    good: bool,
    /// The server asked for a pause.
    pause_requested: bool,
    failures: u32,
    /// Whether Didit answered an update.
    succeeded: bool,
    signalled: bool,
    worker_failed: bool,
}

macro_rules! check {
    ($day:expr, $cond:expr, $($text:tt)+) => {
        assert!($cond, "seed {}, {:?}: {}", $day.seed, $day.now, format!($($text)+))
    };
}

impl Day {
    fn new(seed: u64) -> Day {
        let mut random = Rng::with_seed(seed);
        // On some days, the first rows have no permission or cannot be read.
        let head = if random.u8(..8) == 0 { random.usize(..24) } else { 0 };
        let bad = [Fault::Forbidden, Fault::Unreadable][random.usize(..2)];
        let rows = head + random.usize(1..10);
        let mut sessions = Vec::new();
        for row in 0..rows {
            let wanted = [Approved, Declined, Resubmitted][random.usize(..3)];
            let fault = match random.u8(..20) {
                _ if row < head => bad,
                0 => Fault::Missing,
                1 => Fault::Forbidden,
                2 => Fault::Poison,
                3 => Fault::Unreadable,
                _ => Fault::None,
            };
            let status = [InReview, InReview, Approved, Declined, InProgress][random.usize(..5)];
            sessions.push(Session {
                wanted,
                fault,
                status,
                had_wanted: status == wanted,
                applied: 0,
                possibly_applied: 0,
                in_doubt: false,
                confirmed: false,
                read: None,
                sent: 0,
                reads: 0,
                read_last: false,
                doubted: false,
                read_first: false,
                ended: false,
                retry: false,
            });
        }
        Day {
            seed,
            random,
            now: Time::ZERO,
            sessions,
            journal: Vec::new(),
            synced: 0,
            network: Network::Good,
            events: BinaryHeap::new(),
            payloads: HashMap::new(),
            sequence: 0,
            paused_until: Time::ZERO,
            fixed: false,
        }
    }

    fn after(&mut self, wait: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((self.now + wait, self.sequence)));
        self.payloads.insert(self.sequence, event);
    }

    fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.random.u64(1..=most))
    }

    fn run_all(&mut self) {
        let runs = self.random.usize(1..5);
        for _ in 0..runs {
            let retry = self.random.u8(..6) == 0;
            let kill = self.random.bool().then(|| self.random.u32(..120));
            self.network = self.any_network();
            for _ in 0..self.random.usize(..4) {
                let (wait, network) = (self.millis(90_000), self.any_network());
                self.after(wait, Event::Network(network));
            }
            for _ in 0..self.random.usize(..4) {
                let row = self.random.usize(..self.sessions.len());
                let status = [Approved, Declined, Resubmitted, InReview, InProgress][self.random.usize(..5)];
                let wait = self.millis(30_000);
                self.after(wait, Event::Decision { row, status });
            }
            if self.random.u8(..6) == 0 {
                let wait = self.millis(5_000);
                self.after(wait, Event::Signal);
            }
            self.run(retry, kill);
            let rest = self.millis(3_600_000 * 2);
            self.idle(rest);
        }
        self.settle();
    }

    /// Runs the batch in a good network until every row has an outcome.
    fn settle(&mut self) {
        self.idle(HOUR * 48);
        self.network = Network::Good;
        self.fixed = true;
        for session in &mut self.sessions {
            if session.fault == Fault::Poison {
                session.fault = Fault::None;
            }
        }
        let mut left = usize::MAX;
        for round in 0.. {
            self.run(false, None);
            let unsettled = self.states().iter().filter(|state| state.outcome().is_none()).count();
            if unsettled == 0 {
                break;
            }
            // Many rows without permission may stop a run, but each run makes progress.
            check!(
                self,
                unsettled < left,
                "run {round} made no progress: {unsettled} of {left}"
            );
            left = unsettled;
        }
        // Rows that cannot be read may stop a run, too. The next run tries the last ones last.
        for _ in 0..4 {
            self.run(false, None);
        }
        for (row, state) in self.states().into_iter().enumerate() {
            let session = &self.sessions[row];
            let listed = match state.outcome() {
                Some(Outcome::Applied | Outcome::Already) => session.had_wanted,
                Some(Outcome::Refused) => session.fault != Fault::Forbidden,
                // The row has no permission, or its session cannot be read.
                Some(Outcome::NotApplied) => matches!(session.fault, Fault::Forbidden | Fault::Unreadable),
                Some(Outcome::Unknown) => {
                    !state.is_interrupted() && (state.in_doubt || session.fault != Fault::Missing)
                }
                None => false,
            };
            check!(self, listed, "row {row} is {state:?}");
            let open = state.outcome() == Some(Outcome::Unknown);
            let repeatable = (session.wanted != Resubmitted || !state.in_doubt) && session.fault == Fault::None;
            let decided =
                matches!(session.status, Approved | Declined | Resubmitted) && session.status != session.wanted;
            let why = session.status == InProgress || decided;
            check!(self, !(open && repeatable) || why, "row {row} could have been resent");
        }
        for _ in 0..4 {
            self.run(true, None);
        }
        for (row, state) in self.states().into_iter().enumerate() {
            let session = &self.sessions[row];
            let unwritable = [Fault::Missing, Fault::Forbidden, Fault::Unreadable].contains(&session.fault);
            let stuck = session.status == InProgress || unwritable;
            let open = state.outcome() == Some(Outcome::Unknown);
            check!(
                self,
                !open || stuck,
                "row {row} is still {state:?}: {:?}",
                session.status
            );
        }
    }

    fn any_network(&mut self) -> Network {
        match self.random.u8(..12) {
            0..=3 => Network::Good,
            4..=6 => Network::Flaky,
            7 => Network::WritesFail,
            8 => Network::ReadsFail,
            9 => Network::Down,
            10 => Network::Page,
            _ => Network::Limited(self.random.bool().then(|| self.random.u32(1..90))),
        }
    }

    /// Lets time pass without a run. Others decide, and late updates arrive.
    fn idle(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(Reverse((at, sequence))) = self.events.pop_until(until) {
            self.now = self.now.max(at);
            match self.payloads.remove(&sequence) {
                Some(Event::Late { row }) => drop(self.apply(row, true)),
                Some(Event::Decision { row, status }) => self.decide(row, status),
                _ => {}
            }
        }
        self.now = until;
    }

    fn decide(&mut self, row: usize, status: Status) {
        let session = &mut self.sessions[row];
        session.status = status;
        session.had_wanted |= status == session.wanted;
    }

    fn states(&self) -> Vec<RowState> {
        self.replay().into_iter().map(|(state, _)| state).collect()
    }

    fn replay(&self) -> Vec<(RowState, u64)> {
        let mut states = vec![(RowState::default(), 0); self.sessions.len()];
        for (place, entry) in self.journal.iter().enumerate() {
            let (row, result, in_doubt) = match *entry {
                Entry::Intent(row) => (row, None, true),
                Entry::Result(row, outcome, in_doubt) => (row, Some(outcome), in_doubt),
            };
            states[row] = (states[row].0.after(result, in_doubt), place as u64);
        }
        states
    }

    fn run(&mut self, retry: bool, kill: Option<u32>) {
        let max_outage = SECOND * [0, 5, 60, 60][if self.fixed { 3 } else { self.random.usize(..4) }];
        let rate = [4, 60, 300, 100_000][self.random.usize(..4)];
        let settings = Settings {
            writes: rate,
            reads: [rate, rate.min(100)][self.random.usize(..2)],
            max_outage,
            retry_unknown: retry,
            retry_refused: self.random.u8(..8) == 0,
        };
        let states = self.replay();
        let wanted = |row: usize| match self.sessions[row].wanted {
            Approved => NewStatus::Approved,
            Declined => NewStatus::Declined,
            _ => NewStatus::Resubmitted,
        };
        let mut model = Model::new(&settings, &states, wanted, HashMap::new());
        for (session, (state, _)) in self.sessions.iter_mut().zip(&states) {
            session.ended = match state.outcome() {
                Some(Outcome::Applied | Outcome::Already) => true,
                Some(Outcome::Refused) => !settings.retry_refused,
                _ => false,
            };
            session.retry = match state.outcome() {
                Some(Outcome::Unknown) => retry,
                Some(Outcome::Refused) => settings.retry_refused,
                _ => false,
            };
            (session.in_doubt, session.confirmed) = (state.in_doubt, false);
            (session.doubted, session.read_first, session.read) = (false, false, None);
            (session.sent, session.reads, session.read_last) = (0, 0, false);
        }
        let mut facts = Facts {
            start: self.now,
            max_outage,
            network: self.network,
            unchanged: true,
            good: self.network == Network::Good,
            pause_requested: false,
            failures: 0,
            succeeded: false,
            signalled: false,
            worker_failed: false,
        };
        self.paused_until = self.now;
        let jobs = self.random.usize(1..5);
        let (mut workers, mut steps) = (jobs, 0);
        for _ in 0..jobs {
            self.after(Duration::ZERO, Event::Free);
        }
        while workers > 0 {
            let Some(Reverse((at, sequence))) = self.events.pop() else {
                check!(self, false, "{workers} workers wait forever");
                break;
            };
            let Some(event) = self.payloads.remove(&sequence) else {
                continue;
            };
            self.now = self.now.max(at);
            let now = self.now - facts.start;
            steps += 1;
            check!(self, steps < 20_000, "the run has no end");
            if kill == Some(steps) {
                self.kill(event);
                return;
            }
            match event {
                Event::Free => match model.next(now) {
                    Task::Send(row) => {
                        self.check_send(row);
                        self.journal.push(Entry::Intent(row));
                        self.synced = self.journal.len();
                        let wait = self.millis(20);
                        self.after(wait, Event::Sent { row });
                    }
                    Task::Read(row) => {
                        self.sessions[row].reads += 1;
                        self.sessions[row].read_last = true;
                        self.sessions[row].read_first = false;
                        check!(
                            self,
                            self.now >= self.paused_until,
                            "row {row} is read during a requested pause"
                        );
                        let wait = self.millis(20);
                        self.after(wait, Event::Read { row });
                    }
                    Task::Wait(wait) => {
                        check!(self, !wait.is_zero(), "a wait of zero would loop");
                        self.after(wait, Event::Free);
                    }
                    Task::Done => workers -= 1,
                },
                Event::Sent { row } => {
                    let (wait, answer) = self.send(row);
                    self.after(wait, Event::Answered { row, answer });
                }
                Event::Read { row } => {
                    let (wait, answer) = self.read(row);
                    self.after(wait, Event::Answered { row, answer });
                }
                // A worker fails, and the outcome of its row is unknown.
                Event::Answered { .. } if !self.fixed && self.random.u16(..3000) == 0 => {
                    model.stop(Stop::Failed("it failed".into()));
                    (facts.worker_failed, workers) = (true, workers - 1);
                }
                Event::Answered { row, answer } => {
                    match &answer {
                        Answer::Failed(failure) => {
                            let wait = failure.retry_after.unwrap_or_default();
                            self.paused_until = self.paused_until.max(self.now + wait);
                            facts.failures += 1;
                            facts.pause_requested |= !wait.is_zero() || failure.kind == FailureKind::RateLimited;
                            facts.succeeded |= matches!(failure.kind, FailureKind::Refused | FailureKind::NoSession);
                            let session = &mut self.sessions[row];
                            session.read_first = failure.in_doubt && !session.doubted;
                            session.doubted |= failure.in_doubt;
                            session.in_doubt |= failure.in_doubt;
                        }
                        Answer::Applied => {
                            facts.succeeded = true;
                            self.sessions[row].confirmed = true;
                        }
                        Answer::ReadBack(_) => {}
                    }
                    if let Some(record) = model.answered(now, row, answer) {
                        self.record(&record);
                    }
                    // After a pause, an untouched row may go first, to test whether updates succeed.
                    if model.pause(now).is_some() {
                        self.sessions.iter_mut().for_each(|session| session.read_first = false);
                    }
                    self.after(Duration::ZERO, Event::Free);
                }
                Event::Late { row } => drop(self.apply(row, true)),
                Event::Decision { row, status } => self.decide(row, status),
                Event::Network(network) => {
                    if !self.fixed {
                        self.network = network;
                        facts.unchanged = false;
                        facts.good &= network == Network::Good;
                    }
                }
                Event::Signal => {
                    facts.signalled = true;
                    model.stop(Stop::Signal);
                }
            }
        }
        for record in model.finish() {
            match record.journaled {
                true => self.check_record(&record),
                false => self.record(&record),
            }
        }
        self.synced = self.journal.len();
        self.check_run(&model, &facts);
    }

    fn check_run(&self, model: &Model, facts: &Facts) {
        let states = self.states();
        let of = |is: fn(&RowState) -> bool| states.iter().filter(|state| is(state)).count();
        let counts = model.counts();
        let reported = [
            counts.applied + counts.already,
            counts.refused,
            counts.unknown,
            model.untouched(),
        ];
        let written = [
            of(|state| state.is_applied()),
            of(|state| state.outcome() == Some(Outcome::Refused)),
            of(|state| state.outcome() == Some(Outcome::Unknown)),
            of(|state| state.outcome().is_none()),
        ];
        check!(
            self,
            reported == written,
            "the run reports {reported:?}, but the journal says {states:?}"
        );
        let stopped = model.stopped();
        check!(
            self,
            stopped.is_some() || model.untouched() == 0,
            "the run ended with untouched rows"
        );

        let sent: u32 = self.sessions.iter().map(|session| session.sent).sum();
        let nothing_works = matches!(facts.network, Network::WritesFail | Network::Down | Network::Page);
        if facts.unchanged && nothing_works && !facts.succeeded {
            // Eight failures open the circuit. Up to three more requests are in flight by then, and the probes follow.
            check!(self, sent <= 8 + 3 + 8, "{sent} updates were sent, and none succeeded");
        }
        if let (Network::Limited(Some(pause)), true, false) = (facts.network, facts.unchanged, facts.succeeded) {
            let (took, limit) = (self.now - facts.start, facts.max_outage * 2 + SECOND * (3 * pause + 60));
            check!(
                self,
                took <= limit,
                "the run stopped after {took:?} of pauses of {pause} s"
            );
        }

        let faults = self
            .sessions
            .iter()
            .filter(|session| session.fault != Fault::None)
            .count();
        let undisturbed = facts.good && !facts.signalled && !facts.worker_failed;
        check!(
            self,
            stopped.is_none() || !undisturbed || faults > 0,
            "{stopped:?} in a good network"
        );
        // With fewer than eight failures and no requested pause, the circuit was never open.
        let closed = !facts.worker_failed && !facts.pause_requested && facts.failures < 8;
        for (row, state) in states.iter().enumerate() {
            let session = &self.sessions[row];
            let in_doubt = state.outcome() == Some(Outcome::Unknown) && state.in_doubt;
            let unread = in_doubt && session.sent > 0 && !session.read_last;
            check!(
                self,
                !(unread && closed && stopped == Some(&Stop::Signal)),
                "row {row} was left in doubt by a signal"
            );

            let requests = session.sent + session.reads;
            let read = session.read.is_some() || matches!(session.fault, Fault::Forbidden | Fault::Missing);
            let not_applied = state.outcome() == Some(Outcome::NotApplied) && session.fault != Fault::Forbidden;
            let left = (in_doubt && !read) || not_applied;
            check!(
                self,
                stopped.is_some() || !left || requests >= 10,
                "row {row} is {state:?} after {requests} requests"
            );

            // Fewer than four faulty sessions cannot open the circuit: no row fails more than twice before the others have
            // their turn.
            let open = state.is_interrupted() || matches!(state.outcome(), None | Some(Outcome::NotApplied));
            let good = undisturbed && faults < 4 && session.fault == Fault::None;
            check!(
                self,
                !(good && open),
                "row {row} could have been settled, but is {state:?}"
            );
        }
    }

    fn kill(&mut self, event: Event) {
        // The process is gone, but its requests may still arrive.
        self.payloads.insert(0, event);
        let mut late = Vec::new();
        self.payloads.retain(|_, event| match event {
            Event::Sent { row } => {
                late.push(*row);
                false
            }
            Event::Late { .. } | Event::Decision { .. } => true,
            _ => false,
        });
        for row in late {
            if self.random.bool() {
                self.sessions[row].possibly_applied += 1;
                let wait = self.millis(60_000);
                self.after(wait, Event::Late { row });
            }
        }
        // A power failure loses some of the unsynced entries.
        if self.random.bool() {
            let kept = self.random.usize(self.synced..=self.journal.len());
            self.journal.truncate(kept);
        }
        self.synced = self.journal.len();
    }

    fn check_send(&mut self, row: usize) {
        check!(
            self,
            self.now >= self.paused_until,
            "row {row} is sent during a requested pause"
        );
        let tried = self
            .journal
            .iter()
            .any(|entry| matches!(entry, Entry::Intent(tried) if *tried == row));
        let first = self.sessions.iter().position(|session| session.read_first);
        let begun = tried || self.sessions[row].read.is_some();
        check!(
            self,
            begun || first.is_none(),
            "row {row} is sent before row {first:?}, a new doubt, is read"
        );
        let session = &mut self.sessions[row];
        session.sent += 1;
        session.read_last = false;
        let (wanted, retry, possibly_applied) = (session.wanted, session.retry, session.possibly_applied);
        let (ended, read) = (session.ended, session.read);
        check!(self, !ended, "row {row} is sent after it ended");
        let differs = read.as_ref().is_some_and(|(status, _)| *status != Resubmitted);
        check!(
            self,
            wanted != Resubmitted || differs,
            "row {row} is resubmitted although the last read was {read:?}"
        );
        if retry || !tried {
            return;
        }
        check!(
            self,
            wanted != Resubmitted || possibly_applied == 0,
            "row {row} is resubmitted twice"
        );
        let Some((status, at)) = read else {
            panic!("seed {}: row {row} is resent without a read", self.seed);
        };
        check!(self, self.now - at <= 11 * SECOND, "row {row} was read too long ago");
        let decided = matches!(status, Approved | Declined | Resubmitted) && status != wanted;
        check!(self, !decided, "row {row} is sent over {status:?}");
    }

    fn record(&mut self, record: &Record) {
        self.check_record(record);
        self.journal
            .push(Entry::Result(record.row, record.outcome, record.in_doubt));
    }

    /// Checks that a result is true.
    fn check_record(&self, record: &Record) {
        let unchanged = record.reason.contains("nothing was changed");
        check!(self, !(record.in_doubt && unchanged), "{record:?} contradicts itself");
        let session = &self.sessions[record.row];
        let is_true = match record.outcome {
            Outcome::Applied => session.had_wanted && (session.confirmed || session.in_doubt),
            Outcome::Already => session.had_wanted && !session.in_doubt && session.possibly_applied == 0,
            Outcome::Refused | Outcome::NotApplied => session.possibly_applied == 0,
            // The row is in doubt, or its session has another decision or cannot be read.
            Outcome::Unknown => record.in_doubt || session.possibly_applied == 0,
        };
        check!(
            self,
            is_true,
            "{record:?} is reported, and {} updates of the row were or may be applied",
            session.possibly_applied
        );
    }

    /// Lets the server apply an update, or refuse it.
    fn apply(&mut self, row: usize, late: bool) -> Result<(), FailureKind> {
        let session = &mut self.sessions[row];
        if late {
            session.possibly_applied -= 1;
        }
        match session.fault {
            Fault::Missing => return Err(FailureKind::NoSession),
            Fault::Forbidden => return Err(FailureKind::NotPermitted),
            _ => {}
        }
        if session.status == InProgress || (session.wanted == Resubmitted && session.status == Resubmitted) {
            return Err(FailureKind::Refused);
        }
        session.possibly_applied += 1;
        session.applied += 1;
        session.status = session.wanted;
        session.had_wanted = true;
        Ok(())
    }

    /// Returns the answer to an update, and when it arrives.
    fn send(&mut self, row: usize) -> (Duration, Answer) {
        let soon = self.millis(300);
        let fails = |kind, in_doubt, retry_after| {
            let reason = "why".into();
            Answer::Failed(Failure {
                kind,
                in_doubt,
                reason,
                verdict: if in_doubt { "" } else { "; nothing was changed" }.into(),
                retry_after,
            })
        };
        let other = FailureKind::Other;
        let poison = self.sessions[row].fault == Fault::Poison;
        match self.network {
            Network::Down => return (soon, fails(other, false, None)),
            Network::Page => {
                let ok = self.random.bool();
                return (soon, fails(other, ok, None));
            }
            Network::Limited(wait) => {
                let wait = wait.map(|seconds| SECOND * seconds);
                return (soon, fails(FailureKind::RateLimited, false, wait));
            }
            Network::WritesFail => return (soon, fails(other, true, None)),
            Network::Flaky if self.random.u8(..3) == 0 => {}
            _ if poison => return (soon, fails(other, true, None)),
            _ => {
                return match self.apply(row, false) {
                    Ok(()) => (soon, Answer::Applied),
                    Err(kind) => (soon, fails(kind, false, None)),
                };
            }
        }
        match self.random.u8(..5) {
            // The request never arrives.
            0 => (SECOND * 30, fails(other, true, None)),
            // The request arrives later, perhaps much later.
            1 => {
                self.sessions[row].possibly_applied += 1;
                let most = [1_000, 40_000, 3_600_000][self.random.usize(..3)];
                let wait = self.millis(most);
                self.after(wait, Event::Late { row });
                (SECOND * 5, fails(other, true, None))
            }
            // The update is applied, and the answer is lost.
            2 if !poison => {
                let _ = self.apply(row, false);
                (soon, fails(other, true, None))
            }
            3 => (soon, fails(other, false, None)),
            _ => (soon, fails(other, true, Some(SECOND))),
        }
    }

    fn read(&mut self, row: usize) -> (Duration, Answer) {
        let soon = self.millis(300);
        let fails = |kind, retry_after| {
            let reason = "why".into();
            Answer::Failed(Failure {
                kind,
                in_doubt: false,
                reason,
                verdict: String::new(),
                retry_after,
            })
        };
        match self.network {
            Network::Down | Network::Page | Network::ReadsFail => return (soon, fails(FailureKind::Other, None)),
            Network::Limited(wait) => {
                let wait = wait.map(|seconds| SECOND * seconds);
                return (soon, fails(FailureKind::RateLimited, wait));
            }
            Network::Flaky if self.random.u8(..3) == 0 => return (soon, fails(FailureKind::Other, None)),
            _ => {}
        }
        let now = self.now;
        let session = &mut self.sessions[row];
        match session.fault {
            Fault::Missing => return (soon, fails(FailureKind::NoSession, None)),
            Fault::Forbidden => return (soon, fails(FailureKind::NotPermitted, None)),
            Fault::Unreadable => return (soon, fails(FailureKind::Other, None)),
            _ => {}
        }
        session.read = Some((session.status, now));
        let found = match session.status {
            InReview => SessionStatus::InReview,
            Approved => SessionStatus::Approved,
            Declined => SessionStatus::Declined,
            Resubmitted => SessionStatus::Resubmitted,
            InProgress => SessionStatus::InProgress,
        };
        (soon, Answer::ReadBack(found))
    }
}

trait PopUntil {
    fn pop_until(&mut self, until: Time) -> Option<Reverse<(Time, u64)>>;
}

impl PopUntil for BinaryHeap<Reverse<(Time, u64)>> {
    fn pop_until(&mut self, until: Time) -> Option<Reverse<(Time, u64)>> {
        match self.peek() {
            Some(Reverse((at, _))) if *at <= until => self.pop(),
            _ => None,
        }
    }
}

#[test]
fn random_days_keep_every_rule() {
    let days = std::env::var("SIMULATED_DAYS").ok().and_then(|days| days.parse().ok());
    let first = std::env::var("SIMULATED_SEED").ok().and_then(|seed| seed.parse().ok());
    let first = first.unwrap_or(0);
    for seed in first..first + days.unwrap_or(5_000) {
        Day::new(seed).run_all();
    }
}
