//! Carries out what the scheduler decides: threads that send requests, the clock, the journal, signals, and progress.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use didit::{Client, Error, NewStatus, SessionStatus, Verdict};

use super::input::Input;
use super::journal::Journal;
use super::progress::{Progress, in_whole_seconds};
use super::reasons::Reasons;
use super::report::{Report, Summary};
use super::result::{Details, ResultLine, RowResult};
use super::rules::{Outcome, RequestKind};
use super::scheduler::{Left, Scheduler, Step, Stop, Task};
use crate::args::Output;
use crate::exit::Exit;
use crate::signals;
use crate::terminal::{counted, say};

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
    scheduler: Scheduler,
    reasons: Reasons,
    /// Why the run stopped early, and what to do.
    stopped: Option<String>,
    /// Whether rows are left because Didit asks for credits or permissions.
    lacks_permission: bool,
}

/// Output of a worker. The main thread prints it, so that a slow reader of the output delays no request.
enum Message {
    Result(ResultLine),
    Note(String),
}

impl<'a> Run<'a> {
    pub fn new(
        client: &'a Client,
        input: &'a Input,
        journal: &'a Journal,
        scheduler: Scheduler,
        reasons: Reasons,
    ) -> io::Result<Run<'a>> {
        let state = State {
            scheduler,
            reasons,
            stopped: None,
            lacks_permission: false,
        };
        Ok(Run {
            client,
            input,
            journal,
            start: Instant::now(),
            signal: signals::watch()?,
            state: Mutex::new(state),
            changed: Condvar::new(),
        })
    }

    pub fn execute(&self, jobs: u32, output: Output, mut report: Report) -> Exit {
        let done_before = report.counts.reported();
        let mut progress = Progress::new(self.input.len(), done_before, output.quiet);
        let (sender, messages) = channel();
        thread::scope(|scope| {
            // If the system has no more threads, the existing ones do all the work.
            let spawn = |_: &u32| {
                let sender = sender.clone();
                let worker = thread::Builder::new().spawn_scoped(scope, move || self.work(&sender));
                worker.is_ok()
            };
            if (0..jobs).filter(spawn).count() == 0 {
                self.work(&sender);
            }
            drop(sender);
            self.print_messages(&messages, output, &mut progress, &mut report);
        });
        progress.finish();
        self.end(done_before, output, report)
    }

    /// Prints the output of the workers until the last one has finished.
    fn print_messages(
        &self,
        messages: &Receiver<Message>,
        output: Output,
        progress: &mut Progress,
        report: &mut Report,
    ) {
        let mut is_stopping = false;
        loop {
            let message = messages.recv_timeout(progress.interval().min(signals::INTERVAL));
            if matches!(message, Err(RecvTimeoutError::Disconnected)) {
                return;
            }
            for message in message.into_iter().chain(messages.try_iter()) {
                match message {
                    Message::Result(line) => report.add(&line),
                    Message::Note(note) if !output.quiet => say(&note),
                    Message::Note(_) => {}
                }
            }
            report.print();
            let mut state = self.state();
            let now = self.start.elapsed();
            // The main thread reports the signal, because all workers may be waiting for responses.
            let stops = !is_stopping && self.signal.load(Ordering::Relaxed);
            if stops {
                is_stopping = true;
                state.stop(Stop::Signal, "interrupted by a signal".into());
            }
            let ((in_flight, last), pause) = (state.scheduler.in_flight(), state.scheduler.pause(now));
            drop(state);
            if stops && in_flight > 0 {
                let requests = counted(in_flight, "request");
                let left = counted(self.input.len() - report.counts.reported(), "row");
                say(&format!(
                    "waiting for {requests} in flight; press Ctrl-C again to stop now and leave {left} for the next run"
                ));
            }
            let activity = match is_stopping {
                true => {
                    let left = in_whole_seconds((last + self.client.timeout()).saturating_sub(now));
                    Some(format!("stopping: {in_flight} in flight, about {left} left"))
                }
                false => pause.map(|left| format!("pausing for {}", in_whole_seconds(left))),
            };
            progress.show(&report.counts, activity);
        }
    }

    fn end(&self, done_before: usize, output: Output, mut report: Report) -> Exit {
        let mut state = self.state();
        self.report_left(&mut state, &mut report);
        // Whatever else stopped the run, a journal that cannot be written says what to do before the next one.
        let journal_problem = self.journal.sync().err();
        let summary = Summary {
            counts: report.counts,
            duplicates: self.input.duplicates.len(),
            exit: match state.scheduler.stopped() {
                Some(Stop::Credentials) => Exit::Credentials,
                _ => report.counts.exit(state.lacks_permission),
            },
            stopped: journal_problem.clone().or_else(|| state.stopped.clone()),
        };
        report.show_summary(&summary);
        report.print();
        if !output.quiet {
            say(&summary.to_string());
        }
        if let Some(why) = &summary.stopped {
            say(&format!("stopped: {why}"));
        }
        let advice = summary.advice(done_before);
        if let Some(advice) = advice.filter(|_| journal_problem.is_none() && !output.quiet) {
            say(&advice);
        }
        summary.exit
    }

    /// Reports the rows without a result.
    fn report_left(&self, state: &mut State, report: &mut Report) {
        for row in 0..self.input.len() {
            let Some(left) = state.scheduler.left(row) else {
                continue;
            };
            let line = |result, details| ResultLine::new(self.input, row, result, details);
            let Some(details) = state.reasons.explain_left(row, left) else {
                let details = || Details::reason("not reached before the run ended");
                report.add_not_reached(|| line(RowResult::NotApplied, details()));
                continue;
            };
            report.add(&match left {
                // The journal says so since the row's last failure.
                Left::NotApplied => line(RowResult::NotApplied, details),
                Left::NotChecked { is_reported: true } => ResultLine {
                    earlier: true,
                    ..line(RowResult::Unknown, details)
                },
                Left::InDoubt | Left::NotChecked { is_reported: false } => {
                    self.record(state, row, RowResult::Unknown, details)
                }
            });
        }
        report.show_not_reached();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, sender: &Sender<Message>) {
        loop {
            match self.next() {
                Task::Update(row) => self.update(row, sender),
                // The worker that read the session sends the update, so the status is never old.
                Task::Read(row) => {
                    if self.read(row, sender) == Step::Update {
                        self.update(row, sender);
                    }
                }
                Task::Wait(_) | Task::Done => break,
            }
            self.changed.notify_all();
        }
    }

    /// Waits for the next task.
    fn next(&self) -> Task {
        let mut state = self.state();
        loop {
            self.notice_signal(&mut state);
            let time = match state.scheduler.next(self.start.elapsed()) {
                Task::Wait(time) => time.min(signals::INTERVAL),
                task => return task,
            };
            let waited = self.changed.wait_timeout(state, time);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn notice_signal(&self, state: &mut State) {
        if self.signal.load(Ordering::Relaxed) {
            state.stop(Stop::Signal, "interrupted by a signal".into());
        }
    }

    fn read(&self, row: usize, sender: &Sender<Message>) -> Step {
        match self.client.session(&self.input.row(row).0) {
            Ok(session) => self.found(row, &session.status, sender),
            Err(error) => {
                let outcome = Outcome::of(&error, RequestKind::Read);
                self.failed(row, RequestKind::Read, outcome, &error, sender)
            }
        }
    }

    fn update(&self, row: usize, sender: &Sender<Message>) {
        let (id, update) = self.input.row(row);
        let intent = self
            .journal
            .write_intent(self.input.line(row), &id, update.new_status());
        if let Err(problem) = intent {
            let mut state = self.state();
            state.scheduler.not_journaled(row);
            state.reasons.note_not_sent(row, &problem);
            state.stopped.get_or_insert(problem);
            return;
        }
        match self.client.update_status(&id, &update) {
            Ok(_) => self.confirmed(row, sender),
            Err(error) => {
                let outcome = Outcome::of(&error, RequestKind::Update);
                self.failed(row, RequestKind::Update, outcome, &error, sender);
            }
        }
    }

    fn confirmed(&self, row: usize, sender: &Sender<Message>) {
        let mut state = self.state();
        let now = self.start.elapsed();
        if let Step::Report(result) = state.scheduler.ended(now, row, Outcome::Confirmed, None) {
            state.reasons.forget(row);
            self.report(&mut state, row, result, Details::default(), sender);
        }
    }

    fn found(&self, row: usize, status: &SessionStatus, sender: &Sender<Message>) -> Step {
        let mut state = self.state();
        self.notice_signal(&mut state);
        let step = state.scheduler.found(self.start.elapsed(), row, status);
        if let Step::Report(result) = step {
            // Without the stop, the update would be sent again, unless it is a Resubmitted.
            let is_repeatable = self.input.status(row) != NewStatus::Resubmitted;
            let was_cut_short = is_repeatable && state.scheduler.stopped().is_some();
            let details = state.reasons.explain_read(row, result, status, was_cut_short);
            self.report(&mut state, row, result, details, sender);
        }
        step
    }

    fn failed(
        &self,
        row: usize,
        request: RequestKind,
        outcome: Outcome,
        error: &Error,
        sender: &Sender<Message>,
    ) -> Step {
        let mut state = self.state();
        let step = state
            .scheduler
            .ended(self.start.elapsed(), row, outcome, error.retry_after());
        if let Some(pause) = state.scheduler.take_new_pause() {
            let note = format!("pausing for {}: {}", in_whole_seconds(pause), error.summary());
            // The main thread receives until the last worker has finished.
            let _ = sender.send(Message::Note(note));
        }
        if let Some(stop) = state.scheduler.stopped() {
            state.stopped.get_or_insert_with(|| reason_to_stop(stop, error));
        }
        if outcome == Outcome::Unclear {
            state.reasons.note_in_doubt(row, error);
        }
        match step {
            Step::Update | Step::Wait => {}
            // This run may retry the row, so it is not reported yet.
            Step::NotApplied => {
                let details = state.reasons.note_not_applied(row, error);
                self.record(&mut state, row, RowResult::NotApplied, details);
            }
            Step::Report(result) => {
                state.lacks_permission |= outcome == Outcome::NotPermitted && result == RowResult::NotApplied;
                let details = state.reasons.explain_failure(row, result, error, request, outcome);
                self.report(&mut state, row, result, details, sender);
            }
        }
        step
    }

    /// Records and prints the result of a row.
    fn report(&self, state: &mut State, row: usize, result: RowResult, details: Details, sender: &Sender<Message>) {
        let line = self.record(state, row, result, details);
        let _ = sender.send(Message::Result(line));
    }

    /// Writes the result of a row to the journal.
    fn record(&self, state: &mut State, row: usize, result: RowResult, details: Details) -> ResultLine {
        let line = ResultLine::new(self.input, row, result, details);
        if let Err(problem) = self.journal.append(&line.to_json()) {
            state.stop(Stop::Journal, problem);
        }
        line
    }
}

impl State {
    /// Stops the run. Only the first reason counts.
    fn stop(&mut self, why: Stop, reason: String) {
        self.scheduler.stop(why);
        self.stopped.get_or_insert(reason);
    }
}

/// Returns why a request stopped the run, and when to resume it.
fn reason_to_stop(stop: Stop, error: &Error) -> String {
    let summary = error.summary();
    match stop {
        Stop::Outage => {
            let advice = error.advice().filter(|_| error.verdict() == Verdict::NotApplied);
            format!("requests keep failing: {summary}; {}", advice.unwrap_or("resume later"))
        }
        Stop::LongPause(pause) => format!(
            "{summary}; resume in {} or later, as the server asks",
            in_whole_seconds(pause)
        ),
        Stop::Credentials | Stop::Connection | Stop::Journal | Stop::Signal => error.to_string(),
    }
}
