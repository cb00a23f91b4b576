//! What was given up is not delivered later, when the network lets it through again. Run by `network.sh`.

use std::io::BufReader;
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::child::{self, TIMEOUT, signal};
use crate::support::read_request;

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
    // Whatever comes of it, comes within a few seconds.
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
fn the_firewall_lets_a_request_through_when_it_is_open_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let firewall = Firewall::close();
    let child = child::start(&url, "approved");
    let (stream, _) = listener.accept().unwrap();
    drop(firewall);
    assert!(read_request(&mut BufReader::new(stream), 0, None).is_some());
    child.wait_with_output().unwrap();
}
