//! `didit auth`.

use didit::Client;
use didit::text::escaped;
use serde_json::json;

use crate::args::Output;
use crate::client;
use crate::exit::Exit;
use crate::terminal::{print_all, report_failure, result_line};

pub fn run(output: Output) -> Exit {
    let accepted = |client: Client| {
        client.authenticate()?;
        let host = client.base_url().split('/').nth(2).unwrap_or_default();
        let (version, id) = (client.api_version(), client.client_id());
        let what = id.map_or("the API key".into(), |id| format!("client id {id}"));
        let mut object = json!({"result": "accepted", "host": host, "api_version": version});
        if let Some(id) = id {
            object["client_id"] = id.into();
        }
        Ok((object, format!("Didit accepts {what} at {host} (API {version})")))
    };
    match client::from_env().and_then(accepted) {
        Ok(_) if output.quiet && !output.json => Exit::Done,
        Ok((object, text)) => print_all(&result_line(&object, &escaped(&text), output)),
        Err(error) => {
            let refused = matches!(Exit::of(&error), Exit::Credentials | Exit::Refused);
            let result = if refused { "refused" } else { "not_done" };
            report_failure(&error, &error.to_string(), json!({"result": result}), output)
        }
    }
}
