//! The shell around the model: threads that do what it says, the clock, the journal, signals, and what is told meanwhile.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use didit::{Client, Error, ErrorKind, NewStatus, SessionId, SessionStatus, Verdict};

use super::circuit::Time;
use super::events::{Action, Answer, Failure, FailureKind, ReadBack, Stop, Task};
use super::input::Input;
use super::journal::Journal;
use super::model::Model;
use super::progress::Progress;
use super::results::{Lines, ResultLine, Summary};
use super::signals;
use crate::args::Output;
use crate::report::{Exit, diagnose};

/// How long a signal may have to wait until it is noticed.
const SIGNAL: Duration = Duration::from_millis(100);

pub struct Run<'a> {
    client: &'a Client,
    input: &'a Input,
    journal: &'a Journal,
    start: Instant,
    signal: Arc<AtomicBool>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    model: Model,
    lines: Lines,
    /// What is to be said on standard error.
    notes: Vec<String>,
    workers: u32,
}

impl<'a> Run<'a> {
    pub fn new(
        client: &'a Client,
        input: &'a Input,
        journal: &'a Journal,
        model: Model,
        lines: Lines,
    ) -> io::Result<Run<'a>> {
        Ok(Run {
            client,
            input,
            journal,
            start: Instant::now(),
            signal: signals::watch()?,
            state: Mutex::new(State {
                model,
                lines,
                notes: Vec::new(),
                workers: 0,
            }),
            changed: Condvar::new(),
        })
    }

    pub fn go(self, jobs: u32, output: Output) -> Exit {
        let before = self.state().model.counts().ended();
        let mut progress = Progress::new(self.input.len(), before, output.quiet);
        thread::scope(|scope| {
            self.state().workers = jobs;
            // Where there are no more threads, those that there are do all the work.
            let spawn = |_: &u32| thread::Builder::new().spawn_scoped(scope, || self.work()).is_ok();
            let spawned = (0..jobs).filter(spawn).count() as u32;
            self.state().workers -= jobs - spawned.max(1);
            if spawned == 0 {
                self.work();
            }
            self.watch(&mut progress);
        });
        progress.finish();
        self.end(before, output)
    }

    /// Tells what happens until the last worker is done.
    fn watch(&self, progress: &mut Progress) {
        loop {
            let mut state = self.state();
            if state.workers == 0 {
                return;
            }
            if state.lines.is_empty() && state.notes.is_empty() {
                state = self.wait(state, progress.interval());
            }
            let counts = state.model.counts();
            let pause = state.model.pause(self.start.elapsed());
            let notes = std::mem::take(&mut state.notes);
            let mut lines = state.lines.take();
            drop(state);
            progress.show(&counts, pause);
            notes.iter().for_each(|note| diagnose(note));
            if !lines.is_empty() {
                progress.suspend(|| lines.print());
                self.state().lines.give_back(&lines);
            }
        }
    }

    fn end(self, before: usize, output: Output) -> Exit {
        let mut state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let untouched = state.model.untouched();
        let actions = state.model.finish();
        for action in actions {
            let journaled = matches!(action, Action::End(_));
            let Some(record) = action.record() else { continue };
            let (id, update) = self.input.row(record.row);
            let line = self.input.line(record.row);
            let json = ResultLine::new(line, &id, update.new_status(), &record, None).to_json();
            if journaled {
                append(self.journal, &mut state.model, &json);
            }
            state.lines.add(line, record.outcome, &record.reason, &json);
            state.lines.print_if_many();
        }
        if untouched > 0 {
            state.lines.add_untouched(untouched);
        }
        if let Err(problem) = self.journal.sync() {
            state.model.stop(Stop::Failed(problem));
        }
        let mut summary = Summary::new(state.model.counts(), self.input.len());
        let why = state.model.stopped();
        summary.stopped = why.map(told);
        if matches!(why, Some(Stop::Credentials(_))) {
            summary.exit = Exit::Credentials;
        }
        state.lines.add_summary(&summary.to_json());
        state.lines.print();
        state.notes.iter().for_each(|note| diagnose(note));
        if !output.quiet {
            diagnose(&summary.to_string());
        }
        if let Some(why) = &summary.stopped {
            diagnose(&format!("stopped: {why}"));
        }
        if output.quiet {
        } else if summary.stopped.is_some() || summary.not_sent > 0 {
            diagnose("the same command goes on with the rows that are left");
        } else if before == self.input.len() && before > 0 {
            diagnose("nothing is left to do");
        }
        if summary.counts.unknown > 0 && !output.quiet {
            diagnose(
                "unknown rows are read back once more by the same command; look at their sessions, then --retry unknown \
                 sends those that have another status",
            );
        }
        match (state.lines.is_broken(), summary.exit) {
            (true, Exit::Done) => Exit::NotSent,
            (_, exit) => exit,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>, time: Duration) -> MutexGuard<'s, State> {
        let waited = self.changed.wait_timeout(state, time);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn now(&self) -> Time {
        self.start.elapsed()
    }

    fn work(&self) {
        loop {
            let mut state = self.state();
            let task = loop {
                if self.signal.load(Ordering::Relaxed) && state.model.stopped().is_none() {
                    state.model.stop(Stop::Signal);
                    state.notes.push(
                        "stopping: the requests under way come to their end; a second signal ends at once".into(),
                    );
                    self.changed.notify_all();
                }
                match state.model.next(self.now()) {
                    Task::Wait(time) => state = self.wait(state, time.min(SIGNAL)),
                    task => break task,
                }
            };
            drop(state);
            match task {
                Task::Send(row) => self.send(row),
                Task::Read(row) => self.read(row),
                Task::Wait(_) | Task::Done => break,
            }
            self.changed.notify_all();
        }
        self.state().workers -= 1;
        self.changed.notify_all();
    }

    fn send(&self, row: usize) {
        let (id, update) = self.input.row(row);
        if let Err(problem) = self.journal.intend(self.input.line(row), &id, update.new_status()) {
            return self.state().model.not_sent(row, problem);
        }
        let (answer, error) = match self.client.update_status(&id, &update) {
            Ok(_) => (Answer::Applied, None),
            Err(error) => (Answer::Failed(failure(&error)), Some(error)),
        };
        self.answered(row, &id, update.new_status(), true, answer, error.as_ref());
    }

    fn read(&self, row: usize) {
        let (id, update) = self.input.row(row);
        let wanted = update.new_status();
        let (answer, error) = match self.client.session(&id) {
            Ok(session) => (Answer::ReadBack(seen(&session.status, wanted)), None),
            Err(error) => {
                let mut failure = failure(&error);
                // That a read changed nothing must not be taken for something about the update.
                let said = failure.reason.find("; nothing was changed");
                failure.reason.truncate(said.unwrap_or(failure.reason.len()));
                (Answer::Failed(failure), Some(error))
            }
        };
        self.answered(row, &id, wanted, false, answer, error.as_ref());
    }

    fn answered(
        &self,
        row: usize,
        id: &SessionId,
        wanted: NewStatus,
        write: bool,
        answer: Answer,
        error: Option<&Error>,
    ) {
        let mut state = self.state();
        let now = self.now();
        if let Some(seen) = self.client.rate_limit() {
            state
                .model
                .observe(now, write, seen.limit, seen.remaining, seen.reset_after);
        }
        for action in state.model.answered(now, row, answer) {
            if let Action::Pause(pause, reason) = &action {
                let seconds = pause.as_secs_f64().ceil();
                state.notes.push(format!("pausing for {seconds} s: {reason}"));
            }
            let told = matches!(action, Action::End(_));
            let Some(record) = action.record() else { continue };
            let line = self.input.line(row);
            let json = ResultLine::new(line, id, wanted, &record, error).to_json();
            append(self.journal, &mut state.model, &json);
            if told {
                state.lines.add(line, record.outcome, &record.reason, &json);
            }
        }
    }
}

fn append(journal: &Journal, model: &mut Model, line: &str) {
    if let Err(problem) = journal.append(line) {
        model.stop(Stop::Failed(problem));
    }
}

/// Why a run ended early, and when to go on.
fn told(why: &Stop) -> String {
    match why {
        Stop::Credentials(reason) | Stop::Failed(reason) => reason.clone(),
        Stop::Outage(reason, Some(pause)) => {
            let seconds = pause.as_secs_f64().ceil();
            format!("{reason}; go on in {seconds} s, as the server asks, or later")
        }
        Stop::Outage(reason, None) => format!("nothing gets through: {reason}; go on later"),
        Stop::Signal => "a signal asked for it".into(),
    }
}

const IN_DOUBT: &str = "; whether it was applied is unknown";

fn seen(status: &SessionStatus, wanted: NewStatus) -> ReadBack {
    match status {
        status if *status == wanted => ReadBack::Wanted,
        SessionStatus::Approved | SessionStatus::Declined => ReadBack::OtherDecision(status.to_string()),
        _ => ReadBack::Other(status.to_string()),
    }
}

/// What a failure says of its row. Didit's own words are those in which the library found a message.
fn failure(error: &Error) -> Failure {
    let from_didit = error.message().is_some();
    let kind = match (error.kind(), error.status()) {
        (ErrorKind::RateLimited, _) => FailureKind::RateLimited,
        (ErrorKind::Authentication, _) if from_didit => FailureKind::Credentials,
        (ErrorKind::Forbidden, _) | (ErrorKind::Rejected, Some(402)) if from_didit => FailureKind::NotPermitted,
        (ErrorKind::NotFound, _) if from_didit => FailureKind::NoSession,
        (ErrorKind::Rejected, Some(407)) => FailureKind::Other,
        (ErrorKind::Rejected, _) if from_didit => FailureKind::Refused,
        _ => FailureKind::Other,
    };
    let in_doubt = error.verdict() == Verdict::Unknown;
    let mut reason = error.to_string();
    // What is to be done about a doubt is the model's to say.
    if let Some((said, _)) = reason.split_once(IN_DOUBT).filter(|_| in_doubt) {
        reason = format!("{said}{IN_DOUBT}");
    }
    Failure {
        kind,
        in_doubt,
        reason,
        retry_after: error.retry_after(),
    }
}
