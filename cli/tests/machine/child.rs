//! Sends updates in a separate process, which can be stopped, killed and traced.

use std::env;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use didit::{Client, Credentials, Node, RetryPolicy, StatusUpdate};

use crate::support::{API_KEY, session_id};

/// The limit on the only attempt.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// Starts a process that sets the session to `status`.
pub fn start(url: &str, status: &str) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    prepare(&mut command, url, status, 1).spawn().unwrap()
}

/// Makes a command run this program, which sets the session to `status` this many times.
pub fn prepare<'a>(command: &'a mut Command, url: &str, status: &str, count: u32) -> &'a mut Command {
    command
        .args(["child::update", "--exact", "--nocapture"])
        .env("TEST_BASE_URL", url)
        .env("TEST_STATUS", status)
        .env("TEST_COUNT", count.to_string())
        .stdout(Stdio::piped())
}

/// Sends a signal to a process, such as `-STOP`.
pub fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
}

/// Returns the outcome of the update: `applied`, or the verdict and the message.
pub fn end(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let (_, end) = stdout.split_once("END ").expect("a line with END");
    end.lines().next().unwrap().to_owned()
}

/// Runs in the child process.
#[test]
fn update() {
    let (Ok(url), Ok(status)) = (env::var("TEST_BASE_URL"), env::var("TEST_STATUS")) else {
        return;
    };
    let client = Client::builder(Credentials::api_key(API_KEY))
        .base_url(url)
        .proxy("")
        .timeout(TIMEOUT)
        .retry(RetryPolicy::none())
        .build()
        .unwrap();
    let update = match &*status {
        "resubmitted" => StatusUpdate::resubmitted([Node::new("node", "OCR")]),
        _ => StatusUpdate::approved(),
    };
    let count: u32 = env::var("TEST_COUNT").unwrap().parse().unwrap();
    for _ in 1..count {
        client.update_status(&session_id(), &update).unwrap();
    }
    match client.update_status(&session_id(), &update) {
        Ok(_) => println!("END applied"),
        Err(error) => println!("END {}: {error}", error.verdict()),
    }
}
