//! Proxies: a tunnel that fails means that nothing was sent, and which proxy is used is the caller's choice.

use std::env;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use didit::{Client, ClientBuilder, Credentials, Error, ErrorKind, RetryPolicy, StatusUpdate, Verdict};

use crate::support::process::run_in_child;
use crate::support::{
    API_KEY, CLIENT_ID, CLIENT_SECRET, Server, Step, confirmed, in_turn, lock, quick_retries, session_id,
};

/// What the proxy was asked, head by head.
type Asked = Arc<Mutex<Vec<String>>>;

/// A proxy that answers each CONNECT with `greeting` and is itself what lies at the tunnel's other end.
fn proxy(greeting: &'static str, turns: Vec<Vec<Step>>) -> (Server, Asked) {
    let asked = Asked::default();
    let heads = asked.clone();
    let server = Server::start_wrapped(
        move |mut stream| {
            lock(&heads).push(read_head(&mut stream));
            stream.write_all(greeting.as_bytes()).unwrap();
            match greeting.starts_with("HTTP/1.1 200 ") {
                true => Box::new(stream),
                false => Box::new(io::empty()),
            }
        },
        in_turn(turns),
    );
    (server, asked)
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

/// Sessions at a host that only the proxy could look up.
fn beyond(proxy: String, credentials: Credentials) -> Client {
    retrying_beyond(proxy, credentials, quick_retries())
}

fn retrying_beyond(proxy: String, credentials: Credentials, retry: RetryPolicy) -> Client {
    Client::builder(credentials)
        .base_url("http://sessions.test")
        .auth_url("http://tokens.test:8080")
        .allow_insecure_http(true)
        .retry(retry)
        .proxy(proxy)
        .build()
        .unwrap()
}

fn key() -> Credentials {
    Credentials::api_key(API_KEY)
}

fn decline(client: &Client) -> Result<(), Error> {
    client.update_status(&session_id(), &StatusUpdate::declined()).map(drop)
}

#[test]
fn an_update_goes_through_a_tunnel() {
    let (server, asked) = proxy(ESTABLISHED, vec![confirmed()]);
    decline(&beyond(server.url(), key())).unwrap();
    let head = lock(&asked)[0].clone();
    assert!(head.starts_with("CONNECT sessions.test:80 HTTP/1.1\r\n"), "{head}");
    assert!(!head.contains(API_KEY), "the key is not for the proxy: {head}");
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
fn token_and_update_have_a_tunnel_each_and_keep_it() {
    let turns = vec![crate::support::token("the-token"), confirmed(), confirmed()];
    let (server, asked) = proxy(ESTABLISHED, turns);
    let client = beyond(server.url(), Credentials::client(CLIENT_ID, CLIENT_SECRET));
    decline(&client).unwrap();
    decline(&client).unwrap();
    let hosts: Vec<_> = lock(&asked)
        .iter()
        .map(|head| head.lines().next().unwrap().to_owned())
        .collect();
    assert_eq!(
        hosts,
        ["CONNECT tokens.test:8080 HTTP/1.1", "CONNECT sessions.test:80 HTTP/1.1"]
    );
}

#[test]
fn a_proxys_user_and_password_go_to_the_proxy_alone() {
    let (server, asked) = proxy(ESTABLISHED, vec![confirmed()]);
    let url = server.url().replace("http://", "http://me:p%40ss@");
    decline(&beyond(url, key())).unwrap();
    let head = lock(&asked)[0].clone();
    assert!(
        head.contains("\r\nProxy-Authorization: Basic bWU6cEBzcw==\r\n"),
        "{head}"
    );
    assert_eq!(server.requests()[0].header("proxy-authorization"), None);
}

#[test]
fn a_proxy_that_does_not_open_the_tunnel_is_sent_nothing() {
    for greeting in [
        "HTTP/1.1 502 Bad Gateway\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 20",
        "",
    ] {
        let (server, asked) = proxy(greeting, vec![]);
        for credentials in [key(), Credentials::client(CLIENT_ID, CLIENT_SECRET)] {
            lock(&asked).clear();
            let error = decline(&beyond(server.url(), credentials)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Network, "{greeting:?}: {error}");
            assert_eq!(error.verdict(), Verdict::NotApplied, "{greeting:?}: {error}");
            assert!(error.is_retryable(), "{error}");
            assert_eq!(lock(&asked).len(), 3, "one attempt and two retries");
            assert!(lock(&asked).iter().all(|head| head.starts_with("CONNECT ")));
        }
        assert_eq!(server.requests().len(), 0, "{greeting:?}");
    }
}

#[test]
fn a_proxy_that_refuses_is_asked_once() {
    for (refusal, words, advice) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\r\n",
            "wants a user name and a password",
            "; check the proxy's URL, which carries them; only Basic authentication is supported",
        ),
        (
            "HTTP/1.1 401 Unauthorized\r\n\r\n",
            "wants a user name and a password",
            "; check the proxy's URL, which carries them; only Basic authentication is supported",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
            "refuses sessions.test (it answered 403)",
            "; ask whoever runs the proxy",
        ),
    ] {
        let (server, asked) = proxy(refusal, vec![]);
        let url = format!("http://me:hunter2@{}", server.address());
        let error = decline(&beyond(url, key())).unwrap_err();
        assert_eq!(
            (error.kind(), error.verdict()),
            (ErrorKind::Network, Verdict::NotApplied)
        );
        assert!(!error.is_retryable(), "{error}");
        let told = format!("the proxy {} {words}", server.address());
        assert!(error.to_string().contains(&told), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        assert!(error.to_string().ends_with(advice), "{error}");
        assert_eq!((lock(&asked).len(), server.requests().len()), (1, 0));
    }
}

#[test]
fn a_proxy_that_cannot_be_reached_is_sent_nothing() {
    let nobody = "http://127.0.0.1:1".into();
    let error = decline(&beyond(nobody, key())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{error}");
    assert_eq!(error.verdict(), Verdict::NotApplied);
}

#[test]
fn a_tunnel_that_breaks_after_the_request_leaves_it_unknown() {
    let (server, asked) = proxy(ESTABLISHED, vec![vec![Step::Close]; 3]);
    let error = decline(&beyond(server.url(), key())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{error}");
    assert_eq!(error.verdict(), Verdict::Unknown, "{error}");
    assert_eq!((lock(&asked).len(), server.requests().len()), (3, 3));
}

#[test]
fn a_tunnel_that_broke_while_idle_is_opened_again() {
    let (server, asked) = proxy(ESTABLISHED, vec![confirmed(); 2]);
    let client = retrying_beyond(server.url(), key(), RetryPolicy::none());
    decline(&client).unwrap();
    server.close_connections();
    decline(&client).unwrap();
    assert_eq!((lock(&asked).len(), server.requests().len()), (2, 2));
}

#[test]
fn a_proxy_that_cannot_be_used_is_a_configuration_error_without_its_url() {
    let refused = |url: &str| {
        let builder = by_environment("http://127.0.0.1:9".into()).proxy(url);
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
        assert!(message.contains("use an http proxy"), "{message}");
    }
}

/// In a child: the address of the server that stands in for Didit.
fn told() -> Option<String> {
    env::var("TEST_BASE_URL").ok()
}

/// With whatever proxy the environment names.
fn by_environment(url: String) -> ClientBuilder {
    Client::builder(key())
        .base_url(&url)
        .auth_url(url)
        .allow_insecure_http(true)
        .retry(quick_retries())
}

#[test]
fn the_environments_proxy_is_used() {
    if let Some(url) = told() {
        return decline(&by_environment(url).build().unwrap()).unwrap();
    }
    for name in ["HTTP_PROXY", "ALL_PROXY", "http_proxy"] {
        let (server, asked) = proxy(ESTABLISHED, vec![confirmed()]);
        run_in_child(
            "the_environments_proxy_is_used",
            &[("TEST_BASE_URL", "http://sessions.test:9"), (name, &server.url())],
        );
        let head = lock(&asked)[0].clone();
        assert!(
            head.starts_with("CONNECT sessions.test:9 HTTP/1.1\r\n"),
            "{name}: {head}"
        );
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn no_proxy_names_hosts_that_are_reached_directly() {
    if let Some(url) = told() {
        // It does not exist, and only a proxy could have hidden that.
        let error = decline(&by_environment(url).build().unwrap()).unwrap_err();
        let words = "connecting to sessions.invalid: the name sessions.invalid could not be resolved";
        assert!(error.to_string().contains(words), "{error}");
        return;
    }
    let (server, asked) = proxy(ESTABLISHED, vec![]);
    run_in_child(
        "no_proxy_names_hosts_that_are_reached_directly",
        &[
            ("TEST_BASE_URL", "http://sessions.invalid"),
            ("HTTP_PROXY", &server.url()),
            ("NO_PROXY", "elsewhere.test, sessions.invalid:80"),
        ],
    );
    assert_eq!(lock(&asked).len(), 0);
}

#[test]
fn each_scheme_has_its_own_proxy_in_the_environment_and_all_proxy_comes_last() {
    if let Some(url) = told() {
        let one_try = by_environment(url).retry(RetryPolicy::none());
        let result = decline(&one_try.build().unwrap());
        assert_eq!(result.is_ok(), env::var_os("TEST_DIRECT").is_none(), "{result:?}");
        return;
    }
    let name = "each_scheme_has_its_own_proxy_in_the_environment_and_all_proxy_comes_last";
    let (own, asked) = proxy(ESTABLISHED, vec![confirmed()]);
    let (other, not_asked) = proxy(ESTABLISHED, vec![]);
    run_in_child(
        name,
        &[
            ("TEST_BASE_URL", "http://sessions.test"),
            ("HTTP_PROXY", &own.url()),
            ("HTTPS_PROXY", &other.url()),
            ("ALL_PROXY", &other.url()),
        ],
    );
    // It does not exist, and the proxy of the other scheme is not for it.
    let direct = [("TEST_BASE_URL", "http://sessions.invalid"), ("TEST_DIRECT", "1")];
    run_in_child(name, &[&direct[..], &[("HTTPS_PROXY", &*other.url())]].concat());
    assert_eq!((lock(&asked).len(), lock(&not_asked).len()), (1, 0));
}

#[test]
#[cfg(unix)]
fn no_proxy_may_list_a_network() {
    if let Some(url) = told() {
        return decline(&by_environment(url).build().unwrap()).unwrap();
    }
    let (proxy, asked) = proxy(ESTABLISHED, vec![]);
    let server = Server::script(vec![confirmed()]);
    // Not a loopback address, and yet this machine.
    let url = server.url().replace("127.0.0.1", "0.0.0.0");
    run_in_child(
        "no_proxy_may_list_a_network",
        &[
            ("TEST_BASE_URL", &url),
            ("HTTP_PROXY", &proxy.url()),
            ("NO_PROXY", "10.0.0.0/8,0.0.0.0/8"),
        ],
    );
    assert_eq!((server.requests().len(), lock(&asked).len()), (1, 0));
}

#[test]
#[cfg(not(any(feature = "rustls", feature = "rustls-no-provider", feature = "native-tls")))]
fn without_tls_an_https_proxy_is_refused_and_told_nothing() {
    let (server, asked) = proxy(ESTABLISHED, vec![]);
    let url = server.url().replace("http://", "https://me:hunter2@");
    let builder = by_environment("http://127.0.0.1:9".into()).proxy(url);
    let result = builder.build().and_then(|client| decline(&client));
    assert_eq!(
        lock(&asked).len(),
        0,
        "its password would cross the network in the clear"
    );
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("https needs one of the features"), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
}

#[test]
fn a_loopback_host_is_reached_directly_whatever_the_environment_says() {
    if let Some(url) = told() {
        return decline(&by_environment(url).build().unwrap()).unwrap();
    }
    let (server, asked) = proxy(ESTABLISHED, vec![]);
    let direct = Server::always(confirmed());
    let url = server.url();
    run_in_child(
        "a_loopback_host_is_reached_directly_whatever_the_environment_says",
        &[
            ("TEST_BASE_URL", &direct.url()),
            ("HTTP_PROXY", &url),
            ("ALL_PROXY", &url),
        ],
    );
    assert_eq!((lock(&asked).len(), direct.requests().len()), (0, 1));
}

#[test]
fn each_host_is_reached_in_its_own_way() {
    if let Some(url) = told() {
        let builder = Client::builder(Credentials::client(CLIENT_ID, CLIENT_SECRET))
            .base_url("http://sessions.test")
            .auth_url(url)
            .allow_insecure_http(true)
            .retry(quick_retries());
        return decline(&builder.build().unwrap()).unwrap();
    }
    let (server, asked) = proxy(ESTABLISHED, vec![confirmed()]);
    let tokens = Server::always(vec![]);
    run_in_child(
        "each_host_is_reached_in_its_own_way",
        &[("TEST_BASE_URL", &tokens.url()), ("ALL_PROXY", &server.url())],
    );
    assert_eq!(lock(&asked).len(), 1);
    assert!(lock(&asked)[0].starts_with("CONNECT sessions.test:80 "));
    assert_eq!((server.session_requests().len(), tokens.token_requests().len()), (1, 1));
    assert_eq!((server.requests().len(), tokens.requests().len()), (1, 1));
}

#[test]
fn a_proxy_variable_that_cannot_be_used_is_named_and_nothing_goes_direct() {
    if let Some(url) = told() {
        let error = by_environment(url).build().unwrap_err();
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
            "a_proxy_variable_that_cannot_be_used_is_named_and_nothing_goes_direct",
            &[("TEST_BASE_URL", "http://sessions.test"), ("http_proxy", value)],
        );
    }
}

#[test]
fn a_failure_tells_that_a_proxy_is_between_and_never_its_password() {
    let (server, _asked) = proxy("HTTP/1.1 502 Bad Gateway\r\n\r\n", vec![]);
    let (closing, _asked) = proxy(ESTABLISHED, vec![vec![Step::Close]; 3]);
    let (noise, _asked) = proxy("SSH-2.0-OpenSSH_9.2\r\n\r\n", vec![]);
    let (folded, _asked) = proxy("HTTP/1.1 200 OK\r\nx-info: x\r\n folded\r\n\r\n", vec![]);
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x-info: x\r\n".repeat(21));
    let (many, _asked) = proxy(many.leak(), vec![]);
    let nobody = "127.0.0.1:1".to_owned();
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
        (nobody, "connection refused"),
    ] {
        let error = decline(&beyond(format!("http://me:hunter2@{address}"), key())).unwrap_err();
        let told = format!("connecting to sessions.test through the proxy {address}: {words}");
        assert!(error.to_string().contains(&told), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
    let error = decline(&beyond(closing.url(), key())).unwrap_err();
    let proxy = closing.address();
    let told = format!("sessions.test, through the proxy {proxy}, closed the connection before answering");
    assert!(error.to_string().contains(&told), "{error}");
    let error = decline(&beyond("http://me:hunter2@proxy.invalid".into(), key())).unwrap_err();
    let told = "through the proxy proxy.invalid:80: the name proxy.invalid could not be resolved";
    assert!(error.to_string().contains(told), "{error}");
}

#[test]
fn a_proxy_that_drips_its_answer_is_given_up() {
    let server = Server::start_wrapped(
        |mut stream| {
            read_head(&mut stream);
            // Each byte would be waited for anew.
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
        |request| panic!("a request before there is a tunnel: {request:?}"),
    );
    let client = Client::builder(key())
        .base_url("http://sessions.test")
        .allow_insecure_http(true)
        .connect_timeout(Duration::from_millis(200))
        .proxy(server.url())
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    let start = Instant::now();
    let error = decline(&client).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(
        (error.kind(), error.verdict()),
        (ErrorKind::Timeout, Verdict::NotApplied)
    );
    assert!(error.to_string().contains("no connection within 200 ms"), "{error}");
}

#[test]
fn the_limit_on_opening_a_tunnel_ends_with_it() {
    let (server, asked) = proxy(ESTABLISHED, vec![confirmed(), confirmed()]);
    let client = Client::builder(key())
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
    assert_eq!(lock(&asked).len(), 1);
}

#[test]
fn an_empty_proxy_ignores_the_environment() {
    if let Some(url) = told() {
        return decline(&by_environment(url).proxy("").build().unwrap()).unwrap();
    }
    let (server, asked) = proxy(ESTABLISHED, vec![]);
    let direct = Server::always(confirmed());
    run_in_child(
        "an_empty_proxy_ignores_the_environment",
        &[("TEST_BASE_URL", &direct.url()), ("ALL_PROXY", &server.url())],
    );
    assert_eq!((lock(&asked).len(), direct.requests().len()), (0, 1));
}

#[test]
fn the_callers_proxy_goes_before_the_environments() {
    if let Some(url) = told() {
        let proxy = env::var("TEST_PROXY").unwrap();
        return decline(&by_environment(url).proxy(proxy).build().unwrap()).unwrap();
    }
    let (chosen, asked) = proxy(ESTABLISHED, vec![confirmed()]);
    let (other, not_asked) = proxy(ESTABLISHED, vec![]);
    run_in_child(
        "the_callers_proxy_goes_before_the_environments",
        &[
            ("TEST_BASE_URL", "http://127.0.0.1:9"),
            ("TEST_PROXY", &chosen.url()),
            ("ALL_PROXY", &other.url()),
        ],
    );
    assert_eq!((lock(&asked).len(), lock(&not_asked).len()), (1, 0));
}

#[test]
fn a_socks_proxy_in_the_environment_is_a_configuration_error() {
    if let Some(url) = told() {
        let error = by_environment(url).build().unwrap_err();
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
