//! What is repeated, how often and after how long; tokens that are refused or expire on the way; the deadline over it all.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::support::{
    API_KEY, CLIENT_ID, CLIENT_SECRET, Request, Server, Step, answer, capture, confirmed, in_turn, quick_retries,
    session_id, token,
};
use didit::{
    ApiVersion, Client, Credentials, ErrorKind, Node, Result, RetryPolicy, SessionId, StatusUpdate, UpdatedSession,
    Verdict,
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86400);

fn approve(client: &Client) -> Result<UpdatedSession> {
    client.update_status(&session_id(), &StatusUpdate::approved())
}

fn api_key() -> Credentials {
    Credentials::api_key(API_KEY)
}

fn client_credentials() -> Credentials {
    Credentials::client(CLIENT_ID, CLIENT_SECRET)
}

fn bearers(requests: &[Request]) -> Vec<&str> {
    requests
        .iter()
        .map(|request| request.header("authorization").unwrap())
        .collect()
}

#[test]
fn a_failure_is_repeated_as_often_as_the_policy_says() {
    for retries in [0, 1, 2, 7] {
        let server = Server::always(answer(503, &[], ""));
        let policy = quick_retries().max_retries(retries);
        let client = server.builder(api_key()).retry(policy).build().unwrap();
        let error = approve(&client).unwrap_err();
        let attempts = retries as usize + 1;
        assert_eq!(server.requests().len(), attempts);
        let told = error.to_string().contains(&format!("after {attempts} attempts"));
        assert_eq!(told, retries > 0, "{error}");
    }
}

#[test]
fn the_log_says_which_retry_it_is_and_of_which_session() {
    capture::start();
    let session: SessionId = "retries-in-the-log".parse().unwrap();
    let server = Server::always(answer(503, &[], ""));
    let policy = quick_retries().max_retries(2);
    let client = server.builder(api_key()).retry(policy).build().unwrap();
    client.update_status(&session, &StatusUpdate::approved()).unwrap_err();
    let logged = capture::logged();
    let lines = logged
        .lines()
        .filter(|line| line.contains("setting session retries-in-the-log"));
    // The call goes on: no verdict yet, and no advice.
    assert!(lines.clone().all(|line| line.matches("; ").count() == 1), "{logged}");
    let retries: Vec<_> = lines.map(|line| line.rsplit_once(" ms ").unwrap().1).collect();
    assert_eq!(retries, ["(1 of 2 retries)", "(2 of 2 retries)"], "{logged}");
}

#[test]
fn the_answer_says_how_long_to_wait() {
    let now = SystemTime::now();
    let date = |time| httpdate::fmt_http_date(time);
    let unix = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs()
            .to_string()
    };
    let soon = now + 100 * SECOND;
    let after = |value: &str| vec![("retry-after", value.to_owned())];
    let reset = |value: &str| vec![("x-ratelimit-reset", value.to_owned())];
    for (status, headers, expected) in [
        (429, after("7"), Some(7 * SECOND)),
        (429, after("  7  "), Some(7 * SECOND)),
        (429, after("86401"), Some(DAY)),
        (429, after("18446744073709551616"), Some(DAY)),
        (429, after(&"9".repeat(5000)), Some(DAY)),
        (429, after(&date(soon)), Some(100 * SECOND)),
        (429, after("Fri, 31 Dec 9999 23:59:59 GMT"), Some(DAY)),
        (429, after("Friday, 31-Dec-60 23:59:59 GMT"), Some(DAY)),
        (429, after("Fri Dec 31 23:59:59 9999"), Some(DAY)),
        (429, reset(&unix(soon)), Some(100 * SECOND)),
        (429, reset("18446744073709551615"), Some(DAY)),
        (429, [after("7"), reset(&unix(soon))].concat(), Some(7 * SECOND)),
        (429, [after("soon"), reset(&unix(soon))].concat(), Some(100 * SECOND)),
        (503, after("7"), Some(7 * SECOND)),
        (503, after("6.5"), Some(7 * SECOND)),
        (425, after("7.0"), Some(7 * SECOND)),
        (429, reset(&(unix(soon) + "000")), Some(100 * SECOND)),
        (500, after("7"), Some(7 * SECOND)),
        // What asks for no wait, or cannot be read: the back-off.
        (429, after("0"), Some(Duration::ZERO)),
        (429, after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO)),
        (429, reset("1"), Some(Duration::ZERO)),
        (429, after("-1"), None),
        (429, after("+1"), None),
        (429, after("1.5s"), None),
        (429, after("soon"), None),
        (429, after(""), None),
        (429, after("Sun, 06 Nov 1994 25:49:37 GMT"), None),
        (429, reset("-1"), None),
        (429, reset(&date(soon)), None),
        (503, reset(&unix(soon)), None),
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let server = Server::always(answer(status, &headers, ""));
        let policy = quick_retries().max_wait(Duration::from_millis(1));
        let start = Instant::now();
        let error = approve(&server.builder(api_key()).retry(policy).build().unwrap()).unwrap_err();
        let name = format!("{status} {headers:?}");
        assert!(start.elapsed() < 5 * SECOND, "{name}");
        assert!(error.is_retryable(), "{name}");

        // A wait that is longer than the policy allows is not begun.
        let asked = expected.unwrap_or_default();
        assert_eq!(server.requests().len(), if asked.is_zero() { 3 } else { 1 }, "{name}");
        let told = error.retry_after();
        assert_eq!(told.is_some(), expected.is_some(), "{name}");
        // Whole seconds of a moment in the future: the last one has begun, and the test took its time.
        let told = told.unwrap_or_default();
        let slack = if asked == 100 * SECOND {
            5 * SECOND
        } else {
            Duration::ZERO
        };
        assert!(told <= asked && told + slack >= asked, "{name}: {told:?}");
    }
}

#[test]
fn a_wait_that_the_server_asks_for_is_kept() {
    let server = Server::script(vec![answer(429, &[("retry-after", "1")], ""), confirmed()]);
    let start = Instant::now();
    approve(&server.api_key_client()).unwrap();
    assert!(start.elapsed() >= SECOND);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_token_request_that_is_told_to_wait_too_long_ends_the_call_at_once() {
    let server = Server::start(in_turn(vec![answer(429, &[("retry-after", "3600")], "")]));
    let error = approve(&server.client()).unwrap_err();
    assert_eq!(
        (error.kind(), error.verdict()),
        (ErrorKind::RateLimited, Verdict::NotApplied)
    );
    assert_eq!(error.retry_after(), Some(3600 * SECOND));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn no_wait_is_begun_that_would_outlast_the_deadline() {
    for steps in [
        answer(429, &[("retry-after", "30")], ""),
        answer(503, &[("retry-after", "30")], ""),
    ] {
        let server = Server::always(steps);
        let client = server.builder(api_key()).deadline(20 * SECOND).build().unwrap();
        let start = Instant::now();
        let error = approve(&client).unwrap_err();
        assert_eq!(error.retry_after(), Some(30 * SECOND));
        assert!(error.is_retryable());
        assert_eq!(server.requests().len(), 1);
        assert!(start.elapsed() < 10 * SECOND);
    }
}

#[test]
fn a_retry_that_would_likely_be_cut_off_is_not_begun_and_the_refusal_stands() {
    let server = Server::script(vec![answer(429, &[("retry-after", "2")], ""), vec![Step::Stall]]);
    // After the wait 300 ms of it would be left, at most.
    let builder = server.builder(api_key()).deadline(Duration::from_millis(2300));
    let error = approve(&builder.build().unwrap()).unwrap_err();
    assert_eq!(
        (error.kind(), error.verdict()),
        (ErrorKind::RateLimited, Verdict::NotApplied),
        "{error}"
    );
    assert_eq!(error.retry_after(), Some(2 * SECOND));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn the_deadline_bounds_an_attempt() {
    let deadline = Duration::from_millis(200);
    let server = Server::always(vec![Step::Stall]);
    let client = server
        .builder(api_key())
        .timeout(60 * SECOND)
        .deadline(deadline)
        .build()
        .unwrap();
    let start = Instant::now();
    let error = approve(&client).unwrap_err();
    assert_eq!((error.kind(), error.verdict()), (ErrorKind::Timeout, Verdict::Unknown));
    assert!(start.elapsed() >= deadline);
    assert!(start.elapsed() < 10 * SECOND);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn the_deadline_bounds_many_attempts_together() {
    let server = Server::always(vec![Step::Stall]);
    let policy = quick_retries().max_retries(1_000_000);
    let builder = server
        .builder(api_key())
        .timeout(Duration::from_millis(40))
        .retry(policy);
    let client = builder.deadline(Duration::from_millis(400)).build().unwrap();
    let start = Instant::now();
    let error = approve(&client).unwrap_err();
    assert_eq!((error.kind(), error.verdict()), (ErrorKind::Timeout, Verdict::Unknown));
    assert!(start.elapsed() < 10 * SECOND);
    let attempts = server.requests().len();
    assert!((2..=12).contains(&attempts), "{attempts}");
}

#[test]
fn the_deadline_bounds_the_token_request_too() {
    for steps in [
        vec![Step::Stall],
        answer(503, &[("retry-after", "30")], ""),
        vec![Step::Drip(b"HTTP/1.1 103 Wait\r\n\r\n".repeat(50))],
    ] {
        let server = Server::start(move |request| {
            assert!(request.is_token_request());
            steps.clone()
        });
        let builder = server.builder(client_credentials()).timeout(60 * SECOND);
        let client = builder.deadline(Duration::from_millis(200)).build().unwrap();
        let start = Instant::now();
        let error = approve(&client).unwrap_err();
        assert_eq!(error.verdict(), Verdict::NotApplied);
        assert!(error.is_retryable(), "{error}");
        assert!(start.elapsed() < 10 * SECOND);
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn what_the_token_request_takes_is_no_longer_there_for_the_update() {
    let server = Server::start(|request| match request.is_token_request() {
        true => [vec![Step::Drip(b"HTTP/1.1 103 Wait\r\n\r\n".to_vec())], token("token")].concat(),
        false => vec![Step::Stall],
    });
    let builder = server.builder(client_credentials()).timeout(60 * SECOND);
    let client = builder.deadline(Duration::from_millis(600)).build().unwrap();
    let start = Instant::now();
    let error = approve(&client).unwrap_err();
    assert_eq!(
        (error.kind(), error.verdict()),
        (ErrorKind::Timeout, Verdict::Unknown),
        "{error}"
    );
    assert!(start.elapsed() < 5 * SECOND);
    assert_eq!(server.session_requests().len(), 1);
}

#[test]
fn a_refused_token_is_replaced_once_and_that_is_no_retry() {
    let server = Server::script(vec![answer(401, &[], ""), confirmed()]);
    let client = server
        .builder(client_credentials())
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    approve(&client).unwrap();
    assert_eq!(server.token_requests().len(), 2);
    let updates = server.session_requests();
    assert_eq!(bearers(&updates), ["Bearer token-1", "Bearer token-2"]);
    assert_eq!(updates[0].body, updates[1].body);
}

#[test]
fn an_update_that_must_not_be_repeated_is_sent_again_with_a_new_token() {
    let server = Server::script(vec![answer(401, &[], ""), confirmed()]);
    let builder = server.builder(client_credentials()).api_version(ApiVersion::V3);
    let update = StatusUpdate::resubmitted([Node::new("feature_ocr_1", "OCR")]);
    builder.build().unwrap().update_status(&session_id(), &update).unwrap();
    assert_eq!(
        bearers(&server.session_requests()),
        ["Bearer token-1", "Bearer token-2"]
    );
}

#[test]
fn a_second_refusal_is_an_authentication_error() {
    let server = Server::script(vec![
        answer(401, &[], ""),
        answer(401, &[], r#"{"detail":"Not yours"}"#),
        confirmed(),
    ]);
    let client = server.client();
    let error = approve(&client).unwrap_err();
    assert_eq!(
        (error.kind(), error.verdict()),
        (ErrorKind::Authentication, Verdict::NotApplied)
    );
    assert!(!error.is_retryable());
    assert_eq!((error.status(), error.message()), (Some(401), Some("Not yours")));
    assert_eq!((server.session_requests().len(), server.token_requests().len()), (2, 2));
    // The next call is not tainted by it.
    approve(&client).unwrap();
}

#[test]
fn a_refused_token_is_replaced_once_in_all_attempts_of_a_call() {
    let turns = vec![answer(401, &[], ""), answer(503, &[], ""), answer(401, &[], "")];
    let server = Server::script(turns);
    let error = approve(&server.client()).unwrap_err();
    assert_eq!(
        (error.kind(), error.verdict()),
        (ErrorKind::Authentication, Verdict::Unknown)
    );
    assert_eq!(
        bearers(&server.session_requests()),
        ["Bearer token-1", "Bearer token-2", "Bearer token-2"]
    );
}

#[test]
fn a_refused_api_key_is_final() {
    let server = Server::script(vec![answer(401, &[], r#"{"detail":"No such key"}"#)]);
    let error = approve(&server.api_key_client()).unwrap_err();
    assert_eq!(
        (error.kind(), error.verdict()),
        (ErrorKind::Authentication, Verdict::NotApplied)
    );
    assert!(!error.is_retryable());
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_token_that_expires_between_two_attempts_is_replaced() {
    let fetched = AtomicUsize::new(0);
    let updates = in_turn(vec![answer(503, &[], ""), confirmed()]);
    let server = Server::start(move |request| {
        if request.is_token_request() {
            let number = fetched.fetch_add(1, SeqCst) + 1;
            return answer(
                200,
                &[],
                format!(r#"{{"access_token":"token-{number}","expires_in":1}}"#),
            );
        }
        if request.header("authorization") == Some("Bearer token-1") {
            thread::sleep(SECOND);
        }
        updates(request)
    });
    approve(&server.client()).unwrap();
    assert_eq!(
        bearers(&server.session_requests()),
        ["Bearer token-1", "Bearer token-2"]
    );
}

#[test]
fn threads_that_are_refused_the_same_token_share_one_new_token() {
    const THREADS: usize = 64;
    let (fetched, refused) = (AtomicUsize::new(0), Barrier::new(THREADS));
    let server = Server::start(move |request| {
        if request.is_token_request() {
            return token(&format!("token-{}", fetched.fetch_add(1, SeqCst) + 1));
        }
        if request.header("authorization") == Some("Bearer token-1") {
            refused.wait();
            return answer(401, &[], "");
        }
        confirmed()
    });
    let client = server
        .builder(client_credentials())
        .timeout(30 * SECOND)
        .build()
        .unwrap();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| approve(&client).unwrap());
        }
    });
    assert_eq!(server.token_requests().len(), 2);
    assert_eq!(server.session_requests().len(), 2 * THREADS);
}

/// Updates from 32 threads at once, all of them under way before the token request is answered.
fn stampede(token_answer: Vec<Step>) -> (Server, Vec<Result<UpdatedSession>>) {
    const THREADS: usize = 32;
    let ready = Barrier::new(THREADS);
    let server = Server::start(move |request| match request.is_token_request() {
        true => {
            // Whether a thread waits nobody can see from here; this is long for it to get there.
            thread::sleep(Duration::from_millis(300));
            token_answer.clone()
        }
        false => confirmed(),
    });
    let client = server
        .builder(client_credentials())
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    let results = thread::scope(|scope| {
        let start = || {
            ready.wait();
            approve(&client)
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    (server, results)
}

#[test]
fn threads_share_the_first_token_request() {
    let (server, results) = stampede(token("token"));
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(server.token_requests().len(), 1);
    assert_eq!(server.session_requests().len(), 32);
}

#[test]
fn threads_share_a_failed_token_request() {
    let (server, results) = stampede(answer(500, &[], ""));
    for error in results.into_iter().map(Result::unwrap_err) {
        assert_eq!(
            (error.kind(), error.verdict()),
            (ErrorKind::Server, Verdict::NotApplied)
        );
        assert!(error.is_retryable());
    }
    assert_eq!(server.token_requests().len(), 1);
    assert_eq!(server.session_requests().len(), 0);
}

#[test]
fn a_failed_token_request_is_not_held_against_the_next_call() {
    let tokens = in_turn(vec![answer(400, &[], ""), token("token")]);
    let server = Server::start(move |request| {
        if request.is_token_request() {
            tokens(request)
        } else {
            confirmed()
        }
    });
    let client = server.client();
    approve(&client).unwrap_err();
    approve(&client).unwrap();
    assert_eq!(server.token_requests().len(), 2);
}

#[test]
fn clones_share_token_and_connection() {
    let server = Server::script(vec![confirmed(), confirmed()]);
    let client = server.client();
    approve(&client).unwrap();
    approve(&client.clone()).unwrap();
    assert_eq!((server.token_requests().len(), server.connections()), (1, 1));
}

#[test]
fn a_wait_until_a_moment_is_reckoned_by_the_servers_own_clock() {
    let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
    for asked in [
        ("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT"),
        ("x-ratelimit-reset", "784111787"),
    ] {
        let server = Server::always(answer(429, &[date, asked], ""));
        let client = server.builder(api_key()).retry(RetryPolicy::none()).build().unwrap();
        let error = approve(&client).unwrap_err();
        assert_eq!(error.retry_after(), Some(10 * SECOND), "{asked:?}: {error}");
        assert!(
            error.to_string().ends_with("the server asks you to wait 10 s"),
            "{error}"
        );
    }
}

#[test]
fn an_update_is_not_begun_when_the_token_has_eaten_the_deadline() {
    let text = r#"{"access_token":"token","expires_in":86400}"#;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", text.len());
    // 10 ms a byte: the end of it takes more than four fifths of the deadline, if not all of it.
    let (quick, slow) = text.split_at(text.len() - 42);
    let steps = vec![Step::Send((head + quick).into_bytes()), Step::Drip(slow.into())];
    let server = Server::start(move |request| {
        if request.is_token_request() {
            steps.clone()
        } else {
            confirmed()
        }
    });
    let client = server
        .builder(client_credentials())
        .deadline(Duration::from_millis(500));
    let error = approve(&client.build().unwrap()).unwrap_err();
    assert_eq!(
        (error.kind(), error.verdict()),
        (ErrorKind::Timeout, Verdict::NotApplied),
        "{error}"
    );
    assert_eq!((server.token_requests().len(), server.session_requests().len()), (1, 0));
}

#[test]
fn an_update_is_not_sent_when_connecting_leaves_less_than_a_fifth_of_the_deadline() {
    let server = Server::start(|request| {
        // The token takes most of the deadline.
        thread::sleep(Duration::from_millis(2600));
        if request.is_token_request() {
            token("token")
        } else {
            confirmed()
        }
    });
    let client = server.builder(client_credentials()).deadline(Duration::from_secs(3));
    let error = approve(&client.build().unwrap()).unwrap_err();
    assert_eq!(
        (error.kind(), error.verdict()),
        (ErrorKind::Timeout, Verdict::NotApplied),
        "{error}"
    );
    let words = "the deadline left too little time to send the update";
    assert!(error.to_string().contains(words), "{error}");
    assert!(error.is_retryable());
    assert_eq!((server.token_requests().len(), server.session_requests().len()), (1, 0));
}
