//! One call: its attempts, the waits between them, the deadline over them all, and the verdict that they add up to.

use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result, Verdict};
use crate::retry::RetryPolicy;

/// When a call has to be over, if ever.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// `limit` from now. A limit past the end of time is none.
    pub(crate) fn after(limit: Option<Duration>) -> Deadline {
        Deadline(limit.and_then(|limit| Instant::now().checked_add(limit)))
    }

    /// Half of the time that is left.
    pub(crate) fn half(self) -> Deadline {
        let now = Instant::now();
        Deadline(self.0.map(|end| now + end.saturating_duration_since(now) / 2))
    }

    pub(crate) fn instant(self) -> Option<Instant> {
        self.0
    }

    /// The part of `limit` that the call still has.
    ///
    /// # Errors
    /// `Timeout` when there is none: whatever was to come is not begun.
    pub(crate) fn clip(self, limit: Duration) -> Result<Duration> {
        match self.0.map(|end| end.saturating_duration_since(Instant::now())) {
            Some(Duration::ZERO) => Err(Error::new(ErrorKind::Timeout, "the deadline has passed").retryable(true)),
            Some(left) => Ok(left.min(limit)),
            None => Ok(limit),
        }
    }

    /// Whether a wait would end before the deadline does.
    fn outlasts(self, wait: Duration) -> bool {
        self.0
            .is_none_or(|end| end.saturating_duration_since(Instant::now()) > wait)
    }
}

/// Makes attempts until one succeeds, or none is worth another, or the deadline leaves no room for the wait.
///
/// Once an attempt ended `Unknown`, so does the call, whatever came later. The failure that comes out has had its
/// retries: an outer loop passes it on.
pub(crate) fn with_retries<T>(
    policy: &RetryPolicy,
    deadline: Deadline,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut in_doubt = false;
    let mut retries = 0;
    loop {
        let mut error = match attempt() {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        in_doubt |= error.verdict() == Verdict::Unknown;
        if in_doubt {
            error = error.unknown();
        }
        let wait = policy.wait(&error, retries, fastrand::f64());
        let Some(wait) = wait.filter(|wait| deadline.outlasts(*wait)) else {
            return Err(error.after_attempts(retries + 1));
        };
        retries += 1;
        log::warn!(target: "didit", "{error}; retry {retries} in {} ms", wait.as_millis());
        std::thread::sleep(wait);
    }
}
