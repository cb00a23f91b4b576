//! Runs the model: threads that carry out its tasks, the clock, the journal, signals, and progress output.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use didit::{Client, Error, ErrorKind, Verdict};

use super::input::Input;
use super::journal::Journal;
use super::progress::Progress;
use super::report::{Lines, RowResult, Summary};
use super::result::{Answer, Failure, FailureKind, Outcome, Record, Stop, Task};
use super::scheduler::Model;
use crate::args::Output;
use crate::signals;
use crate::terminal::{Exit, counted, in_words, say};

pub struct Run<'a> {
    client: &'a Client,
    input: &'a Input,
    journal: &'a Journal,
    start: Instant,
    signal: Arc<AtomicBool>,
    model: Mutex<Model>,
    changed: Condvar,
}

/// Output of a worker. The main thread prints it, so that a slow reader of the output delays no request.
enum Message {
    Result(RowResult),
    Note(String),
}

impl<'a> Run<'a> {
    pub fn new(client: &'a Client, input: &'a Input, journal: &'a Journal, model: Model) -> io::Result<Run<'a>> {
        Ok(Run {
            client,
            input,
            journal,
            start: Instant::now(),
            signal: signals::watch()?,
            model: Mutex::new(model),
            changed: Condvar::new(),
        })
    }

    pub fn go(&self, jobs: u32, output: Output, mut lines: Lines) -> Exit {
        let before = self.model().counts().ended();
        let mut progress = Progress::new(self.input.len(), before, output.quiet);
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
            self.print_messages(&messages, &mut progress, &mut lines);
        });
        progress.finish();
        self.end(before, output, lines)
    }

    /// Prints the output of the workers until the last one has finished.
    fn print_messages(&self, messages: &Receiver<Message>, progress: &mut Progress, lines: &mut Lines) {
        let mut stopping = false;
        loop {
            let message = messages.recv_timeout(progress.interval().min(signals::INTERVAL));
            if matches!(message, Err(RecvTimeoutError::Disconnected)) {
                return;
            }
            // The main thread reports the signal, because all workers may be waiting for answers.
            if !stopping && self.signal.load(Ordering::Relaxed) {
                stopping = true;
                let mut model = self.model();
                model.stop(Stop::Signal);
                let (in_flight, doubts, time) = model.rest(self.start.elapsed());
                let left = counted(self.input.len() - model.counts().ended(), "row");
                drop(model);
                let mut waits = Vec::new();
                if in_flight > 0 {
                    waits.push(format!("waiting for {} in flight", counted(in_flight, "request")));
                }
                if doubts > 0 {
                    let rows = counted(doubts, "row");
                    waits.push(format!("reading back {rows} in doubt (about {})", in_words(time)));
                }
                if !waits.is_empty() {
                    let waits = waits.join(", then ");
                    let next = format!("press Ctrl-C again to stop now and leave {left} for the next run");
                    say(&format!("{waits}; {next}"));
                }
            }
            for message in message.into_iter().chain(messages.try_iter()) {
                match message {
                    Message::Result(result) => lines.add(&result),
                    Message::Note(note) => say(&note),
                }
            }
            lines.print();
            let (model, now) = (self.model(), self.start.elapsed());
            let (counts, pause, (in_flight, doubts, time)) = (model.counts(), model.pause(now), model.rest(now));
            drop(model);
            let state = match pause {
                _ if stopping => Some(format!(
                    "stopping: {in_flight} in flight, {doubts} to read back, {} left",
                    in_words(time)
                )),
                pause => pause.map(|left| format!("pausing for {}", in_words(left))),
            };
            progress.show(&counts, state);
        }
    }

    fn end(&self, before: usize, output: Output, mut lines: Lines) -> Exit {
        let mut model = self.model();
        for record in model.finish() {
            lines.add(&self.journal_result(&mut model, record, None));
        }
        if model.untouched() > 0 {
            lines.add_untouched(model.untouched());
        }
        if let Err(problem) = self.journal.sync() {
            model.stop(Stop::Failed(problem));
        }
        let mut summary = Summary::new(model.counts(), self.input.len());
        summary.repeated = self.input.repeated;
        let why = model.stopped();
        summary.stopped = why.map(reason_to_stop);
        if matches!(why, Some(Stop::Credentials(_))) {
            summary.exit = Exit::Credentials;
        }
        lines.add_summary(&summary.to_json());
        lines.print();
        if !output.quiet {
            say(&summary.to_string());
        }
        if let Some(why) = &summary.stopped {
            say(&format!("stopped: {why}"));
        }
        if !output.quiet {
            self.advise(&summary, before);
        }
        summary.exit
    }

    /// Prints what to do next.
    fn advise(&self, summary: &Summary, before: usize) {
        let (rows, counts) = (self.input.len(), &summary.counts);
        if summary.not_applied > 0 {
            say("run the same command again to resume with the remaining rows");
        } else if counts.refused > 0 && counts.unknown == 0 {
            say("nothing is left to do; --retry refused resends the refused rows");
        } else if before == rows {
            say("nothing is left to do");
        }
        if counts.refused == rows {
            say(
                "all rows were refused: if Didit did not find the sessions, check whether they belong to the application of \
                 these credentials; with other credentials, the same command starts over",
            );
        }
        if counts.unknown > 0 {
            say(
                "run the same command again to read the unknown rows back; --retry unknown also resends every unknown row \
                 whose session has another status, so check the sessions first",
            );
        }
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, sender: &Sender<Message>) {
        loop {
            match self.next() {
                Task::Send(row) => self.send(row, sender),
                Task::Read(row) => self.read(row, sender),
                Task::Wait(_) | Task::Done => break,
            }
            self.changed.notify_all();
        }
    }

    /// Waits for the next task.
    fn next(&self) -> Task {
        let mut model = self.model();
        loop {
            if self.signal.load(Ordering::Relaxed) {
                model.stop(Stop::Signal);
            }
            let time = match model.next(self.start.elapsed()) {
                Task::Wait(time) => time.min(signals::INTERVAL),
                task => return task,
            };
            let waited = self.changed.wait_timeout(model, time);
            model = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn send(&self, row: usize, sender: &Sender<Message>) {
        let (id, update) = self.input.row(row);
        if let Err(problem) = self.journal.intend(self.input.line(row), &id, update.new_status()) {
            return self.model().not_journaled(row, problem);
        }
        let (answer, error) = match self.client.update_status(&id, &update) {
            Ok(_) => (Answer::Applied, None),
            Err(error) => (Answer::Failed(failure(&error, true)), Some(error)),
        };
        self.answered(row, true, answer, error.as_ref(), sender);
    }

    fn read(&self, row: usize, sender: &Sender<Message>) {
        let (answer, error) = match self.client.session(&self.input.row(row).0) {
            Ok(session) => (Answer::ReadBack(session.status), None),
            Err(error) => (Answer::Failed(failure(&error, false)), Some(error)),
        };
        self.answered(row, false, answer, error.as_ref(), sender);
    }

    fn answered(&self, row: usize, write: bool, answer: Answer, error: Option<&Error>, sender: &Sender<Message>) {
        let mut model = self.model();
        let now = self.start.elapsed();
        if let Some(limit) = self.client.rate_limit() {
            model.heed_rate_limit(now, write, limit.limit, limit.remaining, limit.reset_after);
        }
        let record = model.answered(now, row, answer);
        if let Some((pause, reason)) = model.take_new_pause() {
            let note = format!("pausing for {}: {reason}", in_words(pause));
            // The main thread receives until the last worker has finished.
            let _ = sender.send(Message::Note(note));
        }
        if let Some(record) = record {
            // This run may retry a row that was not applied.
            let ended = record.outcome != Outcome::NotApplied;
            let result = self.journal_result(&mut model, record, error);
            if ended {
                let _ = sender.send(Message::Result(result));
            }
        }
    }

    /// Writes the result of a row to the journal, unless it is already there.
    fn journal_result(&self, model: &mut Model, record: Record, error: Option<&Error>) -> RowResult {
        let journaled = record.journaled;
        let result = RowResult::new(self.input, record, error);
        if !journaled {
            if let Err(problem) = self.journal.append(&result.json) {
                model.stop(Stop::Failed(problem));
            }
        }
        result
    }
}

/// Returns why a run stopped early, and when to resume it.
fn reason_to_stop(why: &Stop) -> String {
    match why {
        Stop::Credentials(reason) | Stop::Failed(reason) => reason.clone(),
        Stop::Outage(reason, Some(pause)) => {
            format!("{reason}; resume in {} or later, as the server asks", in_words(*pause))
        }
        Stop::Outage(reason, None) => format!("requests keep failing: {reason}; resume later"),
        Stop::Signal => "interrupted by a signal".into(),
    }
}

/// Returns what a failure means for its row. If the library found a message in the answer, the answer is Didit's own.
fn failure(error: &Error, write: bool) -> Failure {
    let kind = match (error.kind(), error.status()) {
        (ErrorKind::RateLimited, _) => FailureKind::RateLimited,
        (_, Some(407)) => FailureKind::Other,
        _ if error.is_retryable() || error.message().is_none() => FailureKind::Other,
        (ErrorKind::Authentication, _) => FailureKind::Credentials,
        (ErrorKind::Forbidden, _) | (ErrorKind::Rejected, Some(402)) => FailureKind::NotPermitted,
        (ErrorKind::NotFound, _) => FailureKind::NoSession,
        (ErrorKind::Rejected, _) => FailureKind::Refused,
        _ => FailureKind::Other,
    };
    let in_doubt = error.verdict() == Verdict::Unknown;
    let reason = error.summary();
    let verdict = match write {
        // The model says what to do about a doubt.
        true if in_doubt => "; whether it was applied is unknown".into(),
        // The error's text begins with the summary.
        true => error.to_string()[reason.len()..].into(),
        // A failed read means nothing for the update, so only the advice is kept.
        false => error.advice().map_or(String::new(), |advice| format!("; {advice}")),
    };
    Failure {
        kind,
        in_doubt,
        reason,
        verdict,
        retry_after: error.retry_after(),
    }
}
