//! What is printed, and what the exit status says.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::panic;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use didit::{Error, ErrorKind, Verdict};
use log::{LevelFilter, Log, Metadata, Record};
use serde_json::Value;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Exit {
    Done = 0,
    RowsRefused = 1,
    Usage = 2,
    Credentials = 3,
    Refused = 4,
    Unknown = 5,
    NotDone = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl Exit {
    /// 3 and 4 are for Didit's own answers only: those in which the library found an error message. Anything else, such as
    /// a gateway's page or a proxy's refusal, says nothing about the credentials or the session.
    pub fn of(error: &Error) -> Exit {
        let by_didit = error.message().is_some() && error.status() != Some(407);
        match error.kind() {
            _ if error.verdict() == Verdict::Unknown => Exit::Unknown,
            ErrorKind::Config | ErrorKind::InvalidInput => Exit::Usage,
            ErrorKind::Authentication if by_didit => Exit::Credentials,
            ErrorKind::Forbidden | ErrorKind::NotFound | ErrorKind::Rejected if by_didit => Exit::Refused,
            _ => Exit::NotDone,
        }
    }
}

/// Whether the last line of the terminal is a progress bar, which is drawn again soon after other lines.
pub static BAR_IS_SHOWN: AtomicBool = AtomicBool::new(false);

/// What removes the bar. Its own way to do so locks it until the other line is written, and that may take for ever.
fn erase_bar() -> &'static str {
    match BAR_IS_SHOWN.load(Relaxed) {
        true => "\r\x1b[K",
        false => "",
    }
}

/// One line on standard error. Nobody may be reading it, which changes nothing.
pub fn say(text: &str) {
    let line = format!("{}didit: {}\n", erase_bar(), escaped(text));
    let _ = write(io::stderr(), &line);
}

/// A result on standard output. A reader that went away, as `head` does, wants no more of them.
pub fn print(text: &str) -> io::Result<()> {
    let out = io::stdout().lock();
    if out.is_terminal() {
        let _ = write(io::stderr(), erase_bar());
    }
    match write(out, text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes the whole text, so that no line is cut in half.
fn write(mut out: impl Write, text: &str) -> io::Result<()> {
    let mut left = text.as_bytes();
    while !left.is_empty() {
        left = match wait_out(|| out.write(left))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => &left[written..],
        };
    }
    wait_out(|| out.flush())
}

/// Repeats what would block: whoever started this command may have made its standard streams non-blocking.
pub fn wait_out<T>(mut what: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    use io::ErrorKind::{Interrupted, WouldBlock};
    loop {
        match what() {
            Err(error) if matches!(error.kind(), WouldBlock | Interrupted) => thread::sleep(Duration::from_millis(10)),
            result => return result,
        }
    }
}

/// Prints all that a command had to say.
pub fn print_all(text: &str) -> Exit {
    match print(text) {
        Ok(()) => Exit::Done,
        Err(error) => unprintable(&error),
    }
}

/// `1 row`, `2 rows`.
pub fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// A duration as people say it, and as the library does: `90 s`, `59 min 51 s`, `2 h 5 min`. Rounded up to a second.
pub fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0..=1, _) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, rest) => format!("{minutes} min {rest} s"),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// Says that a result could not be printed, and ends a command that had nothing else to do.
pub fn unprintable(error: &io::Error) -> Exit {
    say(&format!("standard output cannot be written: {}", system_message(error)));
    Exit::NotDone
}

/// Prints what clap has to say: help and the version, which were asked for, or a mistake in the arguments.
pub fn help_or_mistake(error: &clap::Error) -> Exit {
    if error.use_stderr() {
        let text = error.to_string();
        let lines = text.lines().map(|line| format!("{}\n", escaped(line)));
        let _ = write(io::stderr(), &lines.collect::<String>());
        return Exit::Usage;
    }
    print_all(&error.to_string())
}

/// Why a result is not what was asked for. The keys are always there.
pub fn add_reason(object: &mut Value, error: &Error, reason: &str) {
    object["reason"] = reason.into();
    object["status_code"] = error.status().into();
    object["code"] = error.code().into();
    object["request_id"] = error.request_id().into();
    object["retry_after"] = error.retry_after().map(|wait| wait.as_secs_f64()).into();
}

/// A bug must not end the command without a word on the decision: whatever it stopped may have been sent. Of the panic
/// only its place is printed, as its message might quote anything.
pub fn end_panics_with_a_verdict() {
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or(String::new(), |place| format!(" at {place}"));
        say(&format!(
            "stopped by a bug{place}; whether anything was applied is unknown; read the session back before anything else"
        ));
        process::exit(Exit::Unknown as i32)
    }));
}

/// The message of the system, without its number: "No such file or directory (os error 2)".
pub fn system_message(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
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

/// Prints the library's own log lines if they are wanted, and always the warning that the token file cannot be written:
/// otherwise every run would fetch a token and nobody would notice. Never prints another crate's lines: at trace, ureq's
/// contain everything that is sent, and so the secrets.
pub fn log_to_stderr(verbose: bool, quiet: bool) {
    // Only main calls this, once.
    let _ = log::set_logger(&StderrLog);
    log::set_max_level(match (verbose, quiet) {
        (true, _) => LevelFilter::Debug,
        (false, true) => LevelFilter::Off,
        (false, false) => LevelFilter::Warn,
    });
}

struct StderrLog;

impl Log for StderrLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        match metadata.target() {
            "didit" => log::max_level() == LevelFilter::Debug,
            target => target == "didit::token_file",
        }
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            say(&record.args().to_string());
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    #[test]
    fn text_from_outside_cannot_steer_the_terminal() {
        assert_eq!(escaped("a\u{1b}[2Jb\nc\u{9b}"), "a\\u{1b}[2Jb\\nc\\u{9b}");
        assert_eq!(escaped("Zoë – ok"), "Zoë – ok");
    }
    #[test]
    fn a_panic_in_any_thread_is_one_line_and_exit_5() {
        if env::var_os("TEST_CHILD").is_some() {
            end_panics_with_a_verdict();
            let _ = thread::spawn(|| panic!("hunter2")).join();
            return;
        }
        let name = "a_panic_in_any_thread_is_one_line_and_exit_5";
        let mut child = process::Command::new(env::current_exe().unwrap());
        let output = child
            .args([name, "--nocapture"])
            .env("TEST_CHILD", "1")
            .output()
            .unwrap();
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(5), "{line}");
        assert!(line.starts_with("didit: stopped by a bug at "), "{line}");
        assert!(line.contains("whether anything was applied is unknown"), "{line}");
        assert!(line.lines().count() == 1 && !line.contains("hunter2"), "{line}");
    }
}
