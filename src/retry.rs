//! Whether and when to retry. All functions are pure: the time and the random number are arguments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::Error;

/// Sets when and how many times a failed attempt is retried.
///
/// The client retries only failures that are safe to retry. By default it retries 2 times, with exponential back-off
/// from 0.5 s up to 8 s and full jitter, and honours `Retry-After` up to 60 s.
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
    pub(crate) max_retries: u32,
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
    /// Returns a policy without retries. An access token that Didit refuses is still replaced once.
    pub fn none() -> RetryPolicy {
        RetryPolicy::default().max_retries(0)
    }

    /// Sets how many times a failed attempt is retried. Default: 2.
    pub fn max_retries(mut self, retries: u32) -> RetryPolicy {
        self.max_retries = retries;
        self
    }

    /// Sets the longest back-off before the first retry. It doubles with each further retry. Default: 0.5 s.
    ///
    /// The client waits for a random time between zero and the longest back-off.
    pub fn base_delay(mut self, delay: Duration) -> RetryPolicy {
        self.base_delay = delay;
        self
    }

    /// Limits the back-off, at most to a day. Default: 8 s.
    pub fn max_delay(mut self, delay: Duration) -> RetryPolicy {
        self.max_delay = delay;
        self
    }

    /// Limits how long the client waits if a server asks for it. If it asks for more, the call fails at once, and
    /// [`Error::retry_after`] returns the requested wait. Default: 60 s.
    pub fn max_wait(mut self, wait: Duration) -> RetryPolicy {
        self.max_wait = wait;
        self
    }

    /// Returns how long to wait after `retries` retries, or `None` if there is no other attempt.
    ///
    /// `draw` is a random number from 0 to 1. The wait is the back-off, but never less than what the server asks for.
    pub(crate) fn wait(&self, error: &Error, retries: u32, draw: f64) -> Option<Duration> {
        if retries >= self.max_retries || !error.is_retryable() || error.retries_exhausted() {
            return None;
        }
        let doubled = 2u32.checked_pow(retries).unwrap_or(u32::MAX);
        let limit = self.max_delay.min(MAX_DELAY);
        let backoff = self.base_delay.saturating_mul(doubled).min(limit).mul_f64(draw);
        match error.retry_after() {
            Some(requested) if requested > self.max_wait => None,
            Some(requested) => Some(requested.max(backoff)),
            None => Some(backoff),
        }
    }
}

/// No wait is longer than a day, so that absurd values are harmless.
const MAX_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Returns the wait that a response asks for: `Retry-After` in seconds or as an HTTP date (RFC 9110 §10.2.3), else
/// `X-RateLimit-Reset` if the caller passes it. `now` is the time by the server's clock. A time in the past is a wait
/// of zero. An invalid value is ignored.
pub(crate) fn retry_after(header: Option<&str>, reset: Option<&str>, now: SystemTime) -> Option<Duration> {
    let until = |moment: SystemTime| moment.duration_since(now).unwrap_or_default();
    let requested = header.and_then(|value| match whole_number(value) {
        Some(seconds) => Some(Duration::from_secs(seconds)),
        None => httpdate::parse_http_date(value.trim()).ok().map(until),
    });
    let reset = || reset.and_then(reset_moment).map(until);
    Some(requested.or_else(reset)?.min(MAX_DELAY))
}

/// Parses `X-RateLimit-Reset`: Unix seconds (docs/didit-api.md §7), or milliseconds, which some gateways send. Read as
/// seconds, those would be thousands of years away.
pub(crate) fn reset_moment(value: &str) -> Option<SystemTime> {
    let since_epoch = match whole_number(value)? {
        seconds @ ..100_000_000_000 => Duration::from_secs(seconds),
        // The year 9999 at most: the clock of Windows ends in the year 30828.
        millis => Duration::from_millis(millis.min(253_402_300_799_000)),
    };
    UNIX_EPOCH.checked_add(since_epoch)
}

/// Parses a number of any length. Rounds a fraction up, so that no wait is cut short.
pub(crate) fn whole_number(value: &str) -> Option<u64> {
    let value = value.trim();
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let up = u64::from(fraction.bytes().any(|digit| digit != b'0'));
    (is_number(whole) && is_number(fraction)).then(|| whole.parse().unwrap_or(u64::MAX).saturating_add(up))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorKind, Verdict};

    const SECOND: Duration = Duration::from_secs(1);
    const DAY: Duration = Duration::from_secs(86400);

    fn failure() -> Error {
        Error::new(ErrorKind::Server, Verdict::NotApplied, "")
    }

    fn asking(wait: Duration) -> Error {
        failure().with(|error| error.retry_after = Some(wait))
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.wait(&failure(), 0, 1.0), Some(SECOND / 2));
        assert_eq!(policy.wait(&failure(), 1, 1.0), Some(SECOND));
        assert_eq!(policy.wait(&failure(), 2, 1.0), None);
        assert_eq!(
            policy.clone().max_retries(99).wait(&failure(), 98, 1.0),
            Some(8 * SECOND)
        );
        assert_eq!(policy.wait(&asking(60 * SECOND), 0, 1.0), Some(60 * SECOND));
        assert_eq!(
            policy.wait(&asking(60 * SECOND + Duration::from_nanos(1)), 0, 1.0),
            None
        );
        assert_eq!(RetryPolicy::none(), policy.max_retries(0));
        assert_eq!(RetryPolicy::none().wait(&failure(), 0, 0.0), None);
    }

    #[test]
    fn the_back_off_doubles_up_to_its_limit_with_full_jitter() {
        let policy = RetryPolicy::default()
            .max_retries(u32::MAX)
            .base_delay(Duration::from_millis(300))
            .max_delay(2 * SECOND);
        for (retries, limit) in [
            (0, 300),
            (1, 600),
            (2, 1200),
            (3, 2000),
            (4, 2000),
            (31, 2000),
            (32, 2000),
            (u32::MAX - 1, 2000),
        ] {
            let limit = Duration::from_millis(limit);
            assert_eq!(policy.wait(&failure(), retries, 0.0), Some(Duration::ZERO), "{retries}");
            assert_eq!(policy.wait(&failure(), retries, 0.5), Some(limit / 2), "{retries}");
            assert_eq!(policy.wait(&failure(), retries, 1.0), Some(limit), "{retries}");
        }
        assert_eq!(policy.wait(&failure(), u32::MAX, 0.0), None);
    }

    #[test]
    fn absurd_delays_are_harmless() {
        let policy = RetryPolicy::default()
            .base_delay(Duration::MAX)
            .max_delay(Duration::MAX);
        assert_eq!(policy.wait(&failure(), 1, 1.0), Some(DAY));
        let policy = policy.base_delay(Duration::ZERO).max_wait(Duration::MAX);
        assert_eq!(policy.wait(&failure(), 1, 1.0), Some(Duration::ZERO));
        assert_eq!(policy.wait(&asking(DAY), 0, 1.0), Some(DAY));
        let policy = policy.base_delay(SECOND).max_delay(Duration::ZERO);
        assert_eq!(policy.wait(&failure(), 1, 1.0), Some(Duration::ZERO));
    }

    #[test]
    fn a_requested_wait_is_never_cut_short() {
        let policy = RetryPolicy::default().base_delay(4 * SECOND);
        for (asked, draw, wait) in [(1, 0.0, 1), (1, 1.0, 4), (5, 1.0, 5), (0, 0.5, 2), (60, 1.0, 60)] {
            let wait = Some(wait * SECOND);
            assert_eq!(policy.wait(&asking(asked * SECOND), 0, draw), wait, "{asked} {draw}");
        }
        let policy = policy.max_wait(Duration::ZERO);
        assert_eq!(policy.wait(&asking(Duration::ZERO), 0, 1.0), Some(4 * SECOND));
        assert_eq!(policy.wait(&asking(Duration::from_nanos(1)), 0, 1.0), None);
    }

    #[test]
    fn final_and_exhausted_failures_are_not_retried() {
        let policy = RetryPolicy::default();
        assert_eq!(
            policy.wait(&failure().with(|error| error.retryable = false), 0, 0.0),
            None
        );
        assert_eq!(policy.wait(&failure().after_attempts(3), 0, 0.0), None);
    }

    #[test]
    fn a_requested_wait_is_parsed_from_seconds_a_date_or_a_reset_time() {
        // Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110 §5.6.7.
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (header, reset, expected) in [
            (None, None, None),
            (Some("120"), None, seconds(120)),
            (Some(" 120\t"), None, seconds(120)),
            (Some("0"), None, seconds(0)),
            (Some("00"), None, seconds(0)),
            (Some("86400"), None, Some(DAY)),
            (Some("86401"), None, Some(DAY)),
            (Some("18446744073709551615"), None, Some(DAY)),
            (Some("18446744073709551616"), None, Some(DAY)),
            (Some("Sun, 06 Nov 1994 08:49:37 GMT"), None, seconds(0)),
            (Some("Sun, 06 Nov 1994 08:49:36 GMT"), None, seconds(0)),
            (Some("Sun, 06 Nov 1994 08:51:37 GMT"), None, seconds(120)),
            (Some(" Sun, 06 Nov 1994 08:51:37 GMT "), None, seconds(120)),
            (Some("Sunday, 06-Nov-94 08:51:37 GMT"), None, seconds(120)),
            (Some("Sun Nov  6 08:51:37 1994"), None, seconds(120)),
            (Some("Fri, 31 Dec 9999 23:59:59 GMT"), None, Some(DAY)),
            (Some("Thu, 01 Jan 1970 00:00:00 GMT"), None, seconds(0)),
            (Some(""), None, None),
            (Some(" "), None, None),
            (Some("-1"), None, None),
            (Some("+1"), None, None),
            (Some("2.0"), None, seconds(2)),
            (Some("1.5"), None, seconds(2)),
            (Some("0.001"), None, seconds(1)),
            (Some("1."), None, None),
            (Some(".5"), None, None),
            (Some("1.5.0"), None, None),
            (Some("1.-5"), None, None),
            (Some("1e3"), None, None),
            (Some("٣"), None, None),
            (Some("tomorrow"), None, None),
            (Some("Sun, 06 Nov 1994 25:49:37 GMT"), None, None),
            (None, Some("784111897"), seconds(120)),
            (None, Some("784111896.4"), seconds(120)),
            (None, Some("784111897500"), Some(Duration::from_millis(120_500))),
            (None, Some("784111777"), seconds(0)),
            (None, Some("784111776"), seconds(0)),
            (None, Some("0"), seconds(0)),
            (None, Some("18446744073709551615"), Some(DAY)),
            (None, Some("Sun, 06 Nov 1994 08:51:37 GMT"), None),
            (None, Some("-5"), None),
            (None, Some(""), None),
            (Some("7"), Some("784111897"), seconds(7)),
            (Some("soon"), Some("784111897"), seconds(120)),
        ] {
            assert_eq!(retry_after(header, reset, now), expected, "{header:?} {reset:?}");
        }
    }
}
