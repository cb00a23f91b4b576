//! Whether and when to retry. Pure: the random number is an argument.

use std::time::Duration;

use crate::error::Error;

/// When and how many times a failed attempt is retried.
///
/// The client retries only failures that are safe to retry: an update in doubt is read before it is sent again, because a
/// reviewer may have decided meanwhile. By default it retries 2 times, with exponential back-off
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
    /// Returns a policy without retries. After an attempt in doubt, `update_status` then ends without a read; `ensure_status`
    /// still reads the session once. An access token that Didit refuses is still replaced once.
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
        if retries >= self.max_retries || !error.is_retryable() {
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
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

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
    fn a_failure_that_no_retry_can_help_is_not_retried() {
        let failure = failure().with_retryable(false);
        assert_eq!(RetryPolicy::default().wait(&failure, 0, 0.0), None);
    }
}
