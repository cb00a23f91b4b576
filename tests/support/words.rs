//! How this system words its errors: C libraries and Windows differ.

use std::io;
use std::net::TcpStream;

use super::CLOSED;

/// The words for a refused connection.
pub fn connection_refused() -> String {
    of(&TcpStream::connect(CLOSED).unwrap_err())
}

/// The words of an error, without its number, as `didit` prints them in the middle of a line.
pub fn of(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap().trim_end_matches('.');
    words[..1].to_ascii_lowercase() + &words[1..]
}

/// Replaces the words of this system by those of Linux with glibc, which docs/messages.md quotes.
pub fn as_on_linux(text: &str) -> String {
    let mut words = vec![(connection_refused(), "connection refused")];
    if cfg!(unix) {
        words.extend(
            [
                (2, "no such file or directory"),
                (13, "permission denied"),
                (21, "is a directory"),
                (27, "file too large"),
                (28, "no space left on device"),
            ]
            .map(|(number, on_linux)| (of(&io::Error::from_raw_os_error(number)), on_linux)),
        );
    }
    let capitalized = |words: &str| words[..1].to_ascii_uppercase() + &words[1..];
    words.iter().fold(text.to_owned(), |text, (here, on_linux)| {
        text.replace(here, on_linux)
            .replace(&capitalized(here), &capitalized(on_linux))
    })
}
