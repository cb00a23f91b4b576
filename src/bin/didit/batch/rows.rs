//! The rows of a batch, checked as a whole and kept small: a million of them take little more than their ids and comments.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::io::Read;

use didit::{NewStatus, Node, SessionId, StatusUpdate};
use serde::{Deserialize, Serialize};

use super::input::{Entry, Step, read};
use crate::args::Format;
use crate::one::status_update;

#[derive(Default)]
pub struct Rows {
    rows: Vec<Row>,
    /// Ids that are no canonical UUIDs and extras in JSON, each ended by a line break.
    text: Vec<u8>,
    /// How many rows were the same as one before them.
    pub repeated: usize,
}

struct Row {
    id: Id,
    line: u32,
    /// Where its extras begin in the text.
    extras: Option<Offset>,
    status: NewStatus,
}

#[derive(Clone, Copy)]
enum Id {
    Uuid([u8; 16]),
    Text(Offset),
}

/// A place in the text, plus one.
type Offset = std::num::NonZeroU32;

/// What a row says besides the status.
#[derive(Deserialize, Serialize)]
struct Extras<'a> {
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    comment: Option<Cow<'a, str>>,
    #[serde(rename = "n", default, skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<Step>,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    email: Option<Cow<'a, str>>,
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    email_language: Option<Cow<'a, str>>,
}

/// Extras that many rows share are kept once; of so many the last ones are remembered.
const REMEMBERED: usize = 4096;

impl Rows {
    /// Reads and checks the whole input. Whatever is wrong is handed to `complain`, a line each; if anything was, the
    /// rows are not to be used.
    pub fn read(
        input: impl Read,
        format: Format,
        check: &dyn Fn(&StatusUpdate) -> didit::Result<()>,
        complain: &mut dyn FnMut(String),
    ) -> Rows {
        let mut reading = Reading {
            rows: Rows::default(),
            check,
            plain: Vec::new(),
            extras: HashMap::new(),
        };
        let result = read(input, format, &mut |line, entry| {
            if let Err(problem) = entry.and_then(|entry| reading.add(line, entry)) {
                complain(format!("line {line}: {problem}"));
            }
        });
        if let Err(problem) = result {
            complain(problem);
        }
        let mut rows = reading.rows;
        rows.settle_repetitions(complain);
        rows
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn line(&self, row: usize) -> u32 {
        self.rows[row].line
    }

    pub fn status(&self, row: usize) -> NewStatus {
        self.rows[row].status
    }

    pub fn id(&self, row: usize) -> SessionId {
        // It was a session id when it was read.
        self.id_text(&self.rows[row]).as_ref().try_into().expect("a session id")
    }

    pub fn update(&self, row: usize) -> StatusUpdate {
        let Row { extras, status, .. } = self.rows[row];
        match extras {
            None => status_update(status, Vec::new()),
            // It was written by `extras` below.
            Some(at) => serde_json::from_slice::<Extras<'_>>(self.text(at))
                .expect("extras")
                .update(status),
        }
    }

    /// The row that began on a line of the input.
    pub fn at_line(&self, line: u32) -> Option<usize> {
        self.rows.binary_search_by_key(&line, |row| row.line).ok()
    }

    /// Tells this input from others, in every version of this program: FNV-1a over all that the rows say.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Fnv::default();
        for row in &self.rows {
            hash.add(&row.line.to_le_bytes());
            hash.add(self.id_text(row).as_bytes());
            hash.add(row.status.to_string().as_bytes());
            hash.add(row.extras.map_or(b"" as &[u8], |at| self.text(at)));
            hash.add(b"\n");
        }
        hash.0
    }

    fn text(&self, at: Offset) -> &[u8] {
        let rest = &self.text[at.get() as usize - 1..];
        &rest[..rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())]
    }

    fn id_text(&self, row: &Row) -> Cow<'_, str> {
        match &row.id {
            Id::Uuid(bytes) => format_uuid(bytes).into(),
            Id::Text(at) => String::from_utf8_lossy(self.text(*at)),
        }
    }

    fn keep(&mut self, text: &[u8]) -> Result<Offset, String> {
        let at = u32::try_from(self.text.len() + 1).ok().and_then(Offset::new);
        self.text.extend_from_slice(text);
        self.text.push(b'\n');
        at.ok_or_else(|| "the input is too large: split it".into())
    }

    /// Rows that say the same count once. Rows that say different things of one session are contradictions, whichever
    /// letter case its id is written in.
    fn settle_repetitions(&mut self, complain: &mut dyn FnMut(String)) {
        // Most comparisons are settled by these keys, which lie side by side.
        let keys = self.rows.iter().map(|row| self.session_key(row));
        let mut order: Vec<(u64, u32)> = keys.zip(0..).collect();
        order.sort_unstable_by(|(key_a, a), (key_b, b)| {
            let same_key = || self.by_session(*a, *b).then(a.cmp(b));
            key_a.cmp(key_b).then_with(same_key)
        });
        let order: Vec<u32> = order.into_iter().map(|(_, row)| row).collect();
        let mut repeated = Vec::new();
        let mut first = 0;
        for next in 1..order.len() {
            if self.by_session(order[first], order[next]).is_ne() {
                first = next;
                continue;
            }
            let (one, other) = (&self.rows[order[first] as usize], &self.rows[order[next] as usize]);
            let extras = |row: &Row| row.extras.map(|at| self.text(at));
            if one.status == other.status && extras(one) == extras(other) {
                repeated.push(order[next]);
            } else {
                complain(format!(
                    "line {}: it contradicts line {} about session {}",
                    other.line,
                    one.line,
                    self.id_text(one)
                ));
            }
        }
        drop(order);
        repeated.sort_unstable();
        let mut index = 0;
        self.rows.retain(|_| {
            index += 1;
            repeated.binary_search(&(index - 1)).is_err()
        });
        self.repeated = repeated.len();
    }

    /// The same for all spellings of one session's id.
    fn session_key(&self, row: &Row) -> u64 {
        let folded = |at| String::from_utf8_lossy(self.text(at)).to_ascii_lowercase();
        let uuid = match row.id {
            Id::Uuid(bytes) => Ok(bytes),
            Id::Text(at) => parse_uuid(&folded(at)).ok_or(at),
        };
        match uuid {
            Ok(bytes) => u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|index| bytes[index])),
            Err(at) => {
                let mut hash = Fnv::default();
                hash.add(folded(at).as_bytes());
                hash.0
            }
        }
    }

    fn by_session(&self, a: u32, b: u32) -> Ordering {
        let (a, b) = (&self.rows[a as usize], &self.rows[b as usize]);
        match (&a.id, &b.id) {
            // The order of the bytes is that of the text.
            (Id::Uuid(a), Id::Uuid(b)) => a.cmp(b),
            _ => {
                let (a, b) = (self.id_text(a), self.id_text(b));
                let a = a.bytes().map(|byte| byte.to_ascii_lowercase());
                a.cmp(b.bytes().map(|byte| byte.to_ascii_lowercase()))
            }
        }
    }
}

/// Rows on their way in.
struct Reading<'a> {
    rows: Rows,
    check: &'a dyn Fn(&StatusUpdate) -> didit::Result<()>,
    /// Statuses that may be set with nothing else said.
    plain: Vec<NewStatus>,
    /// Extras that were checked, by status, and where they are kept.
    extras: HashMap<(NewStatus, Vec<u8>), Offset>,
}

impl Reading<'_> {
    fn add(&mut self, line: u32, entry: Entry<'_>) -> Result<(), String> {
        let id = SessionId::try_from(&*entry.session_id).map_err(|error| format!("session_id: {error}"))?;
        let status = entry.new_status.parse();
        let status: NewStatus = status.map_err(|error: didit::Error| format!("new_status: {error}"))?;
        if !entry.nodes.is_empty() && status != NewStatus::Resubmitted {
            return Err("nodes: they go with Resubmitted only".into());
        }
        let extras = self.extras(status, entry)?;
        let id = match parse_uuid(id.as_ref()) {
            Some(bytes) => Id::Uuid(bytes),
            None => Id::Text(self.rows.keep(id.as_ref().as_bytes())?),
        };
        self.rows.rows.push(Row {
            id,
            line,
            extras,
            status,
        });
        Ok(())
    }

    fn extras(&mut self, status: NewStatus, entry: Entry<'_>) -> Result<Option<Offset>, String> {
        let extras = Extras {
            comment: entry.comment.filter(|text| !text.is_empty()),
            nodes: entry.nodes,
            email: entry.email,
            email_language: entry.email_language,
        };
        let plain = extras.comment.is_none()
            && extras.nodes.is_empty()
            && extras.email.is_none()
            && extras.email_language.is_none();
        if plain {
            if !self.plain.contains(&status) {
                self.check(&status_update(status, Vec::new()))?;
                self.plain.push(status);
            }
            return Ok(None);
        }
        let text = serde_json::to_vec(&extras).map_err(|error| error.to_string())?;
        let key = (status, text);
        if let Some(at) = self.extras.get(&key) {
            return Ok(Some(*at));
        }
        self.check(&extras.update(status))?;
        let at = self.rows.keep(&key.1)?;
        if self.extras.len() == REMEMBERED {
            self.extras.clear();
        }
        self.extras.insert(key, at);
        Ok(Some(at))
    }

    fn check(&self, update: &StatusUpdate) -> Result<(), String> {
        (self.check)(update).map_err(|error| error.to_string())
    }
}

impl Extras<'_> {
    fn update(&self, status: NewStatus) -> StatusUpdate {
        let nodes = self.nodes.iter().map(|step| Node::new(&step.node_id, &step.feature));
        let mut update = status_update(status, nodes.collect());
        if let Some(text) = &self.comment {
            update = update.comment(&**text);
        }
        if let Some(address) = &self.email {
            update = update.email(&**address);
        }
        if let Some(code) = &self.email_language {
            update = update.email_language(&**code);
        }
        update
    }
}

/// The bytes of a UUID in its canonical form: lower case, with hyphens. Other spellings are kept as they are written.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let text = text.as_bytes();
    if text.len() != 36 {
        return None;
    }
    let mut bytes = [0; 16];
    let mut digits = 0;
    for (index, byte) in text.iter().enumerate() {
        if matches!(index, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        bytes[digits / 2] = bytes[digits / 2] << 4 | digit;
        digits += 1;
    }
    Some(bytes)
}

fn format_uuid(bytes: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    text
}

/// FNV-1a, 64 bit: the same everywhere and for ever, which the standard library's hash is not.
pub struct Fnv(pub u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
