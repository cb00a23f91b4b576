//! The input of a batch. It is checked as a whole and kept as text. A row is parsed again when its turn comes.

mod csv;
mod ndjson;
mod text;

use std::collections::HashMap;
use std::hash::Hasher;

use ::csv::StringRecord;
use didit::{NewStatus, SessionId, StatusUpdate};
use fnv::FnvHasher;

use crate::args::Format;
use csv::{SEPARATOR, Table, header, separator};
use text::line_ends;
pub use text::read;

pub struct Input {
    text: String,
    /// `None` for NDJSON.
    table: Option<Table>,
    rows: Vec<Row>,
    /// The rows that were left out because an earlier row is identical.
    pub duplicates: Vec<Duplicate>,
    /// The names of the ignored columns or fields.
    pub ignored: Vec<String>,
}

/// The line of a row, and the identical row before it.
pub struct Duplicate {
    pub line: u32,
    pub row: u32,
}

#[derive(Clone, Copy)]
struct Row {
    /// The position in the text where the row starts.
    start: u32,
    line: u32,
    status: NewStatus,
}

const COLUMNS: [&str; 6] = [
    "session_id",
    "new_status",
    "comment",
    "nodes",
    "email",
    "email_language",
];
/// The first columns, which every input must have.
const REQUIRED: usize = 2;

impl Input {
    /// Parses and checks the whole input.
    ///
    /// # Errors
    /// Says what is wrong with each invalid row, and last why the rest cannot be read, if that is so.
    pub fn parse(
        text: String,
        format: Format,
        ignore_unknown_columns: bool,
        check: impl Fn(&StatusUpdate) -> Result<(), String>,
    ) -> Result<Input, Vec<String>> {
        let mut problems = Vec::new();
        match Input::parse_rows(text, format, ignore_unknown_columns, check, &mut problems) {
            Ok(input) if problems.is_empty() => Ok(input),
            Ok(_) => Err(problems),
            Err(problem) => {
                problems.push(problem);
                Err(problems)
            }
        }
    }

    /// Parses the rows. Adds what is wrong with each invalid row to `problems`.
    ///
    /// # Errors
    /// Says why the rest of the input cannot be read.
    fn parse_rows(
        text: String,
        format: Format,
        ignore_unknown_columns: bool,
        check: impl Fn(&StatusUpdate) -> Result<(), String>,
        problems: &mut Vec<String>,
    ) -> Result<Input, String> {
        match (format, text.trim_start().chars().next()) {
            (_, Some('[')) => {
                return Err(
                    "the input is a JSON array; convert it to NDJSON with `jq -c '.[]' FILE > FILE.ndjson`".into(),
                );
            }
            (Format::Ndjson, _) if text.trim_start().lines().next().is_some_and(|line| line.trim() == "{") => {
                return Err(
                    "the JSON objects take several lines each; convert them with `jq -c . FILE > FILE.ndjson`".into(),
                );
            }
            (Format::Csv, Some('{')) => {
                return Err("the input is JSON; if it has one object per line, add --format ndjson".into());
            }
            _ => {}
        }
        let mut input = Input {
            text,
            table: None,
            rows: Vec::new(),
            duplicates: Vec::new(),
            ignored: Vec::new(),
        };
        let separator = (format == Format::Csv).then(|| separator(&input.text));
        let mut records = Records::new(&input.text, separator);
        if let Some(separator) = separator {
            if input.text.starts_with(SEPARATOR) {
                records.next();
            }
            let first = records.next();
            let (line, _) = first.ok_or("the input is empty; the first line must name the columns")??;
            let columns = header(&records.fields, ignore_unknown_columns, &mut input.ignored);
            let columns = columns.map_err(|problem| format!("line {line}: {problem}"))?;
            input.table = Some(Table { separator, columns });
        }
        let mut rows_by_key = HashMap::new();
        while let Some(record) = records.next() {
            let (line, start) = record?;
            let parsed = match &input.table {
                Some(table) => csv::parse(&records.fields, table),
                None => ndjson::parse(
                    &input.text[start..],
                    ignore_unknown_columns.then_some(&mut input.ignored),
                ),
            };
            let (id, update) = match parsed.and_then(|row| check(&row.1).map(|()| row)) {
                Ok(row) => row,
                Err(problem) => {
                    problems.push(format!("line {line}: {problem}"));
                    continue;
                }
            };
            // If another session has the same key, this one gets the next free key.
            let mut key = session_key(&id);
            let earlier = loop {
                let Some(row) = rows_by_key.get(&key) else { break None };
                let (other, update) = input.row(*row as usize);
                if other.as_str().eq_ignore_ascii_case(id.as_str()) {
                    break Some((*row as usize, other, update));
                }
                key = key.wrapping_add(1);
            };
            match earlier {
                None => {
                    rows_by_key.insert(key, input.rows.len() as u32);
                    let (start, status) = (start as u32, update.new_status());
                    input.rows.push(Row { start, line, status });
                }
                Some((row, _, same)) if same == update => {
                    let row = row as u32;
                    input.duplicates.push(Duplicate { line, row });
                }
                Some((row, id, other)) => {
                    let first = input.line(row);
                    let what = difference(&update, &other, first);
                    let problem = format!("this row contradicts line {first} about session {id}: {what}");
                    problems.push(format!("line {line}: {problem}"));
                }
            }
        }
        drop(records);
        Ok(input)
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn line(&self, row: usize) -> u32 {
        self.rows[row].line
    }

    pub fn status(&self, row: usize) -> NewStatus {
        self.rows[row].status
    }

    /// Returns the session and the update of a row.
    ///
    /// # Panics
    /// Never: every row was parsed successfully before it was kept.
    pub fn row(&self, row: usize) -> (SessionId, StatusUpdate) {
        let text = &self.text[self.rows[row].start as usize..];
        let row = match &self.table {
            None => ndjson::parse(text, Some(&mut Vec::new())),
            Some(table) => {
                let mut fields = StringRecord::new();
                csv::StrictReader::new(text, table.separator).read(&mut fields);
                csv::parse(&fields, table)
            }
        };
        row.expect("a row that was checked")
    }

    /// Returns the row that starts on a line of the input.
    pub fn at_line(&self, line: u32) -> Option<usize> {
        self.rows.binary_search_by_key(&line, |row| row.line).ok()
    }

    /// Returns a fingerprint of this input, which is the same in every version of this program.
    pub fn fingerprint(&self) -> u64 {
        fingerprint(self.text.as_bytes())
    }
}

/// Returns the FNV-1a hash. Unlike the standard library's hash, it never changes.
fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(bytes);
    hasher.finish()
}

/// Returns a key that is the same for all spellings of a session id. It is short, to save memory for a million rows.
fn session_key(id: &SessionId) -> u32 {
    fingerprint(id.as_str().to_ascii_lowercase().as_bytes()) as u32
}

/// Finds the position and the line where each record starts.
struct Records<'a> {
    text: &'a str,
    next: NextRecord<'a>,
    /// The fields of the current CSV record.
    fields: StringRecord,
    /// How much of the text was read, and the line that it ends on.
    at: usize,
    line: u32,
}

type NextRecord<'a> = Box<dyn FnMut(&mut StringRecord) -> Option<Result<usize, csv::Problem>> + 'a>;

impl<'a> Records<'a> {
    fn new(text: &'a str, separator: Option<char>) -> Records<'a> {
        let next: NextRecord<'a> = match separator {
            Some(separator) => {
                let mut records = csv::StrictReader::new(text, separator);
                Box::new(move |fields| records.read(fields))
            }
            None => {
                let mut end = 0;
                let mut starts = text.split_inclusive(['\r', '\n']).filter_map(move |line| {
                    end += line.len();
                    Some(end - line.trim_ascii_start().len()).filter(|_| !line.trim_ascii().is_empty())
                });
                Box::new(move |_| starts.next().map(Ok))
            }
        };
        Records {
            text,
            next,
            fields: StringRecord::new(),
            at: 0,
            line: 1,
        }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<(u32, usize), String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let read = (self.next)(&mut self.fields)?;
            let (Ok(start) | Err((start, _))) = read;
            self.line += line_ends(&self.text.as_bytes()[self.at..start]);
            self.at = start;
            let is_blank = !self.fields.is_empty() && self.fields.iter().all(|field| field.trim().is_empty());
            match read {
                Ok(_) if is_blank => {}
                Ok(start) => return Some(Ok((self.line, start))),
                Err((_, problem)) => {
                    return Some(Err(format!("line {}: {problem}; the rest was not read", self.line)));
                }
            }
        }
    }
}

/// Says what differs between this update and that of an earlier line for the same session.
fn difference(here: &StatusUpdate, there: &StatusUpdate, line: u32) -> String {
    match (here.new_status(), there.new_status()) {
        (here, there) if here != there => format!("{here} here, {there} in line {line}"),
        _ if here.comment_text() != there.comment_text() => "the comments differ".into(),
        _ if here.nodes() != there.nodes() => "the nodes differ".into(),
        _ => "the emails differ".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str, format: Format) -> Result<Input, Vec<String>> {
        Input::parse(text.into(), format, false, |_| Ok(()))
    }

    #[test]
    fn rows_of_any_csv_writer_are_read_with_their_line_numbers() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..300 {
            let style = [::csv::QuoteStyle::Necessary, ::csv::QuoteStyle::Always][random.usize(..2)];
            let end = [::csv::Terminator::CRLF, ::csv::Terminator::Any(b'\n')][random.usize(..2)];
            let mut builder = ::csv::WriterBuilder::new();
            let mut writer = builder.quote_style(style).terminator(end).from_writer(Vec::new());
            writer.write_record(["session_id", "comment", "new_status"]).unwrap();
            let mut expected = Vec::new();
            for row in 0..random.usize(..6) {
                let letters = ['a', '"', ',', '\n', '\r', ' ', 'é'];
                let comment: String = (0..random.usize(..8)).map(|_| letters[random.usize(..7)]).collect();
                writer.flush().unwrap();
                let line = 1 + line_ends(writer.get_ref());
                writer
                    .write_record([&format!("id{row}"), &comment, "Approved"])
                    .unwrap();
                expected.push((line, format!("id{row}"), comment));
            }
            let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();

            let input = rows(&text, Format::Csv).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
            let found: Vec<_> = (0..input.len())
                .map(|row| {
                    let (id, update) = input.row(row);
                    let comment = update.comment_text().unwrap_or_default().to_owned();
                    (input.line(row), id.to_string(), comment)
                })
                .collect();
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn no_text_causes_a_panic_or_a_row_that_does_not_exist() {
        let mut random = fastrand::Rng::with_seed(6);
        let letters: Vec<char> = "a,\"\n\r\0{}:é ".chars().collect();
        for _ in 0..3000 {
            let noise: String = (0..random.usize(..40))
                .map(|_| letters[random.usize(..letters.len())])
                .collect();
            let text = format!("session_id,new_status\n{noise}");
            for (format, text) in [(Format::Csv, &text), (Format::Csv, &noise), (Format::Ndjson, &noise)] {
                let found = rows(text, format).map_or_else(|problems| problems.len(), |input| input.len());
                assert!(found <= text.len() + 1, "{text:?}");
            }
        }
    }

    #[test]
    fn a_single_carriage_return_ends_a_line() {
        let input = rows("session_id,new_status\ra,Approved\r\rb,Declined", Format::Csv).unwrap();
        assert_eq!([input.line(0), input.line(1)], [2, 4]);
        assert_eq!(input.at_line(4), Some(1));
        assert_eq!(input.at_line(3), None);
    }
}
