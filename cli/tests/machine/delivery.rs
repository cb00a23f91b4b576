//! A request that timed out or was interrupted is not delivered later, when the network works again. `network.sh` runs these
//! tests.

use std::io::BufReader;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::child::{self, TIMEOUT, signal};
use crate::support::directory::Directory;
use crate::support::{API_KEY, read_request};

/// A firewall that allows connections, but drops requests.
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

/// Returns whether the server receives a request after its process timed out, or was killed.
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

/// Returns whether a request arrives before the connection ends.
fn arrives(stream: TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    read_request(&mut BufReader::new(stream), 0, None).is_some()
}

#[test]
fn a_request_that_timed_out_never_arrives() {
    for status in ["approved", "resubmitted"] {
        assert!(!is_delivered(status, false), "{status}");
    }
}

#[test]
fn a_request_of_a_killed_process_never_arrives() {
    for status in ["approved", "resubmitted"] {
        assert!(!is_delivered(status, true), "{status}");
    }
}

#[test]
fn a_row_of_a_batch_interrupted_twice_never_arrives() {
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
        // After the first signal, the batch would wait up to 30 s for the request in flight.
        thread::sleep(TIMEOUT / 4);
        // Background jobs of scripts ignore SIGINT.
        signal(&batch, "-TERM");
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    drop(firewall);
    assert!(!arrives(stream));
}

#[test]
fn the_opened_firewall_delivers_a_request() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let firewall = Firewall::close();
    let child = child::start(&url, "approved");
    let (stream, _) = listener.accept().unwrap();
    drop(firewall);
    assert!(arrives(stream));
    child.wait_with_output().unwrap();
}
