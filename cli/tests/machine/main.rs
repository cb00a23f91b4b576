//! What the machine under the library may do: a name server that goes away, addresses that do not answer, a firewall that
//! opens again, processes that are stopped, no thread or descriptor to be had, and power that fails.
//!
//! No part of `cargo test`: the script beside each module prepares what it needs, and runs it.

#![cfg(target_os = "linux")]

#[path = "../../../tests/support/mod.rs"]
mod support;

mod addresses;
mod calls;
mod child;
mod delivery;
mod dns;
mod journal;
mod limits;
mod stopped;
