//! `didit batch`: checks the whole input, then sends its rows in the order that the scheduler decides.

mod history;
mod input;
mod journal;
mod outage;
mod pace;
mod progress;
mod reasons;
mod report;
mod result;
mod rules;
mod run;
mod scheduler;
#[cfg(test)]
mod simulation;

use std::env;
use std::path::Path;
use std::time::Duration;

use didit::{ApiVersion, Client, ClientBuilder, Credentials, NewStatus, RetryPolicy, StatusUpdate};

use crate::args::{Batch, Format, Output, Retry, sandbox};
use crate::terminal::{Exit, counted, print_all, say, system_message};
use history::{History, LastEntry};
use input::Input;
use journal::{Header, Journal, VERSION};
use reasons::Reasons;
use report::{Counts, Report, Summary};
use result::{Details, ResultLine, RowResult};
use run::Run;
use scheduler::{Scheduler, Settings};

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
    let name = match &options.file {
        Some(file) => file.display().to_string(),
        None => "standard input".into(),
    };
    let Some(input) = read(options, &client, &name) else {
        return Exit::Usage;
    };
    run_checked(options, &client, &input, &name, output).unwrap_or_else(|problem| {
        let journal = options.journal.as_deref().unwrap_or(Path::new(""));
        say(&format!("{}: {problem}", journal.display()));
        Exit::Usage
    })
}

fn client(options: &Batch) -> didit::Result<Client> {
    let mut builder = ClientBuilder::from_env()?;
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

/// Returns the input if every row is valid. Otherwise prints the problems.
fn read(options: &Batch, client: &Client, name: &str) -> Option<Input> {
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
        let what = match (options.format, ignored.len()) {
            (Format::Csv, 1) => "column",
            (Format::Csv, _) => "columns",
            (Format::Ndjson, 1) => "field",
            (Format::Ndjson, _) => "fields",
        };
        say(&format!("{name}: ignoring the {what} {}", ignored.join(", ")));
    }
    Some(input)
}

/// Runs a batch, or a dry run, of a valid input.
///
/// # Errors
/// Says why the journal cannot be used.
fn run_checked(options: &Batch, client: &Client, input: &Input, name: &str, output: Output) -> Result<Exit, String> {
    let header = Header {
        didit_journal: VERSION,
        input: format!("{:016x}", input.fingerprint()),
        host: host(client.base_url()),
        rows: input.len(),
    };
    let file = match &options.journal {
        Some(path) if options.dry_run => journal::open_to_read(path)?,
        Some(path) => Some(journal::open(path)?),
        None => None,
    };
    let history = match &file {
        Some(file) => History::read(file, &header, input, name)?,
        None => History::empty(input),
    };
    let (retry_unknown, retry_refused) = (
        options.retry.contains(&Retry::Unknown),
        options.retry.contains(&Retry::Refused),
    );
    // As if never sent.
    let is_done = |result: RowResult| result.is_final() && !(retry_refused && result == RowResult::Refused);
    let mut counts = Counts::default();
    for (last, _) in &history.rows {
        match last {
            LastEntry::Result(result) if is_done(*result) => counts.add(*result),
            _ => {}
        }
    }
    let mut report = Report::new(output, counts);
    let is_shown = |result| match result {
        _ if !is_done(result) => false,
        RowResult::Refused | RowResult::LeftAlone => output.json || !options.dry_run,
        _ => output.json,
    };
    if let Some(file) = &file {
        history.results(file, is_shown, &mut |line| report.show(&line))?;
    }
    report.show_duplicates(input);
    let (Some(file), Some(path), false) = (file, &options.journal, options.dry_run) else {
        return Ok(end_dry_run(input, &history, is_done, report, output.json));
    };
    let journal = Journal::resume(file, path, &header, &history)?;
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
    drop(history.rows);
    match Run::new(client, input, &journal, scheduler, reasons) {
        Ok(run) => Ok(run.go(options.jobs, output, report)),
        Err(error) => {
            let reason = system_message(&error);
            say(&format!("cannot handle signals: {reason}; nothing was sent"));
            Ok(Exit::NotDone)
        }
    }
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

/// Ends a dry run: prints what a run would do.
fn end_dry_run(
    input: &Input,
    history: &History,
    is_done: impl Fn(RowResult) -> bool,
    mut report: Report,
    json: bool,
) -> Exit {
    let mut summary = Summary::new(report.counts);
    (summary.duplicates, summary.exit) = (input.duplicates.len(), Exit::Done);
    let is_left = |row: &usize| !matches!(history.rows[*row].0, LastEntry::Result(result) if is_done(result));
    let left: Vec<usize> = (0..input.len()).filter(is_left).collect();
    if json {
        report.counts = Counts::default();
        for row in left {
            let result = match history.rows[row].0.is_in_doubt() {
                true => RowResult::Unknown,
                false => RowResult::NotApplied,
            };
            let details = Details::reason("a dry run sends nothing");
            report.add(&ResultLine::new(input, row, result, details));
        }
        summary.counts = report.counts;
        report.show_summary(&summary.to_json());
        return if report.print() { Exit::Done } else { Exit::NotDone };
    }
    let of = |status| (0..input.len()).filter(|row| input.status(*row) == status).count();
    let [approved, declined, resubmitted] = [NewStatus::Approved, NewStatus::Declined, NewStatus::Resubmitted].map(of);
    let rows = counted(input.len(), "row");
    let duplicates = counted(input.duplicates.len(), "duplicate row");
    let mut text = format!(
        "the input has {rows}: {approved} to approve, {declined} to decline, {resubmitted} to resubmit; {duplicates} left out; \
         nothing was sent\n"
    );
    if history.has_entries() {
        summary.counts.unknown = left.iter().filter(|row| history.rows[**row].0.is_in_doubt()).count();
        summary.counts.not_applied = left.len() - summary.counts.unknown;
        let verb = if input.len() == 1 { "is" } else { "are" };
        text += &format!(
            "the journal says that {} of {rows} {verb} left: {}\n",
            left.len(),
            summary.results()
        );
    }
    print_all(&text)
}
