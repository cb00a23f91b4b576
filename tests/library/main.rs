//! The library's tests: one module per promise.

#[path = "../support/mod.rs"]
mod support;

mod approve;
mod check;
mod confirmation;
mod connections;
mod documentation;
mod doubt;
mod env;
mod faults;
mod harness;
mod messages;
mod properties;
mod proxy;
mod public_api;
mod queue;
mod rate_limit;
mod read_back;
mod retry;
mod secrets;
#[cfg(any(feature = "rustls", feature = "rustls-no-provider", feature = "native-tls"))]
mod tls;
mod token_file;
mod update;
mod versions;
mod wording;
