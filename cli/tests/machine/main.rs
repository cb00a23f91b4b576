//! Tests that need a prepared machine: a failing name server, dead addresses, a firewall, stopped processes, too few threads or
//! file descriptors, a container, and traced system calls.
//!
//! `cargo test` leaves them out. The scripts in this directory prepare the machine and run them.

#![cfg(target_os = "linux")]

#[path = "../../../tests/support/mod.rs"]
mod support;

mod addresses;
mod child;
mod delivery;
mod dns;
mod journal;
mod limits;
mod process_1;
mod stopped;
mod system_calls;
