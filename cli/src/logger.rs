//! The log lines that the command prints.

use log::{LevelFilter, Log, Metadata, Record};

use crate::terminal::say;

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
