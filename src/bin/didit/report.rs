//! What is told, and what the exit status says.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use didit::{Error, Verdict};
use log::{LevelFilter, Log, Metadata, Record};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Exit {
    Done = 0,
    RowsRefused = 1,
    Usage = 2,
    Credentials = 3,
    Refused = 4,
    Unknown = 5,
    NotSent = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl Exit {
    pub fn of(error: &Error) -> Exit {
        match error.kind() {
            _ if error.verdict() == Verdict::Unknown => Exit::Unknown,
            didit::ErrorKind::Config | didit::ErrorKind::InvalidInput => Exit::Usage,
            didit::ErrorKind::Authentication => Exit::Credentials,
            _ if error.is_retryable() => Exit::NotSent,
            _ => Exit::Refused,
        }
    }
}

/// One line on standard error. Nobody may be reading it, which changes nothing.
pub fn diagnose(text: &str) {
    let _ = writeln!(io::stderr(), "didit: {}", escaped(text));
}

/// A result on standard output. A reader that went away, as `head` does, wants no more of them.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Text from outside may hold what would steer a terminal.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let escape = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(escape).collect::<String>().into()
}

/// Tells the library's own log lines. Never another crate's: at trace, ureq's hold the wire and so the secrets.
pub fn log_to_stderr() {
    // Only main calls this, once.
    let _ = log::set_logger(&StderrLog);
    log::set_max_level(LevelFilter::Debug);
}

struct StderrLog;

impl Log for StderrLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "didit"
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            diagnose(&record.args().to_string());
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_steer_the_terminal() {
        assert_eq!(escaped("a\u{1b}[2Jb\nc\u{9b}"), "a\\u{1b}[2Jb\\nc\\u{9b}");
        assert_eq!(escaped("Zoë – ok"), "Zoë – ok");
    }
}
