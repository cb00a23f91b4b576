//! The commands about one session.

use std::io;

use didit::{Client, Ensured, Error, ErrorKind, NewStatus, SessionId, StatusUpdate};
use serde_json::{Value, json};

use crate::args::{Output, Update};
use crate::report::{Exit, diagnose, print};

pub fn update(options: &Update, output: Output) -> Exit {
    let mut update = status_update(options.status, options.nodes.clone());
    if let Some(text) = &options.comment {
        update = update.comment(text);
    }
    if let Some(address) = &options.email {
        update = update.email(address);
    }
    if let Some(code) = &options.email_language {
        update = update.email_language(code);
    }
    let id = &options.id;
    let result = Client::from_env().and_then(|client| match options.ensure {
        true => client.ensure_status(id, &update),
        false => client.update_status(id, &update).map(|_| Ensured::Updated),
    });
    let told = |result: &str| json!({"session_id": id, "new_status": options.status, "result": result});
    let ensured = match result {
        Ok(ensured) => ensured,
        Err(error) => {
            let exit = Exit::of(&error);
            return failed(&error, told(result_of(exit)), output);
        }
    };
    let (word, text) = match ensured {
        Ensured::Updated => ("applied", format!("{id} is {} now", options.status)),
        Ensured::Already => ("already", format!("{id} was {} already", options.status)),
    };
    // It is done, whoever can be told of it.
    match tell(&told(word), &text, output.quiet, output) {
        Ok(()) => Exit::Done,
        Err(error) => {
            unprintable(&error);
            Exit::Done
        }
    }
}

pub fn status(id: &SessionId, output: Output) -> Exit {
    match Client::from_env().and_then(|client| client.session(id)) {
        Ok(session) => {
            let status = session.status.to_string();
            let told = json!({"session_id": id, "status": status});
            match tell(&told, &crate::report::escaped(&status), false, output) {
                Ok(()) => Exit::Done,
                Err(error) => unprintable(&error),
            }
        }
        Err(error) => failed(&error, json!({"session_id": id, "status": null}), output),
    }
}

pub fn auth(output: Output) -> Exit {
    // An API key is not exchanged for anything: only a request shows whether it is taken. No session has this id, and
    // Didit's saying so means that it took the credentials.
    let result = Client::from_env().and_then(|client| {
        client.authenticate()?;
        let nobody = "00000000-0000-0000-0000-000000000000".parse()?;
        match client.session(&nobody).map_err(|error| (error.kind(), error)) {
            Ok(_) | Err((ErrorKind::NotFound | ErrorKind::Forbidden | ErrorKind::Rejected, _)) => Ok(()),
            Err((_, error)) => Err(error),
        }
    });
    match result {
        Ok(()) => match tell(
            &json!({"result": "accepted"}),
            "Didit takes the credentials",
            output.quiet,
            output,
        ) {
            Ok(()) => Exit::Done,
            Err(error) => unprintable(&error),
        },
        Err(error) => failed(&error, json!({"result": "not_accepted"}), output),
    }
}

/// An update to `status`; `nodes` matter to Resubmitted alone.
pub fn status_update(status: NewStatus, nodes: Vec<didit::Node>) -> StatusUpdate {
    match status {
        NewStatus::Approved => StatusUpdate::approved(),
        NewStatus::Declined => StatusUpdate::declined(),
        _ => StatusUpdate::resubmitted(nodes),
    }
}

fn result_of(exit: Exit) -> &'static str {
    match exit {
        Exit::Unknown => "unknown",
        Exit::Refused => "refused",
        _ => "not_sent",
    }
}

fn tell(told: &Value, text: &str, quiet: bool, output: Output) -> io::Result<()> {
    match output.json {
        true => print(&format!("{told}\n")),
        false if quiet => Ok(()),
        false => print(&format!("{text}\n")),
    }
}

/// Tells a failure: the line on standard error, and with `--json` the object as well.
fn failed(error: &Error, mut told: Value, output: Output) -> Exit {
    diagnose(&error.to_string());
    if output.json {
        told["reason"] = error.to_string().into();
        told["status_code"] = error.status().into();
        told["code"] = error.code().into();
        told["request_id"] = error.request_id().into();
        told["retry_after"] = error.retry_after().map(|wait| wait.as_secs_f64()).into();
        if let Value::Object(fields) = &mut told {
            fields.retain(|_, value| !value.is_null());
        }
        if let Err(error) = print(&format!("{told}\n")) {
            unprintable(&error);
        }
    }
    Exit::of(error)
}

pub fn unprintable(error: &io::Error) -> Exit {
    diagnose(&format!("standard output cannot be written: {error}"));
    Exit::Usage
}
