//! A row that was certainly not applied is as if it had never been sent. A row in doubt is read before anything else happens to it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::*;

fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn a_row_in_doubt_is_read_and_resent_only_if_it_was_not_applied() {
    for status in ["Approved", "Declined"] {
        let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
        let file = killed(&dir, &sandbox, status, unix_time() - 86_400);
        let run = batch(&sandbox, &file, &[]).exits(0);
        assert!(run.line().starts_with("1 row: 1 applied"), "{run}");
        let methods: Vec<Value> = sandbox.log().iter().map(|entry| entry["method"].clone()).collect();
        assert_eq!(methods, ["GET", "PATCH"]);

        // The same row again, now after it was applied.
        let file = killed(&dir, &sandbox, status, unix_time() - 86_400);
        let run = batch(&sandbox, &file, &[]).exits(0);
        assert!(run.line().starts_with("1 row: 1 applied, 0 already set"), "{run}");
        assert_eq!(sandbox.updates().len(), 1);
    }
}

#[test]
fn a_resubmission_in_doubt_is_resent_only_with_retry_unknown() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = killed(&dir, &sandbox, "Resubmitted", unix_time());
    // Nobody has seen the row yet.
    for more in [&["--retry", "unknown"][..], &[]] {
        let run = batch(&sandbox, &file, more).exits(5);
        let expected = "line 2: unknown: setting session abc to Resubmitted: the run ended before the response arrived; the \
                        session is now In Review; check it, then run with --retry unknown to resend the row\n";
        assert_eq!(run.out, expected);
    }
    assert!(sandbox.updates().is_empty());

    // The operator checked the session, and asks to resend the row.
    batch(&sandbox, &file, &["--retry", "unknown"]).exits(0);
    assert_eq!(sandbox.status("abc"), "Resubmitted");
    // The session is Resubmitted, so nothing is sent.
    let file = killed(&dir, &sandbox, "Resubmitted", unix_time());
    let run = batch(&sandbox, &file, &["--retry", "unknown"]).exits(0);
    assert!(run.err.contains("1 row: 1 applied, 0 already set"), "{run}");
    assert_eq!(sandbox.updates().len(), 1);
}

#[test]
fn a_decision_by_someone_else_after_a_kill_is_not_overridden() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    sandbox.request(
        "PATCH",
        "/v3/session/abc/update-status/",
        "{\"new_status\":\"Declined\"}",
    );
    let file = killed(&dir, &sandbox, "Approved", unix_time() - 7 * 86_400);
    for _ in 0..2 {
        let run = batch(&sandbox, &file, &[]).exits(5);
        assert!(
            run.out.contains(
                "the session is now Declined; perhaps someone else decided; to overrule that, run with --retry unknown"
            ),
            "{run}"
        );
        assert!(
            run.err.contains(
                "didit: run the same command again: it rechecks 1 unknown row; with --retry unknown, it also resends "
            ),
            "{run}"
        );
    }
    assert_eq!(sandbox.status("abc"), "Declined");
    batch(&sandbox, &file, &["--retry", "unknown"]).exits(0);
    assert_eq!(sandbox.status("abc"), "Approved");
}

#[test]
fn a_row_that_was_not_applied_is_as_if_it_had_never_been_sent() {
    for (more, exit, requests, status) in [
        (&[][..], 0, &["PATCH", "PATCH"][..], "Approved"),
        (&["--unless-decided"], 1, &["GET", "PATCH", "GET"], "Declined"),
    ] {
        let (sessions, is_first) = (Arc::new(Sessions::default()), Mutex::new(true));
        let served = sessions.clone();
        let server = Server::start(move |request| {
            // The first attempt is refused, and then someone declines the session.
            if request.method == "PATCH" && std::mem::take(&mut *lock(&is_first)) {
                served.set(&id(0), "Declined");
                return answer(429, &[("retry-after", "1")], "<html>Not now</html>");
            }
            served.serve(request)
        });
        let dir = Directory::new();
        let file = dir.file("rows.csv", csv(1));
        let run = run(&server, &[&[&*file], more].concat()).exits(exit);
        let left_alone = "line 2: left alone: the session is Declined: someone has already decided, so --unless-decided left it \
                          unchanged\n";
        assert_eq!(run.out, if exit == 1 { left_alone } else { "" });
        let methods: Vec<String> = server.requests().into_iter().map(|request| request.method).collect();
        assert_eq!(methods, requests);
        assert_eq!(sessions.status(&id(0)), status);
    }
}

#[test]
fn without_unless_decided_a_batch_overwrites_decisions() {
    for (more, exit, status) in [(&[][..], 0, "Approved"), (&["--unless-decided"], 1, "Declined")] {
        let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
        let body = "{\"new_status\":\"Declined\"}";
        sandbox.request("PATCH", "/v3/session/abc/update-status/", body);
        let file = dir.file("rows.csv", "session_id,new_status\nabc,Approved\ndef,Approved\n");
        let run = batch(&sandbox, &file, more).exits(exit);
        assert_eq!(sandbox.status("abc"), status, "{run}");
        assert_eq!(sandbox.status("def"), "Approved", "{run}");
        // The row is done.
        let sent = sandbox.updates().len();
        batch(&sandbox, &file, more).exits(exit);
        assert_eq!(sandbox.updates().len(), sent);
    }
}

#[test]
fn rows_that_a_killed_run_left_in_doubt_go_first() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(4));
    batch(&sandbox, &file, &["--jobs", "1"]).exits(0);
    // Only the intent of the third row is left.
    let journal = format!("{file}.journal");
    let text = fs::read_to_string(&journal).unwrap();
    let kept = text.lines().enumerate().filter(|(number, _)| [0, 5].contains(number));
    let kept: String = kept.map(|(_, line)| format!("{line}\n")).collect();
    assert!(kept.contains("intent") && kept.contains(&id(2)), "{kept}");
    fs::write(&journal, kept).unwrap();
    let before = sandbox.log().len();
    batch(&sandbox, &file, &["--jobs", "1"]).exits(0);
    let requests: Vec<String> = sandbox.log()[before..]
        .iter()
        .map(|entry| entry["path"].as_str().unwrap().split('/').nth(3).unwrap().to_owned())
        .collect();
    assert_eq!(requests, [id(2), id(0), id(1), id(3)]);
}

#[test]
fn a_row_in_doubt_whose_session_no_longer_exists_stays_unknown() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = killed(&dir, &sandbox, "Approved", unix_time());
    let missing = Server::start(|_| didit_json(404, json!({"detail": "Session not found."})));
    let journal = format!("{file}.journal");
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, text.replace(&sandbox.url, &missing.url())).unwrap();
    for retry in [&[][..], &["--retry", "unknown"]] {
        let run = run(&missing, &[&[&*file], retry].concat()).exits(5);
        assert!(
            run.out
                .starts_with("line 2: unknown: setting session abc to Approved: "),
            "{run}"
        );
        assert!(
            run.out.contains(
                "; the session cannot be read (reading session abc: Didit answered 404 (Session not found.))"
            ),
            "{run}"
        );
        assert!(!run.out.contains("nothing was changed"), "{run}");
    }
    assert!(missing.requests().iter().all(|request| request.method == "GET"));
}

#[test]
fn the_cause_of_an_unknown_row_is_why_its_update_failed() {
    let sessions = Sessions::default();
    let server = Server::start(move |request| {
        if request.method == "GET" {
            return page(500);
        }
        sessions.serve(request);
        vec![Step::Close]
    });
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(1));
    let run = run(&server, &[&file, "--jobs", "1", "--max-outage", "0"]).exits(5);
    let line = run.out.lines().next().unwrap();
    assert!(
        line.starts_with(&format!("line 2: unknown: setting session {} to Approved: ", id(0))),
        "{run}"
    );
    assert!(
        line.contains("closed the connection before answering; the run ended before it read the session"),
        "{run}"
    );
    let text = fs::read_to_string(format!("{file}.journal")).unwrap();
    assert!(
        !run.out.contains("nothing was changed") && !text.contains("nothing was changed"),
        "{run}"
    );
}

#[test]
fn lost_responses_are_settled_in_the_same_run() {
    // The server applies every update, and its response is lost.
    let sessions = Arc::new(Sessions::default());
    let served = sessions.clone();
    let server = Server::start(move |request| {
        let steps = served.serve(request);
        if request.method == "PATCH" {
            vec![Step::Reset]
        } else {
            steps
        }
    });
    let dir = Directory::new();
    let line = |row| format!("{},Resubmitted,a:OCR\n", id(row));
    let text = "session_id,new_status,nodes\n".to_owned() + &(0..7).map(line).collect::<String>();
    let file = dir.file("rows.csv", text);
    let run = run(&server, &[&file]).exits(0);
    assert!(run.err.contains("7 rows: 7 applied"), "{run}");
    assert_eq!(sessions.applied(), [1; 7]);
}

#[test]
fn a_lost_decision_is_resent_over_a_new_connection() {
    let (sessions, lost) = (Arc::new(Sessions::default()), Mutex::new(true));
    let served = sessions.clone();
    let server = Server::start(move |request| match std::mem::take(&mut *lock(&lost)) {
        true => vec![Step::Close],
        false => served.serve(request),
    });
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(1));
    run(&server, &[&file]).exits(0);
    let requests = server.requests();
    let methods: Vec<&str> = requests.iter().map(|request| request.method.as_str()).collect();
    assert_eq!(methods, ["PATCH", "GET", "PATCH"]);
    assert_ne!(requests[1].connection, requests[0].connection);
    assert_eq!(sessions.applied(), [1]);
}

#[test]
fn reads_have_their_own_pace_on_v1() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(4));
    let args = ["batch", &file, "--rate", "100000", "--jobs", "3"];
    Run::of(&mut sandbox.didit(&args)).exits(0);
    // Remove the results, as if no response had arrived.
    let journal = format!("{file}.journal");
    let text = fs::read_to_string(&journal).unwrap();
    let intents = text.lines().filter(|line| !line.contains("result"));
    fs::write(&journal, intents.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let run = Run::of(&mut sandbox.didit(&args)).exits(0);
    assert!(run.err.contains("4 rows: 4 applied, 0 already set"), "{run}");
    let mut reads = sandbox.log();
    reads.retain(|entry| entry["method"] == "GET");
    let at = |index: usize| reads[index]["at"].as_f64().unwrap();
    // 100 reads per minute. If the first read is late, the second may follow sooner.
    assert!(at(3) - at(0) > 0.7, "{reads:?}");
}
