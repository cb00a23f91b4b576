//! How results are printed: as text or JSON, to whom, and never with a secret.

#[cfg(target_os = "linux")]
use std::ffi::OsStr;
#[cfg(target_os = "linux")]
use std::fs::{File, OpenOptions};
#[cfg(unix)]
use std::io::Read;
use std::io::Write;
#[cfg(unix)]
use std::os::{fd::OwnedFd, unix::net::UnixStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::batch::{Sessions, against, csv};
use crate::sandbox::{Run, Sandbox, didit};
use crate::support::directory::Directory;
use crate::support::{Server, Step, answer};
use serde_json::{Value, json};

#[test]
fn a_failure_as_json_always_has_the_same_keys() {
    let reason = ["code", "reason", "request_id", "result", "retry_after", "status_code"];
    let of = |run: Run, own: &[&str]| {
        let objects = run.objects();
        assert_eq!(objects.len(), 1, "{run}");
        let keys: Vec<_> = objects[0].as_object().unwrap().keys().cloned().collect();
        let mut expected = [own, &reason].concat();
        expected.sort_unstable();
        assert_eq!(keys, expected, "{run}");
        assert_eq!(objects[0]["reason"], run.line(), "{run}");
    };
    let sandbox = Sandbox::start(&["--rate-limit", "0/600"]);
    let unconfigured = |args: &[&str]| Run::of(&mut didit(args));
    for (args, own) in [
        (vec!["status", "abc", "--json"], &["session_id", "status"][..]),
        (
            vec!["update", "abc", "approved", "--json"],
            &["new_status", "session_id"],
        ),
    ] {
        of(unconfigured(&args), own);
        of(sandbox.run(&args), own);
        of(Run::of(sandbox.didit(&args).env("DIDIT_CLIENT_SECRET", "wrong")), own);
    }
    of(unconfigured(&["auth", "--json"]), &[]);
    of(
        Run::of(sandbox.didit(&["auth", "--json"]).env("DIDIT_CLIENT_SECRET", "wrong")),
        &[],
    );
}

#[test]
fn quiet_prints_only_what_was_asked_for_and_errors() {
    let sandbox = Sandbox::start(&[]);
    for args in [vec!["update", "abc", "approved", "-q"], vec!["auth", "--quiet"]] {
        let run = sandbox.run(&args).exits(0);
        assert_eq!((run.out.as_str(), run.err.as_str()), ("", ""), "{args:?}");
    }
    assert_eq!(sandbox.run(&["-q", "status", "abc"]).exits(0).out, "Approved\n");
    assert!(!sandbox.run(&["status", "unknown-1", "-q"]).exits(4).line().is_empty());
}

#[test]
fn verbose_reports_each_request() {
    let sandbox = Sandbox::start(&[]);
    let run = sandbox.run(&["update", "abc", "approved", "-v"]).exits(0);
    assert!(run.err.contains("didit: POST /auth/v2/token/: 200"), "{run}");
    assert!(
        run.err.contains("didit: PATCH /v1/session/abc/update-status/: 200"),
        "{run}"
    );
    assert_eq!(run.out, "abc is Approved now\n");
}

#[test]
fn no_secret_is_printed_whatever_happens() {
    let echo = Server::start(|request| {
        // What the server was sent, sent back as its error.
        let sent: Vec<_> = request.headers.iter().map(|(_, value)| value.as_str()).collect();
        let body = json!({"detail": sent.join(" "), "code": sent.join(" ")});
        answer(403, &[], body.to_string())
    });
    let closing = Server::always(vec![Step::Close]);
    let sandbox = Sandbox::start(&[]);
    let basic = "bWU6aHVudGVyMg";
    for url in [echo.url(), closing.url(), sandbox.url.clone()] {
        for args in [
            vec!["-v", "--json", "update", "abc", "approved"],
            vec!["-v", "--json", "update", "abc", "approved", "--ensure"],
            vec!["-v", "--json", "status", "abc"],
            vec!["-v", "--json", "auth"],
        ] {
            let mut client = didit(&args);
            client
                .env("DIDIT_CLIENT_ID", "me")
                .env("DIDIT_CLIENT_SECRET", "hunter2")
                .env("DIDIT_AUTH_URL", &url);
            let mut key = didit(&args);
            key.env("DIDIT_API_KEY", "hunter2");
            for mut command in [client, key] {
                let run = Run::of(command.env("DIDIT_BASE_URL", &url).env("DIDIT_MAX_RETRIES", "0"));
                assert!(run.err.contains("didit: "), "{run}");
                for secret in ["hunter2", basic, "sandbox-token"] {
                    assert!(!run.to_string().contains(secret), "{secret}: {run}");
                }
            }
        }
    }
}

#[test]
fn what_the_server_says_cannot_steer_the_terminal() {
    let server = Server::start(|request| match request.method.as_str() {
        "GET" => answer(200, &[], r#"{"session_id":"abc","status":"In\u001b[2J Review"}"#),
        _ => answer(400, &[], r#"{"detail":"It is In\u001b[2J Review."}"#),
    });
    let run = |args: &[&str]| {
        let mut command = didit(args);
        Run::of(command.env("DIDIT_API_KEY", "k").env("DIDIT_BASE_URL", server.url()))
    };
    assert_eq!(run(&["status", "abc"]).exits(0).out, "In\\u{1b}[2J Review\n");
    let refused = run(&["update", "abc", "approved"]).exits(4);
    assert!(refused.line().contains("In\\u{1b}[2J Review"), "{refused}");
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let mut command = didit(&["batch", "-", "--dry-run"]);
    command.env("DIDIT_API_KEY", "k").stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    // It prints once it has read all of its input.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"session_id,new_status\nabc,Approved\n").unwrap();
    drop(stdin);
    let run = Run::end(child).exits(0);
    assert_eq!(run.err, "");
}

#[cfg(target_os = "linux")]
fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_printed_is_not_done() {
    let sandbox = Sandbox::start(&[]);
    for args in [
        vec!["status", "abc"],
        vec!["status", "abc", "--json"],
        vec!["auth"],
        vec!["completions", "bash"],
        vec!["man"],
        vec!["--help"],
        vec!["--version"],
    ] {
        let run = Run::of(sandbox.didit(&args).stdout(full())).exits(6);
        assert!(
            run.line().contains("standard output cannot be written"),
            "{args:?}: {run}"
        );
    }
}

/// A script that took another status for a failure would decide again.
#[cfg(target_os = "linux")]
#[test]
fn an_applied_update_is_exit_0_whoever_can_be_told() {
    let sandbox = Sandbox::start(&[]);
    for args in [
        vec!["update", "abc", "approved"],
        vec!["update", "abc", "approved", "--json"],
    ] {
        let run = Run::of(sandbox.didit(&args).stdout(full())).exits(0);
        assert!(run.line().starts_with("abc is Approved now"), "{run}");
        assert!(run.line().contains("standard output cannot be written"), "{run}");
    }
}

/// With `-v`, the lines that the workers write and the results that nobody reads have one terminal's bar between them.
#[cfg(target_os = "linux")]
#[test]
fn standard_output_that_is_not_read_holds_up_no_request_beside_a_progress_bar() {
    const ROWS: usize = 1_500;
    let sessions = Sessions::default();
    let server = Server::start(move |request| sessions.serve(request));
    let dir = Directory::new();
    let (file, pipe) = (dir.file("rows.csv", csv(ROWS)), dir.path("pipe"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Open for reading, and never read.
    let _unread = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let command = against(&server, &[&file, "--json", "-v", "--journal", &dir.path("journal")]);
    // Its standard error is a terminal.
    let args: Vec<_> = [command.get_program()].into_iter().chain(command.get_args()).collect();
    let line = format!("{} >{pipe}", args.join(OsStr::new(" ")).into_string().unwrap());
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm");
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = script.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while server.requests().len() < ROWS && start.elapsed() < Duration::from_secs(30) {
        thread::sleep(Duration::from_millis(20));
    }
    let sent = server.requests().len();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(sent, ROWS);
}

/// Node.js and others make their pipes non-blocking, for the command at the other end as well.
#[cfg(unix)]
#[test]
fn a_non_blocking_standard_output_that_is_full_loses_and_cuts_no_line() {
    const ROWS: usize = 3_000;
    let sessions = Sessions::default();
    let server = Server::start(move |request| sessions.serve(request));
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(ROWS));
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut command = against(&server, &[&file, "--json", "--quiet"]);
    let mut child = command.stdout(OwnedFd::from(theirs)).spawn().unwrap();
    drop(command);
    let start = Instant::now();
    while server.requests().len() < ROWS && start.elapsed() < Duration::from_secs(30) {
        thread::sleep(Duration::from_millis(20));
    }
    // Only now somebody reads.
    let mut text = String::new();
    ours.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), ROWS + 1);
}

#[cfg(unix)]
#[test]
fn a_non_blocking_standard_input_is_read_to_its_end() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut command = didit(&["batch", "-", "--dry-run"]);
    let child = command.stdin(OwnedFd::from(theirs)).spawn().unwrap();
    drop(command);
    ours.write_all(b"session_id,new_status\nabc,App").unwrap();
    thread::sleep(Duration::from_millis(100));
    ours.write_all(b"roved\n").unwrap();
    drop(ours);
    let run = Run::end(child).exits(0);
    assert!(run.out.starts_with("1 row: 1 to be approved"), "{run}");
}
