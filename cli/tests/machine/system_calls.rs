//! An update over a kept connection takes at most nine system calls. `network.sh` runs this test.

use std::env;
use std::fs;
use std::process::Command;

use crate::child;
use crate::support::directory::Directory;
use crate::support::{Server, confirmed};

/// Returns the number of system calls of a process that sends this many updates over one connection.
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
fn an_update_over_a_kept_connection_takes_at_most_nine_system_calls() {
    let (few, many) = (20, 220);
    let each = f64::from(system_calls(many) - system_calls(few)) / f64::from(many - few);
    println!("{each} system calls");
    // Start and exit of the process take a slightly different number each time.
    assert!(each < 9.5, "{each}");
}
