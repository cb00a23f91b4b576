//! Reads an input as text.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use didit::text::system_message;

use crate::terminal::retry_if_blocked;

/// Reads the input from a file or from standard input.
///
/// # Errors
/// Says why the input cannot be read as text.
pub fn read(file: Option<&Path>) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = match file {
        Some(file) => File::open(file).and_then(|mut file| file.read_to_end(&mut bytes)),
        None => retry_if_blocked(|| io::stdin().lock().read_to_end(&mut bytes)),
    };
    read.map_err(|error| {
        format!(
            "the input cannot be read: {}; nothing was sent; check the file name",
            system_message(&error)
        )
    })?;
    if u32::try_from(bytes.len()).is_err() {
        return Err("the input is larger than 4 GiB; nothing was sent; split it".into());
    }
    if bytes.starts_with(b"\x1f\x8b") {
        return Err("the input is compressed with gzip; nothing was sent; decompress it first".into());
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\xd0\xcf\x11\xe0") {
        return Err("the input is a workbook; nothing was sent; save it as CSV".into());
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") || bytes.iter().take(2).any(|byte| *byte == 0) {
        return Err("the input is UTF-16; nothing was sent; save it as UTF-8".into());
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + line_ends(before);
        format!("line {line}: not UTF-8; nothing was sent; save the input as UTF-8")
    })
}

/// Counts the line ends. `\r\n` is one line end, and so is a single `\r`.
pub fn line_ends(text: &[u8]) -> u32 {
    let ends = text.iter().filter(|byte| matches!(byte, b'\r' | b'\n')).count();
    let both = text.windows(2).filter(|bytes| *bytes == b"\r\n").count();
    (ends - both) as u32
}
