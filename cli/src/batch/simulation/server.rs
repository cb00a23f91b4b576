//! Didit and the network in a simulated day. The server knows what it applied.

use std::time::Duration;

use didit::SessionStatus;
use fastrand::Rng;

use super::SECOND;
use crate::batch::rules::{Outcome, RequestKind};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Status {
    InReview,
    Approved,
    Declined,
    Resubmitted,
    /// The person is using the session, so Didit refuses every update.
    InProgress,
}

use Status::{Approved, Declined, InProgress, InReview, Resubmitted};

impl Status {
    pub fn is_decided(self) -> bool {
        matches!(self, Approved | Declined | Resubmitted)
    }

    pub fn to_didit(self) -> SessionStatus {
        match self {
            InReview => SessionStatus::InReview,
            Approved => SessionStatus::Approved,
            Declined => SessionStatus::Declined,
            Resubmitted => SessionStatus::Resubmitted,
            InProgress => SessionStatus::InProgress,
        }
    }
}

/// A fault of a row's session that lasts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    None,
    Missing,
    Forbidden,
    /// Every update of the session fails.
    Poison,
    /// The session cannot be read.
    Unreadable,
}

pub struct Session {
    pub wanted: Status,
    pub fault: Fault,
    pub status: Status,
    /// Whether the session has ever had the wanted status.
    pub had_wanted: bool,
    /// How many updates were applied or may still be applied. The client cannot know this number.
    pub possibly_applied: u32,
}

/// The state of the network and the server for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Network {
    Good,
    /// Some requests fail, in various ways.
    Flaky,
    /// Updates fail during read-only maintenance.
    UpdatesFail,
    ReadsFail,
    /// The server cannot be reached.
    Down,
    /// Every response is a maintenance page, with status 200 or 404.
    Page,
    /// Every response is 429, with or without a requested pause.
    Limited(Option<u32>),
    /// Didit refuses the token of every second request.
    TokensRevoked,
    /// Didit refuses the credentials.
    Unauthorized,
    /// The TLS handshake is refused.
    Handshake,
}

impl Network {
    pub fn any(random: &mut Rng) -> Network {
        match random.u8(..28) {
            0..=8 => Network::Good,
            9..=15 => Network::Flaky,
            16..=17 => Network::UpdatesFail,
            18..=19 => Network::ReadsFail,
            20..=21 => Network::Down,
            22 => Network::Page,
            23..=24 => Network::Limited(random.bool().then(|| random.u32(1..90))),
            25 => Network::TokensRevoked,
            26 => Network::Unauthorized,
            _ => Network::Handshake,
        }
    }
}

#[derive(Debug)]
pub enum Response {
    Found(Status),
    /// How the request ended, and the pause that the server asks for.
    Outcome(Outcome, Option<Duration>),
}

pub struct Server {
    pub sessions: Vec<Session>,
    pub network: Network,
}

impl Server {
    pub fn new(random: &mut Rng) -> Server {
        // On some days, the first rows have no permission or cannot be read.
        let head = if random.u8(..8) == 0 { random.usize(..24) } else { 0 };
        let bad = [Fault::Forbidden, Fault::Unreadable][random.usize(..2)];
        let rows = head + random.usize(1..10);
        let session = |row| {
            let wanted = [Approved, Declined, Resubmitted][random.usize(..3)];
            let fault = match random.u8(..20) {
                _ if row < head => bad,
                0 => Fault::Missing,
                1 => Fault::Forbidden,
                2 => Fault::Poison,
                3 => Fault::Unreadable,
                _ => Fault::None,
            };
            let status = [InReview, InReview, Approved, Declined, InProgress][random.usize(..5)];
            Session {
                wanted,
                fault,
                status,
                had_wanted: status == wanted,
                possibly_applied: 0,
            }
        };
        Server {
            sessions: (0..rows).map(session).collect(),
            network: Network::Good,
        }
    }

    pub fn any_decision(&self, random: &mut Rng) -> (usize, Status) {
        let row = random.usize(..self.sessions.len());
        (
            row,
            [Approved, Declined, Resubmitted, InReview, InProgress][random.usize(..5)],
        )
    }

    pub fn decide(&mut self, row: usize, status: Status) {
        let session = &mut self.sessions[row];
        session.status = status;
        session.had_wanted |= status == session.wanted;
    }

    pub fn cure_poison(&mut self) {
        for session in &mut self.sessions {
            if session.fault == Fault::Poison {
                session.fault = Fault::None;
            }
        }
    }

    /// Applies an update that was counted when it was sent.
    pub fn apply_late(&mut self, row: usize) {
        self.sessions[row].possibly_applied -= 1;
        self.apply(row);
    }

    /// Applies an update, or refuses it.
    fn apply(&mut self, row: usize) -> Outcome {
        let session = &mut self.sessions[row];
        match session.fault {
            Fault::Missing => return Outcome::SessionRefused,
            Fault::Forbidden => return Outcome::NotPermitted,
            _ => {}
        }
        if session.status == InProgress || session.wanted == Resubmitted && session.status == Resubmitted {
            return Outcome::SessionRefused;
        }
        session.possibly_applied += 1;
        session.status = session.wanted;
        session.had_wanted = true;
        Outcome::Confirmed
    }

    /// Returns the response to a request, when it arrives, and when the update is applied if that is later.
    pub fn respond(
        &mut self,
        row: usize,
        request: RequestKind,
        random: &mut Rng,
    ) -> (Duration, Response, Option<Duration>) {
        let soon = Duration::from_millis(random.u64(1..=300));
        let end = |outcome, asked| (soon, Response::Outcome(outcome, asked), None);
        let is_update = request == RequestKind::Update;
        // A read changes nothing, so it is never unclear.
        let unclear = if is_update {
            Outcome::Unclear
        } else {
            Outcome::NotApplied
        };
        match self.network {
            Network::Down => return end(Outcome::NotApplied, None),
            Network::Handshake => return end(Outcome::ConnectionRefused, None),
            Network::Unauthorized => return end(Outcome::CredentialsRefused, None),
            Network::TokensRevoked if random.bool() => return end(Outcome::CredentialsRefused, None),
            Network::Page => return end(if random.bool() { unclear } else { Outcome::NotApplied }, None),
            Network::Limited(pause) => return end(Outcome::RateLimited, pause.map(|seconds| SECOND * seconds)),
            Network::UpdatesFail if is_update => return end(Outcome::Unclear, None),
            Network::ReadsFail if !is_update => return end(Outcome::NotApplied, None),
            Network::Flaky if random.u8(..3) == 0 => {
                return match is_update {
                    true => self.lose(row, soon, random),
                    false => end(Outcome::NotApplied, None),
                };
            }
            _ => {}
        }
        match (request, self.sessions[row].fault) {
            (RequestKind::Update, Fault::Poison) => end(Outcome::Unclear, None),
            (RequestKind::Update, _) => end(self.apply(row), None),
            (RequestKind::Read, Fault::Missing) => end(Outcome::SessionRefused, None),
            (RequestKind::Read, Fault::Forbidden) => end(Outcome::NotPermitted, None),
            (RequestKind::Read, Fault::Unreadable) => end(Outcome::NotApplied, None),
            (RequestKind::Read, _) => (soon, Response::Found(self.sessions[row].status), None),
        }
    }

    /// Loses an update or its response.
    fn lose(&mut self, row: usize, soon: Duration, random: &mut Rng) -> (Duration, Response, Option<Duration>) {
        let unclear = Response::Outcome(Outcome::Unclear, None);
        match random.u8(..5) {
            // The request never arrives.
            0 => (SECOND * 30, unclear, None),
            // The request arrives later, perhaps much later.
            1 => {
                self.sessions[row].possibly_applied += 1;
                let most = [1_000, 40_000, 3_600_000][random.usize(..3)];
                (SECOND * 5, unclear, Some(Duration::from_millis(random.u64(1..=most))))
            }
            // The update is applied, and the response is lost.
            2 if self.sessions[row].fault != Fault::Poison => {
                self.apply(row);
                (soon, unclear, None)
            }
            3 => (soon, Response::Outcome(Outcome::NotApplied, None), None),
            _ => (soon, Response::Outcome(Outcome::Unclear, Some(SECOND)), None),
        }
    }
}
