//! Tests of the command, one module per promise.

#[path = "../../../tests/support/mod.rs"]
mod support;

mod arguments;
mod auth;
mod batch;
mod contract;
#[cfg(unix)]
mod examples;
mod exit;
#[cfg(target_os = "linux")]
mod messages;
mod output;
#[cfg(unix)]
mod readme;
mod sandbox;
mod sandbox_command;
#[cfg(target_os = "linux")]
mod sandbox_limits;
#[cfg(unix)]
mod sandbox_signals;
#[cfg(unix)]
mod signals;
mod status;
#[cfg(target_os = "linux")]
mod streams;
mod update;
