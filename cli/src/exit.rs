//! The exit statuses of the command, and the tables of them in the help of each subcommand.

use std::process::ExitCode;

use didit::{Error, ErrorKind, Verdict};

/// `docs/output.md` says what each of them means for each subcommand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Exit {
    Done = 0,
    /// Another decision was left alone, or rows of a batch were refused.
    LeftAlone = 1,
    Usage = 2,
    Credentials = 3,
    /// Didit refused the request. Of a batch: rows are left because Didit asks for credits or permissions.
    Refused = 4,
    Unknown = 5,
    NotDone = 6,
    /// Another run is using the journal.
    InUse = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

impl Exit {
    /// Returns the exit status for an error. Only Didit's own responses lead to 3 and 4.
    pub fn of(error: &Error) -> Exit {
        let by_didit = is_by_didit(error);
        match error.kind() {
            _ if error.verdict() == Verdict::Unknown => Exit::Unknown,
            ErrorKind::Config | ErrorKind::InvalidInput => Exit::Usage,
            ErrorKind::Authentication if by_didit => Exit::Credentials,
            ErrorKind::Forbidden | ErrorKind::NotFound | ErrorKind::Rejected if by_didit => Exit::Refused,
            // It is about the size of the request, whoever sends it.
            ErrorKind::Rejected if error.status() == Some(413) => Exit::Refused,
            _ => Exit::NotDone,
        }
    }
}

/// Returns whether an error response is Didit's own: the library found an error message in it. Any other response, such as a
/// gateway's page or a proxy's refusal, means nothing for the credentials or the session, and may be gone in a minute.
pub fn is_by_didit(error: &Error) -> bool {
    error.message().is_some() && error.status() != Some(407)
}

const USAGE: (&str, &str) = ("2", "invalid command line, configuration or input; nothing was sent");
const CREDENTIALS: (&str, &str) = ("3", "Didit refused the credentials");
const REFUSED: (&str, &str) = ("4", "Didit refused the request");

const UPDATE: [(&str, &str); 8] = [
    ("0", "done"),
    ("1", "another decision was left alone (--unless-decided)"),
    USAGE,
    CREDENTIALS,
    REFUSED,
    ("5", "unknown: check the session's status before you retry"),
    ("6", "not done; a later retry may help"),
    ("128+N", "ended by signal N; unknown if the update had been sent"),
];

const STATUS_AND_AUTH: [(&str, &str); 6] = [
    ("0", "done"),
    USAGE,
    CREDENTIALS,
    REFUSED,
    ("6", "not done; a later retry may help"),
    ("128+N", "ended by signal N"),
];

const BATCH: [(&str, &str); 9] = [
    ("0", "every row is applied or already set"),
    ("1", "rows were refused or left alone"),
    (
        "2",
        "unusable command line, configuration, input or journal; nothing was sent",
    ),
    CREDENTIALS,
    ("4", "rows are left because Didit asks for credits or permissions"),
    ("5", "rows are unknown"),
    ("6", "rows are left; the same command resumes"),
    ("7", "another run is using the journal"),
    ("128+N", "ended by a second signal N; the same command resumes"),
];

pub fn help_for_update() -> String {
    table(&UPDATE)
}

pub fn help_for_status_and_auth() -> String {
    table(&STATUS_AND_AUTH)
}

pub fn help_for_batch() -> String {
    table(&BATCH) + "\n  The first that applies: 3, 5, 4, 6, 1."
}

fn table(statuses: &[(&str, &str)]) -> String {
    let lines = statuses
        .iter()
        .map(|(status, meaning)| format!("\n  {status}  {meaning}"));
    "Exit status:".to_owned() + &lines.collect::<String>()
}
