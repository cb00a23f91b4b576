//! What earlier runs wrote to the journal of a batch.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::input::Input;
use super::journal::{Header, unusable};
use super::result::{ResultLine, RowResult};
use crate::terminal::counted;

/// The last entry about a row. An intent without a result means that the run was killed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum LastEntry {
    #[default]
    None,
    Intent,
    Result(RowResult),
}

impl LastEntry {
    /// Returns the result of a row that is done. With `--retry refused`, a refused row is as if never sent.
    pub fn final_result(self, retry_refused: bool) -> Option<RowResult> {
        match self {
            LastEntry::Result(RowResult::Refused) if retry_refused => None,
            LastEntry::Result(result) => Some(result).filter(|result| result.is_final()),
            LastEntry::None | LastEntry::Intent => None,
        }
    }

    /// Returns whether the row may have been applied.
    pub fn is_in_doubt(self) -> bool {
        matches!(self, LastEntry::Intent | LastEntry::Result(RowResult::Unknown))
    }

    /// Returns whether no other entry matters. Two copies of a journal may have been joined.
    fn is_applied(self) -> bool {
        matches!(self, LastEntry::Result(RowResult::Applied | RowResult::Already))
    }
}

/// A row in the journal.
#[derive(Clone, Copy, Default)]
pub struct RowHistory {
    pub last: LastEntry,
    /// The position of that entry.
    pub place: u64,
}

pub struct History {
    pub rows: Vec<RowHistory>,
    /// How the attempts failed that left rows in doubt.
    pub causes: HashMap<usize, String>,
    /// The length of the complete lines, in bytes.
    pub complete_bytes: u64,
    /// Whether the last complete line lacks its line break.
    pub lacks_line_break: bool,
}

/// An intent or a result, as far as a resumed run needs it.
#[derive(Deserialize)]
struct Entry {
    line: u32,
    intent: Option<IgnoredAny>,
    result: Option<RowResult>,
    cause: Option<String>,
}

impl Entry {
    fn parse(text: &str) -> Option<Entry> {
        let entry: Entry = serde_json::from_str(text).ok()?;
        (entry.intent.is_some() || entry.result.is_some()).then_some(entry)
    }

    fn kind(&self) -> LastEntry {
        self.result.map_or(LastEntry::Intent, LastEntry::Result)
    }
}

impl History {
    pub fn empty(input: &Input) -> History {
        History {
            rows: vec![Default::default(); input.len()],
            causes: HashMap::new(),
            complete_bytes: 0,
            lacks_line_break: false,
        }
    }

    /// Reads the history of a batch from its journal. `name` is that of the input.
    ///
    /// # Errors
    /// Says why the batch cannot resume from this journal.
    pub fn read(file: &File, header: &Header, input: &Input, name: &str) -> Result<History, String> {
        let mut history = History::empty(input);
        let mut lines = Lines::new(file);
        let mut has_header = false;
        while lines.next()? {
            let number = lines.number;
            if lines.is_blank() {
                // It has no meaning, but the file keeps it.
            } else if !has_header {
                match serde_json::from_str::<Header>(lines.text()) {
                    Ok(found) => check_header(&found, header, &mut lines, name)?,
                    Err(_) if !lines.is_terminated() && is_start_of_header(&lines.bytes) => break,
                    Err(_) => return Err(NOT_A_JOURNAL.into()),
                }
                has_header = true;
            } else if let Some((row, entry)) =
                Entry::parse(lines.text()).and_then(|entry| Some((input.at_line(entry.line)?, entry)))
            {
                history.add(row, entry);
            } else if !lines.is_terminated() || lines.bytes.contains(&0) && nothing_was_sent_after(&mut lines)? {
                break;
            } else {
                return Err(format!("line {number} is damaged{DAMAGED}"));
            }
            history.complete_bytes += lines.bytes.len() as u64;
            history.lacks_line_break = !lines.is_terminated();
        }
        if !has_header {
            history.complete_bytes = 0;
        }
        // Adds these causes at the end, because most intents are followed by a result.
        for (row, found) in history.rows.iter().enumerate() {
            if found.last == LastEntry::Intent {
                let (id, update) = input.row(row);
                let cause = format!("setting session {id} to {}: {NO_RESPONSE}", update.new_status());
                history.causes.insert(row, cause);
            }
        }
        Ok(history)
    }

    pub fn has_entries(&self) -> bool {
        self.rows.iter().any(|row| row.last != LastEntry::None)
    }

    fn add(&mut self, row: usize, entry: Entry) {
        if self.rows[row].last.is_applied() {
            return;
        }
        let last = entry.kind();
        let place = self.complete_bytes;
        self.rows[row] = RowHistory { last, place };
        match entry.cause {
            Some(cause) => drop(self.causes.insert(row, cause)),
            None => drop(self.causes.remove(&row)),
        }
    }

    /// Reads from the journal the last entries of these rows, which are results.
    ///
    /// # Errors
    /// Says why the journal cannot be read.
    pub fn results(
        &self,
        path: &Path,
        rows: impl Iterator<Item = usize>,
        add: &mut dyn FnMut(ResultLine),
    ) -> Result<(), String> {
        let mut places: Vec<u64> = rows.map(|row| self.rows[row].place).collect();
        places.sort_unstable();
        if places.is_empty() {
            return Ok(());
        }
        let mut reader = BufReader::new(File::open(path).map_err(unusable)?);
        let mut at = 0;
        for place in places {
            let mut bytes = Vec::new();
            reader.seek_relative((place - at) as i64).map_err(unusable)?;
            at = place + reader.read_until(b'\n', &mut bytes).map_err(unusable)? as u64;
            if let Ok(line) = serde_json::from_slice::<ResultLine>(&bytes) {
                add(ResultLine { earlier: true, ..line });
            }
        }
        Ok(())
    }
}

/// The lines of a file, one at a time.
struct Lines<'a> {
    reader: BufReader<&'a File>,
    number: usize,
    bytes: Vec<u8>,
}

impl<'a> Lines<'a> {
    fn new(mut file: &'a File) -> Lines<'a> {
        // A regular file can be rewound; anything else is rejected when it is read.
        let _ = file.rewind();
        Lines {
            reader: BufReader::new(file),
            number: 0,
            bytes: Vec::new(),
        }
    }

    /// Reads the next line. Returns false at the end of the file.
    fn next(&mut self) -> Result<bool, String> {
        self.bytes.clear();
        self.number += 1;
        Ok(self.reader.read_until(b'\n', &mut self.bytes).map_err(unusable)? > 0)
    }

    fn is_terminated(&self) -> bool {
        self.bytes.ends_with(b"\n")
    }

    fn is_blank(&self) -> bool {
        self.is_terminated() && self.text().is_empty() && !self.bytes.contains(&0)
    }

    /// Returns the line without the byte order mark that an editor may have added, or nothing if it is not UTF-8.
    fn text(&self) -> &str {
        let text = std::str::from_utf8(&self.bytes).unwrap_or_default();
        text.trim_start_matches('\u{feff}').trim()
    }
}

/// Returns whether an incomplete file begins like a journal of this command. A power failure may leave NUL bytes in it.
fn is_start_of_header(bytes: &[u8]) -> bool {
    let start = b"{\"didit_journal\":";
    let written = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    start.starts_with(&bytes[..written.min(start.len())]) && bytes[written..].iter().all(|byte| *byte == 0)
}

/// Returns whether no intent follows. On some file systems, a power failure leaves NUL bytes in place of unsynced data. An
/// intent is synced before its request is sent, so an intent after NUL bytes shows that they have another cause.
fn nothing_was_sent_after(lines: &mut Lines<'_>) -> Result<bool, String> {
    while lines.next()? {
        if Entry::parse(lines.text()).is_some_and(|entry| entry.intent.is_some()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Checks that a journal belongs to this batch.
///
/// # Errors
/// Rejects the journal of another input, another host or another version. Says how far that batch got, and what to do.
fn check_header(found: &Header, own: &Header, lines: &mut Lines<'_>, name: &str) -> Result<(), String> {
    if found.didit_journal != own.didit_journal {
        return Err(OTHER_VERSION.into());
    }
    if found.input != own.input {
        let progress = progress(found.rows, lines)?;
        return Err(format!(
            "{name} is not the input of this journal, or has changed since ({progress}); nothing was sent. To resume that \
             batch, restore the old file. For a new batch, which sends every row of {name}, use --journal NEW"
        ));
    }
    if found.host != own.host {
        let (progress, own, found) = (progress(found.rows, lines)?, &own.host, &found.host);
        return Err(format!(
            "this journal belongs to {found} ({progress}); nothing was sent. To resume that batch, set DIDIT_BASE_URL to that \
             URL. For a new batch, which sends every row to {own}, use --journal NEW"
        ));
    }
    Ok(())
}

/// Says how many rows of a batch are done, from the rest of its journal.
fn progress(rows: usize, lines: &mut Lines<'_>) -> Result<String, String> {
    let mut last: HashMap<u32, LastEntry> = HashMap::new();
    while lines.next()? {
        if let Some(entry) = Entry::parse(lines.text()) {
            let row = last.entry(entry.line).or_default();
            if !row.is_applied() {
                *row = entry.kind();
            }
        }
    }
    let done = last.values().filter(|last| last.final_result(false).is_some()).count();
    let left = rows.saturating_sub(done);
    Ok(format!("{done} of {} done, {left} left", counted(rows, "row")))
}

/// The cause of an unknown row if a run ended before it received the response.
const NO_RESPONSE: &str = "the run ended before the response arrived";
const OTHER_VERSION: &str = "another version of this command wrote this journal; nothing was sent. Finish the batch \
                             with that version. Keep the journal: without it, a new run sends every row again";
const NOT_A_JOURNAL: &str = "this file is not a journal of didit, or its first line is damaged; nothing was sent; a new journal \
                             (--journal NEW) would send every row again";
const DAMAGED: &str = "; nothing was sent; restore the journal from a copy, or start a new batch with the rows that \
                       the journal does not mention";

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::args::Format;

    fn header() -> Header {
        Header {
            didit_journal: 3,
            input: "i".into(),
            host: "h".into(),
            rows: 2,
        }
    }

    fn input() -> Input {
        let text = "session_id,new_status\na,Approved\nb,Declined\n".to_owned();
        Input::parse(text, Format::Csv, false, |_| Ok(())).unwrap()
    }

    fn read(bytes: &[u8]) -> Result<History, String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        History::read(&file, &header(), &input(), "rows.csv")
    }

    fn journal(lines: &[&str]) -> String {
        let header = serde_json::to_string(&header()).unwrap();
        [&[&*header], lines].concat().join("\n") + "\n"
    }

    fn last(history: &History) -> [LastEntry; 2] {
        [history.rows[0].last, history.rows[1].last]
    }

    const INTENTS: [&str; 2] = [
        r#"{"line":2,"session_id":"a","intent":"Approved","at":1}"#,
        r#"{"line":3,"session_id":"b","intent":"Declined","at":1}"#,
    ];
    const APPLIED: &str = r#"{"line":2,"session_id":"a","new_status":"Approved","result":"applied","at":1}"#;
    const UNKNOWN: &str =
        r#"{"line":3,"session_id":"b","new_status":"Declined","result":"unknown","at":1,"reason":"r","cause":"c"}"#;
    const NOT_APPLIED: &str =
        r#"{"line":3,"session_id":"b","new_status":"Declined","result":"not_applied","at":1,"reason":"r"}"#;

    #[test]
    fn a_journal_that_is_cut_off_anywhere_forgets_no_row_that_was_sent() {
        let text = journal(&[INTENTS[0], INTENTS[1], APPLIED, NOT_APPLIED]);
        let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        let (none, intent) = (LastEntry::None, LastEntry::Intent);
        let [applied, not_applied] = [RowResult::Applied, RowResult::NotApplied].map(LastEntry::Result);
        let expected = [
            [none; 2],
            [none; 2],
            [intent, none],
            [intent; 2],
            [applied, intent],
            [applied, not_applied],
        ];
        for cut in 0..=text.len() {
            // Unsynced data may appear as NUL bytes.
            for tail in ["", "\0\0\0", "\0\0\n\0"] {
                // A complete line counts without its line break, unless something else follows.
                let is_complete = |end: &&usize| **end - usize::from(tail.is_empty()) <= cut;
                let lines = ends.iter().filter(is_complete).count();
                let history = read(&[&text.as_bytes()[..cut], tail.as_bytes()].concat());
                if lines == 0 && tail.contains('\n') {
                    assert!(
                        history.is_err(),
                        "{cut} {tail:?}: a file that is not a journal is rejected"
                    );
                    continue;
                }
                let history = history.unwrap_or_else(|problem| panic!("{cut} {tail:?}: {problem}"));
                assert_eq!(last(&history), expected[lines], "{cut} {tail:?}");
                let kept = ends[..lines].last().map_or(0, |end| cut.min(*end) as u64);
                assert_eq!(history.complete_bytes, kept, "{cut} {tail:?}");
                assert_eq!(history.lacks_line_break, lines > 0 && kept < ends[lines - 1] as u64);
            }
        }
    }

    #[test]
    fn the_last_entry_of_a_row_counts_with_its_place_and_its_cause() {
        let history = read(journal(&[INTENTS[1], NOT_APPLIED, INTENTS[1], UNKNOWN]).as_bytes()).unwrap();
        assert_eq!(last(&history), [LastEntry::None, LastEntry::Result(RowResult::Unknown)]);
        let place = journal(&[INTENTS[1], NOT_APPLIED, INTENTS[1]]).len() as u64;
        assert_eq!(history.rows[1].place, place);
        assert_eq!(history.causes, HashMap::from([(1, "c".to_owned())]));
        let killed = read(journal(&[UNKNOWN, INTENTS[1]]).as_bytes()).unwrap();
        let cause = "setting session b to Declined: the run ended before the response arrived";
        assert_eq!(killed.causes[&1], cause);
    }

    #[test]
    fn what_was_applied_stays_applied_if_two_journals_were_joined() {
        let history = read(journal(&[INTENTS[0], APPLIED, INTENTS[0]]).as_bytes()).unwrap();
        assert_eq!(last(&history)[0], LastEntry::Result(RowResult::Applied));
    }

    #[test]
    fn another_version_is_rejected_whatever_else_its_header_has() {
        for text in [
            "{\"didit_journal\":2,\"input\":\"i\",\"host\":\"h\",\"credential\":null}\n",
            "{\"didit_journal\":4,\"input\":\"x\",\"host\":\"y\",\"rows\":1}\n",
        ] {
            let problem = read(text.as_bytes()).err().unwrap();
            assert!(
                problem.starts_with("another version of this command wrote this journal; "),
                "{problem}"
            );
        }
    }

    #[test]
    fn the_journal_of_another_batch_says_how_many_rows_are_done_and_left() {
        let own = header();
        let others = [
            Header {
                input: "x".into(),
                rows: 5,
                ..header()
            },
            Header {
                host: "x".into(),
                rows: 5,
                ..header()
            },
        ];
        for other in others {
            let text = serde_json::to_string(&other).unwrap();
            let lines = [&*text, INTENTS[0], APPLIED, INTENTS[1], UNKNOWN].join("\n");
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(lines.as_bytes()).unwrap();
            let problem = History::read(&file, &own, &input(), "rows.csv").err().unwrap();
            assert!(
                problem.contains("(1 of 5 rows done, 4 left); nothing was sent. "),
                "{problem}"
            );
            assert!(problem.contains("--journal NEW"), "{problem}");
        }
    }
}
