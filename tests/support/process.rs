//! Runs one test in a process of its own, for what depends on the environment or on other processes.

use std::env;
use std::process::{Command, Output};

/// The arguments that make this test program run only the test of this name.
pub fn filter_arguments(test: &str) -> [String; 2] {
    [format!("::{test}"), "--nocapture".into()]
}

/// Runs a test in a child process with these variables. The caller's `DIDIT_*` and proxy variables are removed, and
/// `REQUEST_METHOD`, which makes a CGI program ignore `HTTP_PROXY`.
pub fn run_in_child(test: &str, variables: &[(&str, &str)]) {
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(filter_arguments(test));
    for (name, _) in env::vars_os() {
        let upper = name.to_string_lossy().to_ascii_uppercase();
        if upper.starts_with("DIDIT_") || upper.ends_with("_PROXY") || upper == "REQUEST_METHOD" {
            child.env_remove(name);
        }
    }
    child.env("TEST_CHILD", "1").envs(variables.iter().copied());
    assert_passed(&child.output().unwrap(), &format!("{variables:?}"));
}

/// Returns whether this process was started by `run_in_child`.
pub fn is_child() -> bool {
    env::var_os("TEST_CHILD").is_some()
}

/// Fails unless the process ran exactly one test, which passed.
pub fn assert_passed(output: &Output, context: &str) {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{context}\n{stdout}\n{stderr}");
    assert!(stdout.contains("1 passed"), "{stdout}");
}
