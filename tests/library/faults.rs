//! Every fault of the network or the server ends the call in time, with the right kind and verdict, after exactly as many
//! requests as the retry policy allows.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    API_KEY, CLIENT_ID, CLIENT_SECRET, CLOSED, EarlyClose, LONG, Request, SESSION, Server, Step, answer, confirmed,
    in_turn, no_such_session, quick_retries, read_request, session_id, session_is, token, words,
};
use socket2::SockRef;

use didit::{Client, ClientBuilder, Credentials, Error, ErrorKind, Node, RetryPolicy, StatusUpdate, Verdict};

use ErrorKind::{Authentication, Forbidden, Network, NotFound, RateLimited, Rejected, Timeout, UnexpectedResponse};
use Verdict::{NotApplied, Unknown};

/// The limit of an attempt that times out. Even on a busy machine, its request arrives in that time.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The limit of an attempt that cannot connect.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);
/// The limit of a call, and of the test.
const DEADLINE: Duration = Duration::from_secs(60);

const RETRIED: bool = true;
const NOT_RETRIED: bool = false;

type Expected = (ErrorKind, Verdict, bool);

fn api_key() -> Credentials {
    Credentials::api_key(API_KEY)
}

fn client_credentials() -> Credentials {
    Credentials::client(CLIENT_ID, CLIENT_SECRET)
}

fn resubmitted() -> StatusUpdate {
    StatusUpdate::resubmitted([Node::new("feature_ocr_1", "OCR")])
}

/// A client for a call that is expected to fail with this kind.
fn build(builder: ClientBuilder, policy: RetryPolicy, kind: ErrorKind) -> Client {
    builder
        .timeout(if kind == Timeout { TIMEOUT } else { LONG })
        .deadline(DEADLINE)
        .retry(policy)
        .build()
        .unwrap()
}

fn sent(bytes: impl AsRef<[u8]>) -> Step {
    Step::Send(bytes.as_ref().to_vec())
}

/// Makes an update that fails, and checks the error and that it came before the deadline.
fn failed_update(fault: &str, client: &Client, update: &StatusUpdate, expected: Expected) -> Error {
    let start = Instant::now();
    let error = client.update_status(&session_id(), update).expect_err(fault);
    assert!(start.elapsed() < DEADLINE, "{fault}: took {:?}", start.elapsed());
    assert_eq!(
        (error.kind(), error.verdict(), error.is_retryable()),
        expected,
        "{fault}: {error}"
    );
    error
}

/// Fails unless the updates among the requests are alike.
fn assert_alike(fault: &str, requests: &[Request]) {
    for request in requests.iter().filter(|request| request.method == "PATCH") {
        assert_eq!(request.path, format!("/v3/session/{SESSION}/update-status/"), "{fault}");
        assert_eq!(request.header("x-api-key"), Some(API_KEY), "{fault}");
        assert_eq!(request.body, requests[0].body, "{fault}");
    }
}

/// Makes updates that meet the fault: at every attempt, without retries and with two; only at the first attempt; and at every
/// attempt of a `Resubmitted`, which is never retried in doubt. A session in doubt is read before each retry and after the last
/// one. They run at the same time, because a fault may take its time.
fn check_update(fault: &str, steps: Vec<Step>, (kind, verdict, retried): Expected) {
    let approved = StatusUpdate::approved();
    let in_doubt = verdict == Unknown;
    let expected = (kind, verdict, retried && !in_doubt);
    let always = |policy: RetryPolicy, requests: &str| {
        let server = Server::undecided(steps.clone());
        let client = build(server.builder(api_key()), policy, kind);
        let error = failed_update(fault, &client, &approved, expected);
        let subject = format!("setting session {SESSION} to Approved: ");
        assert!(error.to_string().starts_with(&subject), "{fault}: {error}");
        assert_eq!(server.methods(), requests, "{fault}, always");
        assert_alike(fault, &server.requests());
    };
    let once = || {
        let mut turns = vec![steps.clone(), confirmed()];
        if retried && in_doubt {
            turns.insert(1, session_is("In Review"));
        }
        let server = Server::script(turns);
        let client = build(server.builder(api_key()), quick_retries(), kind);
        let result = client.update_status(&session_id(), &approved);
        assert_eq!(result.is_ok(), retried, "{fault}, once");
        let requests = match (retried, in_doubt) {
            (false, _) => "PATCH",
            (true, false) => "PATCH PATCH",
            (true, true) => "PATCH GET PATCH",
        };
        assert_eq!(server.methods(), requests, "{fault}, once");
        assert_alike(fault, &server.requests());
    };
    let resubmission = || {
        let server = Server::undecided(steps.clone());
        let client = build(server.builder(api_key()), quick_retries(), kind);
        failed_update(fault, &client, &resubmitted(), expected);
        let requests = if expected.2 { "PATCH PATCH PATCH" } else { "PATCH" };
        assert_eq!(server.methods(), requests, "{fault}, Resubmitted");
    };
    let retries = match (retried, in_doubt) {
        (false, _) => "PATCH",
        (true, false) => "PATCH PATCH PATCH",
        (true, true) => "PATCH GET PATCH GET PATCH GET",
    };
    thread::scope(|scope| {
        scope.spawn(|| always(RetryPolicy::none(), "PATCH"));
        scope.spawn(|| always(quick_retries(), retries));
        scope.spawn(once);
        scope.spawn(resubmission);
    });
}

/// Makes token requests that meet the fault, at every attempt and only at the first. No update is sent before a token
/// request succeeded.
fn check_token(fault: &str, steps: Vec<Step>, (kind, retried): (ErrorKind, bool)) {
    let approved = StatusUpdate::approved();
    let always = |policy: RetryPolicy, attempts: usize| {
        let server = Server::start(in_turn(vec![steps.clone(); attempts]));
        let client = build(server.builder(client_credentials()), policy, kind);
        let error = failed_update(fault, &client, &approved, (kind, NotApplied, retried));
        let subject = "fetching an access token";
        assert!(error.to_string().contains(subject), "{fault}: {error}");
        assert_eq!(server.requests().len(), attempts, "{fault}, always");
        for request in server.requests() {
            assert!(request.is_token_request(), "{fault}");
            assert_eq!(request.text(), "grant_type=client_credentials", "{fault}");
        }
    };
    let once = || {
        let mut turns = vec![steps.clone()];
        if retried {
            turns.extend([token("token"), confirmed()]);
        }
        let server = Server::start(in_turn(turns));
        let client = build(server.builder(client_credentials()), quick_retries(), kind);
        let result = client.update_status(&session_id(), &approved);
        assert_eq!(result.is_ok(), retried, "{fault}, once");
        assert_eq!(server.requests().len(), if retried { 3 } else { 1 }, "{fault}, once");
    };
    thread::scope(|scope| {
        scope.spawn(|| always(RetryPolicy::none(), 1));
        scope.spawn(|| always(quick_retries(), if retried { 3 } else { 1 }));
        scope.spawn(once);
    });
}

/// Calls a server that cannot be reached. The error's text says how many attempts there were.
fn check_unreachable(fault: &str, url: &str, kind: ErrorKind) {
    for (policy, attempts) in [(RetryPolicy::none(), 1), (quick_retries(), 3)] {
        for (credentials, update) in [
            (api_key(), StatusUpdate::approved()),
            (client_credentials(), StatusUpdate::approved()),
            (api_key(), resubmitted()),
        ] {
            let builder = Client::builder(credentials)
                .base_url(url)
                .auth_url(url)
                .allow_insecure_http(true)
                .proxy("")
                .connect_timeout(if kind == Timeout { CONNECT_TIMEOUT } else { LONG });
            let client = build(builder, policy.clone(), kind);
            let error = failed_update(fault, &client, &update, (kind, NotApplied, true));
            let says_so = error.to_string().contains(&format!("after {attempts} attempts"));
            assert_eq!(says_so, attempts > 1, "{fault}: {error}");
        }
    }
}

#[test]
fn an_unresolvable_name_means_not_applied() {
    // A label of 64 characters is invalid, so no name server is asked.
    check_unreachable("name", &format!("http://{}.invalid", "a".repeat(64)), Network);
}

#[test]
fn a_refused_connection_means_not_applied() {
    check_unreachable("refused", &format!("http://{CLOSED}"), Network);
}

#[test]
fn a_connection_that_times_out_means_not_applied() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(1).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        queue.push(stream);
        assert!(queue.len() < 1000, "the accept queue never fills up");
    }
    check_unreachable("never accepts", &format!("http://{address}"), Timeout);
}

#[test]
fn a_connection_closed_before_the_body_was_read_leaves_the_update_in_doubt() {
    for (fault, early) in [
        ("accepted and closed", EarlyClose::OnAccept),
        ("closed after the headers", EarlyClose::AfterHeaders),
    ] {
        for (policy, attempts) in [(RetryPolicy::none(), 1), (quick_retries(), 3)] {
            let server = Server::script(vec![]);
            server.close_next([early; 3]);
            let client = build(server.builder(api_key()), policy.clone(), Network);
            failed_update(fault, &client, &StatusUpdate::approved(), (Network, Unknown, false));
            assert_eq!(
                (server.connections(), server.requests().len()),
                (attempts, 0),
                "{fault}"
            );

            let server = Server::script(vec![]);
            server.close_next([early; 3]);
            let client = build(server.builder(client_credentials()), policy, Network);
            failed_update(fault, &client, &StatusUpdate::approved(), (Network, NotApplied, true));
            assert_eq!(
                (server.connections(), server.requests().len()),
                (attempts, 0),
                "{fault}, token"
            );
        }
        let server = Server::script(vec![session_is("In Review"), confirmed()]);
        server.close_next([early]);
        server
            .api_key_client()
            .update_status(&session_id(), &StatusUpdate::approved())
            .expect(fault);
        assert_eq!(
            (server.connections(), &*server.methods()),
            (3, "GET PATCH"),
            "{fault}, once"
        );

        let server = Server::script(vec![]);
        server.close_next([early]);
        failed_update(
            fault,
            &server.api_key_client(),
            &resubmitted(),
            (Network, Unknown, false),
        );
        assert_eq!(server.connections(), 1, "{fault}, Resubmitted");
    }
}

#[test]
fn a_broken_connection_leaves_the_update_in_doubt() {
    let half_a_head = sent("HTTP/1.1 200 OK\r\ncontent-le");
    for (fault, steps) in [
        ("closed after the whole request", vec![Step::Close]),
        ("reset after the whole request", vec![Step::Reset]),
        (
            "closed in the middle of the response headers",
            vec![half_a_head.clone(), Step::Close],
        ),
        (
            "reset in the middle of the response headers",
            vec![half_a_head, Step::Reset],
        ),
    ] {
        check_update(fault, steps.clone(), (Network, Unknown, RETRIED));
        check_token(fault, steps, (Network, RETRIED));
    }
}

#[test]
fn a_200_before_the_whole_update_was_sent_does_not_confirm_it() {
    let update = StatusUpdate::approved().comment("x".repeat(16 << 20));
    for (response, expected) in [
        (confirmed(), (Network, Unknown, false)),
        (no_such_session(), (NotFound, NotApplied, false)),
    ] {
        // Windows discards a response when the connection is reset.
        if cfg!(windows) && expected.0 == NotFound {
            continue;
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = build(Client::builder(api_key()).base_url(url), RetryPolicy::none(), Network);
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_exact(&mut [0; 1024]).unwrap();
                for step in response {
                    let Step::Send(bytes) = step else { unreachable!() };
                    stream.write_all(&bytes).unwrap();
                }
                // Dropped with unread data, the connection is reset.
            });
            failed_update("cut off", &client, &update, expected);
        });
    }
}

#[test]
fn a_request_that_was_cut_off_does_not_affect_the_next_one() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let builder = Client::builder(api_key()).base_url(format!("http://{}", listener.local_addr().unwrap()));
    let client = build(builder.proxy(""), RetryPolicy::none(), Network);
    let send = |stream: &mut TcpStream, steps: Vec<Step>| {
        for step in steps {
            let Step::Send(bytes) = step else { unreachable!() };
            stream.write_all(&bytes).unwrap();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 1024]).unwrap();
            send(&mut stream, no_such_session());
            // Dropped with unread data, the connection is reset.
            drop(stream);
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            read_request(&mut stream, 1, None).unwrap();
            send(stream.get_mut(), confirmed());
        });
        let large = StatusUpdate::approved().comment("x".repeat(16 << 20));
        failed_update("cut off", &client, &large, (NotFound, NotApplied, false));
        client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
    });
}

#[test]
fn a_response_that_takes_too_long_is_a_timeout() {
    // Padded, so that it takes longer than `TIMEOUT`.
    let body = format!(r#"{{"session_id":"{SESSION}"{}}}"#, " ".repeat(200));
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    let whole = [head.as_bytes(), body.as_bytes()].concat();
    let rows = [
        ("never answers", vec![Step::Stall]),
        ("one byte every 10 ms", vec![Step::Drip(whole)]),
        ("no body", vec![sent(&head), Step::Stall]),
        (
            "a body of one byte every 10 ms",
            vec![sent(&head), Step::Drip(body.into_bytes())],
        ),
        (
            "a chunked response without its end",
            vec![
                sent("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"),
                Step::Stall,
            ],
        ),
        (
            "endless interim responses",
            vec![Step::Drip(b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100))],
        ),
    ];
    thread::scope(|scope| {
        for (fault, steps) in rows {
            let again = steps.clone();
            scope.spawn(move || check_token(fault, again, (Timeout, RETRIED)));
            scope.spawn(move || check_update(fault, steps, (Timeout, Unknown, RETRIED)));
        }
    });
}

#[test]
fn an_incomplete_or_invalid_response_never_confirms_an_update() {
    let body = format!(r#"{{"session_id":"{SESSION}"}}"#);
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("{:x}\r\n{body}\r\n", body.len());
    let large = "x".repeat(100_000);
    // A response that is cut off is retried over a new connection. An invalid one would come again.
    for (fault, answer) in [
        (
            "cut off",
            format!("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{body}"),
        ),
        ("bad chunk size", format!("{chunked}{chunk}zz\r\n")),
        ("chunked, without its end", format!("{chunked}{chunk}")),
    ] {
        let steps = vec![sent(&answer), Step::Close];
        check_update(fault, steps, (Network, Unknown, RETRIED));
    }
    let reset = format!("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{body}");
    check_update("reset", vec![sent(&reset), Step::Reset], (Network, Unknown, RETRIED));
    for (fault, answer) in [
        ("garbage instead of a status line", "SSH-2.0-OpenSSH_9.9\r\n\r\n".into()),
        ("a status that is not a number", format!("HTTP/1.1 OK\r\n\r\n{body}")),
        (
            "100 KB of headers",
            format!(
                "HTTP/1.1 200 OK\r\nx: {large}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ),
        ),
        (
            "two lengths",
            format!(
                "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ),
        ),
    ] {
        let steps = vec![sent(&answer), Step::Close];
        check_update(fault, steps, (UnexpectedResponse, Unknown, NOT_RETRIED));
    }
}

#[test]
fn an_incomplete_or_invalid_response_never_yields_a_token() {
    let body = r#"{"access_token":"secret-token","expires_in":86400}"#;
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let large = "x".repeat(100_000);
    for (fault, answer, kind) in [
        (
            "cut off",
            format!("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{body}"),
            Network,
        ),
        ("bad chunk size", format!("{chunked}zz\r\n{body}"), Network),
        (
            "garbage instead of a status line",
            "SSH-2.0-OpenSSH_9.9\r\n\r\n".into(),
            Authentication,
        ),
        (
            "100 KB of headers",
            format!("HTTP/1.1 200 OK\r\nx: {large}\r\n\r\n{body}"),
            Authentication,
        ),
    ] {
        check_token(fault, vec![sent(&answer), Step::Close], (kind, kind == Network));
    }
}

#[test]
fn a_response_without_a_length_ends_when_the_connection_closes() {
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        let answer = sent(format!("{version} 200 OK\r\n\r\n{{\"session_id\":\"{SESSION}\"}}"));
        let server = Server::script(vec![vec![answer, Step::Close]]);
        let updated = server
            .api_key_client()
            .update_status(&session_id(), &StatusUpdate::approved())
            .expect(version);
        assert_eq!(updated.session_id, session_id());
        assert_eq!(server.requests().len(), 1, "{version}");
    }
}

#[test]
fn a_huge_response_is_read_only_up_to_the_limit() {
    let flood = vec![b'x'; 50_000_000];
    let head = |length: &str| format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\n").into_bytes();
    for (fault, head) in [
        ("with its length", head("content-length: 50000000")),
        ("in one chunk", head("transfer-encoding: chunked\r\n\r\n2faf080")),
        ("until the connection closes", head("x: y")),
    ] {
        let steps = vec![sent([&head[..], &flood].concat()), Step::Close];
        let server = Server::script(vec![steps.clone()]);
        failed_update(
            fault,
            &server.api_key_client(),
            &StatusUpdate::approved(),
            (UnexpectedResponse, Unknown, false),
        );
        assert_eq!(server.requests().len(), 1, "{fault}");
        // The rest is what the system buffered.
        assert!(
            server.bytes_written() < 20_000_000,
            "{fault}: {} bytes",
            server.bytes_written()
        );

        let server = Server::start(in_turn(vec![steps]));
        failed_update(
            fault,
            &server.client(),
            &StatusUpdate::approved(),
            (Authentication, NotApplied, false),
        );
        assert_eq!(server.requests().len(), 1, "{fault}, token");
        assert!(
            server.bytes_written() < 20_000_000,
            "{fault}, token: {} bytes",
            server.bytes_written()
        );
    }
}

#[test]
fn an_error_status_counts_even_if_its_body_cannot_be_read() {
    for (fault, status, expected) in [
        ("404", 404, (NotFound, NotApplied, NOT_RETRIED)),
        ("503", 503, (ErrorKind::Server, Unknown, RETRIED)),
    ] {
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: 1000000\r\n\r\n");
        check_update(&format!("{fault} cut off"), vec![sent(&head), Step::Close], expected);
        check_update(
            &format!("{fault} too large"),
            answer(status, &[], vec![b'x'; 1_000_000]),
            expected,
        );
    }
}

#[test]
fn interim_responses_are_skipped() {
    for interim in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n",
    ] {
        let server = Server::script(vec![[vec![sent(interim)], confirmed()].concat()]);
        server
            .api_key_client()
            .update_status(&session_id(), &StatusUpdate::approved())
            .expect(interim);
        assert_eq!(server.requests().len(), 1, "{interim}");

        let turns = vec![[vec![sent(interim)], token("token")].concat(), confirmed()];
        let server = Server::start(in_turn(turns));
        server
            .client()
            .update_status(&session_id(), &StatusUpdate::approved())
            .expect(interim);
        assert_eq!(server.token_requests().len(), 1, "{interim}, token");
    }
}

#[test]
fn a_200_that_does_not_confirm_this_session_leaves_the_update_in_doubt() {
    let body = format!(r#"{{"session_id":"{SESSION}"}}"#);
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00\x43\xbf\xa6\xa3\x02\x00\x00\x00";
    for (fault, headers, body) in [
        (
            "HTML",
            vec![("content-type", "text/html")],
            b"<html><body>Welcome</body></html>".to_vec(),
        ),
        ("empty", vec![], vec![]),
        ("{}", vec![], b"{}".to_vec()),
        ("another session's id", vec![], body.replace('4', "5").into_bytes()),
        (
            "an id that only begins like it",
            vec![],
            body.replace(SESSION, &format!("{SESSION}0")).into_bytes(),
        ),
        (
            "an id with a space",
            vec![],
            body.replace(SESSION, &format!("{SESSION} ")).into_bytes(),
        ),
        ("a trailing comma", vec![], body.replace('}', ",}").into_bytes()),
        ("two documents", vec![], body.repeat(2).into_bytes()),
        (
            "invalid UTF-8",
            vec![],
            [body.trim_end_matches('}').as_bytes(), b",\"url\":\"\xff\"}"].concat(),
        ),
        ("[]", vec![], b"[]".to_vec()),
        ("null", vec![], b"null".to_vec()),
        ("a bare string", vec![], format!("{SESSION:?}").into_bytes()),
        ("an id that is a number", vec![], br#"{"session_id":4}"#.to_vec()),
        ("an id that is null", vec![], br#"{"session_id":null}"#.to_vec()),
        ("deep nesting", vec![], b"[".repeat(60_000)),
        ("65 KB", vec![], [body.as_bytes(), &b" ".repeat(65 * 1024)].concat()),
        (
            "gzip, which the client did not ask for",
            vec![("content-encoding", "gzip")],
            gzip.to_vec(),
        ),
        ("an error", vec![], br#"{"detail":"Something went wrong"}"#.to_vec()),
    ] {
        check_update(
            fault,
            answer(200, &headers, body),
            (UnexpectedResponse, Unknown, NOT_RETRIED),
        );
    }
}

#[test]
fn a_200_that_names_this_session_is_a_success() {
    for (case, body) in [
        (
            "upper case",
            format!(r#"{{"session_id":"{}"}}"#, SESSION.to_uppercase()),
        ),
        (
            "more keys",
            format!(r#"{{"x":[1,2],"session_id":"{SESSION}","session_token":7,"url":null}}"#),
        ),
        (
            "64 KiB",
            format!(r#"{{"session_id":"{SESSION}"}}{}"#, " ".repeat(64 * 1024 - 53)),
        ),
    ] {
        let server = Server::script(vec![answer(200, &[("content-type", "text/plain")], &body)]);
        let updated = server
            .api_key_client()
            .update_status(&session_id(), &StatusUpdate::approved())
            .expect(case);
        assert_eq!((updated.session_token, updated.url), (None, None), "{case}");
        assert_eq!(server.requests().len(), 1, "{case}");
    }
}

#[test]
fn a_200_without_a_valid_token_is_an_authentication_error() {
    let body = r#"{"access_token":"token","expires_in":86400}"#;
    for (fault, body) in [
        ("HTML", b"<html>Welcome</html>".to_vec()),
        ("empty", vec![]),
        ("{}", b"{}".to_vec()),
        ("a trailing comma", body.replace('}', ",}").into_bytes()),
        ("invalid UTF-8", body.replace("token\",", "\u{fffd}").into_bytes()),
        ("[]", b"[]".to_vec()),
        ("null", b"null".to_vec()),
        ("a bare string", b"\"token\"".to_vec()),
        (
            "an error",
            br#"{"error":"invalid_client","access_token":"token"}"#.to_vec(),
        ),
        (
            "another kind of token",
            br#"{"access_token":"token","token_type":"mac"}"#.to_vec(),
        ),
        ("a token with a line break", br#"{"access_token":"a\r\nx: y"}"#.to_vec()),
        ("an empty token", br#"{"access_token":""}"#.to_vec()),
    ] {
        check_token(fault, answer(200, &[], body), (Authentication, NOT_RETRIED));
    }
}

#[test]
fn json_after_a_byte_order_mark_is_parsed() {
    let marked = |status, json: String| answer(status, &[], format!("\u{feff}{json}"));
    let server = Server::start(move |request| match request.method.as_str() {
        "POST" => marked(200, r#"{"access_token":"token","expires_in":86400}"#.into()),
        "GET" => marked(200, format!(r#"{{"session_id":"{SESSION}","status":"In Review"}}"#)),
        _ if request.text().contains("Declined") => marked(400, r#"{"detail":"Not finished"}"#.into()),
        _ => marked(200, format!(r#"{{"session_id":"{SESSION}"}}"#)),
    });
    let client = server.client();
    client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
    assert_eq!(client.session(&session_id()).unwrap().status, "In Review");
    let error = client
        .update_status(&session_id(), &StatusUpdate::declined())
        .unwrap_err();
    assert_eq!(error.message(), Some("Not finished"));
}

#[test]
fn compressed_responses_are_reported_as_compressed() {
    let gzip = b"\x1f\x8b\x08\x00rest".as_slice();
    let brotli = b"{rest".as_slice();
    for (headers, body) in [
        (&[][..], gzip),
        (&[("content-encoding", "gzip")], gzip),
        (&[("content-encoding", "br")], brotli),
    ] {
        for status in [200, 404, 502] {
            let server = Server::always(answer(status, headers, body));
            let client = server.builder(Credentials::api_key(API_KEY)).retry(RetryPolicy::none());
            let client = client.build().unwrap();
            let update = client
                .update_status(&session_id(), &StatusUpdate::approved())
                .unwrap_err();
            let read = client.session(&session_id()).unwrap_err();
            for error in [update, read] {
                let words = format!("answered {status} with compressed data");
                assert!(error.to_string().contains(&words), "{error}");
            }
        }
        let steps = answer(200, headers, body);
        let server = Server::start(move |_| steps.clone());
        let error = server.client().authenticate().unwrap_err();
        assert!(
            error.to_string().contains("answered 200 with compressed data"),
            "{error}"
        );
    }
    // A body that is JSON is parsed, even if its header says gzip.
    let body = format!(r#"{{"session_id":"{SESSION}"}}"#);
    let server = Server::always(answer(200, &[("content-encoding", "gzip")], body));
    let client = server.api_key_client();
    client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
}

#[test]
fn every_http_status_has_its_kind_and_verdict() {
    use ErrorKind::Server as ServerKind;
    let body = format!(r#"{{"session_id":"{SESSION}"}}"#);
    let html = "<html><body><h1>Bad Gateway</h1></body></html>";
    for (status, body, expected) in [
        (101, "", (UnexpectedResponse, Unknown, NOT_RETRIED)),
        (201, &*body, (UnexpectedResponse, Unknown, NOT_RETRIED)),
        (202, &*body, (UnexpectedResponse, Unknown, NOT_RETRIED)),
        (204, "", (UnexpectedResponse, Unknown, NOT_RETRIED)),
        (206, &*body, (UnexpectedResponse, Unknown, NOT_RETRIED)),
        (299, &*body, (UnexpectedResponse, Unknown, NOT_RETRIED)),
        (304, "", (UnexpectedResponse, Unknown, NOT_RETRIED)),
        (400, "", (Rejected, NotApplied, NOT_RETRIED)),
        (401, "", (Authentication, NotApplied, NOT_RETRIED)),
        (402, "", (Forbidden, NotApplied, NOT_RETRIED)),
        (403, "", (Forbidden, NotApplied, NOT_RETRIED)),
        (404, html, (NotFound, NotApplied, NOT_RETRIED)),
        (405, "", (Rejected, NotApplied, NOT_RETRIED)),
        (408, "", (ServerKind, Unknown, RETRIED)),
        (409, "", (Rejected, NotApplied, NOT_RETRIED)),
        (413, "", (Rejected, NotApplied, NOT_RETRIED)),
        (422, "", (Rejected, NotApplied, NOT_RETRIED)),
        (425, "", (Rejected, NotApplied, RETRIED)),
        (429, "", (RateLimited, NotApplied, RETRIED)),
        (499, "", (ErrorKind::Server, Unknown, NOT_RETRIED)),
        (500, "", (ServerKind, Unknown, RETRIED)),
        (501, "", (ServerKind, Unknown, NOT_RETRIED)),
        (502, html, (ServerKind, Unknown, RETRIED)),
        (503, "{}", (ServerKind, Unknown, RETRIED)),
        (504, "", (ServerKind, Unknown, RETRIED)),
        (505, "", (ServerKind, Unknown, NOT_RETRIED)),
        (506, "", (ServerKind, Unknown, RETRIED)),
        (520, html, (ServerKind, Unknown, RETRIED)),
        (530, html, (ServerKind, Unknown, RETRIED)),
        (599, "", (ServerKind, Unknown, RETRIED)),
        (600, &*body, (UnexpectedResponse, Unknown, NOT_RETRIED)),
        (999, &*body, (UnexpectedResponse, Unknown, NOT_RETRIED)),
    ] {
        let steps = answer(status, &[], body);
        check_update(&status.to_string(), steps.clone(), expected);
        let server = Server::always(steps.clone());
        let error = server
            .api_key_client()
            .update_status(&session_id(), &StatusUpdate::approved())
            .unwrap_err();
        assert_eq!((error.status(), error.message()), (Some(status), None), "{status}");
        // A token request never leaves an update in doubt.
        let (kind, _, repeated) = expected;
        let kind = if matches!(kind, ServerKind | RateLimited) {
            kind
        } else {
            Authentication
        };
        check_token(&status.to_string(), steps, (kind, repeated));
    }
}

#[test]
fn redirects_are_not_followed() {
    let elsewhere = Server::script(vec![]);
    let location = format!("{}/v3/session/{SESSION}/update-status/", elsewhere.url());
    for status in [300, 301, 302, 303, 305, 307, 308] {
        // Many servers answer 302 or 303 to an update that they applied.
        let verdict = match status {
            301 | 307 | 308 => NotApplied,
            _ => Unknown,
        };
        for location in [location.as_str(), "/elsewhere/"] {
            let steps = answer(status, &[("location", location)], "");
            check_update(
                &status.to_string(),
                steps.clone(),
                (UnexpectedResponse, verdict, NOT_RETRIED),
            );
            check_token(&status.to_string(), steps, (Authentication, NOT_RETRIED));
        }
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn an_error_carries_the_servers_message_code_and_request_id() {
    for (body, message, code) in [
        (r#"{"detail":"Not finished"}"#, Some("Not finished"), None),
        (
            r#"{"detail":"Not finished","code":"not_finished"}"#,
            Some("Not finished"),
            Some("not_finished"),
        ),
        (r#"{"message":"Bad status"}"#, Some("Bad status"), None),
        (
            r#"{"error":"invalid_request","error_description":"No grant"}"#,
            Some("No grant"),
            Some("invalid_request"),
        ),
        (
            r#"{"error":"invalid_request"}"#,
            Some("invalid_request"),
            Some("invalid_request"),
        ),
        (
            r#"{"new_status":["\"Foo\" is not a valid choice."]}"#,
            Some(r#"new_status: "Foo" is not a valid choice."#),
            None,
        ),
        ("<html><body>Bad Request</body></html>", None, None),
        ("", None, None),
        ("[]", None, None),
        (r#"{"detail":["a",1],"message":{}}"#, Some("detail: a"), None),
    ] {
        let server = Server::script(vec![answer(400, &[("X-Request-Id", "r-1")], body)]);
        let expected = (Rejected, NotApplied, false);
        let error = failed_update(body, &server.api_key_client(), &StatusUpdate::approved(), expected);
        assert_eq!(
            (error.message(), error.code(), error.request_id()),
            (message, code, Some("r-1")),
            "{body}"
        );
        assert_eq!(server.requests().len(), 1, "{body}");

        let server = Server::start(in_turn(vec![answer(400, &[("X-Request-Id", "r-1")], body)]));
        let expected = (Authentication, NotApplied, false);
        let error = failed_update(body, &server.client(), &StatusUpdate::approved(), expected);
        assert_eq!(
            (error.message(), error.code(), error.request_id()),
            (message, code, Some("r-1")),
            "{body}"
        );
    }
}

#[test]
fn an_idle_connection_that_the_server_closed_causes_no_error() {
    let server = Server::script(vec![confirmed(), confirmed(), confirmed()]);
    let client = server.client();
    for updates in 1..=3 {
        client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
        assert_eq!(server.session_requests().len(), updates);
        server.close_connections();
    }
    assert_eq!(server.connections(), 3);
}

#[test]
fn an_unsolicited_response_never_answers_the_next_update() {
    let other = "7d1f0b5e-0d0c-4b8a-8f53-2f0a4c1c9b11";
    let Step::Send(unsolicited) = confirmed().remove(0) else {
        unreachable!()
    };
    let unsolicited = String::from_utf8(unsolicited).unwrap().replace(SESSION, other);
    let refused = answer(404, &[], "");
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n35\r\n{{\"session_id\":\"{SESSION}\"}}\r\n0\r\n\r\n"
    );
    let Step::Send(first) = confirmed().remove(0) else {
        unreachable!()
    };
    for (fault, answer, later) in [
        ("in the same segment", [&first, unsolicited.as_bytes()].concat(), None),
        (
            "after a chunked answer",
            [chunked.as_bytes(), unsolicited.as_bytes()].concat(),
            None,
        ),
        ("while idle", first.clone(), Some(unsolicited.as_bytes())),
        (
            "half of it while idle",
            first.clone(),
            Some(&unsolicited.as_bytes()[..20]),
        ),
    ] {
        let server = Server::script(vec![vec![Step::Send(answer)], refused.clone()]);
        let client = server.api_key_client();
        client
            .update_status(&session_id(), &StatusUpdate::approved())
            .expect(fault);
        if let Some(bytes) = later {
            server.send_unsolicited(bytes);
        }
        let error = client
            .update_status(&other.parse().unwrap(), &StatusUpdate::approved())
            .expect_err(fault);
        assert_eq!((error.kind(), error.verdict()), (NotFound, NotApplied), "{fault}");
        assert_eq!((server.requests().len(), server.connections()), (2, 2), "{fault}");
    }
}

#[test]
fn resubmitted_stops_at_the_first_attempt_in_doubt() {
    let server = Server::script(vec![answer(429, &[("retry-after", "0")], ""), vec![Step::Close]]);
    failed_update(
        "429, closed",
        &server.api_key_client(),
        &resubmitted(),
        (Network, Unknown, false),
    );
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn later_attempts_never_settle_an_attempt_in_doubt() {
    let approved = StatusUpdate::approved();
    for (later, expected) in [
        (answer(404, &[], ""), (NotFound, Unknown, false)),
        (answer(403, &[], ""), (Forbidden, Unknown, false)),
        (
            answer(307, &[("location", "/")], ""),
            (UnexpectedResponse, Unknown, false),
        ),
        (
            answer(429, &[("retry-after", "86400")], ""),
            (RateLimited, Unknown, false),
        ),
    ] {
        for (between, requests) in [
            (vec![], "PATCH GET"),
            (vec![session_is("In Review")], "PATCH GET PATCH"),
        ] {
            let turns = [vec![vec![Step::Reset]], between, vec![later.clone()]].concat();
            let server = Server::script(turns);
            let error = failed_update("reset, then refused", &server.api_key_client(), &approved, expected);
            assert!(error.to_string().contains("attempt 1 may have been applied"), "{error}");
            assert_eq!(server.methods(), requests, "{error}");
        }
    }

    // The token is refused when the session is read, and no new one is issued.
    let tokens = in_turn(vec![token("token-1"), answer(400, &[], "")]);
    let updates = in_turn(vec![vec![Step::Reset], answer(401, &[], "")]);
    let server = Server::start(move |request| {
        if request.is_token_request() {
            tokens(request)
        } else {
            updates(request)
        }
    });
    failed_update(
        "no second token",
        &server.client(),
        &approved,
        (Authentication, Unknown, false),
    );
    assert_eq!((server.session_requests().len(), server.token_requests().len()), (2, 2));
}

#[test]
fn a_refused_connection_never_settles_an_attempt_in_doubt() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            // A regression must not block the test in `accept`: on Linux the timeout also applies there.
            SockRef::from(&listener).set_read_timeout(Some(LONG)).unwrap();
            let (stream, _) = listener.accept().unwrap();
            drop(listener);
            read_request(&mut BufReader::new(stream), 0, None).expect("the whole request");
        });
        let builder = Client::builder(api_key())
            .base_url(format!("http://{address}"))
            .proxy("");
        let client = build(builder, quick_retries(), Network);
        let error = failed_update("refused", &client, &StatusUpdate::approved(), (Network, Unknown, false));
        assert!(error.to_string().contains("after 3 attempts"), "{error}");
        assert!(error.to_string().contains("attempt 1 may have been applied"), "{error}");
        let refused = format!("connecting to {address}: {}", words::connection_refused());
        assert!(error.to_string().contains(&refused), "{error}");
    });
}
