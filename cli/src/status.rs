//! `didit status`.

use didit::SessionId;
use serde_json::json;

use crate::args::Output;
use crate::client;
use crate::exit::Exit;
use crate::terminal::{print_all, report_failure, result_line};

pub fn run(id: &SessionId, output: Output) -> Exit {
    let found = client::from_env().and_then(|client| client.session(id));
    let mut object = json!({"session_id": id});
    match found {
        Ok(session) => {
            let status = session.status.as_str();
            (object["status"], object["result"]) = (status.into(), "read".into());
            print_all(&result_line(&object, status, output))
        }
        Err(error) => {
            let refused = Exit::of(&error) == Exit::Refused;
            object["result"] = if refused { "refused" } else { "not_done" }.into();
            report_failure(&error, &error.to_string(), object, output)
        }
    }
}
