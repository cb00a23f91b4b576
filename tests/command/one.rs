//! The command about one session: what it prints, what it sends, and how it exits.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::Stdio;

use crate::sandbox::{Run, Sandbox, didit};
use crate::support::directory::Directory;
use serde_json::json;

#[test]
fn help_and_version_need_no_configuration() {
    for (args, expected) in [
        (vec!["--help"], "usage: didit update"),
        (vec!["-h"], "DIDIT_CLIENT_SECRET"),
        (vec!["update", "--help"], "--node NODE_ID:FEATURE"),
        (vec!["status", "--help"], "usage: didit status SESSION_ID"),
        (vec!["batch", "--help"], "--dry-run"),
        (vec!["auth", "--help"], "usage: didit auth"),
        (vec!["--version"], concat!("didit ", env!("CARGO_PKG_VERSION"), "\n")),
    ] {
        let run = Run::of(&mut didit(&args)).exits(0);
        assert!(run.out.contains(expected), "{args:?}: {run}");
        assert_eq!(run.err, "", "{args:?}");
        assert!(run.out.lines().all(|line| line.len() <= 120), "{args:?}: {run}");
    }
}

#[test]
fn the_help_names_every_exit_status() {
    let run = Run::of(&mut didit(&["--help"])).exits(0);
    for code in 0..=6 {
        assert!(run.out.contains(&format!("\n  {code}  ")), "{code}: {run}");
    }
}

#[test]
fn a_mistake_in_the_command_line_is_one_clear_line_and_exit_2_and_sends_nothing() {
    let sandbox = Sandbox::start(&[]);
    for (args, expected) in [
        (vec![], "a command is missing"),
        (vec!["upgrade"], "update, status, batch or auth"),
        (vec!["update"], "SESSION_ID is missing"),
        (vec!["update", "abc"], "STATUS is missing"),
        (
            vec!["update", "abc", "in-review"],
            "STATUS: it has to be approved, declined or resubmitted",
        ),
        (vec!["update", "abc", "approved", "x"], "too many arguments"),
        (
            vec!["update", "a/../b", "approved"],
            "SESSION_ID: not a session id: it contains '/'",
        ),
        (
            vec!["update", "", "approved"],
            "SESSION_ID: not a session id: it is empty",
        ),
        (
            vec!["update", "abc", "approved", "--secret", "x"],
            "--secret: no such option",
        ),
        (
            vec!["update", "abc", "approved", "--comment"],
            "--comment: a value is missing",
        ),
        (vec!["update", "abc", "resubmitted"], "--node NODE_ID:FEATURE"),
        (
            vec!["update", "abc", "resubmitted", "--node", "x"],
            "--node: a step has to be NODE_ID:FEATURE",
        ),
        (
            vec!["update", "abc", "resubmitted", "--node", "a:b"],
            "v1 knows no Resubmitted: use API version v3",
        ),
        (
            vec!["update", "abc", "approved", "--email", "a@b.example"],
            "use API version v3",
        ),
        (vec!["status", "abc", "def"], "too many arguments"),
        (vec!["auth", "now"], "too many arguments"),
        (vec!["batch"], "FILE is missing"),
        (vec!["batch", "-"], "--journal: it is needed"),
        (
            vec!["batch", "x.csv", "--rate", "fast"],
            "--rate: it has to be a whole number from 1 to 10000000",
        ),
        (
            vec!["batch", "x.csv", "--jobs", "0"],
            "--jobs: it has to be a whole number from 1 to 64",
        ),
    ] {
        let run = sandbox.run(&args).exits(2);
        assert!(run.line().contains(expected), "{args:?}: {run}");
        assert_eq!(run.out, "", "{args:?}");
    }
    assert_eq!(sandbox.log(), Vec::<serde_json::Value>::new());
}

#[test]
fn missing_or_wrong_configuration_is_exit_2_and_names_the_variable_but_no_value() {
    let of = |vars: &[(&str, &str)], expected: &str| {
        let run = Run::of(didit(&["status", "abc"]).envs(vars.iter().copied())).exits(2);
        assert!(run.line().contains(expected), "{vars:?}: {run}");
        assert!(!run.err.contains("hunter2"), "{run}");
    };
    of(&[], "set DIDIT_CLIENT_ID and DIDIT_CLIENT_SECRET, or DIDIT_API_KEY");
    of(&[("DIDIT_CLIENT_ID", "me")], "DIDIT_CLIENT_SECRET is not");
    of(&[("DIDIT_API_KEY", "k"), ("DIDIT_TIMEOUT", "hunter2")], "DIDIT_TIMEOUT");
    of(
        &[("DIDIT_API_KEY", "k"), ("DIDIT_BASE_URL", "http://hunter2.example")],
        "DIDIT_BASE_URL",
    );
}

#[test]
fn an_update_is_sent_and_told() {
    let sandbox = Sandbox::start(&[]);
    let run = sandbox
        .run(&["update", "abc", "DECLINED", "--comment", "Duplicated user"])
        .exits(0);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("abc is Declined now\n", ""));
    let updates = sandbox.updates();
    assert_eq!(updates.len(), 1);
    assert_eq!(updates[0]["path"], "/v1/session/abc/update-status/");
    assert_eq!(
        updates[0]["body"],
        json!({"new_status": "Declined", "comment": "Duplicated user"})
    );

    let run = sandbox.run(&["--json", "update", "abc", "approved"]).exits(0);
    let told = json!({"session_id": "abc", "new_status": "Approved", "result": "applied"});
    assert_eq!(run.objects(), [told]);
    assert_eq!(sandbox.status("abc"), "Approved");
}

#[test]
fn steps_and_an_email_are_sent_with_a_resubmission() {
    let sandbox = Sandbox::start(&[]);
    let args = [
        "update",
        "abc",
        "resubmitted",
        "--node",
        "feature_ocr_1:OCR",
        "--node=feature_face_1:FACE_MATCH",
    ];
    let email = ["--email", "p@example.com", "--email-language", "pt-BR"];
    Run::of(&mut sandbox.with_key(&[&args[..], &email].concat())).exits(0);
    let updates = sandbox.updates();
    assert_eq!(updates[0]["path"], "/v3/session/abc/update-status/");
    let expected = json!({
        "new_status": "Resubmitted",
        "nodes_to_resubmit": [
            {"node_id": "feature_ocr_1", "feature": "OCR"},
            {"node_id": "feature_face_1", "feature": "FACE_MATCH"},
        ],
        "send_email": true,
        "email_address": "p@example.com",
        "email_language": "pt-BR",
    });
    assert_eq!(updates[0]["body"], expected);
}

#[test]
fn ensure_sends_nothing_where_nothing_is_to_be_done() {
    let sandbox = Sandbox::start(&[]);
    let first = sandbox.run(&["update", "abc", "approved", "--ensure"]).exits(0);
    assert_eq!(first.out, "abc is Approved now\n");
    let second = sandbox.run(&["update", "abc", "approved", "--ensure"]).exits(0);
    assert_eq!(second.out, "abc was Approved already\n");
    let third = sandbox
        .run(&["update", "abc", "approved", "--ensure", "--json"])
        .exits(0);
    assert_eq!(third.objects()[0]["result"], "already");
    assert_eq!(sandbox.updates().len(), 1);
}

#[test]
fn the_status_is_read_back() {
    let sandbox = Sandbox::start(&[]);
    assert_eq!(sandbox.run(&["status", "abc"]).exits(0).out, "In Review\n");
    let run = sandbox.run(&["status", "abc", "--json"]).exits(0);
    assert_eq!(run.objects(), [json!({"session_id": "abc", "status": "In Review"})]);
    assert!(sandbox.updates().is_empty());
}

#[test]
fn refused_credentials_are_exit_3() {
    let sandbox = Sandbox::start(&[]);
    for args in [vec!["auth"], vec!["status", "abc"], vec!["update", "abc", "approved"]] {
        let run = Run::of(sandbox.didit(&args).env("DIDIT_CLIENT_SECRET", "wrong")).exits(3);
        assert!(run.line().contains("Didit answered 401"), "{run}");
        let run = Run::of(sandbox.with_key(&args).env("DIDIT_API_KEY", "wrong")).exits(3);
        assert!(run.line().contains("Didit answered 401"), "{run}");
    }
    assert!(!sandbox.sessions().contains_key("abc"));
}

#[test]
fn credentials_that_are_taken_are_told_so() {
    let sandbox = Sandbox::start(&[]);
    assert_eq!(sandbox.run(&["auth"]).exits(0).out, "Didit takes the credentials\n");
    let run = Run::of(&mut sandbox.with_key(&["auth", "--json"])).exits(0);
    assert_eq!(run.objects(), [json!({"result": "accepted"})]);
    assert!(sandbox.updates().is_empty());
}

#[test]
fn a_refusal_is_exit_4_and_says_that_nothing_was_changed() {
    let sandbox = Sandbox::start(&[]);
    let run = sandbox.run(&["update", "unknown-1", "approved"]).exits(4);
    assert!(run.line().contains("unknown-1"), "{run}");
    assert!(run.line().contains("Session not found."), "{run}");
    assert!(run.line().contains("nothing was changed"), "{run}");

    let run = sandbox.run(&["update", "unfinished-1", "approved", "--json"]).exits(4);
    assert!(run.line().contains("nothing was changed"), "{run}");
    let told = &run.objects()[0];
    assert_eq!(
        (&told["result"], &told["status_code"]),
        (&json!("refused"), &json!(400))
    );

    let run = sandbox.run(&["status", "unknown-1"]).exits(4);
    assert_eq!(run.out, "");
}

#[test]
fn an_update_in_doubt_is_exit_5_and_says_what_to_do() {
    // Whatever goes wrong here goes wrong after the update was sent.
    let sandbox = Sandbox::start(&["--fail-rate", "1", "--slow", "2"]);
    let mut command = sandbox.with_key(&["update", "abc", "approved", "--json"]);
    command.env("DIDIT_MAX_RETRIES", "0").env("DIDIT_TIMEOUT", "0.1");
    let run = Run::of(&mut command).exits(5);
    assert!(run.line().contains("whether it was applied is unknown"), "{run}");
    assert!(run.line().contains("read the session back"), "{run}");
    assert_eq!(run.objects()[0]["result"], "unknown");
}

#[test]
fn an_update_that_could_not_be_sent_is_exit_6() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let mut command = didit(&["update", "abc", "approved", "--json"]);
    command
        .env("DIDIT_API_KEY", "k")
        .env("DIDIT_BASE_URL", url)
        .env("DIDIT_MAX_RETRIES", "0");
    let run = Run::of(&mut command).exits(6);
    assert!(run.line().contains("nothing was changed; try again"), "{run}");
    assert_eq!(run.objects()[0]["result"], "not_sent");
}

#[test]
fn a_rate_limit_that_asks_for_too_long_a_wait_is_exit_6() {
    let sandbox = Sandbox::start(&["--rate-limit", "1", "--rate-window", "600"]);
    Run::of(&mut sandbox.with_key(&["update", "abc", "approved"])).exits(0);
    let run = Run::of(&mut sandbox.with_key(&["update", "def", "approved", "--json"])).exits(6);
    assert!(run.line().contains("nothing was changed; try again later"), "{run}");
    assert_eq!(run.objects()[0]["retry_after"], 600.0);
}

#[test]
fn quiet_tells_only_what_was_asked_for_and_errors() {
    let sandbox = Sandbox::start(&[]);
    for args in [vec!["update", "abc", "approved", "-q"], vec!["auth", "--quiet"]] {
        let run = sandbox.run(&args).exits(0);
        assert_eq!((run.out.as_str(), run.err.as_str()), ("", ""), "{args:?}");
    }
    assert_eq!(sandbox.run(&["status", "abc", "-q"]).exits(0).out, "Approved\n");
    assert!(!sandbox.run(&["status", "unknown-1", "-q"]).exits(4).line().is_empty());
}

#[test]
fn verbose_tells_each_request_and_no_secret() {
    let sandbox = Sandbox::start(&[]);
    let run = sandbox.run(&["update", "abc", "approved", "-v"]).exits(0);
    assert!(run.err.contains("didit: POST /auth/v2/token/: 200"), "{run}");
    assert!(
        run.err.contains("didit: PATCH /v1/session/abc/update-status/: 200"),
        "{run}"
    );
    for secret in ["hunter2", "sandbox-token", "Basic", "Bearer"] {
        assert!(!run.err.contains(secret), "{secret}: {run}");
    }
    assert_eq!(run.out, "abc is Approved now\n");
}

#[test]
fn what_the_server_says_cannot_steer_the_terminal() {
    let dir = Directory::new();
    let sessions = dir.file("sessions", "abc,In\u{1b}[2J Review\n");
    let sandbox = Sandbox::start(&["--sessions", &sessions]);
    assert_eq!(sandbox.run(&["status", "abc"]).exits(0).out, "In\\u{1b}[2J Review\n");
    let run = sandbox.run(&["update", "abc", "approved"]).exits(4);
    assert!(run.line().contains("In\\u{1b}[2J Review"), "{run}");
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let mut command = didit(&["batch", "-", "--dry-run"]);
    command
        .env("DIDIT_API_KEY", "k")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    // It prints once it has read all of its input.
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"session_id,new_status\nabc,Approved\n").unwrap();
    drop(stdin);
    let run = Run::from(child.wait_with_output().unwrap()).exits(0);
    assert_eq!(run.err, "");
}

#[cfg(target_os = "linux")]
#[test]
fn a_result_that_cannot_be_written_is_told() {
    let sandbox = Sandbox::start(&[]);
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let run = Run::of(sandbox.didit(&["status", "abc"]).stdout(full())).exits(2);
    assert!(run.line().contains("standard output cannot be written"), "{run}");
    // The update is done all the same.
    let run = Run::of(sandbox.didit(&["update", "abc", "approved"]).stdout(full())).exits(0);
    assert!(run.line().contains("standard output cannot be written"), "{run}");
}

#[test]
fn a_token_that_is_not_taken_is_replaced_once_and_then_it_is_exit_3() {
    let sandbox = Sandbox::start(&["--token-ttl", "0"]);
    sandbox.run(&["update", "abc", "approved"]).exits(3);
    let count = |method: &str| sandbox.log().iter().filter(|entry| entry["method"] == method).count();
    assert_eq!((count("POST"), count("PATCH")), (2, 2));
    assert!(!sandbox.sessions().contains_key("abc"));
}
