//! Random days, driven through the model from seeds: faults, outages, pauses asked for, other people's decisions, requests
//! that arrive long after they were given up, kills at every step, and resumes from what was written by then.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use didit::{NewStatus, SessionStatus};
use fastrand::Rng;

use super::model::{Model, Settings};
use super::outage::Time;
use super::rows::{Answer, Failure, FailureKind, Outcome, Record, RowState, Stop, Task};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Status {
    InReview,
    Approved,
    Declined,
    Resubmitted,
    /// The person is at it: no decision may change it.
    InProgress,
}

use Status::{Approved, Declined, InProgress, InReview, Resubmitted};

/// What is the matter with a row's session.
#[derive(Clone, Copy, PartialEq)]
enum Quirk {
    None,
    Missing,
    Forbidden,
    /// The server fails at it.
    Poison,
    /// It cannot be read back.
    Unreadable,
}

struct Session {
    wanted: Status,
    quirk: Quirk,
    status: Status,
    had_wanted: bool,
    /// How often the update was applied, where a Resubmitted counts each time.
    applied: u32,
    /// Sends that were applied, or may still be: the truth that the client cannot know.
    loose: u32,
    /// An attempt may have been applied, for all that the journal and this run's answers say; and this run's was confirmed.
    in_doubt: bool,
    confirmed: bool,
    /// What a read of this run showed last, and when it was answered.
    read: Option<(Status, Time)>,
    /// How often this run sent it, and read it back, and whether a read was the last of them.
    sent: u32,
    reads: u32,
    read_last: bool,
    /// This run put it in doubt; and it has to be read before the next untouched row.
    doubted: bool,
    read_first: bool,
    /// It had ended before this run, which was not asked to take it up again.
    ended: bool,
    /// A person wants this run to send it once more, whatever its session shows.
    retry: bool,
}

/// What the network and the server are like for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Weather {
    Good,
    /// A share of all requests fails in some way.
    Flaky,
    /// Read-only maintenance.
    WritesFail,
    ReadsFail,
    /// Nothing is reached.
    Down,
    /// A maintenance page, with status 200 or 404.
    Page,
    /// 429, with or without a pause that is asked for.
    Limited(Option<u32>),
}

/// What stands in the journal.
#[derive(Clone, Copy)]
enum Entry {
    Intent(usize),
    Result(usize, Outcome, bool),
}

enum Event {
    /// A worker is free.
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
    /// A request that was given up arrives all the same.
    Late {
        row: usize,
    },
    Person {
        row: usize,
        status: Status,
    },
    Weather(Weather),
    Signal,
}

struct Day {
    seed: u64,
    random: Rng,
    now: Time,
    sessions: Vec<Session>,
    journal: Vec<Entry>,
    /// How much of it would outlast a power cut.
    synced: usize,
    weather: Weather,
    events: BinaryHeap<Reverse<(Time, u64)>>,
    payloads: HashMap<u64, Event>,
    sequence: u64,
    /// No request may leave before this.
    asked_until: Time,
    fixed: bool,
}

/// What happened in a run.
struct Course {
    start: Time,
    max_outage: Duration,
    /// The weather at its beginning, and whether it stayed so, and was good throughout.
    weather: Weather,
    steady: bool,
    good: bool,
    /// The server asked for a pause.
    asked: bool,
    failures: u32,
    /// A write got through.
    through: bool,
    signalled: bool,
    /// A worker failed.
    broken: bool,
}

macro_rules! hold {
    ($day:expr, $cond:expr, $($text:tt)+) => {
        assert!($cond, "seed {}, {:?}: {}", $day.seed, $day.now, format!($($text)+))
    };
}

impl Day {
    fn new(seed: u64) -> Day {
        let mut random = Rng::with_seed(seed);
        // Some days begin with a head of rows that are not permitted.
        let head = if random.u8(..8) == 0 { random.usize(..24) } else { 0 };
        let bad = [Quirk::Forbidden, Quirk::Unreadable][random.usize(..2)];
        let rows = head + random.usize(1..10);
        let mut sessions = Vec::new();
        for row in 0..rows {
            let wanted = [Approved, Declined, Resubmitted][random.usize(..3)];
            let quirk = match random.u8(..20) {
                _ if row < head => bad,
                0 => Quirk::Missing,
                1 => Quirk::Forbidden,
                2 => Quirk::Poison,
                3 => Quirk::Unreadable,
                _ => Quirk::None,
            };
            let status = [InReview, InReview, Approved, Declined, InProgress][random.usize(..5)];
            sessions.push(Session {
                wanted,
                quirk,
                status,
                had_wanted: status == wanted,
                applied: 0,
                loose: 0,
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
            weather: Weather::Good,
            events: BinaryHeap::new(),
            payloads: HashMap::new(),
            sequence: 0,
            asked_until: Time::ZERO,
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

    fn go(&mut self) {
        let runs = self.random.usize(1..5);
        for _ in 0..runs {
            let retry = self.random.u8(..6) == 0;
            let kill = self.random.bool().then(|| self.random.u32(..120));
            self.weather = self.any_weather();
            for _ in 0..self.random.usize(..4) {
                let (wait, weather) = (self.millis(90_000), self.any_weather());
                self.after(wait, Event::Weather(weather));
            }
            for _ in 0..self.random.usize(..4) {
                let row = self.random.usize(..self.sessions.len());
                let status = [Approved, Declined, Resubmitted, InReview, InProgress][self.random.usize(..5)];
                let wait = self.millis(30_000);
                self.after(wait, Event::Person { row, status });
            }
            if self.random.u8(..6) == 0 {
                let wait = self.millis(5_000);
                self.after(wait, Event::Signal);
            }
            self.run(retry, kill);
            let rest = self.millis(3_600_000 * 2);
            self.let_pass(rest);
        }
        self.settle();
    }

    /// In good weather the day comes to an end.
    fn settle(&mut self) {
        self.let_pass(HOUR * 48);
        self.weather = Weather::Good;
        self.fixed = true;
        for session in &mut self.sessions {
            if session.quirk == Quirk::Poison {
                session.quirk = Quirk::None;
            }
        }
        let mut left = usize::MAX;
        for round in 0.. {
            self.run(false, None);
            let unsettled = self.states().iter().filter(|state| state.outcome().is_none()).count();
            if unsettled == 0 {
                break;
            }
            // A long head of rows that are not permitted may stop it, but each run gets further.
            hold!(
                self,
                unsettled < left,
                "run {round} got no further: {unsettled} of {left}"
            );
            left = unsettled;
        }
        // Rows that cannot be read stop a run, too: what was tried last comes last in the next.
        for _ in 0..4 {
            self.run(false, None);
        }
        for (row, state) in self.states().into_iter().enumerate() {
            let session = &self.sessions[row];
            let listed = match state.outcome() {
                Some(Outcome::Applied | Outcome::Already) => session.had_wanted,
                Some(Outcome::Refused) => session.quirk != Quirk::Forbidden,
                // Not permitted, or it cannot be read.
                Some(Outcome::NotApplied) => matches!(session.quirk, Quirk::Forbidden | Quirk::Unreadable),
                Some(Outcome::Unknown) => !state.is_interrupted() && session.quirk != Quirk::Missing,
                None => false,
            };
            hold!(self, listed, "row {row} is {state:?}");
            let open = state.outcome() == Some(Outcome::Unknown);
            let repeatable = (session.wanted != Resubmitted || !state.in_doubt) && session.quirk == Quirk::None;
            let decided =
                matches!(session.status, Approved | Declined | Resubmitted) && session.status != session.wanted;
            let why = session.status == InProgress || decided;
            hold!(
                self,
                !(open && repeatable) || why,
                "row {row} could have been sent again"
            );
        }
        for _ in 0..4 {
            self.run(true, None);
        }
        for (row, state) in self.states().into_iter().enumerate() {
            let session = &self.sessions[row];
            let stuck = session.status == InProgress || matches!(session.quirk, Quirk::Forbidden | Quirk::Unreadable);
            let open = state.outcome() == Some(Outcome::Unknown);
            hold!(
                self,
                !open || stuck,
                "row {row} is still {state:?}: {:?}",
                session.status
            );
        }
    }

    fn any_weather(&mut self) -> Weather {
        match self.random.u8(..12) {
            0..=3 => Weather::Good,
            4..=6 => Weather::Flaky,
            7 => Weather::WritesFail,
            8 => Weather::ReadsFail,
            9 => Weather::Down,
            10 => Weather::Page,
            _ => Weather::Limited(self.random.bool().then(|| self.random.u32(1..90))),
        }
    }

    /// What goes on while no run does: people decide, and requests that were given up arrive.
    fn let_pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(Reverse((at, sequence))) = self.events.pop_until(until) {
            self.now = self.now.max(at);
            match self.payloads.remove(&sequence) {
                Some(Event::Late { row }) => drop(self.apply(row, true)),
                Some(Event::Person { row, status }) => self.decide(row, status),
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
        let mut course = Course {
            start: self.now,
            max_outage,
            weather: self.weather,
            steady: true,
            good: self.weather == Weather::Good,
            asked: false,
            failures: 0,
            through: false,
            signalled: false,
            broken: false,
        };
        self.asked_until = self.now;
        let jobs = self.random.usize(1..5);
        let (mut workers, mut steps) = (jobs, 0);
        for _ in 0..jobs {
            self.after(Duration::ZERO, Event::Free);
        }
        while workers > 0 {
            let Some(Reverse((at, sequence))) = self.events.pop() else {
                hold!(self, false, "{workers} workers wait for nothing");
                break;
            };
            let Some(event) = self.payloads.remove(&sequence) else {
                continue;
            };
            self.now = self.now.max(at);
            let now = self.now - course.start;
            steps += 1;
            hold!(self, steps < 20_000, "the run has no end");
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
                        hold!(
                            self,
                            self.now >= self.asked_until,
                            "row {row} is read in a pause that was asked for"
                        );
                        let wait = self.millis(20);
                        self.after(wait, Event::Read { row });
                    }
                    Task::Wait(wait) => {
                        hold!(self, !wait.is_zero(), "a wait of nothing would spin");
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
                // A worker fails, and nobody knows what came of its row.
                Event::Answered { .. } if !self.fixed && self.random.u16(..3000) == 0 => {
                    model.stop(Stop::Failed("it failed".into()));
                    (course.broken, workers) = (true, workers - 1);
                }
                Event::Answered { row, answer } => {
                    match &answer {
                        Answer::Failed(failure) => {
                            let wait = failure.retry_after.unwrap_or_default();
                            self.asked_until = self.asked_until.max(self.now + wait);
                            course.failures += 1;
                            course.asked |= !wait.is_zero() || failure.kind == FailureKind::RateLimited;
                            course.through |= matches!(failure.kind, FailureKind::Refused | FailureKind::NoSession);
                            let session = &mut self.sessions[row];
                            session.read_first = failure.in_doubt && !session.doubted;
                            session.doubted |= failure.in_doubt;
                            session.in_doubt |= failure.in_doubt;
                        }
                        Answer::Applied => {
                            course.through = true;
                            self.sessions[row].confirmed = true;
                        }
                        Answer::ReadBack(_) => {}
                    }
                    if let Some(record) = model.answered(now, row, answer) {
                        self.record(&record);
                    }
                    // After a pause an untouched row may go first, to show whether updates get through.
                    if model.pause(now).is_some() {
                        self.sessions.iter_mut().for_each(|session| session.read_first = false);
                    }
                    self.after(Duration::ZERO, Event::Free);
                }
                Event::Late { row } => drop(self.apply(row, true)),
                Event::Person { row, status } => self.decide(row, status),
                Event::Weather(weather) => {
                    if !self.fixed {
                        self.weather = weather;
                        course.steady = false;
                        course.good &= weather == Weather::Good;
                    }
                }
                Event::Signal => {
                    course.signalled = true;
                    model.stop(Stop::Signal);
                }
            }
        }
        for record in model.finish() {
            match record.journaled {
                true => self.check_told(&record),
                false => self.record(&record),
            }
        }
        self.synced = self.journal.len();
        self.check_run(&model, &course);
    }

    fn check_run(&self, model: &Model, course: &Course) {
        let states = self.states();
        let of = |is: fn(&RowState) -> bool| states.iter().filter(|state| is(state)).count();
        let counts = model.counts();
        let told = [
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
        hold!(
            self,
            told == written,
            "{told:?} are told, and the journal says {states:?}"
        );
        let stopped = model.stopped();
        hold!(
            self,
            stopped.is_some() || model.untouched() == 0,
            "it ended with rows untouched"
        );

        let sent: u32 = self.sessions.iter().map(|session| session.sent).sum();
        let nothing_works = matches!(course.weather, Weather::WritesFail | Weather::Down | Weather::Page);
        if course.steady && nothing_works && !course.through {
            // Eight that open the circuit, what the other workers have in flight by then, and the probes.
            hold!(self, sent <= 8 + 3 + 8, "{sent} were sent, and nothing got through");
        }
        if let (Weather::Limited(Some(pause)), true, false) = (course.weather, course.steady, course.through) {
            let (took, limit) = (
                self.now - course.start,
                course.max_outage * 2 + SECOND * (3 * pause + 60),
            );
            hold!(
                self,
                took <= limit,
                "it took {took:?} to give up on pauses of {pause} s"
            );
        }

        let quirks = self
            .sessions
            .iter()
            .filter(|session| session.quirk != Quirk::None)
            .count();
        let undisturbed = course.good && !course.signalled && !course.broken;
        hold!(
            self,
            stopped.is_none() || !undisturbed || quirks > 0,
            "{stopped:?} on a good day"
        );
        // With fewer than eight failures and no pause that was asked for, the circuit was never open.
        let closed = !course.broken && !course.asked && course.failures < 8;
        for (row, state) in states.iter().enumerate() {
            let session = &self.sessions[row];
            let in_doubt = state.outcome() == Some(Outcome::Unknown) && state.in_doubt;
            let unread = in_doubt && session.sent > 0 && !session.read_last;
            hold!(
                self,
                !(unread && closed && stopped == Some(&Stop::Signal)),
                "row {row} was left in doubt by a signal"
            );

            let requests = session.sent + session.reads;
            let read = session.read.is_some() || matches!(session.quirk, Quirk::Forbidden | Quirk::Missing);
            let not_applied = state.outcome() == Some(Outcome::NotApplied) && session.quirk != Quirk::Forbidden;
            let left = (in_doubt && !read) || not_applied;
            hold!(
                self,
                stopped.is_some() || !left || requests >= 10,
                "row {row} is {state:?} after {requests} requests"
            );

            // No row fails more than twice before the others had their turn.
            let open = state.is_interrupted() || matches!(state.outcome(), None | Some(Outcome::NotApplied));
            let good = undisturbed && quirks < 4 && session.quirk == Quirk::None;
            hold!(
                self,
                !(good && open),
                "row {row} could have been settled, and is {state:?}"
            );
        }
    }

    fn kill(&mut self, event: Event) {
        // The process is gone; what it sent is not.
        self.payloads.insert(0, event);
        let mut late = Vec::new();
        self.payloads.retain(|_, event| match event {
            Event::Sent { row } => {
                late.push(*row);
                false
            }
            Event::Late { .. } | Event::Person { .. } => true,
            _ => false,
        });
        for row in late {
            if self.random.bool() {
                self.sessions[row].loose += 1;
                let wait = self.millis(60_000);
                self.after(wait, Event::Late { row });
            }
        }
        // A power cut takes what was not synced, or the end of it, with a torn line.
        if self.random.bool() {
            let kept = self.random.usize(self.synced..=self.journal.len());
            self.journal.truncate(kept);
        }
        self.synced = self.journal.len();
    }

    fn check_send(&mut self, row: usize) {
        hold!(
            self,
            self.now >= self.asked_until,
            "row {row} is sent in a pause that was asked for"
        );
        let tried = self
            .journal
            .iter()
            .any(|entry| matches!(entry, Entry::Intent(tried) if *tried == row));
        let first = self.sessions.iter().position(|session| session.read_first);
        hold!(
            self,
            tried || first.is_none(),
            "row {row} is sent before {first:?} is read, which has just been in doubt"
        );
        let session = &mut self.sessions[row];
        session.sent += 1;
        session.read_last = false;
        let (wanted, retry, loose) = (session.wanted, session.retry, session.loose);
        let (ended, read) = (session.ended, session.read);
        hold!(self, !ended, "row {row} is sent after its end");
        if retry || !tried {
            return;
        }
        hold!(
            self,
            wanted != Resubmitted || loose == 0,
            "row {row} is resubmitted twice"
        );
        let Some((status, at)) = read else {
            panic!("seed {}: row {row} is sent again without having been read", self.seed);
        };
        hold!(self, self.now - at <= 11 * SECOND, "row {row} was read too long ago");
        let decided = matches!(status, Approved | Declined | Resubmitted) && status != wanted;
        hold!(self, !decided, "row {row} is sent over {status:?}");
    }

    fn record(&mut self, record: &Record) {
        self.check_told(record);
        self.journal
            .push(Entry::Result(record.row, record.outcome, record.in_doubt));
    }

    /// Nothing is told that is not so.
    fn check_told(&self, record: &Record) {
        let unchanged = record.reason.contains("nothing was changed");
        hold!(self, !(record.in_doubt && unchanged), "{record:?} contradicts itself");
        let session = &self.sessions[record.row];
        let told = match record.outcome {
            Outcome::Applied => session.had_wanted && (session.confirmed || session.in_doubt),
            Outcome::Already => session.had_wanted && !session.in_doubt && session.loose == 0,
            Outcome::Refused if record.in_doubt => session.quirk == Quirk::Missing,
            Outcome::Refused | Outcome::NotApplied => session.loose == 0,
            // It is in doubt, or its session shows another decision or cannot be read.
            Outcome::Unknown => record.in_doubt || session.loose == 0,
        };
        hold!(
            self,
            told,
            "{record:?} is told, and {} of it were applied or may be",
            session.loose
        );
    }

    /// The server takes an update, or refuses it.
    fn apply(&mut self, row: usize, late: bool) -> Result<(), FailureKind> {
        let session = &mut self.sessions[row];
        if late {
            session.loose -= 1;
        }
        match session.quirk {
            Quirk::Missing => return Err(FailureKind::NoSession),
            Quirk::Forbidden => return Err(FailureKind::NotPermitted),
            _ => {}
        }
        if session.status == InProgress || (session.wanted == Resubmitted && session.status == Resubmitted) {
            return Err(FailureKind::Refused);
        }
        session.loose += 1;
        session.applied += 1;
        session.status = session.wanted;
        session.had_wanted = true;
        Ok(())
    }

    /// What comes of a request to update, and when the client has its answer.
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
        let poison = self.sessions[row].quirk == Quirk::Poison;
        match self.weather {
            Weather::Down => return (soon, fails(other, false, None)),
            Weather::Page => {
                let ok = self.random.bool();
                return (soon, fails(other, ok, None));
            }
            Weather::Limited(wait) => {
                let wait = wait.map(|seconds| SECOND * seconds);
                return (soon, fails(FailureKind::RateLimited, false, wait));
            }
            Weather::WritesFail => return (soon, fails(other, true, None)),
            Weather::Flaky if self.random.u8(..3) == 0 => {}
            _ if poison => return (soon, fails(other, true, None)),
            _ => {
                return match self.apply(row, false) {
                    Ok(()) => (soon, Answer::Applied),
                    Err(kind) => (soon, fails(kind, false, None)),
                };
            }
        }
        match self.random.u8(..5) {
            // It never arrives.
            0 => (SECOND * 30, fails(other, true, None)),
            // It arrives later, perhaps much later.
            1 => {
                self.sessions[row].loose += 1;
                let most = [1_000, 40_000, 3_600_000][self.random.usize(..3)];
                let wait = self.millis(most);
                self.after(wait, Event::Late { row });
                (SECOND * 5, fails(other, true, None))
            }
            // It is applied, and the answer is lost.
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
        match self.weather {
            Weather::Down | Weather::Page | Weather::ReadsFail => return (soon, fails(FailureKind::Other, None)),
            Weather::Limited(wait) => {
                let wait = wait.map(|seconds| SECOND * seconds);
                return (soon, fails(FailureKind::RateLimited, wait));
            }
            Weather::Flaky if self.random.u8(..3) == 0 => return (soon, fails(FailureKind::Other, None)),
            _ => {}
        }
        let now = self.now;
        let session = &mut self.sessions[row];
        match session.quirk {
            Quirk::Missing => return (soon, fails(FailureKind::NoSession, None)),
            Quirk::Forbidden => return (soon, fails(FailureKind::NotPermitted, None)),
            Quirk::Unreadable => return (soon, fails(FailureKind::Other, None)),
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
fn random_days() {
    let days = std::env::var("SIMULATED_DAYS").ok().and_then(|days| days.parse().ok());
    let first = std::env::var("SIMULATED_SEED").ok().and_then(|seed| seed.parse().ok());
    let first = first.unwrap_or(0);
    for seed in first..first + days.unwrap_or(5_000) {
        Day::new(seed).go();
    }
}
