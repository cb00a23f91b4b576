//! Many sessions: what is to be done, checked before anything is sent.

pub mod input;
mod journal;
mod pace;
mod progress;
mod quotes;
mod results;
mod rows;
mod work;

use std::env;
use std::fs::File;
use std::io;

use didit::{Client, ClientBuilder, NewStatus, RetryPolicy};
use serde_json::json;

use crate::args::{Batch, Output};
use crate::report::{Exit, diagnose, print, unprintable};
use journal::{Header, Journal, Told, VERSION};
use results::{Counts, Lines};
use rows::{Fnv, Rows};
use work::Run;

pub fn run(options: &Batch, output: Output) -> Exit {
    // What goes wrong is repeated here: at the pace of all workers, and with the journal told.
    let client = ClientBuilder::from_env().and_then(|builder| builder.retry(RetryPolicy::none()).build());
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            diagnose(&error.to_string());
            return Exit::of(&error);
        }
    };
    let rows = match read(options, &client) {
        Ok(rows) => rows,
        Err(exit) => return exit,
    };
    let Some(path) = options.journal.as_ref().filter(|_| !options.dry_run) else {
        return dry_run(&rows, output);
    };
    let header = Header {
        didit_journal: VERSION,
        input: format!("{:016x}", rows.fingerprint()),
        host: host(),
        credential: Some(credential()),
    };
    let mut counts = Counts::default();
    let mut lines = Lines::new(output);
    let journal = Journal::open(path, &header, &rows, &mut |told: Told<'_>| {
        counts.add(told.outcome);
        lines.add(told.line, told.outcome, told.reason, told.json);
        lines.print_if_many();
    });
    let (journal, pasts) = match journal {
        Ok(opened) => opened,
        Err(problem) => {
            diagnose(&format!("journal {}: {problem}", path.display()));
            return Exit::Usage;
        }
    };
    let run = Run::new(&client, &rows, &journal, pasts, options, counts, lines);
    run.go(options.jobs, output)
}

/// The rows, if nothing is wrong with any of them; else all that is wrong is told.
fn read(options: &Batch, client: &Client) -> Result<Rows, Exit> {
    let name = match &options.file {
        Some(file) => file.display().to_string(),
        None => "standard input".into(),
    };
    let mut problems = 0;
    let mut complain = |problem: String| {
        problems += 1;
        diagnose(&format!("{name}: {problem}"));
    };
    let check = |update: &_| client.check(update);
    let rows = match &options.file {
        None => Rows::read(io::stdin().lock(), options.format, &check, &mut complain),
        Some(file) => match File::open(file) {
            Ok(file) => Rows::read(file, options.format, &check, &mut complain),
            Err(error) => {
                complain(format!("it cannot be read: {error}"));
                return Err(Exit::Usage);
            }
        },
    };
    match problems {
        0 => return Ok(rows),
        1 => diagnose("1 problem: nothing was sent; mend it and run again"),
        _ => diagnose(&format!(
            "{problems} problems: nothing was sent; mend them and run again"
        )),
    }
    Err(Exit::Usage)
}

fn dry_run(rows: &Rows, output: Output) -> Exit {
    let of = |status| (0..rows.len()).filter(|row| rows.status(*row) == status).count();
    let [approved, declined, resubmitted] = [NewStatus::Approved, NewStatus::Declined, NewStatus::Resubmitted].map(of);
    let (total, repeated) = (rows.len(), rows.repeated);
    let text = match output.json {
        true => json!({
            "rows": total, "approved": approved, "declined": declined, "resubmitted": resubmitted, "repeated": repeated,
        })
        .to_string(),
        false => format!(
            "{total} rows: {approved} to be approved, {declined} declined, {resubmitted} resubmitted; {repeated} more \
             were repetitions; nothing was sent"
        ),
    };
    match print(&format!("{text}\n")) {
        Ok(()) => Exit::Done,
        Err(error) => unprintable(&error),
    }
}

fn host() -> String {
    let set = env::var("DIDIT_BASE_URL").ok().filter(|url| !url.is_empty());
    let url = set.unwrap_or_else(|| "https://verification.didit.me".into());
    url.trim_end_matches('/').into()
}

/// Tells credentials apart, and no more: 32 bits are far too few to say anything of a key.
fn credential() -> String {
    let get = |name| env::var_os(name).filter(|value| !value.is_empty());
    let v1 = get("DIDIT_API_VERSION").is_some_and(|version| version.eq_ignore_ascii_case("v1"));
    // With both set, the version decides.
    let used = match (get("DIDIT_CLIENT_ID"), get("DIDIT_API_KEY")) {
        (Some(id), Some(_)) if v1 => id,
        (_, Some(key)) => key,
        (id, None) => id.unwrap_or_default(),
    };
    let mut hash = Fnv::default();
    hash.add(used.as_encoded_bytes());
    format!("{:08x}", (hash.0 >> 32) ^ (hash.0 & 0xffff_ffff))
}
