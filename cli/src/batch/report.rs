//! What a run prints: a line for each row, the summary, and the exit status.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

use super::input::Input;
use super::result::{DuplicateLine, ResultLine, RowResult};
use crate::args::Output;
use crate::terminal::{Exit, counted, escaped, print, unprintable};

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    pub applied: usize,
    pub already: usize,
    pub left_alone: usize,
    pub refused: usize,
    pub unknown: usize,
    pub not_applied: usize,
}

impl Counts {
    pub fn add(&mut self, result: RowResult) {
        *match result {
            RowResult::Applied => &mut self.applied,
            RowResult::Already => &mut self.already,
            RowResult::LeftAlone => &mut self.left_alone,
            RowResult::Refused => &mut self.refused,
            RowResult::Unknown => &mut self.unknown,
            RowResult::NotApplied => &mut self.not_applied,
        } += 1;
    }

    /// Returns how many rows have a result that more attempts of this run will not change.
    pub fn reported(&self) -> usize {
        self.applied + self.already + self.left_alone + self.refused + self.unknown
    }
}

/// How a run ended.
pub struct Summary {
    pub counts: Counts,
    /// How many rows of the input were left out because an earlier row is identical.
    pub duplicates: usize,
    pub exit: Exit,
    pub stopped: Option<String>,
}

impl Summary {
    pub fn new(counts: Counts) -> Summary {
        // The most severe result decides.
        let exit = match (counts.unknown, counts.not_applied, counts.refused + counts.left_alone) {
            (1.., ..) => Exit::Unknown,
            (_, 1.., _) => Exit::NotDone,
            (.., 1..) => Exit::RowsRefused,
            _ => Exit::Done,
        };
        Summary {
            counts,
            duplicates: 0,
            exit,
            stopped: None,
        }
    }

    pub fn rows(&self) -> usize {
        self.counts.reported() + self.counts.not_applied
    }

    /// Returns how many rows have each result, in words.
    pub fn results(&self) -> String {
        let counts = &self.counts;
        let mut text = format!("{} applied, {} already set, ", counts.applied, counts.already);
        if counts.left_alone > 0 {
            text += &format!("{} left alone, ", counts.left_alone);
        }
        let (refused, unknown, not_applied) = (counts.refused, counts.unknown, counts.not_applied);
        text + &format!("{refused} refused, {unknown} unknown, {not_applied} not applied")
    }

    pub fn to_json(&self) -> Value {
        let mut object = json!(self.counts);
        object["exit"] = (self.exit as u8).into();
        object["stopped"] = self.stopped.as_deref().into();
        object
    }

    /// Returns what to do next. `before` is how many rows were done before this run.
    pub fn advice(&self, before: usize) -> Vec<&'static str> {
        let (rows, counts) = (self.rows(), &self.counts);
        let mut advice = Vec::new();
        if counts.not_applied > 0 {
            advice.push("run the same command again to resume with the remaining rows");
        } else if counts.refused > 0 && counts.unknown == 0 {
            advice.push("nothing is left to do; --retry refused resends the refused rows");
        } else if before == rows {
            advice.push("nothing is left to do");
        }
        if counts.refused == rows {
            advice.push(
                "every row was refused. If the sessions were not found, these credentials may belong to another application; \
                 with the right ones, run again with --retry refused",
            );
        }
        if counts.unknown > 0 {
            advice.push(
                "run the same command to check the unknown rows again. With --retry unknown it also resends those that still \
                 differ: look at them first",
            );
        }
        advice
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&counted(self.rows(), "row"))?;
        if self.duplicates > 0 {
            write!(f, " ({} left out)", counted(self.duplicates, "duplicate"))?;
        }
        write!(f, ": {}", self.results())
    }
}

/// Counts the results of a run, and prints them.
pub struct Report {
    json: bool,
    pub counts: Counts,
    /// The lines that wait to be printed.
    lines: String,
    is_unprintable: bool,
}

impl Report {
    /// `counts` are those of the rows that were done before this run.
    pub fn new(output: Output, counts: Counts) -> Report {
        Report {
            json: output.json,
            counts,
            lines: String::new(),
            is_unprintable: false,
        }
    }

    pub fn add(&mut self, line: &ResultLine) {
        self.counts.add(line.result);
        self.show(line);
    }

    /// Adds the rows that the run did not reach.
    pub fn add_not_reached(&mut self, lines: impl Iterator<Item = ResultLine>) {
        let mut rows = 0;
        for line in lines {
            rows += 1;
            self.counts.add(line.result);
            if self.json {
                self.push(&line.to_json());
            }
        }
        match rows {
            _ if self.json => {}
            0 => {}
            1 => self.push("1 row was not reached"),
            _ => self.push(&format!("{rows} rows were not reached")),
        }
    }

    /// Shows a result without counting it. Without `--json`, rows that were applied are left out, and so are rows that were
    /// already set, unless they have a reason.
    pub fn show(&mut self, line: &ResultLine) {
        let word = match line.result {
            _ if self.json => return self.push(&line.to_json()),
            RowResult::Applied => return,
            RowResult::Already if line.details.reason.is_empty() => return,
            RowResult::Already => "already set",
            RowResult::LeftAlone => "left alone",
            RowResult::Refused => "refused",
            RowResult::NotApplied => "not applied",
            RowResult::Unknown => "unknown",
        };
        self.push(&format!(
            "line {}: {word}: {}",
            line.line,
            escaped(&line.details.text())
        ));
    }

    /// Shows the rows that were left out.
    pub fn show_duplicates(&mut self, input: &Input) {
        if !self.json {
            return;
        }
        for duplicate in &input.duplicates {
            let row = duplicate.row as usize;
            let line = DuplicateLine {
                line: duplicate.line,
                session_id: input.row(row).0,
                new_status: input.status(row),
                duplicate_of: input.line(row),
            };
            // Strings, numbers and enums always serialize.
            self.push(&serde_json::to_string(&line).unwrap_or_default());
        }
    }

    pub fn show_summary(&mut self, summary: &Value) {
        if self.json {
            self.push(&json!({ "summary": summary }).to_string());
        }
    }

    fn push(&mut self, line: &str) {
        self.lines += line;
        self.lines.push('\n');
        if self.lines.len() > 64 * 1024 {
            self.print();
        }
    }

    /// Prints the lines that wait. Returns false once standard output could not be written.
    pub fn print(&mut self) -> bool {
        let text = std::mem::take(&mut self.lines);
        // The run continues: the journal has every result.
        if !self.is_unprintable && !text.is_empty() {
            self.is_unprintable = print(&text).map_err(|error| unprintable(&error)).is_err();
        }
        !self.is_unprintable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_severe_result_decides_the_exit_status() {
        let exit = |unknown, not_applied, refused, left_alone| {
            let counts = Counts {
                applied: 3,
                already: 1,
                left_alone,
                refused,
                unknown,
                not_applied,
            };
            Summary::new(counts).exit
        };
        assert_eq!(exit(0, 0, 0, 0), Exit::Done);
        assert_eq!(exit(0, 0, 2, 0), Exit::RowsRefused);
        assert_eq!(exit(0, 0, 0, 2), Exit::RowsRefused);
        assert_eq!(exit(0, 801, 1, 1), Exit::NotDone);
        assert_eq!(exit(1, 2, 1, 1), Exit::Unknown);
    }
}
