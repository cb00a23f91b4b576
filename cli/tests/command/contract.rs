//! docs/output.md names every key that the commands print and every exit status that they end with, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::batch::{against, didit_json, id, session_of};
use crate::sandbox::{Run, didit};
use crate::support::directory::Directory;
use crate::support::{Request, Server, Step, answer, token};

const PAGE: &str = include_str!("../../../docs/output.md");

/// A section of the page.
#[derive(Debug, Default)]
struct Section {
    /// Each key with its type, and whether it is always there.
    keys: BTreeMap<String, (String, bool)>,
    /// Each exit status with its meaning.
    statuses: Vec<(String, String)>,
    examples: Vec<Value>,
}

fn page() -> BTreeMap<String, Section> {
    let mut sections = BTreeMap::new();
    for text in PAGE.split("\n## ").skip(1) {
        let (title, body) = text.split_once('\n').unwrap();
        let mut section = Section::default();
        for line in body.lines() {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            match cells[..] {
                [key, kind, there, _] if key.starts_with('`') => {
                    assert!(matches!(there, "always" | "sometimes"), "{line}");
                    let key = key.trim_matches('`').to_owned();
                    section.keys.insert(key, (kind.into(), there == "always"));
                }
                [status, meaning] if status.starts_with(|c: char| c.is_ascii_digit()) => {
                    section.statuses.push((status.into(), meaning.into()));
                }
                _ if line.starts_with('{') => section.examples.push(serde_json::from_str(line).unwrap()),
                _ => {}
            }
        }
        sections.insert(title.replace('`', ""), section);
    }
    sections
}

/// What the commands printed: the objects and the exit statuses of each section.
#[derive(Default)]
struct Observed {
    objects: BTreeMap<&'static str, Vec<Value>>,
    statuses: BTreeMap<&'static str, BTreeSet<i32>>,
}

const ROW: &str = "didit batch: a row";
const DUPLICATE: &str = "didit batch: a duplicate";
const SUMMARY: &str = "didit batch: the summary";
const HEADER: &str = "The journal: its first line";
const INTENT: &str = "The journal: an intent";

impl Observed {
    /// Adds a run of a command for one session.
    fn add(&mut self, section: &'static str, run: &Run) {
        self.statuses.entry(section).or_default().extend(run.code);
        self.objects.entry(section).or_default().extend(run.objects());
    }

    /// Adds a run of a batch.
    fn add_batch(&mut self, run: &Run) {
        self.statuses.entry(SUMMARY).or_default().extend(run.code);
        let mut objects = run.objects();
        let summary = objects.pop().expect("a summary")["summary"].take();
        assert_eq!(summary["exit"], run.code.unwrap(), "{run}");
        self.objects.entry(SUMMARY).or_default().push(summary);
        for object in objects {
            let is_duplicate = object.get("duplicate_of").is_some();
            let section = if is_duplicate { DUPLICATE } else { ROW };
            self.objects.entry(section).or_default().push(object);
        }
    }

    fn add_journal(&mut self, path: &str) {
        for (number, line) in fs::read_to_string(path).unwrap().lines().enumerate() {
            let object: Value = serde_json::from_str(line).unwrap();
            let section = match number {
                0 => HEADER,
                _ if object.get("intent").is_some() => INTENT,
                _ => ROW,
            };
            self.objects.entry(section).or_default().push(object);
        }
    }
}

/// Returns a failure with everything that a response can contain.
fn failure(status: u16) -> Vec<Step> {
    let body = json!({"detail": "No.", "code": "no"}).to_string();
    let wait = if status == 429 { "3600" } else { "0" };
    answer(status, &[("x-request-id", "r-1"), ("retry-after", wait)], body)
}

/// Answers a request about a session as its id says.
fn respond(request: &Request) -> Vec<Step> {
    if request.is_token_request() {
        return token("t");
    }
    let id = session_of(request);
    let is_read = request.method == "GET";
    match id.split('_').next().unwrap() {
        "lost" if !is_read => vec![Step::Close],
        "fails" => failure(id.split('_').nth(1).unwrap().parse().unwrap()),
        "limited" if !is_read => failure(429),
        "forbidden" if !is_read => failure(403),
        status @ ("Approved" | "Declined") => didit_json(200, json!({"session_id": id, "status": status})),
        _ if is_read => didit_json(200, json!({"session_id": id, "status": "In Review"})),
        _ => didit_json(200, json!({"session_id": id})),
    }
}

fn with_key(server: &Server, args: &[&str]) -> Command {
    let mut command = didit(&[args, &["--json"]].concat());
    command
        .env("DIDIT_API_KEY", "k")
        .env("DIDIT_BASE_URL", server.url())
        .env("DIDIT_MAX_RETRIES", "0");
    command
}

fn observe_update(observed: &mut Observed, server: &Server) {
    for (id, more, exit) in [
        ("abc", &[][..], 0),
        ("Approved_1", &["--ensure"], 0),
        ("Declined_1", &["--unless-decided"], 1),
        ("fails_401", &[], 3),
        ("fails_404", &[], 4),
        ("lost", &[], 5),
        ("fails_503", &[], 5),
        ("fails_429", &[], 6),
    ] {
        let args = [&["update", id, "approved"], more].concat();
        observed.add("didit update", &Run::of(&mut with_key(server, &args)).exits(exit));
    }
    let unconfigured = Run::of(&mut didit(&["update", "abc", "approved", "--json"]));
    observed.add("didit update", &unconfigured.exits(2));
}

fn observe_status(observed: &mut Observed, server: &Server) {
    for (id, exit) in [
        ("abc", 0),
        ("fails_401", 3),
        ("fails_404", 4),
        ("fails_503", 6),
        ("fails_429", 6),
    ] {
        observed.add(
            "didit status",
            &Run::of(&mut with_key(server, &["status", id])).exits(exit),
        );
    }
    observed.add(
        "didit status",
        &Run::of(&mut didit(&["status", "abc", "--json"])).exits(2),
    );
}

fn observe_auth(observed: &mut Observed) {
    for (status, exit) in [(404, 0), (401, 3), (409, 4), (429, 6)] {
        let server = Server::always(failure(status));
        observed.add("didit auth", &Run::of(&mut with_key(&server, &["auth"])).exits(exit));
        let mut with_id = with_key(&server, &["auth"]);
        with_id
            .env_remove("DIDIT_API_KEY")
            .env("DIDIT_CLIENT_ID", "me")
            .env("DIDIT_CLIENT_SECRET", "s")
            .env("DIDIT_AUTH_URL", server.url());
        observed.add("didit auth", &Run::of(&mut with_id).exits(exit));
    }
    observed.add("didit auth", &Run::of(&mut didit(&["auth", "--json"])).exits(2));
}

/// Runs a batch of these sessions, with one worker.
fn batch(server: &Server, dir: &Directory, ids: &[&str], more: &[&str]) -> Run {
    let rows: String = ids.iter().map(|id| format!("{id},Approved\n")).collect();
    let file = dir.file("rows.csv", format!("session_id,new_status\n{rows}"));
    let args = [&[&*file, "--json", "--jobs", "1"], more].concat();
    Run::of(&mut against(server, &args))
}

fn observe_batch(observed: &mut Observed, server: &Server) {
    let of = |ids: &[&str], more: &[&str], exit: i32| {
        let dir = Directory::new();
        let first = batch(server, &dir, ids, more).exits(exit);
        let journal = dir.path("rows.csv.journal");
        let again = batch(server, &dir, ids, more).exits(exit);
        (first, again, fs::read_to_string(journal).map(|_| dir))
    };
    let unless = ["--unless-decided"];
    let all = ["abc", "abc", "Approved_1", "fails_404", "Declined_1", "forbidden_1"];
    for (ids, more, exit) in [
        (&["abc", "abc"][..], &[][..], 0),
        (&["abc"], &["--dry-run"], 0),
        (&["fails_404", "Declined_1", "abc"], &unless, 1),
        (&["fails_401", "abc"], &[], 3),
        (&all, &unless, 4),
        (&["limited", "abc"], &[], 6),
    ] {
        let (first, again, dir) = of(ids, more, exit);
        observed.add_batch(&first);
        observed.add_batch(&again);
        if let Ok(dir) = dir {
            observed.add_journal(&dir.path("rows.csv.journal"));
        }
    }
    // The response is lost, and then someone declines the session.
    let lost = Server::start(move |request| match request.method.as_str() {
        "PATCH" => vec![Step::Close],
        _ => didit_json(200, json!({"session_id": session_of(request), "status": "Declined"})),
    });
    let dir = Directory::new();
    for _ in 0..2 {
        observed.add_batch(&batch(&lost, &dir, &["abc"], &[]).exits(5));
    }
    observed.add_journal(&dir.path("rows.csv.journal"));
    // Without a valid input, and while another run uses the journal.
    observed.add_batch(&batch(server, &Directory::new(), &["a b"], &[]).exits(2));
    in_use(observed);
}

fn in_use(observed: &mut Observed) {
    let dir = Directory::new();
    let server = Server::start(respond);
    let file = dir.file(
        "rows.csv",
        format!("session_id,new_status\n{},Approved\n{},Approved\n", id(0), id(1)),
    );
    // The second row waits a minute.
    let mut first = didit(&["batch", &file, "--json", "--rate", "1"]);
    first.env("DIDIT_API_KEY", "k").env("DIDIT_BASE_URL", server.url());
    let mut child = first.spawn().unwrap();
    crate::batch::wait_for(&file, |entry| entry["result"] == "applied");
    let second = Run::of(&mut against(&server, &[&file, "--json"]));
    crate::batch::kill(&mut child);
    observed.add_batch(&second.exits(7));
}

fn observe() -> Observed {
    let server = Server::start(respond);
    let mut observed = Observed::default();
    observe_update(&mut observed, &server);
    observe_status(&mut observed, &server);
    observe_auth(&mut observed);
    observe_batch(&mut observed, &server);
    observed
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "boolean",
        _ => "nothing that a key may have",
    }
}

#[test]
fn the_page_names_every_key_and_exit_status_and_no_other() {
    let (page, observed) = (page(), observe());
    for (title, objects) in &observed.objects {
        let section = page.get(*title).unwrap_or_else(|| panic!("no section {title:?}"));
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for object in objects {
            for (key, value) in object.as_object().unwrap() {
                let documented = section
                    .keys
                    .get(key)
                    .unwrap_or_else(|| panic!("{title}: {key} in {object}"));
                assert_eq!(documented.0, kind(value), "{title}: {key} in {object}");
                *seen.entry(key).or_default() += 1;
            }
        }
        for (key, (_, is_always)) in &section.keys {
            let count = seen.get(key.as_str()).copied().unwrap_or(0);
            let expected = if count == objects.len() { "always" } else { "sometimes" };
            assert!(count > 0, "{title}: no command prints {key}");
            assert_eq!(expected == "always", *is_always, "{title}: {key} is there {expected}");
        }
    }
    for (title, section) in &page {
        let is_observed = observed.objects.contains_key(title.as_str());
        assert_eq!(is_observed, !section.keys.is_empty(), "{title}");
        for example in &section.examples {
            let object = example.get("summary").unwrap_or(example).as_object().unwrap();
            let unknown = object.keys().find(|key| !section.keys.contains_key(*key));
            assert_eq!(unknown, None, "the example of {title}");
            let missing = section
                .keys
                .iter()
                .find(|(key, (_, always))| *always && !object.contains_key(*key));
            assert_eq!(missing, None, "the example of {title}");
        }
        // A signal ends the command with 128 + N.
        let statuses = section.statuses.iter().filter_map(|(status, _)| status.parse().ok());
        let expected = observed.statuses.get(title.as_str()).cloned().unwrap_or_default();
        assert_eq!(statuses.collect::<BTreeSet<i32>>(), expected, "{title}");
    }
}

#[test]
fn the_six_results_are_documented_and_each_but_two_has_a_reason() {
    let documented: BTreeSet<&str> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter(|(_, rest)| rest.matches(" | ").count() == 0)
        .map(|(result, _)| result)
        .collect();
    let mut observed = Observed::default();
    observe_batch(&mut observed, &Server::start(respond));
    let rows = &observed.objects[ROW];
    let results: BTreeSet<&str> = rows.iter().map(|row| row["result"].as_str().unwrap()).collect();
    assert_eq!(results, documented);
    for row in rows {
        let has_reason = row.get("reason").is_some();
        let needs_none = matches!(row["result"].as_str(), Some("applied" | "already"));
        assert!(has_reason || needs_none, "{row}");
        assert!(row.get("cause").is_none() || row["result"] == "unknown", "{row}");
        if let (Some(reason), Some(cause)) = (row["reason"].as_str(), row["cause"].as_str()) {
            assert!(!reason.contains(cause) && !cause.contains(reason), "{row}");
        }
        let text = format!("{}{}", row["reason"], row["cause"]);
        assert!(
            !text.contains("Didit answered") || row.get("status_code").is_some(),
            "{row}"
        );
        assert!(row.get("earlier").is_none_or(|earlier| *earlier == true), "{row}");
    }
}

#[test]
fn the_counts_of_a_summary_are_those_of_its_lines() {
    let mut observed = Observed::default();
    observe_batch(&mut observed, &Server::start(respond));
    for summary in &observed.objects[SUMMARY] {
        let results = ["applied", "already", "left_alone", "refused", "unknown", "not_applied"];
        let sum: u64 = results.iter().map(|result| summary[result].as_u64().unwrap()).sum();
        assert_eq!(summary["rows"], sum, "{summary}");
    }
    let server = Server::start(respond);
    let dir = Directory::new();
    for more in [
        &["--max-outage", "0", "--unless-decided"][..],
        &["--max-outage", "0"],
        &["--dry-run"],
    ] {
        let run = batch(
            &server,
            &dir,
            &["abc", "abc", "Declined_1", "fails_404", "forbidden_1", "fails_503"],
            more,
        );
        let mut objects = run.objects();
        let summary = objects.pop().unwrap()["summary"].take();
        let mut lines: Vec<u64> = objects.iter().map(|object| object["line"].as_u64().unwrap()).collect();
        lines.sort_unstable();
        assert_eq!(lines, [2, 3, 4, 5, 6, 7], "one line for each row of the input: {run}");
        // A dry run counts only what this run would do.
        let is_dry = more.contains(&"--dry-run");
        objects.retain(|object| !is_dry || object.get("earlier").is_none());
        for result in ["applied", "already", "left_alone", "refused", "unknown", "not_applied"] {
            let count = objects.iter().filter(|object| object["result"] == result).count();
            assert_eq!(summary[result], count, "{result}: {run}");
        }
        assert_eq!(summary["duplicates"], 1, "{run}");
    }
}

#[test]
fn the_exit_statuses_in_help_are_those_of_the_page() {
    let page = page();
    for (command, title) in [
        ("update", "didit update"),
        ("status", "didit status"),
        ("auth", "didit auth"),
        ("batch", SUMMARY),
    ] {
        let help = Run::of(&mut didit(&[command, "--help"])).exits(0).out;
        let (_, table) = help.split_once("\nExit status:\n").unwrap();
        let lines = table
            .lines()
            .map_while(|line| line.strip_prefix("  ")?.split_once("  "));
        let statuses: Vec<(String, String)> = lines.map(|(status, meaning)| (status.into(), meaning.into())).collect();
        assert_eq!(statuses, page[title].statuses, "{command}");
    }
}
