//! What the machine under the library may do: a name server that goes away, and no thread or descriptor to be had.
//!
//! No part of `cargo test`: `names.sh` and `limits.sh` prepare what these need, and run them.

#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

mod limits;
mod names;
