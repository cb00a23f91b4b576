//! The access token that client credentials are exchanged for: fetched lazily, kept, shared.

use std::fmt;
use std::mem;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::call::{Deadline, with_retries};
use crate::error::{Error, ErrorKind, Result, Words};
use crate::http::{Failure, Http, MAX_BODY, Reply, Request};
use crate::retry::RetryPolicy;
use crate::secret::Secret;
use crate::token::file::TokenFile;
use crate::token::{LONGEST_LIFE, Now, Token};
use crate::verdict::{self, Effect};

/// Fetches the access token, keeps it, and lets all threads share one fetch.
pub(crate) struct TokenSource {
    url: String,
    id: String,
    secret: Secret,
    /// `base64(id:secret)`.
    basic: Secret,
    file: Option<TokenFile>,
    clock: fn() -> Now,
    state: Mutex<State>,
    fetched: Condvar,
}

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    /// After a failed replacement of a token that is still valid: when to try again.
    patience: Option<Instant>,
    /// What the session host refused last, so that it is not taken from the file again.
    refused: Option<Secret>,
    flight: Option<Arc<Flight>>,
}

/// One fetch under way; those who wait for it take what it brings.
type Flight = OnceLock<Result<Arc<Token>>>;

impl TokenSource {
    pub(crate) fn new(base: &str, id: String, secret: Secret, file: Option<PathBuf>) -> TokenSource {
        let url = format!("{base}/auth/v2/token/");
        let basic = BASE64_STANDARD.encode(format!("{id}:{}", secret.expose()));
        TokenSource {
            file: file.map(|path| TokenFile::new(path, &url, &id)),
            basic: Secret::new(basic),
            url,
            id,
            secret,
            clock: Now::read,
            state: Mutex::default(),
            fetched: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing half done in it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token that is good now. One thread fetches; the others wait for that one answer, a failure included.
    ///
    /// # Errors
    /// `Authentication`, `Network`, `Timeout`, `Server` or `RateLimited`, always `NotApplied`.
    pub(crate) fn token(&self, http: &Http, policy: &RetryPolicy, deadline: Deadline) -> Result<Arc<Token>> {
        let mut state = self.state();
        if let Some(token) = &state.token {
            let now = (self.clock)();
            let patient = state.patience.is_some_and(|until| now.monotonic < until);
            if token.is_fresh(now) || (patient && token.is_valid(now)) {
                return Ok(token.clone());
            }
        }
        if let Some(flight) = state.flight.clone() {
            return self.wait(state, &flight, deadline);
        }
        let flight = Arc::new(Flight::new());
        state.flight = Some(flight.clone());
        drop(state);

        let landing = Landing { source: self, flight };
        let result = self.replacement(http, policy, deadline);
        landing.land(result)
    }

    fn wait(&self, state: MutexGuard<'_, State>, flight: &Flight, deadline: Deadline) -> Result<Arc<Token>> {
        let mut state = state;
        loop {
            if let Some(result) = flight.get() {
                return result.clone();
            }
            let left = deadline.clip(LONGEST_LIFE).map_err(|error| error.about(FETCHING))?;
            let waited = self.fetched.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A new token: from the file, or from the authentication host; else the old one, if it is still valid.
    fn replacement(&self, http: &Http, policy: &RetryPolicy, deadline: Deadline) -> Result<Arc<Token>> {
        let (old, refused) = {
            let state = self.state();
            (state.token.clone(), state.refused.clone())
        };
        if let Some(file) = &self.file {
            let now = (self.clock)();
            let kept = file.load(now).filter(|token| token.is_fresh(now));
            if let Some(token) = kept.filter(|token| Some(&token.value) != refused.as_ref()) {
                return Ok(Arc::new(token));
            }
        }
        // With a valid token at hand nobody has to wait for a second try, nor lose the time for the update itself.
        let once = RetryPolicy::none();
        let old = old.filter(|token| token.is_valid((self.clock)()));
        let (policy, deadline) = match old {
            Some(_) => (&once, deadline.half()),
            None => (policy, deadline),
        };
        let result = with_retries(policy, deadline, || {
            self.fetch(http, deadline).map_err(|error| error.about(FETCHING))
        });
        let error = match result {
            Ok(token) => {
                if let Some(file) = &self.file {
                    file.store(&token);
                }
                self.state().refused = None;
                return Ok(Arc::new(token));
            }
            Err(error) => error,
        };
        let now = (self.clock)();
        let mut state = self.state();
        match old.filter(|token| token.is_valid(now) && state.refused.as_ref() != Some(&token.value)) {
            Some(token) => {
                // Tried again when half of what is left has passed, not by every call.
                state.patience = now.monotonic.checked_add(token.left(now) / 2);
                drop(state);
                log::warn!(target: "didit", "{error}; going on with the token that is still valid");
                Ok(token)
            }
            None => Err(error),
        }
    }

    /// Drops the token that the API refused, unless another thread replaced it already.
    pub(crate) fn refuse(&self, token: &Token) {
        let mut state = self.state();
        if state.token.as_ref().is_some_and(|kept| kept.value == token.value) {
            state.token = None;
            state.refused = Some(token.value.clone());
        }
    }

    /// One token request (didit-api.md §2).
    fn fetch(&self, http: &Http, deadline: Deadline) -> Result<Token> {
        let timeout = deadline.clip(http.timeout())?;
        let born = (self.clock)();
        let basic = format!("Basic {}", self.basic.expose());
        let request = Request {
            method: "POST",
            url: &self.url,
            headers: &[
                ("authorization", &basic),
                ("content-type", "application/x-www-form-urlencoded"),
                ("accept", "application/json"),
            ],
            body: Some(b"grant_type=client_credentials"),
            max_reply: MAX_BODY,
        };
        let mut reply = http.send(&request, timeout).map_err(no_answer)?;
        if reply.status != 200 {
            return Err(self.refusal(&reply));
        }
        let body = mem::replace(&mut reply.body, Ok(Vec::new())).map_err(no_answer)?;
        // What is no JSON holds no access token either.
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        Token::parse(&body, born).map_err(|problem| {
            let told = if body["error"].is_null() { &Value::Null } else { &body };
            let words = Words::read(told, reply.header("x-request-id"), &self.secrets());
            unusable(&format!("Didit answered 200, but {problem}"))
                .with_status(reply.status)
                .with_words(words)
        })
    }

    /// Any refusal but "later" is about the credentials, or about where they were sent.
    fn refusal(&self, reply: &Reply) -> Error {
        let error = verdict::of_status(reply, Effect::None, &self.secrets());
        match error.kind() {
            ErrorKind::Server | ErrorKind::RateLimited => error,
            _ => error.with_kind(ErrorKind::Authentication).advice(CHECK),
        }
    }

    pub(crate) fn secrets(&self) -> [&str; 2] {
        [self.secret.expose(), self.basic.expose()]
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource")
            .field("url", &self.url)
            .field("client_id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Ends a flight, even by a panic: else the threads that wait for it would wait for ever.
struct Landing<'a> {
    source: &'a TokenSource,
    flight: Arc<Flight>,
}

impl Landing<'_> {
    fn land(&self, result: Result<Arc<Token>>) -> Result<Arc<Token>> {
        let mut state = self.source.state();
        state.flight = None;
        if let Ok(token) = &result {
            let same = |kept: &Arc<Token>| Arc::ptr_eq(kept, token);
            if !state.token.as_ref().is_some_and(same) {
                state.patience = None;
                state.token = Some(token.clone());
            }
        }
        let _ = self.flight.set(result.clone());
        self.source.fetched.notify_all();
        result
    }
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        if self.flight.get().is_none() {
            let _ = self.land(Err(unusable("the thread that fetched it panicked")));
        }
    }
}

const CHECK: &str = "check the client id, the client secret and the auth URL";

const FETCHING: &str = "fetching an access token";

/// No answer, or not all of it. Asking again is always safe.
fn no_answer(failure: Failure) -> Error {
    match failure.kind {
        ErrorKind::UnexpectedResponse => unusable("the answer is too large, or not HTTP"),
        _ => verdict::of_failure(failure, Effect::None),
    }
}

fn unusable(problem: &str) -> Error {
    Error::new(ErrorKind::Authentication, problem).advice(CHECK)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
    use std::time::Duration;
    use std::{env, fs, process, thread};

    use socket2::SockRef;

    use super::*;
    use crate::credentials::{Authorization, Credentials};
    use crate::error::Verdict;
    use crate::http::Settings;

    const SECOND: Duration = Duration::from_secs(1);

    thread_local! {
        static START: Now = Now::read();
        static LATER: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    /// What the time is for this thread.
    fn clock() -> Now {
        let Now { monotonic, wall } = START.with(|start| *start);
        Now {
            monotonic: monotonic + LATER.get(),
            wall: wall + LATER.get(),
        }
    }

    fn at(seconds: f64) {
        LATER.set(Duration::from_secs_f64(seconds));
    }

    fn http() -> Http {
        Http::new(&Settings {
            timeout: 5 * SECOND,
            connect_timeout: 2 * SECOND,
            proxy: Some(Secret::new("")),
            root_certificates: None,
            user_agent: "test".into(),
        })
        .unwrap()
    }

    fn source(listener: &TcpListener) -> TokenSource {
        let base = format!("http://{}", listener.local_addr().unwrap());
        let mut source = TokenSource::new(&base, "id".into(), Secret::new("s3cret"), None);
        source.clock = clock;
        source
    }

    fn listener() -> TcpListener {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // A request that does not come fails the test and does not hang it; on Linux this goes for accept as well.
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
            assert!(n > 0, "the client hung up");
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

    /// Gives each request its answer, for as long as there is one, and counts them.
    fn host(answers: &'static [(u16, &str)]) -> (TokenSource, Arc<AtomicUsize>) {
        let listener = listener();
        let source = source(&listener);
        let count = Arc::new(AtomicUsize::new(0));
        let counter = count.clone();
        thread::spawn(move || {
            for (status, value) in answers {
                let stream = accept(&listener);
                counter.fetch_add(1, SeqCst);
                answer(stream, *status, &token(value));
            }
        });
        (source, count)
    }

    fn hasty() -> RetryPolicy {
        RetryPolicy::default().base_delay(Duration::ZERO)
    }

    fn fetch(source: &TokenSource) -> Result<String> {
        let token = source.token(&http(), &hasty(), Deadline::after(None));
        token.map(|token| token.value.expose().to_owned())
    }

    #[test]
    fn a_token_is_kept_until_its_margin_begins() {
        let (source, requests) = host(&[(200, "a"), (200, "b")]);
        for (time, value, count) in [(0.0, "a", 1), (89.9, "a", 1), (90.0, "b", 2), (179.9, "b", 2)] {
            at(time);
            assert_eq!(fetch(&source).unwrap(), value, "{time}");
            assert_eq!(requests.load(SeqCst), count, "{time}");
        }
    }

    #[test]
    fn the_old_token_is_used_while_it_is_valid_and_cannot_be_replaced() {
        let (source, requests) = host(&[(200, "a"), (503, ""), (400, ""), (200, "b")]);
        for (time, value, count) in [
            (0.0, "a", 1),
            (91.0, "a", 2),
            // Nobody asks again before half of the 9 s that were left has passed.
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
        let (source, requests) = host(&[(200, "a"), (503, ""), (503, ""), (503, ""), (503, ""), (200, "b")]);
        fetch(&source).unwrap();
        at(99.9);
        assert_eq!(fetch(&source).unwrap(), "a");
        assert_eq!(
            requests.load(SeqCst),
            2,
            "with a valid token at hand there is no second try"
        );
        at(100.0);
        let error = fetch(&source).unwrap_err();
        assert_eq!(
            (error.kind(), error.verdict()),
            (ErrorKind::Server, Verdict::NotApplied)
        );
        assert_eq!(requests.load(SeqCst), 5);
        assert_eq!(fetch(&source).unwrap(), "b");
    }

    #[test]
    fn a_token_that_expires_while_its_replacement_fails_is_not_used() {
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
            });
            fetch(&source).unwrap();
            TIME.store(99, SeqCst);
            assert_eq!(fetch(&source).unwrap_err().kind(), ErrorKind::Server);
        });
    }

    #[test]
    fn a_refused_token_is_never_used_again() {
        let (source, requests) = host(&[(200, "a"), (400, ""), (200, "b")]);
        let http = http();
        let get = || source.token(&http, &hasty(), Deadline::after(None));
        let first = get().unwrap();
        source.refuse(&first);
        assert_eq!(get().unwrap_err().kind(), ErrorKind::Authentication);
        let second = get().unwrap();
        assert_eq!(second.value.expose(), "b");
        // Another thread is told late that the first one was refused.
        source.refuse(&first);
        assert_eq!(get().unwrap().value.expose(), "b");
        assert_eq!(requests.load(SeqCst), 3);
    }

    #[test]
    fn a_refused_token_is_not_taken_from_the_file_again() {
        let path = env::temp_dir().join(format!("didit-token-{}-{:x}", process::id(), fastrand::u64(..)));
        let (mut source, requests) = host(&[(200, "a"), (200, "b")]);
        source.file = Some(TokenFile::new(path.clone(), &source.url, "id"));
        let first = source.token(&http(), &hasty(), Deadline::after(None)).unwrap();
        source.state().token = None;
        assert_eq!(fetch(&source).unwrap(), "a", "the file has it");
        assert_eq!(requests.load(SeqCst), 1);
        source.refuse(&first);
        assert_eq!(fetch(&source).unwrap(), "b");
        source.state().token = None;
        assert_eq!(fetch(&source).unwrap(), "b", "the file has the new one");
        assert_eq!(requests.load(SeqCst), 2);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_token_that_is_refused_while_its_replacement_fails_is_not_used() {
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
            source.refuse(&old);
            answer(stream, 503, "");
            assert_eq!(call.join().unwrap().unwrap_err().kind(), ErrorKind::Server);
        });
    }

    #[test]
    fn a_replacement_takes_no_more_than_half_of_the_time_that_is_left() {
        let listener = listener();
        let source = source(&listener);
        thread::scope(|scope| {
            scope.spawn(|| answer(accept(&listener), 200, &token("a")));
            fetch(&source).unwrap();
        });
        at(91.0);
        let deadline = Deadline::after(Some(Duration::from_millis(1000)));
        let token = source.token(&http(), &hasty(), deadline).unwrap();
        assert_eq!(token.value.expose(), "a");
        assert!(deadline.clip(SECOND).is_ok(), "there is time left for the update");
    }

    #[test]
    fn a_thread_waits_for_anothers_request_no_longer_than_its_deadline() {
        let listener = listener();
        let source = source(&listener);
        thread::scope(|scope| {
            let first = scope.spawn(|| fetch(&source));
            let stream = accept(&listener);
            let deadline = Deadline::after(Some(Duration::from_millis(50)));
            let error = source.token(&http(), &hasty(), deadline).unwrap_err();
            assert_eq!(
                (error.kind(), error.verdict()),
                (ErrorKind::Timeout, Verdict::NotApplied)
            );
            assert!(error.to_string().starts_with("fetching an access token: "), "{error}");
            let patient = scope.spawn(|| source.token(&http(), &hasty(), Deadline::after(Some(5 * SECOND))));
            answer(stream, 200, &token("a"));
            assert_eq!(first.join().unwrap().unwrap(), "a");
            assert_eq!(patient.join().unwrap().unwrap().value.expose(), "a");
        });
    }

    #[test]
    fn a_panic_leaves_nobody_waiting() {
        let (source, requests) = host(&[(200, "a")]);
        let flight = Arc::new(Flight::new());
        source.state().flight = Some(flight.clone());
        let landing = Landing {
            source: &source,
            flight: flight.clone(),
        };
        drop(landing);
        let told = flight.get().unwrap().as_ref().unwrap_err();
        assert_eq!(
            (told.kind(), told.verdict()),
            (ErrorKind::Authentication, Verdict::NotApplied)
        );
        assert_eq!(fetch(&source).unwrap(), "a");
        assert_eq!(requests.load(SeqCst), 1);
    }

    #[test]
    fn debug_shows_who_and_where_but_no_secret() {
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
        TokenSource::new("http://localhost", "id".into(), Secret::new(secret), None)
    }

    #[test]
    fn an_answer_must_repeat_neither_key_nor_token_nor_client_secret() {
        let key = Authorization::ApiKey(Secret::new("key"));
        let grant = key.grant(&http(), &hasty(), Deadline::after(None)).unwrap();
        assert_eq!(grant.header(), ("x-api-key", "key"));
        assert_eq!(key.secrets(&grant), ["key"]);
        assert!(!key.refuse(&grant), "there is no other key");

        let (source, _) = host(&[(200, "a")]);
        let token = Authorization::Token(Box::new(source));
        let grant = token.grant(&http(), &hasty(), Deadline::after(None)).unwrap();
        assert_eq!(grant.header(), ("authorization", "Bearer a"));
        assert_eq!(
            token.secrets(&grant),
            ["s3cret", &BASE64_STANDARD.encode("id:s3cret"), "a"]
        );
        assert!(token.refuse(&grant));
    }
}
