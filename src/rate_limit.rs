//! The rate limit that Didit reports.

use std::time::{Duration, SystemTime};

use crate::http::Response;
use crate::retry::{reset_moment, whole_number};

/// Holds the rate limit from the headers of an answer ([Didit's API, §7](crate::didit_api#7-rate-limits)).
///
/// Didit advises clients to slow down once `remaining` is below 15 % of `limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimit {
    /// The number of requests that Didit allows in a window: `X-RateLimit-Limit`.
    pub limit: u64,
    /// The number of requests that are left in this window: `X-RateLimit-Remaining`.
    pub remaining: u64,
    /// The time when the limit resets, by the server's clock: `X-RateLimit-Reset`.
    pub reset: Option<SystemTime>,
    /// The time from the answer to `reset`, or zero if that has passed. It is based on the `Date` of the answer, so a
    /// wrong local clock does not matter.
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
