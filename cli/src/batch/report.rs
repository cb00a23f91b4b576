//! The lines for results: one per row, printed and written to the journal, and the summary of a run.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use didit::{Error, NewStatus, SessionId};
use serde::Serialize;
use serde_json::{Value, json};

use super::input::Input;
use super::result::{Counts, Outcome, Record};
use crate::args::Output;
use crate::terminal::{Exit, counted, escaped, print, unprintable};

/// The result of a row, as it is printed.
pub struct RowResult {
    pub line: u32,
    pub outcome: Outcome,
    pub reason: String,
    /// The line for the journal and for `--json`.
    pub json: String,
}

#[derive(Serialize)]
struct ResultLine<'a> {
    line: u32,
    session_id: &'a SessionId,
    new_status: NewStatus,
    result: Outcome,
    at: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    in_doubt: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cause: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

impl RowResult {
    /// `error` is the failure that led to the record, if any.
    pub fn new(input: &Input, record: Record, error: Option<&Error>) -> RowResult {
        let (line, outcome) = (input.line(record.row), record.outcome);
        let result = ResultLine {
            line,
            session_id: &input.row(record.row).0,
            new_status: input.status(record.row),
            result: outcome,
            at: now(),
            in_doubt: record.in_doubt,
            reason: &record.reason,
            cause: &record.cause,
            status_code: error.and_then(Error::status),
            code: error.and_then(Error::code),
            request_id: error.and_then(Error::request_id),
        };
        // Strings, numbers and enums always serialize.
        let json = serde_json::to_string(&result).unwrap_or_default();
        let reason = record.reason;
        RowResult {
            line,
            outcome,
            reason,
            json,
        }
    }
}

/// How a run ended.
pub struct Summary {
    pub counts: Counts,
    pub not_applied: usize,
    /// How many rows of the input were left out because an earlier row is identical.
    pub repeated: usize,
    pub exit: Exit,
    pub stopped: Option<String>,
}

impl Summary {
    pub fn new(counts: Counts, total: usize) -> Summary {
        let not_applied = total - counts.ended();
        // The most severe outcome decides.
        let exit = match (counts.unknown, not_applied, counts.refused) {
            (1.., ..) => Exit::Unknown,
            (_, 1.., _) => Exit::NotDone,
            (.., 1..) => Exit::RowsRefused,
            _ => Exit::Done,
        };
        Summary {
            counts,
            not_applied,
            repeated: 0,
            exit,
            stopped: None,
        }
    }

    pub fn to_json(&self) -> Value {
        let mut object = json!(self.counts);
        object["not_applied"] = self.not_applied.into();
        object["exit"] = (self.exit as u8).into();
        object["stopped"] = self.stopped.as_deref().into();
        object
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (counts, not_applied) = (&self.counts, self.not_applied);
        f.write_str(&counted(counts.ended() + not_applied, "row"))?;
        if self.repeated > 0 {
            write!(f, " ({} left out)", counted(self.repeated, "duplicate"))?;
        }
        write!(
            f,
            ": {} applied, {} already set, {} refused, {} unknown, {not_applied} not applied",
            counts.applied, counts.already, counts.refused, counts.unknown,
        )
    }
}

/// The lines that wait to be printed on standard output.
#[derive(Default)]
pub struct Lines {
    json: bool,
    text: String,
    failed: bool,
}

impl Lines {
    pub fn new(output: Output) -> Lines {
        Lines {
            json: output.json,
            ..Lines::default()
        }
    }

    /// Adds the result of a row. Without `--json`, rows that were applied are left out, and so are rows that were already set,
    /// unless they have a reason.
    pub fn add(&mut self, result: &RowResult) {
        let word = match result.outcome {
            _ if self.json => return self.push(&result.json),
            Outcome::Applied => return,
            Outcome::Already if result.reason.is_empty() => return,
            Outcome::Already => "already set",
            Outcome::Refused => "refused",
            Outcome::NotApplied => "not applied",
            Outcome::Unknown => "unknown",
        };
        self.push(&format!("line {}: {word}: {}", result.line, escaped(&result.reason)));
    }

    /// Adds the number of rows that the run did not reach.
    pub fn add_untouched(&mut self, rows: usize) {
        let reason = "not sent before the run ended";
        self.push(&match self.json {
            true => json!({"rows": rows, "result": Outcome::NotApplied, "reason": reason}).to_string(),
            false => format!("{}: not applied: {reason}", counted(rows, "row")),
        });
    }

    pub fn add_summary(&mut self, summary: &Value) {
        if self.json {
            self.push(&json!({ "summary": summary }).to_string());
        }
    }

    fn push(&mut self, line: &str) {
        self.text += line;
        self.text.push('\n');
        if self.text.len() > 64 * 1024 {
            self.print();
        }
    }

    /// Prints the added lines. Returns false once standard output could not be written.
    pub fn print(&mut self) -> bool {
        let text = std::mem::take(&mut self.text);
        // The run continues: the journal has every result.
        if !self.failed && !text.is_empty() {
            self.failed = print(&text).map_err(|error| unprintable(&error)).is_err();
        }
        !self.failed
    }
}

/// Returns the current time in Unix seconds.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_severe_outcome_decides_the_exit_status() {
        let exit = |unknown, not_applied, refused| {
            let counts = Counts {
                applied: 3,
                already: 1,
                refused,
                unknown,
            };
            Summary::new(counts, 4 + refused + unknown + not_applied).exit
        };
        assert_eq!(exit(0, 0, 0), Exit::Done);
        assert_eq!(exit(0, 0, 2), Exit::RowsRefused);
        assert_eq!(exit(0, 801, 1), Exit::NotDone);
        assert_eq!(exit(1, 2, 1), Exit::Unknown);
    }
}
