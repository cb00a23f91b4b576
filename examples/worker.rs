//! A worker over a table of decisions, such as one that runs beside a web application.
//!
//!     cargo run -q -- sandbox --fail-rate 0.5 -- cargo run -q --example worker
//!
//! The table is in memory here. In a database, `save` is an `UPDATE` of the row. `StatusUpdate` implements `Serialize` and
//! `Deserialize`, so you can keep it in a JSON column.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use didit::{Client, Ensured, ErrorKind, NewStatus, SessionId, StatusUpdate, Verdict};

struct Decision {
    session: SessionId,
    update: StatusUpdate,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Not sent yet, or certainly not applied.
    Waiting,
    /// It may have been applied. Saved before the request is made, so that the worker finds it after a crash.
    Sending,
    Applied,
    /// Didit refused to update this session. A person has to decide what to do.
    Refused,
    /// It may have been applied, and the worker must not resend it. A person has to check the session.
    InDoubt,
}

impl Decision {
    fn new(session: &str, update: StatusUpdate) -> didit::Result<Decision> {
        Ok(Decision {
            session: session.parse()?,
            update,
            state: State::Waiting,
        })
    }

    fn is_open(&self) -> bool {
        matches!(self.state, State::Waiting | State::Sending)
    }

    /// Sends the decision once. Returns how long Didit asks to wait before the next request.
    ///
    /// # Errors
    /// Didit refused the credentials, so no other decision can be sent either.
    fn send(&mut self, client: &Client) -> didit::Result<Option<Duration>> {
        // A repeated Resubmitted would ask the person for the same steps once more.
        let repeatable = self.update.new_status() != NewStatus::Resubmitted;
        let was = self.state;
        if was == State::Sending && !repeatable {
            self.save(State::InDoubt, "");
            return Ok(None);
        }
        self.save(State::Sending, "");
        let result = match was {
            // A crash or an unknown result left it in doubt. Read the session first, and do not overwrite what someone else
            // has decided since.
            State::Sending => client.ensure_status_if(&self.session, &self.update, |status| !status.is_decided()),
            _ => client
                .update_status(&self.session, &self.update)
                .map(|_| Ensured::Updated),
        };
        let error = match result {
            Ok(Ensured::LeftAlone(status)) => {
                self.save(State::InDoubt, &format!("the session is {status} now"));
                return Ok(None);
            }
            Ok(_) => {
                self.save(State::Applied, "");
                return Ok(None);
            }
            Err(error) => error,
        };
        // Only Didit's own words decide about a session: a gateway's page may be gone in a minute.
        let is_about_session = match error.kind() {
            ErrorKind::InvalidInput => true,
            ErrorKind::NotFound | ErrorKind::Rejected => error.message().is_some(),
            _ => false,
        };
        // Check the verdict first, and only then the rest of the error.
        let state = match error.verdict() {
            Verdict::Unknown if repeatable => State::Sending,
            Verdict::Unknown => State::InDoubt,
            // Nothing about this decision is known to be wrong, so it keeps waiting.
            Verdict::NotApplied if error.is_retryable() || !is_about_session => was,
            // This attempt changed nothing, but the one before may have.
            Verdict::NotApplied if was == State::Sending => State::InDoubt,
            Verdict::NotApplied => State::Refused,
        };
        self.save(state, &error.to_string());
        match error.kind() {
            ErrorKind::Authentication => Err(error),
            _ => Ok(error.retry_after()),
        }
    }

    fn save(&mut self, state: State, why: &str) {
        self.state = state;
        println!("{} {state:?} {why}", self.session);
    }
}

fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> didit::Result<()> {
    let client = Client::from_env()?;
    let mut table = [
        Decision::new("4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10", StatusUpdate::approved())?,
        Decision::new(
            "0e2d1c0b-7f5a-4c58-8a6e-1b9f6f0a2d11",
            StatusUpdate::declined().comment("Duplicated user"),
        )?,
        Decision::new("unknown-0001", StatusUpdate::declined())?,
    ];
    // A real worker runs forever and sleeps longer.
    for _ in 0..10 {
        for decision in table.iter_mut().filter(|decision| decision.is_open()) {
            if let Some(wait) = decision.send(&client)? {
                thread::sleep(wait);
            }
        }
        if !table.iter().any(Decision::is_open) {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
