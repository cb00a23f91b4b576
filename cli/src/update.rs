//! `didit update`.

use didit::text::system_message;
use didit::{Ensured, Error, ErrorKind, NewStatus, SessionId, SessionStatus, Verdict};
use serde_json::json;

use crate::args::{Output, Update};
use crate::client;
use crate::exit::Exit;
use crate::signals;
use crate::status_update::status_update;
use crate::terminal::{print, report_failure, result_line, say};

pub fn run(options: &Update, output: Output) -> Exit {
    let (id, status) = (&options.id, options.status);
    let mut object = json!({"session_id": id, "new_status": status});
    let (ensured, text) = match set(options) {
        Ok(done) => done,
        Err(error) => {
            let exit = Exit::of(&error);
            object["result"] = match exit {
                Exit::Unknown => "unknown".into(),
                Exit::Refused => "refused".into(),
                _ => "not_applied".into(),
            };
            return report_failure(&error, &message(&error, id, status), object, output);
        }
    };
    let (result, exit) = match ensured {
        Ensured::LeftAlone(status) => {
            object["status"] = status.to_string().into();
            say(&text);
            ("left_alone", Exit::LeftAlone)
        }
        Ensured::Already => ("already", Exit::Done),
        _ => ("applied", Exit::Done),
    };
    object["result"] = result.into();
    if output.json || exit == Exit::Done && !output.quiet {
        if let Err(error) = print(&result_line(&object, &text, output)) {
            // The exit status describes the decision. Another status would make a script retry an applied update.
            let reason = system_message(&error);
            say(&format!("{text}; standard output cannot be written: {reason}"));
        }
    }
    exit
}

/// Sets the status. Returns the result, and a line that describes it.
fn set(options: &Update) -> didit::Result<(Ensured, String)> {
    let (id, status, nodes) = (&options.id, options.status, options.nodes.clone());
    let [comment, email, language] = [&options.comment, &options.email, &options.email_language].map(Option::as_deref);
    let update = status_update(status, nodes, comment, email, language)
        .map_err(|problem| Error::new(ErrorKind::InvalidInput, Verdict::NotApplied, problem))?;
    let applied = format!("{id} is {status} now");
    let client = client::from_env()?;
    let doubt = format!("interrupted while setting session {id} to {status}; it may have been applied");
    let advice = format!("check the session's status (`didit status {id}`) before you retry");
    signals::report_interruption(move || say(&format!("{doubt}; {advice}")));
    if options.ensure || options.unless_decided {
        let may_replace = |found: &SessionStatus| !options.unless_decided || !found.is_decided();
        let ensured = client.ensure_status_if(id, &update, may_replace)?;
        let text = match &ensured {
            Ensured::LeftAlone(found) => {
                format!("{id} is {found}: someone has already decided, so --unless-decided left it unchanged")
            }
            Ensured::Already => format!("{id} is already {status}"),
            _ => applied,
        };
        return Ok((ensured, text));
    }
    client.update_status(id, &update)?;
    Ok((Ensured::Updated, applied))
}

/// Returns the text of an error. After an unknown result, it advises the commands instead of the functions that do the
/// same.
fn message(error: &Error, id: &SessionId, status: NewStatus) -> String {
    let text = error.to_string();
    match (error.verdict(), error.advice()) {
        (Verdict::Unknown, Some(advice)) => {
            let check = format!("check the session's status (`didit status {id}`)");
            text.replace(
                advice,
                &match status {
                    NewStatus::Resubmitted => {
                        format!("{check}, and in Didit's console which steps it asks for, before you resend it")
                    }
                    _ => format!("{check} before you retry, or retry with --unless-decided"),
                },
            )
        }
        _ => text,
    }
}
