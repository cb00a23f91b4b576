//! The journal of a batch: what was about to be sent, and what became of it.
//!
//! NDJSON. The first line tells which input, host and credential it belongs to. Then, for each request to update, an intent,
//! which is on disk before the request goes out, and a result, which gets there with the next intent at the latest.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use didit::{NewStatus, SessionId};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::events::{Outcome, RowState};
use super::input::Input;

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

pub const VERSION: u32 = 2;

#[derive(Serialize)]
struct Intent<'a> {
    line: u32,
    session_id: &'a SessionId,
    intent: NewStatus,
    at: u64,
}

/// A line that is read back.
#[derive(Deserialize)]
struct Line {
    line: u32,
    intent: Option<IgnoredAny>,
    result: Option<Outcome>,
    #[serde(default)]
    in_doubt: bool,
    cause: Option<String>,
}

/// What earlier runs wrote.
pub struct History {
    /// Of each row how far it had come, and where in the journal its last entry is.
    pub rows: Vec<(RowState, u64)>,
    /// What was said of the update of rows that did not end.
    pub causes: HashMap<usize, String>,
    /// The length of the lines that are whole.
    whole: u64,
    same_credential: bool,
}

type Tell<'a> = dyn FnMut(u32, Outcome, &str, &str) + 'a;

pub struct Journal {
    state: Mutex<State>,
    /// The same file, to be synced while others write.
    file: File,
    synced: Condvar,
}

struct State {
    file: File,
    /// How many lines were written, and how many of them are on disk.
    written: u64,
    safe: u64,
    syncing: bool,
    failure: Option<String>,
}

pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl Journal {
    /// Opens or begins a journal, for this process alone until it ends.
    ///
    /// # Errors
    /// A line that says why it cannot be used.
    pub fn open(path: &Path, header: &Header, input: &Input) -> Result<(Journal, History), String> {
        if path.metadata().is_ok_and(|found| !found.is_file()) {
            return Err("it is no regular file: give another --journal".into());
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(unusable)?;
        match fs4::FileExt::try_lock(&file) {
            Ok(()) => {}
            Err(fs4::TryLockError::WouldBlock) => return Err("another run is using it: wait for its end".into()),
            Err(fs4::TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let mut history = History::read(&file, header, input)?;
        if !history.same_credential {
            let untried = |past| matches!(past, RowState::Untouched | RowState::NotSent);
            if !history.rows.iter().all(|(past, _)| untried(*past)) {
                return Err(OTHER_CREDENTIAL.into());
            }
            // Nothing was ever done with those credentials, as when they were mistyped.
            history = History::empty(input);
        }
        // Not every file system has modes, and nothing in it is secret.
        #[cfg(unix)]
        let _ = file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600));
        // What follows the last whole line was being written when the run ended: nothing was sent for it.
        file.set_len(history.whole).map_err(unusable)?;
        file.seek(SeekFrom::End(0)).map_err(unusable)?;
        let journal = Journal {
            file: file.try_clone().map_err(unusable)?,
            state: Mutex::new(State {
                file,
                written: 0,
                safe: 0,
                syncing: false,
                failure: None,
            }),
            synced: Condvar::new(),
        };
        if history.whole == 0 {
            journal.append(&serde_json::to_string(header).map_err(|error| error.to_string())?)?;
            journal.sync()?;
            sync_directory(path);
        }
        Ok((journal, history))
    }

    /// As [`History::results`].
    pub fn results(&self, history: &History, is: impl Fn(RowState) -> bool, tell: &mut Tell<'_>) -> Result<(), String> {
        // Over the same handle: on Windows another one cannot read what this one has locked.
        let mut state = self.state();
        history.results(&state.file, is, tell)?;
        state.file.seek(SeekFrom::End(0)).map(drop).map_err(unusable)
    }

    /// Returns once the intent is on disk.
    ///
    /// # Errors
    /// As [`append`](Journal::append).
    pub fn intend(&self, line: u32, session_id: &SessionId, intent: NewStatus) -> Result<(), String> {
        let at = now();
        let intent = Intent {
            line,
            session_id,
            intent,
            at,
        };
        self.append(&serde_json::to_string(&intent).map_err(|error| error.to_string())?)?;
        self.sync()
    }

    /// Writes a line, and leaves it to the next [`sync`](Journal::sync) to get it to the disk.
    ///
    /// # Errors
    /// A line that says why nothing can be written any more.
    pub fn append(&self, line: &str) -> Result<(), String> {
        let mut state = self.state();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        let result = state.file.write_all(format!("{line}\n").as_bytes());
        state.noted(result)?;
        state.written += 1;
        Ok(())
    }

    /// Returns once all that was written is on disk. Threads that come in while one syncs share the next sync.
    ///
    /// # Errors
    /// As [`append`](Journal::append).
    pub fn sync(&self) -> Result<(), String> {
        let mut state = self.state();
        let mine = state.written;
        loop {
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if state.safe >= mine {
                return Ok(());
            }
            if state.syncing {
                state = self.synced.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.syncing = true;
            let up_to = state.written;
            drop(state);
            let result = self.file.sync_data();
            state = self.state();
            state.syncing = false;
            if state.noted(result).is_ok() {
                state.safe = up_to;
            }
            self.synced.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn noted(&mut self, result: io::Result<()>) -> Result<(), String> {
        let failure = result.map_err(|error| format!("the journal cannot be written: {error}"));
        if let Err(failure) = &failure {
            self.failure = Some(failure.clone());
        }
        failure
    }
}

impl History {
    pub fn empty(input: &Input) -> History {
        History {
            rows: vec![(RowState::Untouched, 0); input.len()],
            causes: HashMap::new(),
            whole: 0,
            same_credential: true,
        }
    }

    /// # Errors
    /// A line that says why it cannot be gone on with.
    pub fn read(file: &File, header: &Header, input: &Input) -> Result<History, String> {
        let mut history = History::empty(input);
        let mut reader = BufReader::new(file);
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            let length = read_line(&mut reader, &mut bytes)?;
            if number == 1 && !begins(&bytes) {
                return Err(NO_JOURNAL.into());
            }
            if !bytes.ends_with(b"\n") {
                break;
            }
            let text = std::str::from_utf8(&bytes).unwrap_or_default();
            if number == 1 {
                history.same_credential = belongs(text, header)?;
            } else if let Some((row, line)) = parse(text, input) {
                history.add(row, line);
            } else if bytes.contains(&0) && nothing_was_sent_after(&mut reader, input)? {
                break;
            } else {
                return Err(format!("line {number} of it is damaged{DAMAGED}"));
            }
            history.whole += length as u64;
        }
        Ok(history)
    }

    fn add(&mut self, row: usize, line: Line) {
        let (past, at) = &mut self.rows[row];
        let was = *past;
        *past = match line.result {
            Some(outcome) => past.after_result(outcome, line.in_doubt),
            None => past.after_intent(),
        };
        // Its result is what is told of a row that was applied, whatever comes after it.
        if !matches!(was, RowState::Applied { .. }) {
            *at = self.whole;
        }
        match (line.cause, *past) {
            (Some(cause), RowState::InDoubt { .. } | RowState::NotSent) => drop(self.causes.insert(row, cause)),
            (None, RowState::InDoubt { reported: false }) => {
                self.causes.insert(row, "the run ended before the answer came".into());
            }
            _ => drop(self.causes.remove(&row)),
        }
    }

    /// Hands out the last result of each row that `is` so: its line, the outcome, the reason, and all as it stands in the
    /// journal.
    pub fn results(&self, mut file: &File, is: impl Fn(RowState) -> bool, tell: &mut Tell<'_>) -> Result<(), String> {
        #[derive(Deserialize)]
        struct Told<'a> {
            line: u32,
            result: Option<Outcome>,
            #[serde(borrow)]
            reason: Option<std::borrow::Cow<'a, str>>,
        }
        let wanted = self
            .rows
            .iter()
            .filter(|(past, _)| *past != RowState::Untouched && is(*past));
        let mut places: Vec<u64> = wanted.map(|(_, at)| *at).collect();
        places.sort_unstable();
        file.rewind().map_err(unusable)?;
        let mut reader = BufReader::new(file);
        let mut bytes = Vec::new();
        let mut at = 0;
        for place in places {
            bytes.clear();
            reader.seek_relative((place - at) as i64).map_err(unusable)?;
            at = place + read_line(&mut reader, &mut bytes)? as u64;
            let text = std::str::from_utf8(&bytes).unwrap_or_default().trim_end();
            if let Ok(Told {
                line,
                result: Some(outcome),
                reason,
            }) = serde_json::from_str(text)
            {
                tell(line, outcome, reason.as_deref().unwrap_or(""), text);
            }
        }
        Ok(())
    }
}

fn read_line(reader: &mut impl BufRead, bytes: &mut Vec<u8>) -> Result<usize, String> {
    let read = reader.read_until(b'\n', bytes);
    read.map_err(|error| format!("it cannot be read: {error}"))
}

/// The row that a line is about, and what it says.
fn parse(text: &str, input: &Input) -> Option<(usize, Line)> {
    let line: Line = serde_json::from_str(text).ok()?;
    let row = input.at_line(line.line)?;
    (line.intent.is_some() || line.result.is_some()).then_some((row, line))
}

/// A file that is no journal is left as it is. A power cut may leave NULs where the first line was being written.
fn begins(bytes: &[u8]) -> bool {
    let start = b"{\"didit_journal\":";
    let written = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    start.starts_with(&bytes[..written.min(start.len())]) && bytes[written..].iter().all(|byte| *byte == 0)
}

/// On some file systems a power cut leaves NULs in what was not synced. What was sent had been synced before: where an
/// intent comes after them, it is something else.
fn nothing_was_sent_after(reader: &mut impl BufRead, input: &Input) -> Result<bool, String> {
    let mut bytes = Vec::new();
    while read_line(reader, &mut bytes)? > 0 {
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        if parse(text, input).is_some_and(|(_, line)| line.intent.is_some()) {
            return Ok(false);
        }
        bytes.clear();
    }
    Ok(true)
}

/// Whether it is of the same credential, too.
fn belongs(text: &str, header: &Header) -> Result<bool, String> {
    let found: Header = serde_json::from_str(text).map_err(|_| NO_JOURNAL)?;
    let other = if found.didit_journal != header.didit_journal {
        return Err(format!("it is of {OTHER_VERSION}"));
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

const OTHER_VERSION: &str = "another version of this command: nothing was sent; finish the batch with that version. Do not \
                             delete the journal: a new one knows nothing of the rows that were sent, and would have them \
                             sent again";
const OTHER_CREDENTIAL: &str = "it belongs to other credentials: nothing was sent; if the same application has new ones, \
                                delete \"credential\" from its first line and run again";
const NO_JOURNAL: &str = "the file is no journal of this command: give another --journal";
const DAMAGED: &str = ": nothing was sent; put a copy of it from before in its place, or begin a new batch of the rows that it \
                       has no line of";

pub fn unusable(error: io::Error) -> String {
    let hint = match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::NotFound => {
            "; --journal FILE puts it somewhere else"
        }
        _ => "",
    };
    format!("it cannot be used: {error}{hint}")
}

/// So that the journal itself outlasts a power cut. Not every file system can do that.
fn sync_directory(path: &Path) {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Ok(directory) = File::open(parent.unwrap_or(Path::new("."))) {
        let _ = directory.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Format;

    fn header() -> Header {
        Header {
            didit_journal: VERSION,
            input: "i".into(),
            host: "h".into(),
            credential: Some("c".into()),
        }
    }

    #[test]
    fn wherever_a_journal_is_cut_off_no_row_that_was_sent_is_forgotten() {
        let text = "session_id,new_status\na,Approved\nb,Declined\n".to_owned();
        let input = Input::check(text, Format::Csv, |_| Ok(()), &mut |problem| panic!("{problem}")).unwrap();
        let lines = [
            serde_json::to_string(&header()).unwrap(),
            r#"{"line":2,"session_id":"a","intent":"Approved","at":1}"#.into(),
            r#"{"line":3,"session_id":"b","intent":"Declined","at":1}"#.into(),
            r#"{"line":2,"session_id":"a","new_status":"Approved","result":"applied","at":1}"#.into(),
            r#"{"line":3,"session_id":"b","new_status":"Declined","result":"not_sent","at":1,"reason":"why","cause":"why"}"#
                .into(),
        ];
        let whole = lines.map(|line| line + "\n").concat();
        let ends: Vec<usize> = whole.match_indices('\n').map(|(at, _)| at + 1).collect();
        let doubt = RowState::InDoubt { reported: false };
        let expected = [
            [RowState::Untouched; 2],
            [RowState::Untouched; 2],
            [doubt, RowState::Untouched],
            [doubt; 2],
            [RowState::Applied { already: false }, doubt],
            [RowState::Applied { already: false }, RowState::NotSent],
        ];
        for cut in 0..=whole.len() {
            let lines = ends.iter().filter(|end| **end <= cut).count();
            // What was not synced may be there as NULs.
            for tail in ["", "\0\0\0", "\0\0\n\0"] {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(&[&whole.as_bytes()[..cut], tail.as_bytes()].concat())
                    .unwrap();
                file.rewind().unwrap();
                let history = History::read(&file, &header(), &input);
                if lines == 0 && tail.contains('\n') {
                    // A file whose first line is none of a journal is left alone.
                    assert!(history.is_err(), "{cut} {tail:?}");
                    continue;
                }
                let history = history.unwrap_or_else(|problem| panic!("{cut} {tail:?}: {problem}"));
                let pasts = [history.rows[0].0, history.rows[1].0];
                assert_eq!(pasts, expected[lines], "{cut} {tail:?}");
                assert_eq!(history.whole, ends[..lines].last().map_or(0, |end| *end as u64));
            }
        }
    }
}
