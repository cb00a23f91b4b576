//! `didit batch` sends every row once, records it, and resumes after any interruption.

mod in_doubt;
mod journal;
mod kills;
mod outage;
mod pace;
mod refusals;
mod reports;
mod rows;
#[cfg(unix)]
pub mod stop;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::sandbox::{Run, Sandbox, didit};
use crate::support::directory::Directory;
use crate::support::{Request, Server, Step, answer, lock};

/// Returns the session id of a row, a UUID like Didit's.
pub fn id(row: usize) -> String {
    format!("4c5c7f3a-0000-4000-8000-{row:012x}")
}

/// Returns a CSV that approves and declines sessions in turn.
pub fn csv(rows: usize) -> String {
    let status = |row| if row % 2 == 0 { "Approved" } else { "Declined" };
    let line = |row| format!("{},{}\n", id(row), status(row));
    "session_id,new_status\n".to_owned() + &(0..rows).map(line).collect::<String>()
}

/// Options for the highest speed.
pub const FAST: [&str; 2] = ["--rate", "100000"];

pub fn batch(sandbox: &Sandbox, file: &str, more: &[&str]) -> Run {
    Run::of(&mut sandbox.with_key(&[&["batch", file][..], &FAST, more].concat()))
}

/// Returns the command for a server of the test.
pub fn against(server: &Server, args: &[&str]) -> Command {
    let mut command = didit(&[&["batch"][..], args, &FAST].concat());
    command
        .env("DIDIT_BASE_URL", server.url())
        .env("DIDIT_API_KEY", "key-hunter2");
    command
}

pub fn run(server: &Server, args: &[&str]) -> Run {
    Run::of(&mut against(server, args))
}

/// Returns the complete lines of the journal without its header, or nothing if the journal does not exist yet.
pub fn journal(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(format!("{file}.journal")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Returns the last result of each line in the journal.
pub fn results(file: &str) -> BTreeMap<u64, String> {
    let result = |entry: Value| Some((entry["line"].as_u64()?, entry["result"].as_str()?.to_owned()));
    journal(file).into_iter().filter_map(result).collect()
}

/// Waits until the journal has an entry of some kind.
pub fn wait_for(file: &str, is: impl Fn(&Value) -> bool) -> Value {
    let path = format!("{file}.journal");
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(30) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let whole = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        if let Some(entry) = whole.into_iter().find(&is) {
            return entry;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("no such entry in {path}");
}

pub fn kill(child: &mut std::process::Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Returns the same command with a limit on file sizes, which acts like a full disk.
#[cfg(target_os = "linux")]
pub fn on_a_full_disk(command: &Command, kib: u32) -> Command {
    let mut limited = Command::new("bash");
    limited
        .args(["-c", &format!("ulimit -f {kib}; exec \"$0\" \"$@\"")])
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear();
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.stdout(Stdio::piped()).stderr(Stdio::piped());
    limited
}

/// Writes the journal of a run that was killed after its intent to set one row to `status` at the time `at`.
pub fn killed(dir: &Directory, sandbox: &Sandbox, status: &str, at: u64) -> String {
    let nodes = if status == "Resubmitted" { "a:OCR" } else { "" };
    let file = dir.file(
        "rows.csv",
        format!("session_id,new_status,nodes\nabc,{status},{nodes}\n"),
    );
    let path = format!("{file}.journal");
    let _ = fs::remove_file(&path);
    // Another run writes the header for this input.
    let other = Sandbox::start(&[]);
    let mut command = other.with_key(&["batch", &file]);
    Run::of(&mut command).exits(0);
    let header = fs::read_to_string(&path)
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .replace(&other.url, &sandbox.url);
    let intent = json!({"line": 2, "session_id": "abc", "intent": status, "at": at});
    fs::write(&path, format!("{header}\n{intent}\n")).unwrap();
    file
}

/// Sessions that behave like Didit's, for a server with the faults of a test.
#[derive(Default)]
pub struct Sessions(Mutex<HashMap<String, (String, u32)>>);

impl Sessions {
    /// Handles a request, and returns Didit's answer.
    pub fn serve(&self, request: &Request) -> Vec<Step> {
        let id = session_of(request);
        let mut sessions = lock(&self.0);
        let (status, applied) = sessions.entry(id.clone()).or_insert(("In Review".into(), 0));
        if request.method == "GET" {
            return didit_json(200, json!({"session_id": id, "status": status}));
        }
        let body: Value = serde_json::from_str(request.text()).unwrap();
        let new = body["new_status"].as_str().unwrap();
        if new == "Resubmitted" && status == new {
            return didit_json(
                400,
                json!({"detail": "The new status is the same as the current status."}),
            );
        }
        if status != new {
            *status = new.into();
            *applied += 1;
        }
        didit_json(200, json!({"session_id": id}))
    }

    /// Sets a status, as if someone else had decided.
    pub fn set(&self, id: &str, status: &str) {
        lock(&self.0).insert(id.into(), (status.into(), 0));
    }

    pub fn status(&self, id: &str) -> String {
        lock(&self.0)[id].0.clone()
    }

    /// Returns how many times each requested session was changed.
    pub fn applied(&self) -> Vec<u32> {
        lock(&self.0).values().map(|(_, applied)| *applied).collect()
    }
}

pub fn session_of(request: &Request) -> String {
    request.path.split('/').nth(3).unwrap().to_owned()
}

pub fn didit_json(status: u16, body: Value) -> Vec<Step> {
    answer(status, &[], body.to_string())
}

/// Returns a gateway's page, such as during maintenance.
pub fn page(status: u16) -> Vec<Step> {
    answer(status, &[("content-type", "text/html")], "<html>Back soon</html>")
}
