//! What the command prints.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use didit::Error;
use didit::text::{escaped, system_message};
use serde_json::Value;

use crate::args::Output;
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
        left = match retry_if_blocked(|| out.write(left))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => &left[written..],
        };
    }
    retry_if_blocked(|| out.flush())
}

/// Repeats an operation that would block. The parent process may have made the standard streams non-blocking.
pub fn retry_if_blocked<T>(mut what: impl FnMut() -> io::Result<T>) -> io::Result<T> {
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
        Err(error) => report_unprintable(&error),
    }
}

/// Returns a number with its noun: `1 row`, `2 rows`.
pub fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Reports that a result could not be printed. Returns the exit status of a command whose only task was to print it.
pub fn report_unprintable(error: &io::Error) -> Exit {
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

/// Returns a result as the user wants it: as JSON, or as text.
pub fn result_line(object: &Value, text: &str, output: Output) -> String {
    match output.json {
        true => format!("{object}\n"),
        false => format!("{text}\n"),
    }
}

/// Prints a failure: the line on standard error, and with `--json` also the object.
pub fn report_failure(error: &Error, line: &str, mut object: Value, output: Output) -> Exit {
    say(line);
    if output.json {
        add_reason(&mut object, error, line);
        print_all(&format!("{object}\n"));
    }
    Exit::of(error)
}

/// Adds the reason of a failure to its JSON object, and what the response contained.
fn add_reason(object: &mut Value, error: &Error, reason: &str) {
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
