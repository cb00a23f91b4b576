//! The rate limit, as the service reports it.

use std::time::{Duration, SystemTime};

use crate::http::Response;
use crate::retry::{reset_moment, whole_number};

/// The rate limit as the headers of an answer gave it ([Didit's API, §7](crate::didit_api#7-rate-limits)).
///
/// Didit advises to slow down once `remaining` is under 15 % of `limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimit {
    /// How many requests are admitted in a window: `X-RateLimit-Limit`.
    pub limit: u64,
    /// How many of them are left: `X-RateLimit-Remaining`.
    pub remaining: u64,
    /// When the limit resets, by the server's clock: `X-RateLimit-Reset`.
    pub reset: Option<SystemTime>,
    /// How long after the answer that is, going by the answer's own `Date`, so that a wrong local clock does no harm.
    /// Zero if it has passed.
    pub reset_after: Option<Duration>,
}

impl RateLimit {
    pub(crate) fn read(response: &Response) -> Option<RateLimit> {
        let number = |name| response.header(name).and_then(whole_number);
        let (limit, remaining) = (number("x-ratelimit-limit")?, number("x-ratelimit-remaining")?);
        let reset = response.header("x-ratelimit-reset").and_then(reset_moment);
        Some(RateLimit {
            limit,
            remaining,
            reset,
            reset_after: reset.map(|moment| moment.duration_since(response.date()).unwrap_or_default()),
        })
    }
}
