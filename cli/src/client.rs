//! The client of the commands, configured by the environment.

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
