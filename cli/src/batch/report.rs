//! What a run prints: a line for each row, the summary, and the exit status.

use std::fmt;

use serde::Serialize;
use serde_json::json;

use didit::text::escaped;

use super::input::Input;
use super::result::{DuplicateLine, ResultLine, RowResult};
use crate::args::Output;
use crate::exit::Exit;
use crate::terminal::{counted, print, report_unprintable};

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

    pub fn rows(&self) -> usize {
        self.reported() + self.not_applied
    }

    /// Returns the exit status that the results lead to: the most severe one decides. `lacks_permission` says whether rows are
    /// left because Didit asks for credits or permissions.
    pub fn exit(&self, lacks_permission: bool) -> Exit {
        match (self.unknown, self.not_applied, self.refused + self.left_alone) {
            (1.., ..) => Exit::Unknown,
            (_, 1.., _) if lacks_permission => Exit::Refused,
            (_, 1.., _) => Exit::NotDone,
            (.., 1..) => Exit::LeftAlone,
            _ => Exit::Done,
        }
    }

    pub fn in_words(&self) -> String {
        let mut text = format!("{} applied, {} already set, ", self.applied, self.already);
        if self.left_alone > 0 {
            text += &format!("{} left alone, ", self.left_alone);
        }
        let (refused, unknown, not_applied) = (self.refused, self.unknown, self.not_applied);
        text + &format!("{refused} refused, {unknown} unknown, {not_applied} not applied")
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
    /// Returns the line of `--json`.
    pub fn to_line(&self) -> String {
        let mut summary = json!(self.counts);
        summary["rows"] = self.counts.rows().into();
        summary["duplicates"] = self.duplicates.into();
        summary["exit"] = (self.exit as u8).into();
        if let Some(why) = &self.stopped {
            summary["stopped"] = why.as_str().into();
        }
        format!("{}\n", json!({ "summary": summary }))
    }

    /// Returns what to do next, if anything. `done_before` is how many rows were done before this run.
    pub fn advice(&self, done_before: usize) -> Option<String> {
        let (rows, counts) = (self.counts.rows(), &self.counts);
        let mut steps = Vec::new();
        if counts.not_applied > 0 {
            steps.push(format!("resumes {}", counted(counts.not_applied, "row")));
        }
        if counts.unknown > 0 {
            steps.push(format!("rechecks {}", counted(counts.unknown, "unknown row")));
        }
        let retry = match counts.unknown {
            0 => "",
            _ => "; with --retry unknown, it also resends those that still differ: look at them first",
        };
        if !steps.is_empty() {
            return Some(format!("run the same command again: it {}{retry}", steps.join(" and ")));
        }
        let advice = if counts.refused == rows {
            "every row was refused; if the sessions were not found, these credentials may belong to another application: with the \
             right ones, run again with --retry refused"
        } else if counts.refused > 0 {
            "nothing is left to do; --retry refused resends the refused rows"
        } else if done_before == rows {
            "nothing is left to do"
        } else {
            return None;
        };
        Some(advice.into())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&counted(self.counts.rows(), "row"))?;
        if self.duplicates > 0 {
            write!(f, " ({} left out)", counted(self.duplicates, "duplicate"))?;
        }
        write!(f, ": {}", self.counts.in_words())
    }
}

/// Counts the results of a run, and prints them.
pub struct Report {
    json: bool,
    pub counts: Counts,
    not_reached: usize,
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
            not_reached: 0,
            lines: String::new(),
            is_unprintable: false,
        }
    }

    pub fn add(&mut self, line: &ResultLine) {
        self.counts.add(line.result);
        self.show(line);
    }

    /// Adds a row that the run did not reach. Without `--json`, such rows have one line together.
    pub fn add_not_reached(&mut self, line: impl FnOnce() -> ResultLine) {
        self.counts.add(RowResult::NotApplied);
        self.not_reached += 1;
        if self.json {
            self.push(&line().to_json());
        }
    }

    pub fn show_not_reached(&mut self) {
        match self.not_reached {
            _ if self.json => {}
            0 => {}
            1 => self.push("1 row was not reached"),
            rows => self.push(&format!("{rows} rows were not reached")),
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

    pub fn show_summary(&mut self, summary: &Summary) {
        if self.json {
            self.push(summary.to_line().trim_end());
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
            self.is_unprintable = print(&text).map_err(|error| report_unprintable(&error)).is_err();
        }
        !self.is_unprintable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(unknown: usize, not_applied: usize, refused: usize, left_alone: usize) -> Counts {
        Counts {
            applied: 3,
            already: 1,
            left_alone,
            refused,
            unknown,
            not_applied,
        }
    }

    #[test]
    fn the_most_severe_result_decides_the_exit_status() {
        for (counts, exit, without_permission) in [
            (counts(0, 0, 0, 0), Exit::Done, Exit::Done),
            (counts(0, 0, 2, 0), Exit::LeftAlone, Exit::LeftAlone),
            (counts(0, 0, 0, 2), Exit::LeftAlone, Exit::LeftAlone),
            (counts(0, 801, 1, 1), Exit::NotDone, Exit::Refused),
            (counts(1, 2, 1, 1), Exit::Unknown, Exit::Unknown),
        ] {
            assert_eq!(counts.exit(false), exit, "{counts:?}");
            assert_eq!(counts.exit(true), without_permission, "{counts:?}");
        }
    }

    #[test]
    fn one_line_says_what_to_do_next() {
        let advice = |counts, done_before| {
            let summary = Summary {
                counts,
                duplicates: 0,
                exit: Exit::Done,
                stopped: None,
            };
            summary.advice(done_before).unwrap_or_default()
        };
        let resend = "; with --retry unknown, it also resends those that still differ: look at them first";
        assert_eq!(
            advice(counts(0, 1, 1, 0), 0),
            "run the same command again: it resumes 1 row"
        );
        assert_eq!(
            advice(counts(1, 1, 0, 0), 0),
            format!("run the same command again: it resumes 1 row and rechecks 1 unknown row{resend}")
        );
        assert_eq!(
            advice(counts(2, 0, 3, 0), 0),
            format!("run the same command again: it rechecks 2 unknown rows{resend}")
        );
        assert!(advice(counts(0, 0, 2, 0), 0).ends_with("--retry refused resends the refused rows"));
        assert_eq!(advice(counts(0, 0, 0, 1), 5), "nothing is left to do");
        assert_eq!(advice(counts(0, 0, 0, 0), 0), "");
        let refused = Counts {
            refused: 2,
            ..Counts::default()
        };
        assert!(advice(refused, 0).starts_with("every row was refused; "));
    }
}
