//! Credentials, and the access token that client credentials are exchanged for: fetched lazily, kept, shared.

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
use crate::secret::{Secret, is_visible_ascii};
use crate::token::{LONGEST_LIFE, Now, Token};
use crate::token_file::TokenFile;
use crate::verdict::{self, Effect};

/// What a program proves itself with: client credentials or an API key. `Debug` shows neither secret nor key.
///
/// Nothing is checked here; [`ClientBuilder::build`](crate::ClientBuilder::build) refuses what cannot be right.
#[derive(Clone, Debug)]
#[must_use]
pub struct Credentials(pub(crate) Kind);

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Client { id: String, secret: Secret },
    ApiKey(Secret),
}

impl Credentials {
    /// A client id and secret, exchanged for an access token on first use (didit-api.md §2).
    pub fn client(id: impl Into<String>, secret: impl Into<String>) -> Credentials {
        Credentials(Kind::Client {
            id: id.into(),
            secret: Secret::new(secret),
        })
    }

    /// An API key, sent with every request; there is no token (didit-api.md §4).
    pub fn api_key(key: impl Into<String>) -> Credentials {
        Credentials(Kind::ApiKey(Secret::new(key)))
    }

    /// # Errors
    /// `Config`, without the value.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |problem: &str| Err(Error::config(problem));
        match &self.0 {
            Kind::Client { id, secret } => {
                if id.is_empty() || secret.expose().is_empty() {
                    return refuse("the client id or the client secret is empty");
                }
                if id.contains(':') {
                    return refuse(
                        "the client id contains a colon, which Basic authentication cannot carry (RFC 7617)",
                    );
                }
                if id.chars().chain(secret.expose().chars()).any(char::is_control) {
                    return refuse("the client id or secret contains a control character; a line break at its end?");
                }
            }
            Kind::ApiKey(key) if key.expose().is_empty() => return refuse("the API key is empty"),
            Kind::ApiKey(key) if !is_visible_ascii(key.expose()) => {
                return refuse("the API key contains something else than visible ASCII; a line break at its end?");
            }
            Kind::ApiKey(_) => {}
        }
        Ok(())
    }
}

/// What authorizes requests: an API key, or the token that is fetched when it is needed.
#[derive(Debug)]
pub(crate) enum Authorization {
    ApiKey(Secret),
    Token(Box<TokenSource>),
}

/// What one request is authorized with.
pub(crate) enum Grant<'a> {
    ApiKey(&'a str),
    Token { token: Arc<Token>, bearer: String },
}

impl Grant<'_> {
    /// The header that carries it (didit-api.md §3, §4).
    pub(crate) fn header(&self) -> (&'static str, &str) {
        match self {
            Grant::ApiKey(key) => ("x-api-key", key),
            Grant::Token { bearer, .. } => ("authorization", bearer),
        }
    }
}

impl Authorization {
    /// # Errors
    /// As [`TokenSource::token`].
    pub(crate) fn grant(&self, http: &Http, policy: &RetryPolicy, deadline: Deadline) -> Result<Grant<'_>> {
        match self {
            Authorization::ApiKey(key) => Ok(Grant::ApiKey(key.expose())),
            Authorization::Token(source) => {
                let token = source.token(http, policy, deadline)?;
                let bearer = format!("Bearer {}", token.value.expose());
                Ok(Grant::Token { token, bearer })
            }
        }
    }

    /// The API refused it: whether another one can be had.
    pub(crate) fn refuse(&self, grant: &Grant<'_>) -> bool {
        match (self, grant) {
            (Authorization::Token(source), Grant::Token { token, .. }) => {
                source.refuse(token);
                true
            }
            _ => false,
        }
    }

    /// All that an answer must not repeat.
    pub(crate) fn secrets<'a>(&'a self, grant: &'a Grant<'_>) -> Vec<&'a str> {
        let mut secrets = match self {
            Authorization::ApiKey(_) => Vec::new(),
            Authorization::Token(source) => source.secrets().to_vec(),
        };
        secrets.push(match grant {
            Grant::ApiKey(key) => key,
            Grant::Token { token, .. } => token.value.expose(),
        });
        secrets
    }
}

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
            state = match deadline.instant() {
                None => self.fetched.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(_) => {
                    let left = deadline.clip(LONGEST_LIFE).map_err(|error| error.about(about_token))?;
                    let waited = self.fetched.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
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
            self.fetch(http, deadline).map_err(|error| error.about(about_token))
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
                log::warn!(target: "didit", "{error}; going on with the token that is still valid");
                // Tried again when half of what is left has passed, not by every call.
                state.patience = now.monotonic.checked_add(token.left(now) / 2);
                Ok(token)
            }
            None => Err(error),
        }
    }

    /// Drops the token that the API refused, unless another thread replaced it already.
    fn refuse(&self, token: &Token) {
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

    fn secrets(&self) -> [&str; 2] {
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

fn about_token() -> String {
    "fetching an access token".into()
}

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
