//! Many sessions: the workers that send, settle what is in doubt, and keep the journal.

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use didit::{Client, ClientBuilder, Error, ErrorKind, NewStatus, RetryPolicy, SessionId, SessionStatus, Verdict};
use serde_json::json;

use crate::args::{Batch, Output};
use crate::journal::{Header, Journal, Outcome, Past, Told, VERSION, now};
use crate::pace::Pace;
use crate::progress::{Counts, Progress};
use crate::report::{Exit, diagnose, escaped, print};
use crate::rows::{Fnv, Rows};
use crate::single::unprintable;

pub fn run(options: &Batch, output: Output) -> Exit {
    // What goes wrong is repeated here: at the pace of all workers, and with the journal told.
    let client = ClientBuilder::from_env().and_then(|builder| builder.retry(RetryPolicy::none()).build());
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            diagnose(&error.to_string());
            return Exit::of(&error);
        }
    };
    let rows = match read(options, &client) {
        Ok(rows) => rows,
        Err(exit) => return exit,
    };
    let Some(path) = options.journal.as_ref().filter(|_| !options.dry_run) else {
        return dry_run(&rows, output);
    };
    let header = Header {
        didit_journal: VERSION,
        input: format!("{:016x}", rows.fingerprint()),
        host: host(),
        credential: credential(),
    };
    let mut counts = Counts::default();
    let mut lines = Lines::new(output);
    let journal = Journal::open(path, &header, &rows, &mut |told: Told<'_>| {
        *count(&mut counts, told.outcome) += 1;
        lines.add(told.line, told.outcome, told.reason, told.json);
        if lines.text.len() > 64 * 1024 {
            lines.print();
        }
    });
    let (journal, pasts) = match journal {
        Ok(opened) => opened,
        Err(problem) => {
            diagnose(&format!("journal {}: {problem}", path.display()));
            return Exit::Usage;
        }
    };
    let run = Run::new(&client, &rows, &journal, pasts, options, counts, lines);
    run.go(options.jobs, output)
}

/// The rows, if nothing is wrong with any of them; else all that is wrong is told.
fn read(options: &Batch, client: &Client) -> Result<Rows, Exit> {
    let name = match &options.file {
        Some(file) => file.display().to_string(),
        None => "standard input".into(),
    };
    let mut problems = 0;
    let mut complain = |problem: String| {
        problems += 1;
        diagnose(&format!("{name}: {problem}"));
    };
    let check = |update: &_| client.check(update);
    let rows = match &options.file {
        None => Rows::read(io::stdin().lock(), options.format, &check, &mut complain),
        Some(file) => match File::open(file) {
            Ok(file) => Rows::read(file, options.format, &check, &mut complain),
            Err(error) => {
                complain(format!("it cannot be read: {error}"));
                return Err(Exit::Usage);
            }
        },
    };
    match problems {
        0 => return Ok(rows),
        1 => diagnose("1 problem: nothing was sent; mend it and run again"),
        _ => diagnose(&format!(
            "{problems} problems: nothing was sent; mend them and run again"
        )),
    }
    Err(Exit::Usage)
}

fn dry_run(rows: &Rows, output: Output) -> Exit {
    let of = |status| (0..rows.len()).filter(|row| rows.status(*row) == status).count();
    let [approved, declined, resubmitted] = [NewStatus::Approved, NewStatus::Declined, NewStatus::Resubmitted].map(of);
    let (total, repeated) = (rows.len(), rows.repeated);
    let text = match output.json {
        true => json!({
            "rows": total, "approved": approved, "declined": declined, "resubmitted": resubmitted, "repeated": repeated,
        })
        .to_string(),
        false => format!(
            "{total} rows: {approved} to be approved, {declined} declined, {resubmitted} resubmitted; {repeated} more \
             were repetitions; nothing was sent"
        ),
    };
    match print(&format!("{text}\n")) {
        Ok(()) => Exit::Done,
        Err(error) => unprintable(&error),
    }
}

fn host() -> String {
    let set = env::var("DIDIT_BASE_URL").ok().filter(|url| !url.is_empty());
    let url = set.unwrap_or_else(|| "https://verification.didit.me".into());
    url.trim_end_matches('/').into()
}

/// Tells credentials apart, and no more: 32 bits are far too few to say anything of a key.
fn credential() -> String {
    let mut hash = Fnv::default();
    for name in ["DIDIT_CLIENT_ID", "DIDIT_API_KEY"] {
        hash.add(env::var_os(name).unwrap_or_default().as_encoded_bytes());
        hash.add(b"\n");
    }
    format!("{:08x}", (hash.0 >> 32) ^ (hash.0 & 0xffff_ffff))
}

/// The results to be told on standard output.
struct Lines {
    json: bool,
    text: String,
    broken: bool,
}

impl Lines {
    fn new(output: Output) -> Lines {
        Lines {
            json: output.json,
            text: String::new(),
            broken: false,
        }
    }

    /// Takes a row's final result: as JSON every one, else those that were not applied.
    fn add(&mut self, line: u32, outcome: Outcome, reason: Option<&str>, json: &str) {
        if self.json {
            self.text += json;
            return;
        }
        let word = match outcome {
            Outcome::Applied | Outcome::Already => return,
            Outcome::Refused => "refused",
            Outcome::NotSent => "not sent",
            Outcome::Unknown => "unknown",
        };
        self.text += &format!("line {line}: {word}: {}\n", escaped(reason.unwrap_or("")));
    }

    /// What is to be printed, so that it can be without holding the others up.
    fn taken(&mut self) -> Lines {
        Lines {
            text: std::mem::take(&mut self.text),
            ..*self
        }
    }

    fn print(&mut self) {
        let text = std::mem::take(&mut self.text);
        // The journal has it all: the run goes on.
        if !self.broken && !text.is_empty() && print(&text).map_err(|error| unprintable(&error)).is_err() {
            self.broken = true;
        }
    }
}

fn count(counts: &mut Counts, outcome: Outcome) -> &mut usize {
    match outcome {
        Outcome::Applied => &mut counts.applied,
        Outcome::Already => &mut counts.already,
        Outcome::Refused => &mut counts.refused,
        Outcome::NotSent => &mut counts.not_sent,
        Outcome::Unknown => &mut counts.unknown,
    }
}

/// One attempt at a row after another, until one is its last.
const MAX_TRIES: u32 = 10;

/// Nobody can have gone through the steps of a resubmission again within this many seconds.
const REDO: u64 = 10;

struct Run<'a> {
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
    counts: Counts,
    lines: Lines,
}

/// Why a run ends before all its rows.
enum Stop {
    Credentials(String),
    Journal(String),
    Outage(String),
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
    fn new(
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
                counts,
                lines,
            }),
            changed: Condvar::new(),
        }
    }

    fn go(self, jobs: u32, output: Output) -> Exit {
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
                if state.lines.text.is_empty() {
                    state = self.wait(state, progress.interval());
                }
                let counts = state.counts;
                let mut lines = state.lines.taken();
                drop(state);
                progress.show(&counts);
                if !lines.text.is_empty() {
                    progress.aside(|| lines.print());
                    self.state().lines.broken |= lines.broken;
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
                *count(&mut self.state().counts, job.unsettled()) += 1;
            }
        }
        let mut state = self.state();
        state.lines.print();
        let total = self.rows.len();
        state.counts.not_sent += total - state.counts.done();
        let counts = state.counts;
        if !output.quiet {
            let Counts {
                applied,
                already,
                refused,
                not_sent,
                unknown,
            } = counts;
            diagnose(&format!(
                "{total} rows: {applied} applied, {already} already so, {refused} refused, {unknown} unknown, {not_sent} \
                 not sent"
            ));
        }
        let stop = match &state.stop {
            None => None,
            Some(Stop::Credentials(why)) => Some((why, Exit::Credentials)),
            Some(Stop::Journal(why)) => Some((why, Exit::Usage)),
            Some(Stop::Outage(why)) => Some((why, exit(&counts))),
        };
        if let Some((why, _)) = stop {
            diagnose(&format!("stopped: {why}"));
        }
        if counts.unknown + counts.not_sent > 0 {
            diagnose("the same command goes on with the rows that are not settled");
        }
        stop.map_or_else(|| exit(&counts), |(_, exit)| exit)
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
                    state.stop.get_or_insert(Stop::Journal(problem));
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
        let result = self.client.update_status(id, &self.rows.update(job.row));
        let error = match result {
            Ok(_) => {
                self.answered();
                return Ok(Next::End(Outcome::Applied, None, None));
            }
            Err(error) => error,
        };
        let transient = self.is_transient(&error);
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
        match self.is_transient(&error) || error.kind() == ErrorKind::UnexpectedResponse {
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
    fn is_transient(&self, error: &Error) -> bool {
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
                    state.stop.get_or_insert(Stop::Outage(error.to_string()));
                }
                true
            }
            _ => {
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
        *count(&mut state.counts, outcome) += 1;
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
        let age = self.doubt.and_then(|since| now.checked_sub(since));
        wanted != NewStatus::Resubmitted || (settled && age.is_some_and(|age| age <= REDO))
    }
}

/// What a batch comes to, where nothing stopped it.
fn exit(counts: &Counts) -> Exit {
    match counts {
        Counts { unknown: 1.., .. } => Exit::Unknown,
        Counts { refused: 1.., .. } => Exit::RowsRefused,
        Counts { not_sent: 1.., .. } => Exit::NotSent,
        _ => Exit::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_end_of_a_row_decides() {
        let counts = |refused, not_sent, unknown| Counts {
            applied: 3,
            already: 1,
            refused,
            not_sent,
            unknown,
        };
        assert_eq!(exit(&counts(0, 0, 0)), Exit::Done);
        assert_eq!(exit(&counts(0, 2, 0)), Exit::NotSent);
        assert_eq!(exit(&counts(1, 2, 0)), Exit::RowsRefused);
        assert_eq!(exit(&counts(1, 2, 1)), Exit::Unknown);
    }

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
