//! Why a batch does not begin.

use std::path::Path;

use super::report::{Counts, Summary};
use crate::args::Output;
use crate::exit::Exit;
use crate::terminal::{print_all, say};

#[derive(Debug)]
pub struct Rejection {
    exit: Exit,
    lines: Vec<String>,
}

impl Rejection {
    pub fn new(exit: Exit, lines: Vec<String>) -> Rejection {
        Rejection { exit, lines }
    }

    /// Names the file that the lines are about.
    pub fn about(mut self, path: &Path) -> Rejection {
        for line in &mut self.lines {
            *line = format!("{}: {line}", path.display());
        }
        self
    }

    /// Prints the lines, and with `--json` a summary of no rows. Returns the exit status.
    pub fn print(self, output: Output) -> Exit {
        for line in &self.lines {
            say(line);
        }
        if output.json {
            let summary = Summary {
                counts: Counts::default(),
                duplicates: 0,
                exit: self.exit,
                stopped: Some(self.lines.join("; ")),
            };
            print_all(&summary.to_line());
        }
        self.exit
    }
}

impl From<String> for Rejection {
    fn from(line: String) -> Rejection {
        Rejection::new(Exit::Usage, vec![line])
    }
}

impl From<didit::Error> for Rejection {
    fn from(error: didit::Error) -> Rejection {
        Rejection::new(Exit::of(&error), vec![error.to_string()])
    }
}
