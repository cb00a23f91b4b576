//! Standard streams that block for a while lose no line and delay no request.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::{fd::OwnedFd, unix::net::UnixStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::batch::{Sessions, against, csv};
use crate::sandbox::{Run, didit};
use crate::support::Server;
use crate::support::directory::Directory;

/// With `-v`, the workers log to the terminal that shows the progress bar, while the results wait for a reader.
#[test]
fn unread_standard_output_delays_no_request_even_with_a_progress_bar() {
    const ROWS: usize = 1_500;
    let sessions = Sessions::default();
    let server = Server::start(move |request| sessions.serve(request));
    let dir = Directory::new();
    let (file, pipe) = (dir.file("rows.csv", csv(ROWS)), dir.path("pipe"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Opened for reading, but never read.
    let _unread = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let command = against(&server, &[&file, "--json", "-v", "--journal", &dir.path("journal")]);
    // Standard error is a terminal.
    let args: Vec<_> = [command.get_program()].into_iter().chain(command.get_args()).collect();
    let line = format!("{} >{pipe}", args.join(OsStr::new(" ")).into_string().unwrap());
    let mut script = Command::new("script");
    // The command's environment is empty but for these.
    script
        .args(["-qec", &line, "/dev/null"])
        .env_clear()
        .env("TERM", "xterm");
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = script.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while server.requests().len() < ROWS && start.elapsed() < Duration::from_secs(30) {
        thread::sleep(Duration::from_millis(20));
    }
    let sent = server.requests().len();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(sent, ROWS);
}

/// Node.js and other programs make their pipes non-blocking, and so also the streams of the commands they start.
#[test]
fn a_full_non_blocking_standard_output_loses_and_truncates_no_line() {
    const ROWS: usize = 3_000;
    let sessions = Sessions::default();
    let server = Server::start(move |request| sessions.serve(request));
    let dir = Directory::new();
    let file = dir.file("rows.csv", csv(ROWS));
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut command = against(&server, &[&file, "--json", "--quiet"]);
    let mut child = command.stdout(OwnedFd::from(theirs)).spawn().unwrap();
    drop(command);
    let start = Instant::now();
    while server.requests().len() < ROWS && start.elapsed() < Duration::from_secs(30) {
        thread::sleep(Duration::from_millis(20));
    }
    // Start reading only now.
    let mut text = String::new();
    ours.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), ROWS + 1);
}

#[test]
fn non_blocking_standard_input_is_read_to_its_end() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut command = didit(&["batch", "-", "--dry-run"]);
    let child = command.stdin(OwnedFd::from(theirs)).spawn().unwrap();
    drop(command);
    ours.write_all(b"session_id,new_status\nabc,App").unwrap();
    thread::sleep(Duration::from_millis(100));
    ours.write_all(b"roved\n").unwrap();
    drop(ours);
    let run = Run::end(child).exits(0);
    assert!(run.out.starts_with("the input has 1 row: 1 to approve"), "{run}");
}
