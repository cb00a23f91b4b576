//! docs/messages.md lists the library's messages, each with its cause.

use std::time::Duration;

use didit::{
    ApiVersion, Client, ClientBuilder, Credentials, Error, Node, RetryPolicy, SessionId, SessionStatus, StatusUpdate,
};

use crate::support::page::{Rows, compare};
use crate::support::{
    API_KEY, CLIENT_ID, CLIENT_SECRET, CLOSED, LONG, SESSION, Server, Step, answer, session_id, token,
};

fn approved() -> StatusUpdate {
    StatusUpdate::approved()
}

fn key() -> Credentials {
    Credentials::api_key(API_KEY)
}

/// A valid builder, which each row makes invalid.
fn builder(credentials: Credentials) -> ClientBuilder {
    Client::builder(credentials)
        .base_url("http://127.0.0.1:1")
        .auth_url("http://127.0.0.1:1")
        .proxy("")
}

fn refused(builder: ClientBuilder) -> String {
    builder.build().unwrap_err().to_string()
}

fn configuration() -> Rows {
    vec![
        ("the API key is empty", refused(builder(Credentials::api_key("")))),
        (
            "the API key ends with a line break",
            refused(builder(Credentials::api_key("k\n"))),
        ),
        (
            "the API key is in typographic quotes",
            refused(builder(Credentials::api_key("“k”"))),
        ),
        (
            "the API key is in quotes",
            refused(builder(Credentials::api_key("\"k\""))),
        ),
        (
            "the client secret is empty",
            refused(builder(Credentials::client("id", ""))),
        ),
        (
            "the client id contains a colon",
            refused(builder(Credentials::client("a:b", "s"))),
        ),
        ("`base_url` is not a URL", refused(builder(key()).base_url("example"))),
        (
            "`base_url` is http, but the host is not loopback",
            refused(builder(key()).base_url("http://example.org")),
        ),
        (
            "`base_url` has a query",
            refused(builder(key()).base_url("http://127.0.0.1/?a")),
        ),
        (
            "`base_url` contains a user and a password",
            refused(builder(key()).base_url("http://a:b@127.0.0.1")),
        ),
        (
            "`base_url` contains an API version",
            refused(builder(key()).base_url("http://127.0.0.1/v3/")),
        ),
        ("`timeout` is zero", refused(builder(key()).timeout(Duration::ZERO))),
        ("`deadline` is zero", refused(builder(key()).deadline(Duration::ZERO))),
        (
            "`user_agent` contains a line break",
            refused(builder(key()).user_agent("a\nb")),
        ),
        ("`proxy` is not a URL", refused(builder(key()).proxy("htp://proxy"))),
    ]
}

fn input() -> Rows {
    let v1 = builder(key()).api_version(ApiVersion::V1).build().unwrap();
    let v3 = builder(key()).build().unwrap();
    let check = |client: &Client, update: StatusUpdate| client.check(&update).unwrap_err().to_string();
    let node = [Node::new("feature_ocr_1", "OCR")];
    let unsent = v1.update_status(&session_id(), &StatusUpdate::resubmitted(node));
    vec![
        (
            "the session id is a path",
            "../x".parse::<SessionId>().unwrap_err().to_string(),
        ),
        (
            "the session id is empty",
            "".parse::<SessionId>().unwrap_err().to_string(),
        ),
        (
            "Resubmitted on v1",
            unsent.unwrap_err().to_string().replace(SESSION, "ID"),
        ),
        (
            "a node without a feature",
            "a:".parse::<Node>().unwrap_err().to_string(),
        ),
        ("an email on v1", check(&v1, approved().email("ann@example.org"))),
        ("Resubmitted without a node", check(&v3, StatusUpdate::resubmitted([]))),
        ("a NUL in a comment", check(&v3, approved().comment("a\0"))),
        ("an invalid email address", check(&v3, approved().email("ann"))),
        (
            "a language that Didit does not support",
            check(&v3, approved().email("ann@example.org").email_language("xx")),
        ),
    ]
}

/// The message of an update that fails.
fn failed(client: &Client, address: &str, update: &StatusUpdate) -> String {
    let error: Error = client.update_status(&session_id(), update).unwrap_err();
    error.to_string().replace(address, "HOST").replace(SESSION, "ID")
}

/// The limit of an attempt: 1 s if the server stalls, otherwise one that is never reached.
fn timeout(steps: &[Step]) -> Duration {
    let stalls = steps.iter().any(|step| matches!(step, Step::Stall));
    if stalls { Duration::from_secs(1) } else { LONG }
}

fn update(steps: Vec<Step>) -> String {
    let timeout = timeout(&steps);
    let server = Server::always(steps);
    let client = server.builder(key()).timeout(timeout).retry(RetryPolicy::none());
    failed(&client.build().unwrap(), &server.address().to_string(), &approved())
}

fn updates(turns: Vec<Vec<Step>>) -> String {
    let server = Server::script(turns);
    failed(&server.api_key_client(), &server.address().to_string(), &approved())
}

/// The message of `ensure_status_if` if somebody decides after its attempt in doubt.
fn decided_after_a_doubt() -> String {
    let status = |status: &str| answer(200, &[], format!(r#"{{"session_id":"{SESSION}","status":"{status}"}}"#));
    let turns = vec![
        status("In Review"),
        vec![Step::Close],
        status("Declined"),
        status("Declined"),
    ];
    let server = Server::script(turns);
    let undecided = |status: &SessionStatus| !status.is_decided();
    let result = server
        .api_key_client()
        .ensure_status_if(&session_id(), &approved(), undecided);
    let text = result.unwrap_err().to_string();
    text.replace(&server.address().to_string(), "HOST")
        .replace(SESSION, "ID")
}

fn tokens(steps: Vec<Step>) -> String {
    let timeout = timeout(&steps);
    let server = Server::start(move |_| steps.clone());
    let client = server.builder(Credentials::client(CLIENT_ID, CLIENT_SECRET));
    let client = client.timeout(timeout).retry(RetryPolicy::none());
    failed(&client.build().unwrap(), &server.address().to_string(), &approved())
}

fn sent(text: &str) -> Vec<Step> {
    vec![Step::Send(text.into()), Step::Close]
}

fn answers() -> Rows {
    let words = |text: &str| format!(r#"{{"detail":"{text}"}}"#);
    let html = "<html><title>Sign in</title></html>";
    let busy = || answer(503, &[("retry-after", "0")], words("Busy."));
    vec![
        (
            "400 with Didit's message",
            update(answer(400, &[], words("The session is not finished."))),
        ),
        (
            "401 with Didit's message",
            update(answer(401, &[], words("Invalid API key."))),
        ),
        (
            "402 with Didit's message",
            update(answer(402, &[], words("Payment required."))),
        ),
        (
            "403 with Didit's message",
            update(answer(403, &[], words("Not enough credits."))),
        ),
        (
            "404 with Didit's message",
            update(answer(404, &[], words("Not found."))),
        ),
        (
            "400 with words in another shape",
            update(answer(
                400,
                &[],
                r#"{"errors":[{"message":"The session is not finished."}]}"#,
            )),
        ),
        (
            "404 with a gateway's JSON",
            update(answer(404, &[], r#"["no Route matched"]"#)),
        ),
        ("413 with HTML", update(answer(413, &[], html))),
        ("404 with HTML", update(answer(404, &[], html))),
        ("404 without a body", update(answer(404, &[], ""))),
        (
            "429 with a `Retry-After` of almost an hour",
            update(answer(429, &[("retry-after", "3591")], words("Slow down."))),
        ),
        (
            "500 with Didit's message",
            update(answer(500, &[], words("Something broke."))),
        ),
        ("503 with HTML", update(answer(503, &[], html))),
        (
            "425 with Didit's message",
            update(answer(425, &[], words("Too early."))),
        ),
        ("520 with HTML", update(answer(520, &[], html))),
        ("501", update(answer(501, &[], ""))),
        ("503, three times", updates(vec![busy(), busy(), busy()])),
        (
            "the connection is closed, then 404",
            updates(vec![vec![Step::Close], answer(404, &[], words("Not found."))]),
        ),
        (
            "the connection is closed, then somebody declines (`ensure_status_if`)",
            decided_after_a_doubt(),
        ),
        ("301", update(answer(301, &[("location", "/")], ""))),
        ("302", update(answer(302, &[("location", "/")], ""))),
        ("204", update(answer(204, &[], ""))),
        ("200 with HTML", update(answer(200, &[], html))),
        (
            "200 with invalid JSON",
            update(answer(200, &[], format!(r#"{{"session_id":"{SESSION}","score":NaN}}"#))),
        ),
        (
            "200 that denies success",
            update(answer(
                200,
                &[],
                format!(r#"{{"session_id":"{SESSION}","success":false}}"#),
            )),
        ),
        (
            "200 with compressed data",
            update(answer(200, &[("content-encoding", "gzip")], b"\x1f\x8b\x08")),
        ),
        (
            "200 for another session",
            update(answer(200, &[], r#"{"session_id":"other"}"#)),
        ),
        (
            "200, but the session is Declined",
            update(answer(
                200,
                &[],
                format!(r#"{{"session_id":"{SESSION}","status":"Declined"}}"#),
            )),
        ),
        (
            "a 404 that is cut off",
            update(sent("HTTP/1.1 404 Not Found\r\ncontent-length: 99\r\n\r\n{")),
        ),
        (
            "a 200 that is cut off",
            update(sent("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{")),
        ),
        ("a 200 that is too large", update(answer(200, &[], "x".repeat(100_000)))),
        (
            "a response that is not HTTP",
            update(sent("SSH-2.0-OpenSSH_9.9\r\n\r\n")),
        ),
        (
            "a header that is not valid HTTP",
            update(sent("HTTP/1.1 200 OK\r\nx-info : x\r\n\r\n")),
        ),
        (
            "more than 128 headers",
            update(sent(&format!("HTTP/1.1 200 OK\r\n{}\r\n", "x-info: x\r\n".repeat(129)))),
        ),
    ]
}

fn connections() -> Rows {
    let to = |url: String| builder(key()).base_url(url).retry(RetryPolicy::none());
    let proxied = |answer: &'static str| {
        let server = Server::start_wrapped(
            move |mut stream| {
                let mut byte = [0];
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && std::io::Read::read(&mut stream, &mut byte).unwrap() > 0 {
                    head.push(byte[0]);
                }
                std::io::Write::write_all(&mut stream, answer.as_bytes()).unwrap();
                Box::new(std::io::empty())
            },
            |_| Vec::new(),
        );
        let address = server.address().to_string();
        let client = to("http://sessions.test".into())
            .allow_insecure_http(true)
            .proxy(server.url());
        failed(&client.build().unwrap(), &address, &approved()).replace("HOST", "PROXY")
    };
    vec![
        (
            "nothing listens at the address",
            failed(&to(format!("http://{CLOSED}")).build().unwrap(), CLOSED, &approved()),
        ),
        (
            "nothing listens at the proxy's address",
            failed(
                &to("http://sessions.test".into())
                    .allow_insecure_http(true)
                    .proxy(format!("http://{CLOSED}"))
                    .build()
                    .unwrap(),
                CLOSED,
                &approved(),
            )
            .replace("HOST", "PROXY"),
        ),
        (
            "the proxy requires a password",
            proxied("HTTP/1.1 407 X\r\ncontent-length: 0\r\n\r\n"),
        ),
        (
            "the proxy refuses the host",
            proxied("HTTP/1.1 403 X\r\ncontent-length: 0\r\n\r\n"),
        ),
        (
            "the proxy cannot reach the host",
            proxied("HTTP/1.1 502 X\r\ncontent-length: 0\r\n\r\n"),
        ),
        ("the connection is closed", update(vec![Step::Close])),
        ("the connection is reset", update(vec![Step::Reset])),
        ("no response arrives", update(vec![Step::Stall])),
    ]
}

fn access_tokens() -> Rows {
    let refusal = r#"{"error":"invalid_client","error_description":"No such client."}"#;
    vec![
        ("401 with an OAuth error", tokens(answer(401, &[], refusal))),
        ("404 with HTML", tokens(answer(404, &[], "<html></html>"))),
        ("302", tokens(answer(302, &[("location", "/login")], ""))),
        ("503", tokens(answer(503, &[], ""))),
        ("200 without a token", tokens(answer(200, &[], "{}"))),
        ("200 with HTML", tokens(answer(200, &[], "<html></html>"))),
        ("no response arrives", tokens(vec![Step::Stall])),
        ("nothing listens at the address", {
            let client = Client::builder(Credentials::client("id", "secret"))
                .auth_url(format!("http://{CLOSED}"))
                .base_url(format!("http://{CLOSED}"))
                .retry(RetryPolicy::none());
            failed(&client.build().unwrap(), CLOSED, &approved())
        }),
        ("the API refuses the token and its replacement", {
            let server = Server::start(|request| match request.is_token_request() {
                true => token("token"),
                false => answer(401, &[], r#"{"detail":"Token expired."}"#),
            });
            failed(&server.client(), &server.address().to_string(), &approved())
        }),
    ]
}

#[test]
fn the_page_lists_exactly_these_messages() {
    let sections = vec![
        ("The client cannot be built", configuration()),
        ("The update cannot be sent", input()),
        ("No response", connections()),
        ("A response to an update", answers()),
        ("A response to a token request", access_tokens()),
    ];
    for (_, message) in sections.iter().flat_map(|(_, rows)| rows) {
        assert!(!message.contains('\n'), "{message}");
    }
    let introduction = "The library's messages, each with its cause. In the messages of an update, `ID` is the session and `HOST` is the host\n\
                        with its port. `tests/library/messages.rs` compares this part with the code.";
    compare("Messages of the library", introduction, sections);
}
