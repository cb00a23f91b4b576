//! A stop that somebody asks for.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts;
use signal_hook::flag::{register, register_conditional_shutdown};

/// Set by the first SIGINT, SIGTERM or SIGHUP. The second ends the process.
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
        // In this order: the first one has not set it yet.
        register_conditional_shutdown(signal, 128 + signal, asked.clone())?;
        register(signal, asked.clone())?;
    }
    Ok(asked)
}

/// Whether whoever started this process wants it to go on at this signal, as `nohup` does.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
