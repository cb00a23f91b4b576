//! `Client::rate_limit` returns the limit that the latest response to an update reported, while it lasts.

use std::time::{Duration, UNIX_EPOCH};

use didit::{Client, Credentials, RetryPolicy, SessionId, StatusUpdate};

use crate::support::{SESSION, Server, answer, session_id};

#[test]
fn clones_share_the_rate_limit_of_the_latest_response_even_of_an_error() {
    let mut server = mockito::Server::new();
    let builder = Client::builder(Credentials::api_key("key"))
        .base_url(server.url())
        .proxy("");
    let client = builder.retry(RetryPolicy::none()).build().unwrap();
    let clone = client.clone();
    let id: SessionId = "abc".parse().unwrap();
    let mut answer = |status, body: &str, headers: &[(&str, &str)]| {
        let mut mock = server.mock("PATCH", "/v3/session/abc/update-status/");
        for (name, value) in headers {
            mock = mock.with_header(*name, value);
        }
        let mock = mock.with_status(status).with_body(body).create();
        let result = client.update_status(&id, &StatusUpdate::approved());
        mock.assert();
        result
    };
    assert_eq!(clone.rate_limit(), None);

    let headers = [
        ("x-ratelimit-limit", "300"),
        ("x-ratelimit-remaining", "44"),
        ("x-ratelimit-reset", "1700000000"),
        ("date", "Tue, 14 Nov 2023 22:12:50 GMT"),
    ];
    answer(200, r#"{"session_id":"abc"}"#, &headers).unwrap();
    let seen = clone.rate_limit().unwrap();
    assert_eq!((seen.limit, seen.remaining), (300, 44));
    assert_eq!(seen.reset, Some(UNIX_EPOCH + Duration::from_secs(1_700_000_000)));
    let left = seen.reset_after.unwrap();
    let seconds = Duration::from_secs;
    assert!(
        left <= seconds(30) && left > seconds(20),
        "by the server's clock: {left:?}"
    );
    let later = clone.rate_limit().unwrap().reset_after.unwrap();
    assert!(later < left, "it counts down");

    let headers = [
        headers[0],
        headers[1],
        ("x-ratelimit-reset", "1700000000250"),
        headers[3],
    ];
    answer(200, r#"{"session_id":"abc"}"#, &headers).unwrap();
    let seen = clone.rate_limit().unwrap();
    let left = seen.reset_after.unwrap();
    assert!(
        left > seconds(30) && left <= Duration::from_millis(30_250),
        "milliseconds: {left:?}"
    );

    let headers = [("x-ratelimit-limit", "300"), ("x-ratelimit-remaining", "0")];
    answer(429, "{}", &headers).unwrap_err();
    let seen = clone.rate_limit().unwrap();
    assert_eq!((seen.remaining, seen.reset), (0, None));

    // A response without a valid rate limit keeps the previous one.
    answer(
        404,
        "{}",
        &[("x-ratelimit-limit", "many"), ("x-ratelimit-remaining", "-1")],
    )
    .unwrap_err();
    assert_eq!(clone.rate_limit(), Some(seen));

    // A window that is over says nothing.
    let headers = [
        ("x-ratelimit-limit", "300"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset", "1700000000"),
        ("date", "Tue, 14 Nov 2023 22:13:21 GMT"),
    ];
    answer(200, r#"{"session_id":"abc"}"#, &headers).unwrap();
    assert_eq!(clone.rate_limit(), None);
}

#[test]
fn the_rate_limit_of_reads_is_not_that_of_updates() {
    let limit = |left| [("x-ratelimit-limit", "300"), ("x-ratelimit-remaining", left)];
    let body = format!(r#"{{"session_id":"{SESSION}","status":"In Review"}}"#);
    let read = |left| answer(200, &limit(left), &body);
    let updated = answer(200, &limit("7"), format!(r#"{{"session_id":"{SESSION}"}}"#));
    let server = Server::script(vec![read("99"), updated, read("98")]);
    let client = server.api_key_client();
    client.session(&session_id()).unwrap();
    assert_eq!(client.rate_limit(), None);
    client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
    client.session(&session_id()).unwrap();
    assert_eq!(client.rate_limit().unwrap().remaining, 7);
}

#[test]
fn the_documented_condition_for_slowing_down_never_overflows() {
    let condition = "limit.remaining.saturating_mul(100) < limit.limit.saturating_mul(15)";
    assert!(include_str!("../../src/client.rs").contains(condition));
    let is_low = |limit: u64, remaining: u64| remaining.saturating_mul(100) < limit.saturating_mul(15);
    for (limit, remaining, low) in [
        (300, 44, true),
        (300, 45, false),
        (300, u64::MAX, false),
        (u64::MAX, 0, true),
    ] {
        assert_eq!(is_low(limit, remaining), low, "{remaining} of {limit}");
    }
}
