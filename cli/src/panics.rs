//! A panic, which means that an update may have been sent.

use std::{panic, process};

use crate::exit::Exit;
use crate::terminal::say;

/// Makes a panic report that the outcome is unknown, because an update may have been sent. The report contains only the place
/// of the panic, because its message might contain a secret.
pub fn end_with_a_verdict() {
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or(String::new(), |place| format!(" at {place}"));
        say(&format!(
            "stopped by a bug{place}; an update may have been applied; check the session's status before you retry"
        ));
        process::exit(Exit::Unknown as i32)
    }));
}

#[cfg(test)]
mod tests {
    use std::{env, thread};

    use super::*;

    #[test]
    fn a_panic_in_any_thread_prints_one_line_and_exits_5() {
        if env::var_os("TEST_CHILD").is_some() {
            end_with_a_verdict();
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
        assert!(line.contains("; an update may have been applied; "), "{line}");
        assert!(line.lines().count() == 1 && !line.contains("hunter2"), "{line}");
    }
}
