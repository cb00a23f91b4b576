//! The token on disk, for the next process. Whatever is wrong with the file, it is as if there were none.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::secret::{Secret, is_visible_ascii};
use crate::token::{LONGEST_LIFE, Now, Token};

const MAX_SIZE: u64 = 64 * 1024;

pub(crate) struct TokenFile {
    path: PathBuf,
    auth_url: String,
    client_id: String,
}

impl TokenFile {
    pub(crate) fn new(path: PathBuf, auth_url: &str, client_id: &str) -> TokenFile {
        TokenFile {
            path,
            auth_url: auth_url.into(),
            client_id: client_id.into(),
        }
    }

    /// The token in the file, if it can be trusted and is for these credentials.
    pub(crate) fn load(&self, now: Now) -> Option<Token> {
        let text = match read_private(&self.path) {
            Ok(text) => text,
            Err(error) => {
                log::debug!(target: "didit", "token file not used: {error}");
                return None;
            }
        };
        let content: Value = serde_json::from_slice(&text).ok()?;
        let ours = content["auth_url"] == *self.auth_url && content["client_id"] == *self.client_id;
        let value = content["access_token"].as_str()?;
        if !ours || !is_visible_ascii(value) {
            return None;
        }
        let fetched_at = content["fetched_at"].as_u64()?;
        let lifetime = content["expires_at"].as_u64()?.checked_sub(fetched_at)?;
        let fetched = UNIX_EPOCH.checked_add(Duration::from_secs(fetched_at))?;
        let age = now.wall.duration_since(fetched).ok()?;
        Some(Token {
            value: Secret::new(value),
            lifetime: Duration::from_secs(lifetime).min(LONGEST_LIFE),
            born: Now {
                monotonic: now.monotonic.checked_sub(age).unwrap_or(now.monotonic),
                wall: fetched,
            },
        })
    }

    /// Puts the token there for the next process. That it cannot be done is no reason to fail.
    pub(crate) fn store(&self, token: &Token) {
        if let Err(error) = self.try_store(token) {
            log::warn!(target: "didit", "token file not written: {error}");
        }
    }

    fn try_store(&self, token: &Token) -> io::Result<()> {
        // The rename would replace it, and whoever names /dev/null still wants to have one afterwards.
        if fs::symlink_metadata(&self.path).is_ok_and(|found| !found.is_file()) {
            return Err(not_a_file());
        }
        let fetched_at = token.born.wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // The token, its two moments in Unix seconds, and whose it is.
        let content = json!({
            "auth_url": self.auth_url,
            "client_id": self.client_id,
            "access_token": token.value.expose(),
            "fetched_at": fetched_at,
            "expires_at": fetched_at.saturating_add(token.lifetime.as_secs()),
        });
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{:016x}.tmp", fastrand::u64(..)));
        let temporary = self.path.with_file_name(name);
        let mut file = private().write(true).create_new(true).open(&temporary)?;
        // A rename replaces the file in one step: nobody ever sees half of one.
        let written = file
            .write_all(content.to_string().as_bytes())
            .and_then(|()| fs::rename(&temporary, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

#[cfg(unix)]
fn private() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;

    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

#[cfg(not(unix))]
fn private() -> OpenOptions {
    OpenOptions::new()
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
    // Who runs this program only unsafe code could ask directly; where there is no /proc, the mode has to do.
    match fs::metadata("/proc/self") {
        Ok(process) if process.uid() != opened.uid() => Err(io::Error::other("it belongs to another user")),
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn check_owner(_: &fs::Metadata, _: &fs::Metadata) -> io::Result<()> {
    Ok(())
}
