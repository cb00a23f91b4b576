//! `didit update` sends one update, and reports whether it was applied.

use crate::sandbox::{Run, Sandbox, didit};
use crate::support::{Server, Step, answer, in_turn};
use serde_json::json;

#[test]
fn an_update_is_sent_and_its_result_printed() {
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
    let expected = json!({"session_id": "abc", "new_status": "Approved", "result": "applied"});
    assert_eq!(run.objects(), [expected]);
    assert_eq!(sandbox.status("abc"), "Approved");
}

#[test]
fn nodes_and_an_email_are_sent_with_a_resubmission() {
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
fn ensure_sends_nothing_if_the_session_has_the_status() {
    let sandbox = Sandbox::start(&[]);
    let first = sandbox.run(&["update", "abc", "approved", "--ensure"]).exits(0);
    assert_eq!(first.out, "abc is Approved now\n");
    let second = sandbox.run(&["update", "abc", "approved", "--ensure"]).exits(0);
    assert_eq!(second.out, "abc is already Approved\n");
    let third = sandbox
        .run(&["update", "abc", "approved", "--ensure", "--json"])
        .exits(0);
    assert_eq!(third.objects()[0]["result"], "already");
    assert_eq!(sandbox.updates().len(), 1);
}

#[test]
fn unless_decided_leaves_another_decision_unchanged() {
    let sandbox = Sandbox::start(&[]);
    sandbox.run(&["update", "abc", "declined"]).exits(0);
    // It implies `--ensure`, which reads first.
    for more in [&["--unless-decided"][..], &["--ensure", "--unless-decided"]] {
        let args = [&["update", "abc", "approved"], more].concat();
        let expected = "abc is Declined: someone has already decided, so --unless-decided left it unchanged";
        let run = sandbox.run(&args).exits(1);
        assert_eq!((run.line(), run.out.as_str()), (expected, ""));
        let run = sandbox.run(&[&args[..], &["--json", "--quiet"]].concat()).exits(1);
        let object =
            json!({"session_id": "abc", "new_status": "Approved", "result": "left_alone", "status": "Declined"});
        assert_eq!((run.line(), run.objects()), (expected, vec![object]));
    }
    assert_eq!(sandbox.updates().len(), 1);

    // An undecided session is updated. Without `--unless-decided`, a decision is replaced.
    sandbox.run(&["update", "def", "approved", "--unless-decided"]).exits(0);
    sandbox.run(&["update", "def", "approved", "--unless-decided"]).exits(0);
    sandbox.run(&["update", "abc", "approved", "--ensure"]).exits(0);
    assert_eq!(sandbox.status("abc"), "Approved");
    assert_eq!(sandbox.updates().len(), 3);
}

#[test]
fn an_empty_comment_is_left_out() {
    let sandbox = Sandbox::start(&[]);
    sandbox.run(&["update", "abc", "approved", "--comment", ""]).exits(0);
    assert_eq!(sandbox.updates()[0]["body"], json!({"new_status": "Approved"}));
}

fn is(status: &str) -> Vec<Step> {
    answer(200, &[], json!({"session_id": "abc", "status": status}).to_string())
}

/// Runs an update of a session with one retry.
fn run(server: &Server, args: &[&str]) -> Run {
    let mut command = didit(&[&["update", "abc"], args].concat());
    command.env("DIDIT_API_KEY", "k").env("DIDIT_BASE_URL", server.url());
    Run::of(command.env("DIDIT_MAX_RETRIES", "1"))
}

#[test]
fn an_update_in_doubt_is_done_if_the_session_has_the_status() {
    let lost_but = |read| Server::start(in_turn(vec![vec![Step::Close], read]));
    let server = lost_but(is("Approved"));
    let ended = run(&server, &["approved"]).exits(0);
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("abc is Approved now\n", ""));
    assert_eq!(server.methods(), "PATCH GET");

    let ended = run(&lost_but(is("Declined")), &["declined", "--json"]).exits(0);
    let expected = json!({"session_id": "abc", "new_status": "Declined", "result": "applied"});
    assert_eq!(ended.objects(), [expected]);
}

#[test]
fn an_unknown_result_advises_the_commands() {
    let not_found = answer(404, &[], r#"{"detail": "Session not found."}"#);
    for (read, words) in [
        (
            is("Declined"),
            "the session is already Declined, which this call may not replace",
        ),
        (
            not_found,
            "reading session abc: Didit answered 404 (Session not found.)",
        ),
    ] {
        let server = Server::start(in_turn(vec![vec![Step::Close], read]));
        let run = run(&server, &["approved", "--json"]).exits(5);
        for words in [
            words,
            "unknown: attempt 1 may have been applied (",
            "; check the session's status (`didit status abc`) before you retry, or retry with --unless-decided",
        ] {
            assert!(run.line().contains(words), "{words}: {run}");
        }
        for words in ["ensure_status", "nothing was changed"] {
            assert!(!run.line().contains(words), "{words}: {run}");
        }
        let object = &run.objects()[0];
        assert_eq!(
            (&object["result"], &object["reason"]),
            (&json!("unknown"), &json!(run.line()))
        );
        assert_eq!(server.methods(), "PATCH GET");
    }
}

#[test]
fn a_resubmission_in_doubt_is_unknown_unless_the_session_was_read_first() {
    let args = ["resubmitted", "--node", "a:b"];
    let server = Server::start(in_turn(vec![vec![Step::Close]]));
    let ended = run(&server, &[&args[..], &["--json"]].concat()).exits(5);
    assert_eq!(ended.objects()[0]["result"], "unknown");
    assert_eq!(server.methods(), "PATCH");

    let server = Server::start(in_turn(vec![is("In Review"), vec![Step::Close], is("Resubmitted")]));
    run(&server, &[&args[..], &["--ensure"]].concat()).exits(0);
    assert_eq!(server.methods(), "GET PATCH GET");
}

#[test]
fn ensure_reads_the_session_before_each_attempt_and_after_the_last_one() {
    let turns = [
        is("In Review"),
        vec![Step::Close],
        is("In Review"),
        vec![Step::Close],
        is("In Review"),
    ];
    let server = Server::start(in_turn(turns.to_vec()));
    let run = run(&server, &["approved", "--ensure", "--json"]).exits(5);
    assert_eq!(server.methods(), "GET PATCH GET PATCH GET");
    assert_eq!(run.objects()[0]["result"], "unknown");
}
