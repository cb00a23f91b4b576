//! A batch never exceeds its rate, and pauses if Didit asks.

use std::sync::Arc;

use super::*;

#[test]
fn a_429_pauses_every_worker_for_the_requested_time() {
    let (sessions, times) = (Arc::new(Sessions::default()), Arc::new(Mutex::new(Vec::new())));
    let (served, arrived) = (sessions.clone(), times.clone());
    let body = json!({"detail": "Request was throttled."}).to_string();
    let server = Server::start(move |request| {
        let mut arrived = lock(&arrived);
        arrived.push(Instant::now());
        match arrived.len() {
            1 => answer(429, &[("retry-after", "2")], &body),
            _ => served.serve(request),
        }
    });
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(300));
    run(&server, &[&file, "--jobs", "5"]).exits(0);
    let times = lock(&times);
    let since: Vec<f64> = times.iter().map(|at| (*at - times[0]).as_secs_f64()).collect();
    // Requests in flight at that time may still arrive.
    assert!(!since.iter().any(|at| (1.0..1.99).contains(at)), "{since:?}");
    assert!(since.iter().any(|at| *at >= 1.99), "{since:?}");
    assert_eq!(sessions.applied(), [1; 300]);
}

#[test]
fn a_rate_limit_that_is_reached_costs_only_pauses() {
    let (sandbox, dir) = (Sandbox::start(&["--rate-limit", "20/1"]), Directory::new());
    let file = dir.file("rows.csv", csv(25));
    batch(&sandbox, &file, &["--jobs", "1"]).exits(0);
    let mut statuses: Vec<u64> = sandbox
        .updates()
        .iter()
        .map(|entry| entry["status"].as_u64().unwrap())
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses[..25], [200; 25]);
    // Each 429 is followed by a pause that the sandbox asked for, so there are few.
    assert!((1..=3).contains(&(statuses.len() - 25)), "{statuses:?}");
}

#[test]
fn the_rate_limit_headers_of_ordinary_responses_do_not_change_the_pace() {
    let sessions = Sessions::default();
    let server = Server::start(move |request| {
        let id = session_of(request);
        sessions.serve(request);
        let limit = [
            ("x-ratelimit-limit", "300"),
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "60"),
        ];
        answer(200, &limit, json!({"session_id": id}).to_string())
    });
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(20));
    let start = Instant::now();
    run(&server, &[&file]).exits(0);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(server.requests().len(), 20);
}

#[test]
fn requests_are_spread_evenly_and_at_most_at_the_rate() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(31));
    let start = Instant::now();
    Run::of(&mut sandbox.with_key(&["batch", &file, "--rate", "1800"])).exits(0);
    // 30 intervals of a thirtieth of a second. If the first request is late, the others may follow sooner.
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    let times: Vec<f64> = sandbox
        .updates()
        .iter()
        .map(|entry| entry["at"].as_f64().unwrap())
        .collect();
    let took = times.iter().cloned().fold(0.0, f64::max) - times.iter().cloned().fold(f64::MAX, f64::min);
    assert!(took < 1.9, "{took}");
}
