//! The command, one module a promise.

#[path = "../support/mod.rs"]
mod support;

mod batch;
mod one;
mod sandbox;
