//! `didit batch`: checks the whole input, then sends its rows in the order that the scheduler decides.

mod dry_run;
mod history;
mod input;
mod journal;
mod outage;
mod pace;
mod progress;
mod reasons;
mod rejection;
mod report;
mod result;
mod rules;
mod run;
mod scheduler;
#[cfg(test)]
mod simulation;

use std::env;
use std::time::Duration;

use didit::text::system_message;
use didit::{ApiVersion, Client, Credentials, RetryPolicy, StatusUpdate};

use crate::args::{Batch, Format, Output, Retry, sandbox};
use crate::client;
use crate::exit::Exit;
use crate::terminal::{counted, say};
use history::History;
use input::Input;
use journal::{Header, Journal, VERSION};
use reasons::Reasons;
use rejection::Rejection;
use report::{Counts, Report};
use result::RowResult;
use run::Run;
use scheduler::{Scheduler, Settings};

/// The number of problems in an input that are printed one by one.
const MAX_SHOWN: usize = 20;

pub fn run(options: &Batch, output: Output) -> Exit {
    try_run(options, output).unwrap_or_else(|rejection| rejection.print(output))
}

/// Runs a batch, or a dry run.
///
/// # Errors
/// Says why nothing was sent: the configuration, the input or the journal cannot be used.
fn try_run(options: &Batch, output: Output) -> Result<Exit, Rejection> {
    let client = client(options)?;
    let name = match &options.file {
        Some(file) => file.display().to_string(),
        None => "standard input".into(),
    };
    let input = read(options, &client, &name)?;
    let header = Header {
        didit_journal: VERSION,
        input: format!("{:016x}", input.fingerprint()),
        host: host(client.base_url()),
        rows: input.len(),
    };
    let (journal, history) = open_journal(options, &header, &input, &name)?;

    let [retry_unknown, retry_refused] = [Retry::Unknown, Retry::Refused].map(|which| options.retry.contains(&which));
    let result = |row: usize| history.rows[row].last.final_result(retry_refused);
    let mut done = Counts::default();
    (0..input.len()).filter_map(result).for_each(|result| done.add(result));
    let mut report = Report::new(output, done);
    if let Some(path) = &options.journal {
        let is_shown = |row: &usize| match result(*row) {
            None => false,
            Some(RowResult::Refused | RowResult::LeftAlone) => output.json || !options.dry_run,
            Some(_) => output.json,
        };
        let shown = (0..input.len()).filter(is_shown);
        let results = history.results(path, shown, &mut |line| report.show(&line));
        results.map_err(|problem| Rejection::from(problem).about(path))?;
    }
    report.show_duplicates(&input);

    let Some(journal) = journal else {
        let left: Vec<usize> = (0..input.len()).filter(|row| result(*row).is_none()).collect();
        return Ok(match output.json {
            true => dry_run::print_json(&input, &history, &left, report),
            false => dry_run::print_text(&input, &history, &left, done),
        });
    };
    let settings = Settings {
        updates: options.rate,
        reads: match client.api_version() {
            ApiVersion::V3 => options.rate,
            // docs/didit-api.md §7.
            _ => options.rate.min(100),
        },
        max_outage: options.max_outage,
        retry_unknown,
        retry_refused,
        unless_decided: options.unless_decided,
        has_access_token: client.client_id().is_some(),
    };
    let scheduler = Scheduler::new(&settings, &history.rows, |row| input.status(row));
    let reasons = Reasons::new(history.causes);
    // They would take 16 bytes for each row.
    drop(history.rows);
    match Run::new(&client, &input, &journal, scheduler, reasons) {
        Ok(run) => Ok(run.execute(options.jobs, output, report)),
        Err(error) => {
            let reason = system_message(&error);
            let line = format!("cannot handle signals: {reason}; nothing was sent");
            Err(Rejection::new(Exit::NotDone, vec![line]))
        }
    }
}

fn client(options: &Batch) -> didit::Result<Client> {
    let mut builder = client::builder_from_env()?;
    if options.dry_run && builder.clone().build().is_err() {
        // A dry run sends nothing, so any credentials work.
        builder = builder.credentials(Credentials::api_key("none"));
    }
    if env::var_os("DIDIT_DEADLINE").is_none_or(|seconds| seconds.is_empty()) {
        builder = builder.deadline(Duration::MAX);
    }
    // The scheduler retries requests itself: at the pace of all workers, and with an intent in the journal for each attempt.
    builder.retry(RetryPolicy::none()).build()
}

/// Reads the input, which must have rows and no invalid one.
///
/// # Errors
/// Says what is wrong with it.
fn read(options: &Batch, client: &Client, name: &str) -> Result<Input, Rejection> {
    let about_input = |problem: String| format!("{name}: {problem}");
    let text = input::read(options.file.as_deref()).map_err(about_input)?;
    let check = |update: &StatusUpdate| client.check(update).map_err(|error| error.to_string());
    let ignore = options.ignore_unknown_columns;
    let input = Input::parse(text, options.format, ignore, check).map_err(|problems| {
        let count = counted(problems.len(), "problem");
        let left_out = problems.len().saturating_sub(MAX_SHOWN);
        let mut lines: Vec<String> = problems.into_iter().take(MAX_SHOWN).map(about_input).collect();
        if left_out > 0 {
            lines.push(about_input(format!("and {left_out} more")));
        }
        lines.push(format!("{count}; nothing was sent; correct the input and run again"));
        Rejection::new(Exit::Usage, lines)
    })?;
    if input.len() == 0 {
        return Err(format!("{name} has no rows; nothing was sent").into());
    }
    let ignored = &input.ignored;
    if !ignored.is_empty() {
        let what = match (options.format, ignored.len()) {
            (Format::Csv, 1) => "column",
            (Format::Csv, _) => "columns",
            (Format::Ndjson, 1) => "field",
            (Format::Ndjson, _) => "fields",
        };
        say(&format!("{name}: ignoring the {what} {}", ignored.join(", ")));
    }
    Ok(input)
}

/// Opens the journal, unless this is a dry run, and reads what earlier runs wrote to it.
///
/// # Errors
/// Says why the journal cannot be used.
fn open_journal(
    options: &Batch,
    header: &Header,
    input: &Input,
    name: &str,
) -> Result<(Option<Journal>, History), Rejection> {
    let Some(path) = &options.journal else {
        return Ok((None, History::empty(input)));
    };
    let open = || -> Result<(Option<Journal>, History), Rejection> {
        if options.dry_run {
            let history = match journal::open_to_read(path)? {
                Some(file) => History::read(&file, header, input, name)?,
                None => History::empty(input),
            };
            return Ok((None, history));
        }
        let file = journal::open(path)?;
        let history = History::read(&file, header, input, name)?;
        let journal = Journal::resume(file, path, header, &history)?;
        Ok((Some(journal), history))
    };
    open().map_err(|rejection| rejection.about(path))
}

/// Returns the host that a journal belongs to. Names ignore case, and every sandbox is the same host.
fn host(base_url: &str) -> String {
    if sandbox::is_inside() {
        return "sandbox".into();
    }
    let start = base_url.find("://").map_or(0, |place| place + 3);
    let end = base_url[start..]
        .find('/')
        .map_or(base_url.len(), |place| start + place);
    base_url[..end].to_ascii_lowercase() + &base_url[end..]
}
