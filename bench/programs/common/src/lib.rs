//! What all contenders share: the address of the server, the request, the check of the response, and the timing.

use std::env;
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use base64::Engine;
use serde::{Deserialize, Serialize};

pub struct Task {
    /// `https://127.0.0.1:8443/v1/session/…/update-status/`
    pub update_url: String,
    pub token_url: String,
    /// `base64(id:secret)`
    pub basic: String,
    /// The server's private CA in PEM.
    pub ca: Option<Vec<u8>>,
}

#[derive(Serialize)]
struct Update {
    new_status: &'static str,
    comment: &'static str,
}

#[derive(Deserialize)]
struct Token {
    access_token: String,
}

#[derive(Deserialize)]
struct Updated {
    session_id: String,
}

pub const SESSION: &str = "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10";
pub const GRANT: &str = "grant_type=client_credentials";
pub const FORM: &str = "application/x-www-form-urlencoded";
pub const JSON: &str = "application/json";

impl Task {
    pub fn from_env() -> Task {
        let get = |name| env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
        let pair = format!("{}:{}", get("DIDIT_CLIENT_ID"), get("DIDIT_CLIENT_SECRET"));
        Task {
            update_url: format!("{}/v1/session/{SESSION}/update-status/", get("DIDIT_BASE_URL")),
            token_url: format!("{}/auth/v2/token/", get("DIDIT_AUTH_URL")),
            basic: format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(pair)),
            ca: env::var("DIDIT_CA_FILE").ok().map(|path| std::fs::read(path).unwrap()),
        }
    }
}

/// Serializes the body of an update, which every update does again.
pub fn body() -> Vec<u8> {
    let update = Update {
        new_status: "Declined",
        comment: "Duplicated user",
    };
    serde_json::to_vec(&update).unwrap()
}

pub fn bearer(answer: &[u8]) -> String {
    let token: Token = serde_json::from_slice(answer).unwrap();
    format!("Bearer {}", token.access_token)
}

/// The result of an update.
pub type Outcome = Result<(), Box<dyn Error>>;

/// The limits of one request, where a contender has them. They are the defaults of didit.
pub const TIMEOUT: Duration = Duration::from_secs(30);
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Checks that the server confirmed this session.
pub fn check(status: u16, answer: &[u8]) -> Outcome {
    if status != 200 {
        return Err(status.to_string().into());
    }
    let updated: Updated = serde_json::from_slice(answer)?;
    if updated.session_id == SESSION {
        Ok(())
    } else {
        Err("another session".into())
    }
}

/// Makes updates as the first argument says.
///
/// - `once`: makes one update.
/// - `warm N`: makes one, then `N` more, and prints how many nanoseconds those took.
/// - `serve`: makes one, then `N` more for each line `N` on standard input, and prints how many of those failed and how many
///   milliseconds the longest took.
pub fn run(mut update: impl FnMut() -> Outcome) {
    update().unwrap();
    let arguments: Vec<String> = env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("warm") => {
            let count: u32 = arguments[2].parse().unwrap();
            let start = Instant::now();
            for _ in 0..count {
                black_box(update()).unwrap();
            }
            println!("{}", start.elapsed().as_nanos());
        }
        Some("serve") => {
            println!("ready");
            for line in std::io::stdin().lines() {
                let (mut failed, mut longest) = (0, Duration::ZERO);
                for _ in 0..line.unwrap().parse::<u32>().unwrap() {
                    let start = Instant::now();
                    failed += u32::from(update().is_err());
                    longest = longest.max(start.elapsed());
                }
                println!("{failed} {}", longest.as_millis());
            }
        }
        _ => {}
    }
}
