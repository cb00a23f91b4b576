//! Which failure is worth another attempt, and after how long. Pure: time and chance come in as values.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::Error;

/// How failures that are safe to repeat are repeated.
///
/// The default: 2 retries; exponential back-off from 0.5 s, doubling to at most 8 s, with full jitter;
/// `Retry-After` honoured up to 60 s.
///
/// ```
/// use std::time::Duration;
/// use didit::RetryPolicy;
///
/// let patient = RetryPolicy::default().max_retries(5).max_wait(Duration::from_secs(300));
/// # let _ = patient;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct RetryPolicy {
    max_retries: u32,
    base_delay: Duration,
    max_delay: Duration,
    max_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            max_retries: 2,
            base_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(8),
            max_wait: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// Every call is one attempt. (A token that Didit refuses is still replaced, once.)
    pub fn none() -> RetryPolicy {
        RetryPolicy::default().max_retries(0)
    }

    /// How often a failed attempt is repeated. Default 2.
    pub fn max_retries(mut self, retries: u32) -> RetryPolicy {
        self.max_retries = retries;
        self
    }

    /// The back-off before the first retry, at most: the wait is drawn between nothing and this. Default 0.5 s.
    pub fn base_delay(mut self, delay: Duration) -> RetryPolicy {
        self.base_delay = delay;
        self
    }

    /// The limit that the doubling back-off stops at. Default 8 s.
    pub fn max_delay(mut self, delay: Duration) -> RetryPolicy {
        self.max_delay = delay;
        self
    }

    /// The longest wait that a server may ask for. Asked for more, the call returns at once, with
    /// [`Error::retry_after`] set. Default 60 s.
    pub fn max_wait(mut self, wait: Duration) -> RetryPolicy {
        self.max_wait = wait;
        self
    }

    /// The wait before the next attempt, after `retries` of them; `None` when there is to be none.
    ///
    /// `draw` is a random number from 0 to 1. A wait that the server asks for is never cut short, and a back-off that
    /// is longer still holds.
    pub(crate) fn wait(&self, error: &Error, retries: u32, draw: f64) -> Option<Duration> {
        if retries >= self.max_retries || !error.is_retryable() || error.was_retried() {
            return None;
        }
        let doubled = 2u32.checked_pow(retries).unwrap_or(u32::MAX);
        let limit = self.max_delay.min(LONGEST);
        let backoff = self.base_delay.saturating_mul(doubled).min(limit).mul_f64(draw);
        match error.retry_after() {
            Some(asked) if asked > self.max_wait => None,
            Some(asked) => Some(asked.max(backoff)),
            None => Some(backoff),
        }
    }
}

/// Nobody waits longer than this; it keeps absurd values harmless.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The wait that an answer asks for: `Retry-After` in seconds or as an HTTP date (RFC 9110 §10.2.3), else
/// `X-RateLimit-Reset` in Unix seconds (didit-api.md §7), where the caller passes it. A moment that has passed asks for
/// nothing; what cannot be read is as if it were not there.
pub(crate) fn retry_after(header: Option<&str>, reset: Option<&str>, now: SystemTime) -> Option<Duration> {
    let until = |moment: SystemTime| moment.duration_since(now).unwrap_or_default();
    let asked = header.and_then(|value| match seconds(value) {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => httpdate::parse_http_date(value.trim()).ok().map(until),
    });
    let reset = || {
        let moment = Duration::from_secs(seconds(reset?)?);
        Some(UNIX_EPOCH.checked_add(moment).map_or(LONGEST, until))
    };
    Some(asked.or_else(reset)?.min(LONGEST))
}

/// Digits only, however many.
fn seconds(value: &str) -> Option<u64> {
    let value = value.trim();
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().unwrap_or(u64::MAX))
}
