//! One test in a process of its own: for what only the environment, or another process, can show.

use std::env;
use std::process::{Command, Output};

/// The arguments by which this program runs the test of that name alone.
pub fn only(test: &str) -> [String; 2] {
    [format!("::{test}"), "--nocapture".into()]
}

/// Runs a test with these variables, and with none of ours and no proxy from outside. `TEST_CHILD` tells it where it is.
pub fn in_child(test: &str, variables: &[(&str, &str)]) {
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(only(test));
    for (name, _) in env::vars_os() {
        let upper = name.to_string_lossy().to_ascii_uppercase();
        if upper.starts_with("DIDIT_") || upper.ends_with("_PROXY") {
            child.env_remove(name);
        }
    }
    child.env("TEST_CHILD", "1").envs(variables.iter().copied());
    assert_passed(&child.output().unwrap(), &format!("{variables:?}"));
}

/// The process ran one test, and it passed.
pub fn assert_passed(output: &Output, told: &str) {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{stdout}\n{stderr}");
    assert!(stdout.contains("1 passed"), "{stdout}");
}
