//! Reads strict CSV (RFC 4180).
//!
//! The csv crate accepts any input: an unclosed quote would swallow the rows after it and silently drop their decisions. So
//! this module accepts a record only if a CSV writer would write it in the same way.

use ::csv::{Reader, ReaderBuilder, StringRecord};

/// The position of an error in a record, and the error.
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

    /// Reads the next record into `fields`. Returns the position where it starts.
    pub fn read(&mut self, fields: &mut StringRecord) -> Option<Result<usize, Problem>> {
        let before = self.reader.position().byte() as usize;
        // Reading fails only on invalid UTF-8, and the text is valid.
        self.reader.read_record(fields).ok().filter(|read| *read)?;
        let after = self.reader.position().byte() as usize;
        let record = self.text[before..after].trim_start_matches(['\r', '\n']);
        let start = after - record.len();
        let checked = check(record, fields, self.separator).map(|()| start);
        Some(checked.map_err(|(place, problem)| (start + place, problem)))
    }
}

const SPACE_BEFORE_QUOTE: &str = "a space before a quote; remove the space";
const TEXT_AFTER_QUOTE: &str = "text after a closing quote; write \"\" for a quote inside quotes";
const STRAY_QUOTE: &str = "a quote inside an unquoted field; put the field in quotes and write \"\" for the quote";

/// Compares a record, with or without its line end, with the fields that were read from it.
fn check(record: &str, fields: &StringRecord, separator: char) -> Result<(), Problem> {
    let mut start = 0;
    for field in fields {
        let text = &record[start..];
        let quoted = format!("\"{}\"", field.replace('"', "\"\""));
        let (spelled, problem) = match text.starts_with('"') {
            false if text.trim_start_matches(' ').starts_with('"') => (field, SPACE_BEFORE_QUOTE),
            false => (field, STRAY_QUOTE),
            true if quoted.strip_suffix('"') == Some(text) => ("", "a quote opens here and is never closed"),
            true => (&*quoted, TEXT_AFTER_QUOTE),
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
