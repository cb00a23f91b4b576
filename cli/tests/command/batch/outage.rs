//! During an outage a batch pauses, probes, and stops after `--max-outage`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use super::*;

fn resubmissions(rows: usize) -> String {
    let line = |row| format!("{},Resubmitted,a:OCR\n", id(row));
    "session_id,new_status,nodes\n".to_owned() + &(0..rows).map(line).collect::<String>()
}

fn writes(server: &Server) -> usize {
    let requests = server.requests();
    requests.iter().filter(|request| request.method == "PATCH").count()
}

#[test]
fn a_read_only_phase_leaves_few_resubmissions_in_doubt_and_repeats_none() {
    let (sessions, closed) = (Arc::new(Sessions::default()), Arc::new(AtomicBool::new(true)));
    let (served, shut) = (sessions.clone(), closed.clone());
    let server = Server::start(move |request| match request.method == "PATCH" && shut.load(SeqCst) {
        true => page(503),
        false => served.serve(request),
    });
    let dir = Directory::new();
    let file = dir.file("rows.csv", resubmissions(60));
    let stopped = run(&server, &[&file, "--max-outage", "1.5"]).exits(5);
    assert!(stopped.err.contains("stopped: requests keep failing: "), "{stopped}");
    let unknown = results(&file).values().filter(|result| *result == "unknown").count();
    assert!((8..=20).contains(&unknown), "{unknown} are unknown: {stopped}");
    assert_eq!(writes(&server), unknown);

    closed.store(false, SeqCst);
    let open = run(&server, &[&file]).exits(5);
    let expected = format!(
        "60 rows: {} applied, 0 already set, 0 refused, {unknown} unknown, 0 not applied",
        60 - unknown
    );
    assert!(open.err.contains(&expected), "{open}");
    run(&server, &[&file, "--retry", "unknown"]).exits(0);
    assert!(sessions.applied().iter().all(|applied| *applied == 1));
    assert_eq!(sessions.applied().len(), 60);
}

#[test]
fn a_page_that_is_not_from_didit_stops_a_run_at_any_status() {
    for (status, exit) in [(200, 5), (404, 6), (403, 6), (402, 6), (302, 5), (401, 6)] {
        let up = Arc::new(AtomicBool::new(false));
        let (sessions, is_up) = (Arc::new(Sessions::default()), up.clone());
        let served = sessions.clone();
        let server = Server::start(move |request| match is_up.load(SeqCst) {
            true => served.serve(request),
            false => page(status),
        });
        let dir = Directory::new();
        let file = dir.file("rows.csv", csv(100));
        let away = run(&server, &[&file, "--max-outage", "0.2"]).exits(exit);
        assert!(
            away.err.contains("stopped: requests keep failing: "),
            "{status}: {away}"
        );
        assert!(away.err.contains(" 0 refused"), "{status}: {away}");
        assert!(server.requests().len() <= 30, "{status}: {}", server.requests().len());

        up.store(true, SeqCst);
        run(&server, &[&file]).exits(0);
        assert_eq!(sessions.applied(), [1; 100], "{status}");
    }
}

#[test]
fn a_run_continues_when_updates_succeed_again() {
    let (sessions, failures) = (Arc::new(Sessions::default()), AtomicUsize::new(0));
    let served = sessions.clone();
    let server = Server::start(move |request| match failures.fetch_add(1, SeqCst) {
        0..10 => page(502),
        _ => served.serve(request),
    });
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(30));
    let run = run(&server, &[&file, "--jobs", "2"]).exits(0);
    assert!(run.err.contains("didit: pausing for 1 s: "), "{run}");
    assert_eq!(sessions.applied(), [1; 30]);
}

#[test]
fn a_429_without_a_time_stops_the_run_after_max_outage() {
    let server = Server::start(|_| didit_json(429, json!({"detail": "Request was throttled."})));
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(50));
    let run = run(&server, &[&file, "--max-outage", "0.3"]).exits(6);
    assert!(run.err.contains("stopped: requests keep failing: "), "{run}");
    assert!(writes(&server) <= 4 + 2, "{}", writes(&server));
}

#[test]
fn a_requested_pause_of_a_day_stops_the_run_and_says_when_to_resume() {
    let body = json!({"detail": "Request was throttled."}).to_string();
    let server = Server::start(move |_| answer(429, &[("retry-after", "86400")], &body));
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(50));
    let run = run(&server, &[&file, "--jobs", "1"]).exits(6);
    assert!(run.err.contains("resume in 24 h or later, as the server asks"), "{run}");
    assert_eq!(writes(&server), 1);
}

#[test]
fn a_proxy_that_refuses_the_connection_stops_a_run_at_once() {
    for status in [401, 403, 407] {
        let proxy = Server::start(move |_| answer(status, &[], "<html>No</html>"));
        let dir = Directory::new();
        let file = dir.file("rows.csv", csv(50));
        let mut command = against(&proxy, &[&file, "--jobs", "1"]);
        command
            .env("DIDIT_BASE_URL", "https://sessions.test")
            .env("HTTPS_PROXY", proxy.url());
        let run = Run::of(&mut command).exits(6);
        let stopped = run
            .err
            .lines()
            .find(|line| line.starts_with("didit: stopped: "))
            .unwrap();
        assert!(
            stopped.contains("the proxy 127.0.0.1:") && stopped.contains(&format!("{status}")),
            "{run}"
        );
        assert!(!run.err.contains("pausing"), "{run}");
        assert_eq!(proxy.requests().len(), 1);
    }
}

#[test]
fn a_proxy_that_cannot_reach_didit_is_tried_again() {
    let proxy = Server::start(move |_| answer(502, &[], "<html>Bad gateway</html>"));
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(50));
    let mut command = against(&proxy, &[&file, "--max-outage", "0"]);
    command
        .env("DIDIT_BASE_URL", "https://sessions.test")
        .env("HTTPS_PROXY", proxy.url());
    let run = Run::of(&mut command).exits(6);
    assert!(run.err.contains("stopped: requests keep failing: "), "{run}");
    assert!(proxy.requests().len() > 8, "{}", proxy.requests().len());
}

#[cfg(feature = "rustls")]
#[test]
fn a_refused_tls_handshake_stops_a_run_at_once() {
    use std::io::{Read, Write};
    // The alerts handshake_failure, protocol_version and bad_certificate (RFC 8446 §6.2).
    for alert in [40, 70, 42] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let accepted = connections.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                accepted.fetch_add(1, SeqCst);
                let mut stream = stream.unwrap();
                let mut hello = [0; 4096];
                let _ = stream.read(&mut hello);
                let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, alert]);
            }
        });
        let dir = Directory::new();
        let file = dir.file("rows.csv", csv(50));
        let mut command = didit(&["batch", &file, "--jobs", "1"]);
        command.env("DIDIT_BASE_URL", url).env("DIDIT_API_KEY", "k");
        let run = Run::of(&mut command).exits(6);
        assert!(run.err.contains("didit: stopped: setting session "), "{run}");
        assert!(!run.err.contains("pausing"), "{run}");
        assert_eq!(connections.load(SeqCst), 1, "{run}");
        assert!(run.err.contains("50 not applied"), "{run}");
    }
}

#[test]
fn rows_that_were_not_applied_come_after_untouched_rows_in_the_next_run() {
    let (first, up) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let (seen, is_up, sessions) = (first.clone(), up.clone(), Sessions::default());
    let server = Server::start(move |request| {
        if request.method == "PATCH" {
            lock(&seen).push(session_of(request));
        }
        match is_up.load(SeqCst) {
            true => sessions.serve(request),
            false => didit_json(
                403,
                json!({"detail": "You do not have permission to perform this action."}),
            ),
        }
    });
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(40));
    run(&server, &[&file, "--jobs", "1", "--max-outage", "0"]).exits(4);
    let tried = lock(&first).len();
    assert_eq!(tried, 9);
    up.store(true, SeqCst);
    run(&server, &[&file, "--jobs", "1"]).exits(0);
    let expected: Vec<String> = (tried..40).chain(0..tried).map(id).collect();
    assert_eq!(lock(&first)[tried..], expected);
}

#[test]
fn closing_every_connection_after_one_response_loses_no_row() {
    let sessions = Arc::new(Sessions::default());
    let served = sessions.clone();
    let server = Server::start(move |request| {
        let mut steps = served.serve(request);
        steps.push(Step::Close);
        steps
    });
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(40));
    run(&server, &[&file]).exits(0);
    assert_eq!(sessions.applied(), [1; 40]);
}

#[test]
fn a_lost_connection_is_not_reused() {
    let (sessions, requests) = (Arc::new(Sessions::default()), AtomicUsize::new(0));
    let served = sessions.clone();
    // The second request of each connection is lost.
    let server = Server::start(move |request| {
        let lost = request.connection < 3 && requests.fetch_add(1, SeqCst) % 2 == 1;
        if lost { vec![Step::Close] } else { served.serve(request) }
    });
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(6));
    run(&server, &[&file, "--jobs", "1"]).exits(0);
    assert_eq!(sessions.applied(), [1; 6]);
}
