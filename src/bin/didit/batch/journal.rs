//! The journal of a batch: what was about to be sent, and what became of it, on disk before the next step.
//!
//! NDJSON. The first line tells which input, host and credential it belongs to. Then, for each attempt, an intent before
//! the request and a result after it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use didit::{Error, NewStatus, SessionId};
use serde::{Deserialize, Serialize};

use super::rows::Rows;

/// What a journal belongs to.
#[derive(Deserialize, PartialEq, Serialize)]
pub struct Header {
    /// The version of this format.
    pub didit_journal: u32,
    pub input: String,
    pub host: String,
    /// `None` after somebody deleted it, because the same application has new ones: any will do.
    pub credential: Option<String>,
}

pub const VERSION: u32 = 1;

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Applied,
    /// A row in doubt, whose session turned out to have the status.
    Already,
    Refused,
    NotSent,
    Unknown,
}

impl Outcome {
    /// Whether nothing is left to do.
    pub fn is_final(self) -> bool {
        matches!(self, Outcome::Applied | Outcome::Already | Outcome::Refused)
    }
}

#[derive(Serialize)]
struct Intent<'a> {
    line: u32,
    session_id: &'a SessionId,
    intent: NewStatus,
    at: u64,
}

/// What became of a row; with `--json` it is told in the same words.
#[derive(Serialize)]
struct Ending<'a> {
    line: u32,
    session_id: &'a SessionId,
    new_status: NewStatus,
    result: Outcome,
    at: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

/// A line that is read back.
#[derive(Deserialize)]
struct Line {
    line: u32,
    intent: Option<String>,
    result: Option<Outcome>,
    at: u64,
    reason: Option<String>,
    status_code: Option<u16>,
}

/// How far a row has come in earlier runs.
#[derive(Clone, Copy, PartialEq)]
pub enum Past {
    Untouched,
    /// It may have been sent, at the earliest at this time.
    Doubt(u64),
    Done(Outcome),
}

/// A final result of an earlier run, to be told again.
pub struct Told<'a> {
    pub json: &'a str,
    pub outcome: Outcome,
    pub line: u32,
    pub reason: Option<&'a str>,
}

pub struct Journal {
    file: File,
    state: Mutex<State>,
    synced: Condvar,
}

#[derive(Default)]
struct State {
    /// What is to be written next, and how many lines have been handed in up to its end.
    waiting: Vec<u8>,
    handed_in: u64,
    /// How many of them are on disk.
    safe: u64,
    writing: bool,
    failure: Option<String>,
}

pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl Journal {
    /// Opens or begins a journal, for this process alone until it ends. `tell` is handed the final results in it.
    ///
    /// # Errors
    /// A line that says why it cannot be used.
    pub fn open(
        path: &Path,
        header: &Header,
        rows: &Rows,
        tell: &mut dyn FnMut(Told<'_>),
    ) -> Result<(Journal, Vec<Past>), String> {
        let unusable = |error: io::Error| format!("it cannot be used: {error}");
        if path.metadata().is_ok_and(|found| !found.is_file()) {
            return Err("it is no regular file: give another --journal".into());
        }
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path).map_err(unusable)?;
        match fs4::FileExt::try_lock(&file) {
            Ok(()) => {}
            Err(fs4::TryLockError::WouldBlock) => return Err("another run is using it: wait for its end".into()),
            Err(fs4::TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let mut pasts = vec![Past::Untouched; rows.len()];
        let (mut whole, same_credential) = replay(&file, header, rows, &mut pasts, tell)?;
        if !same_credential {
            if pasts.iter().any(|past| *past != Past::Untouched) {
                return Err(OTHER_CREDENTIAL.into());
            }
            // Nothing was ever done with those credentials, as when they were mistyped.
            whole = 0;
        }
        // What follows the last whole line was being written when the run ended: nothing was sent for it.
        file.set_len(whole).map_err(unusable)?;
        let journal = Journal {
            file,
            state: Mutex::default(),
            synced: Condvar::new(),
        };
        if whole == 0 {
            journal.append(header)?;
            sync_directory(path);
        }
        Ok((journal, pasts))
    }

    /// # Errors
    /// As [`append`](Journal::append).
    pub fn intend(&self, rows: &Rows, row: usize) -> Result<(), String> {
        self.append(&Intent {
            line: rows.line(row),
            session_id: &rows.id(row),
            intent: rows.status(row),
            at: now(),
        })
        .map(drop)
    }

    /// Returns the line that was written.
    ///
    /// # Errors
    /// As [`append`](Journal::append).
    pub fn end(
        &self,
        rows: &Rows,
        row: usize,
        result: Outcome,
        reason: Option<&str>,
        error: Option<&Error>,
    ) -> Result<String, String> {
        self.append(&Ending {
            line: rows.line(row),
            session_id: &rows.id(row),
            new_status: rows.status(row),
            result,
            at: now(),
            reason,
            status_code: error.and_then(Error::status),
            code: error.and_then(Error::code),
            request_id: error.and_then(Error::request_id),
        })
    }

    /// Returns once the line is on disk. Lines that come in while others are being written go to the disk together.
    ///
    /// # Errors
    /// A line that says why nothing can be written any more.
    fn append(&self, entry: &impl Serialize) -> Result<String, String> {
        let mut line = serde_json::to_string(entry).map_err(|error| error.to_string())?;
        line.push('\n');
        let mut state = self.state();
        state.waiting.extend_from_slice(line.as_bytes());
        state.handed_in += 1;
        let mine = state.handed_in;
        loop {
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if state.safe >= mine {
                return Ok(line);
            }
            if state.writing {
                state = self.synced.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.writing = true;
            let lines = std::mem::take(&mut state.waiting);
            let up_to = state.handed_in;
            drop(state);
            let result = (&self.file).write_all(&lines).and_then(|()| self.file.sync_data());
            state = self.state();
            state.writing = false;
            match result {
                Ok(()) => state.safe = up_to,
                Err(error) => state.failure = Some(format!("the journal cannot be written: {error}")),
            }
            self.synced.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads what is there, and returns how long its whole lines are, and whether they are of the same credential.
fn replay(
    file: &File,
    header: &Header,
    rows: &Rows,
    pasts: &mut [Past],
    tell: &mut dyn FnMut(Told<'_>),
) -> Result<(u64, bool), String> {
    let mut reader = BufReader::new(file);
    let mut bytes = Vec::new();
    let mut whole = 0;
    let mut same_credential = true;
    for number in 1.. {
        bytes.clear();
        let read = reader.read_until(b'\n', &mut bytes);
        let length = read.map_err(|error| format!("it cannot be read: {error}"))?;
        if !bytes.ends_with(b"\n") {
            // A file that is no journal is left as it is.
            if number == 1 && !b"{\"didit_journal\":".starts_with(&bytes[..bytes.len().min(17)]) {
                return Err(NO_JOURNAL.into());
            }
            break;
        }
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        if number == 1 {
            same_credential = belongs(text, header)?;
        } else {
            let line: Option<Line> = serde_json::from_str(text).ok();
            let row = line.as_ref().and_then(|line| rows.at_line(line.line));
            let (Some(line), Some(row)) = (line, row) else {
                return Err(format!("line {number} of it is damaged: nothing was sent"));
            };
            pasts[row] = after(pasts[row], &line);
            if let Past::Done(outcome) = pasts[row] {
                tell(Told {
                    json: text,
                    outcome,
                    line: line.line,
                    reason: line.reason.as_deref(),
                });
            }
        }
        whole += length as u64;
    }
    Ok((whole, same_credential))
}

const OTHER_CREDENTIAL: &str = "it belongs to other credentials: nothing was sent; if the same application has new ones, \
                                delete \"credential\" from its first line and run again";
const NO_JOURNAL: &str = "the file is no journal of this command: give another --journal";

/// Whether it is of the same credential, too.
fn belongs(text: &str, header: &Header) -> Result<bool, String> {
    let found: Header = serde_json::from_str(text).map_err(|_| NO_JOURNAL)?;
    let other = if found.didit_journal != header.didit_journal {
        "another version of this command"
    } else if found.input != header.input {
        "another input, or the input was changed since"
    } else if found.host != header.host {
        "another API host"
    } else {
        return Ok(found.credential.is_none() || found.credential == header.credential);
    };
    Err(format!(
        "it belongs to {other}: nothing was sent; for a new batch give another --journal"
    ))
}

/// Statuses that say nothing of the row: not paid, not permitted, or redirected (didit-api.md §6).
pub fn may_be_mended(status: u16) -> bool {
    matches!(status, 301 | 302 | 307 | 308 | 402 | 403)
}

fn after(past: Past, line: &Line) -> Past {
    match (past, line.result) {
        (Past::Done(_), _) => past,
        // It was for the account's sake, or for a wrong base URL: once that is mended it may be taken.
        (_, Some(Outcome::Refused)) if line.status_code.is_some_and(may_be_mended) => Past::Untouched,
        (_, Some(outcome)) if outcome.is_final() => Past::Done(outcome),
        // It is only written where no attempt is in doubt.
        (_, Some(Outcome::NotSent)) => Past::Untouched,
        (Past::Untouched, _) if line.intent.is_some() || line.result.is_some() => Past::Doubt(line.at),
        _ => past,
    }
}

/// So that the journal itself outlasts a power cut. Not every file system can do that.
fn sync_directory(path: &Path) {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Ok(directory) = File::open(parent.unwrap_or(Path::new("."))) {
        let _ = directory.sync_all();
    }
}
