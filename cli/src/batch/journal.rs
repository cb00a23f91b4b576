//! The journal of a batch records what was sent and its result.
//!
//! A journal is an NDJSON file. Its first line names the input, the host and the credential that it belongs to. An intent
//! follows for each attempt: it is on disk before the request goes out. A result follows when more is known about a row: it is
//! on disk with the next intent at the latest.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use didit::{NewStatus, SessionId};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::input::Input;
use super::report::{RowResult, now};
use super::result::{Outcome, RowState};
use super::scheduler::NO_ANSWER;
use crate::terminal::system_message;

/// The first line of a journal: what it belongs to.
#[derive(Deserialize, PartialEq, Serialize)]
pub struct Header {
    /// The version of this format.
    pub didit_journal: u32,
    pub input: String,
    pub host: String,
    /// With `None`, any credentials are accepted: in a dry run, and if someone changed it to null because the same application
    /// has new credentials.
    pub credential: Option<String>,
}

pub const VERSION: u32 = 2;

/// An intent or a result, as read from the journal.
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

/// What earlier runs wrote to the journal.
pub struct History {
    /// The state of each row, and the position of its last entry in the journal.
    pub rows: Vec<(RowState, u64)>,
    /// Why the updates failed, for rows that have not ended.
    pub causes: HashMap<usize, String>,
    /// The length of the complete lines, in bytes.
    whole: u64,
    other_owner: Option<OtherOwner>,
}

/// Who a journal belongs to, if not to this run: another host or other credentials.
struct OtherOwner {
    name: String,
    /// Why this run cannot use the journal, if something was applied or left in doubt for that owner.
    rejection: String,
}

pub struct Journal(Mutex<Result<File, String>>);

/// Opens or creates a journal, and locks it until this process ends.
///
/// # Errors
/// Says why the journal cannot be used.
pub fn open(path: &Path) -> Result<File, String> {
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        return Err("a journal must be a regular file; nothing was sent; choose another file with --journal".into());
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // FILE_SHARE_READ instead of a lock: on Windows, a lock would also prevent others from reading the journal.
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

/// Renames a journal to a free name, and returns that name.
///
/// # Errors
/// Says why the journal cannot be renamed.
pub fn put_aside(path: &Path) -> Result<PathBuf, String> {
    let name = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    let aside = (1..).map(name).find(|aside| aside.symlink_metadata().is_err());
    let aside = aside.expect("a free number");
    fs::rename(path, &aside).map_err(unusable)?;
    Ok(aside)
}

/// Opens a journal for reading, without a lock. Returns `None` if it does not exist.
///
/// # Errors
/// Says why the journal cannot be used.
pub fn open_to_read(path: &Path) -> Result<Option<File>, String> {
    match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        file => file.map(Some).map_err(unusable),
    }
}

impl Journal {
    /// Resumes a journal after the last complete line of its history, or starts a new one.
    ///
    /// # Errors
    /// Says why the journal cannot be used.
    pub fn resume(mut file: File, path: &Path, header: &Header, history: &History) -> Result<Journal, String> {
        // An error is ignored: some file systems have no modes, and a journal holds no secret.
        #[cfg(unix)]
        let _ = file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600));
        // The last run ended while it wrote an incomplete line. It sent no request for that line.
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

    /// Writes an intent. Returns when it is on disk.
    ///
    /// # Errors
    /// As [`append`](Journal::append).
    pub fn intend(&self, line: u32, session_id: &SessionId, intent: NewStatus) -> Result<(), String> {
        let intent = json!({"line": line, "session_id": session_id, "intent": intent, "at": now()});
        self.append(&intent.to_string())?;
        self.sync()
    }

    /// Writes a line. The line is on disk after the next [`sync`](Journal::sync).
    ///
    /// # Errors
    /// Says why the journal cannot be written any more.
    pub fn append(&self, line: &str) -> Result<(), String> {
        self.write(|mut file| file.write_all(format!("{line}\n").as_bytes()))
    }

    /// Returns when everything written so far is on disk.
    ///
    /// # Errors
    /// As [`append`](Journal::append).
    pub fn sync(&self) -> Result<(), String> {
        self.write(File::sync_data)
    }

    /// Writes nothing more after a failure, because the content of the file is then unknown.
    fn write(&self, what: impl Fn(&File) -> io::Result<()>) -> Result<(), String> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = what(file.as_ref().map_err(String::clone)?) {
            let remedy = if is_full(&error) { "; free some space" } else { "" };
            let reason = system_message(&error);
            *file = Err(format!("the journal cannot be written: {reason}{remedy}"));
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
            other_owner: None,
        }
    }

    /// Reads the history of a batch from its journal.
    ///
    /// # Errors
    /// Says why the batch cannot resume from this journal.
    pub fn read(file: &File, header: &Header, input: &Input) -> Result<History, String> {
        let mut history = History::empty(input);
        let mut reader = BufReader::new(file);
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            let length = read_line(&mut reader, &mut bytes)?;
            if number == 1 && !is_start_of_journal(&bytes) {
                return Err(NOT_A_JOURNAL.into());
            }
            if !bytes.ends_with(b"\n") {
                break;
            }
            let text = std::str::from_utf8(&bytes).unwrap_or_default();
            if number == 1 {
                history.other_owner = check_header(text, header)?;
            } else if let Some((row, entry)) = parse(text, input) {
                history.add(row, entry);
            } else if bytes.contains(&0) && nothing_was_sent_after(&mut reader, input)? {
                break;
            } else {
                return Err(format!("line {number} is damaged{DAMAGED}"));
            }
            history.whole += length as u64;
        }
        // After the last line, because most intents are followed by a result.
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
        // A row that was applied keeps that result, even if other entries follow.
        if !before.is_applied() {
            *place = self.whole;
        }
        match (entry.cause, state.outcome()) {
            (Some(cause), Some(Outcome::NotApplied | Outcome::Unknown)) => drop(self.causes.insert(row, cause)),
            _ => drop(self.causes.remove(&row)),
        }
    }

    /// Returns the other owner of the journal, if nothing was applied or left in doubt for it. It was a mistake then.
    ///
    /// # Errors
    /// Rejects a journal of another owner for whom something was applied or left in doubt.
    pub fn mistaken_owner(&self) -> Result<Option<&str>, String> {
        let changed = |(state, _): &(RowState, u64)| state.is_applied() || state.in_doubt;
        match &self.other_owner {
            Some(owner) if self.rows.iter().any(changed) => Err(owner.rejection.clone()),
            owner => Ok(owner.as_ref().map(|owner| owner.name.as_str())),
        }
    }

    /// Reads the last result of each row that has a wanted outcome.
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
            let entry: Option<Entry> = serde_json::from_str(&json).ok();
            if let Some((outcome, entry)) = entry.and_then(|entry| Some((entry.result?, entry))) {
                let (line, reason) = (entry.line, entry.reason.unwrap_or_default());
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
    reader.read_until(b'\n', bytes).map_err(unusable)
}

/// Returns the row that a line is about, and its entry.
fn parse(text: &str, input: &Input) -> Option<(usize, Entry)> {
    let entry: Entry = serde_json::from_str(text).ok()?;
    let row = input.at_line(entry.line)?;
    (entry.intent.is_some() || entry.result.is_some()).then_some((row, entry))
}

/// Returns whether a file starts like a journal. Any other file is left unchanged. A power failure may leave NUL bytes in the
/// first line.
fn is_start_of_journal(bytes: &[u8]) -> bool {
    let start = b"{\"didit_journal\":";
    let written = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    start.starts_with(&bytes[..written.min(start.len())]) && bytes[written..].iter().all(|byte| *byte == 0)
}

/// Returns whether no intent follows. On some file systems, a power failure leaves NUL bytes in place of unsynced data. An
/// intent is synced before its request is sent, so an intent after NUL bytes shows that they have another cause.
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

/// Returns the other owner of a journal, if it does not belong to this run.
///
/// # Errors
/// Rejects the journal of a different input or version.
fn check_header(text: &str, header: &Header) -> Result<Option<OtherOwner>, String> {
    let found: Header = serde_json::from_str(text).map_err(|_| NOT_A_JOURNAL)?;
    let accepts_any = found.credential.is_none() || header.credential.is_none();
    match found {
        _ if found.didit_journal != header.didit_journal => Err(OTHER_VERSION.into()),
        _ if found.input != header.input => Err(OTHER_INPUT.into()),
        _ if found.host != header.host => Ok(Some(OtherOwner {
            rejection: format!(
                "this journal belongs to {}; nothing was sent. To resume that batch, set DIDIT_BASE_URL to this URL. With \
                 another --journal, this run sends every row to {}",
                found.host, header.host
            ),
            name: found.host,
        })),
        _ if accepts_any || found.credential == header.credential => Ok(None),
        _ => Ok(Some(OtherOwner {
            name: "other credentials".into(),
            rejection: OTHER_CREDENTIALS.into(),
        })),
    }
}

const IN_USE: &str = "another run is using this journal; nothing was sent; wait until that run has ended";
const OTHER_VERSION: &str = "another version of this command wrote this journal; nothing was sent. Finish the batch \
                             with that version. Keep the journal: without it, a new run sends every row again";
const OTHER_INPUT: &str = "this journal belongs to a different input file; nothing was sent. To correct rows, put them in \
                           a new file with its own journal; to resume this batch, restore its input. With another \
                           --journal, every row is sent again";
const OTHER_CREDENTIALS: &str = "this journal belongs to other credentials; nothing was sent. Use those credentials; if the \
                                same application has new ones, change the value of \"credential\" in the journal's first \
                                line to null, and run again";
const NOT_A_JOURNAL: &str = "this file is not a journal of didit, or its first line is damaged; nothing was sent; with another \
                             --journal, every row is sent again";
const DAMAGED: &str = "; nothing was sent; restore the journal from a copy, or start a new batch with the rows that \
                       the journal does not mention";

fn unusable(error: io::Error) -> String {
    let remedy = match is_full(&error) {
        true => "free some space, and run the same command again",
        // Also if the file system does not support locks.
        false => "for a new batch, choose another place with --journal FILE",
    };
    let reason = system_message(&error);
    format!("this journal cannot be used: {reason}; nothing was sent; {remedy}")
}

fn is_full(error: &io::Error) -> bool {
    use ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), FileTooLarge | QuotaExceeded | StorageFull)
}

/// Makes sure that the new file survives a power failure, on file systems that support this.
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
    fn a_journal_that_is_cut_off_anywhere_forgets_no_row_that_was_sent() {
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
            // Unsynced data may appear as NUL bytes.
            for tail in ["", "\0\0\0", "\0\0\n\0"] {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(&[&whole.as_bytes()[..cut], tail.as_bytes()].concat())
                    .unwrap();
                file.rewind().unwrap();
                let history = History::read(&file, &header(), &input);
                if lines == 0 && tail.contains('\n') {
                    // A file that is not a journal is rejected.
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
