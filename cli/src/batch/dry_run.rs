//! A dry run: says what a run would do, and sends nothing.

use didit::NewStatus;

use super::history::History;
use super::input::Input;
use super::report::{Counts, Report, Summary};
use super::result::{Details, ResultLine, RowResult};
use crate::exit::Exit;
use crate::terminal::{counted, print_all};

/// Prints each row that a run would send or check as a line, and their numbers as the summary.
pub fn print_json(input: &Input, history: &History, left: &[usize], mut report: Report) -> Exit {
    // The rows that are done are shown, but a dry run counts only what this run would do.
    report.counts = Counts::default();
    for row in left {
        let details = Details::reason("a dry run sends nothing");
        report.add(&ResultLine::new(input, *row, result(history, *row), details));
    }
    report.show_summary(&Summary {
        counts: report.counts,
        duplicates: input.duplicates.len(),
        exit: Exit::Done,
        stopped: None,
    });
    if report.print() { Exit::Done } else { Exit::NotDone }
}

pub fn print_text(input: &Input, history: &History, left: &[usize], done: Counts) -> Exit {
    let of = |status| (0..input.len()).filter(|row| input.status(*row) == status).count();
    let [approved, declined, resubmitted] = [NewStatus::Approved, NewStatus::Declined, NewStatus::Resubmitted].map(of);
    let rows = counted(input.len(), "row");
    let duplicates = counted(input.duplicates.len(), "duplicate row");
    let mut text = format!(
        "the input has {rows}: {approved} to approve, {declined} to decline, {resubmitted} to resubmit; {duplicates} left out; \
         nothing was sent\n"
    );
    if history.has_entries() {
        let mut counts = done;
        left.iter().for_each(|row| counts.add(result(history, *row)));
        let verb = if left.len() == 1 { "is" } else { "are" };
        text += &format!(
            "the journal says that {} of {rows} {verb} left: {}\n",
            left.len(),
            counts.in_words()
        );
    }
    print_all(&text)
}

/// Returns the result of a row that is left.
fn result(history: &History, row: usize) -> RowResult {
    match history.rows[row].last.is_in_doubt() {
        true => RowResult::Unknown,
        false => RowResult::NotApplied,
    }
}
