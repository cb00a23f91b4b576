//! A signal ends the command also as process 1, the first of a container, which the kernel protects from every signal without a
//! handler. `process_1.sh` runs these tests.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::directory::Directory;
use crate::support::{Server, Step, answer};

/// The limit on each wait for an event.
const LIMIT: Duration = Duration::from_secs(60);

const SIGNALS: [(&str, i32); 3] = [("-HUP", 1), ("-INT", 2), ("-TERM", 15)];

/// Starts the command as process 1 of its own container.
fn start(args: &[&str], url: &str) -> Child {
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child", "--"]);
    // Whatever runs the tests may ignore signals, and then the command would too.
    unshare.args(["env", "--default-signal=HUP,INT,TERM"]);
    unshare.arg(env!("CARGO_BIN_EXE_didit")).args(args);
    unshare.env("DIDIT_API_KEY", "k").env("DIDIT_BASE_URL", url);
    unshare
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    unshare.spawn().unwrap()
}

/// Sends a signal to the command from outside its container, as `docker stop` does.
fn send(signal: &str, unshare: &Child) {
    let id = unshare.id();
    let command = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let status = Command::new("kill").args([signal, command.trim()]).status();
    assert!(status.unwrap().success());
}

fn end(mut child: Child) -> Output {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > LIMIT {
            child.kill().unwrap();
            panic!("still running after {LIMIT:?}");
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

/// Starts the command for a server that never answers, and sends a signal once its request has arrived.
fn interrupted(args: &[&str], signal: &str) -> Output {
    let (arrived, arrival) = mpsc::channel();
    let server = Server::start(move |_| {
        let _ = arrived.send(());
        vec![Step::Stall]
    });
    let child = start(args, &server.url());
    arrival.recv_timeout(LIMIT).unwrap();
    send(signal, &child);
    end(child)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_signal_ends_an_update_which_reports_that_it_may_have_been_applied() {
    for (signal, number) in SIGNALS {
        let output = interrupted(&["update", "abc", "approved"], signal);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(128 + number), "{}: {err}", output.status);
        assert!(
            err.starts_with("didit: interrupted while setting session abc to Approved; it may have been applied; "),
            "{err}"
        );
    }
}

#[test]
fn a_signal_ends_a_command_that_only_reads() {
    for args in [&["status", "abc"][..], &["auth"]] {
        for (signal, number) in SIGNALS {
            let output = interrupted(args, signal);
            let status = output.status;
            assert_eq!(status.code(), Some(128 + number), "{args:?} {signal}: {status}");
            assert_eq!(text(&output.stderr), "");
        }
    }
}

#[test]
fn a_signal_ends_a_batch_that_waits_for_its_input() {
    let child = start(&["batch", "-", "--dry-run"], "http://127.0.0.1:1");
    // More than a pipe holds, so the command has begun to read.
    child.stdin.as_ref().unwrap().write_all(&[b'x'; 1 << 17]).unwrap();
    send("-TERM", &child);
    let output = end(child);
    assert_eq!(output.status.code(), Some(128 + 15), "{}", output.status);
}

#[test]
fn the_first_signal_lets_a_batch_finish_its_requests_in_flight() {
    let ((arrived, arrival), (release, held)) = (mpsc::channel(), mpsc::channel::<()>());
    let held = Mutex::new(held);
    let server = Server::start(move |request| {
        let id = request.path.split('/').nth(3);
        let _ = arrived.send(());
        let _ = held.lock().unwrap().recv_timeout(LIMIT);
        answer(200, &[], json!({ "session_id": id }).to_string())
    });
    let dir = Directory::new();
    let file = dir.file("rows.csv", "session_id,new_status\na,Approved\nb,Approved\n");
    let mut child = start(&["batch", &file, "--jobs", "1"], &server.url());
    arrival.recv_timeout(LIMIT).unwrap();
    send("-TERM", &child);
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.starts_with("didit: waiting for 1 request in flight"), "{line}");
    drop(release);
    let output = end(child);
    assert_eq!(output.status.code(), Some(6), "{}", output.status);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_signal_to_a_sandbox_ends_its_command() {
    let script = "trap 'didit status abc; kill $!; exit 7' TERM; sleep 60 & echo ready; wait";
    let mut child = start(&["sandbox", "--", "sh", "-c", script], "");
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    send("-TERM", &child);
    let output = end(child);
    assert_eq!(output.status.code(), Some(7), "{}", output.status);
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\nIn Review\n");
}
