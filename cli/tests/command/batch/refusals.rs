//! Only Didit's refusal of its session settles a row. Any other failure leaves the row for a retry.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::*;

#[test]
fn refused_credentials_stop_a_batch_immediately() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(200));
    let mut command = sandbox.with_key(&["batch", &file, "--rate", "100000", "--jobs", "2"]);
    let run = Run::of(command.env("DIDIT_API_KEY", "wrong")).exits(3);
    assert!(run.err.contains("200 not applied"), "{run}");
    assert!(run.err.contains("stopped: setting session"), "{run}");
    assert!(run.err.contains("401"), "{run}");
    assert!(sandbox.updates().len() <= 2);
    assert!(sandbox.sessions().is_empty());

    // No row was applied, so the right credentials begin at the first row.
    let started = batch(&sandbox, &file, &[]).exits(0);
    assert!(started.err.contains("200 rows: 200 applied"), "{started}");
    assert_eq!(sandbox.sessions().len(), 200);
}

#[test]
fn a_refused_access_token_stops_a_batch_after_one_more_attempt() {
    let sessions = Arc::new(Sessions::default());
    for recovers in [true, false] {
        let (served, tokens) = (sessions.clone(), Mutex::new(0));
        let server = Server::start(move |request| {
            if request.is_token_request() {
                let mut tokens = lock(&tokens);
                *tokens += 1;
                return crate::support::token(&format!("token-{tokens}"));
            }
            // Another process replaces the first tokens.
            match recovers
                && request
                    .header("authorization")
                    .is_some_and(|token| token > "Bearer token-2")
            {
                true => served.serve(request),
                false => didit_json(401, json!({"detail": "Token expired."})),
            }
        });
        let dir = Directory::new();
        let file = dir.file("rows.csv", csv(2));
        let mut command = against(&server, &[&file, "--jobs", "1"]);
        command
            .env_remove("DIDIT_API_KEY")
            .env("DIDIT_CLIENT_ID", "me")
            .env("DIDIT_CLIENT_SECRET", "hunter2")
            .env("DIDIT_AUTH_URL", server.url());
        let run = Run::of(&mut command).exits(if recovers { 0 } else { 3 });
        assert!(run.err.contains("pausing for 1 s: "), "{run}");
        assert_eq!(run.err.contains("stopped: "), !recovers, "{run}");
        // Each attempt replaces a refused token once, and no token is used again.
        assert_eq!(server.token_requests().len(), if recovers { 3 } else { 4 }, "{run}");
    }
    assert_eq!(sessions.applied(), [1; 2]);
}

#[test]
fn after_the_credentials_of_another_application_retry_refused_sends_every_row() {
    let sessions = Arc::new(Sessions::default());
    let served = sessions.clone();
    let server = Server::start(move |request| match request.header("x-api-key") {
        Some("key-hunter2") => served.serve(request),
        _ => didit_json(404, json!({"detail": "Session not found."})),
    });
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(3));
    let with_key = |key: &str, more: &[&str]| {
        let mut command = against(&server, &[&[&*file], more].concat());
        Run::of(command.env("DIDIT_API_KEY", key))
    };
    for _ in 0..2 {
        let refused = with_key("another", &[]).exits(1);
        assert!(refused.err.contains("3 refused, 0 unknown, 0 not applied"), "{refused}");
        let advice = "every row was refused; if the sessions were not found, these credentials may belong to another application";
        assert!(refused.err.contains(advice), "{refused}");
    }
    assert_eq!(server.requests().len(), 3);
    with_key("key-hunter2", &[]).exits(1);
    let run = with_key("key-hunter2", &["--retry", "refused"]).exits(0);
    assert!(run.err.contains("3 rows: 3 applied"), "{run}");
    assert_eq!(sessions.applied(), [1; 3]);
}

#[test]
fn a_413_is_final_for_its_row_whoever_says_so() {
    for body in [
        "<html>413 Request Entity Too Large</html>",
        "{\"detail\":\"Request body too large.\"}",
    ] {
        let sessions = Sessions::default();
        let server = Server::start(move |request| match session_of(request) == id(1) {
            true => answer(413, &[], body),
            false => sessions.serve(request),
        });
        let dir = Directory::new();
        let file = dir.file("rows.csv", csv(3));
        let run = run(&server, &[&file]).exits(1);
        assert!(run.out.starts_with("line 3: refused: "), "{run}");
        assert!(run.err.contains("3 rows: 2 applied, 0 already set, 1 refused"), "{run}");
        assert_eq!(server.requests().len(), 3);
    }
}

#[test]
fn a_batch_stops_if_the_account_has_no_permission() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let rows: String = (0..50).map(|row| format!("forbidden-{row},Approved\n")).collect();
    let file = dir.file("rows.csv", format!("session_id,new_status\n{rows}"));
    let stop = ["--jobs", "1", "--max-outage", "0"];
    let run = batch(&sandbox, &file, &stop).exits(4);
    assert!(run.err.contains("0 refused, 0 unknown, 50 not applied"), "{run}");
    assert!(run.err.contains("stopped: requests keep failing: "), "{run}");
    assert_eq!(sandbox.updates().len(), 9);

    // Each run makes progress.
    for _ in 0..5 {
        batch(&sandbox, &file, &stop).exits(4);
    }
    let mut rows: Vec<_> = sandbox
        .updates()
        .iter()
        .map(|update| update["path"].to_string())
        .collect();
    rows.sort();
    rows.dedup();
    assert_eq!(rows.len(), 50);
}

#[test]
fn a_row_without_permission_is_left_for_the_next_run_at_any_position() {
    for place in [0, 10, 20] {
        let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
        let rows = csv(20);
        let mut lines: Vec<&str> = rows.lines().collect();
        lines.insert(1 + place, "forbidden-0,Approved");
        let file = dir.file("rows.csv", lines.join("\n"));
        for run in 1..=2 {
            let summary = "21 rows: 20 applied, 0 already set, 0 refused, 0 unknown, 1 not applied\n";
            // The row is not refused, so the next run retries it without `--retry refused`.
            let left = batch(&sandbox, &file, &["--jobs", "1"]).exits(4);
            assert!(left.err.contains(summary), "{left}");
            assert!(left.err.contains("run the same command again"), "{left}");
            assert!(!left.err.contains("stopped"), "{left}");
            let line = format!("line {}: not applied: ", place + 2);
            assert!(left.out.starts_with(&line), "{left}");
            assert!(left.out.contains("Didit answered 403"), "{left}");
            assert_eq!(left.out.lines().count(), 1, "{left}");
            assert_eq!(sandbox.log().len(), 20 + run);
        }
    }
}

#[test]
fn a_row_in_doubt_without_permission_is_unknown() {
    for permitted_reads in [0, 1] {
        let (sessions, reads) = (Sessions::default(), Mutex::new(0));
        let server = Server::start(move |request| {
            let mut reads = lock(&reads);
            match request.method.as_str() {
                "PATCH" if *reads == 0 => vec![Step::Close],
                "GET" if *reads < permitted_reads => {
                    *reads += 1;
                    sessions.serve(request)
                }
                _ => didit_json(403, json!({"detail": "No permission."})),
            }
        });
        let dir = Directory::new();
        let file = dir.file("rows.csv", csv(1));
        let run = run(&server, &[&file]).exits(5);
        let why = ["the session cannot be read (", "the update cannot be resent ("][permitted_reads];
        assert!(run.out.starts_with("line 2: unknown: setting session"), "{run}");
        assert!(run.out.contains(why) && run.out.contains("Didit answered 403"), "{run}");
        assert!(!run.out.contains("nothing was changed"), "{run}");
        assert_eq!(server.requests().len(), 2 + permitted_reads);
    }
}

#[test]
fn a_response_that_is_not_from_didit_refuses_no_row() {
    let proxy_words = json!({"detail": "Proxy authentication required."}).to_string();
    for refusal in [
        page(403),
        page(402),
        page(404),
        page(400),
        answer(407, &[], proxy_words),
    ] {
        let (sessions, refused) = (Sessions::default(), AtomicBool::new(false));
        let server = Server::start(move |request| {
            let last = request.method == "PATCH" && session_of(request) == id(2);
            match last && !refused.swap(true, SeqCst) {
                true => refusal.clone(),
                false => sessions.serve(request),
            }
        });
        let dir = Directory::new();
        let file = dir.file("rows.csv", csv(3));
        run(&server, &[&file, "--jobs", "1"]).exits(0);
        assert_eq!(server.requests().len(), 4, "three updates, and one more");
    }
}

#[test]
fn a_retryable_response_refuses_no_row_even_if_it_is_from_didit() {
    let (sessions, requests) = (Sessions::default(), Mutex::new(0));
    let server = Server::start(move |request| {
        let mut requests = lock(&requests);
        *requests += 1;
        match *requests {
            1 => didit_json(425, json!({"detail": "Too early."})),
            _ => sessions.serve(request),
        }
    });
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(1));
    let run = run(&server, &[&file]).exits(0);
    assert!(run.err.contains("1 row: 1 applied"), "{run}");
}

#[test]
fn missing_credits_stop_the_run_and_refuse_no_row() {
    for (status, detail) in [(403, "Not enough credits."), (402, "Payment required.")] {
        let (sessions, left) = (Arc::new(Sessions::default()), Arc::new(Mutex::new(20)));
        let (served, credits) = (sessions.clone(), left.clone());
        let server = Server::start(move |request| {
            let mut left = lock(&credits);
            if *left == 0 {
                return didit_json(status, json!({"detail": detail}));
            }
            *left -= 1;
            served.serve(request)
        });
        let dir = Directory::new();
        let file = dir.file("rows.csv", csv(200));
        let stopped = run(&server, &[&file, "--jobs", "1", "--max-outage", "0"]).exits(4);
        let summary = "20 applied, 0 already set, 0 refused, 0 unknown, 180 not applied";
        assert!(stopped.err.contains(summary), "{stopped}");
        assert!(stopped.err.contains("stopped: requests keep failing: "), "{stopped}");
        assert!(stopped.err.contains(detail), "{stopped}");
        // Eight failures open the circuit, and one probe fails.
        assert_eq!(server.requests().len(), 20 + 9);

        // With new credits, the remaining rows are sent.
        *lock(&left) = usize::MAX;
        run(&server, &[&file]).exits(0);
        assert_eq!(sessions.applied(), [1; 200]);
    }
}

#[test]
fn a_refused_row_is_resent_only_with_retry_refused() {
    let (sessions, missing) = (Sessions::default(), Arc::new(Mutex::new(true)));
    let gone = missing.clone();
    let server = Server::start(move |request| match *lock(&gone) && session_of(request) == id(1) {
        true => didit_json(404, json!({"detail": "Session not found."})),
        false => sessions.serve(request),
    });
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(3));
    let first = run(&server, &[&file]).exits(1);
    // The advice is kept when the row is read before it is resent.
    let read = run(&server, &[&file, "--retry", "refused", "--unless-decided", "--json"]).exits(1);
    let objects = read.objects();
    let result = objects.iter().find(|object| object["result"] == "refused").unwrap();
    let (_, advice) = first.out.trim_end().split_once("; nothing was changed").unwrap();
    assert!(result["reason"].as_str().unwrap().ends_with(advice), "{first}{read}");
    assert_eq!(result["status_code"], 404, "{read}");
    *lock(&missing) = false;
    let again = run(&server, &[&file]).exits(1);
    assert!(again.out.starts_with("line 3: refused: "), "{again}");
    assert_eq!(server.requests().len(), 4);
    let retried = run(&server, &[&file, "--retry", "unknown,refused"]).exits(0);
    assert_eq!(retried.out, "");
    let methods = |from: usize| -> Vec<String> {
        let requests = server.requests().into_iter().skip(from);
        requests.map(|request| request.method).collect()
    };
    assert_eq!(methods(4), ["PATCH"]);
    run(&server, &[&file, "--retry", "refused"]).exits(0);
    assert_eq!(methods(5), [""; 0]);
}
