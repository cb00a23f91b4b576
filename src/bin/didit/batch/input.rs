//! The input of a batch, read row by row: CSV or NDJSON.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Cursor, Read};

use serde::{Deserialize, Serialize};

use super::quotes::Quotes;
use crate::args::{Format, node};

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out a few bytes at a time, so that every boundary falls everywhere.
    struct Trickle<'a>(&'a [u8], fastrand::Rng);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.usize(1..4).min(buffer.len());
            self.0.read(&mut buffer[..length])
        }
    }

    #[test]
    fn whatever_a_csv_writer_writes_comes_back_with_its_line_numbers() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..300 {
            let styles = [csv::QuoteStyle::Necessary, csv::QuoteStyle::Always];
            let terminator = if random.bool() {
                csv::Terminator::CRLF
            } else {
                csv::Terminator::Any(b'\n')
            };
            let mut builder = csv::WriterBuilder::new();
            builder.quote_style(styles[random.usize(..2)]).terminator(terminator);
            let mut writer = builder.from_writer(Vec::new());
            writer.write_record(["session_id", "comment", "new_status"]).unwrap();
            let mut expected = Vec::new();
            for row in 0..random.usize(..6) {
                let letters = ['a', '"', ',', '\n', '\r', ' ', 'é'];
                let comment: String = (0..random.usize(..8)).map(|_| letters[random.usize(..7)]).collect();
                writer.flush().unwrap();
                let line = 1 + writer.get_ref().iter().filter(|byte| **byte == b'\n').count() as u32;
                writer
                    .write_record([&format!("id{row}"), &comment, "Approved"])
                    .unwrap();
                expected.push((line, format!("id{row}"), comment));
            }
            let text = writer.into_inner().unwrap();

            let mut found = Vec::new();
            let result = read(Trickle(&text, random.fork()), Format::Csv, &mut |line, entry| {
                let entry = entry.unwrap();
                let comment = entry.comment.unwrap_or_default().into_owned();
                found.push((line, entry.session_id.into_owned(), comment));
            });
            assert_eq!(result, Ok(()), "{}", String::from_utf8_lossy(&text));
            assert_eq!(found, expected, "{}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_read_a_row_that_is_not_there() {
        let mut random = fastrand::Rng::with_seed(6);
        let letters = b"a,\"\n\r\0{}:\xc3\xa9\xef\xbb\xbf ";
        for _ in 0..3000 {
            let noise: Vec<u8> = (0..random.usize(..40))
                .map(|_| letters[random.usize(..letters.len())])
                .collect();
            let text = [b"session_id,new_status\n", &noise[..]].concat();
            for (format, input) in [(Format::Csv, &text), (Format::Csv, &noise), (Format::Ndjson, &noise)] {
                let mut last = 0;
                let _ = read(Trickle(input, random.fork()), format, &mut |line, _| {
                    assert!(line > last, "{input:?}");
                    last = line;
                });
                assert!(last as usize <= input.len() + 1, "{input:?}");
            }
        }
    }
}
