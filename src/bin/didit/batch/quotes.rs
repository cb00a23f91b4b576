//! Makes CSV strict, and keeps the line numbers.
//!
//! The csv crate takes whatever it is given: a quote that is never closed swallows the rows behind it, and would drop their
//! decisions silently. Its line numbers are one off after CRLF, and after blank lines.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};

/// Passes CSV on with `\n` at the end of each row and without blank lines; refuses quotes that RFC 4180 does not allow.
pub struct Quotes<R> {
    input: R,
    state: State,
    /// The line that the next byte is on.
    line: u32,
    after_cr: bool,
    /// Where the quoted field began.
    opened: u32,
    /// Where the rows began that were passed on and not yet asked for.
    starts: VecDeque<u32>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    RowStart,
    FieldStart,
    Bare,
    Quoted,
    /// After a quote inside a quoted field: its end, or the first of two that stand for one.
    Closing,
}

impl<R: BufRead> Quotes<R> {
    pub fn new(input: R) -> Quotes<R> {
        Quotes {
            input,
            state: State::RowStart,
            line: 1,
            after_cr: false,
            opened: 0,
            starts: VecDeque::new(),
        }
    }

    /// The line that the next row began on, counted from 1.
    pub fn next_start(&mut self) -> Option<u32> {
        self.starts.pop_front()
    }

    /// What to pass on for `byte`.
    fn pass(&mut self, byte: u8) -> io::Result<Option<u8>> {
        if self.state == State::Quoted {
            match byte {
                b'"' => self.state = State::Closing,
                b'\n' => self.line += 1,
                _ => {}
            }
            return Ok(Some(byte));
        }
        let second_half = byte == b'\n' && self.after_cr;
        self.after_cr = byte == b'\r';
        if matches!(byte, b'\r' | b'\n') {
            if second_half {
                return Ok(None);
            }
            self.line += 1;
            let blank = self.state == State::RowStart;
            self.state = State::RowStart;
            return Ok((!blank).then_some(b'\n'));
        }
        if self.state == State::RowStart {
            self.starts.push_back(self.line);
            self.state = State::FieldStart;
        }
        self.state = match (self.state, byte) {
            (_, b',') => State::FieldStart,
            (State::FieldStart, b'"') => {
                self.opened = self.line;
                State::Quoted
            }
            (State::Closing, b'"') => State::Quoted,
            (State::Closing, _) => return Err(self.refuse("text after a closing quote; a quote inside one is doubled")),
            (_, b'"') => return Err(self.refuse("a quote in a field that does not begin with one")),
            _ => State::Bare,
        };
        Ok(Some(byte))
    }

    fn refuse(&self, problem: &str) -> io::Error {
        let text = format!("line {}: {problem}; nothing after it was read", self.line);
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}

impl<R: BufRead> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled == 0 {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                if self.state == State::Quoted {
                    self.line = self.opened;
                    return Err(self.refuse("a quote is opened here and never closed"));
                }
                return Ok(0);
            }
            // Lent out as a whole, the input could not be read from while `self` changes.
            let length = bytes.len().min(buffer.len());
            buffer[..length].copy_from_slice(&bytes[..length]);
            self.input.consume(length);
            for index in 0..length {
                let byte = buffer[index];
                let plain = !matches!(byte, b'"' | b',' | b'\r' | b'\n');
                let inside = matches!(self.state, State::Bare | State::Quoted);
                // Most bytes change nothing.
                let passed = if plain && inside { Some(byte) } else { self.pass(byte)? };
                if let Some(byte) = passed {
                    buffer[filled] = byte;
                    filled += 1;
                }
            }
        }
        Ok(filled)
    }
}
