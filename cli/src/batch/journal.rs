//! The journal of a batch: what was about to be sent, and what became of it.
//!
//! NDJSON. The first line tells which input, host and credential it belongs to. Then come an
//! intent for each request to update, which is on disk before the request goes out, and a result whenever more is known of a
//! row, which gets there with the next intent at the latest.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use didit::{NewStatus, SessionId};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::input::Input;
use super::lines::{RowResult, now};
use super::model::NO_ANSWER;
use super::rows::{Outcome, RowState};
use crate::terminal::system_message;

/// What a journal belongs to.
#[derive(Deserialize, PartialEq, Serialize)]
pub struct Header {
    /// The version of this format.
    pub didit_journal: u32,
    pub input: String,
    pub host: String,
    /// `None` after somebody deleted it because the same application has new credentials. Then any are accepted.
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

/// An intent or a result, as it is read.
#[derive(Deserialize)]
struct Entry {
    line: u32,
    intent: Option<IgnoredAny>,
    result: Option<Outcome>,
    #[serde(default)]
    in_doubt: bool,
    reason: Option<String>,
    cause: Option<String>,
}

/// What earlier runs wrote.
pub struct History {
    /// The state of each row, and where in the journal its last entry is.
    pub rows: Vec<(RowState, u64)>,
    /// How the updates of rows that have not ended failed.
    pub causes: HashMap<usize, String>,
    /// The length of the lines that are whole.
    whole: u64,
    same_credential: bool,
}

pub struct Journal(Mutex<Result<File, String>>);

/// Opens or creates a journal, for this process alone until it ends.
///
/// # Errors
/// A line that says why it cannot be used.
pub fn open(path: &Path) -> Result<File, String> {
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        return Err("it is not a regular file: this run sent nothing; give another --journal".into());
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // In place of a lock, which would keep everybody from reading it there: FILE_SHARE_READ.
    #[cfg(windows)]
    std::os::windows::fs::OpenOptionsExt::share_mode(&mut options, 1);
    let file = options.open(path).map_err(|error| match error.raw_os_error() {
        // ERROR_SHARING_VIOLATION.
        Some(32) if cfg!(windows) => IN_USE.into(),
        _ => unusable(error),
    })?;
    #[cfg(not(windows))]
    fs4::FileExt::try_lock(&file).map_err(|error| match error {
        fs4::TryLockError::WouldBlock => IN_USE.into(),
        fs4::TryLockError::Error(error) => unusable(error),
    })?;
    Ok(file)
}

/// Gives a journal another name, and returns that.
///
/// # Errors
/// A line that says why it cannot be done.
pub fn put_aside(path: &Path) -> Result<PathBuf, String> {
    let name = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    let aside = (1..).map(name).find(|aside| aside.symlink_metadata().is_err());
    let aside = aside.expect("one of all numbers");
    fs::rename(path, &aside).map_err(unusable)?;
    Ok(aside)
}

/// Opens a journal to look into it, without a lock. It may not be there yet.
///
/// # Errors
/// A line that says why it cannot be used.
pub fn open_to_read(path: &Path) -> Result<Option<File>, String> {
    match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        file => file.map(Some).map_err(unusable),
    }
}

impl Journal {
    /// Goes on with a journal behind the last whole line of its history, or begins it.
    ///
    /// # Errors
    /// A line that says why it cannot be used.
    pub fn resume(mut file: File, path: &Path, header: &Header, history: &History) -> Result<Journal, String> {
        // Not every file system has modes, and nothing in it is secret.
        #[cfg(unix)]
        let _ = file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600));
        // What follows the last whole line was being written when the run ended: nothing was sent for it.
        file.set_len(history.whole).map_err(unusable)?;
        file.seek(SeekFrom::End(0)).map_err(unusable)?;
        if history.whole == 0 {
            let line = serde_json::to_string(header).map_err(|error| error.to_string())? + "\n";
            let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_data());
            written.map_err(unusable)?;
        }
        sync_directory(path);
        Ok(Journal(Mutex::new(Ok(file))))
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

    /// Writes a line. The next [`sync`](Journal::sync) gets it to the disk.
    ///
    /// # Errors
    /// A line that says why nothing can be written any more.
    pub fn append(&self, line: &str) -> Result<(), String> {
        self.write(|mut file| file.write_all(format!("{line}\n").as_bytes()))
    }

    /// Returns once all that was written is on disk.
    ///
    /// # Errors
    /// As [`append`](Journal::append).
    pub fn sync(&self) -> Result<(), String> {
        self.write(File::sync_data)
    }

    /// After a failure nothing more is written: nobody knows what the file holds.
    fn write(&self, what: impl Fn(&File) -> io::Result<()>) -> Result<(), String> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = what(file.as_ref().map_err(String::clone)?) {
            let remedy = if is_full(&error) { "; free some space" } else { "" };
            *file = Err(format!(
                "the journal cannot be written: {}{remedy}",
                system_message(&error)
            ));
        }
        file.as_ref().map(drop).map_err(String::clone)
    }
}

impl History {
    pub fn empty(input: &Input) -> History {
        History {
            rows: vec![Default::default(); input.len()],
            causes: HashMap::new(),
            whole: 0,
            same_credential: true,
        }
    }

    /// # Errors
    /// A line that says why the batch cannot go on from it.
    pub fn read(file: &File, header: &Header, input: &Input) -> Result<History, String> {
        let mut history = History::empty(input);
        let mut reader = BufReader::new(file);
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            let length = read_line(&mut reader, &mut bytes)?;
            if number == 1 && !is_start_of_journal(&bytes) {
                return Err(NO_JOURNAL.into());
            }
            if !bytes.ends_with(b"\n") {
                break;
            }
            let text = std::str::from_utf8(&bytes).unwrap_or_default();
            if number == 1 {
                history.same_credential = check_header(text, header)?;
            } else if let Some((row, entry)) = parse(text, input) {
                history.add(row, entry);
            } else if bytes.contains(&0) && nothing_was_sent_after(&mut reader, input)? {
                break;
            } else {
                return Err(format!("line {number} is damaged{DAMAGED}"));
            }
            history.whole += length as u64;
        }
        // Only now, as most intents are followed by a result.
        for (row, (state, _)) in history.rows.iter().enumerate() {
            if state.is_interrupted() {
                let (id, update) = input.row(row);
                let cause = format!("setting session {id} to {}: {NO_ANSWER}", update.new_status());
                history.causes.insert(row, cause);
            }
        }
        Ok(history)
    }

    fn add(&mut self, row: usize, entry: Entry) {
        let (state, place) = &mut self.rows[row];
        let before = *state;
        *state = before.after(entry.result, entry.in_doubt);
        // Once a row was applied, that is the result to be printed, whatever follows.
        if !before.is_applied() {
            *place = self.whole;
        }
        match (entry.cause, state.outcome()) {
            (Some(cause), Some(Outcome::NotApplied | Outcome::Unknown)) => drop(self.causes.insert(row, cause)),
            _ => drop(self.causes.remove(&row)),
        }
    }

    /// Whether it belongs to other credentials, with which nothing was applied or left in doubt: they were wrong.
    ///
    /// # Errors
    /// If something was.
    pub fn is_of_wrong_credentials(&self) -> Result<bool, String> {
        let changed = |(state, _): &(RowState, u64)| state.is_applied() || state.in_doubt;
        match !self.same_credential && self.rows.iter().any(changed) {
            true => Err(OTHER_CREDENTIAL.into()),
            false => Ok(!self.same_credential),
        }
    }

    /// Reads the last result of each row whose state is wanted.
    pub fn results(
        &self,
        mut file: &File,
        is_wanted: impl Fn(Outcome) -> bool,
        add: &mut dyn FnMut(RowResult),
    ) -> Result<(), String> {
        let wanted = self
            .rows
            .iter()
            .filter(|(state, _)| state.outcome().is_some_and(&is_wanted));
        let mut places: Vec<u64> = wanted.map(|(_, place)| *place).collect();
        places.sort_unstable();
        file.rewind().map_err(unusable)?;
        let mut reader = BufReader::new(file);
        let mut at = 0;
        for place in places {
            let mut bytes = Vec::new();
            reader.seek_relative((place - at) as i64).map_err(unusable)?;
            at = place + read_line(&mut reader, &mut bytes)? as u64;
            let json = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            if let Ok(Entry {
                line,
                result: Some(outcome),
                reason,
                ..
            }) = serde_json::from_str(&json)
            {
                let reason = reason.unwrap_or_default();
                add(RowResult {
                    line,
                    outcome,
                    reason,
                    json,
                });
            }
        }
        Ok(())
    }
}

fn read_line(reader: &mut impl BufRead, bytes: &mut Vec<u8>) -> Result<usize, String> {
    let read = reader.read_until(b'\n', bytes);
    read.map_err(|error| format!("it cannot be read: {}", system_message(&error)))
}

/// The row that a line is about, and what it says.
fn parse(text: &str, input: &Input) -> Option<(usize, Entry)> {
    let entry: Entry = serde_json::from_str(text).ok()?;
    let row = input.at_line(entry.line)?;
    (entry.intent.is_some() || entry.result.is_some()).then_some((row, entry))
}

/// Any other file is left as it is. A power cut may leave NULs where the first line was being written.
fn is_start_of_journal(bytes: &[u8]) -> bool {
    let start = b"{\"didit_journal\":";
    let written = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    start.starts_with(&bytes[..written.min(start.len())]) && bytes[written..].iter().all(|byte| *byte == 0)
}

/// On some file systems a power cut leaves NULs in what was not synced. An intent is synced before its request is sent, so
/// one that follows the NULs shows that they come from something else.
fn nothing_was_sent_after(reader: &mut impl BufRead, input: &Input) -> Result<bool, String> {
    let mut bytes = Vec::new();
    while read_line(reader, &mut bytes)? > 0 {
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        if parse(text, input).is_some_and(|(_, entry)| entry.intent.is_some()) {
            return Ok(false);
        }
        bytes.clear();
    }
    Ok(true)
}

/// Refuses the journal of another input or host. Returns whether the credential is the same.
fn check_header(text: &str, header: &Header) -> Result<bool, String> {
    let found: Header = serde_json::from_str(text).map_err(|_| NO_JOURNAL)?;
    let (other, remedy) = if found.didit_journal != header.didit_journal {
        return Err(OTHER_VERSION.into());
    } else if found.input != header.input {
        (
            "a different input, or the input was changed since",
            "restore its input; to correct rows, put them in a new file, which gets a journal of its own",
        )
    } else if found.host != header.host {
        ("another API host", "set DIDIT_BASE_URL as it was")
    } else {
        return Ok(found.credential.is_none() || found.credential == header.credential);
    };
    Err(format!(
        "it belongs to {other}: this run sent nothing; to resume that batch, {remedy}; with another --journal, every row is \
         sent"
    ))
}

const IN_USE: &str = "another run is using it: this run sent nothing; wait until the other has ended";
const OTHER_VERSION: &str = "it was written by another version of this command: this run sent nothing; finish the \
                             batch with that version. Do not delete the journal: a new one knows nothing of the rows \
                             that were sent, and they would be sent again";
const OTHER_CREDENTIAL: &str = "it belongs to other credentials: this run sent nothing; use those; or, if the same \
                                application has new ones, delete \"credential\" and its value from the first line of \
                                the journal, and run again";
const NO_JOURNAL: &str = "this is not a journal of didit: this run sent nothing; give another --journal";
const DAMAGED: &str = ": this run sent nothing; restore the journal from a copy, or start a new batch with the rows \
                       that it does not mention";

fn unusable(error: io::Error) -> String {
    let remedy = match is_full(&error) {
        true => "free some space, and run the same command again",
        // Also where a file system knows no locks.
        false => "for a new batch, --journal FILE puts it somewhere else",
    };
    format!(
        "it cannot be used: {}; this run sent nothing; {remedy}",
        system_message(&error)
    )
}

fn is_full(error: &io::Error) -> bool {
    use ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), FileTooLarge | QuotaExceeded | StorageFull)
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
        let input = Input::parse(text, Format::Csv, false, |_| Ok(()), &mut |problem| panic!("{problem}")).unwrap();
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
        let untouched = RowState::default();
        let state = |result, in_doubt| untouched.after(result, in_doubt);
        let (doubt, applied) = (state(None, false), state(Some(Outcome::Applied), false));
        let expected = [
            [untouched; 2],
            [untouched; 2],
            [doubt, untouched],
            [doubt; 2],
            [applied, doubt],
            [applied, state(Some(Outcome::NotApplied), false)],
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
                    // Any other file is left alone.
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
