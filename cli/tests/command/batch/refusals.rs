//! Only Didit's refusal of its session ends a row. Any other failure leaves the row for a retry.

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

    // With the right credentials, the same command starts over, because nothing was applied with the wrong ones.
    let started = batch(&sandbox, &file, &[]).exits(0);
    assert!(
        started.err.contains("rows.csv.journal.1 and starts a new journal"),
        "{started}"
    );
    assert_eq!(sandbox.sessions().len(), 200);

    // The journal now belongs to these credentials, until someone removes them from its header.
    let mut command = sandbox.with_key(&["batch", &file]);
    let run = Run::of(command.env("DIDIT_API_KEY", "another")).exits(2);
    assert!(
        run.line().contains("this journal belongs to other credentials"),
        "{run}"
    );
    let journal = format!("{file}.journal");
    let kept = fs::read_to_string(&journal).unwrap();
    let (head, rest) = kept.split_once(",\"credential\":").unwrap();
    let (_, rest) = rest.split_once('}').unwrap();
    fs::write(&journal, format!("{head},\"credential\":null}}{rest}")).unwrap();
    let mut command = sandbox.with_key(&["batch", &file]);
    Run::of(command.env("DIDIT_API_KEY", "another")).exits(0);
    assert_eq!(sandbox.sessions().len(), 200);
}

#[test]
fn after_a_wrong_url_the_same_command_starts_over() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(3));
    let wrong = "http://127.0.0.1:1";
    let with_url = |more: &[&str]| {
        let mut command = sandbox.with_key(&[&["batch", &file], more].concat());
        Run::of(command.env("DIDIT_BASE_URL", wrong))
    };
    with_url(&["--max-outage", "0"]).exits(6);
    let (journal, aside) = (format!("{file}.journal"), format!("{file}.journal.1"));
    let kept = fs::read(&journal).unwrap();
    batch(&sandbox, &file, &["--dry-run"]).exits(0);
    assert_eq!(fs::read(&journal).unwrap(), kept, "a dry run renames nothing");
    let run = batch(&sandbox, &file, &[]).exits(0);
    let notice = format!(
        "didit: {journal}: this journal belongs to {wrong}, with which nothing was applied; this run renamed it to {aside} and \
         starts a new journal\n"
    );
    assert!(run.err.starts_with(&notice), "{run}");
    assert!(run.err.contains("3 rows: 3 applied"), "{run}");
    assert_eq!(fs::read(&aside).unwrap(), kept);
    // Now the journal belongs to the sandbox, in a dry run too.
    for more in [&[][..], &["--dry-run"]] {
        let run = with_url(more).exits(2);
        assert!(
            run.line()
                .contains(&format!("this journal belongs to {}; nothing was sent.", sandbox.url)),
            "{run}"
        );
    }
}

#[test]
fn after_the_credentials_of_another_application_the_same_command_starts_over() {
    let sessions = Arc::new(Sessions::default());
    let served = sessions.clone();
    let server = Server::start(move |request| match request.header("x-api-key") {
        Some("key-hunter2") => served.serve(request),
        _ => didit_json(404, json!({"detail": "Session not found."})),
    });
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(3));
    let (journal, aside) = (format!("{file}.journal"), format!("{file}.journal.1"));
    let with_key = |key: &str| Run::of(against(&server, &[&file]).env("DIDIT_API_KEY", key));
    let advice =
        "all rows were refused: if Didit did not find the sessions, check whether they belong to the application";
    for _ in 0..2 {
        let refused = with_key("another").exits(1);
        assert!(refused.err.contains("3 refused, 0 unknown, 0 not applied"), "{refused}");
        assert!(refused.err.contains(advice), "{refused}");
    }
    let kept = fs::read(&journal).unwrap();

    let run = with_key("key-hunter2").exits(0);
    let notice = format!(
        "didit: {journal}: this journal belongs to other credentials, with which nothing was applied; this run renamed it to \
         {aside} and starts a new journal\n"
    );
    assert!(run.err.starts_with(&notice), "{run}");
    assert!(run.err.contains("3 rows: 3 applied"), "{run}");
    assert_eq!(sessions.applied(), [1; 3]);
    assert_eq!(fs::read(&aside).unwrap(), kept);
    // The journal now belongs to these credentials. A dry run with other credentials does not change that.
    with_key("another").exits(2);
    let mut dry = against(&server, &[&file, "--dry-run"]);
    Run::of(dry.env("DIDIT_API_KEY", "another")).exits(0);
    assert!(with_key("key-hunter2").exits(0).err.contains("nothing is left to do"));
    assert!(!fs::exists(format!("{file}.journal.2")).unwrap());
}

#[test]
fn a_journal_with_a_row_in_doubt_is_rejected_for_other_credentials() {
    let server = Server::always(vec![Step::Close]);
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(1));
    let with_key = |key: &str| {
        let mut command = against(&server, &[&file, "--max-outage", "0"]);
        Run::of(command.env("DIDIT_API_KEY", key))
    };
    with_key("one").exits(5);
    let run = with_key("another").exits(2);
    assert!(
        run.line()
            .contains("this journal belongs to other credentials; nothing was sent"),
        "{run}"
    );
}

#[test]
fn a_batch_stops_if_the_account_has_no_permission() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let rows: String = (0..50).map(|row| format!("forbidden-{row},Approved\n")).collect();
    let file = dir.file("rows.csv", format!("session_id,new_status\n{rows}"));
    let stop = ["--jobs", "1", "--max-outage", "0"];
    let run = batch(&sandbox, &file, &stop).exits(6);
    assert!(run.err.contains("0 refused, 0 unknown, 50 not applied"), "{run}");
    assert!(run.err.contains("stopped: requests keep failing: "), "{run}");
    assert_eq!(sandbox.updates().len(), 9);

    // Each run makes progress.
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
            let left = batch(&sandbox, &file, &["--jobs", "1"]).exits(6);
            assert!(left.err.contains(summary), "{left}");
            assert!(left.err.contains("run the same command again"), "{left}");
            assert!(!left.err.contains("stopped"), "{left}");
            let line = format!("line {}: not applied: ", place + 2);
            assert!(left.out.starts_with(&line), "{left}");
            assert!(left.out.contains("Didit answered 403"), "{left}");
            assert_eq!(left.out.lines().count(), 1, "{left}");
            // The next run reads the row first, which is not permitted either.
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
        let why = ["it cannot be read back (", "it cannot be resent ("][permitted_reads];
        assert!(run.out.starts_with("line 2: unknown: setting session"), "{run}");
        assert!(run.out.contains(why) && run.out.contains("Didit answered 403"), "{run}");
        assert!(!run.out.contains("nothing was changed"), "{run}");
        assert_eq!(server.requests().len(), 2 + permitted_reads);
    }
}

#[test]
fn an_answer_that_is_not_from_didit_refuses_no_row() {
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
fn a_retryable_answer_refuses_no_row_even_if_it_is_from_didit() {
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
        let stopped = run(&server, &[&file, "--jobs", "1", "--max-outage", "0"]).exits(6);
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
fn a_refused_row_is_resent_only_with_retry() {
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
    let read = run(&server, &[&file, "--retry", "refused", "--json"]).exits(1);
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
    assert_eq!(methods(4), ["GET", "PATCH"]);
    run(&server, &[&file, "--retry", "refused"]).exits(0);
    assert_eq!(methods(6), [""; 0]);
}
