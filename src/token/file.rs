//! Caches the access token on disk for the next process. An unusable file is ignored.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;

use crate::error::TokenOrigin;
use crate::text::system_words;
use crate::token::{Timestamp, Token};

const MAX_SIZE: u64 = 64 * 1024;
/// How every token file begins, even a damaged one. Anything else may be valuable, such as a secret.
const START: &[u8] = b"{\"access_token\"";
/// In seconds. Writing an access token never takes this long.
const ABANDONED_AFTER: u64 = 60;

pub(crate) struct TokenFile {
    path: PathBuf,
    auth_url: String,
    client_id: String,
    warned: Once,
}

/// The content of the file: the access token, its owner, and two times in Unix seconds.
#[derive(Serialize)]
struct Content<'a> {
    access_token: &'a str,
    auth_url: &'a str,
    client_id: &'a str,
    expires_at: u64,
    fetched_at: u64,
}

impl TokenFile {
    pub(crate) fn new(path: PathBuf, auth_url: &str, client_id: &str) -> TokenFile {
        TokenFile {
            path,
            auth_url: auth_url.into(),
            client_id: client_id.into(),
            warned: Once::new(),
        }
    }

    /// Returns the access token in the file, if the file is private and for these credentials.
    pub(crate) fn load(&self, now: Timestamp) -> Option<Token> {
        let text = match read_private(&self.path) {
            Ok(text) => text,
            Err(error) => {
                match error.kind() {
                    // The first run creates it.
                    io::ErrorKind::NotFound => {}
                    io::ErrorKind::PermissionDenied => {
                        self.warn("ignoring", &error, "this process fetches its own access token")
                    }
                    _ => log::debug!(target: "didit", "ignoring the token file: {error}"),
                }
                return None;
            }
        };
        let content: Value = serde_json::from_slice(&text).ok()?;
        let ours = content["auth_url"] == *self.auth_url && content["client_id"] == *self.client_id;
        let value = content["access_token"].as_str().filter(|_| ours)?;
        let fetched_at = content["fetched_at"].as_u64()?;
        let lifetime = content["expires_at"].as_u64()?.checked_sub(fetched_at)?;
        let fetched = UNIX_EPOCH.checked_add(Duration::from_secs(fetched_at))?;
        let age = now.wall.duration_since(fetched).ok()?;
        let issued_at = Timestamp {
            monotonic: now.monotonic.checked_sub(age).unwrap_or(now.monotonic),
            wall: fetched,
        };
        let token = Token::new(value, Duration::from_secs(lifetime), issued_at)?;
        Some(Token {
            origin: TokenOrigin::File,
            ..token
        })
    }

    /// Stores the access token for the next process, and returns whether that succeeded.
    pub(crate) fn store(&self, token: &Token) -> bool {
        match self.try_store(token) {
            Ok(()) => return true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                log::debug!(target: "didit", "not writing the token file: {error}");
            }
            Err(error) => self.warn("cannot write", &error, "each process fetches its own access token"),
        }
        false
    }

    /// Logs a lasting problem once, under a target of its own, so that a program can show this warning and no others.
    fn warn(&self, what: &str, error: &io::Error, effect: &str) {
        self.warned.call_once(|| {
            let (path, problem) = (self.path.display(), system_words(error));
            log::warn!(target: "didit::token_file", "{what} the token file {path}: {problem}; {effect}");
        });
    }

    fn try_store(&self, token: &Token) -> io::Result<()> {
        self.check_replaceable()?;
        let issued_at = token
            .issued_at
            .wall
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let content = Content {
            access_token: token.value(),
            auth_url: &self.auth_url,
            client_id: &self.client_id,
            expires_at: issued_at.saturating_add(token.lifetime.as_secs()),
            fetched_at: issued_at,
        };
        let content = serde_json::to_vec(&content)?;
        let mut temporary = self.path.clone().into_os_string();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let mut file = create_temporary(&temporary)?;
        // A rename is atomic: no reader sees an incomplete file.
        let written = file
            .write_all(&content)
            .and_then(|()| fs::rename(&temporary, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Checks that the path is a token file or does not exist. The rename would replace anything else as well: a
    /// device, or a file that was configured by mistake.
    fn check_replaceable(&self) -> io::Result<()> {
        match fs::symlink_metadata(&self.path) {
            Err(_) => return Ok(()),
            Ok(found) if !found.is_file() => return Err(not_a_file()),
            Ok(_) => {}
        }
        let mut start = Vec::new();
        // A file that its owner cannot read is replaced.
        if let Ok(file) = File::open(&self.path) {
            file.take(START.len() as u64).read_to_end(&mut start)?;
        }
        match start.is_empty() || start == START {
            true => Ok(()),
            false => Err(io::Error::other(
                "the file contains something other than an access token",
            )),
        }
    }
}

/// Creates the file that is renamed later. If it exists, another process is storing an access token, which is just as
/// good, or that process was killed a while ago.
fn create_temporary(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let create = || options.open(path);
    match create() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Without metadata, the other process has just renamed it.
            let modified = fs::symlink_metadata(path).and_then(|found| found.modified());
            let age = modified.map_or(Duration::ZERO, |at| at.elapsed().unwrap_or_default());
            if age.as_secs() < ABANDONED_AFTER {
                let problem = "another process is writing it";
                return Err(io::Error::new(io::ErrorKind::WouldBlock, problem));
            }
            fs::remove_file(path)?;
            create()
        }
        result => result,
    }
}

/// Reads a file that belongs to this user and that nobody else can read or write.
fn read_private(path: &Path) -> io::Result<Vec<u8>> {
    // Check this before opening: opening a pipe would wait for its other end.
    let found = fs::symlink_metadata(path)?;
    if !found.is_file() {
        return Err(not_a_file());
    }
    let file = File::open(path)?;
    check_owner(&found, &file.metadata()?)?;
    let mut text = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut text)?;
    match text.len() as u64 {
        0..=MAX_SIZE => Ok(text),
        _ => Err(io::Error::other("too large")),
    }
}

fn not_a_file() -> io::Error {
    io::Error::other("not a regular file")
}

#[cfg(unix)]
fn check_owner(found: &fs::Metadata, opened: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;

    if (found.dev(), found.ino()) != (opened.dev(), opened.ino()) {
        return Err(io::Error::other("replaced while it was opened"));
    }
    if opened.mode() & 0o077 != 0 {
        return Err(not_private("others can read or write it"));
    }
    // Only unsafe code can get the user id of this process. Without /proc, the mode must be enough.
    match fs::metadata("/proc/self") {
        Ok(process) if process.uid() != opened.uid() => Err(not_private("it belongs to another user")),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn not_private(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, problem)
}

#[cfg(not(unix))]
fn check_owner(_: &fs::Metadata, _: &fs::Metadata) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::thread;

    use super::*;

    #[test]
    fn processes_that_store_at_once_report_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let token = Token::new("abc", Duration::from_secs(600), Timestamp::now()).unwrap();
        let problems = Mutex::new(Vec::new());
        let store = || {
            let file = TokenFile::new(path.clone(), "url", "id");
            for _ in 0..1000 {
                match file.try_store(&token) {
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                        problems.lock().unwrap().push(error.to_string());
                    }
                    _ => {}
                }
            }
        };
        thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(store))));
        assert_eq!(problems.into_inner().unwrap(), [""; 0]);
    }
}
