//! What Didit answers, as far as docs/didit-api.md tells.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufReader};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::Options;
use super::http::{Answer, Request, read_request, write_answer};

pub struct Sandbox {
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

pub struct Session {
    status: String,
    /// How often each status was applied; confirming the one that it has is not counted.
    applied: BTreeMap<String, u32>,
    resubmitted: Option<Instant>,
}

impl Session {
    pub fn new(status: &str) -> Session {
        Session {
            status: status.into(),
            applied: BTreeMap::new(),
            resubmitted: None,
        }
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
    pub fn new(mut options: Options) -> Sandbox {
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

    pub fn serve(&self, stream: TcpStream) -> io::Result<()> {
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

    /// docs/didit-api.md §2.
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

    /// Counts the request, or refuses it with a 429 (docs/didit-api.md §7); the headers for the answer.
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

/// docs/didit-api.md §3, §4.
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
