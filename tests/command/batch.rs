//! `didit batch`: what is sent, what is kept, and what is left after every kind of end.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::sandbox::{Run, Sandbox};
use crate::support::directory::Directory;
use serde_json::{Value, json};

/// The id of a row, a UUID as Didit's are.
fn id(row: usize) -> String {
    format!("4c5c7f3a-0000-4000-8000-{row:012x}")
}

/// A CSV of approvals and declines.
fn csv(rows: usize) -> String {
    let status = |row| if row % 2 == 0 { "Approved" } else { "Declined" };
    let line = |row| format!("{},{}\n", id(row), status(row));
    "session_id,new_status\n".to_owned() + &(0..rows).map(line).collect::<String>()
}

/// As fast as it goes.
const FAST: [&str; 2] = ["--rate", "100000"];

fn batch(sandbox: &Sandbox, file: &str, more: &[&str]) -> Run {
    Run::of(&mut sandbox.with_key(&[&["batch", file][..], &FAST, more].concat()))
}

/// The journal, without its header; nothing if there is none yet.
fn journal(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(format!("{file}.journal")).unwrap_or_default();
    text.lines()
        .skip(1)
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The last result of each line in the journal.
fn results(file: &str) -> BTreeMap<u64, String> {
    let result = |entry: Value| Some((entry["line"].as_u64()?, entry["result"].as_str()?.to_owned()));
    journal(file).into_iter().filter_map(result).collect()
}

fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn every_row_is_applied_once_and_a_second_run_has_nothing_to_do() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(20));
    let run = batch(&sandbox, &file, &[]).exits(0);
    assert_eq!(run.out, "");
    assert_eq!(
        run.line(),
        "20 rows: 20 applied, 0 already so, 0 refused, 0 unknown, 0 not sent"
    );
    assert_eq!(sandbox.updates().len(), 20);
    let sessions = sandbox.sessions();
    assert_eq!(sessions[&id(0)].0, "Approved");
    assert_eq!(sessions[&id(19)].0, "Declined");
    assert_eq!(
        results(&file).values().filter(|result| *result == "applied").count(),
        20
    );

    let again = batch(&sandbox, &file, &["--json"]).exits(0);
    assert_eq!(again.line(), run.line());
    assert_eq!(again.objects().len(), 20, "{again}");
    assert_eq!(sandbox.updates().len(), 20);
}

#[test]
fn an_intent_is_on_disk_before_its_request_and_a_result_after_it() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(1));
    batch(&sandbox, &file, &[]).exits(0);
    let entries = journal(&file);
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0]["intent"], "Approved");
    assert_eq!(entries[1]["result"], "applied");
    for entry in entries {
        assert_eq!((&entry["line"], &entry["session_id"]), (&json!(2), &json!(id(0))));
    }
    let text = fs::read_to_string(format!("{file}.journal")).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
    #[cfg(unix)]
    {
        let metadata = fs::metadata(format!("{file}.journal")).unwrap();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777,
            0o600
        );
    }
}

#[test]
fn refused_rows_are_told_with_their_reasons_and_are_exit_1_on_every_run() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let text = "session_id,new_status\nunknown-1,Approved\nabc,Approved\nunfinished-1,Declined\n";
    let file = dir.file("rows.csv", text);
    let first = batch(&sandbox, &file, &["--jobs", "1"]).exits(1);
    let lines: Vec<&str> = first.out.lines().collect();
    assert_eq!(lines.len(), 2, "{first}");
    assert!(
        lines[0].starts_with("line 2: refused: setting session unknown-1"),
        "{first}"
    );
    assert!(
        lines[1].starts_with("line 4: refused: setting session unfinished-1"),
        "{first}"
    );
    assert!(lines.iter().all(|line| line.contains("nothing was changed")), "{first}");
    assert_eq!(
        first.line(),
        "3 rows: 1 applied, 0 already so, 2 refused, 0 unknown, 0 not sent"
    );

    let again = batch(&sandbox, &file, &["--jobs", "1"]).exits(1);
    assert_eq!((&again.out, &again.err), (&first.out, &first.err));
    assert_eq!(sandbox.updates().len(), 3);
}

#[test]
fn json_tells_every_row() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", "session_id,new_status\nunknown-1,Approved\nabc,Declined\n");
    let run = batch(&sandbox, &file, &["--json", "--quiet", "--jobs", "1"]).exits(1);
    assert_eq!(run.err, "");
    let told = run.objects();
    assert_eq!(told.len(), 2);
    assert_eq!(
        (&told[0]["result"], &told[0]["status_code"]),
        (&json!("refused"), &json!(404))
    );
    assert!(told[0]["reason"].as_str().unwrap().contains("Session not found."));
    assert_eq!(
        (&told[1]["result"], &told[1]["new_status"]),
        (&json!("applied"), &json!("Declined"))
    );
    assert_eq!((&told[1]["line"], &told[1]["session_id"]), (&json!(3), &json!("abc")));
}

#[test]
fn csv_may_be_written_in_every_allowed_way() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let text = "\u{feff}\"comment\",nodes,new_status,session_id,email,email_language\r\n\
                \"said \"\"no\"\",\r\nand left\",,declined,abc,,\r\n\
                \r\n\
                , a:OCR;b:FACE ,RESUBMITTED, def ,p@example.com,fr\r\n\
                Zo\u{eb},,Approved,ghi,,";
    let file = dir.file("rows.csv", text);
    batch(&sandbox, &file, &["--jobs", "1"]).exits(0);
    let bodies: Vec<Value> = sandbox
        .updates()
        .into_iter()
        .map(|mut entry| entry["body"].take())
        .collect();
    let nodes = json!([{"node_id": "a", "feature": "OCR"}, {"node_id": "b", "feature": "FACE"}]);
    assert_eq!(
        bodies[0],
        json!({"new_status": "Declined", "comment": "said \"no\",\r\nand left"})
    );
    let resubmitted = json!({
        "new_status": "Resubmitted", "nodes_to_resubmit": nodes,
        "send_email": true, "email_address": "p@example.com", "email_language": "fr",
    });
    assert_eq!(bodies[1], resubmitted);
    assert_eq!(bodies[2], json!({"new_status": "Approved", "comment": "Zo\u{eb}"}));
    let lines: Vec<u64> = results(&file).into_keys().collect();
    assert_eq!(lines, [2, 5, 6]);
}

#[test]
fn ndjson_may_have_blank_lines_and_no_end_of_line_at_its_end() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let text = "\n{\"session_id\":\"abc\",\"new_status\":\"approved\",\"comment\":null}\r\n  \n\
                {\"nodes\":[{\"node_id\":\"a\",\"feature\":\"OCR\"}],\"new_status\":\"Resubmitted\",\"session_id\":\"def\"}";
    let file = dir.file("rows.ndjson", text);
    batch(&sandbox, &file, &["--jobs", "1"]).exits(0);
    let bodies: Vec<Value> = sandbox
        .updates()
        .into_iter()
        .map(|mut entry| entry["body"].take())
        .collect();
    let nodes = json!([{"node_id": "a", "feature": "OCR"}]);
    assert_eq!(bodies[0], json!({"new_status": "Approved"}));
    assert_eq!(
        bodies[1],
        json!({"new_status": "Resubmitted", "nodes_to_resubmit": nodes})
    );
    assert_eq!(results(&file).into_keys().collect::<Vec<_>>(), [2, 4]);
}

#[test]
fn an_input_that_is_not_right_is_told_by_line_and_nothing_is_sent() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let cases: [(&str, &[u8], &[&str]); 24] = [
        ("a.csv", b"", &["it is empty: the first line has to name the columns"]),
        (
            "a.csv",
            b"\n\nsession_id\nabc\n",
            &["line 3: the column new_status is missing"],
        ),
        (
            "a.csv",
            b"session_id,new_status,comnent\nabc,Approved,x\n",
            &["line 1: there is no column \"comnent\""],
        ),
        (
            "a.csv",
            b"session_id;new_status\nabc;Approved\n",
            &["columns are separated by commas"],
        ),
        (
            "a.csv",
            b"session_id,new_status,session_id\n",
            &["line 1: the column session_id is there twice"],
        ),
        (
            "a.csv",
            b"session_id,new_status\r\nabc,Approved,x\r\ndef\r\n",
            &[
                "line 2: it has 3 fields, and the header 2",
                "line 3: it has 1 fields, and the header 2",
            ],
        ),
        (
            "a.csv",
            b"session_id,new_status\n,Approved\na/b,Approved\nc,In Review\n",
            &[
                "line 2: session_id: not a session id: it is empty",
                "line 3: session_id: not a session id: it contains '/'",
                "line 4: new_status: not a status that can be set",
            ],
        ),
        (
            "a.csv",
            b"session_id,new_status,comment\nabc,Approved,caf\xe9\ndef,Approved,x\n",
            &["line 2: comment is not UTF-8"],
        ),
        (
            "a.csv",
            b"session_id,new_status,comment\nabc,Approved,\"a\nb\"\ndef,Approved,\"c\nghi,Declined,\n",
            &["line 4: a quote is opened here and never closed; nothing after it was read"],
        ),
        (
            "a.csv",
            b"session_id,new_status,comment\nabc,Approved,5\" pipe\n",
            &["line 2: a quote in a field that does not begin"],
        ),
        (
            "a.csv",
            b"session_id,new_status,comment\nabc,Approved,\"5\" pipe\n",
            &["line 2: text after a closing quote"],
        ),
        (
            "a.csv",
            b"session_id,new_status,nodes\nabc,Resubmitted,\ndef,Resubmitted,x\nghi,Approved,a:b\n",
            &[
                "line 2: Resubmitted needs at least one node",
                "line 3: a step has to be NODE_ID:FEATURE",
                "line 4: nodes: they go with Resubmitted only",
            ],
        ),
        (
            "a.csv",
            b"session_id,new_status,email,email_language\nabc,Approved,nobody,\ndef,Approved,,en\n",
            &[
                "line 2: not an email address",
                "line 3: an email language needs an email address",
            ],
        ),
        (
            "a.csv",
            b"session_id,new_status\nabc,Approved\ndef,Approved\nABC,Declined\n",
            &["line 4: it contradicts line 2 about session abc"],
        ),
        (
            "a.csv",
            b"session_id,new_status,comment\nabc,Approved,x\nabc,Approved,y\n",
            &["line 3: it contradicts line 2"],
        ),
        ("a.csv", b"\xff\xfes\0e\0s\0", &["line 1: the header is not UTF-8"]),
        (
            "a.ndjson",
            b"{\"session_id\":\"abc\",\"new_status\":\"Approved\"}\n\n{\"session_id\":\"def\",\"new_st",
            &["line 3: the last line is cut off"],
        ),
        (
            "a.ndjson",
            b"{\"session_id\":\"abc\",\"new_status\":\"Approved\",\"comnent\":\"x\"}\n",
            &["line 1: not a row: unknown field `comnent`"],
        ),
        (
            "a.ndjson",
            b"{\"session_id\":\"abc\"}\n[]\n7\n",
            &[
                "line 1: not a row: missing field `new_status`",
                "line 2: not a row: ",
                "line 3: not a row: ",
            ],
        ),
        (
            "a.ndjson",
            b"{\"session_id\":\"abc\",\"new_status\":\"Approved\"} {}\n",
            &["line 1: not a row: trailing characters"],
        ),
        (
            "a.ndjson",
            b"{\"session_id\":\"abc\",\"session_id\":\"d\",\"new_status\":\"Approved\"}\n",
            &["line 1: not a row: duplicate field"],
        ),
        (
            "a.ndjson",
            b"{\"session_id\":\"\xe9\",\"new_status\":\"Approved\"}\n",
            &["line 1: it is not UTF-8"],
        ),
        (
            "a.ndjson",
            b"{\"session_id\":\"abc\",\"new_status\":\"Approved\",\"comment\":5}\n",
            &["line 1: not a row: invalid type"],
        ),
        (
            "a.ndjson",
            b"session_id,new_status\nabc,Approved\n",
            &["line 1: not a row: ", "line 2: not a row: "],
        ),
    ];
    for (name, content, expected) in cases {
        let file = dir.file(name, content);
        let shown = String::from_utf8_lossy(content);
        let run = batch(&sandbox, &file, &[]).exits(2);
        let lines: Vec<&str> = run.err.lines().collect();
        assert_eq!(lines.len(), expected.len() + 1, "{shown}: {run}");
        for (line, expected) in lines.iter().zip(expected) {
            let line = line.strip_prefix(&format!("didit: {file}: "));
            assert!(
                line.is_some_and(|line| line.starts_with(expected) || line.contains("columns are")),
                "{shown}: {run}"
            );
        }
        assert!(lines[expected.len()].contains("nothing was sent"), "{run}");
        assert!(!fs::exists(format!("{file}.journal")).unwrap(), "{shown}");
    }
    assert!(sandbox.log().is_empty());
}

#[test]
fn a_file_that_is_not_there_is_exit_2() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let run = batch(&sandbox, &dir.path("none.csv"), &[]).exits(2);
    assert!(run.err.contains("none.csv: it cannot be read"), "{run}");
}

#[test]
fn a_header_alone_is_no_rows_and_no_error() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", "session_id,new_status\n");
    let run = batch(&sandbox, &file, &[]).exits(0);
    assert_eq!(
        run.line(),
        "0 rows: 0 applied, 0 already so, 0 refused, 0 unknown, 0 not sent"
    );
}

#[test]
fn every_row_is_checked_against_the_api_version_first() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file(
        "rows.csv",
        "session_id,new_status,nodes,email\na,Approved,,\nb,Resubmitted,x:y,\nc,Approved,,a@b.c\n",
    );
    let run = sandbox.run(&["batch", &file]).exits(2);
    assert!(
        run.err.contains("line 3: API version v1 cannot resubmit: use v3"),
        "{run}"
    );
    assert!(
        run.err.contains("line 4: API version v1 sends no email: use v3"),
        "{run}"
    );
    assert!(sandbox.log().is_empty());
}

#[test]
fn rows_that_say_the_same_count_once() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let upper = id(7).to_uppercase();
    let text = format!(
        "session_id,new_status\n{},Approved\nx,Declined\n{upper},approved\nX,Declined\nx,Declined\n",
        id(7)
    );
    let file = dir.file("rows.csv", text);
    let dry = batch(&sandbox, &file, &["--dry-run", "--json"]).exits(0);
    let expected = json!({"rows": 2, "approved": 1, "declined": 1, "resubmitted": 0, "repeated": 3});
    assert_eq!(dry.objects(), [expected]);
    batch(&sandbox, &file, &[]).exits(0);
    assert_eq!(sandbox.updates().len(), 2);
}

#[test]
fn a_dry_run_sends_nothing_and_leaves_nothing() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(5));
    let run = batch(&sandbox, &file, &["--dry-run"]).exits(0);
    let expected = "5 rows: 3 to be approved, 2 declined, 0 resubmitted; 0 more were repetitions; nothing was sent\n";
    assert_eq!(run.out, expected);
    assert!(sandbox.log().is_empty());
    assert!(!fs::exists(format!("{file}.journal")).unwrap());
}

#[test]
fn rows_may_come_from_standard_input() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let journal = dir.path("journal");
    let mut command = sandbox.with_key(&["batch", "-", "--journal", &journal]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(csv(2).as_bytes()).unwrap();
    Run::from(child.wait_with_output().unwrap()).exits(0);
    assert_eq!(sandbox.updates().len(), 2);
    assert!(fs::exists(&journal).unwrap());
}

#[test]
fn refused_credentials_stop_a_batch_at_once() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(200));
    let mut command = sandbox.with_key(&["batch", &file, "--rate", "100000", "--jobs", "2"]);
    let run = Run::of(command.env("DIDIT_API_KEY", "wrong")).exits(3);
    assert!(run.err.contains("200 not sent"), "{run}");
    assert!(run.err.contains("stopped: setting session"), "{run}");
    assert!(run.err.contains("401"), "{run}");
    assert!(sandbox.updates().len() <= 2);
    assert!(sandbox.sessions().is_empty());

    // With the right ones the same command goes on: nothing was ever done with the wrong ones.
    batch(&sandbox, &file, &[]).exits(0);
    assert_eq!(sandbox.sessions().len(), 200);

    // From then on the journal is theirs, until somebody says that the application has new ones.
    let mut command = sandbox.with_key(&["batch", &file]);
    let run = Run::of(command.env("DIDIT_API_KEY", "another")).exits(2);
    assert!(run.line().contains("it belongs to other credentials"), "{run}");
    let journal = format!("{file}.journal");
    let kept = fs::read_to_string(&journal).unwrap();
    let (head, rest) = kept.split_once('\n').unwrap();
    let mut head: Value = serde_json::from_str(head).unwrap();
    head.as_object_mut().unwrap().remove("credential").unwrap();
    fs::write(&journal, format!("{head}\n{rest}")).unwrap();
    let mut command = sandbox.with_key(&["batch", &file]);
    Run::of(command.env("DIDIT_API_KEY", "another")).exits(0);
    assert_eq!(sandbox.sessions().len(), 200);
}

#[test]
fn a_batch_stops_where_the_account_may_not_do_this() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let rows: String = (0..50).map(|row| format!("forbidden-{row},Approved\n")).collect();
    let file = dir.file("rows.csv", format!("session_id,new_status\n{rows}"));
    let run = batch(&sandbox, &file, &["--jobs", "1"]).exits(1);
    assert!(run.err.contains("5 refused, 0 unknown, 45 not sent"), "{run}");
    assert!(
        run.err.contains("stopped: ") && run.err.contains("check what the application may do"),
        "{run}"
    );
    assert_eq!(sandbox.updates().len(), 5);

    // Once the account may, the rows that were refused for its sake are sent as well.
    let run = batch(&sandbox, &file, &["--jobs", "1"]).exits(1);
    assert!(run.err.contains("5 refused, 0 unknown, 45 not sent"), "{run}");
    let rows: Vec<_> = sandbox.updates().iter().map(|update| update["path"].clone()).collect();
    assert_eq!(rows[..5], rows[5..], "{rows:?}");
}

#[test]
fn what_could_not_be_sent_is_noted_with_its_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(1));
    let mut command = crate::sandbox::didit(&["batch", &file, "--json", "--quiet"]);
    command
        .env("DIDIT_API_KEY", "k")
        .env("DIDIT_BASE_URL", url)
        .stdout(Stdio::piped());
    // It takes its time before it gives up; what it has noted by then says enough.
    let mut child = command.spawn().unwrap();
    let entry = wait_for(&file, |entry| entry["result"] == "not_sent");
    assert!(
        entry["reason"]
            .as_str()
            .unwrap()
            .contains("nothing was changed; try again"),
        "{entry}"
    );
    kill(&mut child);
}

/// Waits until the journal has an entry.
fn wait_for(file: &str, is: impl Fn(&Value) -> bool) -> Value {
    let path = format!("{file}.journal");
    loop {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let whole = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        if let Some(entry) = whole.into_iter().find(&is) {
            return entry;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_second_run_on_the_same_journal_is_told_so() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(100));
    let mut first = sandbox
        .with_key(&["batch", &file, "--rate", "1", "--quiet"])
        .spawn()
        .unwrap();
    wait_for(&file, |entry| entry["result"] == "applied");
    let run = batch(&sandbox, &file, &[]).exits(2);
    assert!(
        run.line()
            .ends_with("rows.csv.journal: another run is using it: wait for its end"),
        "{run}"
    );
    assert_eq!(sandbox.updates().len(), 1);
    // The lock goes with its process.
    kill(&mut first);
    batch(&sandbox, &file, &[]).exits(0);
    assert_eq!(sandbox.updates().len(), 100);
}

#[test]
fn a_journal_of_something_else_is_not_gone_on_with() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(3));
    batch(&sandbox, &file, &[]).exits(0);
    let journal = format!("{file}.journal");
    let kept = fs::read_to_string(&journal).unwrap();
    let refused = |run: Run, expected: &str| {
        let run = run.exits(2);
        assert!(run.line().contains(expected), "{run}");
        assert!(run.line().starts_with(&format!("journal {journal}: ")), "{run}");
        assert_eq!(fs::read_to_string(&journal).unwrap(), kept);
    };
    let mut other = sandbox.with_key(&["batch", &file]);
    refused(
        Run::of(other.env("DIDIT_API_KEY", "other")),
        "it belongs to other credentials",
    );
    let mut other = sandbox.with_key(&["batch", &file]);
    refused(
        Run::of(other.env("DIDIT_BASE_URL", format!("{}/eu", sandbox.url))),
        "it belongs to another API host",
    );
    dir.file("rows.csv", csv(4));
    refused(
        batch(&sandbox, &file, &[]),
        "it belongs to another input, or the input was changed since",
    );

    // A file that is no journal is left as it is, whole line or not.
    let contents: [&[u8]; 5] = [
        b"precious",
        b"precious\n",
        b"{\"didit\":1}\n",
        b"\xff\xd8\xff\xe0JFIF",
        b"{",
    ];
    for content in contents {
        let precious = dir.file("precious", content);
        let run = batch(&sandbox, &file, &["--journal", &precious]);
        match content {
            // That may have been the first byte of a journal.
            b"{" => drop(run.exits(0)),
            _ => {
                let run = run.exits(2);
                assert!(run.line().contains("the file is no journal of this command"), "{run}");
                assert_eq!(fs::read(&precious).unwrap(), content);
            }
        }
    }
}

#[test]
fn a_torn_last_line_is_forgotten_and_a_damaged_one_stops_everything() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(3));
    batch(&sandbox, &file, &["--jobs", "1"]).exits(0);
    let path = format!("{file}.journal");
    let whole = fs::read_to_string(&path).unwrap();

    // The last row's result is torn: its intent stands, so it is read back.
    fs::write(&path, &whole[..whole.len() - 20]).unwrap();
    let run = batch(&sandbox, &file, &[]).exits(0);
    assert_eq!(
        run.line(),
        "3 rows: 2 applied, 1 already so, 0 refused, 0 unknown, 0 not sent"
    );
    assert_eq!(sandbox.updates().len(), 3);
    assert_eq!(results(&file).len(), 3);

    // The header is torn: nothing was sent.
    fs::write(&path, &whole[..30]).unwrap();
    batch(&sandbox, &file, &[]).exits(0);

    let damaged = whole
        .replacen("intent", "\0\0\0\0", 1)
        .replacen("\"line\":2", "\"line\":999", 1);
    fs::write(&path, &damaged).unwrap();
    let sent = sandbox.updates().len();
    let run = batch(&sandbox, &file, &[]).exits(2);
    assert!(
        run.line().contains("line 2 of it is damaged: nothing was sent"),
        "{run}"
    );
    assert_eq!(sandbox.updates().len(), sent);
}

#[test]
fn a_journal_that_cannot_be_written_is_exit_2() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(3));
    let run = batch(&sandbox, &file, &["--journal", &dir.path("none/journal")]).exits(2);
    assert!(run.line().contains("none/journal: it cannot be used"), "{run}");
    let run = batch(&sandbox, &file, &["--journal", &dir.path("")]).exits(2);
    assert!(run.line().contains("it is no regular file"), "{run}");
    assert!(sandbox.log().is_empty());
}

/// A journal of one row that was about to be set to `status` at `at`, when the run was killed.
fn killed(dir: &Directory, sandbox: &Sandbox, status: &str, at: u64) -> String {
    let nodes = if status == "Resubmitted" { "a:OCR" } else { "" };
    let file = dir.file(
        "rows.csv",
        format!("session_id,new_status,nodes\nabc,{status},{nodes}\n"),
    );
    let path = format!("{file}.journal");
    let _ = fs::remove_file(&path);
    // The header of this very input.
    let other = Sandbox::start(&[]);
    let mut command = other.with_key(&["batch", &file]);
    Run::of(&mut command).exits(0);
    let header = fs::read_to_string(&path)
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .replace(&other.url, &sandbox.url);
    let intent = json!({"line": 2, "session_id": "abc", "intent": status, "at": at});
    fs::write(&path, format!("{header}\n{intent}\n")).unwrap();
    file
}

#[test]
fn a_row_in_doubt_is_read_back_and_sent_only_if_it_was_not_applied() {
    for status in ["Approved", "Declined"] {
        let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
        let file = killed(&dir, &sandbox, status, unix_time() - 86_400);
        let run = batch(&sandbox, &file, &[]).exits(0);
        assert!(run.line().starts_with("1 row: 1 applied"), "{run}");
        let methods: Vec<Value> = sandbox.log().iter().map(|entry| entry["method"].clone()).collect();
        assert_eq!(methods, ["GET", "PATCH"]);

        // The same row, when it had been applied.
        let file = killed(&dir, &sandbox, status, unix_time() - 86_400);
        let run = batch(&sandbox, &file, &[]).exits(0);
        assert!(run.line().starts_with("1 row: 0 applied, 1 already so"), "{run}");
        assert_eq!(sandbox.updates().len(), 1);
    }
}

#[test]
fn a_resubmission_in_doubt_is_sent_again_only_while_it_cannot_be_applied_twice() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    // The person may have been through the steps since: the session is In Review, again or still.
    let file = killed(&dir, &sandbox, "Resubmitted", unix_time() - 3600);
    let run = batch(&sandbox, &file, &[]).exits(5);
    assert!(
        run.out
            .starts_with("line 2: unknown: session abc is In Review, and may have been Resubmitted"),
        "{run}"
    );
    assert!(sandbox.updates().is_empty());

    // It is read back in time, but its turn comes too late.
    let file = killed(&dir, &sandbox, "Resubmitted", unix_time() - 10);
    batch(&sandbox, &file, &["--rate", "60"]).exits(5);
    assert!(sandbox.updates().is_empty());

    let file = killed(&dir, &sandbox, "Resubmitted", unix_time());
    batch(&sandbox, &file, &[]).exits(0);
    assert_eq!(sandbox.status("abc"), "Resubmitted");

    let file = killed(&dir, &sandbox, "Resubmitted", unix_time() - 3600);
    batch(&sandbox, &file, &[]).exits(0);
    let (_, applied) = &sandbox.sessions()["abc"];
    assert_eq!(applied["Resubmitted"], 1);
    assert_eq!(sandbox.updates().len(), 1);
}

#[test]
fn a_batch_that_is_killed_again_and_again_loses_nothing_and_repeats_no_resubmission() {
    const ROWS: usize = 5_000;
    const KILLS: usize = 20;
    let (sandbox, dir) = (
        Sandbox::start(&["--fail-rate", "0.1", "--slow", "0.02", "--seed", "7"]),
        Directory::new(),
    );
    let statuses = ["Approved", "Declined", "Resubmitted"];
    let wanted: HashMap<String, &str> = (0..ROWS).map(|row| (id(row), statuses[row % 3])).collect();
    let mut text = "session_id,new_status,comment,nodes\n".to_owned();
    for row in 0..ROWS {
        let nodes = if row % 3 == 2 { "feature_ocr_1:OCR" } else { "" };
        text += &format!("{},{},\"row\n{row}\",{nodes}\n", id(row), statuses[row % 3]);
    }
    let file = dir.file("rows.csv", text);
    let args = ["batch", &file, "--rate", "100000", "--jobs", "8", "--json", "--quiet"];
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..KILLS {
        let mut child = sandbox.with_key(&args).stdout(Stdio::piped()).spawn().unwrap();
        let before = results(&file).len();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // Killed at any moment after it told so many rows, those of earlier runs among them.
        let told = lines.take(before + random.usize(1..ROWS / KILLS)).count();
        assert!(told > 0);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // What is left in doubt by a run of bad luck is settled by the next.
    let ends: Vec<Option<i32>> = (0..5).map(|_| Run::of(&mut sandbox.with_key(&args)).code).collect();
    assert_eq!(ends.last(), Some(&Some(0)), "{ends:?}");

    let sessions = sandbox.sessions();
    assert_eq!(sessions.len(), ROWS);
    for (id, status) in &wanted {
        let (found, applied) = &sessions[id];
        assert_eq!(found, status, "{id}");
        assert_eq!(applied.values().sum::<u32>(), 1, "{id}: {applied:?}");
    }
    let results = results(&file);
    assert_eq!(results.len(), ROWS);
    assert!(
        results
            .values()
            .all(|result| result == "applied" || result == "already"),
        "{results:?}"
    );
}

#[test]
fn an_answer_that_was_lost_is_settled_in_the_same_run() {
    // Requests go wrong in every way there is.
    let (sandbox, dir) = (
        Sandbox::start(&["--fail-rate", "0.4", "--slow", "0.02"]),
        Directory::new(),
    );
    let line = |row| format!("{},Resubmitted,a:OCR\n", id(row));
    let text = "session_id,new_status,nodes\n".to_owned() + &(0..30).map(line).collect::<String>();
    let file = dir.file("rows.csv", text);
    let run = batch(&sandbox, &file, &["--jobs", "16"]).exits(0);
    assert!(run.line().starts_with("30 rows: 30 applied"), "{run}");
    for (id, (status, applied)) in sandbox.sessions() {
        assert_eq!((status.as_str(), applied["Resubmitted"]), ("Resubmitted", 1), "{id}");
    }
}

#[test]
fn a_429_stops_every_worker_for_as_long_as_it_asks() {
    let (sandbox, dir) = (
        Sandbox::start(&["--rate-limit", "5", "--rate-window", "1"]),
        Directory::new(),
    );
    for row in 0..5 {
        sandbox.request(
            "PATCH",
            &format!("/v3/session/first-{row}/update-status/"),
            "{\"new_status\":\"Approved\"}",
        );
    }
    let file = dir.file("rows.csv", csv(5));
    batch(&sandbox, &file, &["--jobs", "5"]).exits(0);
    let updates = sandbox.updates();
    let at = |entry: &Value, field: &str| entry[field].as_f64().unwrap();
    let refused: Vec<&Value> = updates.iter().filter(|entry| entry["status"] == 429).collect();
    assert!(!refused.is_empty());
    let told = at(refused[0], "answered_at");
    // What was under way already may still have come in.
    let between = |entry: &&Value| (told + 0.1..told + 0.999).contains(&at(entry, "at"));
    assert_eq!(updates.iter().filter(between).count(), 0, "{updates:?}");
    assert!(at(updates.last().unwrap(), "at") >= told + 0.999);
    assert!(
        sandbox
            .sessions()
            .values()
            .all(|(_, applied)| applied.values().sum::<u32>() == 1)
    );
}

#[test]
fn it_slows_down_before_the_limit_is_reached() {
    let (sandbox, dir) = (
        Sandbox::start(&["--rate-limit", "20", "--rate-window", "1"]),
        Directory::new(),
    );
    let file = dir.file("rows.csv", csv(25));
    batch(&sandbox, &file, &["--jobs", "1"]).exits(0);
    let updates = sandbox.updates();
    assert!(updates.iter().all(|entry| entry["status"] == 200), "{updates:?}");
    assert_eq!(updates.len(), 25);
}

#[test]
fn requests_go_out_evenly_and_no_faster_than_the_rate() {
    let (sandbox, dir) = (Sandbox::start(&[]), Directory::new());
    let file = dir.file("rows.csv", csv(31));
    Run::of(&mut sandbox.with_key(&["batch", &file, "--rate", "1800"])).exits(0);
    let times: Vec<f64> = sandbox
        .updates()
        .iter()
        .map(|entry| entry["at"].as_f64().unwrap())
        .collect();
    let took = times.iter().cloned().fold(0.0, f64::max) - times.iter().cloned().fold(f64::MAX, f64::min);
    // 30 intervals of a thirtieth of a second; a busy machine may be late.
    assert!((0.95..1.5).contains(&took), "{took}");
}
