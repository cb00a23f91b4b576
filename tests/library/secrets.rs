//! Logs, `Debug` and `Display` never show a secret, even if the server echoes it.

use std::fmt::Debug;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use didit::{Client, Credentials, Error, ErrorKind, Node, RetryPolicy, SessionId, StatusUpdate};
use serde_json::json;

use crate::support::capture;
use crate::support::{
    API_KEY, CLIENT_ID, Request, SESSION, Server, Step, answer, confirmed, quick_retries, session_id, token,
};

const SECRET: &str = "s3cr3t-Qx7vK2mPz9LwT4nB";
const TOKEN: &str = "eyJhbGciOi.J9Zk2pXo7RwQ.v5-TbYdN_3uFhC";
const KEY: &str = "k3y-Hs8dWq1JvR6yMx0GtE5";

const LOOPBACK: &str = "http://127.0.0.1:1";

fn secrets() -> [String; 4] {
    let basic = BASE64_STANDARD.encode(format!("{CLIENT_ID}:{SECRET}"));
    [SECRET.into(), TOKEN.into(), KEY.into(), basic]
}

fn assert_hides_secrets(text: &str) {
    for secret in secrets() {
        capture::assert_hidden(text, &secret);
    }
}

fn assert_debug_hides_secrets(value: &impl Debug) {
    assert_hides_secrets(&format!("{value:?} {value:#?}"));
}

fn assert_error_hides_secrets(error: &Error) {
    assert_debug_hides_secrets(error);
    assert_hides_secrets(&format!(
        "{error} {:?} {:?} {:?}",
        error.message(),
        error.code(),
        error.request_id()
    ));
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        assert_hides_secrets(&format!("{cause} {cause:?} {cause:#?}"));
        source = cause.source();
    }
}

/// Everything in the request, and the credentials that a server can decode from it.
fn echo(request: &Request) -> String {
    let headers: Vec<_> = request
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let known = match request.header("x-api-key") {
        Some(key) => key.to_owned(),
        None => format!("{CLIENT_ID}:{SECRET}"),
    };
    let body = request.text().replace('"', "'");
    format!("{} {body} [{known}]", headers.join("; "))
}

/// The documented shapes of an error body and some others, with `text` in every place that can hold it.
fn shapes(text: &str) -> Vec<String> {
    let far = |place: usize| format!("{}{text}", "x".repeat(place));
    let mut shapes = vec![
        json!({"detail": text}),
        json!({"detail": "no", "code": text}),
        json!({"message": text}),
        json!({"error": text}),
        json!({"error": "invalid_client", "error_description": text}),
        json!({"new_status": [text]}),
        json!({"new_status": ["no", text], "comment": [text, text]}),
        json!({ text: [text] }),
        json!({ text: "no" }),
        json!([text]),
        json!(text),
        json!({"detail": {"detail": text}}),
        json!({"detail": format!("\u{1b}[31m{text}\n{text}")}),
    ];
    // A message is cut at various places, also in the middle of a secret.
    shapes.extend((150..300).step_by(23).map(|place| json!({"detail": far(place)})));
    let mut shapes: Vec<_> = shapes.iter().map(ToString::to_string).collect();
    shapes.push(format!("<html><body>{text}</body></html>"));
    shapes.push(text.to_owned());
    shapes
}

fn echoing(status: u16, shape: usize, request: &Request) -> Vec<Step> {
    let echo = echo(request);
    let id = [
        ("x-request-id", echo.as_str()),
        ("x-echo", &echo),
        ("retry-after", &echo),
    ];
    answer(status, &id, &shapes(&echo)[shape])
}

const STATUSES: [u16; 7] = [200, 302, 400, 401, 404, 429, 503];

fn client(server: &Server) -> Client {
    let builder = server.builder(Credentials::client(CLIENT_ID, SECRET));
    builder.retry(quick_retries().max_retries(1)).build().unwrap()
}

fn update() -> StatusUpdate {
    StatusUpdate::declined().comment("Duplicated user")
}

#[test]
fn secrets_stay_hidden_when_the_host_of_sessions_echoes_the_request() {
    capture::start();
    for shape in 0..shapes("").len() {
        for status in STATUSES {
            let server = Server::start(move |request| match request.is_token_request() {
                true => token(TOKEN),
                false => echoing(status, shape, request),
            });
            let api_key_client = server.builder(Credentials::api_key(KEY)).retry(RetryPolicy::none());
            for client in [client(&server), api_key_client.build().unwrap()] {
                assert_error_hides_secrets(&client.update_status(&session_id(), &update()).unwrap_err());
                assert_error_hides_secrets(&client.session(&session_id()).unwrap_err());
                assert_debug_hides_secrets(&client);
            }
            assert!(
                server
                    .session_requests()
                    .iter()
                    .any(|request| echo(request).contains(TOKEN))
            );
        }
    }
    assert_hides_secrets(&capture::logged());
}

#[test]
fn secrets_stay_hidden_when_a_confirmation_has_one_as_its_status() {
    capture::start();
    let server = Server::start(|request| match request.is_token_request() {
        true => token(TOKEN),
        false => {
            let credential = request.header("x-api-key").or(request.header("authorization"));
            answer(
                200,
                &[],
                json!({"session_id": SESSION, "status": credential}).to_string(),
            )
        }
    });
    let api_key_client = server.builder(Credentials::api_key(KEY)).retry(RetryPolicy::none());
    for client in [client(&server), api_key_client.build().unwrap()] {
        assert_error_hides_secrets(&client.update_status(&session_id(), &update()).unwrap_err());
    }
    assert_hides_secrets(&capture::logged());
}

#[test]
fn an_unknown_status_is_returned_without_secrets_and_control_characters() {
    let server = Server::start(|request| match request.is_token_request() {
        true => token(TOKEN),
        false => {
            let status = format!(
                "On\u{202e} Hold\n by {} {SECRET}",
                request.header("authorization").unwrap()
            );
            answer(200, &[], json!({"session_id": SESSION, "status": status}).to_string())
        }
    });
    let found = client(&server).session(&session_id()).unwrap().status;
    assert_eq!(found.as_str(), r"On\u{202e} Hold\n by Bearer [hidden] [hidden]");
}

#[test]
fn secrets_stay_hidden_when_the_host_of_tokens_echoes_the_request() {
    capture::start();
    for shape in 0..shapes("").len() {
        for status in STATUSES {
            let server = Server::start(move |request| echoing(status, shape, request));
            let client = client(&server);
            let error = client.authenticate().unwrap_err();
            assert_error_hides_secrets(&error);
            assert_error_hides_secrets(&client.update_status(&session_id(), &update()).unwrap_err());
            assert_debug_hides_secrets(&client);
        }
    }
    assert_hides_secrets(&capture::logged());
}

#[test]
fn an_invalid_token_stays_hidden() {
    capture::start();
    for body in [
        json!({"access_token": format!("{TOKEN}\n")}),
        json!({"access_token": format!("{TOKEN} {TOKEN}")}),
        json!({"access_token": TOKEN, "token_type": TOKEN}),
        json!({"access_token": TOKEN, "error": null, "token_type": 7}),
        json!({"access_token": [TOKEN]}),
        json!({"accessToken": TOKEN, "scopes": [TOKEN]}),
        json!([{ "access_token": TOKEN }]),
    ] {
        let body = body.to_string();
        for body in [body.clone(), format!("{body}}}"), body[..body.len() - 1].to_owned()] {
            let server = Server::start(move |_| answer(200, &[], &body));
            let error = client(&server).authenticate().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
            assert_error_hides_secrets(&error);
        }
    }
    assert_hides_secrets(&capture::logged());
}

#[test]
fn an_updated_session_hides_its_session_token_and_url() {
    capture::start();
    let server = Server::start(|request| match request.is_token_request() {
        true => token(TOKEN),
        false => answer(
            200,
            &[],
            json!({"session_id": SESSION, "session_token": KEY, "url": format!("https://verify.example/{KEY}")})
                .to_string(),
        ),
    });
    let updated = client(&server).update_status(&session_id(), &update()).unwrap();
    assert_eq!(updated.session_token.as_deref(), Some(KEY), "the caller can read it");
    assert_debug_hides_secrets(&updated);
    assert_hides_secrets(&capture::logged());
}

#[test]
fn no_public_type_shows_a_secret() {
    let proxy = format!("http://me:{KEY}@127.0.0.1:1");
    for credentials in [Credentials::client(CLIENT_ID, SECRET), Credentials::api_key(KEY)] {
        assert_debug_hides_secrets(&credentials);
        let builder = Client::builder(credentials)
            .base_url(LOOPBACK)
            .auth_url(LOOPBACK)
            .proxy(&proxy);
        assert_debug_hides_secrets(&builder);
        assert_debug_hides_secrets(&builder.build().unwrap());
    }
    for credentials in [
        Credentials::client(format!("{SECRET}:{SECRET}"), SECRET),
        Credentials::client(CLIENT_ID, format!("{SECRET}\n")),
        Credentials::client("", SECRET),
        Credentials::api_key(format!("{KEY}\n")),
        Credentials::api_key(format!("{KEY} é")),
    ] {
        let builder = Client::builder(credentials)
            .base_url(LOOPBACK)
            .auth_url(LOOPBACK)
            .proxy("");
        assert_error_hides_secrets(&builder.build().unwrap_err());
    }
    let misplaced = Client::builder(Credentials::api_key(API_KEY))
        .base_url(LOOPBACK)
        .auth_url(LOOPBACK)
        .proxy("");
    for builder in [
        misplaced.clone().base_url(SECRET),
        misplaced.clone().auth_url(format!("https://{SECRET}@example.org")),
        misplaced.clone().proxy(format!("gopher://{SECRET}")),
        misplaced.clone().user_agent(format!("{SECRET}\n")),
        misplaced.clone().root_certificates(SECRET),
    ] {
        assert_debug_hides_secrets(&builder);
        assert_error_hides_secrets(&builder.build().unwrap_err());
    }
    assert_error_hides_secrets(&format!("{SECRET}/").parse::<SessionId>().unwrap_err());
    assert_error_hides_secrets(&SECRET.parse::<didit::NewStatus>().unwrap_err());
    assert_error_hides_secrets(&SECRET.parse::<didit::ApiVersion>().unwrap_err());
}

#[test]
fn failed_connections_are_logged_without_secrets() {
    capture::start();
    let server = Server::start(|request| match request.is_token_request() {
        true => token(TOKEN),
        false => vec![Step::Send(format!("{}\r\n\r\n", echo(request)).into()), Step::Close],
    });
    assert_error_hides_secrets(&client(&server).update_status(&session_id(), &update()).unwrap_err());

    let proxied = server.builder(Credentials::client(CLIENT_ID, SECRET));
    let url = server.url().replace("http://", &format!("http://me:{KEY}@"));
    let proxied = proxied.proxy(url).build().unwrap();
    assert_error_hides_secrets(&proxied.update_status(&session_id(), &update()).unwrap_err());
    let basic = BASE64_STANDARD.encode(format!("me:{KEY}"));
    capture::assert_hidden(&capture::logged(), &basic);
    assert_hides_secrets(&capture::logged());
}

#[test]
fn a_token_quoted_in_its_own_error_stays_hidden() {
    let body = json!({"access_token": TOKEN, "error": format!("cannot use {TOKEN}")}).to_string();
    let server = Server::start(move |_| answer(200, &[], &body));
    let error = client(&server).update_status(&session_id(), &update()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert_eq!(error.message(), Some("cannot use [hidden]"));
    assert_error_hides_secrets(&error);
}

#[test]
fn the_log_shows_each_attempt_and_retry() {
    capture::start();
    let busy = answer(503, &[("retry-after", "0")], "");
    let read = answer(200, &[], r#"{"session_id":"for-the-log","status":"In Review"}"#);
    let server = Server::script(vec![busy.clone(), busy, read, confirmed()]);
    let session: SessionId = "for-the-log".parse().unwrap();
    let nodes = StatusUpdate::resubmitted([Node::new("feature_ocr_1", "OCR")]);
    let _ = server.api_key_client().update_status(&session, &nodes);
    let _ = server.api_key_client().update_status(&session, &update());
    let logged = capture::logged();
    let has_line = |words: &str| logged.lines().any(|line| line.starts_with(words));
    assert!(
        has_line("DEBUG didit: PATCH /v3/session/for-the-log/update-status/: 503, "),
        "{logged}"
    );
    assert!(
        has_line("DEBUG didit: PATCH /v3/session/for-the-log/update-status/: 200, "),
        "{logged}"
    );
    let retry = format!("WARN didit: setting session for-the-log to {}: ", update().new_status());
    assert!(has_line(&retry) && logged.contains("retrying in"), "{logged}");
    assert!(has_line("DEBUG ureq"), "the lines of ureq are captured, too");
}
