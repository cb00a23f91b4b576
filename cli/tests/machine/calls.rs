//! How many system calls an update takes. Run by `network.sh`.

use std::env;
use std::fs;
use std::process::Command;

use crate::child;
use crate::support::directory::Directory;
use crate::support::{Server, confirmed};

/// Of a process that makes so many updates over one connection.
fn system_calls(updates: u32) -> u32 {
    let server = Server::always(confirmed());
    let directory = Directory::new();
    let file = directory.path("calls");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-o", &file]).arg(env::current_exe().unwrap());
    let output = child::prepare(&mut strace, &server.url(), "approved", updates).output();
    assert_eq!(child::end(&output.expect("strace")), "applied");
    assert_eq!(server.connections(), 1);
    let table = fs::read_to_string(file).unwrap();
    let total = table.lines().last().unwrap();
    total.split_whitespace().nth(3).unwrap().parse().unwrap()
}

#[test]
fn an_update_over_a_kept_connection_takes_nine_system_calls_at_most() {
    let (few, many) = (20, 220);
    let each = f64::from(system_calls(many) - system_calls(few)) / f64::from(many - few);
    println!("{each} system calls");
    // What the process does besides is never quite the same.
    assert!(each < 9.5, "{each}");
}
