//! A broken or idle connection is never reused, and an abandoned request is never delivered later.

use std::io::{BufReader, ErrorKind as Io, Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use didit::{Client, Credentials, ErrorKind, Node, RetryPolicy, StatusUpdate, Verdict};

use crate::support::{
    API_KEY, CLIENT_ID, CLIENT_SECRET, LONG, SESSION, Server, Step, answer, confirmed, read_request, session_id,
    session_is, token,
};

fn resubmitted() -> StatusUpdate {
    StatusUpdate::resubmitted([Node::new("node", "OCR")])
}

/// A server that answers the first request of each connection, and closes the connection instead of answering the second.
fn one_response_per_connection() -> Server {
    let firsts = std::sync::Mutex::new(std::collections::HashSet::new());
    Server::start(move |request| match firsts.lock().unwrap().insert(request.connection) {
        true if request.method == "GET" => session_is("In Review"),
        true => confirmed(),
        false => vec![Step::Close],
    })
}

#[test]
fn a_retry_after_a_broken_connection_and_a_resubmitted_use_new_connections() {
    let server = one_response_per_connection();
    let client = server.api_key_client();
    client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
    client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
    // A `Resubmitted` over a broken connection would end in doubt, because it is never retried.
    client.update_status(&session_id(), &resubmitted()).unwrap();
    // The update is lost over connection 0. The read and the retry after it use new ones, and so does the resubmission.
    let connections: Vec<_> = server.requests().iter().map(|request| request.connection).collect();
    assert_eq!(connections, [0, 0, 1, 2, 3]);
    assert_eq!(server.methods(), "PATCH PATCH GET PATCH PATCH");
}

#[test]
fn later_calls_do_not_reuse_a_broken_connection() {
    let server = one_response_per_connection();
    let client = server
        .builder(Credentials::api_key(API_KEY))
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
    let error = client
        .update_status(&session_id(), &StatusUpdate::approved())
        .unwrap_err();
    assert_eq!((error.kind(), error.verdict()), (ErrorKind::Network, Verdict::Unknown));
    for _ in 0..3 {
        client
            .clone()
            .update_status(&session_id(), &StatusUpdate::approved())
            .unwrap();
    }
    assert_eq!(server.connections(), 4);
}

#[test]
fn a_cut_off_response_is_retried_over_a_new_connection() {
    let cut = format!("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{{\"session_id\":\"{SESSION}\"");
    let server = Server::script(vec![
        confirmed(),
        vec![Step::Send(cut.into()), Step::Close],
        session_is("In Review"),
        confirmed(),
    ]);
    let client = server.api_key_client();
    for _ in 0..2 {
        client.update_status(&session_id(), &StatusUpdate::declined()).unwrap();
    }
    let connections: Vec<_> = server.requests().iter().map(|request| request.connection).collect();
    assert_eq!(
        connections,
        [0, 0, 1, 2],
        "no connection is reused soon after one was lost"
    );
}

#[test]
fn after_an_update_in_doubt_no_open_connection_is_used() {
    // A gateway that gave up may still pass on the server's response, which must not confirm another update.
    for doubt in [
        answer(504, &[], ""),
        answer(501, &[], ""),
        answer(200, &[], "{}"),
        answer(200, &[], format!(r#"{{"session_id":"{SESSION}","success":false}}"#)),
    ] {
        let server = Server::script(vec![confirmed(), doubt, confirmed(), confirmed()]);
        let client = server.builder(Credentials::api_key(API_KEY));
        let client = client.retry(RetryPolicy::none()).build().unwrap();
        let update = |update| client.update_status(&session_id(), &update);
        update(StatusUpdate::approved()).unwrap();
        let error = update(StatusUpdate::approved()).unwrap_err();
        assert_eq!(error.verdict(), Verdict::Unknown, "{error}");
        update(StatusUpdate::declined()).unwrap();
        assert_eq!(server.connections(), 2, "{error}");
    }
}

#[test]
fn a_refused_update_keeps_the_connection() {
    let server = Server::script(vec![answer(404, &[], "{}"), confirmed()]);
    let client = server.api_key_client();
    client
        .update_status(&session_id(), &StatusUpdate::declined())
        .unwrap_err();
    client.update_status(&session_id(), &StatusUpdate::declined()).unwrap();
    assert_eq!(server.connections(), 1);
}

#[test]
fn the_longest_allowed_headers_are_sent_in_full() {
    let (value, name) = ("t".repeat(16 * 1024), "n".repeat(1024));
    let given = value.clone();
    let server = Server::start(move |request| match request.is_token_request() {
        true => token(&given),
        false => confirmed(),
    });
    let prefix = format!("/{}", "p".repeat(8 * 1024 - server.url().len() - 1));
    server
        .builder(Credentials::client(CLIENT_ID, CLIENT_SECRET))
        .base_url(format!("{}{prefix}", server.url()))
        .user_agent(&name)
        .build()
        .unwrap()
        .update_status(&session_id(), &StatusUpdate::declined())
        .unwrap();
    let request = &server.session_requests()[0];
    assert_eq!(request.path, format!("{prefix}/v1/session/{SESSION}/update-status/"));
    assert_eq!(request.header("authorization"), Some(&*format!("Bearer {value}")));
    assert_eq!(request.header("user-agent"), Some(&*name));
}

#[test]
fn a_user_agent_or_a_base_url_that_is_too_long_is_a_configuration_error() {
    // A loopback host, so that the test also works without TLS.
    let builder = || Client::builder(Credentials::api_key(API_KEY)).base_url("http://127.0.0.1:1");
    let url = format!("http://127.0.0.1:1/{}", "p".repeat(8 * 1024));
    for (error, name) in [
        (
            builder().user_agent("n".repeat(1025)).build().unwrap_err(),
            "user_agent",
        ),
        (builder().base_url(url).build().unwrap_err(), "base_url"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(name), "{error}");
        assert!(!error.to_string().contains("ppp"), "{error}");
    }
}

#[test]
fn response_headers_are_limited_to_64_kib() {
    let with_head_of = |size: usize| {
        let end = "\r\ncontent-length: 53\r\n\r\n";
        let start = "HTTP/1.1 200 OK\r\nx: ";
        let filling = "x".repeat(size - start.len() - end.len());
        let body = format!("{{\"session_id\":\"{SESSION}\"}}");
        assert_eq!(body.len(), 53);
        vec![Step::Send(format!("{start}{filling}{end}{body}").into())]
    };
    let server = Server::script(vec![with_head_of(64 * 1024), with_head_of(64 * 1024 + 1)]);
    let client = server.builder(Credentials::api_key(API_KEY)).build().unwrap();
    client.update_status(&session_id(), &StatusUpdate::declined()).unwrap();
    let error = client
        .update_status(&session_id(), &StatusUpdate::declined())
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.verdict()),
        (ErrorKind::UnexpectedResponse, Verdict::Unknown)
    );
    assert!(error.to_string().contains("headers larger than 64 KiB"), "{error}");
}

/// A confirmation with these header lines before its own.
fn confirmed_with(lines: &str) -> Vec<Step> {
    let body = format!("{{\"session_id\":\"{SESSION}\"}}");
    let length = body.len();
    vec![Step::Send(
        format!("HTTP/1.1 200 OK\r\n{lines}content-length: {length}\r\n\r\n{body}").into(),
    )]
}

#[test]
fn a_response_with_128_headers_is_read() {
    let server = Server::always(confirmed_with(&"x-info: x\r\n".repeat(127)));
    let client = server.api_key_client();
    client.update_status(&session_id(), &StatusUpdate::declined()).unwrap();
}

#[test]
fn invalid_and_too_many_headers_are_reported() {
    for (lines, words) in [
        ("x-info : x\r\n", "answered with a header that is not valid HTTP"),
        (
            "x-info: x\r\n folded\r\n",
            "answered with a header that is not valid HTTP",
        ),
        ("x-info: \0\r\n", "answered with a header that is not valid HTTP"),
        (
            "content-length: many\r\n",
            "answered with a header that is not valid HTTP",
        ),
        (&"x-info: x\r\n".repeat(128), "answered with more than 128 headers"),
    ] {
        let server = Server::always(confirmed_with(lines));
        let client = server.api_key_client();
        let result = client.update_status(&session_id(), &StatusUpdate::declined());
        let error = result.unwrap_err();
        let message = format!("{} {words}", server.address());
        assert!(error.to_string().contains(&message), "{lines:?}: {error}");
        assert_eq!(
            (error.kind(), error.verdict(), error.is_retryable()),
            (ErrorKind::UnexpectedResponse, Verdict::Unknown, false),
            "{lines:?}"
        );
    }
}

#[test]
fn connection_errors_name_the_host_in_plain_words() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
    let large = format!("HTTP/1.1 200 OK\r\ncontent-length: 70000\r\n\r\n{}", "x".repeat(70_000));
    for (steps, words) in [
        (vec![Step::Close], "closed the connection before answering"),
        (vec![Step::Reset], "reset the connection before answering"),
        (vec![Step::Stall], "did not answer within 1 s"),
        (
            vec![Step::Send("SSH-2.0\r\n\r\n".into())],
            "answered with something that is not HTTP",
        ),
        (
            vec![Step::Send(head.into()), Step::Close],
            "sent a response that was cut off",
        ),
        (
            vec![Step::Send(head.into()), Step::Reset],
            "sent a response that was cut off",
        ),
        (
            vec![Step::Send(head.into()), Step::Stall],
            "did not finish its response within 1 s",
        ),
        (vec![Step::Send(large.into())], "sent a response larger than 64 KiB"),
    ] {
        let stalls = steps.iter().any(|step| matches!(step, Step::Stall));
        let server = Server::always(steps);
        let error = server
            .builder(Credentials::api_key(API_KEY))
            .timeout(if stalls { Duration::from_secs(1) } else { LONG })
            .retry(RetryPolicy::none())
            .build()
            .unwrap()
            .update_status(&session_id(), &StatusUpdate::declined())
            .unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains(&format!("{} {words}", server.address())),
            "{words}: {message}"
        );
        for internal in ["os error", "protocol:", "io:", "timeout:", "update-status"] {
            assert!(!message.contains(internal), "{message}");
        }
        assert_eq!(error.verdict(), Verdict::Unknown, "{message}");
        assert!(std::error::Error::source(&error).is_none());
    }
}

#[test]
fn resubmitted_succeeds_when_the_server_closes_idle_connections() {
    let server = one_response_per_connection();
    for _ in 0..200 {
        let client = server.api_key_client();
        client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
        client.update_status(&session_id(), &resubmitted()).unwrap();
    }
    assert_eq!(server.connections(), 400);
}

#[test]
fn a_connection_is_not_reused_after_four_idle_seconds() {
    let server = one_response_per_connection();
    let client = server
        .builder(Credentials::api_key(API_KEY))
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
    thread::sleep(Duration::from_millis(4100));
    client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
    assert_eq!(server.connections(), 2);
}

/// How a connection ends, as the server sees it, after one update got this response or none.
fn end_of_connection(answer: Option<Vec<Step>>) -> Result<usize, Io> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        read_request(&mut stream, 0, None).unwrap();
        if let Some([Step::Send(answer)]) = answer.as_deref() {
            stream.get_mut().write_all(answer).unwrap();
        }
        stream.read(&mut [0]).map_err(|error| error.kind())
    });
    let client = Client::builder(Credentials::api_key(API_KEY))
        .base_url(url)
        .proxy("")
        .timeout(Duration::from_secs(1))
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    let _ = client.update_status(&session_id(), &StatusUpdate::approved());
    drop(client);
    server.join().unwrap()
}

#[test]
fn an_abandoned_request_resets_its_connection() {
    assert_eq!(end_of_connection(None), Err(Io::ConnectionReset));
    assert_eq!(end_of_connection(Some(confirmed())), Ok(0));
}
