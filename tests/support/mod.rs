//! A loopback server that follows a test's script and records every request.

// No test program uses all of this.
#![allow(dead_code)]

pub mod capture;
pub mod directory;
pub mod page;
pub mod process;
pub mod words;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use didit::{Client, ClientBuilder, Credentials, RetryPolicy, SessionId};

pub const SESSION: &str = "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10";
pub const CLIENT_ID: &str = "the-client-id";
pub const CLIENT_SECRET: &str = "the-client-secret";
pub const API_KEY: &str = "the-api-key";

/// A limit that no call reaches, even on a busy machine.
pub const LONG: Duration = Duration::from_secs(30);

/// An address where nothing listens.
pub const CLOSED: &str = "127.0.0.1:1";

pub fn session_id() -> SessionId {
    SESSION.parse().unwrap()
}

/// One thing that the server does after it has read a whole request. After the last step the connection stays open.
#[derive(Clone, Debug)]
pub enum Step {
    Send(Vec<u8>),
    /// Sends one byte every 10 ms.
    Drip(Vec<u8>),
    /// Sends nothing until the client closes the connection or the server is dropped.
    Stall,
    Close,
    /// Resets the connection (RST).
    Reset,
}

/// A whole response with a `content-length`. The connection stays open.
pub fn answer(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<Step> {
    let body = body.as_ref();
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let head = format!(
        "HTTP/1.1 {status} Status\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    vec![Step::Send([head.as_bytes(), body].concat())]
}

/// Didit's response to an update that it applied.
pub fn confirmed() -> Vec<Step> {
    answer(200, &[], format!(r#"{{"session_id":"{SESSION}"}}"#))
}

/// Didit's response to a read of the session, which has this status.
pub fn session_is(status: &str) -> Vec<Step> {
    answer(200, &[], format!(r#"{{"session_id":"{SESSION}","status":"{status}"}}"#))
}

/// Didit's response to valid client credentials.
pub fn token(value: &str) -> Vec<Step> {
    answer(200, &[], format!(r#"{{"access_token":"{value}","expires_in":86400}}"#))
}

/// Didit's response when the session does not exist.
pub fn no_such_session() -> Vec<Step> {
    answer(404, &[], r#"{"detail":"Not found."}"#)
}

/// Answers each request with the next of `turns`. One request too many fails the test.
pub fn in_turn(turns: Vec<Vec<Step>>) -> impl Fn(&Request) -> Vec<Step> + Send + Sync {
    let turns: Mutex<VecDeque<_>> = Mutex::new(turns.into());
    move |request| match lock(&turns).pop_front() {
        Some(steps) => steps,
        None => panic!("unexpected request: {} {}", request.method, request.path),
    }
}

#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The number of its connection, counted from 0.
    pub connection: usize,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn is_token_request(&self) -> bool {
        self.path.ends_with("/auth/v2/token/")
    }
}

/// When the server closes a connection without reading its first request to the end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum EarlyClose {
    OnAccept,
    /// After the request's headers, without reading the body.
    AfterHeaders,
}

pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

type Handler = dyn Fn(&Request) -> Vec<Step> + Send + Sync;
type Wrap = dyn Fn(TcpStream) -> Box<dyn Stream> + Send + Sync;

struct Shared {
    handler: Box<Handler>,
    wrap: Box<Wrap>,
    early: Mutex<VecDeque<EarlyClose>>,
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
    bytes_written: AtomicUsize,
    open: Mutex<Vec<Arc<TcpStream>>>,
    stopped: AtomicBool,
}

/// Dropping it closes all connections, and fails the test if a handler panicked.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<Vec<JoinHandle<()>>>>,
}

impl Server {
    /// Starts a server that asks `handler` how to respond to each request.
    pub fn start(handler: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static) -> Server {
        Server::start_wrapped(|stream| Box::new(stream), handler)
    }

    /// Like `start`, but wraps every connection, for example in TLS.
    pub fn start_wrapped(
        wrap: impl Fn(TcpStream) -> Box<dyn Stream> + Send + Sync + 'static,
        handler: impl Fn(&Request) -> Vec<Step> + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            wrap: Box::new(wrap),
            early: Mutex::default(),
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            bytes_written: AtomicUsize::new(0),
            open: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        let acceptor = thread::spawn(move || {
            let mut threads = Vec::new();
            for stream in listener.incoming() {
                let stream = Arc::new(stream.unwrap());
                if accepting.stopped.load(SeqCst) {
                    break;
                }
                let number = accepting.connections.fetch_add(1, SeqCst);
                lock(&accepting.open).push(stream.clone());
                let shared = accepting.clone();
                threads.push(thread::spawn(move || {
                    let served = catch_unwind(AssertUnwindSafe(|| shared.serve(&stream, number)));
                    lock(&shared.open).retain(|open| !Arc::ptr_eq(open, &stream));
                    drop(stream);
                    served.unwrap_or_else(|panic| resume_unwind(panic));
                }));
            }
            threads
        });
        Server {
            address,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// Answers token requests with `token-1`, `token-2` and so on, and the other requests with `turns`. One request too many
    /// fails the test.
    pub fn script(turns: Vec<Vec<Step>>) -> Server {
        let (tokens, next) = (AtomicUsize::new(0), in_turn(turns));
        Server::start(move |request| match request.is_token_request() {
            true => token(&format!("token-{}", tokens.fetch_add(1, SeqCst) + 1)),
            false => next(request),
        })
    }

    /// Answers token requests with a token, and every other request with `steps`.
    pub fn always(steps: Vec<Step>) -> Server {
        Server::start(move |request| {
            if request.is_token_request() {
                token("token")
            } else {
                steps.clone()
            }
        })
    }

    /// Answers token requests with a token, reads with In Review, and updates with `steps`.
    pub fn undecided(steps: Vec<Step>) -> Server {
        Server::start(move |request| match request.method.as_str() {
            _ if request.is_token_request() => token("token"),
            "GET" => session_is("In Review"),
            _ => steps.clone(),
        })
    }

    /// Closes the next connections early.
    pub fn close_next(&self, connections: impl IntoIterator<Item = EarlyClose>) {
        lock(&self.shared.early).extend(connections);
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far, in the order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    /// All requests so far except those for a token.
    pub fn session_requests(&self) -> Vec<Request> {
        self.requests()
            .into_iter()
            .filter(|request| !request.is_token_request())
            .collect()
    }

    /// The methods of all requests so far except those for a token, in the order of arrival.
    pub fn methods(&self) -> String {
        let methods: Vec<_> = self
            .session_requests()
            .into_iter()
            .map(|request| request.method)
            .collect();
        methods.join(" ")
    }

    pub fn token_requests(&self) -> Vec<Request> {
        self.requests().into_iter().filter(Request::is_token_request).collect()
    }

    /// The number of connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }

    /// The number of response bytes written so far.
    pub fn bytes_written(&self) -> usize {
        self.shared.bytes_written.load(SeqCst)
    }

    /// Sends bytes over all open connections, without a request.
    pub fn send_unsolicited(&self, bytes: &[u8]) {
        for stream in lock(&self.shared.open).iter() {
            stream.as_ref().write_all(bytes).unwrap();
        }
    }

    /// Closes all open connections, as a server does after an idle timeout.
    pub fn close_connections(&self) {
        for stream in lock(&self.shared.open).iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// A builder for a client of this server: no proxy, and two retries with hardly any delay.
    pub fn builder(&self, credentials: Credentials) -> ClientBuilder {
        Client::builder(credentials)
            .base_url(self.url())
            .auth_url(self.url())
            .proxy("")
            .timeout(LONG)
            .connect_timeout(LONG)
            .retry(quick_retries())
    }

    /// A client with client credentials.
    pub fn client(&self) -> Client {
        self.builder(Credentials::client(CLIENT_ID, CLIENT_SECRET))
            .build()
            .unwrap()
    }

    /// A client with an API key, which makes no token requests.
    pub fn api_key_client(&self) -> Client {
        self.builder(Credentials::api_key(API_KEY)).build().unwrap()
    }
}

/// The default policy with hardly any delay.
pub fn quick_retries() -> RetryPolicy {
    RetryPolicy::default()
        .base_delay(Duration::from_millis(1))
        .max_delay(Duration::from_millis(4))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
        let threads = self.acceptor.take().unwrap().join().unwrap();
        self.close_connections();
        let panicked = threads.into_iter().filter_map(|thread| thread.join().err()).count();
        if panicked > 0 && !thread::panicking() {
            panic!("{panicked} of the server's handlers panicked: see above");
        }
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream, number: usize) {
        let early = lock(&self.early).pop_front();
        if early != Some(EarlyClose::OnAccept) {
            let mut wrapped = BufReader::new((self.wrap)(stream.try_clone().unwrap()));
            while let Some(request) = read_request(&mut wrapped, number, early) {
                lock(&self.requests).push(request.clone());
                let steps = (self.handler)(&request);
                if !steps.into_iter().all(|step| self.perform(step, &mut wrapped, stream)) {
                    break;
                }
            }
        }
    }

    /// Performs one step, and returns whether the connection stays open.
    fn perform(&self, step: Step, wrapped: &mut BufReader<Box<dyn Stream>>, stream: &TcpStream) -> bool {
        match step {
            Step::Send(bytes) => self.send(wrapped.get_mut(), &bytes),
            Step::Drip(bytes) => bytes.iter().all(|byte| {
                thread::sleep(Duration::from_millis(10));
                self.send(wrapped.get_mut(), &[*byte])
            }),
            Step::Stall => {
                let mut rest = Vec::new();
                let _ = wrapped.read_to_end(&mut rest);
                false
            }
            Step::Close => false,
            Step::Reset => {
                socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
                false
            }
        }
    }

    fn send(&self, stream: &mut dyn Stream, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            // In pieces: Windows accepts a write of any size, and under Wine one of 50 MB never returns.
            match stream.write(&bytes[..bytes.len().min(64 * 1024)]) {
                Ok(0) | Err(_) => return false,
                Ok(n) => {
                    self.bytes_written.fetch_add(n, SeqCst);
                    bytes = &bytes[n..];
                }
            }
        }
        stream.flush().is_ok()
    }
}

/// Reads one request. Returns `None` if the client closed the connection, or if `early` says to close it.
pub fn read_request(stream: &mut impl BufRead, connection: usize, early: Option<EarlyClose>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        match stream.read_line(&mut line) {
            Ok(n) if n > 0 && line.ends_with("\r\n") => {}
            _ => return None,
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    if early.is_some() {
        return None;
    }
    let mut words = lines[0].split(' ').map(str::to_owned);
    let headers = lines[1..].iter().map(|line| line.split_once(':').unwrap());
    let mut request = Request {
        method: words.next().unwrap(),
        path: words.next().unwrap(),
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect(),
        body: Vec::new(),
        connection,
    };
    assert_eq!(
        request.header("transfer-encoding"),
        None,
        "the body has a content-length"
    );
    let length = request
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    request.body.resize(length, 0);
    stream.read_exact(&mut request.body).ok()?;
    Some(request)
}

/// Waits for something that another thread does. Fails the test if it takes too long.
pub fn wait_for(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LONG, "waited in vain");
        thread::sleep(Duration::from_millis(1));
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
