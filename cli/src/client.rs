//! The client of the commands, configured by the environment.

use std::env;
use std::time::Duration;

use didit::{Client, ClientBuilder, Error, ErrorKind, Result, Verdict};

use crate::sandbox;

pub fn from_env() -> Result<Client> {
    builder_from_env()?.build()
}

/// Returns a builder. A command in a sandbox must not leave it.
pub fn builder_from_env() -> Result<ClientBuilder> {
    match sandbox::leaves_sandbox() {
        Some(problem) => Err(Error::new(ErrorKind::Config, Verdict::NotApplied, problem)),
        None => ClientBuilder::from_env(),
    }
}

/// Returns the limit on one request.
pub fn timeout() -> Duration {
    let seconds = env::var("DIDIT_TIMEOUT").ok().and_then(|seconds| seconds.parse().ok());
    Duration::try_from_secs_f64(seconds.unwrap_or(30.0)).unwrap_or_default()
}
