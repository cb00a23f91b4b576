//! The part of HTTP/1.1 that the sandbox supports.

use std::io::{self, BufRead, ErrorKind, Read};

use serde_json::{Value, json};

use didit::text::escaped;

/// The maximum size of a request. A larger one closes its connection. Status updates are far smaller.
const MAX_REQUEST: u64 = 1 << 20;

pub struct Request {
    pub method: String,
    pub path: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// Fails if the client closed the connection, or did not send HTTP/1.1.
    pub fn read(reader: &mut impl BufRead) -> io::Result<Request> {
        let mut reader = reader.take(MAX_REQUEST);
        let line = read_line(&mut reader)?;
        let mut words = line.split(' ').map(str::to_owned);
        let mut request = Request {
            method: words.next().ok_or(ErrorKind::InvalidData)?,
            path: words.next().ok_or(ErrorKind::InvalidData)?,
            headers: Vec::new(),
            body: Vec::new(),
        };
        while let Some((name, value)) = read_line(&mut reader)?.split_once(':') {
            request.headers.push((name.to_owned(), value.trim().to_owned()));
        }
        if request.header("transfer-encoding").is_some() {
            while read_chunk(&mut reader, &mut request.body)? {}
        } else if let Some(length) = request.header("content-length") {
            let length = length.parse().map_err(|_| ErrorKind::InvalidData)?;
            read_exactly(&mut reader, length, &mut request.body)?;
        }
        Ok(request)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        header.map(|(_, value)| value.as_str())
    }
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(line) => Ok(line.trim_end_matches('\r').to_owned()),
        None => Err(ErrorKind::UnexpectedEof.into()),
    }
}

fn read_exactly(reader: &mut impl Read, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    match reader.take(length).read_to_end(body)? as u64 == length {
        true => Ok(()),
        false => Err(ErrorKind::UnexpectedEof.into()),
    }
}

/// Reads a chunk of the body. Returns whether another chunk follows.
fn read_chunk(reader: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<bool> {
    let line = read_line(reader)?;
    let size = line.split(';').next().unwrap_or_default().trim();
    let size = u64::from_str_radix(size, 16).map_err(|_| ErrorKind::InvalidData)?;
    read_exactly(reader, size, body)?;
    // Skips the end of the chunk. After the last chunk, skips the trailers and the end of the body.
    while !read_line(reader)?.is_empty() {}
    Ok(size > 0)
}

pub struct Response {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Response {
    pub fn new(status: u16, content_type: &str, body: String) -> Response {
        let headers = vec![
            ("Content-Type", content_type.to_owned()),
            ("Content-Length", body.len().to_string()),
        ];
        Response { status, headers, body }
    }

    pub fn json(status: u16, body: &Value) -> Response {
        Response::new(status, "application/json", body.to_string())
    }

    pub fn detail(status: u16, detail: &str) -> Response {
        Response::json(status, &json!({ "detail": detail }))
    }
}

/// How much of a response the sandbox sends. It closes the connection unless it sends a whole response.
pub enum Delivery {
    Whole(Response),
    Half(Response),
    Nothing,
}

impl Delivery {
    pub fn bytes(&self) -> Vec<u8> {
        let (Delivery::Whole(response) | Delivery::Half(response)) = self else {
            return Vec::new();
        };
        let headers = response
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"));
        let head = format!("HTTP/1.1 {} \r\n{}\r\n", response.status, headers.collect::<String>());
        let mut bytes = (head + &response.body).into_bytes();
        if let Delivery::Half(_) = self {
            bytes.truncate(bytes.len() - response.body.len().div_ceil(2));
        }
        bytes
    }
}

/// Returns a request and its response without their secrets, formatted like the output of `curl -v`.
pub fn transcript(request: &Request, delivery: &Delivery) -> String {
    let mut text = format!("> {} {} HTTP/1.1\n", escaped(&request.method), escaped(&request.path));
    for (name, value) in &request.headers {
        let lower = name.to_ascii_lowercase();
        let value = match value.split_once(' ') {
            _ if !["auth", "key", "cookie"].iter().any(|word| lower.contains(word)) => value.clone(),
            Some((scheme, _)) if lower.contains("auth") => format!("{scheme} …"),
            _ => "…".into(),
        };
        text += &format!("> {}: {}\n", escaped(name), escaped(&value));
    }
    text += ">\n";
    if !request.body.is_empty() {
        let body = String::from_utf8_lossy(&request.body);
        text += &format!("> {}\n", escaped(&hide(&body, "client_secret=", '&')));
    }
    let response = delivery.bytes();
    for line in hide(&String::from_utf8_lossy(&response), "\"access_token\":\"", '"').lines() {
        text += format!("< {}", escaped(line)).trim_end();
        text += "\n";
    }
    if !matches!(delivery, Delivery::Whole(_)) {
        text += "< (the connection closes)\n";
    }
    text + "\n"
}

/// Replaces the text between `before` and `after` by an ellipsis.
fn hide(text: &str, before: &str, after: char) -> String {
    match text.split_once(before) {
        Some((start, rest)) => {
            let end = rest.find(after).map_or("", |end| &rest[end..]);
            format!("{start}{before}…{end}")
        }
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_shows_no_secret() {
        let shown = |request: &str, delivery: &Delivery| {
            let request = Request::read(&mut request.as_bytes()).unwrap();
            transcript(&request, delivery)
        };
        let token = Response::json(200, &json!({"access_token": "hunter2", "expires_in": 60}));
        let login = "POST /auth/v2/token/ HTTP/1.1\r\nAuthorization: Basic hunter2\r\nContent-Length: 29\r\n\r\n\
                     client_secret=hunter2&grant=x";
        let expected = "> POST /auth/v2/token/ HTTP/1.1\n> Authorization: Basic …\n> Content-Length: 29\n>\n\
                        > client_secret=…&grant=x\n< HTTP/1.1 200\n< Content-Type: application/json\n\
                        < Content-Length: 42\n<\n< {\"access_token\":\"…\",\"expires_in\":60}\n\n";
        assert_eq!(shown(login, &Delivery::Whole(token)), expected);
        for header in [
            "authorization: hunter2",
            "AUTHORIZATION: Bearer hunter2",
            "X-Api-Key: hunter2",
            "proxy-authorization: Basic hunter2",
            "Cookie: hunter2",
        ] {
            let token = Response::json(200, &json!({"access_token": "hunter2hunter2hunter2"}));
            let text = shown(&format!("GET / HTTP/1.1\r\n{header}\r\n\r\n"), &Delivery::Half(token));
            assert!(!text.contains("hunter2") && text.contains('…'), "{text}");
            assert!(text.ends_with("< (the connection closes)\n\n"), "{text}");
        }
    }

    #[test]
    fn half_a_response_lacks_half_of_its_body() {
        let text = |delivery: Delivery| String::from_utf8(delivery.bytes()).unwrap();
        let whole = text(Delivery::Whole(Response::new(200, "text/html", "12345".into())));
        assert!(whole.ends_with("Content-Length: 5\r\n\r\n12345"), "{whole}");
        let half = text(Delivery::Half(Response::new(200, "text/html", "12345".into())));
        assert_eq!(half, whole[..whole.len() - 3]);
    }
}
