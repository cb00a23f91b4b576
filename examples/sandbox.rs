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

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, thread};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

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

struct Session {
    status: String,
    /// How often each status was applied; confirming the one that it has is not counted.
    applied: BTreeMap<String, u32>,
    resubmitted: Option<Instant>,
}

impl Session {
    fn new(status: &str) -> Session {
        Session {
            status: status.into(),
            applied: BTreeMap::new(),
            resubmitted: None,
        }
    }
}

struct Sandbox {
    options: Options,
    start: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sessions: HashMap<String, Session>,
    tokens: HashMap<String, Instant>,
    log: Vec<Value>,
    /// When the requests of the last window came: updates, reads.
    windows: [VecDeque<Instant>; 2],
    /// How often each thing was asked for: the faults are drawn from it, so that no race changes them.
    asked: HashMap<String, u64>,
}

struct Request {
    method: String,
    path: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

struct Answer {
    status: u16,
    body: String,
    headers: Vec<(&'static str, String)>,
}

impl Answer {
    fn json(status: u16, body: Value) -> Answer {
        Answer {
            status,
            body: body.to_string(),
            headers: Vec::new(),
        }
    }

    fn detail(status: u16, detail: &str) -> Answer {
        Answer::json(status, json!({ "detail": detail }))
    }
}

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    ClosedBefore,
    ErrorBefore,
    SlowBefore,
    ClosedAfter,
    ErrorAfter,
    SlowAfter,
    HalfAnswer,
}

const FAULTS: [Fault; 7] = [
    Fault::ClosedBefore,
    Fault::ErrorBefore,
    Fault::SlowBefore,
    Fault::ClosedAfter,
    Fault::ErrorAfter,
    Fault::SlowAfter,
    Fault::HalfAnswer,
];

impl Sandbox {
    fn new(mut options: Options) -> Sandbox {
        let known = options.sessions.as_mut().map(std::mem::take);
        Sandbox {
            options,
            start: Instant::now(),
            state: Mutex::new(State {
                sessions: known.unwrap_or_default(),
                ..State::default()
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        while let Some(request) = read_request(&mut reader)? {
            if let Some(lines) = self.tell(&request) {
                write_answer(&mut writer, 200, "application/x-ndjson", &[], &lines, lines.len())?;
                continue;
            }
            let arrived = self.start.elapsed();
            let fault = self.fault(&request);
            if fault == Some(Fault::SlowBefore) {
                thread::sleep(self.options.slow);
            }
            let mut answer = match fault {
                Some(Fault::ClosedBefore) => None,
                Some(Fault::ErrorBefore) => Some(gateway_error()),
                _ => Some(self.answer(&request)),
            };
            match fault {
                Some(Fault::SlowAfter) => thread::sleep(self.options.slow),
                Some(Fault::ErrorAfter) => answer = Some(gateway_error()),
                Some(Fault::ClosedAfter) => answer = None,
                _ => {}
            }
            self.log(&request, arrived, fault, answer.as_ref());
            let Some(answer) = answer else {
                return Ok(());
            };
            let half = fault == Some(Fault::HalfAnswer);
            let sent = if half { answer.body.len() / 2 } else { answer.body.len() };
            let kind = if answer.body.starts_with('{') {
                "application/json"
            } else {
                "text/html"
            };
            let sent = &answer.body[..sent];
            write_answer(
                &mut writer,
                answer.status,
                kind,
                &answer.headers,
                sent,
                answer.body.len(),
            )?;
            if half {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What a test wants to know, as NDJSON.
    fn tell(&self, request: &Request) -> Option<String> {
        let state = self.state();
        match request.path.as_str() {
            "/__log" => Some(state.log.iter().map(|entry| format!("{entry}\n")).collect()),
            "/__sessions" => {
                let line = |(id, session): (&String, &Session)| {
                    let line = json!({"session_id": id, "status": session.status, "applied": session.applied});
                    format!("{line}\n")
                };
                Some(state.sessions.iter().map(line).collect())
            }
            _ => None,
        }
    }

    fn log(&self, request: &Request, arrived: Duration, fault: Option<Fault>, answer: Option<&Answer>) {
        let mut entry = json!({
            "at": arrived.as_secs_f64(),
            "answered_at": self.start.elapsed().as_secs_f64(),
            "method": request.method,
            "path": request.path,
            "status": answer.map(|answer| answer.status),
        });
        if let Some(fault) = fault {
            entry["fault"] = format!("{fault:?}").into();
        }
        if let Ok(body @ Value::Object(_)) = serde_json::from_slice(&request.body) {
            entry["body"] = body;
        }
        self.state().log.push(entry);
    }

    fn fault(&self, request: &Request) -> Option<Fault> {
        let mut hasher = DefaultHasher::new();
        let thing = format!("{} {}", request.method, request.path);
        (self.options.seed, &thing).hash(&mut hasher);
        let count = {
            let mut state = self.state();
            let count = state.asked.entry(thing).or_default();
            *count += 1;
            *count
        };
        count.hash(&mut hasher);
        let mut random = fastrand::Rng::with_seed(hasher.finish());
        (random.f64() < self.options.fail_rate).then(|| FAULTS[random.usize(..FAULTS.len())])
    }

    fn answer(&self, request: &Request) -> Answer {
        if request.path == "/auth/v2/token/" {
            return self.token(request);
        }
        let segments: Vec<&str> = request.path.split('/').collect();
        let (version, id, action) = match segments[..] {
            ["", version @ ("v1" | "v2" | "v3"), "session", id, action, ""] => (version, id, action),
            _ => return Answer::detail(404, "Not found."),
        };
        if let Err(refusal) = self.authorize(request) {
            return refusal;
        }
        let update = match (request.method.as_str(), action) {
            ("PATCH", "update-status") => true,
            ("GET", "decision") => false,
            _ => return Answer::detail(405, &format!("Method \"{}\" not allowed.", request.method)),
        };
        let mut state = self.state();
        let limits = match self.admit(&mut state, update) {
            Ok(limits) => limits,
            Err(refusal) => return refusal,
        };
        let key = id.to_ascii_lowercase();
        if self.options.sessions.is_none() && !key.starts_with("unknown-") {
            let status = if key.starts_with("unfinished-") {
                "In Progress"
            } else {
                "In Review"
            };
            state
                .sessions
                .entry(key.clone())
                .or_insert_with(|| Session::new(status));
        }
        let mut answer = match state.sessions.get_mut(&key) {
            _ if key.starts_with("forbidden-") => {
                Answer::detail(403, "You do not have permission to perform this action.")
            }
            None => Answer::detail(404, "Session not found."),
            Some(session) if update => apply(session, id, version, &request.body),
            Some(session) => Answer::json(
                200,
                json!({"session_id": id, "status": session.status, "features": ["OCR"]}),
            ),
        };
        answer.headers.extend(limits);
        answer
    }

    /// didit-api.md §2.
    fn token(&self, request: &Request) -> Answer {
        let refused = || Answer::json(401, json!({"error": "invalid_client"}));
        let basic = request
            .headers
            .get("authorization")
            .and_then(|value| value.strip_prefix("Basic "));
        let decoded = basic.and_then(|basic| BASE64_STANDARD.decode(basic).ok());
        let Some(client) = decoded.and_then(|bytes| String::from_utf8(bytes).ok()) else {
            return refused();
        };
        let accepted = match &self.options.client {
            Some(only) => client == *only,
            None => !client.ends_with(":wrong"),
        };
        if request.method != "POST" || !accepted {
            return refused();
        }
        if request.body != b"grant_type=client_credentials" {
            return Answer::json(400, json!({"error": "unsupported_grant_type"}));
        }
        let mut state = self.state();
        let token = format!("sandbox-token-{}", state.tokens.len() + 1);
        let end = Instant::now() + Duration::try_from_secs_f64(self.options.token_ttl).unwrap_or_default();
        state.tokens.insert(token.clone(), end);
        Answer::json(
            200,
            json!({"access_token": token, "expires_in": self.options.token_ttl}),
        )
    }

    fn authorize(&self, request: &Request) -> Result<(), Answer> {
        let header = |name: &str| request.headers.get(name).map(String::as_str);
        if let Some(key) = header("x-api-key") {
            let accepted = match &self.options.api_key {
                Some(only) => key == only,
                None => key != "wrong",
            };
            return accepted
                .then_some(())
                .ok_or_else(|| Answer::detail(401, "Invalid API key."));
        }
        let Some(token) = header("authorization").and_then(|value| value.strip_prefix("Bearer ")) else {
            return Err(Answer::detail(403, "Authentication credentials were not provided."));
        };
        match self.state().tokens.get(token) {
            Some(end) if Instant::now() < *end => Ok(()),
            _ => Err(Answer::detail(401, "Given token not valid for any token type")),
        }
    }

    /// Counts the request, or refuses it with a 429 (didit-api.md §7); the headers for the answer.
    fn admit(&self, state: &mut State, update: bool) -> Result<Vec<(&'static str, String)>, Answer> {
        let Some(limit) = self.options.rate_limit else {
            return Ok(Vec::new());
        };
        let limit = if update { limit } else { limit * 2 };
        let (now, length) = (Instant::now(), self.options.rate_window);
        let window = &mut state.windows[usize::from(!update)];
        while window.front().is_some_and(|first| now - *first >= length) {
            window.pop_front();
        }
        let admitted = window.len() < limit;
        if admitted {
            window.push_back(now);
        }
        let wait = window
            .front()
            .map_or(length, |first| length.saturating_sub(now - *first));
        let reset = SystemTime::now() + wait;
        let reset = reset.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut headers = vec![
            ("X-RateLimit-Limit", limit.to_string()),
            ("X-RateLimit-Remaining", limit.saturating_sub(window.len()).to_string()),
            ("X-RateLimit-Reset", reset.as_secs_f64().ceil().to_string()),
        ];
        if admitted {
            return Ok(headers);
        }
        headers.push(("Retry-After", wait.as_secs_f64().ceil().to_string()));
        let mut refusal = Answer::detail(429, "Request was throttled.");
        refusal.headers = headers;
        Err(refusal)
    }
}

/// didit-api.md §3, §4.
fn apply(session: &mut Session, id: &str, version: &str, body: &[u8]) -> Answer {
    let Ok(body @ Value::Object(_)) = serde_json::from_slice(body) else {
        return Answer::detail(400, "JSON parse error");
    };
    let Some(new) = body["new_status"].as_str() else {
        return Answer::json(400, json!({"new_status": ["This field is required."]}));
    };
    let resubmitted = version == "v3" && new == "Resubmitted";
    if !resubmitted && !matches!(new, "Approved" | "Declined") {
        let problem = format!("\"{new}\" is not a valid choice.");
        return Answer::json(400, json!({"new_status": [problem]}));
    }
    if body["send_email"] == true && body["email_address"].as_str().is_none_or(str::is_empty) {
        return Answer::json(
            400,
            json!({"email_address": ["This field is required when send_email is true."]}),
        );
    }
    let changeable = [
        "Approved",
        "Declined",
        "In Review",
        "Kyc Expired",
        "Abandoned",
        "Resubmitted",
    ];
    if !changeable.contains(&session.status.as_str()) {
        let problem = format!("A session that is {} cannot be updated.", session.status);
        return Answer::detail(400, &problem);
    }
    if resubmitted && session.status == "Resubmitted" {
        let automatic = body["nodes_to_resubmit"].as_array().is_none_or(Vec::is_empty);
        let since = session.resubmitted.map_or(Duration::MAX, |at| at.elapsed());
        let wait = Duration::from_secs(30).saturating_sub(since);
        if automatic && !wait.is_zero() {
            let mut refusal = Answer::detail(429, "The session was resubmitted a moment ago.");
            refusal
                .headers
                .push(("Retry-After", wait.as_secs_f64().ceil().to_string()));
            return refusal;
        }
        return Answer::detail(400, "The new status is the same as the current status.");
    }
    if session.status != new {
        session.status = new.into();
        *session.applied.entry(new.into()).or_default() += 1;
        session.resubmitted = resubmitted.then(Instant::now);
    }
    Answer::json(200, json!({ "session_id": id }))
}

fn gateway_error() -> Answer {
    Answer {
        status: 502,
        body: "<html><h1>502 Bad Gateway</h1></html>".into(),
        headers: Vec::new(),
    }
}

/// `None` where the client closed the connection between two requests.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let (method, path) = (method.to_owned(), path.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    Ok(Some(Request {
        method,
        path,
        headers,
        body,
    }))
}

/// `length` is promised; `body` may be less of it.
fn write_answer(
    writer: &mut impl Write,
    status: u16,
    kind: &str,
    headers: &[(&'static str, String)],
    body: &str,
    length: usize,
) -> io::Result<()> {
    let mut text = format!("HTTP/1.1 {status} _\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    text += body;
    writer.write_all(text.as_bytes())
}
