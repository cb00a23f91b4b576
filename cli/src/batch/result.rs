//! The result of a row, and the line that says it: in the journal, and with `--json`.

use std::time::{SystemTime, UNIX_EPOCH};

use didit::{Error, NewStatus, SessionId};
use serde::{Deserialize, Serialize};

use super::input::Input;

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowResult {
    Applied,
    /// The session already had the status: no attempt of this batch can have set it.
    Already,
    /// `--unless-decided` left another decision unchanged.
    LeftAlone,
    Refused,
    /// The update may have been applied.
    Unknown,
    /// The update was certainly not applied: the row is as if it had never been sent.
    NotApplied,
}

impl RowResult {
    /// Returns whether nothing is left to do.
    pub fn is_final(self) -> bool {
        match self {
            RowResult::Applied | RowResult::Already | RowResult::LeftAlone | RowResult::Refused => true,
            RowResult::Unknown | RowResult::NotApplied => false,
        }
    }
}

/// Why a row has its result.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Details {
    /// Empty if the result needs no reason.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// How the attempt failed that left the row in doubt. Only an unknown row has a cause.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Details {
    pub fn reason(reason: impl Into<String>) -> Details {
        let reason = reason.into();
        Details {
            reason,
            ..Details::default()
        }
    }

    /// Adds what the response to a failed request contained.
    pub fn with_response(self, error: &Error) -> Details {
        Details {
            status_code: error.status(),
            code: error.code().map(Into::into),
            request_id: error.request_id().map(Into::into),
            ..self
        }
    }

    /// Returns the cause and the reason as one text.
    pub fn text(&self) -> String {
        let mut parts = vec![self.cause.as_str(), &self.reason];
        parts.retain(|part| !part.is_empty());
        parts.join("; ")
    }
}

/// A row with its result.
#[derive(Debug, Deserialize, Serialize)]
pub struct ResultLine {
    pub line: u32,
    pub session_id: SessionId,
    pub new_status: NewStatus,
    pub result: RowResult,
    /// In Unix seconds.
    pub at: u64,
    #[serde(flatten)]
    pub details: Details,
    /// Whether an earlier run found the result. Only printed lines have it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub earlier: bool,
}

impl ResultLine {
    pub fn new(input: &Input, row: usize, result: RowResult, details: Details) -> ResultLine {
        ResultLine {
            line: input.line(row),
            session_id: input.row(row).0,
            new_status: input.status(row),
            result,
            at: now(),
            details,
            earlier: false,
        }
    }

    pub fn to_json(&self) -> String {
        // Strings, numbers and enums always serialize.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A row that was left out, because an earlier row is identical.
#[derive(Serialize)]
pub struct DuplicateLine {
    pub line: u32,
    pub session_id: SessionId,
    pub new_status: NewStatus,
    pub duplicate_of: u32,
}

/// Returns the current time in Unix seconds.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
