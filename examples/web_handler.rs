//! A handler in a web server: `POST /sessions/SESSION_ID/approved`, with a deadline because a visitor is waiting.
//!
//!     cargo run -q -- sandbox -- cargo run -q --example web_handler
//!     curl -i -X POST http://127.0.0.1:8080/sessions/4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10/approved
//!
//! The server is minimal, so that the example needs no dependency. Copy `decide` into your own handler. In an async
//! framework, call it in `tokio::task::spawn_blocking`, since the client blocks its thread.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use didit::{Client, ClientBuilder, ErrorKind, NewStatus, SessionId, StatusUpdate, Verdict};

fn main() -> ExitCode {
    // By default, a call with its retries may take 2 minutes: too long for a visitor.
    let client = ClientBuilder::from_env().and_then(|builder| builder.deadline(Duration::from_secs(8)).build());
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match serve(&client) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the HTTP status and the text of the response.
fn decide(client: &Client, session: &str, status: &str) -> (u16, String) {
    let input = session
        .parse::<SessionId>()
        .and_then(|session| Ok((session, status.parse::<NewStatus>()?)));
    let (session, status) = match input {
        Ok(input) => input,
        Err(error) => return (400, error.to_string()),
    };
    let Err(error) = client.update_status(&session, &StatusUpdate::new(status)) else {
        return (200, format!("{session} is {status}"));
    };
    // The line tells the operator which session failed and what to do. The visitor sees less.
    eprintln!("{error}");
    // A gateway may answer 404, too. Only Didit's own response has a message.
    let is_final = error.message().is_some() || error.kind() == ErrorKind::InvalidInput;
    match (error.verdict(), error.kind()) {
        (Verdict::Unknown, _) => (
            504,
            "This may or may not have been saved. Reload the page to see.".into(),
        ),
        (_, ErrorKind::NotFound) if is_final => (404, "There is no such session.".into()),
        (_, ErrorKind::InvalidInput | ErrorKind::Rejected) if is_final => (409, "This decision cannot be made.".into()),
        (_, _) if error.is_retryable() => (503, "Nothing was saved. Try again in a minute.".into()),
        (_, _) => (502, "Nothing was saved. We have been notified.".into()),
    }
}

fn serve(client: &Client) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:8080")?;
    println!("listening on http://{}", listener.local_addr()?);
    for stream in listener.incoming() {
        // Clones share the connections to Didit, and the token.
        let client = client.clone();
        thread::spawn(move || stream.and_then(|stream| answer(&client, &stream)));
    }
    Ok(())
}

fn answer(client: &Client, mut stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|header| !header.is_empty()) {}
    let words: Vec<&str> = request.split([' ', '/']).collect();
    let (status, text) = match words[..] {
        ["POST", "", "sessions", session, status, "HTTP", _] => decide(client, session, status),
        _ => (
            404,
            "There is only POST /sessions/SESSION_ID/approved, or declined.".into(),
        ),
    };
    let length = text.len() + 1;
    write!(
        stream,
        "HTTP/1.1 {status} \r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}\n"
    )
}
