//! What the tests of the command share: the built binary, the sandbox it talks to, and a directory of its own.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// The command, with nothing of this process's environment.
pub fn didit(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_didit"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

/// How a run of the command ended.
pub struct Run {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Run {
    pub fn of(command: &mut Command) -> Run {
        Run::from(command.output().unwrap())
    }

    /// Its standard error, if that is one line.
    #[track_caller]
    pub fn line(&self) -> &str {
        let line = self
            .err
            .strip_prefix("didit: ")
            .and_then(|text| text.strip_suffix('\n'));
        let line = line.unwrap_or_else(|| panic!("no diagnostic: {self}"));
        assert!(!line.contains('\n'), "more than one line: {self}");
        line
    }

    #[track_caller]
    pub fn exits(self, code: i32) -> Run {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Its standard output, an object a line.
    #[track_caller]
    pub fn objects(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        Run {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit {:?}\n-- out\n{}-- err\n{}", self.code, self.out, self.err)
    }
}

/// `examples/sandbox.rs`, running until it is dropped.
pub struct Sandbox {
    child: Child,
    pub url: String,
}

impl Sandbox {
    pub fn start(args: &[&str]) -> Sandbox {
        let bin = Path::new(env!("CARGO_BIN_EXE_didit"));
        let path = bin
            .with_file_name("examples")
            .join("sandbox")
            .with_extension(std::env::consts::EXE_EXTENSION);
        let spawned = Command::new(&path).args(args).stdout(Stdio::piped()).spawn();
        // `cargo test` builds it; with `--test` it has to be asked for.
        let mut child = spawned.unwrap_or_else(|error| panic!("cargo build --example sandbox: {error}"));
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line.trim().rsplit_once('=').unwrap().1.to_owned();
        Sandbox { child, url }
    }

    /// The command, with client credentials that the sandbox takes.
    pub fn didit(&self, args: &[&str]) -> Command {
        let mut command = didit(args);
        command
            .env("DIDIT_BASE_URL", &self.url)
            .env("DIDIT_AUTH_URL", &self.url);
        command
            .env("DIDIT_CLIENT_ID", "me")
            .env("DIDIT_CLIENT_SECRET", "hunter2");
        command
    }

    pub fn run(&self, args: &[&str]) -> Run {
        Run::of(&mut self.didit(args))
    }

    /// The command, with an API key, and so v3.
    pub fn with_key(&self, args: &[&str]) -> Command {
        let mut command = didit(args);
        command
            .env("DIDIT_BASE_URL", &self.url)
            .env("DIDIT_API_KEY", "key-hunter2");
        command
    }

    /// What it received and answered.
    pub fn log(&self) -> Vec<Value> {
        self.get("/__log")
    }

    /// The updates in it.
    pub fn updates(&self) -> Vec<Value> {
        let mut log = self.log();
        log.retain(|entry| entry["method"] == "PATCH");
        log
    }

    /// The status of each session, and how often each was applied.
    pub fn sessions(&self) -> HashMap<String, (String, BTreeMap<String, u32>)> {
        let session = |mut line: Value| {
            let applied = serde_json::from_value(line["applied"].take()).unwrap();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&line["session_id"]), (text(&line["status"]), applied))
        };
        self.get("/__sessions").into_iter().map(session).collect()
    }

    pub fn status(&self, id: &str) -> String {
        self.sessions().remove(id).map_or("none".into(), |(status, _)| status)
    }

    fn get(&self, path: &str) -> Vec<Value> {
        let answer = self.request("GET", path, "");
        answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A request that does not go through the command; the answer's body.
    pub fn request(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.url.strip_prefix("http://").unwrap()).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nx-api-key: k\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = String::new();
        reader.take(length).read_to_string(&mut body).unwrap();
        body
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
