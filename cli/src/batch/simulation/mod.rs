//! Drives the scheduler through random days, each generated from a seed. A day has several runs of one batch, with faults,
//! outages, requested pauses, refused tokens, decisions by others, requests that arrive long after they timed out, kills at any
//! step, and resumes from the journal as written by then. `server` is Didit, and `oracle` checks the rules of docs/batch.md.

mod oracle;
mod server;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use didit::NewStatus;
use fastrand::Rng;

use super::history::{LastEntry, RowHistory};
use super::result::RowResult;
use super::rules::RequestKind;
use super::scheduler::{Left, Scheduler, Settings, Step, Stop, Task};
use oracle::Oracle;
use server::{Fault, Network, Response, Server, Status};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// An entry of the journal: an intent has no result.
type Entry = (usize, Option<RowResult>);

enum Event {
    /// A worker asks for its next task.
    Free,
    /// A request arrives at the server.
    Arrived {
        row: usize,
        request: RequestKind,
    },
    /// Its response arrives at the worker.
    Responded {
        row: usize,
        request: RequestKind,
        response: Response,
    },
    /// An update arrives after its request timed out, or after the run was killed.
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
    now: Duration,
    server: Server,
    journal: Vec<Entry>,
    /// How many entries would survive a power failure.
    synced: usize,
    events: BinaryHeap<Reverse<(Duration, u64)>>,
    payloads: HashMap<u64, Event>,
    sequence: u64,
    /// Whether the network stays good.
    is_settling: bool,
}

macro_rules! check {
    ($day:expr, $cond:expr, $($text:tt)+) => {
        assert!($cond, "seed {}, {:?}: {}", $day.seed, $day.now, format!($($text)+))
    };
}
use check;

/// How a run is started.
#[derive(Clone, Copy, Default)]
struct Options {
    retry_unknown: bool,
    retry_refused: bool,
    unless_decided: bool,
    /// The run is killed at this step.
    kill: Option<u32>,
}

impl Day {
    fn new(seed: u64) -> Day {
        let mut random = Rng::with_seed(seed);
        let server = Server::new(&mut random);
        Day {
            seed,
            random,
            now: Duration::ZERO,
            server,
            journal: Vec::new(),
            synced: 0,
            events: BinaryHeap::new(),
            payloads: HashMap::new(),
            sequence: 0,
            is_settling: false,
        }
    }

    fn after(&mut self, wait: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((self.now + wait, self.sequence)));
        self.payloads.insert(self.sequence, event);
    }

    /// Returns the next event, if it happens before `until`.
    fn next_event(&mut self, until: Duration) -> Option<Event> {
        loop {
            let Reverse((at, sequence)) = *self.events.peek()?;
            if at > until {
                return None;
            }
            self.events.pop();
            self.now = self.now.max(at);
            // A kill removes events.
            if let Some(event) = self.payloads.remove(&sequence) {
                return Some(event);
            }
        }
    }

    fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.random.u64(1..=most))
    }

    fn run_all(&mut self) {
        for _ in 0..self.random.usize(1..5) {
            let options = Options {
                retry_unknown: self.random.u8(..6) == 0,
                retry_refused: self.random.u8(..8) == 0,
                unless_decided: self.random.u8(..4) == 0,
                kill: self.random.bool().then(|| self.random.u32(..120)),
            };
            self.server.network = Network::any(&mut self.random);
            for _ in 0..self.random.usize(..4) {
                let (wait, network) = (self.millis(90_000), Network::any(&mut self.random));
                self.after(wait, Event::Network(network));
            }
            for _ in 0..self.random.usize(..4) {
                let (row, status) = self.server.any_decision(&mut self.random);
                let wait = self.millis(30_000);
                self.after(wait, Event::Decision { row, status });
            }
            if self.random.u8(..6) == 0 {
                let wait = self.millis(5_000);
                self.after(wait, Event::Signal);
            }
            self.run(options);
            let rest = self.millis(3_600_000 * 2);
            self.idle(rest);
        }
        self.settle();
    }

    /// Runs the batch in a good network until every row has a result, and then with `--retry unknown`.
    fn settle(&mut self) {
        self.idle(HOUR * 48);
        let unless_decided = self.random.u8(..4) == 0;
        self.server.network = Network::Good;
        self.is_settling = true;
        self.server.cure_poison();
        let options = Options {
            unless_decided,
            ..Options::default()
        };
        let mut left = usize::MAX;
        for round in 0.. {
            self.run(options);
            let unsettled = self.last_results().iter().filter(|result| result.is_none()).count();
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
            self.run(options);
        }
        for (row, result) in self.last_results().into_iter().enumerate() {
            let session = &self.server.sessions[row];
            let is_explained = match result {
                None => false,
                Some(RowResult::Applied | RowResult::Already) => session.had_wanted,
                Some(RowResult::LeftAlone | RowResult::Refused) => true,
                // The row has no permission, or its session cannot be read.
                Some(RowResult::NotApplied) => matches!(session.fault, Fault::Forbidden | Fault::Unreadable),
                // It cannot be read or updated, someone else decided, or a resubmission waits for a person.
                Some(RowResult::Unknown) => {
                    session.fault != Fault::None
                        || session.status.is_decided() && session.status != session.wanted
                        || session.status == Status::InProgress
                        || session.wanted == Status::Resubmitted
                }
            };
            check!(self, is_explained, "row {row} is {result:?}");
        }
        for _ in 0..4 {
            self.run(Options {
                retry_unknown: true,
                ..options
            });
        }
        for (row, result) in self.last_results().into_iter().enumerate() {
            let session = &self.server.sessions[row];
            let is_stuck = session.status == Status::InProgress || session.fault != Fault::None;
            check!(
                self,
                result != Some(RowResult::Unknown) || is_stuck,
                "row {row} is still unknown: {:?}",
                session.status
            );
        }
    }

    /// Lets time pass without a run. Others decide, and late updates arrive.
    fn idle(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(event) = self.next_event(until) {
            self.happen(event);
        }
        self.now = until;
    }

    /// Handles an event that has nothing to do with a run.
    fn happen(&mut self, event: Event) {
        match event {
            Event::Late { row } => self.server.apply_late(row),
            Event::Decision { row, status } => self.server.decide(row, status),
            Event::Network(network) if !self.is_settling => self.server.network = network,
            _ => {}
        }
    }

    /// Returns the last entry of each row, and its position.
    fn replay(&self) -> Vec<RowHistory> {
        let mut last = vec![RowHistory::default(); self.server.sessions.len()];
        for (place, (row, result)) in self.journal.iter().enumerate() {
            last[*row] = RowHistory {
                last: result.map_or(LastEntry::Intent, LastEntry::Result),
                place: place as u64,
            };
        }
        last
    }

    /// Returns the last result of each row. A row with an intent after it is unknown.
    fn last_results(&self) -> Vec<Option<RowResult>> {
        let mut results = vec![None; self.server.sessions.len()];
        for (row, result) in &self.journal {
            results[*row] = Some(result.unwrap_or(RowResult::Unknown));
        }
        results
    }

    fn run(&mut self, options: Options) {
        let rate = [4, 60, 300, 100_000][self.random.usize(..4)];
        let settings = Settings {
            updates: rate,
            reads: [rate, rate.min(100)][self.random.usize(..2)],
            max_outage: SECOND * [0, 5, 60, 60][if self.is_settling { 3 } else { self.random.usize(..4) }],
            retry_unknown: options.retry_unknown,
            retry_refused: options.retry_refused,
            unless_decided: options.unless_decided,
            has_access_token: self.random.bool(),
        };
        let wanted = |row: usize| match self.server.sessions[row].wanted {
            Status::Approved => NewStatus::Approved,
            Status::Declined => NewStatus::Declined,
            _ => NewStatus::Resubmitted,
        };
        let mut scheduler = Scheduler::new(&settings, &self.replay(), wanted);
        let mut oracle = Oracle::new(self.seed, self.now, settings, &self.server, &self.journal);
        let start = self.now;
        let jobs = self.random.usize(1..5);
        let (mut workers, mut steps, mut is_journal_broken) = (jobs, 0, false);
        for _ in 0..jobs {
            self.after(Duration::ZERO, Event::Free);
        }
        while workers > 0 {
            let Some(event) = self.next_event(Duration::MAX) else {
                check!(self, false, "{workers} workers wait forever");
                break;
            };
            oracle.now = self.now;
            let now = self.now - start;
            steps += 1;
            check!(self, steps < 20_000, "the run has no end");
            if options.kill == Some(steps) {
                return self.kill(event);
            }
            match event {
                Event::Free => match scheduler.next(now) {
                    Task::Update(row) => {
                        oracle.turn(row, RequestKind::Update);
                        is_journal_broken |= !self.send(&mut scheduler, &mut oracle, row, is_journal_broken);
                    }
                    Task::Read(row) => {
                        oracle.turn(row, RequestKind::Read);
                        let wait = self.millis(20);
                        let request = RequestKind::Read;
                        self.after(wait, Event::Arrived { row, request });
                    }
                    Task::Wait(wait) => {
                        check!(self, !wait.is_zero(), "a wait of zero would loop");
                        self.after(wait, Event::Free);
                    }
                    Task::Done => {
                        oracle.worker_ends(scheduler.stopped());
                        workers -= 1;
                    }
                },
                Event::Arrived { row, request } => {
                    let (wait, response, late) = self.server.respond(row, request, &mut self.random);
                    if let Some(late) = late {
                        self.after(late, Event::Late { row });
                    }
                    self.after(wait, Event::Responded { row, request, response });
                }
                Event::Responded { row, request, response } => {
                    let step = match &response {
                        Response::Found(status) => scheduler.found(now, row, &status.to_didit()),
                        Response::Outcome(outcome, asked) => scheduler.ended(now, row, *outcome, *asked),
                    };
                    scheduler.take_new_pause();
                    oracle.responded(row, request, &response, step, scheduler.stopped());
                    match step {
                        Step::Update => {
                            is_journal_broken |= !self.send(&mut scheduler, &mut oracle, row, is_journal_broken);
                            continue;
                        }
                        Step::Wait => {}
                        Step::NotApplied => self.record(row, RowResult::NotApplied, is_journal_broken),
                        Step::Report(result) => {
                            oracle.is_true(row, result, &self.server);
                            self.record(row, result, is_journal_broken);
                        }
                    }
                    self.after(Duration::ZERO, Event::Free);
                }
                Event::Signal => {
                    oracle.signalled = true;
                    scheduler.stop(Stop::Signal);
                }
                Event::Network(_) if self.is_settling => {}
                event => self.happen(event),
            }
        }
        for row in 0..self.server.sessions.len() {
            let Some(left) = scheduler.left(row) else { continue };
            oracle.left(row, left);
            match left {
                Left::InDoubt | Left::NotChecked { is_reported: false } => {
                    self.record(row, RowResult::Unknown, is_journal_broken);
                }
                Left::NotApplied | Left::NotChecked { is_reported: true } => {}
            }
        }
        self.synced = self.journal.len();
        oracle.run_ends(scheduler.stopped(), is_journal_broken);
    }

    /// Writes the intent of an update and sends it. Returns false if the journal cannot be written.
    fn send(&mut self, scheduler: &mut Scheduler, oracle: &mut Oracle, row: usize, is_journal_broken: bool) -> bool {
        if is_journal_broken || !self.is_settling && self.random.u16(..3000) == 0 {
            scheduler.not_journaled(row);
            oracle.not_journaled(row);
            self.after(Duration::ZERO, Event::Free);
            return false;
        }
        oracle.sends(row, &self.server);
        self.journal.push((row, None));
        self.synced = self.journal.len();
        let wait = self.millis(20);
        let request = RequestKind::Update;
        self.after(wait, Event::Arrived { row, request });
        true
    }

    /// Writes a result. After one failed write, nothing more is written.
    fn record(&mut self, row: usize, result: RowResult, is_journal_broken: bool) {
        if !is_journal_broken {
            self.journal.push((row, Some(result)));
        }
    }

    fn kill(&mut self, event: Event) {
        // The process is gone, but its requests may still arrive.
        self.payloads.insert(0, event);
        let mut late = Vec::new();
        self.payloads.retain(|_, event| match event {
            Event::Arrived {
                row,
                request: RequestKind::Update,
            } => {
                late.push(*row);
                false
            }
            Event::Late { .. } | Event::Decision { .. } => true,
            _ => false,
        });
        late.sort_unstable();
        for row in late {
            if self.random.bool() {
                self.server.sessions[row].possibly_applied += 1;
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
}

#[test]
fn random_days_keep_every_rule() {
    let number = |name| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let first = number("SIMULATED_SEED").unwrap_or(0);
    for seed in first..first + number("SIMULATED_DAYS").unwrap_or(5_000) {
        Day::new(seed).run_all();
    }
}
