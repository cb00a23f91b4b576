//! A cron job that makes sure that each session of a list has its status. It uses the system's TLS, to be small:
//!
//!     cargo build --release --example cron --no-default-features --features native-tls
//!     cargo run -q -- sandbox -- target/release/examples/cron < decisions.txt
//!
//! A line of the list is `SESSION_ID STATUS`. In the crontab, whose variables the job sees:
//!
//!     DIDIT_CLIENT_ID=...
//!     DIDIT_CLIENT_SECRET=...
//!     DIDIT_TOKEN_FILE=/var/lib/decisions/token
//!     */5 * * * *  /usr/local/bin/cron < /var/lib/decisions/list
//!
//! With the token file, a run requests no token while the cached one is valid. `ensure_status_if` reads a session before it
//! updates it, and leaves it alone if someone has decided otherwise. So you can run the same list again and again, and a
//! killed run does no harm. The job prints only failures, since cron mails what a job prints. The program takes 0.81 MB on
//! x86-64 Linux.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use didit::{Client, StatusUpdate};

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns how many lines failed.
fn run() -> Result<usize, Box<dyn Error>> {
    let client = Client::from_env()?;
    let mut failed = 0;
    for line in io::stdin().lines() {
        let line = line?;
        if let Err(error) = ensure(&client, &line) {
            eprintln!("{line}: {error}");
            failed += 1;
        }
    }
    Ok(failed)
}

fn ensure(client: &Client, line: &str) -> Result<(), Box<dyn Error>> {
    let (session, status) = line.split_once(' ').ok_or("not SESSION_ID STATUS")?;
    let update = StatusUpdate::new(status.trim().parse()?);
    client.ensure_status_if(&session.parse()?, &update, |status| !status.is_decided())?;
    Ok(())
}
