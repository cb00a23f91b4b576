//! A call retries as its policy says, within its deadline, and replaces a rejected or expired token once.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::support::{
    API_KEY, CLIENT_ID, CLIENT_SECRET, LONG, Request, Server, Step, answer, capture, confirmed, in_turn, quick_retries,
    session_id, session_is, token,
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
fn a_call_makes_as_many_retries_as_the_policy_allows() {
    for retries in [0, 1, 2, 7] {
        let server = Server::always(answer(503, &[], ""));
        let policy = quick_retries().max_retries(retries);
        let client = server.builder(api_key()).retry(policy).build().unwrap();
        let error = approve(&client).unwrap_err();
        let attempts = retries as usize + 1;
        assert_eq!(server.requests().len(), attempts);
        let says_so = error.to_string().contains(&format!("after {attempts} attempts"));
        assert_eq!(says_so, retries > 0, "{error}");
    }
}

#[test]
fn the_log_numbers_the_retries_of_a_session() {
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
    // The call continues, so these lines have neither a verdict nor advice.
    assert!(lines.clone().all(|line| line.matches("; ").count() == 1), "{logged}");
    let retries: Vec<_> = lines.map(|line| line.rsplit_once(" ms ").unwrap().1).collect();
    assert_eq!(retries, ["(retry 1 of 2)", "(retry 2 of 2)"], "{logged}");
}

#[test]
fn retry_after_and_rate_limit_reset_set_the_wait() {
    let (now, start) = (SystemTime::now(), Instant::now());
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
        // No wait, or an invalid one: the back-off applies.
        (429, after("0"), Some(Duration::ZERO)),
        (429, after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO)),
        (429, reset("1"), Some(SECOND)),
        (429, reset("1000000000"), Some(Duration::ZERO)),
        (429, [after("7"), after("30"), after("8")].concat(), Some(30 * SECOND)),
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
        let server = Server::undecided(answer(status, &headers, ""));
        let policy = quick_retries().max_wait(Duration::from_millis(1));
        let begin = Instant::now();
        let error = approve(&server.builder(api_key()).retry(policy).build().unwrap()).unwrap_err();
        let name = format!("{status} {headers:?}");
        assert!(begin.elapsed() < LONG, "{name}");
        // There is no retry if the wait is longer than the policy allows. An update in doubt is read all the same.
        let asked = expected.unwrap_or_default();
        let requests = match (status >= 500, asked.is_zero()) {
            (false, false) => "PATCH",
            (false, true) => "PATCH PATCH PATCH",
            (true, false) => "PATCH GET",
            (true, true) => "PATCH GET PATCH GET PATCH GET",
        };
        assert_eq!(server.methods(), requests, "{name}");
        assert_eq!(error.retry_after().is_some(), expected.is_some(), "{name}");
        // Until a moment that is given in whole seconds, less remains: since the test computed it, time has passed.
        let wait = error.retry_after().unwrap_or_default();
        let passed = if asked == 100 * SECOND {
            start.elapsed() + SECOND
        } else {
            Duration::ZERO
        };
        assert!(wait <= asked && wait + passed >= asked, "{name}: {wait:?}");
    }
}

#[test]
fn a_retry_waits_as_long_as_the_server_asks() {
    let server = Server::script(vec![answer(429, &[("retry-after", "1")], ""), confirmed()]);
    let start = Instant::now();
    approve(&server.api_key_client()).unwrap();
    assert!(start.elapsed() >= SECOND);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_token_request_with_too_long_a_retry_after_ends_the_call_at_once() {
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
fn a_call_ends_at_once_if_the_wait_would_outlast_the_deadline() {
    for (status, requests) in [(429, "PATCH"), (503, "PATCH GET")] {
        let server = Server::undecided(answer(status, &[("retry-after", "30")], ""));
        let client = server.builder(api_key()).deadline(20 * SECOND).build().unwrap();
        let start = Instant::now();
        let error = approve(&client).unwrap_err();
        assert_eq!(error.retry_after(), Some(30 * SECOND));
        assert_eq!(server.methods(), requests);
        assert!(start.elapsed() < 15 * SECOND);
    }
}

#[test]
fn a_call_makes_no_retry_that_the_deadline_would_likely_cut_off() {
    let server = Server::script(vec![answer(429, &[("retry-after", "2")], ""), vec![Step::Stall]]);
    // After the wait at most 300 ms would be left.
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
fn the_deadline_limits_an_attempt() {
    let deadline = SECOND;
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
    assert!(start.elapsed() < LONG);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn the_deadline_limits_all_attempts_together() {
    let server = Server::always(vec![Step::Stall]);
    let policy = quick_retries().max_retries(1_000_000);
    let builder = server
        .builder(api_key())
        .timeout(Duration::from_millis(300))
        .retry(policy);
    let client = builder.deadline(Duration::from_millis(1500)).build().unwrap();
    let start = Instant::now();
    let error = approve(&client).unwrap_err();
    assert_eq!((error.kind(), error.verdict()), (ErrorKind::Timeout, Verdict::Unknown));
    assert!(start.elapsed() < LONG);
    let attempts = server.requests().len();
    assert!((2..=6).contains(&attempts), "{attempts}");
}

#[test]
fn the_deadline_limits_token_requests() {
    let check = |steps: Vec<Step>| {
        let server = Server::start(move |request| {
            assert!(request.is_token_request());
            steps.clone()
        });
        let builder = server.builder(client_credentials()).timeout(60 * SECOND);
        let client = builder.deadline(SECOND).build().unwrap();
        let start = Instant::now();
        let error = approve(&client).unwrap_err();
        assert_eq!(error.verdict(), Verdict::NotApplied);
        assert!(error.is_retryable(), "{error}");
        assert!(start.elapsed() < LONG);
        assert_eq!(server.requests().len(), 1);
    };
    thread::scope(|scope| {
        for steps in [
            vec![Step::Stall],
            answer(503, &[("retry-after", "30")], ""),
            vec![Step::Drip(b"HTTP/1.1 103 Wait\r\n\r\n".repeat(200))],
        ] {
            scope.spawn(move || check(steps));
        }
    });
}

#[test]
fn the_token_request_and_the_update_share_the_deadline() {
    let server = Server::start(|request| match request.is_token_request() {
        true => {
            thread::sleep(SECOND);
            token("token")
        }
        false => vec![Step::Stall],
    });
    let builder = server.builder(client_credentials()).timeout(60 * SECOND);
    let client = builder.deadline(2 * SECOND).build().unwrap();
    let start = Instant::now();
    let error = approve(&client).unwrap_err();
    assert_eq!(
        (error.kind(), error.verdict()),
        (ErrorKind::Timeout, Verdict::Unknown),
        "{error}"
    );
    // With a deadline of its own, the update would take until 3 s.
    assert!(start.elapsed() < Duration::from_millis(2900));
    assert_eq!(server.session_requests().len(), 1);
}

#[test]
fn replacing_a_refused_token_does_not_count_as_a_retry() {
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
fn resubmitted_is_sent_again_with_a_new_token() {
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
fn a_second_refused_token_is_an_authentication_error() {
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
    // The next call is not affected.
    approve(&client).unwrap();
}

#[test]
fn a_call_replaces_a_refused_token_only_once() {
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
fn a_refused_api_key_is_not_retried() {
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
    let updates = in_turn(vec![answer(503, &[], ""), session_is("In Review"), confirmed()]);
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
        ["Bearer token-1", "Bearer token-2", "Bearer token-2"]
    );
}

#[test]
fn threads_replace_a_refused_token_with_one_request() {
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
    let client = server.builder(client_credentials()).build().unwrap();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| approve(&client).unwrap());
        }
    });
    assert_eq!(server.token_requests().len(), 2);
    assert_eq!(server.session_requests().len(), 2 * THREADS);
}

/// Makes updates from 32 threads at once. All of them begin before the token request is answered.
fn stampede(token_answer: Vec<Step>) -> (Server, Vec<Result<UpdatedSession>>) {
    const THREADS: usize = 32;
    let (ready, begun) = (Barrier::new(THREADS), Arc::new(AtomicUsize::new(0)));
    let all_begun = begun.clone();
    let server = Server::start(move |request| match request.is_token_request() {
        true => {
            // What a thread does once it has begun cannot be observed. This is plenty of time to ask for a token.
            while all_begun.load(SeqCst) < THREADS {
                thread::sleep(Duration::from_millis(1));
            }
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
            begun.fetch_add(1, SeqCst);
            approve(&client)
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    (server, results)
}

#[test]
fn threads_share_one_token_request() {
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
fn a_call_fetches_a_token_again_after_a_failure() {
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
fn clones_share_the_token_and_the_connection() {
    let server = Server::script(vec![confirmed(), confirmed()]);
    let client = server.client();
    approve(&client).unwrap();
    approve(&client.clone()).unwrap();
    assert_eq!((server.token_requests().len(), server.connections()), (1, 1));
}

#[test]
fn a_wait_until_a_date_uses_the_servers_clock() {
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
fn an_update_is_not_sent_if_less_than_a_fifth_of_the_deadline_is_left() {
    let server = Server::start(|request| {
        if request.is_token_request() {
            thread::sleep(Duration::from_millis(2450));
            token("token")
        } else {
            confirmed()
        }
    });
    let client = server.builder(client_credentials()).deadline(3 * SECOND);
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

#[test]
fn a_client_with_another_deadline_shares_the_token_and_the_connection() {
    let server = Server::script(vec![confirmed(), confirmed()]);
    let client = server.client();
    approve(&client).unwrap();
    approve(&client.with_deadline(LONG)).unwrap();
    assert_eq!(server.token_requests().len(), 1);
    assert_eq!(server.connections(), 1);
}

#[test]
fn the_deadline_of_one_client_does_not_limit_the_one_it_was_made_from() {
    let server = Server::script(vec![vec![Step::Stall], confirmed()]);
    let client = server.builder(api_key()).deadline(LONG).build().unwrap();
    let (hurried, start) = (client.with_deadline(SECOND), Instant::now());
    let error = approve(&hurried).unwrap_err();
    assert_eq!((error.kind(), error.verdict()), (ErrorKind::Timeout, Verdict::Unknown));
    assert!(start.elapsed() < LONG);
    approve(&client).unwrap();
}

#[test]
fn without_any_time_nothing_is_sent() {
    let server = Server::script(vec![]);
    for credentials in [api_key(), client_credentials()] {
        let client = server
            .builder(credentials)
            .build()
            .unwrap()
            .with_deadline(Duration::ZERO);
        let undecided = |status: &didit::SessionStatus| !status.is_decided();
        for error in [
            approve(&client).unwrap_err(),
            client.session(&session_id()).unwrap_err(),
            client
                .ensure_status_if(&session_id(), &StatusUpdate::approved(), undecided)
                .unwrap_err(),
            client.authenticate().unwrap_err(),
        ] {
            assert_eq!(
                (error.kind(), error.verdict()),
                (ErrorKind::Timeout, Verdict::NotApplied),
                "{error}"
            );
        }
    }
    assert_eq!(server.connections(), 0);
}

#[test]
fn a_call_takes_two_minutes_at_most_by_default() {
    let server = Server::script(vec![]);
    let client = server.client();
    assert!(format!("{client:?}").contains(" deadline: 120s,"), "{client:?}");
    // A wait that would outlast it ends the call.
    let patient = quick_retries().max_wait(DAY);
    let server = Server::script(vec![answer(429, &[("retry-after", "121")], "")]);
    approve(&server.builder(api_key()).retry(patient.clone()).build().unwrap()).unwrap_err();
    let builder = server.builder(api_key()).deadline(Duration::MAX).retry(patient);
    assert!(format!("{:?}", builder.build().unwrap()).contains(" deadline: 18446744073709551615.999999999s"));
}

#[test]
fn a_refused_token_is_never_sent_again_even_if_its_replacement_is_refused_too() {
    let refused = || answer(401, &[], r#"{"detail":"Token revoked."}"#);
    let server = Server::script(vec![refused(); 4]);
    let client = server.client();
    for _ in 0..2 {
        let error = approve(&client).unwrap_err();
        assert_eq!(
            (error.kind(), error.verdict()),
            (ErrorKind::Authentication, Verdict::NotApplied)
        );
        let text = error.to_string();
        assert!(text.contains("another process may have fetched a token"), "{text}");
        assert!(text.contains("DIDIT_TOKEN_FILE"), "{text}");
    }
    assert_eq!(
        bearers(&server.session_requests()),
        ["Bearer token-1", "Bearer token-2", "Bearer token-3", "Bearer token-4"]
    );
}
