//! What went wrong, and what it means for the decision.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

/// A result whose error carries a [`Verdict`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What an error means for the decision. Once any attempt of a call ended `Unknown`, the call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The update certainly did not happen.
    NotApplied,
    /// The update may have happened: read the session back, or repeat the update, which is safe for Approved and
    /// Declined (didit-api.md §4).
    Unknown,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The client cannot be built like this. `NotApplied`.
    Config,
    /// The id or the update is not one that Didit could take; nothing was sent. `NotApplied`.
    InvalidInput,
    /// The credentials or the token were refused, or the answer held no usable token. `NotApplied`.
    Authentication,
    /// 403: not permitted, or not enough credits. `NotApplied`.
    Forbidden,
    /// 404: no such session, or another application's. `NotApplied`.
    NotFound,
    /// Any other 4xx. `NotApplied`.
    Rejected,
    /// 429. `NotApplied`; see [`Error::retry_after`].
    RateLimited,
    /// 408 or 5xx. `Unknown` for an update, `NotApplied` for a token.
    Server,
    /// Time ran out. `NotApplied` if the update was not sent yet, else `Unknown`.
    Timeout,
    /// The connection failed. `NotApplied` if the update was not sent yet, else `Unknown`.
    Network,
    /// The answer is none that Didit documents. `NotApplied` for 301, 302, 307 and 308, else `Unknown`.
    UnexpectedResponse,
}

/// Why a call failed and what that means for the decision. One pointer wide, and cheap to clone.
///
/// `Display` is one line that tells the whole story; no error ever holds a secret.
///
/// ```
/// # fn handle(error: didit::Error) {
/// use didit::Verdict;
///
/// match error.verdict() {
///     Verdict::NotApplied => eprintln!("nothing changed: {error}"),
///     Verdict::Unknown => eprintln!("look before you go on: {error}"),
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    verdict: Verdict,
    subject: Option<String>,
    problem: String,
    advice: &'static str,
    retryable: bool,
    retried: bool,
    attempts: u32,
    status: Option<u16>,
    words: Words,
    retry_after: Option<Duration>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, problem: impl Into<String>) -> Error {
        Error(Box::new(Inner {
            kind,
            verdict: Verdict::NotApplied,
            subject: None,
            problem: problem.into(),
            advice: "",
            retryable: false,
            retried: false,
            attempts: 1,
            status: None,
            words: Words::default(),
            retry_after: None,
            source: None,
        }))
    }

    pub(crate) fn config(problem: impl Into<String>) -> Error {
        Error::new(ErrorKind::Config, problem)
    }

    pub(crate) fn input(problem: impl Into<String>) -> Error {
        Error::new(ErrorKind::InvalidInput, problem)
    }

    pub(crate) fn unknown(mut self) -> Error {
        self.0.verdict = Verdict::Unknown;
        self
    }

    pub(crate) fn retryable(mut self, retryable: bool) -> Error {
        self.0.retryable = retryable;
        self
    }

    pub(crate) fn advice(mut self, advice: &'static str) -> Error {
        self.0.advice = advice;
        self
    }

    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Error {
        self.0.kind = kind;
        self
    }

    pub(crate) fn with_retry_after(mut self, wait: Option<Duration>) -> Error {
        self.0.retry_after = wait;
        self
    }

    pub(crate) fn with_status(mut self, status: u16) -> Error {
        self.0.status = Some(status);
        self
    }

    pub(crate) fn with_words(mut self, words: Words) -> Error {
        self.0.words = words;
        self
    }

    pub(crate) fn with_source(mut self, source: Arc<dyn std::error::Error + Send + Sync>) -> Error {
        self.0.source = Some(source);
        self
    }

    /// What the failed step was about; the step within it that failed comes after it.
    pub(crate) fn about(mut self, subject: impl Into<String>) -> Error {
        let outer = subject.into();
        self.0.subject = Some(match self.0.subject {
            Some(inner) => format!("{outer}: {inner}"),
            None => outer,
        });
        self
    }

    /// Names what `problem` is in, such as a builder's option or an environment variable.
    pub(crate) fn within(mut self, place: &str) -> Error {
        self.0.problem = format!("{place}: {}", self.0.problem);
        self
    }

    /// Marks that this failure has had the retries that it was worth, so that no outer loop repeats them.
    pub(crate) fn after_attempts(mut self, attempts: u32) -> Error {
        if !self.0.retried {
            self.0.retried = true;
            self.0.attempts = attempts;
        }
        self
    }

    pub(crate) fn was_retried(&self) -> bool {
        self.0.retried
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What it means for the decision.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.0.verdict
    }

    /// Whether the same call, repeated later, may succeed and is safe to repeat.
    ///
    /// The client has repeated it already, as far as its [`RetryPolicy`](crate::RetryPolicy) goes.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// The HTTP status of the last answer, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// Didit's stable code for the error: `code`, or OAuth's `error` (didit-api.md §6, RFC 6749 §5.2).
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.0.words.code.as_deref()
    }

    /// The server's own words, cut to 300 characters, control characters escaped, secrets blotted out.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.0.words.message.as_deref()
    }

    /// How long the server asks to wait: `Retry-After`, or on a 429 without one `X-RateLimit-Reset` (didit-api.md
    /// §7). At most a day.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The `X-Request-Id` of the last answer, for Didit's support.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.0.words.request_id.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if let Some(subject) = &inner.subject {
            write!(f, "{subject}: ")?;
        }
        f.write_str(&inner.problem)?;
        if let Some(message) = &inner.words.message {
            write!(f, " ({message})")?;
        }
        if inner.attempts > 1 {
            write!(f, " after {} attempts", inner.attempts)?;
        }
        if inner.subject.is_some() {
            f.write_str(match inner.verdict {
                Verdict::NotApplied => "; nothing was changed",
                Verdict::Unknown => "; whether it was applied is unknown",
            })?;
        }
        let advice = match inner.verdict {
            Verdict::NotApplied => inner.advice,
            Verdict::Unknown if inner.retryable => "read the session back, or repeat the update, which is safe",
            Verdict::Unknown => "read the session back before anything else",
        };
        if !advice.is_empty() {
            write!(f, "; {advice}")?;
        }
        if let Some(wait) = inner.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            write!(f, " (not before {seconds} s have passed)")?;
        }
        if let Some(id) = &inner.words.request_id {
            write!(f, " [request {id}]")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("verdict", &self.0.verdict)
            .field("status", &self.0.status)
            .field("code", &self.0.words.code)
            .field("display", &self.to_string())
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// What an answer says of itself, fit to be shown.
#[derive(Clone, Default)]
pub(crate) struct Words {
    code: Option<String>,
    message: Option<String>,
    request_id: Option<String>,
}

const MAX_MESSAGE: usize = 300;
const MAX_CODE: usize = 64;

impl Words {
    /// Reads an error's body defensively: no envelope is shared, and it may be no JSON at all (didit-api.md §6).
    pub(crate) fn read(body: &Value, request_id: Option<&str>, secrets: &[&str]) -> Words {
        let told = |key: &&str| body[*key].as_str().filter(|text| !text.is_empty());
        let known = |keys: &[&str]| keys.iter().find_map(told).map(str::to_owned);
        let message = known(&["detail", "message", "error_description"])
            .or_else(|| field_messages(body))
            .or_else(|| known(&["error"]));
        let show = |text: String, max| Some(shown(&text, max, secrets)).filter(|text| !text.is_empty());
        Words {
            code: known(&["code", "error"]).and_then(|text| show(text, MAX_CODE)),
            message: message.and_then(|text| show(text, MAX_MESSAGE)),
            request_id: request_id.and_then(|id| show(id.into(), MAX_CODE)),
        }
    }
}

/// The messages of fields: `{"new_status": ["\"Foo\" is not a valid choice."]}`.
fn field_messages(body: &Value) -> Option<String> {
    let messages = body.as_object()?.iter().filter_map(|(field, value)| {
        let texts: Vec<_> = value.as_array()?.iter().filter_map(Value::as_str).collect();
        (!texts.is_empty()).then(|| format!("{field}: {}", texts.join(" ")))
    });
    let messages: Vec<_> = messages.collect();
    (!messages.is_empty()).then(|| messages.join("; "))
}

/// Makes a stranger's text fit for a line: first secrets are blotted out (a cut could leave half of one), then it is
/// cut, then control characters are escaped.
pub(crate) fn shown(text: &str, max: usize, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "[hidden]");
    }
    let text = text.trim();
    let cut = text.chars().count() > max;
    let mut line = String::new();
    for c in text.chars().take(max) {
        if c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    if cut {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::io;

    use serde_json::json;

    use super::*;

    fn read(body: Value) -> (Option<String>, Option<String>) {
        let words = Words::read(&body, None, &[]);
        (words.message, words.code)
    }

    #[test]
    fn an_error_is_small_and_goes_anywhere() {
        fn goes_anywhere<T: std::error::Error + Send + Sync + Clone + 'static>() {}
        goes_anywhere::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Option<Error>>(), size_of::<usize>());
    }

    #[test]
    fn an_empty_text_hides_no_other() {
        let words = Words::read(&json!({"detail": "", "message": "a"}), None, &[]);
        assert_eq!(words.message.as_deref(), Some("a"));
    }

    #[test]
    fn bodies_are_read_whatever_their_shape() {
        for (body, message, code) in [
            (json!({"detail": "a"}), Some("a"), None),
            (json!({"detail": "a", "code": "c"}), Some("a"), Some("c")),
            (json!({"message": "a"}), Some("a"), None),
            (json!({"detail": "a", "message": "b"}), Some("a"), None),
            (json!({"error": "c", "error_description": "a"}), Some("a"), Some("c")),
            (json!({"error": "c"}), Some("c"), Some("c")),
            (json!({"error": "e", "code": "c"}), Some("e"), Some("c")),
            (json!({"error": {"message": "a"}}), None, None),
            (json!({"new_status": ["a.", "b."]}), Some("new_status: a. b."), None),
            (json!({"b": ["2"], "a": ["1"], "c": 3}), Some("a: 1; b: 2"), None),
            (json!({"detail": ["a"], "b": [1, null]}), Some("detail: a"), None),
            (json!({"detail": 7, "message": "a", "code": 7}), Some("a"), None),
            (json!({}), None, None),
            (json!([]), None, None),
            (json!(["a"]), None, None),
            (json!("a"), None, None),
            (json!(null), None, None),
            (json!(7), None, None),
        ] {
            let (told, known) = read(body.clone());
            assert_eq!((told.as_deref(), known.as_deref()), (message, code), "{body}");
        }
    }

    #[test]
    fn strangers_words_are_cut() {
        let (message, code) = read(json!({"detail": "é".repeat(301), "code": "c".repeat(65)}));
        assert_eq!(message.unwrap(), "é".repeat(300) + "…");
        assert_eq!(code.unwrap(), "c".repeat(64) + "…");
        let (message, code) = read(json!({"detail": "é".repeat(300), "code": "c".repeat(64)}));
        assert_eq!(message.unwrap(), "é".repeat(300));
        assert_eq!(code.unwrap(), "c".repeat(64));
        let words = Words::read(&Value::Null, Some(&"r".repeat(65)), &[]);
        assert_eq!(words.request_id.unwrap(), "r".repeat(64) + "…");
    }

    #[test]
    fn strangers_words_cannot_steer_a_terminal_or_break_a_line() {
        for (text, line) in [
            ("a\nb", r"a\nb"),
            ("a\r\n\tb", r"a\r\n\tb"),
            ("\x1b[31mred\x07", r"\u{1b}[31mred\u{7}"),
            ("\u{9b}31m", r"\u{9b}31m"),
            ("a\u{202e}b\u{2066}c\u{2069}", r"a\u{202e}b\u{2066}c\u{2069}"),
            ("a\u{2028}b\u{200f}c\u{200e}", r"a\u{2028}b\u{200f}c\u{200e}"),
            ("\u{7f}", r"\u{7f}"),
            ("  é ü 你好 🙂  ", "é ü 你好 🙂"),
        ] {
            assert_eq!(shown(text, 300, &[]), line);
        }
    }

    #[test]
    fn a_secret_that_ends_in_a_space_is_blotted_out_whole() {
        assert_eq!(shown(" wrong: hunter2 ", 99, &["hunter2 "]), "wrong: [hidden]");
    }

    #[test]
    fn secrets_are_blotted_out_even_across_the_cut() {
        let text = format!("{}s3cret and s3cret", "x".repeat(8));
        assert_eq!(shown(&text, 300, &["", "s3cret"]), "xxxxxxxx[hidden] and [hidden]");
        for max in 0..text.len() {
            let line = shown(&text, max, &["s3cret"]);
            assert!(!line.contains("s3"), "{max}: {line}");
        }
        assert_eq!(shown("token key", 300, &["key", "token"]), "[hidden] [hidden]");
        let words = Words::read(
            &json!({"detail": "s3cret", "code": "s3cret"}),
            Some("s3cret"),
            &["s3cret"],
        );
        let told = [words.message, words.code, words.request_id];
        assert_eq!(told, ["[hidden]", "[hidden]", "[hidden]"].map(|word| Some(word.into())));
    }

    #[test]
    fn the_display_is_one_line_that_tells_the_whole_story() {
        let words = Words::read(&json!({"detail": "Slow down"}), Some("r-1"), &[]);
        let error = Error::new(ErrorKind::RateLimited, "Didit answered 429")
            .with_words(words)
            .with_retry_after(Some(Duration::from_millis(1500)))
            .advice("try again later")
            .about("reading session a")
            .about("setting session a to Approved")
            .after_attempts(3)
            .after_attempts(9);
        assert_eq!(
            error.to_string(),
            "setting session a to Approved: reading session a: Didit answered 429 (Slow down) after 3 attempts; nothing was changed; try \
             again later (not before 2 s have passed) [request r-1]"
        );
        assert_eq!(
            error.unknown().to_string(),
            "setting session a to Approved: reading session a: Didit answered 429 (Slow down) after 3 attempts; whether it was applied is \
             unknown; read the session back before anything else (not before 2 s have passed) [request r-1]"
        );
        let error = Error::new(ErrorKind::Network, "closed").retryable(true).unknown();
        assert_eq!(
            error.to_string(),
            "closed; read the session back, or repeat the update, which is safe"
        );
        assert_eq!(
            Error::config("not a URL").within("base_url").to_string(),
            "base_url: not a URL"
        );
    }

    #[test]
    fn debug_tells_kind_verdict_status_and_code() {
        let words = Words::read(&json!({"code": "c"}), None, &[]);
        let error = Error::new(ErrorKind::Rejected, "no").with_status(400).with_words(words);
        assert_eq!(
            format!("{error:?}"),
            r#"Error { kind: Rejected, verdict: NotApplied, status: Some(400), code: Some("c"), display: "no" }"#
        );
    }

    #[test]
    fn the_cause_is_the_source() {
        let cause = io::Error::other("cable cut");
        let error = Error::new(ErrorKind::Network, "").with_source(Arc::new(cause));
        assert_eq!(error.source().unwrap().to_string(), "cable cut");
        assert!(Error::input("").source().is_none());
    }
}
