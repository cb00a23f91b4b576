//! The attempts of a call, the waits between them, its deadline, and the verdict that they add up to.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result, TokenOrigin, Verdict};
use crate::http::MAX_TIMEOUT;
use crate::retry::RetryPolicy;

/// The moment when a call must have ended.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    end: Instant,
    /// The time that must be left when an update is sent. With less, it might be cut off, and be in doubt.
    reserve: Duration,
}

impl Deadline {
    /// Returns a deadline `limit` from now, but at most a year. Its reserve is a fifth of `limit`, but at most one
    /// `timeout`.
    pub(crate) fn after(limit: Duration, timeout: Duration) -> Deadline {
        let limit = limit.min(MAX_TIMEOUT);
        Deadline {
            end: Instant::now() + limit,
            reserve: timeout.min(limit / 5),
        }
    }

    /// Returns a deadline an hour from now, of which not even the reserve is left.
    #[cfg(test)]
    pub(crate) fn with_used_reserve() -> Deadline {
        let hour = Duration::from_secs(3600);
        Deadline {
            end: Instant::now() + hour,
            reserve: 2 * hour,
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

    /// Checks that the reserve is left.
    ///
    /// # Errors
    /// `Timeout` if less is left.
    pub(crate) fn check_reserve(self) -> Result<()> {
        match self.leaves_reserve_after(Duration::ZERO) {
            true => Ok(()),
            false => Err(timed_out("the deadline left too little time to send the update")),
        }
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

/// Makes attempts until one succeeds or the call must end.
pub(crate) fn with_retries<T>(
    policy: &RetryPolicy,
    deadline: Deadline,
    subject: &dyn Fn() -> String,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let mut attempts = Attempts::new(policy, deadline, subject);
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) => attempts.wait_after(error)?,
        }
    }
}

/// The advice if Didit refuses an access token that was fetched during the call.
const SHARE_TOKEN: &str = "another process may have fetched a token that replaced this one: set the same DIDIT_TOKEN_FILE \
                           for all of them; or check the base URL (DIDIT_BASE_URL)";

/// Limits how many refused access tokens of the token file a call tries.
const MAX_REFUSED_TOKENS: u32 = 10;

/// The failed attempts of one call.
pub(crate) struct Attempts<'a> {
    policy: &'a RetryPolicy,
    deadline: Deadline,
    /// What the call does, for messages.
    subject: &'a dyn Fn() -> String,
    failed: u32,
    latest: Option<Error>,
    /// The first attempt that may have been applied: its number, and how it failed.
    in_doubt: Option<(u32, Error)>,
    refused_tokens: u32,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(policy: &'a RetryPolicy, deadline: Deadline, subject: &'a dyn Fn() -> String) -> Attempts<'a> {
        Attempts {
            policy,
            deadline,
            subject,
            failed: 0,
            latest: None,
            in_doubt: None,
            refused_tokens: 0,
        }
    }

    /// Returns how the first attempt failed that may have been applied.
    pub(crate) fn in_doubt(&self) -> Option<&Error> {
        self.in_doubt.as_ref().map(|(_, error)| error)
    }

    /// Waits until the next attempt.
    ///
    /// # Errors
    /// The error of the call, if there is no next attempt.
    pub(crate) fn wait_after(&mut self, error: Error) -> Result<()> {
        if self.count_refused_token(&error) {
            return Ok(());
        }
        let error = self.count_failure(error);
        let Some(wait) = self.next_wait(&error) else {
            return Err(self.conclude(error));
        };
        log::warn!(
            target: "didit",
            "{}: {}; retrying in {} ms (retry {} of {})",
            (self.subject)(),
            error.summary(),
            wait.as_millis(),
            self.failed,
            self.policy.max_retries,
        );
        self.latest = Some(error);
        thread::sleep(wait);
        Ok(())
    }

    /// Counts a refused access token. Returns whether the attempt is repeated at once, with another one. A token from the
    /// file does not count as the replacement: another process may have stored it before both were revoked.
    fn count_refused_token(&mut self, error: &Error) -> bool {
        let Some(origin) = error.0.refused_token else {
            return false;
        };
        self.refused_tokens += 1;
        match origin {
            TokenOrigin::Fetched => self.refused_tokens == 1,
            TokenOrigin::File => self.refused_tokens < MAX_REFUSED_TOKENS,
        }
    }

    /// Counts a failed attempt, and returns its error. If it could not begin because the deadline had passed, returns the
    /// error of the attempt before it.
    fn count_failure(&mut self, error: Error) -> Error {
        let did_not_begin = error.0.deadline_exceeded && error.verdict() == Verdict::NotApplied;
        if let Some(latest) = self.latest.take().filter(|_| did_not_begin) {
            return latest.with(|latest| latest.deadline_exceeded = true);
        }
        self.failed += 1;
        if error.verdict() == Verdict::Unknown && self.in_doubt.is_none() {
            self.in_doubt = Some((self.failed, error.clone()));
        }
        error
    }

    /// Returns how long to wait before the next attempt, or `None` if there is none.
    fn next_wait(&self, error: &Error) -> Option<Duration> {
        let wait = self.policy.wait(error, self.failed - 1, fastrand::f64())?;
        (!error.0.deadline_exceeded && self.deadline.leaves_reserve_after(wait)).then_some(wait)
    }

    /// Returns the error of the call. If any attempt may have been applied, it is `Unknown`, and the same call must not be
    /// repeated as it is.
    pub(crate) fn conclude(&self, error: Error) -> Error {
        let gave_up = error.is_retryable();
        error.with_subject(&(self.subject)()).with(|error| {
            error.attempts = gave_up.then_some(self.failed);
            if let (Verdict::NotApplied, Some((attempt, doubt))) = (error.verdict, &self.in_doubt) {
                error.verdict = Verdict::Unknown;
                error.first_unknown_attempt = Some((*attempt, doubt.summary()));
            }
            error.retryable &= error.verdict == Verdict::NotApplied;
            // A refused token is replaced, so this is the second one.
            if error.refused_token.is_some() && error.server.message.is_some() {
                error.advice = SHARE_TOKEN;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const FAR: Duration = Duration::from_secs(3600);

    fn deadline(limit: Duration) -> Deadline {
        Deadline::after(limit, FAR)
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
        let end = Deadline::after(Duration::MAX, SECOND).end;
        assert!(end >= before + MAX_TIMEOUT && end <= Instant::now() + MAX_TIMEOUT);
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
        assert_eq!(Deadline::after(Duration::MAX, SECOND).remaining(FAR).unwrap(), FAR);
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
            (Deadline::after(Duration::MAX, FAR), FAR, FAR * 4 / 5),
            (deadline(FAR), FAR, FAR * 4 / 5),
            (started(FAR, FAR / 2), FAR / 2, FAR * 3 / 10),
            (started(FAR, FAR / 2), FAR / 10, FAR * 8 / 100),
        ] {
            let moment = from_now(deadline, timeout);
            assert!(
                moment <= latest && moment > latest - 60 * SECOND,
                "{moment:?} {latest:?}"
            );
            assert!(deadline.check_reserve().is_ok());
        }
        let late = started(FAR, FAR * 4 / 5 + SECOND);
        assert!(late.send_by(FAR) <= Instant::now());
        assert_eq!(late.remaining(SECOND).unwrap(), SECOND);
        let error = late.check_reserve().unwrap_err();
        assert_eq!(
            (error.kind(), error.verdict()),
            (ErrorKind::Timeout, Verdict::NotApplied)
        );
        assert!(error.is_retryable() && error.0.deadline_exceeded);
    }

    #[test]
    fn the_reserve_is_at_most_one_timeout() {
        let timeout = 30 * SECOND;
        let deadline = Deadline::after(600 * SECOND, timeout);
        for (passed, may_send) in [(481, true), (569, true), (571, false)] {
            let late = after(passed * SECOND, deadline);
            assert_eq!(late.check_reserve().is_ok(), may_send, "{passed}");
        }
    }

    #[test]
    fn a_wait_must_leave_the_reserve() {
        assert!(Deadline::after(Duration::MAX, SECOND).leaves_reserve_after(FAR));
        assert!(!Deadline::after(Duration::MAX, SECOND).leaves_reserve_after(Duration::MAX));
        assert!(deadline(FAR).leaves_reserve_after(FAR * 3 / 4));
        assert!(!deadline(FAR).leaves_reserve_after(FAR * 5 / 6));
        assert!(!deadline(FAR).leaves_reserve_after(FAR));
        assert!(!deadline(Duration::ZERO).leaves_reserve_after(Duration::ZERO));
    }

    #[test]
    fn attempts_stop_at_the_first_success() {
        let mut count = 0;
        let result = attempts(&no_delay(), Deadline::after(Duration::MAX, SECOND), || {
            count += 1;
            if count < 3 { Err(failure()) } else { Ok(count) }
        });
        assert_eq!(result.unwrap(), 3);
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
        assert_eq!(error.to_string(), "trying: limited");

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
    fn a_call_is_unknown_if_any_attempt_is_in_doubt_and_names_that_attempt() {
        // As in a call whose update may be repeated.
        let in_doubt =
            || Error::new(ErrorKind::Timeout, Verdict::Unknown, "no response").with(|error| error.retryable = true);
        let earlier = "trying: no; gave up after 2 attempts; unknown: attempt 1 may have been applied (no response); ";
        let last = "trying: no response; gave up after 2 attempts; unknown: the update may have been applied; ";
        let neither = "trying: no; gave up after 2 attempts";
        for (first, second, verdict, text) in [
            (in_doubt(), failure(), Verdict::Unknown, earlier),
            (failure(), in_doubt(), Verdict::Unknown, last),
            (in_doubt(), in_doubt(), Verdict::Unknown, last),
            (failure(), failure(), Verdict::NotApplied, neither),
        ] {
            let mut failures = [second, first].to_vec();
            let policy = no_delay().max_retries(1);
            let result = attempts::<()>(&policy, deadline(FAR), || Err(failures.pop().unwrap()));
            let error = result.unwrap_err();
            assert_eq!(error.verdict(), verdict);
            assert_eq!(error.is_retryable(), verdict == Verdict::NotApplied);
            assert!(error.to_string().starts_with(text), "{error}");
            assert!(failures.is_empty());
        }
    }

    #[test]
    fn one_fetched_token_is_replaced_and_tokens_of_the_file_do_not_count() {
        use TokenOrigin::{Fetched, File};

        let refused = |origin| failure().with(|error| (error.retryable, error.refused_token) = (false, Some(origin)));
        for (origins, repeats) in [
            (&[Fetched, Fetched][..], 1),
            (&[File, Fetched], 1),
            (&[Fetched, File, Fetched], 2),
            (&[File, File, Fetched], 2),
            (&[File; 100], 9),
        ] {
            let (policy, subject) = (RetryPolicy::none(), || "trying".into());
            let mut attempts = Attempts::new(&policy, deadline(FAR), &subject);
            let done = origins
                .iter()
                .take_while(|origin| attempts.wait_after(refused(**origin)).is_ok());
            assert_eq!(done.count(), repeats, "{origins:?}");
        }
    }
}
