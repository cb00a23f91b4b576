//! Compares docs/messages.md with the command's messages and their causes. The system's messages are those of Linux.

use std::fs::{self, File, OpenOptions};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use fs4::FileExt;
use serde_json::json;

use crate::batch::stop::Held;
use crate::batch::{csv, didit_json, id, killed, on_a_full_disk, page, run};
use crate::sandbox::{Run, Sandbox, didit};
use crate::signals::interrupted_update;
use crate::support::directory::Directory;
use crate::support::page::{Rows, compare};
use crate::support::{Server, Step, answer, in_turn};

/// Returns the output of a run, standard output first.
fn printed(run: &Run) -> String {
    let text = (0..20).fold(run.out.clone() + &run.err, |text, row| text.replace(&id(row), "ID"));
    text.replace("session abc", "session ID")
}

/// Returns the lines of an output that contain a text.
fn only(output: &str, this: &str) -> String {
    let lines: Vec<&str> = output.lines().filter(|line| line.contains(this)).collect();
    assert!(!lines.is_empty(), "{this}: {output}");
    lines.join("\n")
}

fn mistake(args: &[&str]) -> String {
    let run = Run::of(&mut didit(args)).exits(2);
    let before = run.err.split("\nUsage: ").next().unwrap();
    let lines = before.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("For more information"));
    lines.collect::<Vec<_>>().join("\n")
}

fn arguments() -> Rows {
    vec![
        ("a mistyped command", mistake(&["upgrade"])),
        (
            "a mistyped option",
            mistake(&["update", "ID", "approved", "--coment", "x"]),
        ),
        ("an argument is missing", mistake(&["update", "ID"])),
        ("a status that cannot be set", mistake(&["update", "ID", "expired"])),
        ("arguments in the wrong order", mistake(&["update", "approved", "ID"])),
        ("an invalid session id", mistake(&["status", "a/b"])),
        (
            "a secret as an option",
            mistake(&["auth", "--client-secret", "hunter2"]),
        ),
        ("a secret as an argument", mistake(&["auth", "hunter2"])),
        ("resubmitted without a node", mistake(&["update", "ID", "resubmitted"])),
        (
            "a node without a feature",
            mistake(&["update", "ID", "resubmitted", "--node", "x"]),
        ),
        (
            "a node with another status",
            mistake(&["update", "ID", "approved", "--node", "a:b"]),
        ),
        (
            "a language without an address",
            mistake(&["update", "ID", "approved", "--email-language", "en"]),
        ),
        ("`--jobs 65`", mistake(&["batch", "rows.csv", "--jobs", "65"])),
        (
            "`--max-outage soon`",
            mistake(&["batch", "rows.csv", "--max-outage", "soon"]),
        ),
        ("reading from a pipe without `--journal`", mistake(&["batch", "-"])),
        ("`--fail-rate 10`", mistake(&["sandbox", "--fail-rate", "10"])),
        ("`--rate-limit many`", mistake(&["sandbox", "--rate-limit", "many"])),
    ]
}

fn environment() -> Rows {
    let of = |variables: &[(&str, &str)]| {
        let run = Run::of(didit(&["status", "ID"]).envs(variables.iter().copied())).exits(2);
        printed(&run)
    };
    let with_key = |name, value| of(&[("DIDIT_API_KEY", "hunter2"), (name, value)]);
    let (id, secret) = (("DIDIT_CLIENT_ID", "me"), ("DIDIT_CLIENT_SECRET", "hunter2"));
    vec![
        ("no credentials", of(&[])),
        ("a client id without a client secret", of(&[id])),
        ("a client secret without a client id", of(&[secret])),
        (
            "both kinds of credentials",
            of(&[id, secret, ("DIDIT_API_KEY", "hunter2")]),
        ),
        (
            "an invalid `DIDIT_API_VERSION`",
            with_key("DIDIT_API_VERSION", "hunter2"),
        ),
        ("`DIDIT_TIMEOUT` is not a number", with_key("DIDIT_TIMEOUT", "hunter2")),
        (
            "`DIDIT_MAX_RETRIES` is not a number",
            with_key("DIDIT_MAX_RETRIES", "hunter2"),
        ),
        (
            "`DIDIT_CA_FILE` names a missing file",
            with_key("DIDIT_CA_FILE", "/nowhere"),
        ),
    ]
}

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

fn is(status: &str) -> Vec<Step> {
    didit_json(200, json!({"session_id": id(0), "status": status}))
}

fn words(status: u16, detail: &str) -> Vec<Step> {
    didit_json(status, json!({"detail": detail}))
}

fn one_session() -> Rows {
    let sandbox = Sandbox::start(&[]);
    let host = sandbox.url.replace("http://", "");
    let of = |args: &[&str]| printed(&Run::of(&mut sandbox.with_key(args)).exits(0));
    let lost = |status: &[&str], read| {
        let server = Server::start(in_turn(vec![vec![Step::Close], read]));
        let mut command = didit(&[&["update", &id(0)], status].concat());
        command
            .env("DIDIT_API_KEY", "k")
            .env("DIDIT_BASE_URL", server.url())
            .env("DIDIT_MAX_RETRIES", "1");
        printed(&Run::of(&mut command)).replace(&server.address().to_string(), "HOST")
    };
    let unprintable = |args: &[&str]| printed(&Run::of(sandbox.with_key(args).stdout(full())));
    let update = ["update", &id(0), "approved"];
    vec![
        ("Didit applied the update", of(&update)),
        (
            "`--ensure`, and the session already has the status",
            of(&[&update[..], &["--ensure"]].concat()),
        ),
        ("`--unless-decided`, and the session has another decision", {
            let args = ["update", &id(0), "declined", "--unless-decided"];
            printed(&Run::of(&mut sandbox.with_key(&args)).exits(1))
        }),
        (
            "no response arrives, and the session has the status",
            lost(&["approved"], is("Approved")),
        ),
        (
            "no response arrives, and the session has another decision",
            lost(&["approved"], is("Declined")),
        ),
        (
            "no response arrives, and the session cannot be read",
            lost(&["approved"], vec![Step::Close]),
        ),
        (
            "no response arrives to a resubmission",
            lost(&["resubmitted", "--node", "a:OCR"], vec![]),
        ),
        (
            "a signal arrives before the response",
            printed(&interrupted_update(&id(0), "-INT")),
        ),
        ("Didit returned the status", of(&["status", &id(1)])),
        ("Didit accepts the credentials", of(&["auth"]).replace(&host, "HOST")),
        ("Didit refuses the credentials", {
            let mut wrong = sandbox.with_key(&["auth"]);
            printed(&Run::of(wrong.env("DIDIT_API_KEY", "wrong")).exits(3))
        }),
        (
            "Didit applied the update, and standard output is on a full disk",
            unprintable(&update),
        ),
        (
            "any other command, and standard output is on a full disk",
            unprintable(&["status", &id(1)]),
        ),
    ]
}

fn a_sandbox() -> Rows {
    let sandbox = Sandbox::start(&[]);
    let of = |args: &[&str]| printed(&Run::of(&mut didit(&[&["sandbox"], args].concat()))).replace(sandbox.port(), "N");
    let shell = printed(&Run::of(didit(&["sandbox", "--port", "0"]).env("SHELL", "/bin/sh")));
    let (before, after) = shell.split_once("127.0.0.1:").unwrap();
    let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
    vec![
        ("the sandbox starts a shell", format!("{before}127.0.0.1:N{after}")),
        ("the port is in use", of(&["--port", sandbox.port()])),
        ("the command is not found", of(&["--", "no-such-command"])),
        ("the command cannot be run", of(&["--", "/dev/null"])),
    ]
}

fn input() -> Rows {
    let dir = Directory::new();
    let of = |file: &str| {
        let run = Run::of(&mut didit(&["batch", file, "--dry-run"])).exits(2);
        printed(&run).replace(&dir.path(""), "")
    };
    // Returns the only problem, without the line that counts the problems.
    let problem = |name: &str, content: &[u8]| {
        let printed = of(&dir.file(name, content));
        let lines: Vec<&str> = printed.lines().collect();
        let is_count = |line: &&str| line.starts_with("didit: 1 problem; ");
        assert!(lines[1..].iter().all(is_count), "{printed}");
        lines[0].to_owned()
    };
    let header = |text: &str| problem("rows.csv", text.as_bytes());
    let row = |text: &str| {
        let text = text.replace("ID", &id(0));
        header(&format!("session_id,new_status,comment,nodes\n{text}"))
    };
    let line = |text: &str| problem("rows.ndjson", text.replace("ID", &id(0)).as_bytes());
    let many = "x,Expired\n".repeat(30);
    let many = of(&dir.file("rows.csv", format!("session_id,new_status\n{many}")));
    vec![
        ("a missing file", { only(&of(&dir.path("none.csv")), "none.csv") }),
        ("an empty file", header("")),
        ("a spreadsheet's \"Unicode text\"", problem("rows.csv", b"\xff\xfes\0")),
        (
            "another encoding",
            problem("rows.csv", b"session_id,new_status,comment\nx,Approved,caf\xe9\n"),
        ),
        ("a missing column", header("session_id,comment\n")),
        (
            "no column names",
            header(&csv(1).lines().nth(1).unwrap().replace(&id(0), "ID")),
        ),
        ("a header without rows", header("session_id,new_status\n")),
        ("a mistyped column", header("session_id,new_status,coment\n")),
        (
            "a value in a column without a name",
            header("session_id;new_status;\nx;Approved;y\n"),
        ),
        ("a JSON array", problem("rows.json", b"[]")),
        ("a JSON object, read as CSV", problem("rows.json", b"{}")),
        ("a workbook", problem("rows.xlsx", b"PK\x03\x04")),
        ("a compressed file", problem("rows.csv.gz", b"\x1f\x8b")),
        (
            "a column that appears twice",
            header("session_id,new_status,new_status\n"),
        ),
        ("too few fields", row("ID,Approved\n")),
        ("a comma in an unquoted field", row("ID,Approved,Yes, seen,\n")),
        ("a comma at the end of a row", row("ID,Approved,Yes,,\n")),
        ("an invalid session id", row("a b,Approved,,\n")),
        ("a status that cannot be set", row("ID,Expired,,\n")),
        ("Resubmitted without a node", row("ID,Resubmitted,,\n")),
        ("a node without a feature", row("ID,Resubmitted,,x\n")),
        ("a node with another status", row("ID,Approved,,a:OCR\n")),
        ("an unclosed quote", row("ID,Approved,\"Yes,\n")),
        ("a quote inside quotes", row("ID,Approved,\"5\" screen\",\n")),
        ("a space before a quote", row("ID,Approved, \"Yes\",\n")),
        ("a quote inside an unquoted field", row("ID,Approved,5\" screen,\n")),
        ("two decisions for one session", row("ID,Approved,,\nID,Declined,,\n")),
        (
            "NDJSON with an incomplete last line",
            line("{\"session_id\":\"ID\",\"new_st"),
        ),
        ("NDJSON without a status", line("{\"session_id\":\"ID\"}\n")),
        (
            "NDJSON with a mistyped name",
            line("{\"session_id\":\"ID\",\"new_status\":\"Approved\",\"coment\":\"x\"}\n"),
        ),
        (
            "NDJSON with a comma at the end of a line",
            line("{\"session_id\":\"ID\",\"new_status\":\"Approved\"},\n"),
        ),
        (
            "NDJSON with a node of a CSV",
            line("{\"session_id\":\"ID\",\"new_status\":\"Resubmitted\",\"nodes\":[\"a:OCR\"]}\n"),
        ),
        ("text that is not JSON", line("session_id,new_status\n")),
        ("CSV, read as NDJSON", line("ID,Approved\n")),
        (
            "the last lines for more than 20 problems",
            many.lines().skip(20).collect::<Vec<_>>().join("\n"),
        ),
    ]
}

fn journal() -> Rows {
    let sandbox = Sandbox::start(&[]);
    // Runs a batch of one row whose journal is prepared like this.
    let rejected = |prepare: &dyn Fn(&str), more: &[&str]| {
        let dir = Directory::new();
        let file = dir.file("rows.csv", csv(1));
        prepare(&format!("{file}.journal"));
        let mut command = sandbox.with_key(&[&["batch", &*file], more].concat());
        printed(&Run::of(&mut command)).replace(&dir.path(""), "")
    };
    // Changes the journal of a batch that is done.
    let changed = |from: &str, to: &str| {
        let change = |path: &str| {
            let file = path.strip_suffix(".journal").unwrap();
            Run::of(&mut sandbox.with_key(&["batch", file])).exits(0);
            let text = fs::read_to_string(path).unwrap();
            assert!(text.contains(from), "{text}");
            fs::write(path, text.replace(from, to)).unwrap();
        };
        rejected(&change, &[]).replace(&sandbox.url, "http://HOST")
    };
    vec![
        ("another run is using the journal", {
            let held = Mutex::new(None);
            rejected(
                &|path| {
                    let file = File::create(path).unwrap();
                    FileExt::try_lock(&file).unwrap();
                    *held.lock().unwrap() = Some(file);
                },
                &[],
            )
        }),
        (
            "the input was changed, or the journal is that of another input",
            changed("\"input\":\"", "\"input\":\"0"),
        ),
        (
            "another `DIDIT_BASE_URL`",
            changed(&sandbox.url, "https://verification.didit.me"),
        ),
        (
            "a journal of another version",
            changed("\"didit_journal\":3", "\"didit_journal\":4"),
        ),
        ("a damaged line", changed("intent", "intern")),
        (
            "a file that is not a journal",
            rejected(&|path| fs::write(path, "Dear Ann,\n").unwrap(), &[]),
        ),
        ("a directory", rejected(&|path| fs::create_dir(path).unwrap(), &[])),
        (
            "a directory, in a dry run",
            rejected(&|path| fs::create_dir(path).unwrap(), &["--dry-run"]),
        ),
        ("a missing directory", {
            let dir = Directory::new();
            let (file, journal) = (dir.file("rows.csv", csv(1)), dir.path("missing/rows.csv.journal"));
            let run = Run::of(&mut sandbox.with_key(&["batch", &file, "--journal", &journal]));
            printed(&run).replace(&dir.path(""), "")
        }),
        ("a full disk", {
            let dir = Directory::new();
            let command = sandbox.with_key(&["batch", &dir.file("rows.csv", csv(1))]);
            let run = Run::of(&mut on_a_full_disk(&command, 0));
            as_on_a_full_disk(printed(&run).replace(&dir.path(""), ""))
        }),
    ]
}

/// A limit on the size of files stands for a full disk.
fn as_on_a_full_disk(text: String) -> String {
    text.replace("File too large", "No space left on device")
}

/// A batch that sends its rows to a server one after the other, in one or more runs.
struct Batch {
    dir: Directory,
    server: Server,
    file: String,
}

impl Batch {
    /// Creates a batch with a row for each status, and a node if the status needs one.
    fn new(statuses: &[&str], server: Server) -> Batch {
        let dir = Directory::new();
        let row = |(row, status)| match status {
            &"Resubmitted" => format!("{},{status},a:OCR\n", id(row)),
            _ => format!("{},{status},\n", id(row)),
        };
        let rows: String = statuses.iter().enumerate().map(row).collect();
        let file = dir.file("rows.csv", format!("session_id,new_status,nodes\n{rows}"));
        Batch { dir, server, file }
    }

    /// Creates a batch with a server that gives these responses in turn.
    fn answered(statuses: &[&str], turns: Vec<Vec<Step>>) -> Batch {
        Batch::new(statuses, Server::start(in_turn(turns)))
    }

    fn run(&self, more: &[&str]) -> String {
        let run = run(&self.server, &[&[&self.file, "--jobs", "1"], more].concat());
        let printed = printed(&run).replace(&self.server.address().to_string(), "HOST");
        printed.replace(&self.dir.path(""), "")
    }

    /// Runs the batch, and returns the lines about its rows.
    fn rows(&self) -> String {
        only(&self.run(&[]), "line ")
    }
}

fn throttled(seconds: &str) -> Vec<Step> {
    let body = json!({"detail": "Slow down."}).to_string();
    answer(429, &[("retry-after", seconds)], body)
}

fn rows() -> Rows {
    let missing = || words(404, "Not found.");
    let forbidden = || words(403, "No permission.");
    let lost = |status, read| Batch::answered(&[status], vec![vec![Step::Close], read]).rows();
    let stopped = Batch::answered(&["Approved", "Approved"], vec![words(401, "Invalid API key.")]).run(&[]);
    let ended = {
        let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
        let file = killed(&dir, &sandbox, "Resubmitted", 0);
        let run = Run::of(&mut sandbox.with_key(&["batch", &file])).exits(5);
        only(&printed(&run), "line ")
    };
    let earlier = {
        let reads = AtomicUsize::new(0);
        let server = Server::start(move |request| match request.method.as_str() {
            "PATCH" => vec![Step::Close],
            _ if reads.fetch_add(1, SeqCst) >= 4 => throttled("3600"),
            _ => {
                let id = request.path.split('/').nth(3);
                didit_json(200, json!({"session_id": id, "status": "In Review"}))
            }
        });
        let batch = Batch::new(&["Resubmitted", "Resubmitted"], server);
        batch.run(&[]);
        batch.rows()
    };
    let (unread, earlier) = earlier.split_once('\n').unwrap();
    vec![
        (
            "Didit refuses the update",
            Batch::answered(&["Approved"], vec![missing()]).rows(),
        ),
        (
            "Didit answers 402 or 403",
            Batch::answered(&["Approved"], vec![forbidden()]).rows(),
        ),
        (
            "no response arrives, and then the session does not exist",
            lost("Approved", missing()),
        ),
        (
            "no response arrives, and the session has another decision",
            lost("Approved", is("Declined")),
        ),
        (
            "`--unless-decided`, and the session has another decision",
            only(
                &Batch::answered(&["Approved"], vec![is("Declined")]).run(&["--unless-decided"]),
                "line ",
            ),
        ),
        (
            "no response arrives, and the session is not Resubmitted",
            Batch::answered(
                &["Resubmitted"],
                vec![is("In Review"), vec![Step::Close], is("In Review")],
            )
            .rows(),
        ),
        (
            "the session is already Resubmitted",
            Batch::answered(&["Resubmitted"], vec![is("Resubmitted")]).rows(),
        ),
        (
            "no response arrives, and Didit answers the read with 402 or 403",
            lost("Approved", forbidden()),
        ),
        ("no response arrives, and Didit answers the retry with 402 or 403", {
            let turns = vec![vec![Step::Close], is("In Review"), forbidden()];
            Batch::answered(&["Approved"], turns).rows()
        }),
        ("no response arrives, and then the run stops", unread.to_owned()),
        (
            "the row was unknown, and this run stops before it reads the session",
            earlier.to_owned(),
        ),
        ("the last run was killed before the response arrived", ended),
        ("the run stops, and the row was not applied", only(&stopped, "line ")),
        ("the run stops before it reaches the row", only(&stopped, "not reached")),
    ]
}

/// Runs a batch that retries a row, and whose journal has no space for another line.
fn journal_on_a_full_disk() -> String {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = killed(&dir, &sandbox, "Approved", 0);
    let path = format!("{file}.journal");
    let kept = fs::read_to_string(&path).unwrap();
    let header = kept.lines().next().unwrap();
    let result = |reason: String| json!({"line": 2, "result": "not_applied", "reason": reason}).to_string();
    let room = 1020 - header.len() - result(String::new()).len();
    fs::write(&path, format!("{header}\n{}\n", result("x".repeat(room)))).unwrap();
    let command = sandbox.with_key(&["batch", &file]);
    as_on_a_full_disk(printed(&Run::of(&mut on_a_full_disk(&command, 1)).exits(6)))
}

/// Runs a batch whose journal is removed while the first row is sent.
fn journal_removed() -> String {
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(2));
    let path = format!("{file}.journal");
    let server = Server::start(move |request| {
        let _ = fs::remove_file(&path);
        let id = request.path.split('/').nth(3);
        didit_json(200, json!({ "session_id": id }))
    });
    printed(&run(&server, &[&file, "--jobs", "1"]).exits(6))
}

fn runs() -> Rows {
    let confirmed = |row| didit_json(200, json!({"session_id": id(row)}));
    let good = Batch::answered(&["Approved", "Declined"], vec![confirmed(0), confirmed(1)]);
    let dry = good.run(&["--dry-run"]);
    let done = good.run(&[]);
    let refused = Batch::answered(&["Approved"], vec![words(404, "Not found.")]);
    refused.run(&[]);
    let paused = Batch::answered(&["Approved"], vec![throttled("1"), confirmed(0)]).run(&[]);
    let outage = Batch::new(&["Approved"; 9], Server::always(page(404))).run(&["--max-outage", "0.2"]);
    vec![
        ("Didit applied every row", done),
        ("the same command again", good.run(&[])),
        (
            "the same command again after Didit refused a row",
            only(&refused.run(&[]), "didit: "),
        ),
        ("Didit asks for a pause", only(&paused, "pausing")),
        ("eight failures in a row", only(&outage, "pausing")),
        ("an outage that reaches `--max-outage`", only(&outage, "stopped")),
        (
            "Didit asks for a pause longer than `--max-outage`",
            only(
                &Batch::answered(&["Approved"], vec![throttled("3600")]).run(&[]),
                "stopped",
            ),
        ),
        (
            "Didit refuses the credentials",
            only(
                &Batch::answered(&["Approved"], vec![words(401, "Invalid API key.")]).run(&[]),
                "didit: ",
            ),
        ),
        (
            "rows are unknown at the end of the run",
            only(
                &Batch::answered(&["Approved"], vec![vec![Step::Close], is("Declined")]).run(&[]),
                "didit: ",
            ),
        ),
        ("a signal", {
            let dir = Directory::new();
            let held = Held::start(&dir.file("rows.csv", csv(2)), 1, false);
            held.first_signal("-TERM");
            held.end(6).0.err
        }),
        ("the journal is on a full disk", journal_on_a_full_disk()),
        (
            "the journal is removed during the run",
            only(&journal_removed(), "stopped"),
        ),
        ("a dry run", dry),
        ("a dry run after a run", good.run(&["--dry-run"])),
    ]
}

/// Messages that no test causes. They are taken from the source, with other placeholders.
fn rare() -> Rows {
    let quoted = |source: &str, text: &str, placeholders: &[(&str, &str)]| {
        assert!(source.contains(&format!("\"{text}\"")), "{text}");
        let replaced = |text: String, (from, to): &(&str, &str)| text.replace(from, to);
        placeholders.iter().fold(text.to_owned(), replaced)
    };
    let progress = include_str!("../../src/batch/progress.rs");
    let speed = [("{}", "TIME"), ("{per_minute:.0}", "N")];
    let speed = quoted(progress, "{} left, {per_minute:.0} per minute", &speed);
    let failed = [("{failed}", "N"), ("{speed}", speed.as_str())];
    let failed = quoted(progress, "{failed} refused or unknown, {speed}", &failed);
    let line = [("{done}", "N"), ("{}", "N"), ("{text}", failed.as_str())];
    let line = quoted(progress, "{done} of {} rows have a result, {text}", &line);
    let stopping = [("{in_flight}", "N"), ("{left}", "TIME")];
    let stopping = quoted(
        include_str!("../../src/batch/run.rs"),
        "stopping: {in_flight} in flight, about {left} left",
        &stopping,
    );
    let stopping = quoted(
        progress,
        "{done} of {} rows have a result, {text}",
        &[("{done}", "N"), ("{}", "N"), ("{text}", stopping.as_str())],
    );
    let large = include_str!("../../src/batch/input/text.rs");
    let large = quoted(large, "the input is larger than 4 GiB; nothing was sent; split it", &[]);
    let signals = include_str!("../../src/batch/mod.rs");
    let signals = quoted(
        signals,
        "cannot handle signals: {reason}; nothing was sent",
        &[("{reason}", "REASON")],
    );
    let server = include_str!("../../src/sandbox/server.rs");
    let port = quoted(
        server,
        "cannot listen on port {port}: {problem}; use --port 0 for a free port",
        &[("{port}", "N"), ("{problem}", "REASON")],
    );
    let thread = "the system could not start a thread, so the sandbox did not start; retry later, or allow more processes (ulimit -u)";
    let thread = quoted(server, thread, &[]);
    let bug = include_str!("../../src/panics.rs");
    let text = "stopped by a bug{place}; an update may have been applied; check the session's status before you retry";
    let bug = quoted(bug, text, &[("{place}", " at FILE:LINE:COLUMN")]);
    let diagnostic = |text: String| format!("didit: {text}");
    vec![
        (
            "the progress of a long batch, every 10 s without a terminal",
            diagnostic(line),
        ),
        ("the same after a signal", diagnostic(stopping)),
        ("the input is too large", diagnostic(format!("rows.csv: {large}"))),
        ("the system cannot report signals", diagnostic(signals)),
        ("the system does not let the sandbox use the port", diagnostic(port)),
        ("the sandbox cannot start a thread", diagnostic(thread)),
        ("a bug", diagnostic(bug)),
    ]
}

type Section = fn() -> Rows;

#[test]
fn the_messages_match_the_document() {
    let sections: [(&str, Section); 9] = [
        ("Arguments", arguments),
        ("Configuration", environment),
        ("One session", one_session),
        ("The input of a batch", input),
        ("The journal of a batch", journal),
        ("The rows of a batch", rows),
        ("A batch as a whole", runs),
        ("A sandbox", a_sandbox),
        ("Rare messages", rare),
    ];
    // In parallel, because some sections wait for timeouts.
    let sections = sections.map(|(title, section)| (title, thread::spawn(section)));
    let sections = sections.map(|(title, section)| (title, section.join().unwrap()));
    for (_, message) in sections.iter().flat_map(|(_, rows)| rows) {
        assert!(!message.contains("hunter2"), "{message}");
    }
    let introduction = "The command's own messages, each with its cause. The command prints the library's messages, and \
                        changes only the advice after\nan unknown result. Lines that start with `didit: `, and an `error: ` \
                        with the lines below it, go to standard error, all other\nlines to standard output. The usage after \
                        an `error: ` is left out. `ID` is the session and `HOST` is the host with its port.\n\
                        `cli/tests/command/messages.rs` compares this part with the code.";
    compare("Messages of the command", introduction, sections.into());
}
