//! Many sessions: the whole input is checked, then sent as the model says.

mod csv;
mod input;
mod journal;
mod lines;
mod model;
mod outage;
mod pace;
mod progress;
mod rows;
mod run;
mod signals;
#[cfg(test)]
mod simulation;

use std::env;
use std::ffi::OsString;
use std::path::Path;

use didit::{ApiVersion, Client, ClientBuilder, Credentials, NewStatus, RetryPolicy, StatusUpdate};

use crate::args::{Batch, Output, Retry};
use crate::terminal::{Exit, counted, print_all, say, system_message};
use input::{Input, fingerprint};
use journal::{Header, History, Journal, VERSION};
use lines::{Lines, Summary};
use model::{Model, Settings};
use rows::{Counts, Outcome};
use run::Run;

/// Only so many problems of an input are printed one by one.
const MAX_SHOWN: usize = 20;

pub fn run(options: &Batch, output: Output) -> Exit {
    let client = match client(options) {
        Ok(client) => client,
        Err(error) => {
            say(&error.to_string());
            return Exit::of(&error);
        }
    };
    let Some(input) = read(options, &client) else {
        return Exit::Usage;
    };
    run_checked(options, &client, &input, output).unwrap_or_else(|problem| {
        let journal = options.journal.as_deref().unwrap_or(Path::new(""));
        say(&format!("journal {}: {problem}", journal.display()));
        Exit::Usage
    })
}

fn client(options: &Batch) -> didit::Result<Client> {
    let builder = match options.dry_run && credentials().is_none() {
        // Its check sends nothing, so any credentials will do.
        true => Client::builder(Credentials::api_key("none")).api_version(version_from_env().unwrap_or(ApiVersion::V3)),
        false => ClientBuilder::from_env()?,
    };
    // The model repeats requests itself: at the pace of all workers, and with each one in the journal.
    builder.retry(RetryPolicy::none()).build()
}

/// The input, if nothing is wrong with any row; otherwise prints what is.
fn read(options: &Batch, client: &Client) -> Option<Input> {
    let name = match &options.file {
        Some(file) => file.display().to_string(),
        None => "standard input".into(),
    };
    let mut problems = 0;
    let mut complain = |problem: String| {
        problems += 1;
        if problems <= MAX_SHOWN {
            say(&format!("{name}: {problem}"));
        }
    };
    let text = input::read(options.file.as_deref());
    let check = |update: &StatusUpdate| client.check(update);
    let input = text.and_then(|text| Input::parse(text, options.format, check, &mut complain));
    let input = input.map_err(&mut complain).ok();
    if problems > MAX_SHOWN {
        say(&format!("{name}: and {} more", problems - MAX_SHOWN));
    }
    if problems > 0 {
        let problems = counted(problems, "problem");
        say(&format!(
            "{problems}: nothing was sent; correct the input and run again"
        ));
        return None;
    }
    input
}

/// # Errors
/// Why the journal cannot be used.
fn run_checked(options: &Batch, client: &Client, input: &Input, output: Output) -> Result<Exit, String> {
    let header = Header {
        didit_journal: VERSION,
        input: format!("{:016x}", input.fingerprint()),
        host: base_url(),
        credential: credentials().map(|used| short_hash(fingerprint(&used))),
    };
    let file = match &options.journal {
        Some(path) if options.dry_run => journal::open_to_read(path)?,
        Some(path) => Some(journal::open(path)?),
        None => None,
    };
    let mut history = match &file {
        Some(file) => History::read(file, &header, input)?,
        None => History::empty(input),
    };
    if !options.dry_run {
        history.check_credential(input)?;
    }
    let retry_refused = options.retry.contains(&Retry::Refused);
    let is_printed = |outcome| match outcome {
        Outcome::Applied | Outcome::Already => output.json,
        Outcome::Refused if !options.dry_run => !retry_refused,
        _ => options.dry_run && output.json,
    };
    let mut lines = Lines::new(output);
    if let Some(file) = &file {
        history.results(file, is_printed, &mut |result| lines.add(&result))?;
    }
    let (Some(file), Some(path), false) = (file, &options.journal, options.dry_run) else {
        return Ok(end_dry_run(input, &history, output, lines));
    };
    let journal = Journal::resume(file, path, &header, &history)?;
    let settings = Settings {
        writes: options.rate,
        reads: match version() {
            ApiVersion::V3 => options.rate,
            // docs/didit-api.md §7.
            _ => options.rate.min(100),
        },
        max_outage: options.max_outage,
        retry_unknown: options.retry.contains(&Retry::Unknown),
        retry_refused,
    };
    let model = Model::new(&settings, &history.rows, |row| input.status(row), history.causes);
    match Run::new(client, input, &journal, model) {
        Ok(run) => Ok(run.go(options.jobs, output, lines)),
        Err(error) => {
            say(&format!(
                "signals cannot be handled: {}; nothing was sent",
                system_message(&error)
            ));
            Ok(Exit::NotDone)
        }
    }
}

/// The end of a dry run: what would be sent, and what is left by the journal.
fn end_dry_run(input: &Input, history: &History, output: Output, mut lines: Lines) -> Exit {
    let of = |status| (0..input.len()).filter(|row| input.status(*row) == status).count();
    let [approved, declined, resubmitted] = [NewStatus::Approved, NewStatus::Declined, NewStatus::Resubmitted].map(of);
    let (total, repeated) = (input.len(), input.repeated);
    let outcomes = history.rows.iter().filter_map(|(state, _)| state.outcome());
    let mut summary = Summary::new(outcomes.collect::<Counts>(), total);
    summary.exit = Exit::Done;
    if output.json {
        let mut object = summary.to_json();
        for (name, number) in [
            ("rows", total),
            ("approved", approved),
            ("declined", declined),
            ("resubmitted", resubmitted),
            ("repeated", repeated),
        ] {
            object[name] = number.into();
        }
        lines.add_summary(&object);
        return if lines.print() { Exit::Done } else { Exit::NotDone };
    }
    let mut text = format!(
        "{}: {approved} to be approved, {declined} declined, {resubmitted} resubmitted; repetitions left out: {repeated}; \
         nothing was sent\n",
        counted(total, "row")
    );
    let left = summary.not_applied + summary.counts.unknown;
    if left < total || summary.counts.unknown > 0 {
        text += &format!("by the journal: {left} left of {summary}\n");
    }
    print_all(&text)
}

fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn base_url() -> String {
    let url = variable("DIDIT_BASE_URL").and_then(|url| url.into_string().ok());
    let url = url.unwrap_or_else(|| "https://verification.didit.me".into());
    url.trim_end_matches('/').into()
}

fn version_from_env() -> Option<ApiVersion> {
    variable("DIDIT_API_VERSION")?.to_str()?.parse().ok()
}

/// As the library reads it from the environment.
fn version() -> ApiVersion {
    version_from_env().unwrap_or(match variable("DIDIT_API_KEY") {
        Some(_) => ApiVersion::V3,
        None => ApiVersion::V1,
    })
}

/// The client id or the key that is used. With both set, the version decides.
fn credentials() -> Option<Vec<u8>> {
    let (id, key) = (variable("DIDIT_CLIENT_ID"), variable("DIDIT_API_KEY"));
    let used = if version() == ApiVersion::V1 {
        id.or(key)
    } else {
        key.or(id)
    };
    used.map(OsString::into_encoded_bytes)
}

/// Tells credentials apart, and no more: 32 bits are far too few to say anything of a key.
fn short_hash(hash: u64) -> String {
    format!("{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff))
}
