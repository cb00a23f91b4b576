//! Shared by the tests of the command: the built binary, and a `didit sandbox` for it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, iter, thread};

use serde_json::Value;

/// The limit on a run of the command, and on the sandbox's response to a test.
const LIMIT: Duration = Duration::from_secs(60);

/// Returns the command with an empty environment.
pub fn didit(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_didit"));
    command.args(args).env_clear();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The exit status and the output of a run of the command.
pub struct Run {
    pub code: Option<i32>,
    /// The signal that ended the command.
    #[cfg(unix)]
    pub signal: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Run {
    pub fn of(command: &mut Command) -> Run {
        Run::end(command.spawn().unwrap())
    }

    /// Waits for a child to exit, and kills it after a time limit.
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

    /// Returns the message on standard error, which must be a single line.
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

    /// Returns the JSON objects on standard output, one per line.
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
            #[cfg(unix)]
            signal: std::os::unix::process::ExitStatusExt::signal(&output.status),
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

/// Returns `didit sandbox` with the caller's PATH.
pub fn in_sandbox(options: &[&str], command: &[&str]) -> Command {
    let mut sandbox = didit(&[&["sandbox"], options, &["--"], command].concat());
    sandbox.env("PATH", env::var_os("PATH").unwrap());
    sandbox
}

/// A running `didit sandbox`, which stops when it is dropped.
pub struct Sandbox {
    pub url: String,
    process: Child,
}

/// A command that prints the sandbox's URL, and runs until its standard input ends.
const WAIT: [&str; 3] = if cfg!(windows) {
    ["cmd", "/c", "echo %DIDIT_BASE_URL%& more"]
} else {
    ["sh", "-c", "echo $DIDIT_BASE_URL; exec cat"]
};

impl Drop for Sandbox {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

impl Sandbox {
    pub fn on_port(port: &str) -> Sandbox {
        Sandbox::start(&["--port", port])
    }

    pub fn start(args: &[&str]) -> Sandbox {
        let mut command = didit(&[&["sandbox"], args, &["--"], &WAIT].concat());
        command.env("PATH", env::var_os("PATH").unwrap());
        let mut process = command.stdin(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut url = String::new();
        let mut lines = BufReader::new(process.stdout.take().unwrap());
        lines.read_line(&mut url).unwrap();
        let url = url.trim_end().to_owned();
        assert!(url.starts_with("http://127.0.0.1:"), "{url:?}");
        Sandbox { url, process }
    }

    /// Returns a port for two sandboxes, one after the other. The system gives ports from 32768 on to other tests.
    pub fn fixed_port() -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let port = || 20_000 + (std::process::id() + NEXT.fetch_add(1, SeqCst)) % 12_000;
        let is_free = |port: &u32| TcpListener::bind(format!("127.0.0.1:{port}")).is_ok();
        iter::repeat_with(port).find(is_free).unwrap().to_string()
    }

    pub fn port(&self) -> &str {
        self.url.rsplit(':').next().unwrap()
    }

    /// Returns the command with client credentials for the sandbox.
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

    /// Returns the command with an API key for the sandbox, which selects v3.
    pub fn with_key(&self, args: &[&str]) -> Command {
        let mut command = didit(args);
        command
            .env("DIDIT_BASE_URL", &self.url)
            .env("DIDIT_API_KEY", "key-hunter2");
        command
    }

    /// Returns the requests that the sandbox received, and its responses.
    pub fn log(&self) -> Vec<Value> {
        self.get("/__log")
    }

    /// Returns the updates in the log.
    pub fn updates(&self) -> Vec<Value> {
        let mut log = self.log();
        log.retain(|entry| entry["method"] == "PATCH");
        log
    }

    /// Returns the status of each session, and how many times each status was applied.
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
        let response = self.request("GET", path, "");
        let (_, body) = response.split_once("\r\n\r\n").unwrap();
        body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Sends a request directly. Returns the whole response, or an empty text.
    pub fn request(&self, method: &str, path: &str, body: &str) -> String {
        let length = body.len();
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nx-api-key: k\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        ))
    }

    /// Sends bytes. Returns everything that the sandbox sends before it closes the connection.
    pub fn raw(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.url.strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }
}
