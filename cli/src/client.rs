//! The client of the commands, configured by the environment.

use std::time::Duration;
use std::{env, fs};

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

/// Removes secrets from a status that the server invented: those in the environment, and words as long as an access token, which
/// only the library knows.
pub fn without_secrets(status: &str) -> String {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let secret = |name: &&str| {
        let file = || variable(&format!("{name}_FILE")).and_then(|path| fs::read_to_string(path).ok());
        variable(name).or_else(file).map(|secret| secret.trim().to_owned())
    };
    let mut text = status.to_owned();
    for secret in ["DIDIT_API_KEY", "DIDIT_CLIENT_SECRET"].iter().filter_map(secret) {
        text = text.replace(&secret, HIDDEN);
    }
    let word = |word: &str| {
        if word.len() < 20 {
            word.to_owned()
        } else {
            HIDDEN.into()
        }
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

const HIDDEN: &str = "[hidden]";
