//! The token on disk, for the next process. A file that cannot be used is ignored.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;

use crate::error::system_message;
use crate::token::{Timestamp, Token};

const MAX_SIZE: u64 = 64 * 1024;
/// Writing a token never takes so many seconds.
const ABANDONED_AFTER: u64 = 60;

pub(crate) struct TokenFile {
    path: PathBuf,
    auth_url: String,
    client_id: String,
    warned: Once,
}

/// What the file holds: the token, whose it is, and its two moments in Unix seconds.
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

    /// The token in the file, if it can be trusted and is for these credentials.
    pub(crate) fn load(&self, now: Timestamp) -> Option<Token> {
        let text = read_private(&self.path)
            .inspect_err(|error| log::debug!(target: "didit", "ignoring the token file: {error}"))
            .ok()?;
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
        Token::new(value, Duration::from_secs(lifetime), issued_at)
    }

    /// Stores the token for the next process, and returns whether it did. A failure that will last is logged once, under a
    /// target of its own, so that a program can show it that shows nothing else.
    pub(crate) fn store(&self, token: &Token) -> bool {
        match self.try_store(token) {
            Ok(()) => return true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                log::debug!(target: "didit", "not writing the token file: {error}");
            }
            Err(error) => self.warned.call_once(|| {
                let (path, problem) = (self.path.display(), system_message(&error));
                let effect = "each process fetches its own access token";
                log::warn!(target: "didit::token_file", "cannot write the token file {path}: {problem}; {effect}");
            }),
        }
        false
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
        // A rename replaces the file in one step: no reader ever sees half of one.
        let written = file
            .write_all(&content)
            .and_then(|()| fs::rename(&temporary, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Whether what lies at the path is a token file or nothing. The rename would replace whatever it is: a device
    /// that everybody needs, or a file that was named by mistake.
    fn check_replaceable(&self) -> io::Result<()> {
        match fs::symlink_metadata(&self.path) {
            Err(_) => return Ok(()),
            Ok(found) if !found.is_file() => return Err(not_a_file()),
            Ok(_) => {}
        }
        let mut start = Vec::new();
        // One that its owner cannot read is replaced: nothing shows that it is worth keeping.
        if let Ok(file) = File::open(&self.path) {
            file.take(MAX_SIZE).read_to_end(&mut start)?;
        }
        let marker = b"\"access_token\"";
        let is_ours = start.windows(marker.len()).any(|part| part == marker);
        // A damaged token file is worth nothing; text of several lines, or other JSON, is somebody's.
        let is_other = start.contains(&b'\n') || start.starts_with(b"{\"");
        match is_other && !is_ours {
            true => Err(io::Error::other(
                "the file contains something other than an access token",
            )),
            false => Ok(()),
        }
    }
}

/// Creates the file that is to be renamed. One that exists already is another process's, which is storing a token as
/// good as ours, unless it is so old that its process must have been killed.
fn create_temporary(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let create = || options.open(path);
    match create() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let age = fs::symlink_metadata(path)?.modified()?.elapsed().unwrap_or_default();
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

/// Reads a file that only its owner, who runs this program, can have written.
fn read_private(path: &Path) -> io::Result<Vec<u8>> {
    // Looked at before it is opened: opening a pipe would wait for its other end.
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
        return Err(io::Error::other("others can read or write it"));
    }
    // Only unsafe code can ask for our own user id. Where there is no /proc, the mode has to be enough.
    match fs::metadata("/proc/self") {
        Ok(process) if process.uid() != opened.uid() => Err(io::Error::other("it belongs to another user")),
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn check_owner(_: &fs::Metadata, _: &fs::Metadata) -> io::Result<()> {
    Ok(())
}
