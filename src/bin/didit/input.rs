//! The input of a batch, read row by row: CSV or NDJSON.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Cursor, Read};

use serde::{Deserialize, Serialize};

use crate::args::node;
use crate::quotes::Quotes;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Format {
    Csv,
    Ndjson,
}

/// A row as it was written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry<'a> {
    #[serde(borrow)]
    pub session_id: Cow<'a, str>,
    #[serde(borrow)]
    pub new_status: Cow<'a, str>,
    #[serde(default)]
    pub comment: Option<Cow<'a, str>>,
    #[serde(default, alias = "nodes_to_resubmit")]
    pub nodes: Vec<Step>,
    #[serde(default)]
    pub email: Option<Cow<'a, str>>,
    #[serde(default)]
    pub email_language: Option<Cow<'a, str>>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub node_id: String,
    pub feature: String,
}

const COLUMNS: [&str; 6] = [
    "session_id",
    "new_status",
    "comment",
    "nodes",
    "email",
    "email_language",
];

/// Hands each row to `take` with its line number, or what is wrong with it.
///
/// # Errors
/// What makes it pointless to read on, in a line.
pub fn read(
    input: impl Read,
    format: Format,
    take: &mut dyn FnMut(u32, Result<Entry<'_>, String>),
) -> Result<(), String> {
    let input = without_bom(input).map_err(|error| unreadable(&error))?;
    match format {
        Format::Csv => read_csv(input, take),
        Format::Ndjson => read_ndjson(input, take),
    }
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::InvalidData => error.to_string(),
        _ => format!("it cannot be read: {error}"),
    }
}

fn without_bom(mut input: impl Read) -> io::Result<impl BufRead> {
    let mut start = Vec::new();
    input.by_ref().take(3).read_to_end(&mut start)?;
    if start == b"\xef\xbb\xbf" {
        start.clear();
    }
    Ok(BufReader::with_capacity(64 * 1024, Cursor::new(start).chain(input)))
}

fn read_csv(input: impl BufRead, take: &mut dyn FnMut(u32, Result<Entry<'_>, String>)) -> Result<(), String> {
    let mut builder = csv::ReaderBuilder::new();
    let mut reader = builder
        .has_headers(false)
        .flexible(true)
        .from_reader(Quotes::new(input));
    let mut record = csv::ByteRecord::new();
    let mut next = |record: &mut csv::ByteRecord| match reader.read_byte_record(record) {
        Ok(false) => Ok(None),
        Ok(true) => Ok(Some(reader.get_mut().next_start().unwrap_or_default())),
        Err(error) => Err(match error.into_kind() {
            csv::ErrorKind::Io(error) => unreadable(&error),
            _ => "it cannot be read as CSV".into(),
        }),
    };
    let Some(line) = next(&mut record)? else {
        return Err("it is empty: the first line has to name the columns".into());
    };
    let columns = header(&record).map_err(|problem| format!("line {line}: {problem}"))?;
    while let Some(line) = next(&mut record)? {
        take(line, entry(&record, &columns));
    }
    Ok(())
}

/// Which field each column is, by the header.
fn header(record: &csv::ByteRecord) -> Result<Vec<usize>, String> {
    let mut columns = Vec::new();
    for name in record {
        let name = std::str::from_utf8(name).map_err(|_| "the header is not UTF-8")?.trim();
        let Some(field) = COLUMNS.iter().position(|known| *known == name) else {
            let hint = if name.contains([';', '\t']) {
                "; columns are separated by commas"
            } else {
                ""
            };
            return Err(format!(
                "there is no column {name:?}{hint}; there are {}",
                COLUMNS.join(", ")
            ));
        };
        if columns.contains(&field) {
            return Err(format!("the column {name} is there twice"));
        }
        columns.push(field);
    }
    for (field, name) in COLUMNS.iter().enumerate().take(2) {
        if !columns.contains(&field) {
            return Err(format!("the column {name} is missing"));
        }
    }
    Ok(columns)
}

fn entry<'a>(record: &'a csv::ByteRecord, columns: &[usize]) -> Result<Entry<'a>, String> {
    if record.len() != columns.len() {
        return Err(format!(
            "it has {} fields, and the header {}",
            record.len(),
            columns.len()
        ));
    }
    let mut fields = [""; COLUMNS.len()];
    for (bytes, column) in record.iter().zip(columns) {
        fields[*column] = std::str::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8", COLUMNS[*column]))?;
    }
    let [session_id, new_status, comment, nodes, email, email_language] = fields;
    let given = |text: &'a str| (!text.is_empty()).then_some(Cow::Borrowed(text));
    let steps = nodes.split([' ', ';']).filter(|step| !step.is_empty());
    let step = |text| {
        node(text).map(|node| Step {
            node_id: node.node_id,
            feature: node.feature,
        })
    };
    Ok(Entry {
        session_id: session_id.trim().into(),
        new_status: new_status.trim().into(),
        comment: given(comment),
        nodes: steps.map(step).collect::<Result<_, String>>()?,
        email: given(email.trim()),
        email_language: given(email_language.trim()),
    })
}

fn read_ndjson(mut input: impl BufRead, take: &mut dyn FnMut(u32, Result<Entry<'_>, String>)) -> Result<(), String> {
    let mut bytes = Vec::new();
    let mut line = 0;
    loop {
        bytes.clear();
        line += 1;
        if input
            .read_until(b'\n', &mut bytes)
            .map_err(|error| unreadable(&error))?
            == 0
        {
            return Ok(());
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let entry = std::str::from_utf8(&bytes).map_err(|_| "it is not UTF-8".to_owned());
        let parse = |text| serde_json::from_str(text).map_err(|error| not_an_entry(&error, bytes.ends_with(b"\n")));
        take(line, entry.and_then(parse));
    }
}

fn not_an_entry(error: &serde_json::Error, whole: bool) -> String {
    if error.is_eof() && !whole {
        return "the last line is cut off".into();
    }
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    format!(
        "not a row: {} (column {})",
        text.trim_end_matches(&place),
        error.column()
    )
}
