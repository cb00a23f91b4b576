//! The workers of a batch: they send, settle what is in doubt, and keep the journal.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use didit::{Client, Error, ErrorKind, NewStatus, SessionId, SessionStatus, Verdict};

use super::journal::{Journal, Outcome, Past, may_be_mended, now};
use super::pace::Pace;
use super::progress::Progress;
use super::results::{Counts, Lines};
use super::rows::Rows;
use crate::args::{Batch, Output};
use crate::report::{Exit, diagnose};

/// One attempt at a row after another, until one is its last.
const MAX_TRIES: u32 = 10;

/// So many rows that are refused for the account's sake (didit-api.md §6) or redirected, with no good answer in between,
/// are enough: it is not the rows.
const FORBIDDEN: u32 = 5;

/// Nobody can have gone through the steps of a resubmission again within this many seconds.
const REDO: u64 = 10;

pub struct Run<'a> {
    client: &'a Client,
    rows: &'a Rows,
    journal: &'a Journal,
    pasts: Vec<Past>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    pace: Pace,
    /// The next row that no one has looked at.
    fresh: usize,
    /// Rows that are to be taken up again, by when.
    again: BTreeMap<(Instant, usize), Job>,
    /// How many rows are under way.
    busy: usize,
    /// How many workers have not come to their end.
    workers: u32,
    stop: Option<Stop>,
    /// How many were, in a row: see FORBIDDEN.
    forbidden: u32,
    counts: Counts,
    lines: Lines,
}

/// Why a run ends before all its rows.
enum Stop {
    Credentials(String),
    /// Going on would fail in the same way: an outage, an account that may not do this, a journal that cannot be written.
    Hopeless(String),
}

/// A row under way.
#[derive(Clone, Copy, Default)]
struct Job {
    row: usize,
    tries: u32,
    /// Since when it may have been applied, if it may.
    doubt: Option<u64>,
    /// Whether this run has sent it.
    sent: bool,
    /// Whether Didit refused it after an attempt that left it in doubt.
    refused: bool,
    /// To be read back rather than sent.
    look: bool,
}

/// What comes after an attempt.
enum Next {
    End(Outcome, Option<String>, Option<Error>),
    /// Another request, which nothing stands in the way of.
    Now(Job),
    /// Another try at what failed.
    Later(Job, Error),
}

impl<'a> Run<'a> {
    pub fn new(
        client: &'a Client,
        rows: &'a Rows,
        journal: &'a Journal,
        pasts: Vec<Past>,
        options: &Batch,
        counts: Counts,
        lines: Lines,
    ) -> Run<'a> {
        let start = Instant::now();
        let mut again = BTreeMap::new();
        for (row, past) in pasts.iter().enumerate() {
            if let Past::Doubt(since) = past {
                let job = Job {
                    row,
                    doubt: Some(*since),
                    look: true,
                    ..Job::default()
                };
                again.insert((start, row), job);
            }
        }
        Run {
            client,
            rows,
            journal,
            pasts,
            state: Mutex::new(State {
                pace: Pace::new(options.rate),
                fresh: 0,
                again,
                busy: 0,
                workers: 0,
                stop: None,
                forbidden: 0,
                counts,
                lines,
            }),
            changed: Condvar::new(),
        }
    }

    pub fn go(self, jobs: u32, output: Output) -> Exit {
        let total = self.rows.len();
        let before = self.state().counts.done();
        let mut progress = Progress::new(total, before, output.quiet);
        self.state().workers = jobs;
        thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| self.work());
            }
            loop {
                let mut state = self.state();
                if state.workers == 0 {
                    return;
                }
                if state.lines.is_empty() {
                    state = self.wait(state, progress.interval());
                }
                let counts = state.counts;
                let pause = state.pace.pause(Instant::now());
                let mut lines = state.lines.taken();
                drop(state);
                progress.show(&counts, pause);
                if !lines.is_empty() {
                    progress.aside(|| lines.print());
                    self.state().lines.give_back(&lines);
                }
            }
        });
        progress.finish();
        self.end(output)
    }

    fn end(self, output: Output) -> Exit {
        let waiting: Vec<Job> = std::mem::take(&mut self.state().again).into_values().collect();
        // They are left only where the run was stopped.
        for job in waiting {
            let reason = stopped(&self.rows.id(job.row));
            if self.finish(job.row, job.unsettled(), Some(&reason), None).is_err() {
                self.state().counts.add(job.unsettled());
            }
        }
        let mut state = self.state();
        state.lines.print();
        let total = self.rows.len();
        state.counts.not_sent += total - state.counts.done();
        let counts = state.counts;
        if !output.quiet {
            let rows = if total == 1 { "row" } else { "rows" };
            diagnose(&format!("{total} {rows}: {counts}"));
        }
        let (why, exit) = match &state.stop {
            None => (None, counts.exit()),
            Some(Stop::Credentials(why)) => (Some(why), Exit::Credentials),
            Some(Stop::Hopeless(why)) => (Some(why), counts.exit()),
        };
        if let Some(why) = why {
            diagnose(&format!("stopped: {why}"));
        }
        if why.is_some() || counts.unknown + counts.not_sent > 0 {
            diagnose("the same command goes on with the rows that are not settled");
        }
        exit
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>, time: Duration) -> MutexGuard<'s, State> {
        let waited = self.changed.wait_timeout(state, time);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn work(&self) {
        while let Some(job) = self.take() {
            let result = self.attempt(job);
            let mut state = self.state();
            state.busy -= 1;
            match result {
                Ok(None) => {}
                Ok(Some((job, wait))) => {
                    state.again.insert((Instant::now() + wait, job.row), job);
                }
                Err(problem) => {
                    // It may have been sent.
                    let doubt = job.doubt.or(Some(now()));
                    state.again.insert((Instant::now(), job.row), Job { doubt, ..job });
                    state.stop.get_or_insert(Stop::Hopeless(problem));
                }
            }
            drop(state);
            self.changed.notify_all();
        }
        self.state().workers -= 1;
        self.changed.notify_all();
    }

    /// The next row, once the pace lets it go out.
    fn take(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if state.stop.is_some() {
                return None;
            }
            while self.pasts.get(state.fresh).is_some_and(|past| *past != Past::Untouched) {
                state.fresh += 1;
            }
            let now = Instant::now();
            let ready = state.again.first_key_value().map(|((ready, _), _)| *ready);
            let fresh = state.fresh < self.rows.len();
            let wait = match ready {
                Some(ready) if ready <= now => None,
                _ if fresh => None,
                Some(ready) => Some(ready - now),
                None if state.busy == 0 => return None,
                // A row that is under way may have to be taken up again.
                None => Some(Duration::from_secs(1)),
            };
            let wait = wait.or_else(|| state.pace.admit(now).err());
            if let Some(wait) = wait {
                state = self.wait(state, wait);
                continue;
            }
            state.busy += 1;
            if ready.is_some_and(|ready| ready <= now) {
                return state.again.pop_first().map(|(_, job)| job);
            }
            state.fresh += 1;
            return Some(Job {
                row: state.fresh - 1,
                ..Job::default()
            });
        }
    }

    /// One request for a row; what is left to do for it, and after how long.
    fn attempt(&self, job: Job) -> Result<Option<(Job, Duration)>, String> {
        let id = self.rows.id(job.row);
        let next = match job.look {
            true => self.look(job, &id),
            false => self.send(job, &id)?,
        };
        match next {
            Next::End(outcome, reason, error) => {
                self.finish(job.row, outcome, reason.as_deref(), error.as_ref())?;
                Ok(None)
            }
            Next::Now(job) => Ok(Some((job, Duration::ZERO))),
            Next::Later(job, error) => {
                let tries = job.tries + 1;
                if tries == MAX_TRIES {
                    let outcome = job.unsettled();
                    self.finish(job.row, outcome, Some(&error.to_string()), Some(&error))?;
                    return Ok(None);
                }
                if job.doubt.is_none() {
                    self.journal.end(
                        self.rows,
                        job.row,
                        Outcome::NotSent,
                        Some(&error.to_string()),
                        Some(&error),
                    )?;
                }
                let wait = Duration::from_millis(250 << job.tries.min(5));
                Ok(Some((Job { tries, ..job }, wait)))
            }
        }
    }

    fn send(&self, mut job: Job, id: &SessionId) -> Result<Next, String> {
        let intended = now();
        self.journal.intend(self.rows, job.row)?;
        if !self.hold() {
            let stopped = Next::End(job.unsettled(), Some(stopped(id)), None);
            return Ok(stopped);
        }
        // Waiting for its turn may have taken it past the time in which it may be repeated.
        if self.rows.status(job.row) == NewStatus::Resubmitted && job.doubt.is_some() && !job.is_recent(now()) {
            job.look = true;
            return Ok(Next::Now(job));
        }
        let result = self.client.update_status(id, &self.rows.update(job.row));
        let error = match result {
            Ok(_) => {
                self.answered();
                return Ok(Next::End(Outcome::Applied, None, None));
            }
            Err(error) => error,
        };
        let transient = self.note(&error);
        if error.verdict() == Verdict::Unknown {
            job.doubt.get_or_insert(intended);
            job.sent = true;
            job.look = true;
            return Ok(Next::Later(job, error));
        }
        if transient {
            return Ok(Next::Later(job, error));
        }
        if job.doubt.is_some() {
            // It may be refused because the attempt before was applied.
            job.look = true;
            job.refused = true;
            return Ok(Next::Now(job));
        }
        Ok(Next::End(Outcome::Refused, Some(error.to_string()), Some(error)))
    }

    /// Settles a row in doubt by reading its session back.
    fn look(&self, mut job: Job, id: &SessionId) -> Next {
        let wanted = self.rows.status(job.row);
        let error = match self.client.session(id) {
            Ok(session) if session.status == wanted => {
                self.answered();
                let outcome = if job.sent { Outcome::Applied } else { Outcome::Already };
                return Next::End(outcome, None, None);
            }
            Ok(session) => {
                self.answered();
                if !job.refused && job.may_be_sent_again(wanted, &session.status, now()) {
                    job.look = false;
                    return Next::Now(job);
                }
                let reason = format!(
                    "session {id} is {}, and may have been {wanted} in between; see what became of it before you set it \
                     again",
                    session.status
                );
                return Next::End(Outcome::Unknown, Some(reason), None);
            }
            Err(error) => error,
        };
        // Reading is harmless: an answer that was cut short is asked for again, too.
        match self.note(&error) || error.kind() == ErrorKind::UnexpectedResponse {
            true => Next::Later(job, error),
            false => Next::End(Outcome::Unknown, Some(error.to_string()), Some(error)),
        }
    }

    /// Waits for the end of a pause that began meanwhile; false if the run is to stop.
    fn hold(&self) -> bool {
        let mut state = self.state();
        loop {
            if state.stop.is_some() {
                return false;
            }
            match state.pace.pause(Instant::now()) {
                None => return true,
                Some(wait) => state = self.wait(state, wait),
            }
        }
    }

    fn answered(&self) {
        let mut state = self.state();
        state.forbidden = 0;
        state.pace.answered();
        self.observe(&mut state);
    }

    fn observe(&self, state: &mut State) {
        if let Some(seen) = self.client.rate_limit() {
            let reset = seen
                .reset
                .map(|moment| moment.duration_since(SystemTime::now()).unwrap_or_default());
            state.pace.observe(Instant::now(), seen.limit, seen.remaining, reset);
        }
    }

    /// Notes what a failure means for all workers; whether the same may go better later.
    fn note(&self, error: &Error) -> bool {
        let now = Instant::now();
        let mut state = self.state();
        match error.kind() {
            ErrorKind::Authentication => {
                state.stop.get_or_insert(Stop::Credentials(error.to_string()));
                true
            }
            ErrorKind::RateLimited => {
                state.pace.throttle(now, error.retry_after());
                true
            }
            ErrorKind::Network | ErrorKind::Timeout | ErrorKind::Server => {
                if state.pace.fail(now) {
                    state.stop.get_or_insert(Stop::Hopeless(error.to_string()));
                }
                true
            }
            _ => {
                if error.status().is_some_and(may_be_mended) {
                    state.forbidden += 1;
                }
                if state.forbidden == FORBIDDEN {
                    state.stop.get_or_insert(Stop::Hopeless(error.to_string()));
                }
                state.pace.answered();
                self.observe(&mut state);
                false
            }
        }
    }

    /// The end of a row in this run.
    fn finish(&self, row: usize, outcome: Outcome, reason: Option<&str>, error: Option<&Error>) -> Result<(), String> {
        let json = self.journal.end(self.rows, row, outcome, reason, error)?;
        let mut state = self.state();
        state.counts.add(outcome);
        state.lines.add(self.rows.line(row), outcome, reason, &json);
        Ok(())
    }
}

fn stopped(id: &SessionId) -> String {
    format!("session {id}: the run was stopped before it was settled")
}

impl Job {
    /// The end of a row that is given up.
    fn unsettled(&self) -> Outcome {
        match self.doubt {
            Some(_) => Outcome::Unknown,
            None => Outcome::NotSent,
        }
    }

    /// Whether a row in doubt, whose session has another status, may be sent again without being applied twice.
    ///
    /// Approved and Declined may, always (didit-api.md §4). Resubmitted may as long as the person cannot have gone through
    /// the steps meanwhile and so have moved the session on: the status is then the one from before, and should the first
    /// request still be on its way, Didit takes only one of the two.
    fn may_be_sent_again(&self, wanted: NewStatus, status: &SessionStatus, now: u64) -> bool {
        let settled = matches!(
            status,
            SessionStatus::InReview
                | SessionStatus::Approved
                | SessionStatus::Declined
                | SessionStatus::KycExpired
                | SessionStatus::Abandoned
        );
        wanted != NewStatus::Resubmitted || (settled && self.is_recent(now))
    }

    /// Whether nobody can have gone through the steps since it may have been applied.
    fn is_recent(&self, now: u64) -> bool {
        let age = self.doubt.and_then(|since| now.checked_sub(since));
        age.is_some_and(|age| age <= REDO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resubmission_in_doubt_is_sent_again_only_where_it_cannot_be_applied_twice() {
        let job = Job {
            doubt: Some(1000),
            ..Job::default()
        };
        let may = |wanted, status, now| job.may_be_sent_again(wanted, &status, now);
        assert!(may(NewStatus::Approved, SessionStatus::InReview, 90_000));
        assert!(may(NewStatus::Resubmitted, SessionStatus::InReview, 1005));
        // The person may have gone through the steps; is at it; the clock was set back.
        assert!(!may(NewStatus::Resubmitted, SessionStatus::InReview, 1000 + REDO + 1));
        assert!(!may(NewStatus::Resubmitted, SessionStatus::InProgress, 1005));
        assert!(!may(NewStatus::Resubmitted, SessionStatus::InReview, 999));
    }
}
