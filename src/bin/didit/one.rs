//! The commands about one session.

use std::io;

use didit::{Client, Ensured, Error, NewStatus, Node, SessionId, SessionStatus, StatusUpdate, Verdict};
use serde_json::{Value, json};

use crate::args::{Output, Update};
use crate::report::{Exit, add_reason, diagnose, escaped, print, unprintable};

/// How an update ended well.
enum Done {
    Updated,
    /// It was in doubt, and the session has the status.
    ReadBack,
    Already,
}

struct Failure {
    error: Error,
    /// What reading back an update in doubt showed.
    read_back: Option<didit::Result<SessionStatus>>,
}

pub fn update(options: &Update, output: Output) -> Exit {
    let (id, status) = (&options.id, options.status);
    let mut object = json!({"session_id": id, "new_status": status});
    let done = match set(options) {
        Ok(done) => done,
        Err(failure) => {
            let exit = Exit::of(&failure.error);
            object["result"] = match exit {
                Exit::Unknown => "unknown".into(),
                Exit::Refused => "refused".into(),
                _ => "not_sent".into(),
            };
            if let Some(found) = &failure.read_back {
                object["status"] = found.as_ref().ok().map(ToString::to_string).into();
            }
            return failed(&failure.error, &failure.line(id), object, output);
        }
    };
    let (result, text) = match done {
        Done::Updated => ("applied", format!("{id} is {status} now")),
        Done::ReadBack => (
            "applied",
            format!("{id} is {status} now (confirmed by reading the session back)"),
        ),
        Done::Already => ("already", format!("{id} was {status} already")),
    };
    object["result"] = result.into();
    if let Err(error) = tell(&object, &text, output.quiet, output) {
        // The exit status is about the decision, which is made: any other would have it repeated.
        diagnose(&format!("{text}; standard output cannot be written: {error}"));
    }
    Exit::Done
}

fn set(options: &Update) -> Result<Done, Failure> {
    let (id, update) = (&options.id, requested(options));
    let failed = |error| Failure { error, read_back: None };
    let client = Client::from_env().map_err(failed)?;
    if options.ensure {
        return match client.ensure_status(id, &update).map_err(failed)? {
            Ensured::Already => Ok(Done::Already),
            Ensured::Updated => Ok(Done::Updated),
        };
    }
    let error = match client.update_status(id, &update) {
        Ok(_) => return Ok(Done::Updated),
        Err(error) if error.verdict() == Verdict::Unknown => error,
        Err(error) => return Err(failed(error)),
    };
    match client.session(id).map(|session| session.status) {
        Ok(status) if status == options.status => Ok(Done::ReadBack),
        read_back => Err(Failure {
            error,
            read_back: Some(read_back),
        }),
    }
}

fn requested(options: &Update) -> StatusUpdate {
    let mut update = status_update(options.status, options.nodes.clone());
    // As in a batch, an empty comment is none.
    if let Some(text) = options.comment.as_ref().filter(|text| !text.is_empty()) {
        update = update.comment(text);
    }
    if let Some(address) = &options.email {
        update = update.email(address);
    }
    if let Some(code) = &options.email_language {
        update = update.email_language(code);
    }
    update
}

/// An update to `status`; `nodes` matter to Resubmitted alone.
pub fn status_update(status: NewStatus, nodes: Vec<Node>) -> StatusUpdate {
    match status {
        NewStatus::Resubmitted => StatusUpdate::resubmitted(nodes),
        _ => StatusUpdate::new(status),
    }
}

impl Failure {
    fn line(&self, id: &SessionId) -> String {
        let Failure { error, read_back } = self;
        let found = match read_back {
            None => return error.to_string(),
            Some(Ok(status)) => format!("Read back just now, the session is {status}, but that may still change"),
            // Of the read's own line only what failed: that it changed nothing says nothing about the update.
            Some(Err(failed)) => {
                let failed = failed.to_string();
                format!("It cannot be read back ({})", failed.split(';').next().unwrap_or(""))
            }
        };
        format!("{error}. {found}: look again in a minute with `didit status {id}`")
    }
}

pub fn status(id: &SessionId, output: Output) -> Exit {
    match Client::from_env().and_then(|client| client.session(id)) {
        Ok(session) => {
            let status = session.status.to_string();
            let object = json!({"session_id": id, "status": status, "result": "read"});
            match tell(&object, &escaped(&status), false, output) {
                Ok(()) => Exit::Done,
                Err(error) => unprintable(&error),
            }
        }
        Err(error) => {
            let result = match Exit::of(&error) {
                Exit::Refused => "refused",
                _ => "not_done",
            };
            let object = json!({"session_id": id, "status": null, "result": result});
            failed(&error, &error.to_string(), object, output)
        }
    }
}

pub fn auth(output: Output) -> Exit {
    match Client::from_env().and_then(|client| client.authenticate()) {
        Ok(()) => {
            let object = json!({"result": "accepted"});
            match tell(&object, "Didit accepts the credentials", output.quiet, output) {
                Ok(()) => Exit::Done,
                Err(error) => unprintable(&error),
            }
        }
        Err(error) => {
            let result = match Exit::of(&error) {
                Exit::Credentials | Exit::Refused => "refused",
                _ => "not_done",
            };
            failed(&error, &error.to_string(), json!({"result": result}), output)
        }
    }
}

fn tell(object: &Value, text: &str, quiet: bool, output: Output) -> io::Result<()> {
    match output.json {
        true => print(&format!("{object}\n")),
        false if quiet => Ok(()),
        false => print(&format!("{text}\n")),
    }
}

/// Prints a failure: the line on standard error, and with `--json` the object as well.
fn failed(error: &Error, line: &str, mut object: Value, output: Output) -> Exit {
    diagnose(line);
    if output.json {
        add_reason(&mut object, error, line);
        if let Err(error) = print(&format!("{object}\n")) {
            unprintable(&error);
        }
    }
    Exit::of(error)
}
