//! A tunnel that fails means `NotApplied`, and the caller or the environment chooses the proxy.

use std::env;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use didit::{Client, ClientBuilder, Credentials, Error, ErrorKind, RetryPolicy, StatusUpdate, Verdict};

use crate::support::process::run_in_child;
use crate::support::{
    API_KEY, CLIENT_ID, CLIENT_SECRET, CLOSED, LONG, Server, Step, confirmed, in_turn, lock, quick_retries, session_id,
    words,
};

/// The head of each request to the proxy.
type Heads = Arc<Mutex<Vec<String>>>;

/// A proxy that answers each CONNECT with `greeting`, and is itself the server at the other end of the tunnel.
fn proxy(greeting: &'static str, turns: Vec<Vec<Step>>) -> (Server, Heads) {
    let heads = Heads::default();
    let received = heads.clone();
    let server = Server::start_wrapped(
        move |mut stream| {
            lock(&received).push(read_head(&mut stream));
            stream.write_all(greeting.as_bytes()).unwrap();
            match greeting.starts_with("HTTP/1.1 200 ") {
                true => Box::new(stream),
                false => Box::new(io::empty()),
            }
        },
        in_turn(turns),
    );
    (server, heads)
}

const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// A client of hosts that only the proxy can resolve.
fn through_proxy(proxy: String, credentials: Credentials) -> Client {
    through_proxy_with(proxy, credentials, quick_retries())
}

fn through_proxy_with(proxy: String, credentials: Credentials, retry: RetryPolicy) -> Client {
    Client::builder(credentials)
        .base_url("http://sessions.test")
        .auth_url("http://tokens.test:8080")
        .allow_insecure_http(true)
        .retry(retry)
        .proxy(proxy)
        .build()
        .unwrap()
}

fn api_key() -> Credentials {
    Credentials::api_key(API_KEY)
}

fn decline(client: &Client) -> Result<(), Error> {
    client.update_status(&session_id(), &StatusUpdate::declined()).map(drop)
}

#[test]
fn an_update_is_sent_through_a_tunnel() {
    let (server, heads) = proxy(ESTABLISHED, vec![confirmed()]);
    decline(&through_proxy(server.url(), api_key())).unwrap();
    let head = lock(&heads)[0].clone();
    assert!(head.starts_with("CONNECT sessions.test:80 HTTP/1.1\r\n"), "{head}");
    assert!(!head.contains(API_KEY), "the proxy must not see the API key: {head}");
    let request = &server.requests()[0];
    assert_eq!(
        (request.method.as_str(), request.header("host")),
        ("PATCH", Some("sessions.test"))
    );
    assert_eq!(request.header("x-api-key"), Some(API_KEY));
    assert_eq!(request.header("proxy-authorization"), None);
    assert_eq!(request.text(), r#"{"new_status":"Declined"}"#);
}

#[test]
fn what_a_proxy_sends_unasked_never_answers_an_update() {
    let body = format!(r#"{{"session_id":"{}"}}"#, session_id());
    let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    for unasked in [&*response, &response[..20], "\r\n"] {
        let greeting = Vec::leak(format!("{ESTABLISHED}{unasked}").into_bytes());
        let (server, heads) = proxy(std::str::from_utf8(greeting).unwrap(), vec![]);
        let error = decline(&through_proxy(server.url(), api_key())).unwrap_err();
        assert_eq!(
            (error.kind(), error.verdict()),
            (ErrorKind::Network, Verdict::NotApplied),
            "{error}"
        );
        assert!(
            error.to_string().contains("sent data that no request had asked for"),
            "{error}"
        );
        assert_eq!(lock(&heads).len(), 3, "a retry may help");
        assert_eq!(server.requests().len(), 0);
    }
}

#[test]
fn each_host_has_a_tunnel_that_is_reused() {
    let turns = vec![crate::support::token("the-token"), confirmed(), confirmed()];
    let (server, heads) = proxy(ESTABLISHED, turns);
    let client = through_proxy(server.url(), Credentials::client(CLIENT_ID, CLIENT_SECRET));
    decline(&client).unwrap();
    decline(&client).unwrap();
    let hosts: Vec<_> = lock(&heads)
        .iter()
        .map(|head| head.lines().next().unwrap().to_owned())
        .collect();
    assert_eq!(
        hosts,
        ["CONNECT tokens.test:8080 HTTP/1.1", "CONNECT sessions.test:80 HTTP/1.1"]
    );
}

#[test]
fn only_the_proxy_receives_its_user_and_password() {
    let (server, heads) = proxy(ESTABLISHED, vec![confirmed()]);
    let url = server.url().replace("http://", "http://me:p%40ss@");
    decline(&through_proxy(url, api_key())).unwrap();
    let head = lock(&heads)[0].clone();
    assert!(
        head.contains("\r\nProxy-Authorization: Basic bWU6cEBzcw==\r\n"),
        "{head}"
    );
    assert_eq!(server.requests()[0].header("proxy-authorization"), None);
}

#[test]
fn a_proxy_that_opens_no_tunnel_is_sent_nothing_else() {
    for greeting in [
        "HTTP/1.1 502 Bad Gateway\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 20",
        "",
    ] {
        let (server, heads) = proxy(greeting, vec![]);
        for credentials in [api_key(), Credentials::client(CLIENT_ID, CLIENT_SECRET)] {
            lock(&heads).clear();
            let error = decline(&through_proxy(server.url(), credentials)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Network, "{greeting:?}: {error}");
            assert_eq!(error.verdict(), Verdict::NotApplied, "{greeting:?}: {error}");
            assert!(error.is_retryable(), "{error}");
            assert_eq!(lock(&heads).len(), 3, "one attempt and two retries");
            assert!(lock(&heads).iter().all(|head| head.starts_with("CONNECT ")));
        }
        assert_eq!(server.requests().len(), 0, "{greeting:?}");
    }
}

#[test]
fn a_proxy_that_refuses_the_tunnel_is_tried_once() {
    for (refusal, words, advice) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\r\n",
            "requires a user name and a password",
            "; check the user name and the password in the proxy's URL; only Basic authentication is supported",
        ),
        (
            "HTTP/1.1 401 Unauthorized\r\n\r\n",
            "requires a user name and a password",
            "; check the user name and the password in the proxy's URL; only Basic authentication is supported",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
            "refuses sessions.test (it answered 403)",
            "; ask the proxy's administrator",
        ),
    ] {
        let (server, heads) = proxy(refusal, vec![]);
        let url = format!("http://me:hunter2@{}", server.address());
        let error = decline(&through_proxy(url, api_key())).unwrap_err();
        assert_eq!(
            (error.kind(), error.verdict()),
            (ErrorKind::Network, Verdict::NotApplied)
        );
        assert!(!error.is_retryable(), "{error}");
        let expected = format!("the proxy {} {words}", server.address());
        assert!(error.to_string().contains(&expected), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        assert!(error.to_string().ends_with(advice), "{error}");
        assert_eq!((lock(&heads).len(), server.requests().len()), (1, 0));
    }
}

#[test]
fn an_unreachable_proxy_means_not_applied() {
    let error = decline(&through_proxy(format!("http://{CLOSED}"), api_key())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{error}");
    assert_eq!(error.verdict(), Verdict::NotApplied);
}

#[test]
fn a_tunnel_that_breaks_after_the_request_leaves_the_update_in_doubt() {
    let (server, heads) = proxy(ESTABLISHED, vec![vec![Step::Close]; 3]);
    let error = decline(&through_proxy(server.url(), api_key())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{error}");
    assert_eq!(error.verdict(), Verdict::Unknown, "{error}");
    assert_eq!((lock(&heads).len(), server.requests().len()), (3, 3));
}

#[test]
fn a_tunnel_that_broke_while_idle_is_replaced() {
    let (server, heads) = proxy(ESTABLISHED, vec![confirmed(); 2]);
    let client = through_proxy_with(server.url(), api_key(), RetryPolicy::none());
    decline(&client).unwrap();
    server.close_connections();
    decline(&client).unwrap();
    assert_eq!((lock(&heads).len(), server.requests().len()), (2, 2));
}

#[test]
fn an_invalid_proxy_is_a_configuration_error_that_hides_its_url() {
    let refused = |url: &str| {
        let builder = with_proxy_of_environment("http://127.0.0.1:9".into()).proxy(url);
        let shown = format!("{builder:?}");
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        let shown = format!("{error} {error:?} {shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(error.to_string().contains("proxy"), "{error}");
        error.to_string()
    };
    for url in [
        "http://me:hunter2 @proxy.test",
        "http://",
        "/hunter2",
        " ",
        "http://me:hunter2@",
        "ftp://me:hunter2@proxy.test",
        "http://me:hunter2%ff@proxy.test",
    ] {
        refused(url);
    }
    for scheme in ["socks", "socks4", "socks4a", "socks5"] {
        let message = refused(&format!("{scheme}://me:hunter2@proxy.test:1080"));
        assert!(message.contains("use an HTTP proxy"), "{message}");
    }
}

/// The base URL for the child process. The parent has none.
fn child_url() -> Option<String> {
    env::var("TEST_BASE_URL").ok()
}

/// A builder that takes the proxy from the environment.
fn with_proxy_of_environment(url: String) -> ClientBuilder {
    Client::builder(api_key())
        .base_url(&url)
        .auth_url(url)
        .allow_insecure_http(true)
        .retry(quick_retries())
}

#[test]
fn the_proxy_variables_are_used() {
    if let Some(url) = child_url() {
        return decline(&with_proxy_of_environment(url).build().unwrap()).unwrap();
    }
    for name in ["HTTP_PROXY", "ALL_PROXY", "http_proxy"] {
        let (server, heads) = proxy(ESTABLISHED, vec![confirmed()]);
        run_in_child(
            "the_proxy_variables_are_used",
            &[("TEST_BASE_URL", "http://sessions.test:9"), (name, &server.url())],
        );
        let head = lock(&heads)[0].clone();
        assert!(
            head.starts_with("CONNECT sessions.test:9 HTTP/1.1\r\n"),
            "{name}: {head}"
        );
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn no_proxy_lists_hosts_that_are_contacted_directly() {
    if let Some(url) = child_url() {
        // The name does not exist, so the error shows that the client resolved it itself.
        let error = decline(&with_proxy_of_environment(url).build().unwrap()).unwrap_err();
        let words = "connecting to sessions.invalid: the name sessions.invalid could not be resolved";
        assert!(error.to_string().contains(words), "{error}");
        return;
    }
    let (server, heads) = proxy(ESTABLISHED, vec![]);
    run_in_child(
        "no_proxy_lists_hosts_that_are_contacted_directly",
        &[
            ("TEST_BASE_URL", "http://sessions.invalid"),
            ("HTTP_PROXY", &server.url()),
            ("NO_PROXY", "elsewhere.test, sessions.invalid:80"),
        ],
    );
    assert_eq!(lock(&heads).len(), 0);
}

#[test]
fn each_scheme_has_its_own_variable_and_all_proxy_is_the_fallback() {
    if let Some(url) = child_url() {
        let one_try = with_proxy_of_environment(url).retry(RetryPolicy::none());
        let result = decline(&one_try.build().unwrap());
        assert_eq!(result.is_ok(), env::var_os("TEST_DIRECT").is_none(), "{result:?}");
        return;
    }
    let name = "each_scheme_has_its_own_variable_and_all_proxy_is_the_fallback";
    let (own, heads) = proxy(ESTABLISHED, vec![confirmed()]);
    let (other, other_heads) = proxy(ESTABLISHED, vec![]);
    run_in_child(
        name,
        &[
            ("TEST_BASE_URL", "http://sessions.test"),
            ("HTTP_PROXY", &own.url()),
            ("HTTPS_PROXY", &other.url()),
            ("ALL_PROXY", &other.url()),
        ],
    );
    // The proxy of the other scheme is not used, so the name cannot be resolved.
    let direct = [("TEST_BASE_URL", "http://sessions.invalid"), ("TEST_DIRECT", "1")];
    run_in_child(name, &[&direct[..], &[("HTTPS_PROXY", &*other.url())]].concat());
    assert_eq!((lock(&heads).len(), lock(&other_heads).len()), (1, 0));
}

#[test]
#[cfg(unix)]
fn no_proxy_may_list_a_network() {
    if let Some(url) = child_url() {
        return decline(&with_proxy_of_environment(url).build().unwrap()).unwrap();
    }
    let (proxy, heads) = proxy(ESTABLISHED, vec![]);
    let server = Server::script(vec![confirmed()]);
    // This machine, but not by a loopback address.
    let url = server.url().replace("127.0.0.1", "0.0.0.0");
    run_in_child(
        "no_proxy_may_list_a_network",
        &[
            ("TEST_BASE_URL", &url),
            ("HTTP_PROXY", &proxy.url()),
            ("NO_PROXY", "10.0.0.0/8,0.0.0.0/8"),
        ],
    );
    assert_eq!((server.requests().len(), lock(&heads).len()), (1, 0));
}

#[test]
#[cfg(not(any(feature = "rustls", feature = "rustls-no-provider", feature = "native-tls")))]
fn without_tls_an_https_proxy_is_rejected_and_sent_nothing() {
    let (server, heads) = proxy(ESTABLISHED, vec![]);
    let url = server.url().replace("http://", "https://me:hunter2@");
    let builder = with_proxy_of_environment("http://127.0.0.1:9".into()).proxy(url);
    let result = builder.build().and_then(|client| decline(&client));
    assert_eq!(
        lock(&heads).len(),
        0,
        "its password would cross the network in the clear"
    );
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("https needs one of the features"), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
}

#[test]
fn the_proxy_variables_are_ignored_for_loopback_hosts() {
    if let Some(url) = child_url() {
        return decline(&with_proxy_of_environment(url).build().unwrap()).unwrap();
    }
    let (server, heads) = proxy(ESTABLISHED, vec![]);
    let direct = Server::always(confirmed());
    let url = server.url();
    run_in_child(
        "the_proxy_variables_are_ignored_for_loopback_hosts",
        &[
            ("TEST_BASE_URL", &direct.url()),
            ("HTTP_PROXY", &url),
            ("ALL_PROXY", &url),
        ],
    );
    assert_eq!((lock(&heads).len(), direct.requests().len()), (0, 1));
}

#[test]
fn the_proxy_is_chosen_for_each_host_on_its_own() {
    if let Some(url) = child_url() {
        let builder = Client::builder(Credentials::client(CLIENT_ID, CLIENT_SECRET))
            .base_url("http://sessions.test")
            .auth_url(url)
            .allow_insecure_http(true)
            .retry(quick_retries());
        return decline(&builder.build().unwrap()).unwrap();
    }
    let (server, heads) = proxy(ESTABLISHED, vec![confirmed()]);
    let tokens = Server::always(vec![]);
    run_in_child(
        "the_proxy_is_chosen_for_each_host_on_its_own",
        &[("TEST_BASE_URL", &tokens.url()), ("ALL_PROXY", &server.url())],
    );
    assert_eq!(lock(&heads).len(), 1);
    assert!(lock(&heads)[0].starts_with("CONNECT sessions.test:80 "));
    assert_eq!((server.session_requests().len(), tokens.token_requests().len()), (1, 1));
    assert_eq!((server.requests().len(), tokens.requests().len()), (1, 1));
}

#[test]
fn an_invalid_proxy_variable_is_a_configuration_error_that_names_it() {
    if let Some(url) = child_url() {
        let error = with_proxy_of_environment(url).build().unwrap_err();
        assert_eq!(
            (error.kind(), error.verdict()),
            (ErrorKind::Config, Verdict::NotApplied)
        );
        assert!(error.to_string().contains("http_proxy"), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        return;
    }
    for value in ["htp://me:hunter2@127.0.0.1:9", "http://me:hunter2@127.0.0.1:9 "] {
        run_in_child(
            "an_invalid_proxy_variable_is_a_configuration_error_that_names_it",
            &[("TEST_BASE_URL", "http://sessions.test"), ("http_proxy", value)],
        );
    }
}

#[test]
fn errors_name_the_proxy_and_hide_its_password() {
    let (server, _heads) = proxy("HTTP/1.1 502 Bad Gateway\r\n\r\n", vec![]);
    let (closing, _heads) = proxy(ESTABLISHED, vec![vec![Step::Close]; 3]);
    let (noise, _heads) = proxy("SSH-2.0-OpenSSH_9.2\r\n\r\n", vec![]);
    let (folded, _heads) = proxy("HTTP/1.1 200 OK\r\nx-info: x\r\n folded\r\n\r\n", vec![]);
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x-info: x\r\n".repeat(21));
    let (many, _heads) = proxy(many.leak(), vec![]);
    for (address, words) in [
        (server.address().to_string(), "the proxy answered 502"),
        (
            noise.address().to_string(),
            "the proxy answered with something that is not HTTP",
        ),
        (
            folded.address().to_string(),
            "the proxy answered with a header that is not valid HTTP",
        ),
        (
            many.address().to_string(),
            "the proxy answered with more than 20 headers",
        ),
        (CLOSED.to_owned(), &words::connection_refused()),
    ] {
        let error = decline(&through_proxy(format!("http://me:hunter2@{address}"), api_key())).unwrap_err();
        let expected = format!("connecting to sessions.test through the proxy {address}: {words}");
        assert!(error.to_string().contains(&expected), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
    let error = decline(&through_proxy(closing.url(), api_key())).unwrap_err();
    let proxy = closing.address();
    let expected = format!("sessions.test, through the proxy {proxy}, closed the connection before answering");
    assert!(error.to_string().contains(&expected), "{error}");
    let error = decline(&through_proxy("http://me:hunter2@proxy.invalid".into(), api_key())).unwrap_err();
    let expected = "through the proxy proxy.invalid:80: the name proxy.invalid could not be resolved";
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn a_slow_proxy_is_a_timeout() {
    let server = Server::start_wrapped(
        |mut stream| {
            read_head(&mut stream);
            // Each byte comes well within the limit.
            for byte in b"HTTP/1.1 200 Connection established\r\nx: "
                .iter()
                .chain([b'x'; 1000].iter())
            {
                if stream.write_all(&[*byte]).is_err() {
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
            Box::new(io::empty())
        },
        |request| panic!("a request without a tunnel: {request:?}"),
    );
    let client = Client::builder(api_key())
        .base_url("http://sessions.test")
        .allow_insecure_http(true)
        .connect_timeout(Duration::from_millis(200))
        .proxy(server.url())
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    let start = Instant::now();
    let error = decline(&client).unwrap_err();
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
    assert_eq!(
        (error.kind(), error.verdict()),
        (ErrorKind::Timeout, Verdict::NotApplied)
    );
    assert!(error.to_string().contains("no connection within 200 ms"), "{error}");
}

#[test]
fn the_connect_timeout_does_not_limit_an_open_tunnel() {
    let (server, heads) = proxy(ESTABLISHED, vec![confirmed(), confirmed()]);
    let client = Client::builder(api_key())
        .base_url("http://sessions.test")
        .allow_insecure_http(true)
        .connect_timeout(Duration::from_secs(1))
        .proxy(server.url())
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    decline(&client).unwrap();
    thread::sleep(Duration::from_millis(1100));
    decline(&client).unwrap();
    assert_eq!(lock(&heads).len(), 1);
}

#[test]
fn an_empty_proxy_overrides_the_environment() {
    if let Some(url) = child_url() {
        return decline(&with_proxy_of_environment(url).proxy("").build().unwrap()).unwrap();
    }
    let (server, heads) = proxy(ESTABLISHED, vec![]);
    let direct = Server::always(confirmed());
    run_in_child(
        "an_empty_proxy_overrides_the_environment",
        &[("TEST_BASE_URL", &direct.url()), ("ALL_PROXY", &server.url())],
    );
    assert_eq!((lock(&heads).len(), direct.requests().len()), (0, 1));
}

#[test]
fn the_callers_proxy_overrides_the_environment() {
    if let Some(url) = child_url() {
        let proxy = env::var("TEST_PROXY").unwrap();
        return decline(&with_proxy_of_environment(url).proxy(proxy).build().unwrap()).unwrap();
    }
    let (chosen, heads) = proxy(ESTABLISHED, vec![confirmed()]);
    let (other, other_heads) = proxy(ESTABLISHED, vec![]);
    run_in_child(
        "the_callers_proxy_overrides_the_environment",
        &[
            ("TEST_BASE_URL", "http://127.0.0.1:9"),
            ("TEST_PROXY", &chosen.url()),
            ("ALL_PROXY", &other.url()),
        ],
    );
    assert_eq!((lock(&heads).len(), lock(&other_heads).len()), (1, 0));
}

#[test]
fn a_socks_proxy_in_the_environment_is_a_configuration_error() {
    if let Some(url) = child_url() {
        let error = with_proxy_of_environment(url).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        return;
    }
    run_in_child(
        "a_socks_proxy_in_the_environment_is_a_configuration_error",
        &[
            ("TEST_BASE_URL", "http://sessions.test:9"),
            ("ALL_PROXY", "socks5://me:hunter2@127.0.0.1:9"),
        ],
    );
}
