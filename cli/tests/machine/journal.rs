//! What is on disk before a request goes out, as only the system calls show. Run by `journal.sh`.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::support::directory::Directory;
use crate::support::{Server, answer};

#[test]
fn an_intent_is_on_disk_before_its_request_and_every_result_before_the_end() {
    let server = Server::start(|request| {
        let id = request.path.split('/').nth(3);
        answer(200, &[], json!({ "session_id": id }).to_string())
    });
    let dir = Directory::new();
    let rows = "session_id,new_status\na,Approved\nb,Approved\nc,Declined\n";
    let (file, journal) = (dir.file("rows.csv", rows), dir.path("rows.csv.journal"));
    check(&server, &file, &dir.path("trace"));
    // As if the first run had died right after it wrote the header, before it synced the directory.
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, text.split_inclusive('\n').next().unwrap()).unwrap();
    check(&server, &file, &dir.path("trace"));
}

/// Traces a run that sends three rows.
fn check(server: &Server, file: &str, trace: &str) {
    let calls = "trace=write,sendto,fsync,fdatasync";
    let status = Command::new("strace")
        .args(["-f", "-s", "200", "-e", calls, "-o", trace])
        .args([env!("CARGO_BIN_EXE_didit"), "batch", file, "--jobs", "1"])
        .env_clear()
        .envs([("DIDIT_BASE_URL", server.url().as_str()), ("DIDIT_API_KEY", "key")])
        .status()
        .unwrap();
    assert!(status.success());

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
        } else if call.contains(r#"{\"line\":"#) {
            unsynced = true;
            intents += usize::from(call.contains(r#"\"intent\":"#));
        }
    }
    assert_eq!(requests, 3, "{trace}");
    assert!(!unsynced, "the last result is not on disk:\n{trace}");
}
