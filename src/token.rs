//! An access token: what its server says of it, and how long it is good for.

use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::secret::{Secret, is_visible_ascii};

/// One moment by both clocks: the monotonic one may stand still while a laptop sleeps, the wall clock may jump.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) monotonic: Instant,
    pub(crate) wall: SystemTime,
}

impl Now {
    pub(crate) fn read() -> Now {
        Now {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }
}

/// No token is kept for longer, whatever its server says.
pub(crate) const LONGEST_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How long a token is used that says nothing usable of its lifetime (didit-api.md §2).
const DEFAULT_LIFE: Duration = Duration::from_secs(5 * 60);
/// A token is replaced when less than this is left, or a tenth of its lifetime, whichever is less.
const MARGIN: Duration = Duration::from_secs(60);

/// An access token and when it expires, by both clocks: the earlier one counts.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) value: Secret,
    pub(crate) lifetime: Duration,
    pub(crate) born: Now,
}

impl Token {
    /// Reads the documented answer (didit-api.md §2), tolerant of what servers vary and strict in what would be wrong.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(body: &Value, born: Now) -> Result<Token, &'static str> {
        let value = match body["access_token"].as_str() {
            _ if !body["error"].is_null() => return Err("the answer is an error"),
            None | Some("") => return Err("the answer holds no access token"),
            Some(value) if !is_visible_ascii(value) => return Err("the access token is one that no header can carry"),
            Some(value) => value,
        };
        let kind = &body["token_type"];
        if !kind.is_null() && !kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
            return Err("the token is not a Bearer token");
        }
        let positive = |seconds: &u64| *seconds > 0;
        let between = || Some(whole_seconds(&body["exp"])?.saturating_sub(whole_seconds(&body["iat"])?));
        let lifetime = whole_seconds(&body["expires_in"])
            .filter(positive)
            .or_else(|| between().filter(positive))
            .map_or(DEFAULT_LIFE, Duration::from_secs);
        Ok(Token {
            value: Secret::new(value),
            lifetime: lifetime.min(LONGEST_LIFE),
            born,
        })
    }

    /// What is left of its lifetime.
    pub(crate) fn left(&self, now: Now) -> Duration {
        let monotonic = now.monotonic.saturating_duration_since(self.born.monotonic);
        // A wall clock that was set back says nothing.
        let wall = now.wall.duration_since(self.born.wall).unwrap_or_default();
        self.lifetime.saturating_sub(monotonic.max(wall))
    }

    pub(crate) fn is_fresh(&self, now: Now) -> bool {
        self.left(now) > MARGIN.min(self.lifetime / 10)
    }

    pub(crate) fn is_valid(&self, now: Now) -> bool {
        !self.left(now).is_zero()
    }
}

/// A number of seconds as servers write it: a number, or one in a string, its fraction ignored. What is negative or no
/// number is nothing.
fn whole_seconds(value: &Value) -> Option<u64> {
    match value {
        // The cast saturates, and takes what is negative to 0.
        Value::Number(number) => number.as_u64().or_else(|| number.as_f64().map(|float| float as u64)),
        Value::String(text) => text.trim().split('.').next()?.parse().ok(),
        _ => None,
    }
}
