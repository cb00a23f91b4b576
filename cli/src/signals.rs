//! Signals that stop a batch.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts;
use signal_hook::flag::{register, register_conditional_shutdown};

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

/// Returns whether the parent process had this signal ignored, as `nohup` does. The batch then ignores it too.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
