//! Results are printed as text or JSON, and never contain a secret.

use std::fs;
#[cfg(target_os = "linux")]
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::process::Stdio;

use crate::sandbox::{Run, Sandbox, didit};
use crate::support::directory::Directory;
use crate::support::{Server, Step, answer, token};
use serde_json::json;

#[test]
fn a_failure_as_json_has_a_reason_and_only_keys_with_a_value() {
    let of = |run: Run, expected: &[&str]| {
        let objects = run.objects();
        assert_eq!(objects.len(), 1, "{run}");
        let keys: Vec<_> = objects[0].as_object().unwrap().keys().cloned().collect();
        let mut expected = [expected, &["reason", "result"]].concat();
        expected.sort_unstable();
        assert_eq!(keys, expected, "{run}");
        assert!(!run.out.contains("null"), "{run}");
        assert_eq!(objects[0]["reason"], run.line(), "{run}");
    };
    let sandbox = Sandbox::start(&["--rate-limit", "0/600"]);
    for (args, own) in [
        (vec!["status", "abc", "--json"], vec!["session_id"]),
        (
            vec!["update", "abc", "approved", "--json"],
            vec!["new_status", "session_id"],
        ),
        (vec!["auth", "--json"], vec![]),
    ] {
        // Without a response, without words, and with both.
        of(Run::of(&mut didit(&args)), &own);
        let limited = [&own[..], &["retry_after", "status_code"]].concat();
        of(sandbox.run(&args), &limited);
        let refused = [&own[..], &["code", "status_code"]].concat();
        of(
            Run::of(sandbox.didit(&args).env("DIDIT_CLIENT_SECRET", "wrong")),
            &refused,
        );
    }
}

#[test]
fn an_invalid_configuration_or_input_is_one_line_of_json_too() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let good = dir.file("good.csv", "session_id,new_status\nabc,Approved\n");
    let bad = dir.file("bad.csv", "session_id,new_status\nabc,Expired\ndef,Expired\n");
    let empty = dir.file("empty.csv", "session_id,new_status\n");
    let outside = |args: &[&str]| {
        let mut command = sandbox.with_key(args);
        command
            .env("IN_DIDIT_SANDBOX", &sandbox.url)
            .env("DIDIT_BASE_URL", "https://verification.didit.me");
        Run::of(&mut command)
    };
    for run in [
        Run::of(&mut didit(&["batch", &good, "--json"])),
        Run::of(&mut sandbox.with_key(&["batch", &bad, "--json"])),
        Run::of(&mut sandbox.with_key(&["batch", &empty, "--json"])),
        Run::of(&mut sandbox.with_key(&["batch", &dir.path("missing.csv"), "--json"])),
        Run::of(&mut sandbox.with_key(&["batch", &good, "--json", "--journal", &dir.path("")])),
        outside(&["batch", &good, "--json"]),
    ] {
        let run = run.exits(2);
        let said: Vec<&str> = run
            .err
            .lines()
            .map(|line| line.strip_prefix("didit: ").unwrap())
            .collect();
        let expected = json!({"summary": {
            "rows": 0, "applied": 0, "already": 0, "left_alone": 0, "refused": 0, "unknown": 0, "not_applied": 0,
            "duplicates": 0, "exit": 2, "stopped": said.join("; "),
        }});
        assert_eq!(run.objects(), [expected], "{run}");
    }
    for args in [
        &["status", "abc", "--json"][..],
        &["update", "abc", "approved", "--json"],
        &["auth", "--json"],
    ] {
        for run in [Run::of(&mut didit(args)), outside(args)] {
            let run = run.exits(2);
            assert_eq!(run.objects().len(), 1, "{run}");
            assert_eq!(run.objects()[0]["reason"], run.line(), "{run}");
        }
    }
    assert!(sandbox.log().is_empty());
}

#[test]
fn a_status_that_the_server_invents_is_printed_but_cannot_change_the_line() {
    let server = Server::start(|_| answer(200, &[], r#"{"session_id":"abc","status":"On \u202edloH\u0007"}"#));
    let status = |more: &[&str]| {
        let mut command = didit(&[&["status", "abc"], more].concat());
        Run::of(command.env("DIDIT_API_KEY", "k").env("DIDIT_BASE_URL", server.url())).exits(0)
    };
    assert_eq!(status(&[]).out, "On \\u{202e}dloH\\u{7}\n");
    assert_eq!(status(&["--json"]).objects()[0]["status"], "On \\u{202e}dloH\\u{7}");
}

#[test]
fn a_status_that_the_server_invents_contains_no_secret_wherever_it_is_printed_or_journaled() {
    let long_token = "eyJhbGciOiJIUzI1NiJ9.e30.hunter2";
    let server = Server::start(move |request| match request.is_token_request() {
        true => token(long_token),
        false if request.method == "GET" => {
            let sent = request.header("authorization").or(request.header("x-api-key")).unwrap();
            answer(
                200,
                &[],
                json!({"session_id": "abc", "status": format!("Held by {sent}")}).to_string(),
            )
        }
        // In doubt.
        false => vec![Step::Close],
    });
    let dir = Directory::new();
    let file = dir.file("rows.csv", "session_id,new_status,nodes\nabc,Resubmitted,a:OCR\n");
    let key_file = dir.file("key", "key-hunter2\n");
    for credentials in [
        &[("DIDIT_API_KEY", "key-hunter2")][..],
        &[("DIDIT_API_KEY_FILE", &key_file)],
        &[
            ("DIDIT_CLIENT_ID", "me"),
            ("DIDIT_CLIENT_SECRET", "hunter2"),
            ("DIDIT_API_VERSION", "v3"),
        ],
    ] {
        let run = |args: &[&str]| {
            let mut command = didit(args);
            command.envs(credentials.iter().copied()).env("DIDIT_MAX_RETRIES", "0");
            Run::of(
                command
                    .env("DIDIT_BASE_URL", server.url())
                    .env("DIDIT_AUTH_URL", server.url()),
            )
        };
        let journal = dir.path("journal");
        let _ = fs::remove_file(&journal);
        let update = ["update", "abc", "resubmitted", "--node", "a:OCR", "--ensure", "--json"];
        for (run, exit) in [
            (run(&["status", "abc"]), 0),
            (run(&["status", "abc", "--json"]), 0),
            (run(&update), 5),
            (
                run(&["batch", &file, "--json", "--journal", &journal, "--max-outage", "1"]),
                5,
            ),
        ] {
            let run = run.exits(exit);
            assert!(!run.to_string().contains("hunter2"), "{run}");
        }
        assert!(run(&["status", "abc"]).out.starts_with("Held by "));
        let text = fs::read_to_string(&journal).unwrap();
        assert!(
            text.contains("the session is now in another status") && !text.contains("hunter2"),
            "{text}"
        );
    }
}

#[test]
fn quiet_prints_only_errors_and_requested_data() {
    let sandbox = Sandbox::start(&[]);
    for args in [vec!["update", "abc", "approved", "-q"], vec!["auth", "--quiet"]] {
        let run = sandbox.run(&args).exits(0);
        assert_eq!((run.out.as_str(), run.err.as_str()), ("", ""), "{args:?}");
    }
    assert_eq!(sandbox.run(&["-q", "status", "abc"]).exits(0).out, "Approved\n");
    assert!(!sandbox.run(&["status", "unknown-1", "-q"]).exits(4).line().is_empty());
}

#[test]
fn a_token_file_that_cannot_be_written_is_reported_once_and_without_verbose() {
    let (sandbox, directory) = (Sandbox::start(&[]), Directory::new());
    let path = directory.path("missing/token");
    let run = |args: &[&str]| {
        let mut command = sandbox.didit(args);
        Run::of(command.env("DIDIT_TOKEN_FILE", &path)).exits(0)
    };
    let warning = format!("didit: cannot write the token file {path}: ");
    let rows = "session_id,new_status\na,approved\nb,declined\nc,approved\n";
    let rows = directory.file("rows.csv", rows);
    for args in [
        &["update", "abc", "approved"][..],
        &["batch", &rows],
        &["status", "abc", "-v"],
    ] {
        let run = run(args);
        assert_eq!(run.err.matches(&warning).count(), 1, "{run}");
        assert_eq!(run.err.contains("/auth/v2/token/"), args.contains(&"-v"), "{run}");
    }
    assert_eq!(run(&["update", "abc", "approved", "--quiet"]).err, "");
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
fn no_output_contains_a_secret() {
    let echo = Server::start(|request| {
        // The server returns the request's headers as its error.
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
fn the_servers_text_cannot_control_the_terminal() {
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
fn a_closed_standard_output_is_not_an_error() {
    let mut command = didit(&["batch", "-", "--dry-run"]);
    command.env("DIDIT_API_KEY", "k").stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    // The command prints after it has read all of its input.
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
fn a_result_that_cannot_be_printed_exits_6() {
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

/// With another status, a script would repeat the decision.
#[cfg(target_os = "linux")]
#[test]
fn an_applied_update_exits_0_even_if_it_cannot_be_printed() {
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
