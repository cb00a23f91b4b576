//! Strict CSV (RFC 4180), one record at a time.
//!
//! The csv crate takes whatever it is given: a quote that is never closed swallows the rows behind it, and would drop their
//! decisions silently.

use std::borrow::Cow;

/// Why a record cannot be read, and at which byte.
pub type Problem = (usize, &'static str);

/// Reads the record at the start of `text` into `fields`. Returns its length, without the end of its line.
pub fn record<'a>(text: &'a str, fields: &mut Vec<Cow<'a, str>>) -> Result<usize, Problem> {
    fields.clear();
    let mut at = 0;
    loop {
        let field = &text[at..];
        if field.starts_with('"') {
            let length = quoted(field).ok_or((at, "a quote is opened here and never closed"))?;
            let content = &field[1..length - 1];
            fields.push(match content.contains('"') {
                true => content.replace("\"\"", "\"").into(),
                false => content.into(),
            });
            at += length;
            if !matches!(text.as_bytes().get(at), None | Some(b',' | b'\r' | b'\n')) {
                return Err((at, "text after a closing quote; a quote inside quotes is written twice"));
            }
        } else {
            let ends = |byte: &u8| matches!(byte, b',' | b'\r' | b'\n' | b'"');
            let length = field.as_bytes().iter().position(ends).unwrap_or(field.len());
            fields.push(field[..length].into());
            at += length;
        }
        match text.as_bytes().get(at) {
            Some(b',') => at += 1,
            Some(b'"') => {
                return Err((
                    at,
                    "a quote in a field that does not begin with one; put the field in quotes, and write the quote twice",
                ));
            }
            _ => return Ok(at),
        }
    }
}

/// The length of a quoted field, its quotes included.
fn quoted(field: &str) -> Option<usize> {
    let mut end = 1;
    loop {
        end += field[end..].find('"')? + 1;
        if !field[end..].starts_with('"') {
            return Some(end);
        }
        end += 1;
    }
}
