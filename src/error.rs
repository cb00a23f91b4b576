//! Errors: what failed, and what it means for the decision.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::server_message::ServerMessage;
use crate::text::in_words;

/// Represents the result of a call. Its [`Error`] carries a [`Verdict`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Tells whether the decision may have been applied. Check this first: [`ErrorKind`] only says what failed last.
///
/// A verdict covers all attempts of a call. If any of them may have been applied, it is `Unknown`.
///
/// A verdict is serialized as [`as_str`](Verdict::as_str), and displayed as `not applied` or `unknown`.
///
/// ```
/// use didit::Verdict;
///
/// assert_eq!(Verdict::NotApplied.as_str(), "not_applied");
/// assert_eq!(Verdict::NotApplied.to_string(), "not applied");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The update certainly did not happen.
    NotApplied,
    /// The update may have happened. Read the session with [`Client::session`](crate::Client::session), or repeat the
    /// update, which is safe for Approved and Declined ([Didit's API, §4](crate::didit_api#4-update-v2-and-v3)).
    Unknown,
}

impl Verdict {
    /// Returns `not_applied` or `unknown`, for programs and databases.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::NotApplied => "not_applied",
            Verdict::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.as_str().replace('_', " "))
    }
}

/// Names what failed last.
///
/// It does not say whether the update was applied, since an earlier attempt may have been. Check [`Error::verdict`]
/// first.
///
/// A kind is serialized as [`as_str`](ErrorKind::as_str), and displayed with spaces: `rate limited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration of the client is invalid.
    Config,
    /// The session id or the update is invalid. Nothing was sent.
    InvalidInput,
    /// 401: Didit refused the credentials, or the client could not get an access token with them.
    Authentication,
    /// 403: the application lacks a permission or credits.
    Forbidden,
    /// 404: the session does not exist, or belongs to another application.
    NotFound,
    /// Any other 4xx, except 408 and 499.
    Rejected,
    /// 429: too many requests. See [`Error::retry_after`].
    RateLimited,
    /// 408, 499 or 5xx.
    Server,
    /// An attempt timed out, or the deadline passed.
    Timeout,
    /// The client could not connect, or lost the connection.
    Network,
    /// The answer is not one that Didit documents, such as a redirect or a 200 that does not confirm the update.
    UnexpectedResponse,
}

impl ErrorKind {
    /// Returns the name in snake case, such as `rate_limited`, for programs and databases.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Config => "config",
            ErrorKind::InvalidInput => "invalid_input",
            ErrorKind::Authentication => "authentication",
            ErrorKind::Forbidden => "forbidden",
            ErrorKind::NotFound => "not_found",
            ErrorKind::Rejected => "rejected",
            ErrorKind::RateLimited => "rate_limited",
            ErrorKind::Server => "server",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Network => "network",
            ErrorKind::UnexpectedResponse => "unexpected_response",
        }
    }

    /// Returns whether the same call may succeed later.
    pub(crate) fn is_transient(self) -> bool {
        use ErrorKind::{Network, RateLimited, Server, Timeout};

        matches!(self, Network | RateLimited | Server | Timeout)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.as_str().replace('_', " "))
    }
}

/// Says why a call failed, and what that means for the decision.
///
/// `Display` writes one line: what failed, for which session, whether anything was changed, and what to do next. It
/// says all there is to say, so [`source`](std::error::Error::source) is always `None`. An error never contains a
/// secret. It is one pointer wide and cheap to clone.
///
/// ```
/// use didit::{Error, Verdict};
///
/// fn handle(error: Error) {
///     match error.verdict() {
///         Verdict::NotApplied if error.is_retryable() => eprintln!("retry later: {error}"),
///         Verdict::NotApplied => eprintln!("a retry will not help: {error}"),
///         Verdict::Unknown => eprintln!("read the session first: {error}"),
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Error(pub(crate) Box<Details>);

#[derive(Clone)]
pub(crate) struct Details {
    kind: ErrorKind,
    pub(crate) verdict: Verdict,
    /// The steps that failed, the outermost first, each with a colon after it.
    subject: String,
    problem: String,
    pub(crate) advice: &'static str,
    pub(crate) retryable: bool,
    /// How many attempts were made, if there are no more retries.
    attempts: Option<u32>,
    /// The number of the first attempt that may have been applied, and how it failed, if the last one was not applied.
    pub(crate) first_unknown_attempt: Option<(u32, String)>,
    /// Whether the deadline of this call ran out. Other calls may have more time.
    pub(crate) deadline_exceeded: bool,
    pub(crate) status: Option<u16>,
    pub(crate) server: ServerMessage,
    pub(crate) retry_after: Option<Duration>,
}

impl Error {
    /// Returns an error for a fake client in a test.
    ///
    /// `problem` says what failed, in lower case and without a full stop. The text of the error adds what the verdict
    /// means. The error is [retryable](Error::is_retryable) if its kind is `RateLimited`, `Server`, `Timeout` or
    /// `Network`. It has no status, code or request id.
    ///
    /// ```
    /// use didit::{Error, ErrorKind, Verdict};
    ///
    /// let error = Error::new(ErrorKind::Server, Verdict::Unknown, "Didit answered 503");
    /// assert!(error.is_retryable());
    /// assert_eq!(error.summary(), "Didit answered 503");
    /// ```
    pub fn new(kind: ErrorKind, verdict: Verdict, problem: impl Into<String>) -> Error {
        Error(Box::new(Details {
            kind,
            verdict,
            subject: String::new(),
            problem: problem.into(),
            advice: "",
            retryable: kind.is_transient(),
            attempts: None,
            first_unknown_attempt: None,
            deadline_exceeded: false,
            status: None,
            server: ServerMessage::default(),
            retry_after: None,
        }))
    }

    pub(crate) fn config(problem: impl Into<String>) -> Error {
        Error::new(ErrorKind::Config, Verdict::NotApplied, problem)
    }

    pub(crate) fn input(problem: impl Into<String>) -> Error {
        Error::new(ErrorKind::InvalidInput, Verdict::NotApplied, problem)
    }

    /// Sets other details.
    pub(crate) fn with(mut self, set: impl FnOnce(&mut Details)) -> Error {
        set(&mut self.0);
        self
    }

    /// Names the step that failed, before the steps inside it that were named earlier.
    pub(crate) fn with_subject(mut self, subject: &str) -> Error {
        self.0.subject = format!("{subject}: {}", self.0.subject);
        self
    }

    /// Names the setting that is wrong: an option of the builder, or an environment variable.
    pub(crate) fn for_setting(mut self, place: &str) -> Error {
        self.0.problem = format!("{place}: {}", self.0.problem);
        self
    }

    /// Marks the error as final, so that no outer loop retries it.
    pub(crate) fn after_attempts(mut self, attempts: u32) -> Error {
        self.0.attempts.get_or_insert(attempts);
        self
    }

    pub(crate) fn retries_exhausted(&self) -> bool {
        self.0.attempts.is_some()
    }

    /// Returns what failed and for which session: the beginning of the text, without the verdict and the advice.
    ///
    /// ```
    /// use didit::Error;
    ///
    /// // The two parts of a message in a web page.
    /// fn paragraphs(error: &Error) -> String {
    ///     let advice = error.advice().unwrap_or("contact support");
    ///     format!("<p>{} ({})</p><p>What to do: {advice}</p>", error.summary(), error.verdict())
    /// }
    ///
    /// let error = "a/b".parse::<didit::SessionId>().unwrap_err();
    /// assert!(paragraphs(&error).starts_with("<p>not a session id: it contains '/'"));
    /// ```
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = [&*self.0.subject, &self.0.problem].concat();
        if let Some(message) = &self.0.server.message {
            text += &format!(" ({message})");
        }
        if let Some(attempts @ 2..) = self.0.attempts {
            text += &format!("; gave up after {attempts} attempts");
        }
        text
    }

    /// Returns what to do next, if the text of this error says so.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        let advice = match self.0.verdict {
            Verdict::NotApplied => self.0.advice,
            Verdict::Unknown if self.0.retryable => "repeat the update, which is safe, or check the session's status",
            Verdict::Unknown => "check the session's status before retrying: `didit status` or `Client::session`",
        };
        Some(advice).filter(|advice| !advice.is_empty())
    }

    /// Returns what failed last. Check [`verdict`](Error::verdict) first.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns whether the update certainly was not applied, or may have been.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.0.verdict
    }

    /// Returns whether the same call is safe to retry and may succeed later.
    ///
    /// The client has already retried as far as its [`RetryPolicy`](crate::RetryPolicy) and the deadline allow.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// Returns the HTTP status of the last answer, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// Returns Didit's stable code for the error: its `code`, or the `error` of OAuth ([Didit's API,
    /// §6](crate::didit_api#6-errors), RFC 6749 §5.2).
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.0.server.code.as_deref()
    }

    /// Returns Didit's message from the JSON of its answer ([Didit's API, §6](crate::didit_api#6-errors)): at most 300
    /// characters, with control characters escaped and secrets removed.
    ///
    /// `None` with a 4xx or 5xx means that the answer was not JSON from Didit. It may come from a gateway, a login page
    /// or the server behind a wrong base URL.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.0.server.message.as_deref()
    }

    /// Returns how long the server asks you to wait, at most a day: `Retry-After`, or `X-RateLimit-Reset` of a 429
    /// without it ([Didit's API, §7](crate::didit_api#7-rate-limits), RFC 9110 §10.2.3).
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Returns the `X-Request-Id` of the last answer, if it had one. Didit's support can use it.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.0.server.request_id.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        f.write_str(&self.summary())?;
        match (inner.verdict, &inner.first_unknown_attempt) {
            (Verdict::Unknown, Some((attempt, problem))) => write!(
                f,
                "; whether it was applied is unknown: attempt {attempt} may have been applied ({problem})"
            )?,
            (Verdict::Unknown, None) => f.write_str("; whether it was applied is unknown")?,
            (Verdict::NotApplied, _) if !inner.subject.is_empty() => f.write_str("; nothing was changed")?,
            (Verdict::NotApplied, _) => {}
        }
        if let Some(advice) = self.advice() {
            write!(f, "; {advice}")?;
        }
        if let Some(wait) = inner.retry_after.filter(|wait| !wait.is_zero()) {
            write!(f, "; the server asks you to wait {}", in_words(wait))?;
        }
        if let Some(id) = &inner.server.request_id {
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
            .field("code", &self.0.server.code)
            .field("display", &self.to_string())
            .finish()
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::panic::{RefUnwindSafe, UnwindSafe};

    use serde_json::json;

    use super::*;

    #[test]
    fn an_error_is_one_pointer_wide_and_thread_safe() {
        fn is_portable<T: std::error::Error + Send + Sync + UnwindSafe + RefUnwindSafe + Clone + 'static>() {}
        is_portable::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Option<Error>>(), size_of::<usize>());
    }

    #[test]
    fn the_display_says_what_failed_the_verdict_and_the_advice() {
        let message = ServerMessage::read(&json!({"detail": "Slow down"}), Some("r-1"), &[]);
        let error = Error::new(ErrorKind::RateLimited, Verdict::NotApplied, "Didit answered 429")
            .with(|error| {
                error.server = message;
                error.retry_after = Some(Duration::from_millis(1500));
                error.advice = "try again later";
            })
            .with_subject("reading session a")
            .with_subject("setting session a to Approved")
            .after_attempts(3)
            .after_attempts(9);
        assert_eq!(
            error.to_string(),
            "setting session a to Approved: reading session a: Didit answered 429 (Slow down); gave up after 3 attempts; \
             nothing was changed; try again later; the server asks you to wait 1.5 s [request r-1]"
        );
        assert_eq!(
            error
                .clone()
                .with(|error| {
                    error.verdict = Verdict::Unknown;
                    error.retryable = false;
                })
                .to_string(),
            "setting session a to Approved: reading session a: Didit answered 429 (Slow down); gave up after 3 attempts; \
             whether it was applied is unknown; check the session's status before retrying: `didit status` or \
             `Client::session`; the server asks you to wait 1.5 s [request r-1]"
        );
        assert_eq!(
            error
                .with(|error| {
                    error.verdict = Verdict::Unknown;
                    error.retryable = false;
                    error.retry_after = None;
                    error.first_unknown_attempt = Some((1, "it was cut off".into()));
                })
                .to_string(),
            "setting session a to Approved: reading session a: Didit answered 429 (Slow down); gave up after 3 attempts; \
             whether it was applied is unknown: attempt 1 may have been applied (it was cut off); check the session's \
             status before retrying: `didit status` or `Client::session` [request r-1]"
        );
        let error = Error::new(ErrorKind::Network, Verdict::Unknown, "closed");
        assert_eq!(
            error.to_string(),
            "closed; whether it was applied is unknown; repeat the update, which is safe, or check the session's status"
        );
        assert_eq!(
            Error::config("not a URL").for_setting("base_url").to_string(),
            "base_url: not a URL"
        );
    }

    #[test]
    fn debug_shows_kind_verdict_status_and_code() {
        let message = ServerMessage::read(&json!({"code": "c"}), None, &[]);
        let error = Error::new(ErrorKind::Rejected, Verdict::NotApplied, "no")
            .with(|error| (error.status, error.server) = (Some(400), message));
        assert_eq!(
            format!("{error:?}"),
            r#"Error { kind: Rejected, verdict: NotApplied, status: Some(400), code: Some("c"), display: "no" }"#
        );
    }

    #[test]
    fn an_error_has_no_source() {
        assert!(
            Error::new(ErrorKind::Network, Verdict::NotApplied, "cable cut")
                .source()
                .is_none()
        );
    }

    #[test]
    fn kinds_and_verdicts_are_displayed_with_spaces() {
        assert_eq!(ErrorKind::RateLimited.to_string(), "rate limited");
        assert_eq!(format!("{:>12}", Verdict::NotApplied), " not applied");
        assert_eq!(Verdict::Unknown.to_string(), "unknown");
    }

    #[test]
    fn kinds_and_verdicts_are_serialized_in_snake_case() {
        use ErrorKind::*;

        for kind in [
            Config,
            InvalidInput,
            Authentication,
            Forbidden,
            NotFound,
            Rejected,
            RateLimited,
            Server,
            Timeout,
            Network,
            UnexpectedResponse,
        ] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert_eq!(UnexpectedResponse.as_str(), "unexpected_response");
        for (verdict, name) in [(Verdict::NotApplied, "not_applied"), (Verdict::Unknown, "unknown")] {
            assert_eq!(verdict.as_str(), name);
            assert_eq!(serde_json::to_value(verdict).unwrap(), name);
        }
    }

    #[test]
    fn a_new_error_is_retryable_by_its_kind_and_says_what_its_verdict_means() {
        let lost = Error::new(ErrorKind::Network, Verdict::Unknown, "the line was cut");
        assert!(lost.is_retryable());
        assert!(
            lost.to_string()
                .starts_with("the line was cut; whether it was applied is unknown; "),
            "{lost}"
        );
        let refused = Error::new(ErrorKind::NotFound, Verdict::NotApplied, "no such session");
        assert!(!refused.is_retryable());
        assert_eq!(
            (refused.to_string().as_str(), refused.advice()),
            ("no such session", None)
        );
    }
}
