//! Many sessions: the whole input is checked, then sent as the model says.

mod circuit;
mod csv;
mod events;
mod input;
mod journal;
mod model;
mod pace;
mod progress;
mod results;
mod signals;
#[cfg(test)]
mod simulation;
mod workers;

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use didit::{ApiVersion, Client, ClientBuilder, Credentials, NewStatus, RetryPolicy, StatusUpdate};

use crate::args::{Batch, Output, Retry};
use crate::report::{Exit, diagnose, print, unprintable};
use events::{RowState, counts};
use input::{Input, fingerprint};
use journal::{Header, History, Journal, VERSION, unusable};
use model::{Model, Settings};
use results::{Lines, Summary, counted};
use workers::Run;

/// So many problems of an input are told one by one.
const MAX_SHOWN: usize = 20;

pub fn run(options: &Batch, output: Output) -> Exit {
    // What goes wrong is repeated by the model: at the pace of all workers, and with the journal told.
    let client = ClientBuilder::from_env().and_then(|builder| builder.retry(RetryPolicy::none()).build());
    let client = match client {
        Err(error) if !(options.dry_run && credentials().is_none()) => {
            diagnose(&error.to_string());
            return Exit::of(&error);
        }
        client => client.ok(),
    };
    let Some(input) = read(options, client.as_ref()) else {
        return Exit::Usage;
    };
    let header = Header {
        didit_journal: VERSION,
        input: format!("{:016x}", input.fingerprint()),
        host: host(),
        credential: credentials().map(|used| fold(fingerprint(&used))),
    };
    let (Some(client), false) = (client, options.dry_run) else {
        return dry_run(options, &input, &header, output);
    };
    let Some(path) = &options.journal else {
        return Exit::Usage;
    };
    let refused = |problem: String| {
        diagnose(&format!("journal {}: {problem}", path.display()));
        Exit::Usage
    };
    let (journal, history) = match Journal::open(path, &header, &input) {
        Ok(opened) => opened,
        Err(problem) => return refused(problem),
    };
    let settings = Settings {
        writes: options.rate,
        reads: match version() {
            ApiVersion::V3 => options.rate,
            // didit-api.md §7.
            _ => options.rate.min(100),
        },
        max_outage: options.max_outage,
        retry_unknown: options.retry.contains(&Retry::Unknown),
        retry_refused: options.retry.contains(&Retry::Refused),
    };
    let mut lines = Lines::new(output);
    let settled = |past| match past {
        RowState::Applied { .. } => output.json,
        RowState::Refused { .. } => !settings.retry_refused,
        _ => false,
    };
    let told = journal.results(&history, settled, &mut |line, outcome, reason, text| {
        lines.add(line, outcome, reason, text);
        lines.print_if_many();
    });
    if let Err(problem) = told {
        return refused(problem);
    }
    let rows = history.rows.iter().enumerate().map(|(row, (past, last_entry))| {
        let repeatable = input.status(row) != NewStatus::Resubmitted;
        (repeatable, *past, *last_entry)
    });
    let model = Model::new(&settings, rows, history.causes);
    match Run::new(&client, &input, &journal, model, lines) {
        Ok(run) => run.go(options.jobs, output),
        Err(error) => {
            diagnose(&format!("signals cannot be waited for: {error}"));
            Exit::NotSent
        }
    }
}

/// The input, if nothing is wrong with any row; else all that is wrong is told.
fn read(options: &Batch, client: Option<&Client>) -> Option<Input> {
    let name = match &options.file {
        Some(file) => file.display().to_string(),
        None => "standard input".into(),
    };
    let mut problems = 0;
    let mut complain = |problem: String| {
        problems += 1;
        if problems <= MAX_SHOWN {
            diagnose(&format!("{name}: {problem}"));
        }
    };
    // A dry run without credentials: the check sends nothing, so any will do.
    let keyless = || {
        Client::builder(Credentials::api_key("none"))
            .api_version(version_set().unwrap_or(ApiVersion::V3))
            .build()
    };
    let keyless = client.is_none().then(keyless).and_then(Result::ok);
    let check = |update: &StatusUpdate| match client.or(keyless.as_ref()) {
        Some(client) => client.check(update),
        None => Ok(()),
    };
    let text = input::read(options.file.as_deref());
    let input = text.and_then(|text| Input::check(text, options.format, check, &mut complain));
    let input = input.map_err(&mut complain).ok();
    if problems > MAX_SHOWN {
        diagnose(&format!("{name}: and {} more", problems - MAX_SHOWN));
    }
    if problems > 0 {
        let problems = counted(problems, "problem");
        diagnose(&format!(
            "{problems}: nothing was sent; correct the input and run again"
        ));
        return None;
    }
    input
}

fn dry_run(options: &Batch, input: &Input, header: &Header, output: Output) -> Exit {
    let mut lines = Lines::new(output);
    let history = match &options.journal {
        Some(path) => read_journal(path, header, input, &mut lines, output.json)
            .map_err(|problem| diagnose(&format!("journal {}: {problem}", path.display()))),
        None => Ok(History::empty(input)),
    };
    let Ok(history) = history else {
        return Exit::Usage;
    };
    let of = |status| (0..input.len()).filter(|row| input.status(*row) == status).count();
    let [approved, declined, resubmitted] = [NewStatus::Approved, NewStatus::Declined, NewStatus::Resubmitted].map(of);
    let (total, repeated) = (input.len(), input.repeated);
    let mut summary = Summary::new(counts(history.rows.iter().map(|(past, _)| *past)), total);
    let left = summary.not_sent + summary.counts.unknown;
    summary.exit = Exit::Done;
    let mut object = summary.to_json();
    object["rows"] = total.into();
    object["approved"] = approved.into();
    object["declined"] = declined.into();
    object["resubmitted"] = resubmitted.into();
    object["repeated"] = repeated.into();
    lines.add_summary(&object);
    lines.print();
    if output.json {
        return if lines.is_broken() { Exit::NotSent } else { Exit::Done };
    }
    let mut text = format!(
        "{}: {approved} to be approved, {declined} declined, {resubmitted} resubmitted; {repeated} more were \
         repetitions; nothing was sent\n",
        counted(total, "row")
    );
    if left < total || summary.counts.unknown > 0 {
        text += &format!("by the journal: {left} left of {summary}\n");
    }
    match print(&text) {
        Ok(()) => Exit::Done,
        Err(error) => unprintable(&error),
    }
}

/// What is in a journal, which is neither locked nor changed, and may not be there yet.
fn read_journal(path: &Path, header: &Header, input: &Input, lines: &mut Lines, json: bool) -> Result<History, String> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(History::empty(input)),
        file => file.map_err(unusable)?,
    };
    let history = History::read(&file, header, input)?;
    history.results(&file, |_| json, &mut |line, outcome, reason, text| {
        lines.add(line, outcome, reason, text);
        lines.print_if_many();
    })?;
    Ok(history)
}

fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn host() -> String {
    let url = variable("DIDIT_BASE_URL").and_then(|url| url.into_string().ok());
    let url = url.unwrap_or_else(|| "https://verification.didit.me".into());
    url.trim_end_matches('/').into()
}

fn version_set() -> Option<ApiVersion> {
    variable("DIDIT_API_VERSION")?.to_str()?.parse().ok()
}

/// As the library takes it from the environment.
fn version() -> ApiVersion {
    version_set().unwrap_or(match variable("DIDIT_API_KEY") {
        Some(_) => ApiVersion::V3,
        None => ApiVersion::V1,
    })
}

/// The client id or the key that is used: with both set, the version decides.
fn credentials() -> Option<Vec<u8>> {
    let id = variable("DIDIT_CLIENT_ID").filter(|_| version() == ApiVersion::V1);
    let used = id
        .or_else(|| variable("DIDIT_API_KEY"))
        .or_else(|| variable("DIDIT_CLIENT_ID"));
    used.map(OsString::into_encoded_bytes)
}

/// Tells credentials apart, and no more: 32 bits are far too few to say anything of a key.
fn fold(hash: u64) -> String {
    format!("{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff))
}
