//! Captures the log: `didit` at trace level, everything else at debug level.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record};

struct Capture;

static LINES: Mutex<String> = Mutex::new(String::new());

fn lines() -> MutexGuard<'static, String> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log for Capture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "didit" || metadata.level() <= Level::Debug
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = format!("{} {}: {}\n", record.level(), record.target(), record.args());
            lines().push_str(&line);
        }
    }

    fn flush(&self) {}
}

pub fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Capture).unwrap();
        log::set_max_level(LevelFilter::Trace);
    });
}

/// Everything logged so far, by all tests of this program.
pub fn logged() -> String {
    lines().clone()
}

/// Fails if the text contains any 8 consecutive characters of the secret.
pub fn assert_hidden(text: &str, secret: &str) {
    assert!(secret.is_ascii() && secret.len() >= 8);
    for start in 0..=secret.len() - 8 {
        let piece = &secret[start..start + 8];
        if let Some(place) = text.find(piece) {
            let line = text[..place].rfind('\n').map_or(0, |end| end + 1);
            let line = text[line..].lines().next().unwrap();
            panic!("found {piece:?} of {secret:?} in: {line}");
        }
    }
}
