//! One call: its attempts, the waits between them, its deadline, and its verdict.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result, Verdict};
use crate::http::MAX_TIMEOUT;
use crate::retry::RetryPolicy;

/// The state that the attempts of one call share.
pub(crate) struct Call {
    pub(crate) deadline: Deadline,
    /// Whether a refused access token was replaced already. A call does that once.
    pub(crate) token_replaced: bool,
}

/// The moment when a call must have ended.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    end: Instant,
    /// The time that must be left when an update is sent. With less, it might be cut off, and be in doubt.
    reserve: Duration,
}

impl Deadline {
    /// Returns a deadline `limit` from now, without a limit a year. Its reserve is a fifth of `limit`, but at most one
    /// `timeout`.
    pub(crate) fn after(limit: Option<Duration>, timeout: Duration) -> Deadline {
        let limit = limit.unwrap_or(MAX_TIMEOUT).min(MAX_TIMEOUT);
        Deadline {
            end: Instant::now() + limit,
            reserve: timeout.min(limit / 5),
        }
    }

    /// Returns the same deadline, but at most `limit` from now.
    pub(crate) fn at_most(self, limit: Duration) -> Deadline {
        let end = self.end.min(Instant::now() + limit.min(MAX_TIMEOUT));
        Deadline { end, ..self }
    }

    fn left(self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Returns `limit`, or the remaining time if that is less.
    ///
    /// # Errors
    /// `Timeout` if no time remains.
    pub(crate) fn remaining(self, limit: Duration) -> Result<Duration> {
        match self.left() {
            Duration::ZERO => Err(timed_out("the deadline has passed")),
            left => Ok(left.min(limit)),
        }
    }

    /// Returns the latest moment to send an update in an attempt that may take `timeout` from now. After it, less than
    /// the reserve or less than a fifth of `timeout` would be left.
    pub(crate) fn send_by(self, timeout: Duration) -> Instant {
        let own = timeout - timeout / 5;
        Instant::now() + own.min(self.left().saturating_sub(self.reserve))
    }

    /// Returns an error if less than the reserve is left.
    pub(crate) fn too_late(self) -> Option<Error> {
        let problem = "the deadline left too little time to send the update";
        (!self.leaves_reserve_after(Duration::ZERO)).then(|| timed_out(problem))
    }

    /// Returns whether the reserve is left after a wait.
    fn leaves_reserve_after(self, wait: Duration) -> bool {
        let left = self.left();
        left > wait && left - wait >= self.reserve
    }
}

fn timed_out(problem: &str) -> Error {
    Error::new(ErrorKind::Timeout, Verdict::NotApplied, problem).with(|error| {
        error.deadline_exceeded = true;
        error.advice = "retry with a longer deadline (DIDIT_DEADLINE)";
    })
}

/// Makes attempts until one succeeds, a failure must not be retried, or the deadline leaves too little time.
///
/// If any attempt may have been applied, the error is `Unknown`. An outer `with_retries` does not retry the error
/// again.
pub(crate) fn with_retries<T>(
    policy: &RetryPolicy,
    deadline: Deadline,
    subject: &dyn Fn() -> String,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut failures = Failures::default();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) => thread::sleep(failures.wait_after(error, policy, deadline, subject)?),
        }
    }
}

/// What is known about the failed attempts of a call.
#[derive(Default)]
struct Failures {
    attempts: u32,
    latest: Option<Error>,
    /// The number of the first attempt that may have been applied, and how it failed.
    first_unknown_attempt: Option<(u32, String)>,
}

impl Failures {
    /// Returns how long to wait before the next attempt.
    ///
    /// # Errors
    /// The error of the call, if there is no next attempt.
    fn wait_after(
        &mut self,
        mut error: Error,
        policy: &RetryPolicy,
        deadline: Deadline,
        subject: &dyn Fn() -> String,
    ) -> Result<Duration> {
        // An attempt that never started, because time ran out, says less than the one before it.
        let not_started = error.0.deadline_exceeded && error.verdict() == Verdict::NotApplied;
        match self.latest.take().filter(|_| not_started) {
            Some(latest) => error = latest.with(|error| error.deadline_exceeded = true),
            None => self.attempts += 1,
        }
        let attempts = self.attempts;
        let wait = policy.wait(&error, attempts - 1, fastrand::f64());
        let enough_time = wait.is_none_or(|wait| deadline.leaves_reserve_after(wait));
        if let Some(wait) = wait.filter(|_| enough_time && !error.0.deadline_exceeded) {
            if error.verdict() == Verdict::Unknown {
                self.first_unknown_attempt.get_or_insert((attempts, error.summary()));
            }
            log::warn!(
                target: "didit",
                "{}: {}; retrying in {} ms (retry {attempts} of {})",
                subject(),
                error.summary(),
                wait.as_millis(),
                policy.max_retries,
            );
            self.latest = Some(error);
            return Ok(wait);
        }
        let mut error = error.with_subject(&subject()).after_attempts(attempts);
        error.0.deadline_exceeded |= !enough_time;
        if error.verdict() == Verdict::NotApplied && self.first_unknown_attempt.is_some() {
            error.0.verdict = Verdict::Unknown;
            error.0.first_unknown_attempt = self.first_unknown_attempt.take();
        }
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const FAR: Duration = Duration::from_secs(3600);

    fn deadline(limit: Duration) -> Deadline {
        Deadline::after(Some(limit), FAR)
    }

    /// Returns a deadline of which `passed` is over.
    fn started(limit: Duration, passed: Duration) -> Deadline {
        after(passed, deadline(limit))
    }

    fn after(passed: Duration, deadline: Deadline) -> Deadline {
        Deadline {
            end: deadline.end - passed,
            ..deadline
        }
    }

    fn failure() -> Error {
        Error::new(ErrorKind::Server, Verdict::NotApplied, "no")
    }

    fn no_delay() -> RetryPolicy {
        RetryPolicy::default().base_delay(Duration::ZERO)
    }

    fn attempts<T>(policy: &RetryPolicy, deadline: Deadline, attempt: impl FnMut() -> Result<T>) -> Result<T> {
        with_retries(policy, deadline, &|| "trying".into(), attempt)
    }

    #[test]
    fn a_deadline_ends_after_its_limit() {
        let before = Instant::now();
        let end = deadline(FAR).end;
        assert!(end >= before + FAR && end <= Instant::now() + FAR);
        for limit in [None, Some(Duration::MAX)] {
            let end = Deadline::after(limit, SECOND).end;
            assert!(end >= before + MAX_TIMEOUT && end <= Instant::now() + MAX_TIMEOUT);
        }
    }

    #[test]
    fn a_deadline_can_be_moved_closer_but_not_further_away() {
        let before = Instant::now();
        let near = deadline(FAR).at_most(SECOND).end;
        assert!(near >= before + SECOND && near <= Instant::now() + SECOND);
        for limit in [FAR, Duration::MAX] {
            let far = deadline(SECOND).at_most(limit).end;
            assert!(far <= Instant::now() + SECOND);
        }
    }

    #[test]
    fn a_limit_is_cut_to_the_remaining_time() {
        assert_eq!(deadline(FAR).remaining(SECOND).unwrap(), SECOND);
        assert_eq!(Deadline::after(None, SECOND).remaining(FAR).unwrap(), FAR);
        let left = deadline(FAR).remaining(2 * FAR).unwrap();
        assert!(left <= FAR && left > FAR - 60 * SECOND, "{left:?}");
        let error = deadline(Duration::ZERO).remaining(SECOND).unwrap_err();
        assert_eq!(
            (error.kind(), error.verdict()),
            (ErrorKind::Timeout, Verdict::NotApplied)
        );
        assert!(error.is_retryable() && error.0.deadline_exceeded);
    }

    #[test]
    fn an_update_is_sent_only_while_a_fifth_of_the_deadline_and_of_the_timeout_is_left() {
        let from_now = |deadline: Deadline, timeout| deadline.send_by(timeout) - Instant::now();
        for (deadline, timeout, latest) in [
            (Deadline::after(None, FAR), FAR, FAR * 4 / 5),
            (deadline(FAR), FAR, FAR * 4 / 5),
            (started(FAR, FAR / 2), FAR / 2, FAR * 3 / 10),
            (started(FAR, FAR / 2), FAR / 10, FAR * 8 / 100),
        ] {
            let moment = from_now(deadline, timeout);
            assert!(
                moment <= latest && moment > latest - 60 * SECOND,
                "{moment:?} {latest:?}"
            );
            assert!(deadline.too_late().is_none());
        }
        let late = started(FAR, FAR * 4 / 5 + SECOND);
        assert!(late.send_by(FAR) <= Instant::now());
        assert_eq!(late.remaining(SECOND).unwrap(), SECOND);
        let error = late.too_late().unwrap();
        assert_eq!(
            (error.kind(), error.verdict()),
            (ErrorKind::Timeout, Verdict::NotApplied)
        );
        assert!(error.is_retryable() && error.0.deadline_exceeded);
    }

    #[test]
    fn the_reserve_is_at_most_one_timeout() {
        let timeout = 30 * SECOND;
        let deadline = Deadline::after(Some(600 * SECOND), timeout);
        for (passed, may_send) in [(481, true), (569, true), (571, false)] {
            let late = after(passed * SECOND, deadline);
            assert_eq!(late.too_late().is_none(), may_send, "{passed}");
        }
    }

    #[test]
    fn a_wait_must_leave_the_reserve() {
        assert!(Deadline::after(None, SECOND).leaves_reserve_after(FAR));
        assert!(!Deadline::after(None, SECOND).leaves_reserve_after(Duration::MAX));
        assert!(deadline(FAR).leaves_reserve_after(FAR * 3 / 4));
        assert!(!deadline(FAR).leaves_reserve_after(FAR * 5 / 6));
        assert!(!deadline(FAR).leaves_reserve_after(FAR));
        assert!(!deadline(Duration::ZERO).leaves_reserve_after(Duration::ZERO));
    }

    #[test]
    fn attempts_stop_at_the_first_success() {
        let mut count = 0;
        let result = attempts(&no_delay(), Deadline::after(None, SECOND), || {
            count += 1;
            if count < 3 { Err(failure()) } else { Ok(count) }
        });
        assert_eq!(result.unwrap(), 3);
    }

    #[test]
    fn an_outer_loop_does_not_retry_an_exhausted_failure() {
        for (policy, deadline, deadline_exceeded) in [
            (RetryPolicy::none(), Deadline::after(None, SECOND), false),
            (no_delay(), started(FAR, FAR), true),
        ] {
            let error = attempts::<()>(&policy, deadline, || Err(failure())).unwrap_err();
            assert!(error.retries_exhausted());
            assert_eq!(error.0.deadline_exceeded, deadline_exceeded);
            assert_eq!(error.to_string(), "trying: no; nothing was changed");
        }
        let mut count = 0;
        let error = attempts::<()>(&no_delay(), Deadline::after(None, SECOND), || {
            attempts(&no_delay(), Deadline::after(None, SECOND), || {
                count += 1;
                Err(failure())
            })
        });
        assert_eq!(count, 3, "the outer loop must not retry");
        assert_eq!(
            error.unwrap_err().to_string(),
            "trying: trying: no; gave up after 3 attempts; nothing was changed"
        );
    }

    #[test]
    fn an_attempt_that_never_started_does_not_hide_the_failure_before_it() {
        let limited = |verdict| {
            Error::new(ErrorKind::RateLimited, verdict, "limited")
                .with(|error| error.retry_after = Some(Duration::ZERO))
        };
        let mut failures = [timed_out("too late"), limited(Verdict::NotApplied)].to_vec();
        let error = attempts::<()>(&no_delay(), deadline(FAR), || Err(failures.pop().unwrap())).unwrap_err();
        assert_eq!(
            (error.kind(), error.verdict()),
            (ErrorKind::RateLimited, Verdict::NotApplied)
        );
        assert_eq!(error.retry_after(), Some(Duration::ZERO));
        assert!(error.0.deadline_exceeded && failures.is_empty());
        assert_eq!(error.to_string(), "trying: limited; nothing was changed");

        let mut failures = [timed_out("too late"), limited(Verdict::Unknown)].to_vec();
        let error = attempts::<()>(&no_delay(), deadline(FAR), || Err(failures.pop().unwrap())).unwrap_err();
        assert_eq!(
            (error.kind(), error.verdict()),
            (ErrorKind::RateLimited, Verdict::Unknown)
        );

        let error = attempts::<()>(&no_delay(), deadline(FAR), || Err(timed_out("too late"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }

    #[test]
    fn a_call_is_in_doubt_if_any_attempt_was_and_names_that_attempt() {
        let in_doubt = || Error::new(ErrorKind::Timeout, Verdict::Unknown, "no answer");
        let unknown = "trying: no; gave up after 2 attempts; whether it was applied is unknown: attempt 1 may have \
                       been applied (no answer); repeat the update, which is safe, or check the session's status";
        let both = "trying: no answer; gave up after 2 attempts; whether it was applied is unknown; repeat the update, \
                    which is safe, or check the session's status";
        let neither = "trying: no; gave up after 2 attempts; nothing was changed";
        for (first, second, verdict, text) in [
            (in_doubt(), failure(), Verdict::Unknown, unknown),
            (failure(), in_doubt(), Verdict::Unknown, both),
            (in_doubt(), in_doubt(), Verdict::Unknown, both),
            (failure(), failure(), Verdict::NotApplied, neither),
        ] {
            let mut failures = [second, first].to_vec();
            let result = attempts::<()>(&no_delay().max_retries(1), Deadline::after(None, SECOND), || {
                Err(failures.pop().unwrap())
            });
            let error = result.unwrap_err();
            assert_eq!(error.verdict(), verdict);
            assert_eq!(error.to_string(), text);
            assert!(failures.is_empty());
        }
    }
}
