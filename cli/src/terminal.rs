//! What the command prints.

use std::io::{self, IsTerminal, Write};
use std::panic;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use didit::Error;
use didit::text::{escaped, system_message};
use log::{LevelFilter, Log, Metadata, Record};
use serde_json::Value;

use crate::exit::Exit;

/// Whether the last line of the terminal is a progress bar. The bar is redrawn soon after other lines.
pub static BAR_IS_SHOWN: AtomicBool = AtomicBool::new(false);

/// Returns the characters that erase the progress bar. The bar's own method would lock it until the other line is written,
/// which may block.
fn erase_bar() -> &'static str {
    match BAR_IS_SHOWN.load(Relaxed) {
        true => "\r\x1b[K",
        false => "",
    }
}

/// Prints a line on standard error. Errors are ignored.
pub fn say(text: &str) {
    let line = format!("{}didit: {}\n", erase_bar(), escaped(text));
    let _ = write(io::stderr(), &line);
}

/// Prints a result on standard output. A closed pipe is not an error: a reader such as `head` may stop early.
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

/// Writes the whole text, so that every line is complete.
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

/// Repeats an operation that would block. The parent process may have made the standard streams non-blocking.
pub fn wait_out<T>(mut what: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    use io::ErrorKind::{Interrupted, WouldBlock};
    loop {
        match what() {
            Err(error) if matches!(error.kind(), WouldBlock | Interrupted) => thread::sleep(Duration::from_millis(10)),
            result => return result,
        }
    }
}

/// Prints the whole output of a command.
pub fn print_all(text: &str) -> Exit {
    match print(text) {
        Ok(()) => Exit::Done,
        Err(error) => unprintable(&error),
    }
}

/// Returns a number with its noun: `1 row`, `2 rows`.
pub fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Reports that a result could not be printed. Returns the exit status of a command whose only task was to print it.
pub fn unprintable(error: &io::Error) -> Exit {
    say(&format!("standard output cannot be written: {}", system_message(error)));
    Exit::NotDone
}

/// Prints the help or version that was asked for, or a mistake in the arguments.
pub fn help_or_mistake(error: &clap::Error) -> Exit {
    if error.use_stderr() {
        let text = error.to_string();
        let lines = text.lines().map(|line| format!("{}\n", escaped(line)));
        let _ = write(io::stderr(), &lines.collect::<String>());
        return Exit::Usage;
    }
    print_all(&error.to_string())
}

/// Adds the reason of a failure to its JSON object, and what the response contained.
pub fn add_reason(object: &mut Value, error: &Error, reason: &str) {
    object["reason"] = reason.into();
    let mut add = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            object[key] = value;
        }
    };
    add("status_code", error.status().map(Into::into));
    add("code", error.code().map(Into::into));
    add("request_id", error.request_id().map(Into::into));
    add("retry_after", error.retry_after().map(|wait| wait.as_secs_f64().into()));
}

/// Makes a panic report that the outcome is unknown, because an update may have been sent. The report contains only the place
/// of the panic, because its message might contain a secret.
pub fn end_panics_with_a_verdict() {
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or(String::new(), |place| format!(" at {place}"));
        say(&format!(
            "stopped by a bug{place}; whether an update was applied is unknown; check the session's status before retrying"
        ));
        process::exit(Exit::Unknown as i32)
    }));
}

/// Prints the library's log lines if the user wants them. The warning that the token file cannot be written is always
/// printed, since otherwise every run would fetch a token unnoticed. Lines of other crates stay off: at trace level, ureq
/// logs the requests with their secrets.
pub fn log_to_stderr(verbose: bool, quiet: bool) {
    // An error means that a logger is already set. Only `main` sets one, once.
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
    fn a_panic_in_any_thread_prints_one_line_and_exits_5() {
        if env::var_os("TEST_CHILD").is_some() {
            end_panics_with_a_verdict();
            let _ = thread::spawn(|| panic!("hunter2")).join();
            return;
        }
        let name = "a_panic_in_any_thread_prints_one_line_and_exits_5";
        let mut child = process::Command::new(env::current_exe().unwrap());
        let output = child
            .args([name, "--nocapture"])
            .env("TEST_CHILD", "1")
            .output()
            .unwrap();
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(5), "{line}");
        assert!(line.starts_with("didit: stopped by a bug at "), "{line}");
        assert!(line.contains("whether an update was applied is unknown"), "{line}");
        assert!(line.lines().count() == 1 && !line.contains("hunter2"), "{line}");
    }
}
