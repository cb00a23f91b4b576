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

#[cfg(test)]
mod tests {
    use super::*;

    const FAR: Duration = Duration::from_secs(3600);

    fn deadline(limit: Duration) -> Deadline {
        Deadline::after(Some(limit))
    }

    fn failure() -> Error {
        Error::new(ErrorKind::Server, "no").retryable(true)
    }

    fn hasty() -> RetryPolicy {
        RetryPolicy::default().base_delay(Duration::ZERO)
    }

    #[test]
    fn a_deadline_is_a_moment_from_now() {
        let before = Instant::now();
        let end = deadline(FAR).0.unwrap();
        assert!(end >= before + FAR && end <= Instant::now() + FAR);
        assert!(Deadline::after(None).0.is_none());
        assert!(Deadline::after(Some(Duration::MAX)).0.is_none());
    }

    #[test]
    fn half_a_deadline_is_half_of_what_is_left() {
        let before = Instant::now();
        let whole = deadline(FAR);
        let half = whole.half().0.unwrap();
        assert!(half >= before + FAR / 2, "{:?}", half - before);
        assert!(half <= Instant::now() + FAR / 2);
        assert!(Deadline::after(None).half().0.is_none());
        let past = deadline(Duration::ZERO);
        assert!(past.half().0.unwrap() <= Instant::now());
    }

    #[test]
    fn a_limit_is_cut_to_what_is_left() {
        let second = Duration::from_secs(1);
        assert_eq!(deadline(FAR).clip(second).unwrap(), second);
        assert_eq!(Deadline::after(None).clip(FAR).unwrap(), FAR);
        let left = deadline(FAR).clip(2 * FAR).unwrap();
        assert!(left <= FAR && left > FAR - 60 * second, "{left:?}");
        let error = deadline(Duration::ZERO).clip(second).unwrap_err();
        assert_eq!(
            (error.kind(), error.verdict()),
            (ErrorKind::Timeout, Verdict::NotApplied)
        );
        assert!(error.is_retryable());
    }

    #[test]
    fn a_wait_has_to_end_before_the_deadline() {
        assert!(Deadline::after(None).outlasts(Duration::MAX));
        assert!(deadline(FAR).outlasts(FAR / 2));
        assert!(!deadline(FAR).outlasts(FAR));
        assert!(!deadline(Duration::ZERO).outlasts(Duration::ZERO));
    }

    #[test]
    fn attempts_end_with_the_first_success() {
        let mut attempts = 0;
        let result = with_retries(&hasty(), Deadline::after(None), || {
            attempts += 1;
            if attempts < 3 { Err(failure()) } else { Ok(attempts) }
        });
        assert_eq!(result.unwrap(), 3);
    }

    #[test]
    fn a_failure_that_is_given_up_has_had_its_retries() {
        for (policy, deadline) in [
            (RetryPolicy::none(), Deadline::after(None)),
            (hasty(), deadline(Duration::ZERO)),
        ] {
            let error = with_retries::<()>(&policy, deadline, || Err(failure())).unwrap_err();
            assert!(error.was_retried());
            assert_eq!(error.to_string(), "no");
        }
        let mut attempts = 0;
        let error = with_retries::<()>(&hasty(), Deadline::after(None), || {
            with_retries(&hasty(), Deadline::after(None), || {
                attempts += 1;
                Err(failure())
            })
        });
        assert_eq!(attempts, 3, "an outer loop repeats nothing");
        assert_eq!(error.unwrap_err().to_string(), "no after 3 attempts");
    }

    #[test]
    fn a_doubt_outlasts_what_comes_later() {
        for (first, second, verdict) in [
            (failure().unknown(), failure(), Verdict::Unknown),
            (failure(), failure().unknown(), Verdict::Unknown),
            (failure(), failure(), Verdict::NotApplied),
        ] {
            let mut failures = [second, first].to_vec();
            let result = with_retries::<()>(&hasty().max_retries(1), Deadline::after(None), || {
                Err(failures.pop().unwrap())
            });
            assert_eq!(result.unwrap_err().verdict(), verdict);
            assert!(failures.is_empty());
        }
    }
}
