//! An intent is on disk before its request is sent. Only the system calls show that, so `journal.sh` runs these tests.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::json;

use crate::support::directory::Directory;
use crate::support::{Server, answer};

fn confirming() -> Server {
    Server::start(|request| {
        let id = request.path.split('/').nth(3);
        answer(200, &[], json!({ "session_id": id }).to_string())
    })
}

const ROWS: &str = "session_id,new_status\na,Approved\nb,Approved\nc,Declined\n";

#[test]
fn an_intent_is_on_disk_before_its_request_and_every_result_before_the_exit() {
    let (server, dir) = (confirming(), Directory::new());
    let (file, journal) = (dir.file("rows.csv", ROWS), dir.path("rows.csv.journal"));
    check(&server, &file, &dir.path("trace"));
    // Keep only the header, as if the first run had been killed before it synced the directory.
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, text.split_inclusive('\n').next().unwrap()).unwrap();
    check(&server, &file, &dir.path("trace"));
}

/// Returns a batch of three rows under strace with these arguments.
fn under_strace(server: &Server, file: &str, strace: &[&str]) -> Command {
    let mut command = Command::new("strace");
    command
        .args(strace)
        .args([env!("CARGO_BIN_EXE_didit"), "batch", file, "--jobs", "1"])
        .env_clear()
        .envs([("DIDIT_BASE_URL", server.url().as_str()), ("DIDIT_API_KEY", "key")]);
    command
}

fn run(server: &Server, file: &str, strace: &[&str]) -> Output {
    under_strace(server, file, strace).output().unwrap()
}

/// Checks that a run writes and syncs each intent before its request.
fn check(server: &Server, file: &str, trace: &str) {
    let calls = "trace=write,sendto,fsync,fdatasync";
    let output = run(server, file, &["-f", "-s", "200", "-e", calls, "-o", trace]);
    assert!(output.status.success(), "{output:?}");

    let (mut requests, mut intents, mut unsynced, mut directory_synced) = (0, 0, false, false);
    let trace = fs::read_to_string(trace).unwrap();
    for call in trace.lines() {
        if call.contains("fdatasync") && call.ends_with("= 0") {
            unsynced = false;
        } else if call.contains("fsync") && call.ends_with("= 0") {
            directory_synced = true;
        } else if call.contains("PATCH /v3/session/") {
            requests += 1;
            assert_eq!(intents, requests, "{trace}");
            assert!(!unsynced && directory_synced, "{call} in\n{trace}");
        } else if call.contains(r#"\"line\":"#) {
            unsynced = true;
            intents += usize::from(call.contains(r#"\"intent\":"#));
        }
    }
    assert_eq!(requests, 3, "{trace}");
    assert!(!unsynced, "the last result is not on disk:\n{trace}");
}

#[test]
fn a_file_system_without_locks_is_reported_with_what_to_do_next() {
    let (server, dir) = (confirming(), Directory::new());
    let inject = ["-o", "/dev/null", "-e", "inject=flock:error=ENOSYS"];
    let output = run(&server, &dir.file("rows.csv", ROWS), &inject);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert!(
        line.contains(": this file system has no locks (Function not implemented); nothing was sent; "),
        "{line}"
    );
    assert!(
        line.ends_with("; for a new batch, choose another place with --journal FILE\n"),
        "{line}"
    );
    assert_eq!(server.requests().len(), 0);
}

/// Another run may rename or remove the journal after this one has opened it. Both would then send every row.
#[test]
fn a_journal_that_is_replaced_before_it_is_locked_is_not_used() {
    let (server, dir) = (confirming(), Directory::new());
    let (file, journal) = (dir.file("rows.csv", ROWS), dir.path("rows.csv.journal"));
    let inject = ["-o", "/dev/null", "-e", "inject=flock:delay_enter=3s"];
    let mut command = under_strace(&server, &file, &inject);
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while !fs::exists(&journal).unwrap() {
        assert!(start.elapsed() < Duration::from_secs(30));
        thread::sleep(Duration::from_millis(5));
    }
    fs::rename(&journal, dir.path("old")).unwrap();
    let output = child.wait_with_output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(6), "{line}");
    let expected = "this journal was replaced while it was opened; nothing was sent; run the same command again\n";
    assert!(line.ends_with(expected), "{line}");
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn unsynced_results_at_the_end_do_not_ask_to_resume() {
    let (server, dir) = (confirming(), Directory::new());
    // The main thread's first fdatasync is for the header. The second one fails.
    let inject = ["-o", "/dev/null", "-e", "inject=fdatasync:error=EIO:when=2"];
    let output = run(&server, &dir.file("rows.csv", ROWS), &inject);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let expected = "didit: 3 rows: 3 applied, 0 already set, 0 refused, 0 unknown, 0 not applied\n\
                    didit: stopped: the journal cannot be written: Input/output error\n";
    assert_eq!(text, expected);
}
