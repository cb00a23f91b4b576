//! For any response and any input: no panic, no endless wait, and no wrong `Ok` or `NotApplied`.
//!
//! The cases are random with a fixed seed, so a failure is reproducible. It names its case.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::{
    API_KEY, CLIENT_ID, CLIENT_SECRET, LONG, Request, SESSION, Server, Step, answer, confirmed, lock, session_id,
};
use didit::{Client, Credentials, Error, ErrorKind, Result, RetryPolicy, SessionId, StatusUpdate, Verdict};
use fastrand::Rng;
use serde_json::{Value, json};

fn rng(seed: u64) -> Rng {
    println!("seed {seed}");
    Rng::with_seed(seed)
}

/// A server that answers every request with the response that was set last.
struct SettableServer {
    server: Server,
    response: Arc<Mutex<Vec<Step>>>,
}

impl SettableServer {
    fn new() -> SettableServer {
        let response = Arc::new(Mutex::new(Vec::new()));
        let current = response.clone();
        let server = Server::start(move |_| lock(&current).clone());
        SettableServer { server, response }
    }

    fn respond_with(&self, steps: Vec<Step>) {
        *lock(&self.response) = steps;
    }

    fn requests(&self) -> Vec<Request> {
        self.server.requests()
    }

    fn client(&self, credentials: Credentials) -> Client {
        self.server
            .builder(credentials)
            .retry(RetryPolicy::none())
            .build()
            .unwrap()
    }
}

/// Fails if the call takes very long.
fn timed<T>(call: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = call();
    assert!(start.elapsed() < LONG, "took {:?}", start.elapsed());
    result
}

fn text(rng: &mut Rng, max: usize) -> String {
    const ODD: [char; 16] = [
        '\0', '\n', '\r', '\x1b', ' ', '"', '\\', '/', '.', '%', '-', '_', 'é', '\u{202e}', '🙂', '\u{7f}',
    ];
    let length = rng.usize(..=max);
    let c = |_| {
        if rng.u8(..4) == 0 {
            ODD[rng.usize(..ODD.len())]
        } else {
            rng.alphanumeric()
        }
    };
    (0..length).map(c).collect()
}

fn pick<'a>(rng: &mut Rng, words: &[&'a str]) -> &'a str {
    words[rng.usize(..words.len())]
}

/// JSON with meaningful keys and mostly meaningless values.
fn json_value(rng: &mut Rng, depth: usize) -> Value {
    const KEYS: [&str; 14] = [
        "access_token",
        "expires_in",
        "token_type",
        "iat",
        "exp",
        "error",
        "error_description",
        "code",
        "detail",
        "message",
        "session_id",
        "new_status",
        "url",
        "x",
    ];
    match rng.u8(..if depth == 0 { 7 } else { 10 }) {
        0 => Value::Null,
        1 => json!(rng.bool()),
        2 => json!(rng.i64(..)),
        3 => json!(f64::from_bits(rng.u64(..))),
        4 => json!(rng.u8(..)),
        5 => json!(text(rng, 400)),
        6 => json!(pick(
            rng,
            &[
                "Bearer",
                "token",
                "3600",
                "18446744073709551616",
                "-1",
                "1e400",
                SESSION,
                API_KEY
            ]
        )),
        7 => (0..rng.usize(..4)).map(|_| json_value(rng, depth - 1)).collect(),
        _ => {
            let entry = |_| {
                let key = KEYS[rng.usize(..KEYS.len())].to_owned();
                (key, json_value(rng, depth - 1))
            };
            Value::Object((0..6).map(entry).collect())
        }
    }
}

/// Flips, cuts, repeats and inserts bytes.
fn mutated(rng: &mut Rng, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..rng.usize(..4) {
        let at = rng.usize(..=bytes.len());
        match rng.u8(..5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.u8(..)),
            2 => drop(bytes.drain(at..(at + rng.usize(..8)).min(bytes.len()))),
            3 => bytes.splice(at..at, *b"\r\n").for_each(drop),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = rng.u8(..);
                }
            }
        }
    }
    bytes
}

/// What is shown of a stranger's words fits on a line and holds no secret.
fn assert_presentable(error: &Error) {
    let basic = "dGhlLWNsaWVudC1pZDp0aGUtY2xpZW50LXNlY3JldA==";
    let display = error.to_string();
    for shown in [
        Some(display.as_str()),
        error.message(),
        error.code(),
        error.request_id(),
    ]
    .into_iter()
    .flatten()
    {
        assert!(!shown.contains(char::is_control), "{shown:?}");
        assert!(
            [API_KEY, CLIENT_SECRET, basic]
                .iter()
                .all(|secret| !shown.contains(secret)),
            "{shown:?}"
        );
    }
    // A control character takes up to 10 when it is escaped.
    assert!(error.message().is_none_or(|message| message.chars().count() <= 3001));
    assert!(error.code().is_none_or(|code| code.chars().count() <= 641));
}

#[test]
fn a_token_is_used_only_from_a_valid_response() {
    let mut rng = rng(1);
    let server = SettableServer::new();
    let mut valid = 0;
    for case in 0..500 {
        let body = match rng.bool() {
            true => json_value(&mut rng, 2),
            false => {
                json!({"access_token": "token", "expires_in": json_value(&mut rng, 1), "exp": json_value(&mut rng, 0),
                            "iat": json_value(&mut rng, 0)})
            }
        };
        let whole = body.to_string().into_bytes();
        let body = if rng.u8(..4) == 0 {
            mutated(&mut rng, whole)
        } else {
            whole
        };
        server.respond_with(answer(200, &[], &body));
        let client = server.client(Credentials::client(CLIENT_ID, CLIENT_SECRET));
        let before = server.requests().len();
        let name = || format!("{case}: {}", String::from_utf8_lossy(&body));
        let update = || client.update_status(&session_id(), &StatusUpdate::approved());
        // The same response never confirms an update. What counts is whether an update was sent.
        let error = timed(update).unwrap_err();
        let sent_update = server.requests()[before..]
            .iter()
            .any(|request| !request.is_token_request());
        if sent_update {
            let body: Value = serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{}", name()));
            let token = body["access_token"].as_str().unwrap_or_else(|| panic!("{}", name()));
            assert!(
                !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()),
                "{}",
                name()
            );
            assert!(body["error"].is_null(), "{}", name());
            valid += 1;
        } else {
            assert_eq!(
                (error.kind(), error.verdict()),
                (ErrorKind::Authentication, Verdict::NotApplied),
                "{}",
                name()
            );
            assert!(!error.is_retryable(), "{}", name());
        }
        assert_presentable(&error);
        // Whatever its lifetime is, a token is used for the next call, too.
        let _ = update();
        let tokens = server.requests()[before..]
            .iter()
            .filter(|request| request.is_token_request())
            .count();
        assert_eq!(tokens, if sent_update { 1 } else { 2 }, "{}", name());
    }
    assert!(valid > 100, "too few valid tokens: {valid}");
}

#[test]
fn the_status_alone_decides_the_verdict_of_an_error() {
    let mut rng = rng(2);
    let server = SettableServer::new();
    let client = server.client(Credentials::api_key(API_KEY));
    for case in 0..500 {
        let status = rng.u16(400..600);
        let body = json_value(&mut rng, 3)
            .to_string()
            .replace("token", API_KEY)
            .into_bytes();
        let body = if rng.u8(..4) == 0 {
            mutated(&mut rng, body)
        } else {
            body
        };
        server.respond_with(answer(
            status,
            &[("x-request-id", pick(&mut rng, &["r-1", API_KEY, "", "a b"]))],
            &body,
        ));
        let error = timed(|| client.update_status(&session_id(), &StatusUpdate::declined())).unwrap_err();
        let verdict = if matches!(status, 408 | 499 | 500..) {
            Verdict::Unknown
        } else {
            Verdict::NotApplied
        };
        let name = format!("{case}: {status} {}", String::from_utf8_lossy(&body));
        assert_eq!((error.status(), error.verdict()), (Some(status), verdict), "{name}");
        assert_presentable(&error);
    }
}

#[test]
fn only_a_confirmation_is_ok_and_only_a_refusal_is_not_applied() {
    let mut rng = rng(3);
    let server = SettableServer::new();
    let client = server.client(Credentials::api_key(API_KEY));
    let (mut confirmations, mut refusals) = (0, 0);
    for case in 0..1000 {
        let status = pick(
            &mut rng,
            &[
                "200", "200", "200", "200", "200", "200", "201", "204", "302", "303", "404", "429", "500", "103", "000",
            ],
        );
        let body = match rng.u8(..4) {
            0 => json_value(&mut rng, 2).to_string(),
            _ => json!({ "session_id": pick(&mut rng, &[SESSION, SESSION, SESSION, "x"]) }).to_string(),
        };
        let head = match rng.u8(..4) {
            0 => format!(
                "transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            ),
            1 => format!("\r\n{body}"),
            _ => format!("content-length: {}\r\n\r\n{body}", body.len()),
        };
        let whole = format!("HTTP/1.{} {status} X\r\n{head}", rng.u8(..2)).into_bytes();
        let bytes = match rng.u8(..8) {
            0 => (0..rng.usize(..300)).map(|_| rng.u8(..)).collect(),
            1..=4 => mutated(&mut rng, whole),
            _ => whole,
        };
        server.respond_with(vec![Step::Send(bytes.clone()), Step::Close]);
        let sent = String::from_utf8_lossy(&bytes);
        match timed(|| client.update_status(&session_id(), &StatusUpdate::approved())) {
            Ok(updated) => {
                assert_eq!(updated.session_id, session_id());
                assert!(sent.contains(" 200"), "{case}: {sent:?}");
                assert!(sent.to_lowercase().contains(SESSION), "{case}: {sent:?}");
                confirmations += 1;
            }
            Err(error) if error.verdict() == Verdict::NotApplied => {
                let refused = error
                    .status()
                    .is_some_and(|status| matches!(status, 301 | 307 | 308 | 400..=498));
                assert!(
                    refused && sent.contains(&format!(" {}", error.status().unwrap())),
                    "{case}: {sent:?}: {error}"
                );
                refusals += 1;
            }
            Err(error) => assert_presentable(&error),
        }
    }
    assert!(
        confirmations > 50 && refusals > 50,
        "too few confirmations or rejections: {confirmations} {refusals}"
    );
    // A request sent while the server closed the connection may be lost. None arrives twice.
    assert!(server.requests().len() <= 1000);
}

#[test]
fn a_confirmation_that_is_cut_off_is_never_ok() {
    let server = SettableServer::new();
    let client = server.client(Credentials::api_key(API_KEY));
    let Step::Send(whole) = confirmed().remove(0) else {
        unreachable!()
    };
    for length in 0..whole.len() {
        server.respond_with(vec![Step::Send(whole[..length].to_vec()), Step::Close]);
        let error = timed(|| client.update_status(&session_id(), &StatusUpdate::approved())).expect_err("cut off");
        assert_eq!(error.verdict(), Verdict::Unknown, "{length}: {error}");
    }
}

#[test]
fn retry_after_is_a_number_or_a_date_and_is_at_most_a_day() {
    let mut rng = rng(4);
    let server = SettableServer::new();
    let client = server.client(Credentials::api_key(API_KEY));
    for case in 0..500 {
        let mut value = match rng.u8(..4) {
            0 => rng.u64(..).to_string(),
            1 => (0..rng.usize(..40)).map(|_| rng.digit(10)).collect(),
            2 => httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_secs(rng.u64(..253_402_300_800))),
            _ => text(&mut rng, 40),
        }
        .into_bytes();
        if rng.u8(..3) == 0 {
            value = mutated(&mut rng, value);
        }
        // Bytes that are invalid in a header.
        value.retain(|byte| !matches!(byte, 0..=31 | 127));
        let name = ["retry-after", "x-ratelimit-reset"][rng.usize(..2)];
        let head = [
            format!("HTTP/1.1 429 X\r\n{name}: ").as_bytes(),
            &value,
            b"\r\ncontent-length: 0\r\n\r\n",
        ]
        .concat();
        server.respond_with(vec![Step::Send(head)]);
        let error = timed(|| client.update_status(&session_id(), &StatusUpdate::approved())).unwrap_err();
        let shown = String::from_utf8_lossy(&value);
        assert_eq!(
            (error.kind(), error.verdict()),
            (ErrorKind::RateLimited, Verdict::NotApplied),
            "{case}: {shown}"
        );
        assert!(
            error
                .retry_after()
                .is_none_or(|wait| wait <= Duration::from_secs(86400)),
            "{case}: {shown}"
        );
        let digits = shown.trim();
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let is_date = name == "retry-after" && httpdate::parse_http_date(digits).is_ok();
        assert_eq!(
            error.retry_after().is_some(),
            is_number || is_date,
            "{case}: {name}: {shown}"
        );
    }
}

#[test]
fn a_session_id_is_accepted_only_if_valid_and_is_sent_unchanged() {
    let mut rng = rng(5);
    let server = Server::start(|_| confirmed());
    let client = server
        .builder(Credentials::api_key(API_KEY))
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    for _ in 0..5000 {
        let max = pick(&mut rng, &["4", "40", "130"]).parse().unwrap();
        let mut id = text(&mut rng, max);
        if rng.bool() {
            id.retain(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        }
        let is_valid = (1..=128).contains(&id.len())
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        let parsed: Result<SessionId> = id.parse();
        assert_eq!(parsed.is_ok(), is_valid, "{id:?}");
        assert_eq!(
            serde_json::from_value::<SessionId>(json!(id)).is_ok(),
            is_valid,
            "{id:?}"
        );
        let Ok(parsed) = parsed else { continue };
        assert_eq!(parsed.to_string(), id);
        assert_eq!(serde_json::to_value(&parsed).unwrap(), json!(id));
        if rng.u8(..8) == 0 {
            let error = timed(|| client.update_status(&parsed, &StatusUpdate::approved())).unwrap_err();
            assert_eq!(
                error.verdict(),
                Verdict::Unknown,
                "the server confirmed another session than {id}"
            );
            let path = server.requests().pop().unwrap().path;
            assert_eq!(path, format!("/v3/session/{id}/update-status/"));
        }
    }
    assert!(server.requests().len() > 100);
}

#[test]
fn an_accepted_base_url_is_valid_and_receives_the_requests() {
    let mut rng = rng(6);
    let server = Server::start(|_| confirmed());
    let address = server.address().to_string();
    let mut used = 0;
    for _ in 0..3000 {
        let part = |rng: &mut Rng, odd: &[&'static str]| pick(rng, odd).to_owned();
        let scheme = part(
            &mut rng,
            &[
                "http://", "http://", "https://", "HTTP://", "http:/", "ftp://", "", "//", "http:",
            ],
        );
        let user = part(&mut rng, &["", "", "", "", "", "user@", "user:password@", "@", "a@b@"]);
        let host = match rng.u8(..2) {
            0 => address.clone(),
            _ => part(
                &mut rng,
                &[
                    "localhost",
                    "127.0.0.1:0",
                    "127.0.0.1:65536",
                    "[::1]",
                    "example.com",
                    "",
                    "::1",
                    "127.0.0.1.example.com",
                    "[",
                    "a b",
                ],
            ),
        };
        let path = part(
            &mut rng,
            &[
                "", "/", "//", "/a", "/a/", "/a/b", "/%2e", "/a@b", "/é", "/a b", "/{x}", "/..", "/a:1",
            ],
        );
        let rest = part(
            &mut rng,
            &["", "", "", "", "", "", "?", "?a=b", "#", "#a", "\n", "\\", "\0"],
        );
        let mut url = format!("{scheme}{user}{host}{path}{rest}");
        if rng.u8(..6) == 0 {
            url = String::from_utf8_lossy(&mutated(&mut rng, url.into_bytes())).into_owned();
        }
        let builder = server
            .builder(Credentials::api_key(API_KEY))
            .base_url(&url)
            .timeout(LONG)
            .retry(RetryPolicy::none());
        let client = match builder.build() {
            Ok(client) => client,
            Err(error) => {
                assert_eq!(
                    (error.kind(), error.verdict()),
                    (ErrorKind::Config, Verdict::NotApplied),
                    "{url:?}"
                );
                assert!(error.to_string().starts_with("base_url (DIDIT_BASE_URL): "), "{error}");
                assert!(!error.to_string().contains("password"), "{url:?}: {error}");
                continue;
            }
        };
        assert!(
            !url.contains(['?', '#']) && url.bytes().all(|byte| byte.is_ascii_graphic()),
            "{url:?}"
        );
        let (scheme, rest) = url.split_once("://").unwrap_or_else(|| panic!("{url:?}"));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        assert!(!authority.is_empty() && !authority.contains('@'), "{url:?}");
        if scheme == "https" {
            continue;
        }
        let host = authority
            .rsplit_once(':')
            .filter(|_| !authority.ends_with(']'))
            .map_or(authority, |(host, _)| host);
        assert!(
            matches!(&*host.to_lowercase(), "localhost" | "127.0.0.1" | "[::1]") || host.starts_with("127."),
            "{url:?}"
        );
        let port = &authority[host.len()..];
        let usable = port
            .strip_prefix(':')
            .is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
        assert!(usable, "{url:?}");
        if authority != address {
            continue;
        }
        timed(|| client.update_status(&session_id(), &StatusUpdate::approved()))
            .unwrap_or_else(|error| panic!("{url:?}: {error}"));
        let arrived = server.requests().pop().unwrap().path;
        assert_eq!(
            arrived,
            format!("{}/v3/session/{SESSION}/update-status/", path.trim_end_matches('/')),
            "{url:?}"
        );
        used += 1;
    }
    assert!(used > 50, "too few usable URLs: {used}");
}
