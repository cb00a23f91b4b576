//! Answers requests like Didit, as described in docs/didit-api.md.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use std::{mem, thread};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use fnv::FnvHasher;
use serde_json::{Value, json};

use super::http::{Delivery, Request, Response};
use crate::args::sandbox::RateLimit;

/// How long the sandbox takes to answer for `slow-…`.
const SLOW: Duration = Duration::from_secs(5);
/// How long `readonly-…` refuses updates.
const READ_ONLY: Duration = Duration::from_secs(10);

pub struct Service {
    fail_rate: f64,
    rate_limit: Option<RateLimit>,
    start: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sessions: BTreeMap<String, Session>,
    tokens: Vec<String>,
    log: Vec<Value>,
    /// When the requests of the current window arrived: updates, reads.
    windows: [Vec<Instant>; 2],
    /// How many times each method and path was requested. It selects the faults, so that races cannot change them.
    requested: BTreeMap<String, u64>,
}

struct Session {
    status: String,
    /// How many times each status was applied, not counting updates to the current status.
    applied: BTreeMap<String, u64>,
    resubmitted: Option<Instant>,
    first_request: Instant,
    throttled: bool,
}

/// How a request fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    ClosedBefore,
    ErrorBefore,
    ClosedAfter,
    ErrorAfter,
    HalfResponse,
    SlowResponse,
}

/// The faults that `--fail-rate` causes.
const FAULTS: [Fault; 5] = [
    Fault::ClosedBefore,
    Fault::ErrorBefore,
    Fault::ClosedAfter,
    Fault::ErrorAfter,
    Fault::HalfResponse,
];

/// Returns the version, the session and the action in the path of a request for a session.
fn session_of(path: &str) -> Option<(&str, &str, &str)> {
    match path.split('/').collect::<Vec<_>>()[..] {
        ["", version @ ("v1" | "v2" | "v3"), "session", id, action, ""] => Some((version, id, action)),
        _ => None,
    }
}

/// Returns the prefix of a session id that selects its behaviour, such as `unknown` for `unknown-1`.
fn prefix(id: &str) -> &str {
    id.split_once('-').map_or("", |(prefix, _)| prefix)
}

/// Returns whether a request asks about the sandbox itself. Any other request is for Didit.
pub fn is_about_the_sandbox(request: &Request) -> bool {
    request.path.starts_with("/__")
}

impl Service {
    pub fn new(fail_rate: f64, rate_limit: Option<RateLimit>) -> Service {
        Service {
            fail_rate,
            rate_limit,
            start: Instant::now(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn respond(&self, request: &Request) -> Delivery {
        if is_about_the_sandbox(request) {
            return Delivery::Whole(self.report(request));
        }
        let arrived = self.start.elapsed();
        let fault = self.fault(request);
        let response = match fault {
            Some(Fault::ClosedBefore | Fault::ErrorBefore) => gateway_error(),
            _ => self.answer(request),
        };
        let delivery = match fault {
            Some(Fault::ClosedBefore | Fault::ClosedAfter) => Delivery::Nothing,
            Some(Fault::ErrorBefore | Fault::ErrorAfter) => Delivery::Whole(gateway_error()),
            Some(Fault::HalfResponse) => Delivery::Half(response),
            Some(Fault::SlowResponse) => {
                thread::sleep(SLOW);
                Delivery::Whole(response)
            }
            None => Delivery::Whole(response),
        };
        self.log(request, arrived, fault, &delivery);
        delivery
    }

    /// Returns the log or the sessions for a test, as NDJSON.
    fn report(&self, request: &Request) -> Response {
        let state = self.state();
        let lines: String = match request.path.as_str() {
            "/__log" => state.log.iter().map(|entry| format!("{entry}\n")).collect(),
            "/__sessions" => {
                let line = |(id, session): (&String, &Session)| {
                    let line = json!({"session_id": id, "status": session.status, "applied": session.applied});
                    format!("{line}\n")
                };
                state.sessions.iter().map(line).collect()
            }
            _ => return Response::detail(404, "Not found."),
        };
        Response::new(200, "application/x-ndjson", lines)
    }

    fn log(&self, request: &Request, arrived: Duration, fault: Option<Fault>, delivery: &Delivery) {
        let status = match delivery {
            Delivery::Whole(response) | Delivery::Half(response) => Some(response.status),
            Delivery::Nothing => None,
        };
        let mut entry = json!({
            "at": arrived.as_secs_f64(),
            "method": request.method,
            "path": request.path,
            "status": status,
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
        let id = session_of(&request.path).map_or("", |(_, id, _)| id);
        match prefix(id) {
            "slow" => return Some(Fault::SlowResponse),
            "lost" if request.method == "PATCH" => return Some(Fault::ClosedAfter),
            _ => {}
        }
        let target = format!("{} {}", request.method, request.path);
        // The seed is the same in every sandbox, so that a run can be repeated.
        let mut hasher = FnvHasher::default();
        hasher.write(target.as_bytes());
        let count = {
            let mut state = self.state();
            let count = state.requested.entry(target).or_default();
            *count += 1;
            *count
        };
        hasher.write_u64(count);
        let mut random = fastrand::Rng::with_seed(hasher.finish());
        (random.f64() < self.fail_rate).then(|| FAULTS[random.usize(..FAULTS.len())])
    }

    fn answer(&self, request: &Request) -> Response {
        if request.path == "/auth/v2/token/" {
            return self.token(request);
        }
        let Some((version, id, action)) = session_of(&request.path) else {
            return Response::detail(404, "Not found.");
        };
        if let Err(refusal) = self.authorize(request) {
            return refusal;
        }
        let update = match (request.method.as_str(), action) {
            ("PATCH", "update-status") => true,
            ("GET", "decision") => false,
            _ => return Response::detail(405, &format!("Method \"{}\" not allowed.", request.method)),
        };
        let mut state = self.state();
        let limits = match self.admit(&mut state, update) {
            Ok(limits) => limits,
            Err(refusal) => return refusal,
        };
        let mut response = match prefix(id) {
            "unknown" => Response::detail(404, "Session not found."),
            "forbidden" => Response::detail(403, "You do not have permission to perform this action."),
            prefix => {
                let session = state.sessions.entry(id.to_ascii_lowercase());
                let session = session.or_insert_with(|| Session::new(prefix));
                session.answer(update, id, version, &request.body)
            }
        };
        response.headers.extend(limits);
        response
    }

    /// Answers a token request (docs/didit-api.md §2).
    fn token(&self, request: &Request) -> Response {
        let basic = request
            .header("authorization")
            .and_then(|value| value.strip_prefix("Basic "));
        let client = basic.and_then(|basic| BASE64_STANDARD.decode(basic).ok());
        if request.method != "POST" || client.is_none_or(|client| client.ends_with(b":wrong")) {
            return Response::json(401, &json!({"error": "invalid_client"}));
        }
        if request.body != b"grant_type=client_credentials" {
            return Response::json(400, &json!({"error": "unsupported_grant_type"}));
        }
        let mut state = self.state();
        let token = format!("sandbox-token-{}", state.tokens.len() + 1);
        state.tokens.push(token.clone());
        Response::json(200, &json!({"access_token": token, "expires_in": 86_400}))
    }

    fn authorize(&self, request: &Request) -> Result<(), Response> {
        if let Some(key) = request.header("x-api-key") {
            return match key {
                "wrong" => Err(Response::detail(401, "Invalid API key.")),
                _ => Ok(()),
            };
        }
        let token = request
            .header("authorization")
            .and_then(|value| value.strip_prefix("Bearer "));
        match token {
            Some(token) if self.state().tokens.iter().any(|own| own == token) => Ok(()),
            Some(_) => Err(Response::detail(401, "Given token not valid for any token type")),
            None => Err(Response::detail(403, "Authentication credentials were not provided.")),
        }
    }

    /// Counts a request and returns the rate-limit headers for its response, or refuses it with a 429 (docs/didit-api.md §7).
    fn admit(&self, state: &mut State, update: bool) -> Result<Vec<(&'static str, String)>, Response> {
        let Some(limit) = self.rate_limit else {
            return Ok(Vec::new());
        };
        let (now, length) = (Instant::now(), limit.window);
        let limit = if update {
            limit.updates
        } else {
            limit.updates.saturating_mul(2)
        };
        let window = &mut state.windows[usize::from(!update)];
        window.retain(|at| now - *at < length);
        let admitted = window.len() < limit;
        if admitted {
            window.push(now);
        }
        let wait = window
            .first()
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
        let mut refusal = throttled("Request was throttled.", wait);
        refusal.headers.append(&mut headers);
        Err(refusal)
    }
}

impl Session {
    fn new(prefix: &str) -> Session {
        let (unfinished, throttled) = (prefix == "unfinished", prefix == "throttled");
        Session {
            status: if unfinished { "In Progress" } else { "In Review" }.into(),
            applied: BTreeMap::new(),
            resubmitted: None,
            first_request: Instant::now(),
            throttled,
        }
    }

    fn answer(&mut self, update: bool, id: &str, version: &str, body: &[u8]) -> Response {
        if mem::take(&mut self.throttled) {
            return throttled("Request was throttled.", Duration::from_secs(1));
        }
        if !update {
            return Response::json(
                200,
                &json!({"session_id": id, "status": self.status, "features": ["OCR"]}),
            );
        }
        if prefix(id) == "readonly" && self.first_request.elapsed() < READ_ONLY {
            return Response::detail(503, "Sessions are read-only at the moment.");
        }
        self.update(id, version, body)
    }

    /// Applies an update, or refuses it (docs/didit-api.md §3, §4).
    fn update(&mut self, id: &str, version: &str, body: &[u8]) -> Response {
        let Ok(body @ Value::Object(_)) = serde_json::from_slice(body) else {
            return Response::detail(400, "JSON parse error");
        };
        let Some(new) = body["new_status"].as_str() else {
            return Response::json(400, &json!({"new_status": ["This field is required."]}));
        };
        let resubmitted = version == "v3" && new == "Resubmitted";
        if !resubmitted && !matches!(new, "Approved" | "Declined") {
            let problem = format!("\"{new}\" is not a valid choice.");
            return Response::json(400, &json!({"new_status": [problem]}));
        }
        if body["send_email"] == true && body["email_address"].as_str().is_none_or(str::is_empty) {
            return Response::json(
                400,
                &json!({"email_address": ["This field is required when send_email is true."]}),
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
        if !changeable.contains(&self.status.as_str()) {
            let problem = format!("A session that is {} cannot be updated.", self.status);
            return Response::detail(400, &problem);
        }
        if resubmitted && self.status == "Resubmitted" {
            let automatic = body["nodes_to_resubmit"].as_array().is_none_or(Vec::is_empty);
            let since = self.resubmitted.map_or(Duration::MAX, |at| at.elapsed());
            let wait = Duration::from_secs(30).saturating_sub(since);
            if automatic && !wait.is_zero() {
                return throttled("The session was resubmitted a moment ago.", wait);
            }
            return Response::detail(400, "The new status is the same as the current status.");
        }
        if self.status != new {
            self.status = new.into();
            *self.applied.entry(new.into()).or_default() += 1;
            self.resubmitted = resubmitted.then(Instant::now);
        }
        Response::json(200, &json!({ "session_id": id }))
    }
}

/// Returns a 429 (docs/didit-api.md §7).
fn throttled(detail: &str, wait: Duration) -> Response {
    let mut refusal = Response::detail(429, detail);
    refusal
        .headers
        .push(("Retry-After", wait.as_secs_f64().ceil().to_string()));
    refusal
}

fn gateway_error() -> Response {
    Response::new(502, "text/html", "<html><h1>502 Bad Gateway</h1></html>".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_only_phase_and_the_wait_after_a_resubmission_expire() {
        let ago = |duration| Instant::now().checked_sub(duration).unwrap();
        let mut session = Session::new("readonly");
        let approve = |session: &mut Session| {
            session
                .answer(true, "readonly-1", "v3", br#"{"new_status":"Approved"}"#)
                .status
        };
        assert_eq!(approve(&mut session), 503);
        assert_eq!(session.answer(false, "readonly-1", "v3", b"").status, 200);
        session.first_request = ago(READ_ONLY);
        assert_eq!(approve(&mut session), 200);

        let mut session = Session::new("");
        let resubmit = |session: &mut Session| {
            session
                .answer(true, "abc", "v3", br#"{"new_status":"Resubmitted"}"#)
                .status
        };
        assert_eq!([resubmit(&mut session), resubmit(&mut session)], [200, 429]);
        session.resubmitted = Some(ago(Duration::from_secs(30)));
        assert_eq!(resubmit(&mut session), 400);
    }
}
