//! `didit batch`: checks the whole input, then sends its rows in the order that the scheduler decides.

mod input;
mod journal;
mod outage;
mod pace;
mod progress;
mod report;
mod result;
mod run;
mod scheduler;
#[cfg(test)]
mod simulation;

use std::env;
use std::path::Path;
use std::time::Duration;

use didit::{ApiVersion, Client, ClientBuilder, Credentials, NewStatus, RetryPolicy, StatusUpdate};

use crate::args::{Batch, Output, Retry};
use crate::terminal::{Exit, counted, print_all, say, system_message};
use input::Input;
use journal::{Header, History, Journal, VERSION};
use report::{Lines, Summary};
use result::{Counts, Outcome};
use run::Run;
use scheduler::{Model, Settings};

const CREDENTIALS: &str =
    "DIDIT_API_KEY DIDIT_API_KEY_FILE DIDIT_CLIENT_ID DIDIT_CLIENT_SECRET DIDIT_CLIENT_SECRET_FILE";

/// The number of problems in an input that are printed one by one.
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
        say(&format!("{}: {problem}", journal.display()));
        Exit::Usage
    })
}

fn client(options: &Batch) -> didit::Result<Client> {
    let mut builder = ClientBuilder::from_env()?;
    let is_set = |name: &str| env::var(name).is_ok_and(|value| !value.is_empty());
    if options.dry_run && !CREDENTIALS.split(' ').any(is_set) {
        // A dry run sends nothing, so any credentials work.
        builder = builder.credentials(Credentials::api_key("none"));
    }
    if !is_set("DIDIT_DEADLINE") {
        builder = builder.deadline(Duration::MAX);
    }
    // The model retries requests itself: at the pace of all workers, and with an intent in the journal for each attempt.
    builder.retry(RetryPolicy::none()).build()
}

/// Returns the input if every row is valid. Otherwise prints the problems.
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
    let text = text.map_err(|problem| say(&format!("{name}: {problem}"))).ok()?;
    let check = |update: &StatusUpdate| client.check(update).map_err(|error| error.to_string());
    let ignore = options.ignore_unknown_columns;
    let input = Input::parse(text, options.format, ignore, check, &mut complain);
    let input = input.map_err(&mut complain).ok();
    if problems > MAX_SHOWN {
        say(&format!("{name}: and {} more", problems - MAX_SHOWN));
    }
    if problems > 0 {
        let problems = counted(problems, "problem");
        say(&(problems + "; nothing was sent; correct the input and run again"));
        return None;
    }
    let input = input?;
    if input.len() == 0 {
        say(&format!("{name} has no rows; nothing was sent"));
        return None;
    }
    let ignored = &input.ignored;
    if !ignored.is_empty() {
        let columns = if ignored.len() == 1 { "column" } else { "columns" };
        say(&format!("{name}: ignoring the {columns} {}", ignored.join(", ")));
    }
    Some(input)
}

/// Runs a batch, or a dry run, of a valid input.
///
/// # Errors
/// Says why the journal cannot be used.
fn run_checked(options: &Batch, client: &Client, input: &Input, output: Output) -> Result<Exit, String> {
    let header = Header {
        didit_journal: VERSION,
        input: format!("{:016x}", input.fingerprint()),
        host: client.base_url().into(),
        credential: (!options.dry_run).then(|| format!("{:08x}", client.credentials_fingerprint())),
    };
    let mut file = match &options.journal {
        Some(path) if options.dry_run => journal::open_to_read(path)?,
        Some(path) => Some(journal::open(path)?),
        None => None,
    };
    let mut history = match &file {
        Some(file) => History::read(file, &header, input)?,
        None => History::empty(input),
    };
    let mistaken_owner = history.mistaken_owner()?.map(str::to_owned);
    if let (Some(owner), Some(path)) = (mistaken_owner, &options.journal) {
        history = History::empty(input);
        // Windows cannot rename an open file. Elsewhere the old file stays locked until the new one is.
        let _locked = file.take().filter(|_| cfg!(not(windows)));
        if !options.dry_run {
            let aside = journal::put_aside(path)?;
            file = Some(journal::open(path)?);
            say(&format!(
                "{}: this journal belongs to {owner}, with which nothing was applied; this run renamed it to {} and starts a \
                 new journal",
                path.display(),
                aside.display()
            ));
        }
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
        reads: match client.api_version() {
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
            let reason = system_message(&error);
            say(&format!("cannot handle signals: {reason}; nothing was sent"));
            Ok(Exit::NotDone)
        }
    }
}

/// Ends a dry run: prints what a run would send, and what is left according to the journal.
fn end_dry_run(input: &Input, history: &History, output: Output, mut lines: Lines) -> Exit {
    let of = |status| (0..input.len()).filter(|row| input.status(*row) == status).count();
    let [approved, declined, resubmitted] = [NewStatus::Approved, NewStatus::Declined, NewStatus::Resubmitted].map(of);
    let (total, repeated) = (input.len(), input.repeated);
    let outcomes = history.rows.iter().filter_map(|(state, _)| state.outcome());
    let mut summary = Summary::new(outcomes.collect::<Counts>(), total);
    summary.exit = Exit::Done;
    if output.json {
        let mut object = summary.to_json();
        object["rows"] = total.into();
        object["approved"] = approved.into();
        object["declined"] = declined.into();
        object["resubmitted"] = resubmitted.into();
        object["repeated"] = repeated.into();
        lines.add_summary(&object);
        return if lines.print() { Exit::Done } else { Exit::NotDone };
    }
    let mut text = format!(
        "{}: {approved} to approve, {declined} to decline, {resubmitted} to resubmit; {} left out; nothing was sent\n",
        counted(total, "row"),
        counted(repeated, "duplicate row")
    );
    let left = summary.not_applied + summary.counts.unknown;
    if left < total || summary.counts.unknown > 0 {
        text += &format!("according to the journal, {left} left of {summary}\n");
    }
    print_all(&text)
}
