//! What ends a row for good, and what does not.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::*;

#[test]
fn refused_credentials_stop_a_batch_at_once() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(200));
    let mut command = sandbox.with_key(&["batch", &file, "--rate", "100000", "--jobs", "2"]);
    let run = Run::of(command.env("DIDIT_API_KEY", "wrong")).exits(3);
    assert!(run.err.contains("200 not sent"), "{run}");
    assert!(run.err.contains("stopped: setting session"), "{run}");
    assert!(run.err.contains("401"), "{run}");
    assert!(sandbox.updates().len() <= 2);
    assert!(sandbox.sessions().is_empty());

    // With the right ones the same command goes on: nothing was ever done with the wrong ones.
    batch(&sandbox, &file, &[]).exits(0);
    assert_eq!(sandbox.sessions().len(), 200);

    // From then on the journal is theirs, until somebody says that the application has new ones.
    let mut command = sandbox.with_key(&["batch", &file]);
    let run = Run::of(command.env("DIDIT_API_KEY", "another")).exits(2);
    assert!(run.line().contains("it belongs to other credentials"), "{run}");
    let journal = format!("{file}.journal");
    let kept = fs::read_to_string(&journal).unwrap();
    let (head, rest) = kept.split_once('\n').unwrap();
    let mut head: Value = serde_json::from_str(head).unwrap();
    head.as_object_mut().unwrap().remove("credential").unwrap();
    fs::write(&journal, format!("{head}\n{rest}")).unwrap();
    let mut command = sandbox.with_key(&["batch", &file]);
    Run::of(command.env("DIDIT_API_KEY", "another")).exits(0);
    assert_eq!(sandbox.sessions().len(), 200);
}

#[test]
fn a_batch_stops_where_the_account_may_not_do_this() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let rows: String = (0..50).map(|row| format!("forbidden-{row},Approved\n")).collect();
    let file = dir.file("rows.csv", format!("session_id,new_status\n{rows}"));
    let stop = ["--jobs", "1", "--max-outage", "0"];
    let run = batch(&sandbox, &file, &stop).exits(6);
    assert!(run.err.contains("0 refused, 0 unknown, 50 not sent"), "{run}");
    assert!(run.err.contains("stopped: nothing gets through: "), "{run}");
    assert_eq!(sandbox.updates().len(), 9);

    // Each run gets further.
    for _ in 0..5 {
        batch(&sandbox, &file, &stop).exits(6);
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
fn a_row_that_is_not_permitted_is_refused_once_others_got_through() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let forbidden: String = (0..5).map(|row| format!("forbidden-{row},Approved\n")).collect();
    let file = dir.file("rows.csv", csv(20).replacen('\n', &format!("\n{forbidden}"), 1));
    let run = batch(&sandbox, &file, &["--jobs", "1"]).exits(1);
    assert!(
        run.err
            .contains("25 rows: 20 applied, 0 already so, 5 refused, 0 unknown, 0 not sent"),
        "{run}"
    );
    let refused = "line 2: refused: setting session forbidden-0 to Approved: ";
    assert!(run.out.starts_with(refused), "{run}");
    assert!(run.out.contains("; reading session forbidden-0: "), "{run}");
    // Once all the others are done, they are read, and that is not permitted either.
    assert_eq!(sandbox.updates().len(), 25);
    let log = sandbox.log();
    assert_eq!(log.len(), 30);
    for entry in &log[25..] {
        assert!(entry["path"].to_string().contains("/forbidden-"), "{entry}");
    }
}

#[test]
fn what_is_not_in_didits_words_refuses_no_row_even_where_others_get_through() {
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
        assert_eq!(server.requests().len(), 5, "three updates, a read, and one update more");
    }
}

#[test]
fn credits_that_run_out_stop_the_run_before_many_rows_are_refused() {
    let (sessions, left) = (Sessions::default(), Mutex::new(20));
    let server = Server::start(move |request| {
        let mut left = lock(&left);
        if *left == 0 {
            return didit_json(403, json!({"detail": "Not enough credits."}));
        }
        *left -= 1;
        sessions.serve(request)
    });
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(200));
    let run = run(&server, &[&file, "--jobs", "1", "--max-outage", "0"]).exits(6);
    assert!(
        run.err
            .contains("20 applied, 0 already so, 8 refused, 0 unknown, 172 not sent"),
        "{run}"
    );
    assert!(run.err.contains("Not enough credits."), "{run}");
}

#[test]
fn what_was_refused_is_sent_again_only_by_decision() {
    let (sessions, missing) = (Sessions::default(), std::sync::Arc::new(Mutex::new(true)));
    let gone = missing.clone();
    let server = Server::start(move |request| match *lock(&gone) && session_of(request) == id(1) {
        true => didit_json(404, json!({"detail": "Session not found."})),
        false => sessions.serve(request),
    });
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(3));
    run(&server, &[&file]).exits(1);
    *lock(&missing) = false;
    let again = run(&server, &[&file]).exits(1);
    assert!(again.out.starts_with("line 3: refused: "), "{again}");
    assert_eq!(server.requests().len(), 3);
    let retried = run(&server, &[&file, "--retry", "unknown,refused"]).exits(0);
    assert_eq!(retried.out, "");
    let methods = |from: usize| -> Vec<String> {
        let requests = server.requests().into_iter().skip(from);
        requests.map(|request| request.method).collect()
    };
    assert_eq!(methods(3), ["GET", "PATCH"]);
    run(&server, &[&file, "--retry", "refused"]).exits(0);
    assert_eq!(methods(5), [""; 0]);
}
