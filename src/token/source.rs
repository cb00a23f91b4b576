//! The source of access tokens: fetches one on first use, caches it, and shares it between threads.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{Http, MAX_BODY, Method, Request, host};
use crate::response;
use crate::secret::Secret;
use crate::server_message::ServerMessage;
use crate::token::file::TokenFile;
use crate::token::{MAX_LIFETIME, Timestamp, Token};
use crate::verdict::Operation;

/// Fetches and caches the access token. All threads share one fetch.
pub(crate) struct TokenSource {
    http: Http,
    url: String,
    client_id: String,
    client_secret: Secret,
    /// `base64(id:secret)`.
    basic: Secret,
    file: Option<TokenFile>,
    clock: fn() -> Timestamp,
    state: Mutex<State>,
    fetch_ended: Condvar,
}

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    /// When to retry, after the refresh of a token that is still valid failed.
    next_refresh: Option<Instant>,
    /// Tokens that Didit refused and that must not be loaded from the file again.
    refused: Vec<Arc<Token>>,
    is_fetching: bool,
    /// How many fetches have ended.
    fetches: u64,
    /// Why the latest fetch failed, for the threads that waited for it. `None` if it succeeded, or if its call ran out of its
    /// own time, or panicked.
    failure: Option<Error>,
}

impl State {
    fn cache(&mut self, token: Token) -> Arc<Token> {
        self.next_refresh = None;
        self.token.insert(Arc::new(token)).clone()
    }

    fn holds(&self, token: &Token) -> bool {
        self.token
            .as_ref()
            .is_some_and(|cached| cached.value() == token.value())
    }

    /// Returns the cached token if it needs no refresh, or if its refresh is under way or must wait.
    fn usable_token(&self, now: Timestamp) -> Option<Arc<Token>> {
        let token = self.token.as_ref()?;
        let refresh_must_wait = self.is_fetching || self.next_refresh.is_some_and(|at| now.monotonic < at);
        (token.is_fresh(now) || refresh_must_wait && token.is_valid(now)).then(|| token.clone())
    }
}

const FETCHING: &str = "fetching an access token";

impl TokenSource {
    pub(crate) fn new(
        http: Http,
        base: &str,
        client_id: String,
        client_secret: Secret,
        file: Option<PathBuf>,
    ) -> TokenSource {
        let url = format!("{base}/auth/v2/token/");
        let basic = BASE64_STANDARD.encode(format!("{client_id}:{}", client_secret.expose()));
        TokenSource {
            http,
            file: file.map(|path| TokenFile::new(path, &url, &client_id)),
            basic: Secret::new(basic),
            url,
            client_id,
            client_secret,
            clock: Timestamp::now,
            state: Mutex::default(),
            fetch_ended: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave the state invalid.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a valid token. One thread loads it from the file or fetches it. The others use the old token while that
    /// is valid, else they wait for the result of the fetch, even if that is an error.
    ///
    /// # Errors
    /// `Authentication`, `Network`, `Timeout`, `Server` or `RateLimited`, always `NotApplied`. The caller retries.
    pub(crate) fn token(&self, deadline: Deadline) -> Result<Arc<Token>> {
        let result = self.cached_or_fetched(deadline);
        result.map_err(|error| error.with_subject(FETCHING))
    }

    /// Fetches and caches a new token, even if a token is cached.
    ///
    /// # Errors
    /// Those of [`token`](TokenSource::token).
    pub(crate) fn refresh(&self, deadline: Deadline) -> Result<()> {
        let result = self.fetch_and_cache(deadline);
        result.map(drop).map_err(|error| error.with_subject(FETCHING))
    }

    /// Discards a token that Didit refused. If another thread has replaced it already, the file may still contain it.
    pub(crate) fn discard(&self, refused: &Arc<Token>) {
        let mut state = self.state();
        if state.holds(refused) {
            state.token = None;
        }
        state.refused.push(refused.clone());
    }

    fn cached_or_fetched(&self, deadline: Deadline) -> Result<Arc<Token>> {
        let mut state = self.state();
        loop {
            if state.token.is_some() {
                if let Some(token) = state.usable_token((self.clock)()) {
                    return Ok(token);
                }
            }
            if !state.is_fetching {
                break;
            }
            let (fetches, left) = (state.fetches, deadline.remaining(MAX_LIFETIME)?);
            let is_pending = |state: &mut State| state.fetches == fetches;
            let waited = self.fetch_ended.wait_timeout_while(state, left, is_pending);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            let has_ended = state.fetches != fetches;
            if let Some(error) = state.failure.as_ref().filter(|_| has_ended) {
                return Err(error.clone());
            }
        }
        state.is_fetching = true;
        drop(state);
        let mut fetch = FetchGuard {
            source: self,
            failure: None,
        };
        let result = self.load_or_fetch(deadline);
        fetch.failure = result
            .as_ref()
            .err()
            .filter(|error| !error.0.deadline_exceeded)
            .cloned();
        result
    }

    /// Loads a token from the file, or fetches one. If that fails, returns the old token if it is still valid.
    fn load_or_fetch(&self, deadline: Deadline) -> Result<Arc<Token>> {
        let now = (self.clock)();
        if let Some(token) = self.file.as_ref().and_then(|file| file.load(now)) {
            let mut state = self.state();
            if token.is_fresh(now) && !state.refused.iter().any(|refused| refused.value() == token.value()) {
                return Ok(state.cache(token));
            }
        }
        let valid = |now| self.state().token.clone().filter(|token| token.is_valid(now));
        if let Some(old) = valid(now) {
            // While the old token is valid, the update must not wait long for a new one.
            let limit = deadline.remaining(old.remaining(now)).unwrap_or_default() / 2;
            let error = match self.fetch_and_cache(deadline.at_most(limit)) {
                Ok(token) => return Ok(token),
                Err(error) => error,
            };
            let now = (self.clock)();
            if let Some(old) = valid(now) {
                // Retry after half of the remaining lifetime, not in every call.
                self.state().next_refresh = now.monotonic.checked_add(old.remaining(now) / 2);
                let summary = error.summary();
                log::warn!(target: "didit", "{FETCHING}: {summary}; using the cached token, which is still valid");
                return Ok(old);
            }
        }
        self.fetch_and_cache(deadline)
    }

    fn fetch_and_cache(&self, deadline: Deadline) -> Result<Arc<Token>> {
        let token = self.fetch(deadline)?;
        let stored = self.file.as_ref().is_none_or(|file| file.store(&token));
        let mut state = self.state();
        if stored {
            state.refused.clear();
        }
        Ok(state.cache(token))
    }

    /// Sends one token request (docs/didit-api.md §2).
    fn fetch(&self, deadline: Deadline) -> Result<Token> {
        let issued_at = (self.clock)();
        let [secret, basic] = self.secrets();
        let authorization = ["Basic ", basic].concat();
        let request = Request {
            method: Method::POST,
            url: &self.url,
            headers: &[
                ("authorization", &authorization),
                ("content-type", "application/x-www-form-urlencoded"),
                ("accept", "application/json"),
            ],
            body: Some(b"grant_type=client_credentials"),
            max_response: MAX_BODY,
        };
        let operation = Operation::FetchToken;
        let timeout = deadline.remaining(self.http.timeout)?;
        let result = self.http.send(&request, timeout, None, false);
        let judged = response::complete_200(result, &request, operation, deadline, &[secret, basic]);
        let response = judged.map_err(|error| {
            let own_time = timeout < self.http.timeout && error.kind() == ErrorKind::Timeout;
            error.with(|error| error.deadline_exceeded = own_time)
        })?;
        // A body that is not JSON contains no access token.
        let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        Token::parse(&body, issued_at).map_err(|problem| {
            let message = match body["error"].is_null() {
                // Never show parts of a success.
                true => ServerMessage::default(),
                false => {
                    let token = body["access_token"].as_str().unwrap_or_default();
                    ServerMessage::documented(&body, response.header("x-request-id"), &[secret, basic, token])
                }
            };
            response::no_token(host(&self.url), &response, problem).with(|error| error.server = message)
        })
    }

    pub(crate) fn client_id(&self) -> &str {
        &self.client_id
    }

    pub(crate) fn secrets(&self) -> [&str; 2] {
        [self.client_secret.expose(), self.basic.expose()]
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource")
            .field("url", &self.url)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// The fetch of this thread. Dropping the guard ends the fetch, even in a panic, so that no thread waits forever.
struct FetchGuard<'a> {
    source: &'a TokenSource,
    failure: Option<Error>,
}

impl Drop for FetchGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.source.state();
        state.failure = self.failure.take();
        state.is_fetching = false;
        state.fetches += 1;
        self.source.fetch_ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
    use std::time::Duration;
    use std::{env, fs, process, thread};

    use socket2::SockRef;

    use super::*;
    use crate::credentials::{Authorization, Credentials};
    use crate::error::{TokenOrigin, Verdict};
    use crate::http::Settings;

    const SECOND: Duration = Duration::from_secs(1);

    thread_local! {
        static START: Timestamp = Timestamp::now();
        static LATER: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    /// Returns the time, which each thread can change for itself.
    fn clock() -> Timestamp {
        let Timestamp { monotonic, wall } = START.with(|start| *start);
        Timestamp {
            monotonic: monotonic + LATER.get(),
            wall: wall + LATER.get(),
        }
    }

    fn at(seconds: f64) {
        LATER.set(Duration::from_secs_f64(seconds));
    }

    fn http() -> Http {
        Http::new(
            &Settings {
                timeout: 5 * SECOND,
                connect_timeout: 2 * SECOND,
                proxy: Some(Secret::new("")),
                root_certificates: None,
                user_agent: "test".into(),
            },
            "http://localhost",
            None,
        )
        .unwrap()
    }

    fn source(listener: &TcpListener) -> TokenSource {
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mut source = TokenSource::new(http(), &base, "id".into(), Secret::new("s3cret"), None);
        source.clock = clock;
        source
    }

    fn listener() -> TcpListener {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // If no request comes, the test must fail and not hang. On Linux, this applies to `accept` as well.
        SockRef::from(&listener).set_read_timeout(Some(5 * SECOND)).unwrap();
        listener
    }

    /// Accepts a connection and reads the token request that comes over it.
    fn accept(listener: &TcpListener) -> TcpStream {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"grant_type=client_credentials") {
            let mut buffer = [0; 4096];
            let n = stream.read(&mut buffer).unwrap();
            assert!(n > 0, "the client closed the connection");
            request.extend_from_slice(&buffer[..n]);
        }
        stream
    }

    fn answer(mut stream: TcpStream, status: u16, body: &str) {
        let head = format!(
            "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}",
            body.len()
        );
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
    }

    fn token(value: &str) -> String {
        format!(r#"{{"access_token":"{value}","expires_in":100}}"#)
    }

    /// Starts a host that gives one of these responses to each request, and counts the requests.
    fn host(responses: &'static [(u16, &str)]) -> (TokenSource, Arc<AtomicUsize>) {
        let listener = listener();
        let source = source(&listener);
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        thread::spawn(move || {
            for (status, value) in responses {
                let stream = accept(&listener);
                counter.fetch_add(1, SeqCst);
                answer(stream, *status, &token(value));
            }
        });
        (source, count)
    }

    fn fetch(source: &TokenSource) -> Result<String> {
        let token = source.token(Deadline::after(Duration::MAX, SECOND));
        token.map(|token| token.value().to_owned())
    }

    #[test]
    fn a_token_is_cached_until_its_refresh_margin() {
        let (source, requests) = host(&[(200, "a"), (200, "b")]);
        for (time, value, count) in [(0.0, "a", 1), (89.9, "a", 1), (90.0, "b", 2), (179.9, "b", 2)] {
            at(time);
            assert_eq!(fetch(&source).unwrap(), value, "{time}");
            assert_eq!(requests.load(SeqCst), count, "{time}");
        }
    }

    #[test]
    fn the_old_token_is_used_while_it_is_valid_and_refreshes_fail() {
        let (source, requests) = host(&[(200, "a"), (503, ""), (400, ""), (200, "b")]);
        for (time, value, count) in [
            (0.0, "a", 1),
            (91.0, "a", 2),
            // No call retries before half of the remaining 9 s has passed.
            (91.1, "a", 2),
            (95.4, "a", 2),
            (95.5, "a", 3),
            (97.7, "a", 3),
            (97.75, "b", 4),
            (180.0, "b", 4),
        ] {
            at(time);
            assert_eq!(fetch(&source).unwrap(), value, "{time}");
            assert_eq!(requests.load(SeqCst), count, "{time}");
        }
    }

    #[test]
    fn an_expired_token_is_never_used() {
        let (source, requests) = host(&[(200, "a"), (503, ""), (503, ""), (200, "b")]);
        fetch(&source).unwrap();
        at(95.0);
        assert_eq!(fetch(&source).unwrap(), "a");
        at(100.0);
        let error = fetch(&source).unwrap_err();
        assert_eq!(
            (error.kind(), error.verdict()),
            (ErrorKind::Server, Verdict::NotApplied)
        );
        assert_eq!(fetch(&source).unwrap(), "b");
        assert_eq!(requests.load(SeqCst), 4);
    }

    #[test]
    fn a_token_that_expires_while_its_refresh_fails_is_not_used() {
        static TIME: AtomicU64 = AtomicU64::new(0);
        let listener = listener();
        let mut source = source(&listener);
        source.clock = || {
            at(TIME.load(SeqCst) as f64);
            clock()
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                answer(accept(&listener), 200, &token("a"));
                let stream = accept(&listener);
                TIME.store(100, SeqCst);
                answer(stream, 503, "");
                answer(accept(&listener), 400, "");
            });
            fetch(&source).unwrap();
            TIME.store(95, SeqCst);
            assert_eq!(fetch(&source).unwrap_err().kind(), ErrorKind::Authentication);
        });
    }

    #[test]
    fn a_refused_token_is_never_used_again() {
        let (source, requests) = host(&[(200, "a"), (400, ""), (200, "b")]);
        let get = || source.token(Deadline::after(Duration::MAX, SECOND));
        let first = get().unwrap();
        source.discard(&first);
        assert_eq!(get().unwrap_err().kind(), ErrorKind::Authentication);
        let second = get().unwrap();
        assert_eq!(second.value(), "b");
        // Another thread learns late that the first token was refused.
        source.discard(&first);
        assert_eq!(get().unwrap().value(), "b");
        assert_eq!(requests.load(SeqCst), 3);
    }

    #[test]
    fn a_refused_token_is_not_loaded_from_the_file_again() {
        let path = env::temp_dir().join(format!("didit-token-{}-{:x}", process::id(), fastrand::u64(..)));
        let (mut source, requests) = host(&[(200, "a"), (200, "b")]);
        source.file = Some(TokenFile::new(path.clone(), &source.url, "id"));
        let first = source.token(Deadline::after(Duration::MAX, SECOND)).unwrap();
        source.state().token = None;
        assert_eq!(fetch(&source).unwrap(), "a", "the file contains the token");
        assert_eq!(requests.load(SeqCst), 1);
        source.discard(&first);
        assert_eq!(fetch(&source).unwrap(), "b");
        source.state().token = None;
        assert_eq!(fetch(&source).unwrap(), "b", "the file contains the new token");
        assert_eq!(requests.load(SeqCst), 2);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_token_refused_after_it_was_replaced_is_not_loaded_from_the_file_again() {
        let path = env::temp_dir().join(format!("didit-token-{}-{:x}", process::id(), fastrand::u64(..)));
        let (mut source, requests) = host(&[(200, "a"), (200, "b"), (200, "c")]);
        let first = source.token(Deadline::after(Duration::MAX, SECOND)).unwrap();
        source.refresh(Deadline::after(Duration::MAX, SECOND)).unwrap();
        let file = TokenFile::new(path.clone(), &source.url, "id");
        assert!(file.store(&first), "another process has the first token too");
        source.file = Some(file);
        source.discard(&first);
        source.state().token = None;
        assert_eq!(fetch(&source).unwrap(), "c");
        assert_eq!(requests.load(SeqCst), 3);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_token_that_is_refused_while_its_refresh_fails_is_not_used() {
        let listener = listener();
        let source = source(&listener);
        thread::scope(|scope| {
            let call = scope.spawn(|| {
                fetch(&source).unwrap();
                at(91.0);
                fetch(&source)
            });
            answer(accept(&listener), 200, &token("a"));
            let stream = accept(&listener);
            let old = source.state().token.clone().unwrap();
            source.discard(&old);
            answer(stream, 503, "");
            answer(accept(&listener), 400, "");
            assert_eq!(call.join().unwrap().unwrap_err().kind(), ErrorKind::Authentication);
        });
    }

    thread_local! {
        static ON_WARNING: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    type Hook = Box<dyn Fn(&str)>;

    struct HookedLog;

    /// Runs `hook` whenever this thread logs a warning.
    fn on_warning(hook: impl Fn(&str) + 'static) {
        // Another test may have set the logger.
        let _ = log::set_logger(&HookedLog);
        log::set_max_level(log::LevelFilter::Warn);
        ON_WARNING.set(Some(Box::new(hook)));
    }

    impl log::Log for HookedLog {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            metadata.level() == log::Level::Warn
        }

        fn log(&self, record: &log::Record<'_>) {
            ON_WARNING.with_borrow(|hook| hook.iter().for_each(|hook| hook(&record.args().to_string())));
        }

        fn flush(&self) {}
    }

    #[test]
    fn a_token_refused_just_after_its_refresh_failed_is_not_cached() {
        let (source, _) = host(&[(200, "a"), (503, "")]);
        let source = Arc::new(source);
        let old = source.token(Deadline::after(Duration::MAX, SECOND)).unwrap();
        at(91.0);
        // In another thread, an update is answered with 401.
        let (other, refused) = (source.clone(), old.clone());
        on_warning(move |_| other.discard(&refused));
        fetch(&source).unwrap();
        assert!(source.state().token.is_none(), "the refused token must not come back");
    }

    #[test]
    fn a_refresh_takes_at_most_half_of_the_remaining_time() {
        let listener = listener();
        let source = source(&listener);
        thread::scope(|scope| {
            scope.spawn(|| answer(accept(&listener), 200, &token("a")));
            fetch(&source).unwrap();
        });
        at(91.0);
        let deadline = Deadline::after(2 * SECOND, SECOND);
        let token = source.token(deadline).unwrap();
        assert_eq!(token.value(), "a");
        assert!(deadline.remaining(SECOND).is_ok(), "time must remain for the update");
    }

    #[test]
    fn a_thread_waits_for_the_fetch_of_another_only_until_its_deadline() {
        let listener = listener();
        let source = source(&listener);
        thread::scope(|scope| {
            let first = scope.spawn(|| fetch(&source));
            let stream = accept(&listener);
            let deadline = Deadline::after(SECOND / 20, SECOND);
            let error = source.token(deadline).unwrap_err();
            assert_eq!(
                (error.kind(), error.verdict()),
                (ErrorKind::Timeout, Verdict::NotApplied)
            );
            assert!(error.to_string().starts_with("fetching an access token: "), "{error}");
            let patient = scope.spawn(|| source.token(Deadline::after(5 * SECOND, SECOND)));
            answer(stream, 200, &token("a"));
            assert_eq!(first.join().unwrap().unwrap(), "a");
            assert_eq!(patient.join().unwrap().unwrap().value(), "a");
        });
    }

    #[test]
    fn a_panic_leaves_no_thread_waiting() {
        let (source, requests) = host(&[(200, "a")]);
        source.state().is_fetching = true;
        thread::scope(|scope| {
            let waiter = scope.spawn(|| source.token(Deadline::after(5 * SECOND, SECOND)));
            drop(FetchGuard {
                source: &source,
                failure: None,
            });
            assert_eq!(
                waiter.join().unwrap().unwrap().value(),
                "a",
                "the waiting thread must fetch for itself"
            );
        });
        assert_eq!(requests.load(SeqCst), 1);
    }

    #[test]
    fn waiting_threads_do_not_get_a_token_that_was_refused_meanwhile() {
        static WAITING: AtomicUsize = AtomicUsize::new(0);
        let (mut source, requests) = host(&[(200, "b")]);
        source.clock = || {
            WAITING.fetch_add(1, SeqCst);
            clock()
        };
        let expired = Token::new("expired", Duration::ZERO, clock()).unwrap();
        source.state().cache(expired);
        source.state().is_fetching = true;
        thread::scope(|scope| {
            let waiting = scope.spawn(|| fetch(&source));
            // It has the lock from before it asks for the time until it waits.
            while WAITING.load(SeqCst) == 0 {
                thread::yield_now();
            }
            let mut state = source.state();
            state.is_fetching = false;
            state.fetches += 1;
            // Another thread learns that Didit refuses the new token, before the waiting one wakes up.
            state.token = None;
            drop(state);
            source.fetch_ended.notify_all();
            assert_eq!(waiting.join().unwrap().unwrap(), "b");
        });
        assert_eq!(requests.load(SeqCst), 1);
    }

    #[test]
    fn a_call_that_runs_out_of_its_own_time_fails_alone() {
        let listener = listener();
        let source = source(&listener);
        let get = |limit| source.token(Deadline::after(limit, SECOND));
        thread::scope(|scope| {
            let hurried = scope.spawn(|| get(Duration::from_millis(500)));
            let stalled = accept(&listener);
            let patient = [(); 2].map(|()| scope.spawn(|| get(5 * SECOND)));
            assert_eq!(hurried.join().unwrap().unwrap_err().kind(), ErrorKind::Timeout);
            answer(accept(&listener), 200, &token("a"));
            for caller in patient {
                assert_eq!(caller.join().unwrap().unwrap().value(), "a");
            }
            drop(stalled);
        });
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "the waiting threads must share one fetch");
    }

    #[test]
    fn other_threads_use_the_old_token_while_one_thread_refreshes_it() {
        let listener = listener();
        let source = source(&listener);
        thread::scope(|scope| {
            scope.spawn(|| answer(accept(&listener), 200, &token("a")));
            fetch(&source).unwrap();
        });
        thread::scope(|scope| {
            let refreshing = scope.spawn(|| {
                at(91.0);
                fetch(&source)
            });
            let stream = accept(&listener);
            at(91.0);
            assert_eq!(fetch(&source).unwrap(), "a", "no thread must wait");
            // After the old token expires, other threads wait for the new one.
            at(100.0);
            let waiting = scope.spawn(|| {
                at(100.0);
                fetch(&source)
            });
            answer(stream, 200, &token("b"));
            assert_eq!(refreshing.join().unwrap().unwrap(), "b");
            assert_eq!(waiting.join().unwrap().unwrap(), "b");
        });
    }

    /// Returns a source whose token has 0.6 s of 10 s left. Each call of its clock takes some time.
    fn about_to_expire(listener: &TcpListener, clock: fn() -> Timestamp) -> TokenSource {
        let mut source = source(listener);
        source.clock = clock;
        thread::scope(|scope| {
            scope.spawn(|| answer(accept(listener), 200, r#"{"access_token":"a","expires_in":10}"#));
            fetch(&source).unwrap();
        });
        at(9.4);
        source
    }

    fn slow_clock<const MILLIS: u64>() -> Timestamp {
        let now = clock();
        LATER.set(LATER.get() + Duration::from_millis(MILLIS));
        now
    }

    #[test]
    fn a_refresh_takes_at_most_half_of_the_remaining_lifetime() {
        let listener = listener();
        let source = about_to_expire(&listener, slow_clock::<100>);
        // The host accepts the connection and sends nothing. At the second call of the clock, 600 ms are left.
        let logged = std::rc::Rc::new(RefCell::new(String::new()));
        let log = logged.clone();
        on_warning(move |line| *log.borrow_mut() = line.into());
        assert_eq!(fetch(&source).unwrap(), "a", "the old token is still valid");
        let text = logged.take();
        let (_, limit) = text.split_once("did not answer within ").unwrap();
        let (limit, _) = limit.split_once(" ms").unwrap();
        assert!(limit.parse::<u64>().unwrap() <= 300, "{text}");
    }

    #[test]
    fn a_token_that_expires_during_its_refresh_is_fetched_with_the_limits_of_the_call() {
        let listener = listener();
        let source = about_to_expire(&listener, slow_clock::<400>);
        thread::scope(|scope| {
            let call = scope.spawn(|| {
                at(9.4);
                fetch(&source)
            });
            let _stalled = accept(&listener);
            answer(accept(&listener), 200, &token("b"));
            assert_eq!(call.join().unwrap().unwrap(), "b");
        });
    }

    #[test]
    fn a_forced_refresh_ignores_the_cached_token_and_caches_the_new_one() {
        let (source, requests) = host(&[(200, "a"), (200, "b"), (400, "")]);
        fetch(&source).unwrap();
        let refresh = || source.refresh(Deadline::after(Duration::MAX, SECOND));
        refresh().unwrap();
        assert_eq!((fetch(&source).unwrap().as_str(), requests.load(SeqCst)), ("b", 2));
        assert_eq!(refresh().unwrap_err().kind(), ErrorKind::Authentication);
        assert_eq!((fetch(&source).unwrap().as_str(), requests.load(SeqCst)), ("b", 3));
    }

    #[test]
    fn debug_shows_the_client_id_and_the_url_but_no_secret() {
        let source = source(&listener());
        let shown = format!("{source:?}");
        assert!(
            shown.contains("/auth/v2/token/") && shown.contains(r#"client_id: "id""#),
            "{shown}"
        );
        let basic = BASE64_STANDARD.encode("id:s3cret");
        for shown in [
            shown,
            format!("{:?}", Credentials::client("id", "s3cret")),
            format!("{:?}", Credentials::api_key("s3cret")),
            format!("{:?}", Authorization::ApiKey(Secret::new("s3cret"))),
            format!("{:?}", Authorization::Token(Box::new(source_of("s3cret")))),
        ] {
            assert!(!shown.contains("s3cret") && !shown.contains(&basic), "{shown}");
        }
    }

    fn source_of(secret: &str) -> TokenSource {
        TokenSource::new(http(), "http://localhost", "id".into(), Secret::new(secret), None)
    }

    #[test]
    fn a_credential_is_a_header_and_the_secrets_of_its_request() {
        let deadline = Deadline::after(Duration::MAX, SECOND);
        let key = Authorization::ApiKey(Secret::new("key"));
        let credential = key.credential(deadline).unwrap();
        assert_eq!(credential.header(), ("x-api-key", "key"));
        assert_eq!(credential.secrets(), ["key", "", ""]);
        assert_eq!(credential.discard(), None, "a refused key must not be retried");

        let (source, requests) = host(&[(200, "a"), (200, "b")]);
        let token = Authorization::Token(Box::new(source));
        let basic = BASE64_STANDARD.encode("id:s3cret");
        for value in ["a", "b"] {
            let credential = token.credential(deadline).unwrap();
            assert_eq!(credential.header(), ("authorization", &*format!("Bearer {value}")));
            assert_eq!(credential.secrets(), ["s3cret", &basic, value]);
            assert_eq!(credential.discard(), Some(TokenOrigin::Fetched));
        }
        assert_eq!(requests.load(SeqCst), 2);
    }
}
