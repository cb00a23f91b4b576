//! A stand-in for both of Didit's hosts, to try the library and the command on without an account.
//!
//!     cargo run -q --example sandbox -- -- bash
//!
//! starts a shell whose `DIDIT_*` variables point at the sandbox. It ends with that shell. Any command will do, and
//! options go before the second `--`: `-- --fail-rate 0.1 -- didit batch decisions.csv`. Without a command, the sandbox
//! prints the variables and runs until it is stopped:
//!
//!     cargo run -q --example sandbox -- --port 8700
//!
//! Every session id is accepted and starts In Review. Ids that start with `unknown-` do not exist, those that start with
//! `unfinished-` are In Progress, which no decision may change, and those that start with `forbidden-` may not be
//! changed. All credentials are accepted but the secret or key `wrong`. `GET /__log` shows what was received and
//! `GET /__sessions` what became of each session, one JSON object a line.

mod http;
mod service;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs, thread};

use service::{Sandbox, Session};

const USAGE: &str = "\
usage: sandbox [OPTION]... [-- COMMAND [ARG]...]

Runs COMMAND with variables that point it at the sandbox, and ends with it and with its exit status. Without a COMMAND,
prints the variables and runs until it is stopped.

  --port N               where to listen on 127.0.0.1 (default: a free port)
  --token-ttl SECONDS    the life of a token (default 86400)
  --rate-limit N         updates admitted in a window, and twice as many reads (default: no limit)
  --rate-window SECONDS  the length of the window (default 60)
  --fail-rate F          the share of requests, 0 to 1, that something goes wrong with: a connection closed before or
                         after the update was applied, a 5xx before or after, a slow answer, half an answer
  --seed N               which requests those are (default 0)
  --slow SECONDS         how long a slow answer takes (default 0.5)
  --sessions FILE        the sessions that exist, a line each: SESSION_ID,STATUS
  --client ID:SECRET     the only client credentials that are accepted
  --api-key KEY          the only API key that is accepted; the variables have it in place of client credentials";

pub struct Options {
    port: u16,
    token_ttl: f64,
    rate_limit: Option<usize>,
    rate_window: Duration,
    fail_rate: f64,
    seed: u64,
    slow: Duration,
    sessions: Option<HashMap<String, Session>>,
    client: Option<String>,
    api_key: Option<String>,
}

impl Options {
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        fn number<T: std::str::FromStr>(name: &str, value: String) -> Result<T, String> {
            value.parse().map_err(|_| format!("{name}: not a number it can use"))
        }
        fn seconds(name: &str, value: String) -> Result<Duration, String> {
            Duration::try_from_secs_f64(number(name, value)?).map_err(|_| format!("{name}: not a number of seconds"))
        }
        let mut options = Options {
            port: 0,
            token_ttl: 86_400.0,
            rate_limit: None,
            rate_window: Duration::from_secs(60),
            fail_rate: 0.0,
            seed: 0,
            slow: Duration::from_millis(500),
            sessions: None,
            client: None,
            api_key: None,
        };
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{name}: a value is missing"));
            match name.as_str() {
                "--port" => options.port = number(&name, value()?)?,
                "--token-ttl" => options.token_ttl = number(&name, value()?)?,
                "--rate-limit" => options.rate_limit = Some(number(&name, value()?)?),
                "--rate-window" => options.rate_window = seconds(&name, value()?)?,
                "--fail-rate" => options.fail_rate = number(&name, value()?)?,
                "--seed" => options.seed = number(&name, value()?)?,
                "--slow" => options.slow = seconds(&name, value()?)?,
                "--sessions" => options.sessions = Some(sessions(&value()?)?),
                "--client" => options.client = Some(value()?),
                "--api-key" => options.api_key = Some(value()?),
                _ => return Err(format!("{name}: no such option\n{USAGE}")),
            }
        }
        Ok(options)
    }

    /// The variables with credentials that are accepted.
    pub fn credentials(&self) -> Variables {
        match (&self.client, &self.api_key) {
            (None, Some(key)) => vec![("DIDIT_API_KEY", key.clone())],
            (client, _) => {
                let client = client.as_deref().unwrap_or("sandbox:sandbox-secret");
                let (id, secret) = client.split_once(':').unwrap_or((client, ""));
                vec![("DIDIT_CLIENT_ID", id.into()), ("DIDIT_CLIENT_SECRET", secret.into())]
            }
        }
    }
}

fn sessions(path: &str) -> Result<HashMap<String, Session>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("--sessions: {path}: {error}"))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let session = |line: &str| {
        let (id, status) = line
            .split_once(',')
            .ok_or_else(|| format!("--sessions: no comma in {line:?}"))?;
        Ok((id.trim().to_ascii_lowercase(), Session::new(status.trim())))
    };
    lines.map(session).collect()
}

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let options: Vec<String> = args.by_ref().take_while(|arg| arg != "--").collect();
    let command: Vec<String> = args.collect();
    if options.iter().any(|option| option == "--help") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let (problem, code) = match Options::parse(options.into_iter()) {
        Ok(options) => match run(options, &command) {
            Ok(code) => return code.into(),
            Err(error) => (error.to_string(), 1),
        },
        Err(problem) => (problem, 2),
    };
    eprintln!("sandbox: {problem}");
    code.into()
}

fn run(options: Options, command: &[String]) -> io::Result<u8> {
    let credentials = options.credentials();
    let variables = variables(serve(options)?, credentials);
    let Some((program, args)) = command.split_first() else {
        for line in variables.chunks(2) {
            let line: Vec<_> = line.iter().map(|(name, value)| format!("{name}={value}")).collect();
            println!("export {}", line.join(" "));
        }
        loop {
            thread::park();
        }
    };
    match inside(&variables, program).args(args).status() {
        Ok(status) => Ok(exit_status(status)),
        Err(error) => Err(io::Error::new(error.kind(), format!("{program}: {error}"))),
    }
}

type Variables = Vec<(&'static str, String)>;

/// What points a client at the sandbox.
pub fn variables(address: SocketAddr, credentials: Variables) -> Variables {
    let url = format!("http://{address}");
    let urls = [("DIDIT_BASE_URL", url.clone()), ("DIDIT_AUTH_URL", url)];
    urls.into_iter().chain(credentials).collect()
}

/// A command with these variables. None of the caller's stays: real credentials have no place here, and a proxy would
/// be in the way.
pub fn inside(variables: &Variables, program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let upper = name.to_string_lossy().to_ascii_uppercase();
        if upper.starts_with("DIDIT_") || upper.ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command
}

/// As a shell has it: 128 and the signal, for a command that a signal ended.
pub fn exit_status(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| 128 + signal);
    #[cfg(not(unix))]
    let signal = None;
    let code = status.code().or(signal).and_then(|code| u8::try_from(code).ok());
    code.unwrap_or(1)
}

/// Listens, and answers until the process ends.
pub fn serve(options: Options) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", options.port))?;
    let address = listener.local_addr()?;
    let sandbox = Arc::new(Sandbox::new(options));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let sandbox = sandbox.clone();
            // A connection that breaks is the client's business.
            thread::spawn(move || stream.and_then(|stream| sandbox.serve(stream)));
        }
    });
    Ok(address)
}
