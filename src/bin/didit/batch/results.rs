//! What a batch comes to: counted, told, and summed up in an exit status.

use std::fmt;

use super::journal::Outcome;
use crate::args::Output;
use crate::report::{Exit, escaped, print, unprintable};

/// How many rows have come to which end, those of earlier runs included.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub applied: usize,
    pub already: usize,
    pub refused: usize,
    pub not_sent: usize,
    pub unknown: usize,
}

impl Counts {
    pub fn add(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Applied => &mut self.applied,
            Outcome::Already => &mut self.already,
            Outcome::Refused => &mut self.refused,
            Outcome::NotSent => &mut self.not_sent,
            Outcome::Unknown => &mut self.unknown,
        } += 1;
    }

    pub fn done(&self) -> usize {
        self.applied + self.already + self.failed()
    }

    pub fn failed(&self) -> usize {
        self.refused + self.not_sent + self.unknown
    }

    /// The gravest end of a row decides.
    pub fn exit(&self) -> Exit {
        match self {
            Counts { unknown: 1.., .. } => Exit::Unknown,
            Counts { refused: 1.., .. } => Exit::RowsRefused,
            Counts { not_sent: 1.., .. } => Exit::NotSent,
            _ => Exit::Done,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            applied,
            already,
            refused,
            not_sent,
            unknown,
        } = self;
        write!(
            f,
            "{applied} applied, {already} already so, {refused} refused, {unknown} unknown, {not_sent} not sent"
        )
    }
}

/// The results to be told on standard output.
pub struct Lines {
    json: bool,
    text: String,
    broken: bool,
}

impl Lines {
    pub fn new(output: Output) -> Lines {
        Lines {
            json: output.json,
            text: String::new(),
            broken: false,
        }
    }

    /// Takes a row's final result: as JSON every one, else those that were not applied.
    pub fn add(&mut self, line: u32, outcome: Outcome, reason: Option<&str>, json: &str) {
        if self.json {
            self.text += json;
            return;
        }
        let word = match outcome {
            Outcome::Applied | Outcome::Already => return,
            Outcome::Refused => "refused",
            Outcome::NotSent => "not sent",
            Outcome::Unknown => "unknown",
        };
        self.text += &format!("line {line}: {word}: {}\n", escaped(reason.unwrap_or("")));
    }

    /// What is to be printed, so that it can be without holding the others up.
    pub fn taken(&mut self) -> Lines {
        Lines {
            text: std::mem::take(&mut self.text),
            ..*self
        }
    }

    /// Tells the one they were taken from whether they could be printed.
    pub fn give_back(&mut self, taken: &Lines) {
        self.broken |= taken.broken;
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub fn print_if_many(&mut self) {
        if self.text.len() > 64 * 1024 {
            self.print();
        }
    }

    pub fn print(&mut self) {
        let text = std::mem::take(&mut self.text);
        // The journal has it all: the run goes on.
        if !self.broken && !text.is_empty() && print(&text).map_err(|error| unprintable(&error)).is_err() {
            self.broken = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_end_of_a_row_decides() {
        let counts = |refused, not_sent, unknown| Counts {
            applied: 3,
            already: 1,
            refused,
            not_sent,
            unknown,
        };
        assert_eq!(counts(0, 0, 0).exit(), Exit::Done);
        assert_eq!(counts(0, 2, 0).exit(), Exit::NotSent);
        assert_eq!(counts(1, 2, 0).exit(), Exit::RowsRefused);
        assert_eq!(counts(1, 2, 1).exit(), Exit::Unknown);
    }
}
