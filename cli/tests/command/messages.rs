//! What the command says, next to what causes it: docs/messages.md, held to the code. What the system says is Linux's.

use std::fs::{self, File, OpenOptions};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use fs4::FileExt;
use serde_json::json;

use crate::batch::stop::Held;
use crate::batch::{csv, didit_json, id, killed, on_a_full_disk, page, run};
use crate::sandbox::{Run, Sandbox, didit};
use crate::support::directory::Directory;
use crate::support::page::{Rows, compare};
use crate::support::{Server, Step, answer, in_turn};

/// What was printed, standard output first.
fn told(run: &Run) -> String {
    let text = (0..20).fold(run.out.clone() + &run.err, |text, row| text.replace(&id(row), "ID"));
    text.replace("session abc", "session ID")
}

/// The lines of it that say this.
fn only(told: &str, this: &str) -> String {
    let lines: Vec<&str> = told.lines().filter(|line| line.contains(this)).collect();
    assert!(!lines.is_empty(), "{this}: {told}");
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
        ("a session id that is none", mistake(&["status", "a/b"])),
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
        ("rows from a pipe, and no `--journal`", mistake(&["batch", "-"])),
        ("`--fail-rate 10`", mistake(&["sandbox", "--fail-rate", "10"])),
        ("`--rate-limit many`", mistake(&["sandbox", "--rate-limit", "many"])),
    ]
}

fn environment() -> Rows {
    let of = |variables: &[(&str, &str)]| {
        let run = Run::of(didit(&["status", "ID"]).envs(variables.iter().copied())).exits(2);
        told(&run)
    };
    let with_key = |name, value| of(&[("DIDIT_API_KEY", "hunter2"), (name, value)]);
    let (id, secret) = (("DIDIT_CLIENT_ID", "me"), ("DIDIT_CLIENT_SECRET", "hunter2"));
    vec![
        ("no credentials", of(&[])),
        ("an id without a secret", of(&[id])),
        ("a secret without an id", of(&[secret])),
        (
            "both kinds of credentials",
            of(&[id, secret, ("DIDIT_API_KEY", "hunter2")]),
        ),
        (
            "`DIDIT_API_VERSION` that is none of the three",
            with_key("DIDIT_API_VERSION", "hunter2"),
        ),
        (
            "`DIDIT_TIMEOUT` that is no number",
            with_key("DIDIT_TIMEOUT", "hunter2"),
        ),
        (
            "`DIDIT_MAX_RETRIES` that is no number",
            with_key("DIDIT_MAX_RETRIES", "hunter2"),
        ),
        (
            "`DIDIT_CA_FILE` that is not there",
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
    let of = |args: &[&str]| told(&Run::of(&mut sandbox.with_key(args)).exits(0));
    let doubt = |read| {
        let server = Server::start(in_turn(vec![vec![Step::Close], read]));
        let mut command = didit(&["update", &id(0), "approved"]);
        command
            .env("DIDIT_API_KEY", "k")
            .env("DIDIT_BASE_URL", server.url())
            .env("DIDIT_MAX_RETRIES", "0");
        told(&Run::of(&mut command)).replace(&server.address().to_string(), "HOST")
    };
    let unprintable = |args: &[&str]| told(&Run::of(sandbox.with_key(args).stdout(full())));
    let update = ["update", &id(0), "approved"];
    vec![
        ("the update is made", of(&update)),
        ("nothing is to be done", of(&[&update[..], &["--ensure"]].concat())),
        ("somebody has decided, and `--unless-decided`", {
            let args = ["update", &id(0), "declined", "--ensure", "--unless-decided"];
            told(&Run::of(&mut sandbox.with_key(&args)).exits(6))
        }),
        ("no answer comes, and the session has the status", doubt(is("Approved"))),
        (
            "no answer comes, and the session has another status",
            doubt(is("In Review")),
        ),
        (
            "no answer comes, and the session cannot be read",
            doubt(vec![Step::Close]),
        ),
        ("the session is read", of(&["status", &id(1)])),
        ("the credentials are accepted", of(&["auth"]).replace(&host, "HOST")),
        ("they are refused", {
            let mut wrong = sandbox.with_key(&["auth"]);
            told(&Run::of(wrong.env("DIDIT_API_KEY", "wrong")).exits(3))
        }),
        (
            "the update is made, and the disk is full that standard output goes to",
            unprintable(&update),
        ),
        (
            "anything else is done, and that disk is full",
            unprintable(&["status", &id(1)]),
        ),
    ]
}

fn a_sandbox() -> Rows {
    let sandbox = Sandbox::start(&[]);
    let of = |args: &[&str]| told(&Run::of(&mut didit(&[&["sandbox"], args].concat()))).replace(sandbox.port(), "N");
    let shell = told(&Run::of(didit(&["sandbox", "--port", "0"]).env("SHELL", "/bin/sh")));
    let (before, after) = shell.split_once("127.0.0.1:").unwrap();
    let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
    vec![
        ("a shell begins", format!("{before}127.0.0.1:N{after}")),
        ("another program has the port", of(&["--port", sandbox.port()])),
        (
            "the command is not found",
            of(&["--port", "0", "--", "no-such-command"]),
        ),
        ("the command cannot be run", of(&["--port", "0", "--", "/dev/null"])),
    ]
}

fn input() -> Rows {
    let dir = Directory::new();
    let of = |file: &str| {
        let run = Run::of(&mut didit(&["batch", file, "--dry-run"])).exits(2);
        told(&run).replace(&dir.path(""), "")
    };
    // One problem, and the line after it.
    let problem = |name: &str, content: &[u8]| {
        let told = of(&dir.file(name, content));
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 2, "{told}");
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
        ("a file that is not there", {
            only(&of(&dir.path("none.csv")), "none.csv")
        }),
        ("an empty file", header("")),
        ("a spreadsheet's \"Unicode text\"", problem("rows.csv", b"\xff\xfes\0")),
        (
            "another encoding",
            problem("rows.csv", b"session_id,new_status,comment\nx,Approved,caf\xe9\n"),
        ),
        ("a column is missing", header("session_id,comment\n")),
        ("a column is mistyped", header("session_id,new_status,coment\n")),
        (
            "a value in a column without a name",
            header("session_id;new_status;\nx;Approved;y\n"),
        ),
        ("a JSON array", problem("rows.json", b"[]")),
        ("an object of JSON, read as CSV", problem("rows.json", b"{}")),
        ("a workbook", problem("rows.xlsx", b"PK\x03\x04")),
        ("a compressed file", problem("rows.csv.gz", b"\x1f\x8b")),
        ("a column twice", header("session_id,new_status,new_status\n")),
        ("too few fields", row("ID,Approved\n")),
        ("a comma in a text without quotes", row("ID,Approved,Yes, seen,\n")),
        ("a session id that is none", row("a b,Approved,,\n")),
        ("a status that cannot be set", row("ID,Expired,,\n")),
        ("Resubmitted without a node", row("ID,Resubmitted,,\n")),
        ("a node without a feature", row("ID,Resubmitted,,x\n")),
        ("a node with another status", row("ID,Approved,,a:OCR\n")),
        ("a quote that is not closed", row("ID,Approved,\"Yes,\n")),
        ("a quote inside quotes", row("ID,Approved,\"5\" screen\",\n")),
        ("a quote inside a field", row("ID,Approved,5\" screen,\n")),
        ("two decisions for one session", row("ID,Approved,,\nID,Declined,,\n")),
        ("NDJSON that breaks off", line("{\"session_id\":\"ID\",\"new_st")),
        ("NDJSON without a status", line("{\"session_id\":\"ID\"}\n")),
        (
            "a mistyped name in NDJSON",
            line("{\"session_id\":\"ID\",\"new_status\":\"Approved\",\"coment\":\"x\"}\n"),
        ),
        ("CSV, read as NDJSON", line("ID,Approved\n")),
        (
            "more than 20 problems, at the end",
            many.lines().skip(20).collect::<Vec<_>>().join("\n"),
        ),
    ]
}

fn journal() -> Rows {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(1));
    let path = format!("{file}.journal");
    let said = |command: &mut Command| told(&Run::of(command).exits(2)).replace(&dir.path(""), "");
    let with = |more: &[&str]| said(&mut sandbox.with_key(&[&["batch", &file], more].concat()));
    Run::of(&mut sandbox.with_key(&["batch", &file])).exits(0);
    let kept = fs::read_to_string(&path).unwrap();
    let changed = |from: &str, to: &str| {
        fs::write(&path, kept.replace(from, to)).unwrap();
        let told = with(&[]);
        fs::write(&path, &kept).unwrap();
        told
    };
    let directory = dir.path("directory");
    fs::create_dir(&directory).unwrap();
    vec![
        ("another run has it", {
            let locked = dir.file("locked", "");
            let held = File::open(&locked).unwrap();
            FileExt::try_lock(&held).unwrap();
            with(&["--journal", &locked])
        }),
        ("the input was changed", {
            dir.file("rows.csv", csv(2));
            let told = with(&[]);
            dir.file("rows.csv", csv(1));
            told
        }),
        (
            "another `DIDIT_BASE_URL`",
            said(
                sandbox
                    .with_key(&["batch", &file])
                    .env("DIDIT_BASE_URL", "http://127.0.0.1:1"),
            ),
        ),
        (
            "other credentials",
            said(sandbox.with_key(&["batch", &file]).env("DIDIT_API_KEY", "other")),
        ),
        ("other credentials, and nothing was applied with these", {
            fs::write(&path, kept.lines().next().unwrap().to_owned() + "\n").unwrap();
            let mut command = sandbox.with_key(&["batch", &file, "--quiet"]);
            let run = Run::of(command.env("DIDIT_API_KEY", "other")).exits(0);
            fs::write(&path, &kept).unwrap();
            told(&run).replace(&dir.path(""), "")
        }),
        (
            "it is of version 1",
            changed("\"didit_journal\":2", "\"didit_journal\":1"),
        ),
        ("a line in it is no line of a journal", changed("intent", "intern")),
        (
            "another file",
            with(&["--journal", &dir.file("letter.txt", "Dear Ann,\n")]),
        ),
        ("a directory", with(&["--journal", &directory])),
        (
            "a directory, on a dry run",
            with(&["--journal", &directory, "--dry-run"]),
        ),
        (
            "its directory is not there",
            with(&["--journal", &dir.path("nowhere/journal")]),
        ),
        ("the disk is full", {
            let path = dir.path("journal");
            let command = sandbox.with_key(&["batch", &file, "--journal", &path]);
            said(&mut on_a_full_disk(&command, 0))
        }),
    ]
}

/// Rows that are sent to a server one after the other, in a run or more.
struct Batch {
    dir: Directory,
    server: Server,
    file: String,
}

impl Batch {
    /// Each row is a status, with a node where that needs one.
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

    /// A server that gives these answers, in turn.
    fn answered(statuses: &[&str], turns: Vec<Vec<Step>>) -> Batch {
        Batch::new(statuses, Server::start(in_turn(turns)))
    }

    fn run(&self, more: &[&str]) -> String {
        let run = run(&self.server, &[&[&self.file, "--jobs", "1"], more].concat());
        let told = told(&run).replace(&self.server.address().to_string(), "HOST");
        told.replace(&self.dir.path(""), "")
    }

    /// What a run says of its rows, one a line.
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
    let doubt = |status, read| Batch::answered(&[status], vec![vec![Step::Close], read]).rows();
    let stopped = Batch::answered(&["Approved", "Approved"], vec![words(401, "Invalid API key.")]).run(&[]);
    let ended = {
        let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
        let file = killed(&dir, &sandbox, "Resubmitted", 0);
        let run = Run::of(&mut sandbox.with_key(&["batch", &file])).exits(5);
        only(&told(&run), "line ")
    };
    let earlier = {
        let reads = AtomicUsize::new(0);
        let server = Server::start(move |request| match request.method.as_str() {
            "PATCH" => vec![Step::Close],
            _ if reads.fetch_add(1, SeqCst) >= 2 => throttled("3600"),
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
            "Didit refuses it",
            Batch::answered(&["Approved"], vec![missing()]).rows(),
        ),
        (
            "Didit answers 402 or 403",
            Batch::answered(&["Approved"], vec![forbidden()]).rows(),
        ),
        (
            "no answer comes, and then the session is gone",
            doubt("Approved", missing()),
        ),
        (
            "no answer comes, and the session shows the opposite",
            doubt("Approved", is("Declined")),
        ),
        (
            "it was not applied, and before the next try the session shows the opposite",
            Batch::answered(&["Approved"], vec![throttled("0"), is("Declined")]).rows(),
        ),
        (
            "no answer comes, and the session shows no resubmission",
            doubt("Resubmitted", is("In Review")),
        ),
        (
            "no answer comes, and the session may not be read",
            doubt("Approved", forbidden()),
        ),
        ("no answer comes, and a second attempt is answered with 402 or 403", {
            let turns = vec![vec![Step::Close], is("In Review"), forbidden()];
            Batch::answered(&["Approved"], turns).rows()
        }),
        ("no answer comes, and then the run stops", unread.to_owned()),
        (
            "it was unknown before, and this run stops before its turn",
            earlier.to_owned(),
        ),
        ("the last run was killed before the answer came", ended),
        ("the run stops, and it was not applied", only(&stopped, "line ")),
        ("the run stops before its turn", only(&stopped, "not sent before")),
    ]
}

/// A row that is to be sent again, and a journal that has no room for another line.
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
    told(&Run::of(&mut on_a_full_disk(&command, 1)).exits(6))
}

fn runs() -> Rows {
    let confirmed = |row| didit_json(200, json!({"session_id": id(row)}));
    let good = Batch::answered(&["Approved", "Declined"], vec![confirmed(0), confirmed(1)]);
    let dry = good.run(&["--dry-run"]);
    let done = good.run(&[]);
    let refused = Batch::answered(&["Approved"], vec![words(404, "Not found.")]);
    refused.run(&[]);
    let paused = Batch::answered(&["Approved"], vec![throttled("1"), is("Approved")]).run(&[]);
    let outage = Batch::new(&["Approved"; 9], Server::always(page(404))).run(&["--max-outage", "0.2"]);
    vec![
        ("all went well", done),
        ("the same once more", good.run(&[])),
        ("once more, where a row was refused", only(&refused.run(&[]), "didit: ")),
        ("Didit asks for a pause", only(&paused, "pausing")),
        ("eight failures in a row", only(&outage, "pausing")),
        ("an outage of `--max-outage`", only(&outage, "stopped")),
        (
            "Didit asks for a pause that is longer than that",
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
            "rows are unknown at the end",
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
        ("the disk is full that the journal is on", journal_on_a_full_disk()),
        ("a dry run", dry),
        ("a dry run after a run", good.run(&["--dry-run"])),
    ]
}

/// What no test brings about: what the source has it say, with other placeholders.
fn seldom() -> Rows {
    let quoted = |source: &str, text: &str, placeholders: &[(&str, &str)]| {
        assert!(source.contains(&format!("\"{text}\"")), "{text}");
        let replaced = |text: String, (from, to): &(&str, &str)| text.replace(from, to);
        placeholders.iter().fold(text.to_owned(), replaced)
    };
    let progress = include_str!("../../src/batch/progress.rs");
    let speed = [("{}", "TIME"), ("{per_minute:.0}", "N")];
    let speed = quoted(progress, "{} left, {per_minute:.0} a minute", &speed);
    let failed = [("{failed}", "N"), ("{speed}", speed.as_str())];
    let failed = quoted(progress, "{failed} refused or unknown, {speed}", &failed);
    let line = [("{done}", "N"), ("{}", "N"), ("{text}", failed.as_str())];
    let line = quoted(progress, "{done} of {} rows done, {text}", &line);
    let large = include_str!("../../src/batch/input.rs");
    let large = quoted(large, "it is larger than 4 GiB: split it", &[]);
    let signals = include_str!("../../src/batch/mod.rs");
    let signals = quoted(
        signals,
        "signals cannot be handled: {}; nothing was sent",
        &[("{}", "REASON")],
    );
    let port = quoted(
        include_str!("../../src/sandbox/mod.rs"),
        "cannot listen on port {port}: {problem}; --port 0 picks a free one",
        &[("{port}", "N"), ("{problem}", "REASON")],
    );
    let bug = include_str!("../../src/terminal.rs");
    let text =
        "stopped by a bug{place}; whether anything was applied is unknown; read the session back before anything else";
    let bug = quoted(bug, text, &[("{place}", " at FILE:LINE:COLUMN")]);
    let diagnosed = |text: String| format!("didit: {text}");
    vec![
        (
            "a batch goes on for long, every 10 s where there is no terminal",
            diagnosed(line),
        ),
        (
            "the input is larger than it may be",
            diagnosed(format!("rows.csv: {large}")),
        ),
        ("the system refuses to tell of signals", diagnosed(signals)),
        ("the system refuses the sandbox its port", diagnosed(port)),
        ("a bug", diagnosed(bug)),
    ]
}

type Section = fn() -> Rows;

#[test]
fn the_messages_are_those_of_the_document() {
    let sections: [(&str, Section); 9] = [
        ("Arguments", arguments),
        ("Configuration", environment),
        ("One session", one_session),
        ("The input of a batch", input),
        ("The journal of a batch", journal),
        ("The rows of a batch", rows),
        ("A batch as a whole", runs),
        ("A sandbox", a_sandbox),
        ("Seldom", seldom),
    ];
    // Side by side, as some of them wait.
    let sections = sections.map(|(title, section)| (title, thread::spawn(section)));
    let sections = sections.map(|(title, section)| (title, section.join().unwrap()));
    for (_, message) in sections.iter().flat_map(|(_, rows)| rows) {
        assert!(!message.contains("hunter2"), "{message}");
    }
    let introduction = "What the command itself says, next to what causes it. Messages of the library are handed on as they \
                        are. Lines that begin\nwith `didit: ` or `error: ` go to standard error, all others to standard output. The \
                        usage that follows an `error: ` is\nleft out. `ID` stands for a session and `HOST` for the host with its \
                        port. This part is held to the code by\n`cli/tests/command/messages.rs`.";
    compare("Messages of the command", introduction, sections.into());
}
