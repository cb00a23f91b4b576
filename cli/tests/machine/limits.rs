//! Without threads or file descriptors, a call returns an error with a verdict and never panics. `limits.sh` runs these tests.

use std::env;
use std::fs;
use std::iter;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use didit::{Client, Credentials, StatusUpdate, Verdict};

use crate::support::{API_KEY, SESSION, Server, confirmed, session_id};

/// A user for the tests, because limits on processes do not apply to root.
const TEST_USER: &str = "54321";

/// Runs a program with these limits, as a user without other processes, and without DIDIT_* and proxy variables.
fn limited(limits: &[&str], program: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("program");
    fs::copy(program, &copy).unwrap();
    for path in [directory.path(), &copy] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let output = Command::new("setpriv")
        .args(["--reuid", TEST_USER, "--regid", TEST_USER, "--clear-groups", "prlimit"])
        .args(limits)
        .arg(&copy)
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    println!("{limits:?} {arguments:?}: {}", output.status);
    print!("{}", String::from_utf8_lossy(&output.stdout));
    print!("{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Runs in the child process: sends one update and prints its outcome.
#[test]
fn child() {
    let Ok(url) = env::var("TEST_BASE_URL") else {
        return;
    };
    let client = Client::builder(Credentials::api_key(API_KEY))
        .base_url(url)
        .proxy("")
        .timeout(Duration::from_secs(20))
        .build()
        .unwrap();
    let mut taken = Vec::new();
    if let Ok(free) = env::var("TEST_FREE_FILES") {
        taken.extend(iter::from_fn(|| fs::File::open("/dev/null").ok()));
        taken.truncate(taken.len() - free.parse::<usize>().unwrap());
    }
    match client.update_status(&session_id(), &StatusUpdate::approved()) {
        Ok(_) => println!("END applied"),
        Err(error) => {
            assert_eq!(error.verdict(), Verdict::NotApplied, "{error}");
            println!("END {:?} {error}", error.kind());
        }
    }
}

fn library(limits: &[&str], variables: &[(&str, &str)]) -> String {
    let arguments = ["limits::child", "--exact", "--nocapture", "--test-threads=1"];
    let output = limited(limits, &env::current_exe().unwrap(), &arguments, variables);
    assert!(output.status.success(), "{limits:?}: {}", output.status);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let (_, end) = stdout.split_once("END ").expect("a line with END");
    end.lines().next().unwrap().to_owned()
}

fn command(limits: &[&str], arguments: &[&str], url: &str) -> (Option<i32>, String) {
    let variables = [("DIDIT_API_KEY", API_KEY), ("DIDIT_BASE_URL", url)];
    let program = Path::new(env!("CARGO_BIN_EXE_didit"));
    let output = limited(limits, program, arguments, &variables);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn by_name(server: &Server) -> String {
    server.url().replace("127.0.0.1", "localhost")
}

#[test]
fn without_a_thread_a_name_cannot_be_resolved_and_the_update_is_not_applied() {
    let server = Server::always(confirmed());
    let end = library(&["--nproc=1"], &[("TEST_BASE_URL", &by_name(&server))]);
    assert!(end.starts_with("Network "), "{end}");
    assert!(
        end.contains("the name localhost could not be resolved: the system could not start a thread"),
        "{end}"
    );
    assert_eq!(server.connections(), 0);
    assert_eq!(
        library(&["--nproc=3"], &[("TEST_BASE_URL", &by_name(&server))]),
        "applied"
    );
}

#[test]
fn without_a_thread_an_ip_address_is_reached() {
    let server = Server::always(confirmed());
    assert_eq!(library(&["--nproc=1"], &[("TEST_BASE_URL", &server.url())]), "applied");
}

#[test]
fn without_a_file_descriptor_nothing_is_applied() {
    let server = Server::always(confirmed());
    for url in [server.url(), by_name(&server)] {
        let end = |files| library(&["--nofile=16"], &[("TEST_BASE_URL", &url), ("TEST_FREE_FILES", files)]);
        let none = end("0");
        // Without a descriptor, resolving a name fails too. The error must name the missing descriptor, not the name.
        assert!(
            none.starts_with("Network ") && none.contains("too many open files"),
            "{none}"
        );
        assert_eq!(end("1"), "applied");
    }
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn the_command_exits_with_a_status_and_never_by_a_signal() {
    let (server, update) = (Server::always(confirmed()), ["update", SESSION, "approved"]);
    let (status, err) = command(&["--nproc=1"], &update, &by_name(&server));
    assert!(err.contains("could not start a thread"), "{err}");
    assert!(status.is_some_and(|status| status != 0), "{status:?}");
    assert_eq!(server.requests().len(), 0);
    let mut applied = 0;
    for files in 3..8 {
        let (status, err) = command(&[&format!("--nofile={files}")], &update, &by_name(&server));
        assert!(status.is_some() && !err.contains("panicked"), "{status:?}: {err}");
        applied += usize::from(status == Some(0));
    }
    assert!(applied > 0);
    assert_eq!(server.requests().len(), applied);
}

#[test]
fn without_a_thread_the_sandbox_does_not_start() {
    let (status, err) = command(&["--nproc=1"], &["sandbox", "--", "true"], "");
    let expected = "didit: the system could not start a thread, so the sandbox did not start; retry later, or allow more processes (ulimit -u)\n";
    assert_eq!((status, err.as_str()), (Some(6), expected));
}
