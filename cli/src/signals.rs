//! Signals: how they end the command, and what an interrupted update reports.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use std::{fs, io, process, thread};

use signal_hook::flag::{register, register_conditional_shutdown, register_usize};
use signal_hook::{consts, low_level};

/// How long a signal may go unnoticed.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// The signals that ask a process to end.
const ENDING: &[i32] = &[
    consts::SIGINT,
    consts::SIGTERM,
    #[cfg(unix)]
    consts::SIGHUP,
];

/// Whether the next signal ends the process. True until `watch` is called, and again after the first signal.
static NEXT_ENDS: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(true)));

/// Makes signals end process 1, such as the first of a container. The kernel protects it from every signal without a handler.
pub fn end_process_1() {
    if process::id() == 1 {
        for signal in not_ignored(ENDING) {
            // An error means that the signal stays without effect.
            let _ = register_conditional_shutdown(signal, 128 + signal, NEXT_ENDS.clone());
        }
    }
}

/// Makes a write beyond a limit on file sizes (`ulimit -f`) fail. By default, its signal ends the process without a message.
#[cfg(unix)]
pub fn report_file_size_limit() {
    for signal in not_ignored(&[consts::SIGXFSZ]) {
        // An error means that the default stays.
        let _ = register(signal, Arc::default());
    }
}

/// Returns a flag that the first SIGINT, SIGTERM or SIGHUP sets. The second signal ends the process.
pub fn watch() -> io::Result<Arc<AtomicBool>> {
    for signal in not_ignored(ENDING) {
        // The order matters: at the first signal, the flag is not set yet when the shutdown checks it.
        register_conditional_shutdown(signal, 128 + signal, NEXT_ENDS.clone())?;
        register(signal, NEXT_ENDS.clone())?;
    }
    NEXT_ENDS.store(false, Relaxed);
    Ok(NEXT_ENDS.clone())
}

/// Calls `report` at the first signal, and then ends the process as that signal does.
pub fn report_interruption(report: impl FnOnce() + Send + 'static) {
    let first = Arc::new(AtomicUsize::new(0));
    for signal in not_ignored(ENDING) {
        // If this fails, `watch` does too.
        let _ = register_usize(signal, first.clone(), signal as usize);
    }
    let Ok(next_ends) = watch() else { return };
    let watcher = thread::Builder::new().spawn(move || {
        let signal = loop {
            match first.load(Relaxed) {
                0 => thread::sleep(INTERVAL),
                signal => break signal,
            }
        };
        report();
        end_by(signal as i32)
    });
    // If the system has no more threads, the first signal ends the process.
    next_ends.fetch_or(watcher.is_err(), Relaxed);
}

/// Ends the process by a signal, so that a loop in a shell ends too. Process 1 cannot end by a signal.
fn end_by(signal: i32) {
    if process::id() != 1 {
        let _ = low_level::emulate_default_handler(signal);
    }
    process::exit(128 + signal)
}

/// Returns the signals that are not ignored. A parent such as `nohup` may have set some to be ignored; those stay so.
pub fn not_ignored(signals: &[i32]) -> impl Iterator<Item = i32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let ignored = mask.unwrap_or_default();
    signals
        .iter()
        .copied()
        .filter(move |signal| ignored >> (signal - 1) & 1 == 0)
}
