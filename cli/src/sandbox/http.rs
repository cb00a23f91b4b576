//! As much of HTTP/1.1 as the sandbox speaks.

use std::collections::HashMap;
use std::io::{self, BufRead, Write};

use serde_json::{Value, json};

pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

pub struct Answer {
    pub status: u16,
    pub body: String,
    pub headers: Vec<(&'static str, String)>,
}

impl Answer {
    pub fn json(status: u16, body: Value) -> Answer {
        Answer {
            status,
            body: body.to_string(),
            headers: Vec::new(),
        }
    }

    pub fn detail(status: u16, detail: &str) -> Answer {
        Answer::json(status, json!({ "detail": detail }))
    }
}

/// `None` where the client closed the connection between two requests.
pub fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let (method, path) = (method.to_owned(), path.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok(Some(Request {
        method,
        path,
        headers,
        body,
    }))
}

/// `length` is promised; `body` may be less of it.
pub fn write_answer(
    writer: &mut impl Write,
    status: u16,
    kind: &str,
    headers: &[(&'static str, String)],
    body: &str,
    length: usize,
) -> io::Result<()> {
    let mut text = format!("HTTP/1.1 {status} _\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    text += body;
    writer.write_all(text.as_bytes())
}
