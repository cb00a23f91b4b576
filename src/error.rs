//! Errors: what failed, and what it means for the decision.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::server_message::ServerMessage;
use crate::text::in_words;

/// The result of a call. Its [`Error`] carries a [`Verdict`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whether the update may have been applied. Check this first: [`ErrorKind`] only says what failed last.
///
/// A verdict covers all attempts of a call. If any of them may have been applied, and no read settled that, it is
/// `Unknown`. There are two verdicts because a lost response proves nothing: the server may have acted on the request.
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
    /// The update may have happened, or may still happen: a server that is slow or cut off may have received it. Read
    /// the session before you retry, as [`Client::ensure_status_if`](crate::Client::ensure_status_if) does. After a
    /// resubmission, a person has to check the session, because no status proves that it did not happen.
    Unknown,
}

impl Verdict {
    /// Returns `not_applied` or `unknown`, for programs and logs.
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

/// What failed last.
///
/// It does not say whether the update was applied, since an earlier attempt may have been. Check [`Error::verdict`]
/// first.
///
/// The kind of an error response follows its HTTP status, even if a gateway sent it. [`Error::message`] is `None` then, so
/// check that too before you conclude anything about the credentials or the session.
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
    /// 402 or 403: the application lacks credits or a permission.
    Forbidden,
    /// 404: the session does not exist, or belongs to another application.
    NotFound,
    /// Any other 4xx, except 408 and 499. Except after a 425, the same request will be refused again.
    Rejected,
    /// 429: too many requests. See [`Error::retry_after`].
    RateLimited,
    /// 408, 499 or 5xx.
    Server,
    /// A request timed out, or the deadline passed.
    Timeout,
    /// The client could not connect, or lost the connection.
    Network,
    /// The response is not one that Didit documents, such as a redirect or a 200 that does not confirm the update.
    UnexpectedResponse,
}

impl ErrorKind {
    /// Returns the name in snake case, such as `rate_limited`, for programs and logs.
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

/// Why a call failed, and what that means for the decision.
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
///         Verdict::Unknown => eprintln!("read the session before you retry: {error}"),
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Error(pub(crate) Box<Details>);

/// Where an access token came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenOrigin {
    Fetched,
    /// Another process stored it in the token file.
    File,
}

#[derive(Clone)]
pub(crate) struct Details {
    kind: ErrorKind,
    pub(crate) verdict: Verdict,
    /// The steps that failed, the outermost first, each with a colon after it.
    subject: String,
    problem: String,
    /// What to do next if the update was not applied.
    pub(crate) advice: &'static str,
    pub(crate) advice_if_unknown: &'static str,
    pub(crate) retryable: bool,
    /// Whether the call could have changed something.
    pub(crate) is_about_update: bool,
    /// After how many attempts the call gave up, although another one might have helped.
    pub(crate) attempts: Option<u32>,
    /// The number of the first attempt that may have been applied, and how it failed, if the last one was not applied.
    pub(crate) first_unknown_attempt: Option<(u32, String)>,
    /// Whether the deadline of this call ran out. Other calls may have more time.
    pub(crate) deadline_exceeded: bool,
    /// Where the access token came from that Didit refused, if it did.
    pub(crate) refused_token: Option<TokenOrigin>,
    pub(crate) status: Option<u16>,
    pub(crate) server: ServerMessage,
    pub(crate) retry_after: Option<Duration>,
}

impl Error {
    /// Returns an error for a fake client in a test.
    ///
    /// `problem` says what failed, in lower case and without a full stop. The text of the error adds what an unknown
    /// verdict means. The error is [retryable](Error::is_retryable) if the verdict is `NotApplied` and the kind is
    /// `RateLimited`, `Server`, `Timeout` or `Network`. The `with_…` methods add the details of a response.
    ///
    /// ```
    /// use didit::{Error, ErrorKind, Verdict};
    ///
    /// let error = Error::new(ErrorKind::NotFound, Verdict::NotApplied, "Didit answered 404").with_status(404);
    /// assert_eq!(error.status(), Some(404));
    /// assert_eq!(error.summary(), "Didit answered 404");
    /// ```
    pub fn new(kind: ErrorKind, verdict: Verdict, problem: impl Into<String>) -> Error {
        Error(Box::new(Details {
            kind,
            verdict,
            subject: String::new(),
            problem: problem.into(),
            advice: "",
            advice_if_unknown: "read the session's status before you retry, as `ensure_status_if` does",
            is_about_update: false,
            retryable: kind.is_transient() && verdict == Verdict::NotApplied,
            attempts: None,
            first_unknown_attempt: None,
            deadline_exceeded: false,
            refused_token: None,
            status: None,
            server: ServerMessage::default(),
            retry_after: None,
        }))
    }

    /// Sets the HTTP status of the response, for a fake.
    #[must_use]
    pub fn with_status(self, status: u16) -> Error {
        self.with(|error| error.status = Some(status))
    }

    /// Sets Didit's code for the error, for a fake.
    #[must_use]
    pub fn with_code(self, code: impl Into<String>) -> Error {
        self.with(|error| error.server.code = Some(code.into()))
    }

    /// Sets Didit's message, for a fake.
    #[must_use]
    pub fn with_message(self, message: impl Into<String>) -> Error {
        self.with(|error| error.server.message = Some(message.into()))
    }

    /// Sets how long the server asks to wait, for a fake.
    #[must_use]
    pub fn with_retry_after(self, wait: Duration) -> Error {
        self.with(|error| error.retry_after = Some(wait))
    }

    /// Sets whether the same call is safe to retry and may succeed later, for a fake. The errors of a client never are, if
    /// their verdict is `Unknown`.
    #[must_use]
    pub fn with_retryable(self, retryable: bool) -> Error {
        self.with(|error| error.retryable = retryable)
    }

    pub(crate) fn config(problem: impl Into<String>) -> Error {
        Error::new(ErrorKind::Config, Verdict::NotApplied, problem)
    }

    pub(crate) fn input(problem: impl Into<String>) -> Error {
        Error::new(ErrorKind::InvalidInput, Verdict::NotApplied, problem)
    }

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
    /// assert!(paragraphs(&error).starts_with("<p>not a session id: contains '/'"));
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
            Verdict::Unknown => self.0.advice_if_unknown,
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

    /// Returns whether the same call is safe to retry and may succeed later. An error whose verdict is `Unknown` is not:
    /// the session must be read first.
    ///
    /// The client has already retried as far as its [`RetryPolicy`](crate::RetryPolicy) and the deadline allow.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// Returns the HTTP status of the last response, if there was one.
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

    /// Returns Didit's message from the JSON of its response ([Didit's API, §6](crate::didit_api#6-errors)): at most 300
    /// characters, with control characters escaped and secrets removed.
    ///
    /// `None` with a 4xx or 5xx means that the response was not JSON from Didit. It may come from a gateway, a login page
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

    /// Returns the `X-Request-Id` of the last response, if it had one. Didit's support can use it.
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
            (Verdict::Unknown, Some((attempt, problem))) => {
                write!(f, "; unknown: attempt {attempt} may have been applied ({problem})")?;
            }
            (Verdict::Unknown, None) => f.write_str("; unknown: the update may have been applied")?,
            (Verdict::NotApplied, _) if inner.is_about_update => f.write_str("; nothing was changed")?,
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
    fn the_display_says_what_failed_what_it_means_and_what_to_do() {
        let error = Error::new(ErrorKind::RateLimited, Verdict::NotApplied, "Didit answered 429")
            .with_message("Slow down")
            .with_retry_after(Duration::from_millis(1500))
            .with(|error| {
                error.server.request_id = Some("r-1".into());
                error.advice = "try again later";
            })
            .with_subject("reading session a")
            .with_subject("setting session a to Approved")
            .with(|error| error.attempts = Some(3));
        let summary = "setting session a to Approved: reading session a: Didit answered 429 (Slow down); gave up after 3 \
                       attempts";
        assert_eq!(error.summary(), summary);
        let end = "; the server asks you to wait 1.5 s [request r-1]";
        assert_eq!(error.to_string(), format!("{summary}; try again later{end}"));
        let error = error.with(|error| error.is_about_update = true);
        assert_eq!(
            error.to_string(),
            format!("{summary}; nothing was changed; try again later{end}")
        );
        let error = error.with(|error| error.verdict = Verdict::Unknown);
        let advice = "read the session's status before you retry, as `ensure_status_if` does";
        assert_eq!(
            error.to_string(),
            format!("{summary}; unknown: the update may have been applied; {advice}{end}")
        );
        let error = error.with(|error| {
            error.retry_after = None;
            error.first_unknown_attempt = Some((1, "it was cut off".into()));
        });
        assert_eq!(
            error.to_string(),
            format!("{summary}; unknown: attempt 1 may have been applied (it was cut off); {advice} [request r-1]")
        );
        assert_eq!(
            Error::config("not a URL").for_setting("base_url").to_string(),
            "base_url: not a URL"
        );
    }

    #[test]
    fn debug_shows_kind_verdict_status_and_code() {
        let message = ServerMessage::documented(&json!({"code": "c"}), None, &[]);
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
    fn a_new_error_is_retryable_only_if_it_was_not_applied_and_its_kind_may_pass() {
        for (kind, verdict, expected) in [
            (ErrorKind::Network, Verdict::NotApplied, true),
            (ErrorKind::Network, Verdict::Unknown, false),
            (ErrorKind::NotFound, Verdict::NotApplied, false),
            (ErrorKind::NotFound, Verdict::Unknown, false),
        ] {
            let error = Error::new(kind, verdict, "why");
            assert_eq!(error.is_retryable(), expected, "{error:?}");
            assert!(error.clone().with_retryable(true).is_retryable());
            assert_eq!(error.to_string().contains("unknown"), verdict == Verdict::Unknown);
        }
        assert_eq!(
            Error::new(ErrorKind::NotFound, Verdict::NotApplied, "why").to_string(),
            "why"
        );
    }

    #[test]
    fn a_fake_has_the_details_that_it_was_given() {
        let error = Error::new(ErrorKind::Forbidden, Verdict::NotApplied, "Didit answered 402")
            .with_status(402)
            .with_code("credits")
            .with_message("Not enough credits.")
            .with_retry_after(Duration::from_secs(7));
        assert_eq!((error.status(), error.code()), (Some(402), Some("credits")));
        assert_eq!(error.message(), Some("Not enough credits."));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    }
}
