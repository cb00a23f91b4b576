//! The attempts of a call, the waits between them, and the verdict that they add up to.

use std::thread;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::error::{Error, Result, TokenOrigin, Verdict};
use crate::retry::RetryPolicy;

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
    use crate::deadline::timed_out;
    use crate::error::ErrorKind;

    const SECOND: Duration = Duration::from_secs(1);
    const FAR: Duration = Duration::from_secs(3600);

    fn deadline(limit: Duration) -> Deadline {
        Deadline::after(limit, FAR)
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
