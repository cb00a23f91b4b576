//! Reads strict CSV (RFC 4180).
//!
//! The csv crate accepts any input: an unclosed quote would swallow the rows after it and silently drop their decisions. So
//! this module accepts a record only if a CSV writer would write it in the same way.

use ::csv::{Reader, ReaderBuilder, StringRecord};
use didit::{NewStatus, Node, SessionId, StatusUpdate};

use super::{COLUMNS, REQUIRED};
use crate::status_update::status_update;
use crate::terminal::counted;

/// The position of an error in a record, and the error.
pub type Problem = (usize, &'static str);

pub struct StrictReader<'a> {
    text: &'a str,
    separator: char,
    reader: Reader<&'a [u8]>,
}

impl<'a> StrictReader<'a> {
    pub fn new(text: &'a str, separator: char) -> StrictReader<'a> {
        let mut builder = ReaderBuilder::new();
        builder.has_headers(false).flexible(true).delimiter(separator as u8);
        StrictReader {
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

/// How a first line starts in which a spreadsheet names the separator.
pub const SEPARATOR: &str = "sep=";

/// Returns the separator that the first line of a CSV names, otherwise the first separator in the text.
pub fn separator(text: &str) -> char {
    let named = text.strip_prefix(SEPARATOR).and_then(|rest| rest.chars().next());
    let mut is_quoted = false;
    let mut is_separator = |c: &char| {
        is_quoted ^= *c == '"';
        !is_quoted && [',', ';', '\t'].contains(c)
    };
    let found = named.or_else(|| text.chars().find(&mut is_separator));
    found.filter(char::is_ascii).unwrap_or(',')
}

/// The columns of a CSV.
pub struct Table {
    pub separator: char,
    pub columns: Vec<Column>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Column {
    /// An index into `COLUMNS`.
    Known(usize),
    Ignored,
    /// A column without a name, as spreadsheets add it. Its fields must be empty.
    Nameless,
}

/// Returns the columns that a header names.
pub fn header(names: &StringRecord, ignore_unknown: bool, ignored: &mut Vec<String>) -> Result<Vec<Column>, String> {
    let mut columns = Vec::new();
    for name in names.iter().map(str::trim) {
        let plain = name.to_ascii_lowercase().replace(' ', "_");
        let known = COLUMNS.iter().position(|known| *known == plain).map(Column::Known);
        columns.push(match known {
            Some(column) if columns.contains(&column) => return Err(format!("the column {name} appears twice")),
            Some(column) => column,
            None if name.is_empty() => Column::Nameless,
            None => {
                ignored.push(name.into());
                Column::Ignored
            }
        });
    }
    if !columns.iter().any(|column| matches!(column, Column::Known(_))) {
        return Err("no column names; the first line must name them, such as session_id,new_status,comment".into());
    }
    if !ignored.is_empty() && !ignore_unknown {
        let (unknown, known) = (counted(ignored.len(), "unknown column"), COLUMNS.join(", "));
        let names = format!("{ignored:?}");
        return Err(format!(
            "{unknown}: {}; the columns are {known}; use --ignore-unknown-columns to ignore others",
            names.trim_matches(['[', ']'])
        ));
    }
    let mut required = COLUMNS[..REQUIRED].iter().enumerate();
    match required.find(|(field, _)| !columns.contains(&Column::Known(*field))) {
        Some((_, name)) => Err(format!("the column {name} is missing")),
        None => Ok(columns),
    }
}

pub fn parse(record: &StringRecord, table: &Table) -> Result<(SessionId, StatusUpdate), String> {
    let columns = &table.columns;
    if record.len() != columns.len() {
        let is_trailing = record.iter().skip(columns.len()).all(|field| field.trim().is_empty());
        let separator = if table.separator == ',' { "comma" } else { "separator" };
        let hint = match record.len() < columns.len() {
            true => String::new(),
            false if is_trailing => {
                format!(
                    "; a field that contains a {separator} must be in quotes; or remove the {separator} at the end of the row"
                )
            }
            false => format!("; a field that contains a {separator} must be in quotes"),
        };
        let (fields, columns) = (counted(record.len(), "field"), columns.len());
        return Err(format!("this row has {fields}, but the header has {columns}{hint}"));
    }
    let mut fields = [""; COLUMNS.len()];
    for (index, (text, column)) in record.iter().zip(columns).enumerate() {
        match column {
            Column::Known(field) => fields[*field] = text,
            Column::Nameless if !text.trim().is_empty() => {
                return Err(format!("column {} has no name, but contains {text:?}", index + 1));
            }
            _ => {}
        }
    }
    let [session_id, new_status, comment, nodes, email, email_language] = fields;
    let id = session_id.trim().try_into();
    let id: SessionId = id.map_err(|error: didit::Error| format!("session_id: {session_id:?} is {error}"))?;
    let status = new_status.trim().parse::<NewStatus>();
    let settable = "use approved, declined or resubmitted";
    let status = status.map_err(|_| format!("new_status: {new_status:?} cannot be set: {settable}"))?;
    let nodes = nodes.split(|c: char| c.is_whitespace() || c == ',' || c == ';');
    let nodes = nodes.filter(|node| !node.is_empty());
    let node = |text: &str| {
        text.parse::<Node>()
            .map_err(|error| format!("nodes: {text:?} is {error}"))
    };
    let nodes = nodes.map(node).collect::<Result<Vec<Node>, String>>()?;
    if status == NewStatus::Resubmitted && nodes.is_empty() {
        return Err("nodes: Resubmitted needs at least one, such as feature_ocr_1:OCR".into());
    }
    let update = status_update(status, nodes, Some(comment), given(email), given(email_language))?;
    Ok((id, update))
}

/// Returns a field, unless it is empty.
fn given(field: &str) -> Option<&str> {
    Some(field.trim()).filter(|field| !field.is_empty())
}
