//! The exit status says what is certain, and only Didit's own responses count as refusals.

use crate::sandbox::{Run, Sandbox, didit};
use crate::support::{Server, Step, answer};
use serde_json::json;
use std::net::TcpListener;
use std::process::Command;

const HTML: &str = "<html><h1>Sign in</h1></html>";
const WORDS: &str = r#"{"detail": "No."}"#;

/// Returns the command for a server, with an API key and without retries.
fn with_key(url: &str, args: &[&str]) -> Command {
    let mut command = didit(args);
    command
        .env("DIDIT_API_KEY", "k")
        .env("DIDIT_BASE_URL", url)
        .env("DIDIT_MAX_RETRIES", "0");
    command
}

#[test]
fn only_a_response_of_didit_is_a_refusal() {
    for (status, body, exit) in [
        (401, WORDS, 3),
        (403, WORDS, 4),
        (404, WORDS, 4),
        (400, WORDS, 4),
        (402, WORDS, 4),
        // 407 is a proxy's status, even with a message.
        (407, WORDS, 6),
        (401, HTML, 6),
        (403, HTML, 6),
        (404, HTML, 6),
        (400, "{}", 6),
        (407, HTML, 6),
        // It is about the size of the request, whoever sends it.
        (413, HTML, 4),
        (308, "", 6),
        (429, WORDS, 6),
    ] {
        let server = Server::always(answer(status, &[], body));
        for args in [
            vec!["status", "abc", "--json"],
            vec!["update", "abc", "approved", "--json"],
            vec!["update", "abc", "approved", "--ensure", "--json"],
        ] {
            let run = Run::of(&mut with_key(&server.url(), &args)).exits(exit);
            let result = match (exit, args[0]) {
                (4, _) => "refused",
                (_, "status") => "not_done",
                _ => "not_applied",
            };
            assert_eq!(run.objects().len(), 1, "{run}");
            assert_eq!(run.objects()[0]["result"], result, "{status} {body}: {run}");
            assert_eq!(run.objects()[0]["reason"], run.line(), "{run}");
        }
    }
}

#[test]
fn only_a_response_of_didits_host_of_tokens_refuses_the_credentials() {
    for (status, body, exit) in [
        (401, r#"{"error": "invalid_client"}"#, 3),
        (400, r#"{"error": "invalid_client"}"#, 3),
        (401, HTML, 6),
        (302, "", 6),
        (404, HTML, 6),
        (413, HTML, 6),
        (200, HTML, 6),
        (503, HTML, 6),
    ] {
        let server = Server::start(move |_| answer(status, &[], body));
        for args in [vec!["auth"], vec!["status", "abc"], vec!["update", "abc", "approved"]] {
            let mut command = didit(&args);
            command
                .env("DIDIT_CLIENT_ID", "me")
                .env("DIDIT_CLIENT_SECRET", "hunter2");
            command
                .env("DIDIT_BASE_URL", server.url())
                .env("DIDIT_AUTH_URL", server.url());
            let run = Run::of(command.env("DIDIT_MAX_RETRIES", "0")).exits(exit);
            assert!(!run.line().contains("hunter2"), "{run}");
        }
        assert!(server.session_requests().is_empty());
    }
}

#[test]
fn a_response_that_is_not_http_exits_6_for_a_read_and_5_for_an_update() {
    let server = Server::always(vec![
        Step::Send(b"220 mail.example ready\r\n\r\n".to_vec()),
        Step::Close,
    ]);
    Run::of(&mut with_key(&server.url(), &["status", "abc"])).exits(6);
    // `--ensure` reads first, and stops when the read fails.
    Run::of(&mut with_key(&server.url(), &["update", "abc", "approved", "--ensure"])).exits(6);
    Run::of(&mut with_key(&server.url(), &["update", "abc", "approved"])).exits(5);
}

#[test]
fn a_request_that_was_not_sent_exits_6() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for (args, result) in [
        (vec!["update", "abc", "approved", "--json"], "not_applied"),
        (vec!["status", "abc", "--json"], "not_done"),
    ] {
        let run = Run::of(&mut with_key(&url, &args)).exits(6);
        assert!(run.line().contains("retry later"), "{run}");
        assert_eq!(run.objects()[0]["result"], result);
    }
    let mut auth = didit(&["auth", "--json"]);
    auth.env("DIDIT_CLIENT_ID", "me")
        .env("DIDIT_CLIENT_SECRET", "s")
        .env("DIDIT_MAX_RETRIES", "0");
    let run = Run::of(auth.env("DIDIT_AUTH_URL", &url).env("DIDIT_BASE_URL", &url)).exits(6);
    assert_eq!(run.objects()[0]["result"], "not_done");
}

#[test]
fn a_rate_limit_with_too_long_a_wait_exits_6() {
    let sandbox = Sandbox::start(&["--rate-limit", "1/600"]);
    Run::of(&mut sandbox.with_key(&["update", "abc", "approved"])).exits(0);
    let run = Run::of(&mut sandbox.with_key(&["update", "def", "approved", "--json"])).exits(6);
    assert!(run.line().contains("nothing was changed; retry later"), "{run}");
    assert_eq!(run.objects()[0]["retry_after"], 600.0);
}

#[test]
fn a_refusal_reports_that_nothing_was_changed() {
    let sandbox = Sandbox::start(&[]);
    let run = sandbox.run(&["update", "unknown-1", "approved"]).exits(4);
    assert!(run.line().contains("unknown-1"), "{run}");
    assert!(run.line().contains("Session not found."), "{run}");
    assert!(run.line().contains("nothing was changed"), "{run}");

    let run = sandbox.run(&["update", "unfinished-1", "approved", "--json"]).exits(4);
    assert!(run.line().contains("nothing was changed"), "{run}");
    let object = &run.objects()[0];
    assert_eq!(
        (&object["result"], &object["status_code"]),
        (&json!("refused"), &json!(400))
    );
}
