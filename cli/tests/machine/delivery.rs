//! What was given up is not delivered later, when the network lets it through again. Run by `network.sh`.

use std::io::BufReader;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::child::{self, TIMEOUT, signal};
use crate::support::directory::Directory;
use crate::support::{API_KEY, read_request};

/// A firewall that lets connections be made, but no request be sent.
struct Firewall;

impl Firewall {
    fn close() -> Firewall {
        nft("add table inet closed");
        nft("add chain inet closed output { type filter hook output priority 0 ; }");
        nft("add rule inet closed output meta length > 150 drop");
        Firewall
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        nft("delete table inet closed");
    }
}

fn nft(rule: &str) {
    assert!(Command::new("nft").arg(rule).status().expect("nft").success(), "{rule}");
}

/// Whether the server receives the request of a process that gives it up, or is killed.
fn is_delivered(status: &str, kill: bool) -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let firewall = Firewall::close();
    let mut child = child::start(&url, status);
    let (stream, _) = listener.accept().unwrap();
    if kill {
        thread::sleep(TIMEOUT / 4);
        signal(&child, "-KILL");
        child.wait().unwrap();
    } else {
        let end = child::end(&child.wait_with_output().unwrap());
        assert!(end.starts_with("unknown: "), "{end}");
    }
    drop(firewall);
    arrives(stream)
}

/// Whether a request comes over the connection before it ends.
fn arrives(stream: TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    read_request(&mut BufReader::new(stream), 0, None).is_some()
}

#[test]
fn a_request_that_was_given_up_never_arrives() {
    for status in ["approved", "resubmitted"] {
        assert!(!is_delivered(status, false), "{status}");
    }
}

#[test]
fn a_request_of_a_process_that_was_killed_never_arrives() {
    for status in ["approved", "resubmitted"] {
        assert!(!is_delivered(status, true), "{status}");
    }
}

#[test]
fn a_row_of_a_batch_that_was_interrupted_twice_never_arrives() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = Directory::new();
    let rows = directory.file("rows.csv", "session_id,new_status\na,Approved\n");
    let firewall = Firewall::close();
    let mut batch = Command::new(env!("CARGO_BIN_EXE_didit"))
        .args(["batch", &rows])
        .env_clear()
        .env("DIDIT_BASE_URL", format!("http://{}", listener.local_addr().unwrap()))
        .env("DIDIT_API_KEY", API_KEY)
        .spawn()
        .unwrap();
    let (stream, _) = listener.accept().unwrap();
    let start = Instant::now();
    while batch.try_wait().unwrap().is_none() {
        // The first one waits for the request in flight, up to 30 s.
        thread::sleep(TIMEOUT / 4);
        signal(&batch, "-INT");
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    drop(firewall);
    assert!(!arrives(stream));
}

#[test]
fn the_firewall_lets_a_request_through_when_it_is_open_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let firewall = Firewall::close();
    let child = child::start(&url, "approved");
    let (stream, _) = listener.accept().unwrap();
    drop(firewall);
    assert!(arrives(stream));
    child.wait_with_output().unwrap();
}
