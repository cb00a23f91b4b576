//! What the tests of the command share: the built binary and the sandbox that it talks to.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;

// Compiled in, so that it is never an older one.
#[allow(dead_code)]
#[path = "../../src/sandbox/mod.rs"]
pub mod server;

/// How long the command, or the sandbox's answer to a test, may take before the test fails.
const LIMIT: Duration = Duration::from_secs(60);

/// The command, with nothing of this process's environment.
pub fn didit(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_didit"));
    command.args(args).env_clear();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
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
        Run::end(command.spawn().unwrap())
    }

    /// Waits for a child to end, and kills one that does not.
    pub fn end(mut child: Child) -> Run {
        let (sender, texts) = mpsc::channel();
        let out = child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>);
        let err = child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>);
        for (is_out, pipe) in [(true, out), (false, err)] {
            let sender = sender.clone();
            thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Some(mut pipe) = pipe {
                    pipe.read_to_end(&mut bytes).unwrap();
                }
                sender.send((is_out, bytes)).unwrap();
            });
        }
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            match texts.recv_timeout(LIMIT) {
                Ok((true, bytes)) => stdout = bytes,
                Ok((false, bytes)) => stderr = bytes,
                Err(_) => {
                    let _ = child.kill();
                    panic!("still running after {LIMIT:?}");
                }
            }
        }
        let status = child.wait().unwrap();
        Run::from(Output { status, stdout, stderr })
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

/// The sandbox, running in this process until its end.
pub struct Sandbox {
    pub url: String,
}

impl Sandbox {
    pub fn start(args: &[&str]) -> Sandbox {
        let options = server::Options::parse(args.iter().map(ToString::to_string)).unwrap();
        let address = server::serve(options).unwrap();
        Sandbox {
            url: format!("http://{address}"),
        }
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
        stream.set_read_timeout(Some(LIMIT)).unwrap();
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
