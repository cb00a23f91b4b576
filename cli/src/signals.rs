//! Signals: how a batch stops, and what an interrupted update reports.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::flag::{register, register_conditional_shutdown};
use signal_hook::{consts, low_level};

/// How long a signal may go unnoticed.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// Returns a flag that the first SIGINT, SIGTERM or SIGHUP sets. The second signal ends the process.
pub fn watch() -> io::Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    let signals = [
        consts::SIGINT,
        consts::SIGTERM,
        #[cfg(unix)]
        consts::SIGHUP,
    ];
    for signal in signals {
        if is_ignored(signal) {
            continue;
        }
        // The order matters: at the first signal, the flag is not set yet when the shutdown checks it.
        register_conditional_shutdown(signal, 128 + signal, asked.clone())?;
        register(signal, asked.clone())?;
    }
    Ok(asked)
}

/// Calls `report` at the first signal, and then ends the process as Ctrl-C does, so that a loop in a shell ends too.
pub fn report_interruption(report: impl FnOnce() + Send + 'static) {
    let Ok(asked) = watch() else { return };
    let watched = asked.clone();
    let watcher = thread::Builder::new().spawn(move || {
        while !watched.load(Ordering::Relaxed) {
            thread::sleep(INTERVAL);
        }
        report();
        low_level::emulate_default_handler(consts::SIGINT)
    });
    // If the system has no more threads, the first signal ends the process.
    asked.fetch_or(watcher.is_err(), Ordering::Relaxed);
}

/// Returns whether the parent process had this signal ignored, as `nohup` does. Then it stays ignored.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
