//! The options of `didit sandbox`, and its help.

use std::env;
use std::ffi::OsString;
use std::time::Duration;

use clap::ValueEnum;

use super::values::seconds;

/// The variable that marks a sandbox, and holds its URL.
pub const MARK: &str = "IN_DIDIT_SANDBOX";

/// Returns whether this command runs in a sandbox.
pub fn is_inside() -> bool {
    env::var_os(MARK).is_some()
}

pub const HELP: &str = "\
The sandbox listens on 127.0.0.1 and answers like both of Didit's hosts. It runs
COMMAND with DIDIT_BASE_URL, DIDIT_AUTH_URL and credentials set, with all other
DIDIT_* and proxy variables unset, and with this didit first in PATH. Inside,
didit does not contact the real Didit, whatever a shell's startup files set
(IN_DIDIT_SANDBOX marks the sandbox). The sandbox forwards SIGTERM and SIGHUP to
COMMAND. It stops when COMMAND ends, and its sessions are lost. A batch inside
has the journal FILE.sandbox.journal: delete it to repeat the batch. --json and
--verbose have no effect on the sandbox itself.

Any session id and any credentials work, except those below. A new session is
In Review. With --fail-rate, a share of all requests fails: the connection
closes or the response is a 502, before or after the update is applied, or the
response is cut off. The same requests fail in every run.

Session ids that cause failures:
  unknown-*      does not exist: 404
  forbidden-*    cannot be read or updated: 403
  unfinished-*   is In Progress and refuses updates: 400
  throttled-*    answers 429 once, with Retry-After: 1
  readonly-*     can be read, but refuses updates for 10 s: 503
  slow-*         answers after 5 s
  lost-*         is updated, but the connection closes before the response

Credentials that are refused:
  wrong          as an API key or a client secret: 401

Endpoints for tests, one JSON object per line:
  GET /__log        every request and the status of its response
  GET /__sessions   every session, its status, and how many times each status
                    was applied

Exit status:
  the exit status of COMMAND, or 128 + N if signal N ended it, or
  2    invalid command line, or the port cannot be used
  6    the system could not start a thread
  126  COMMAND cannot be run
  127  COMMAND was not found

Examples:
  didit sandbox -- npm test
  didit sandbox --fail-rate 0.1 -- pytest";

#[derive(Debug, PartialEq, clap::Args)]
pub struct Options {
    /// The port to listen on at 127.0.0.1; 0 picks a free port [default: 13434, or with COMMAND a free port]
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,

    /// The share of requests that fail, from 0 to 1
    #[arg(long, value_name = "F", default_value = "0", value_parser = share, allow_negative_numbers = true)]
    pub fail_rate: f64,

    /// Accept N updates and 2N reads per SECONDS (60); Didit accepts 300 updates per minute
    #[arg(long, value_name = "N[/SECONDS]", value_parser = rate_limit)]
    pub rate_limit: Option<RateLimit>,

    /// The credentials for COMMAND: an API key (API v3) or client credentials (API v1)
    #[arg(long, value_name = "KIND", default_value = "key")]
    pub credentials: SandboxCredentials,

    /// Print each request and its response to standard error, without secrets
    #[arg(long)]
    pub show_requests: bool,

    /// The command to run; without one, a shell
    #[arg(last = true)]
    pub command: Vec<OsString>,
}

impl Options {
    /// Returns the port to listen on. A shell has always the same, and tests can run in several sandboxes at the same time.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.command.is_empty() { 13434 } else { 0 })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum SandboxCredentials {
    Key,
    Client,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    pub updates: usize,
    pub window: Duration,
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "must be a number from 0 to 1, such as 0.1".into())
}

fn rate_limit(text: &str) -> Result<RateLimit, String> {
    let (updates, window) = text.split_once('/').unwrap_or((text, "60"));
    let problem = "must be a whole number, such as 300, or 20/1 for 20 per second";
    let (updates, window) = (updates.parse().map_err(|_| problem)?, seconds(window)?);
    match window {
        Duration::ZERO => Err("the seconds must be more than 0".into()),
        _ => Ok(RateLimit { updates, window }),
    }
}
