//! Strict CSV (RFC 4180).
//!
//! The csv crate takes whatever it is given: a quote that is never closed swallows the rows behind it, and would drop their
//! decisions silently. So each record has to be spelled as a writer of CSV would spell it.

use ::csv::{Reader, ReaderBuilder, StringRecord};

/// Where a record cannot be read, and why.
pub type Problem = (usize, &'static str);

pub struct Records<'a> {
    text: &'a str,
    separator: char,
    reader: Reader<&'a [u8]>,
}

impl<'a> Records<'a> {
    pub fn new(text: &'a str, separator: char) -> Records<'a> {
        let mut builder = ReaderBuilder::new();
        builder.has_headers(false).flexible(true).delimiter(separator as u8);
        Records {
            text,
            separator,
            reader: builder.from_reader(text.as_bytes()),
        }
    }

    /// Reads the next record into `fields`. Returns where it begins.
    ///
    pub fn read(&mut self, fields: &mut StringRecord) -> Option<Result<usize, Problem>> {
        let before = self.reader.position().byte() as usize;
        // It can fail on what is not UTF-8 alone, and this is.
        self.reader.read_record(fields).ok().filter(|read| *read)?;
        let after = self.reader.position().byte() as usize;
        let record = self.text[before..after].trim_start_matches(['\r', '\n']);
        let start = after - record.len();
        let checked = check(record, fields, self.separator);
        Some(
            checked
                .map(|()| start)
                .map_err(|(place, problem)| (start + place, problem)),
        )
    }
}

const STRAY_QUOTE: &str =
    "a quote in a field that does not begin with one; put the field in quotes, and write the quote twice";

/// Compares a record, which may end with a line end, with what was read of it.
fn check(record: &str, fields: &StringRecord, separator: char) -> Result<(), Problem> {
    let mut start = 0;
    for field in fields {
        let text = &record[start..];
        let quoted = format!("\"{}\"", field.replace('"', "\"\""));
        let (spelled, problem) = match text.starts_with('"') {
            false => (field, STRAY_QUOTE),
            true if quoted.strip_suffix('"') == Some(text) => ("", "a quote is opened here and never closed"),
            true => (
                &*quoted,
                "text after a closing quote; a quote inside quotes is written twice",
            ),
        };
        let rest = text
            .strip_prefix(spelled)
            .filter(|_| spelled.starts_with('"') || !spelled.contains('"'));
        let ends = |rest: &&str| rest.is_empty() || rest.starts_with([separator, '\r', '\n']);
        let rest = rest.filter(ends).ok_or((start, problem))?;
        start = record.len() - rest.len() + separator.len_utf8();
    }
    Ok(())
}
