//! What a response says: the fields of a 200 that confirms its request, or an error in words.

use std::fmt;
use std::str;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::http::{Failure, Phase, Request, Response, host};
use crate::rate_limit::retry_after;
use crate::server_message::ServerMessage;
use crate::session::{SessionId, SessionStatus, UpdatedSession};
use crate::text::sanitize;
use crate::update::NewStatus;
use crate::verdict::{Meaning, Operation, UNCONFIRMED};

/// Returns a complete 200. Anything else is an error, without the `secrets`.
pub(crate) fn complete_200(
    result: Result<Response, Failure>,
    request: &Request<'_>,
    operation: Operation,
    deadline: Deadline,
    secrets: &[&str],
) -> Result<Response> {
    let mut response = result.map_err(|failure| failure_error(failure, operation, deadline))?;
    // JSON must not begin with a byte order mark, but a parser may ignore one (RFC 8259 §8.1).
    if response.body.starts_with(b"\xef\xbb\xbf") {
        response.body.drain(..3);
    }
    if response.status != 200 {
        return Err(status_error(&response, request, operation, secrets));
    }
    match response.cut_off.take() {
        Some(failure) => Err(failure_error(failure, operation, deadline).with(|error| error.status = Some(200))),
        None => Ok(response),
    }
}

/// The longest text of an unknown status, in characters.
const MAX_STATUS: usize = 300;

/// The fields of a 200 that are used (docs/didit-api.md §3, §5). Everything else may be personal data, and is skipped.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    session_id: Value,
    status: Value,
    new_status: Value,
    session_token: Value,
    url: Value,
    error: Value,
    errors: Value,
    success: Value,
    ok: Value,
}

/// Returns the status of the session in a 200, without the `secrets`.
///
/// # Errors
/// `UnexpectedResponse` if it is not about this session.
pub(crate) fn session_status(
    response: &Response,
    id: &SessionId,
    host: &str,
    secrets: &[&str],
) -> Result<SessionStatus> {
    let operation = Operation::ReadSession;
    match fields_about(response, id, host, operation)?.status {
        Value::String(status) => Ok(match status.into() {
            SessionStatus::Other(status) => SessionStatus::Other(sanitize(&status, MAX_STATUS, secrets)),
            known => known,
        }),
        _ => Err(unconfirmed("without a status", operation)),
    }
}

/// Returns the confirmation of an update in a 200.
///
/// # Errors
/// `UnexpectedResponse`, verdict `Unknown`, if the response is not about this session, names another status, or denies
/// success. Words in other fields deny nothing: servers say "updated" there.
pub(crate) fn updated_session(
    response: &Response,
    id: &SessionId,
    wanted: NewStatus,
    host: &str,
) -> Result<UpdatedSession> {
    let operation = Operation::SetStatus(wanted);
    let fields = fields_about(response, id, host, operation)?;
    for status in [&fields.status, &fields.new_status] {
        match status {
            Value::Null => {}
            Value::String(status) if status.eq_ignore_ascii_case(wanted.as_str()) => {}
            Value::String(other) => {
                let other = SessionStatus::from(other.as_str());
                let problem = format!("but says that the session is {}", other.describe());
                return Err(unconfirmed(&problem, operation));
            }
            _ => return Err(unconfirmed("but with a status that is not text", operation)),
        }
    }
    if [&fields.error, &fields.errors]
        .into_iter()
        .any(|error| !is_empty(error))
    {
        return Err(unconfirmed("but reports an error", operation));
    }
    if [&fields.success, &fields.ok]
        .into_iter()
        .any(|flag| !matches!(flag, Value::Null | Value::Bool(true)))
    {
        return Err(unconfirmed("but denies success", operation));
    }
    let text = |value: Value| value.as_str().map(str::to_owned);
    Ok(UpdatedSession {
        session_token: text(fields.session_token),
        url: text(fields.url),
        ..UpdatedSession::new(id.clone())
    })
}

/// Returns the fields of a 200 about this session.
fn fields_about(response: &Response, id: &SessionId, host: &str, operation: Operation) -> Result<Fields> {
    // serde would take the values of an array for the fields in their order.
    let object = Some(&response.body).filter(|body| body.trim_ascii_start().starts_with(b"{"));
    // The error of serde_json may quote the body.
    let fields: Fields = object
        .and_then(|body| serde_json::from_slice(body).ok())
        .unwrap_or_default();
    match fields.session_id.as_str() {
        Some(named) if id.is(named) => Ok(fields),
        Some(_) => Err(unconfirmed("but for another session", operation)),
        None => Err(not_didits(host, response, operation)),
    }
}

/// Returns whether a field that reports errors reports none.
fn is_empty(errors: &Value) -> bool {
    match errors {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(count) => count.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
    }
}

fn unconfirmed(problem: &str, operation: Operation) -> Error {
    unusable(format!("Didit answered 200, {problem}"), "", operation)
}

/// Returns the error for a 200 without a usable access token.
pub(crate) fn no_token(host: &str, response: &Response, problem: &str) -> Error {
    let operation = Operation::FetchToken;
    match Content::of(response, &response.body) {
        Content::OtherJson => {
            let problem = format!("{host} answered 200, but {problem}");
            unusable(problem, check_url(operation), operation)
        }
        _ => not_didits(host, response, operation),
    }
}

/// Returns the error for a 200 whose body is not Didit's.
fn not_didits(host: &str, response: &Response, operation: Operation) -> Error {
    let content = Content::of(response, &response.body);
    let advice = if content.suggests_another_server() {
        check_url(operation)
    } else {
        ""
    };
    unusable(content.problem(host, 200), advice, operation)
}

fn unusable(problem: String, advice: &'static str, operation: Operation) -> Error {
    operation
        .error(UNCONFIRMED, problem, advice)
        .with(|error| error.status = Some(200))
}

fn check_url(operation: Operation) -> &'static str {
    operation.advice(
        "check the auth URL (DIDIT_AUTH_URL)",
        "check the base URL (DIDIT_BASE_URL)",
    )
}

/// Returns the error for a request without a complete response.
fn failure_error(failure: Failure, operation: Operation, deadline: Deadline) -> Error {
    if failure.phase == Phase::TooLate {
        // The deadline is more likely to be the reason than the limit on one request.
        if let Err(error) = deadline.check_reserve() {
            return error;
        }
    }
    let advice = match failure.check_url {
        true => operation.advice(
            "check the auth URL (DIDIT_AUTH_URL), or retry later",
            "check the base URL (DIDIT_BASE_URL), or retry later",
        ),
        false => failure.advice,
    };
    operation.error(Meaning::of_failure(&failure), failure.problem, advice)
}

/// Returns the error for a response with another status than 200.
fn status_error(response: &Response, request: &Request<'_>, operation: Operation, secrets: &[&str]) -> Error {
    let (status, host) = (response.status, host(request.url));
    // Only the body of an error may be shown. A success may contain personal data.
    let shown = match status {
        400.. if response.cut_off.is_none() => &*response.body,
        _ => b"",
    };
    let json = parse(shown).unwrap_or_default();
    let id = response.header("x-request-id");
    let mut message = ServerMessage::documented(&json, id, secrets);
    // These statuses are about the request. A gateway uses the others as well, for reasons of its own.
    if message.message.is_none() && matches!(status, 400 | 409 | 413 | 422) {
        message = ServerMessage::any_shape(&json, id, secrets);
    }
    let from_didit = message.message.is_some();
    let problem = match status {
        _ if from_didit => format!("Didit answered {status}"),
        413 => format!("{host} answered 413: the request is too large"),
        400.. if response.cut_off.is_some() => {
            format!("{host} answered {status}, but the rest of its response could not be read")
        }
        300..400 => format!("{host} answered {status}, a redirect, which didit does not follow"),
        400..500 => Content::of(response, shown).problem(host, status),
        500.. => format!("{host} answered {status} {}", Content::of(response, shown)),
        _ => format!("{host} answered {status}"),
    };
    let advice = advice(status, from_didit, operation);
    let reset = response.header("x-ratelimit-reset").filter(|_| status == 429);
    operation
        .error(Meaning::of_status(status), problem, advice)
        .with(|error| {
            error.status = Some(status);
            error.server = message;
            error.retry_after = retry_after(response.headers("retry-after"), reset, response.date());
        })
}

/// Returns what to do about a status.
fn advice(status: u16, from_didit: bool, operation: Operation) -> &'static str {
    let for_sessions = match status {
        499 | 501 | 505 => return "",
        408 | 425 | 429 | 500..=599 => return "retry later",
        300..=399 => return check_url(operation),
        413 => "shorten the comment",
        400..=498 if !from_didit => return check_url(operation),
        // If an access token was refused, the call replaces this advice.
        401 => "check the API key (DIDIT_API_KEY)",
        402 => "check the application's credits",
        403 => "check the application's permissions and credits",
        404 => "check the session id; the session may belong to another application",
        400..=498 => "retrying the same request will not help",
        _ => return "",
    };
    operation.advice("check the client id, the client secret and the auth URL", for_sessions)
}

/// Parses a body. Old servers encode JSON in Latin-1.
fn parse<T: DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    match str::from_utf8(body) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_str(&body.iter().map(|byte| char::from(*byte)).collect::<String>()),
    }
}

/// What a body is that does not have the form of Didit's.
enum Content {
    Empty,
    Compressed,
    Html,
    /// Valid JSON.
    OtherJson,
    InvalidJson {
        line: usize,
        column: usize,
    },
    Other,
}

impl Content {
    fn of(response: &Response, body: &[u8]) -> Content {
        let first = body.trim_ascii_start().first();
        match (first, parse::<IgnoredAny>(body)) {
            (None, _) => Content::Empty,
            (_, Ok(_)) => Content::OtherJson,
            _ if is_compressed(response, body) => Content::Compressed,
            (Some(b'<'), _) => Content::Html,
            // The error of serde_json may quote the body, but these two numbers do not.
            (Some(b'{' | b'['), Err(error)) => Content::InvalidJson {
                line: error.line(),
                column: error.column(),
            },
            _ => Content::Other,
        }
    }

    /// Returns whether another server may have sent it. Only the right one sends JSON that is almost what is expected.
    fn suggests_another_server(&self) -> bool {
        !matches!(self, Content::InvalidJson { .. })
    }

    /// Describes a response with this body, and where it may come from.
    fn problem(&self, host: &str, status: u16) -> String {
        let hint = match self.suggests_another_server() {
            true => " (is it a login page or a gateway, or is the URL wrong?)",
            false => "",
        };
        format!("{host} answered {status} {self}{hint}")
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Empty => f.write_str("with an empty body"),
            Content::Compressed => f.write_str("with compressed data, which didit did not ask for"),
            Content::Html => f.write_str("with HTML, not JSON"),
            Content::OtherJson => f.write_str("with JSON that is not Didit's"),
            Content::InvalidJson { line, column } => {
                write!(f, "with invalid JSON (line {line}, column {column})")
            }
            Content::Other => f.write_str("with a body that is not JSON"),
        }
    }
}

/// Returns whether a body is compressed, by its header or by the first bytes of gzip (RFC 1952 §2.3.1).
fn is_compressed(response: &Response, body: &[u8]) -> bool {
    let encoding = response.header("content-encoding").unwrap_or("identity");
    !encoding.eq_ignore_ascii_case("identity") || body.starts_with(b"\x1f\x8b")
}
