//! One update in a process of its own, so that the process can be stopped and killed.

use std::env;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use didit::{Client, Credentials, Node, RetryPolicy, StatusUpdate};

use crate::support::{API_KEY, session_id};

/// How long its only attempt may take.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// Starts a process that sets the session to `status`.
pub fn start(url: &str, status: &str) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["child::update", "--exact", "--nocapture"])
        .env("TEST_BASE_URL", url)
        .env("TEST_STATUS", status)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Sends a signal to a process, such as `-STOP`.
pub fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
}

/// What became of the update: `applied`, or the verdict and the message.
pub fn end(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let (_, end) = stdout.split_once("END ").expect("it told its end");
    end.lines().next().unwrap().to_owned()
}

/// In the child.
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
    match client.update_status(&session_id(), &update) {
        Ok(_) => println!("END applied"),
        Err(error) => println!("END {}: {error}", error.verdict()),
    }
}
