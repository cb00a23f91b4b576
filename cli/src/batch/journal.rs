//! The journal of a batch records each attempt and its result.
//!
//! A journal is an NDJSON file. Its first line names the input and the host that it belongs to. An intent follows for each
//! attempt: it is on disk before the request goes out. A result follows when more is known about a row: it is on disk with the
//! next intent at the latest. `history` reads it.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use didit::text::system_message;
use didit::{NewStatus, SessionId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::history::History;
use super::rejection::Rejection;
use super::result::now;
use crate::exit::Exit;

/// The first line of a journal: what it belongs to.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub struct Header {
    /// The version of this format.
    pub didit_journal: u32,
    /// The fingerprint of the input.
    pub input: String,
    pub host: String,
    /// How many rows the input has. The header of another version may lack it.
    #[serde(default)]
    pub rows: usize,
}

/// Earlier versions of the format were never published.
pub const VERSION: u32 = 3;

pub struct Journal {
    path: PathBuf,
    /// The file, or why nothing more is written to it.
    file: Mutex<Result<File, String>>,
}

/// Opens or creates a journal, and locks it until this process ends.
///
/// # Errors
/// Says why the journal cannot be used.
pub fn open(path: &Path) -> Result<File, Rejection> {
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        let problem = "a journal must be a regular file; nothing was sent; choose another file with --journal";
        return Err(problem.to_owned().into());
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
        Some(32) if cfg!(windows) => in_use(),
        _ => unusable(error).into(),
    })?;
    #[cfg(not(windows))]
    fs4::FileExt::try_lock(&file).map_err(|error| match error {
        fs4::TryLockError::WouldBlock => in_use(),
        fs4::TryLockError::Error(error) => without_locks(&error).into(),
    })?;
    match is_at(&file, path) {
        true => Ok(file),
        false => {
            let problem = "this journal was replaced while it was opened; nothing was sent; run the same command again";
            Err(Rejection::new(Exit::NotDone, vec![problem.into()]))
        }
    }
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

/// Returns whether a path still names this file. Windows lets nobody replace or remove an open journal.
#[cfg_attr(not(unix), allow(unused_variables))]
fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let identity = |found: std::fs::Metadata| (found.dev(), found.ino());
        match (file.metadata(), path.metadata()) {
            (Ok(own), Ok(found)) => identity(own) == identity(found),
            _ => false,
        }
    }
    #[cfg(not(unix))]
    true
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
        file.set_len(history.complete_bytes).map_err(unusable)?;
        file.seek(SeekFrom::End(0)).map_err(unusable)?;
        if history.lacks_line_break {
            file.write_all(b"\n").map_err(unusable)?;
        }
        if history.complete_bytes == 0 {
            let line = serde_json::to_string(header).map_err(|error| error.to_string())? + "\n";
            let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_data());
            written.map_err(unusable)?;
        }
        sync_directory(path);
        Ok(Journal {
            path: path.into(),
            file: Mutex::new(Ok(file)),
        })
    }

    /// Writes an intent. Returns when it is on disk, and the journal is still at its path: a run that resumes must find it.
    ///
    /// # Errors
    /// As [`append`](Journal::append). Also if someone replaced or removed the journal.
    pub fn write_intent(&self, line: u32, session_id: &SessionId, intent: NewStatus) -> Result<(), String> {
        let intent = json!({"line": line, "session_id": session_id, "intent": intent, "at": now()});
        let mut file = self.file();
        write(&mut file, |mut file| {
            file.write_all(format!("{intent}\n").as_bytes())?;
            file.sync_data()
        })?;
        if file.as_ref().is_ok_and(|file| !is_at(file, &self.path)) {
            *file = Err(REPLACED.into());
        }
        file.as_ref().map(drop).map_err(String::clone)
    }

    /// Writes a line. The line is on disk after the next intent or [`sync`](Journal::sync).
    ///
    /// # Errors
    /// Says why the journal cannot be written any more.
    pub fn append(&self, line: &str) -> Result<(), String> {
        write(&mut self.file(), |mut file| {
            file.write_all(format!("{line}\n").as_bytes())
        })
    }

    /// Returns when everything written so far is on disk.
    ///
    /// # Errors
    /// As [`append`](Journal::append).
    pub fn sync(&self) -> Result<(), String> {
        write(&mut self.file(), File::sync_data)
    }

    fn file(&self) -> MutexGuard<'_, Result<File, String>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes nothing more after a failure, because the content of the file is then unknown.
fn write(file: &mut Result<File, String>, what: impl Fn(&File) -> io::Result<()>) -> Result<(), String> {
    let open = file.as_ref().map_err(|problem| problem.clone())?;
    if is_edited(open) {
        *file = Err(EDITED.into());
    } else if let Err(error) = what(open) {
        let remedy = match is_full(&error) {
            true => "; free some space, and run the same command again",
            false => "",
        };
        let reason = system_message(&error);
        *file = Err(format!("the journal cannot be written: {reason}{remedy}"));
    }
    file.as_ref().map(drop).map_err(String::clone)
}

/// Returns whether the file ends elsewhere than this run wrote last.
fn is_edited(mut file: &File) -> bool {
    let length = file.metadata().map(|file| file.len());
    length.is_ok_and(|length| file.stream_position().is_ok_and(|end| end != length))
}

fn in_use() -> Rejection {
    let problem = "another run is using this journal; nothing was sent; wait until that run has ended";
    Rejection::new(Exit::InUse, vec![problem.into()])
}

const REPLACED: &str = "the journal was replaced or removed during the run; put the old file back before you run again, \
                        otherwise rows may be sent twice";

const EDITED: &str =
    "the journal was edited during the run; undo that before you run again, otherwise rows may be sent twice";

pub fn unusable(error: io::Error) -> String {
    let remedy = match is_full(&error) {
        true => "free some space, and run the same command again",
        false => ELSEWHERE,
    };
    let reason = system_message(&error);
    format!("this journal cannot be used: {reason}; nothing was sent; {remedy}")
}

#[cfg(not(windows))]
fn without_locks(error: &io::Error) -> String {
    let reason = system_message(error);
    format!("this file system has no locks ({reason}); nothing was sent; {ELSEWHERE}")
}

const ELSEWHERE: &str = "for a new batch, choose another place with --journal FILE";

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

#[cfg(all(test, unix))]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A socket stands for the journal, because its reader can let writes fail and then succeed.
    #[test]
    fn after_one_failed_write_nothing_more_is_written() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let journal = Journal {
            path: PathBuf::new(),
            file: Mutex::new(Ok(OwnedFd::from(ours).into())),
        };
        let failure = journal.append(&"x".repeat(10_000_000)).unwrap_err();
        assert!(failure.starts_with("the journal cannot be written: "), "{failure}");
        // Now the journal has space again.
        theirs.set_nonblocking(true).unwrap();
        let mut bytes = Vec::new();
        let _ = theirs.read_to_end(&mut bytes);
        assert!(!bytes.is_empty());
        let id: SessionId = "abc".parse().unwrap();
        assert_eq!(journal.append("result"), Err(failure.clone()));
        assert_eq!(journal.write_intent(2, &id, NewStatus::Approved), Err(failure.clone()));
        assert_eq!(journal.sync(), Err(failure));
        bytes.clear();
        let _ = theirs.read_to_end(&mut bytes);
        assert_eq!(bytes, b"");
    }

    #[test]
    fn a_path_names_a_file_only_until_it_is_replaced_or_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let file = open(&path).unwrap();
        assert!(is_at(&file, &path));
        std::fs::copy(&path, dir.path().join("copy")).unwrap();
        std::fs::rename(dir.path().join("copy"), &path).unwrap();
        assert!(!is_at(&file, &path));
        std::fs::remove_file(&path).unwrap();
        assert!(!is_at(&file, &path));
    }
}
