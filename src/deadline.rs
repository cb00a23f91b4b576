//! The moment when a call must have ended, and the time that an update needs before it.

use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result, Verdict};
use crate::http::MAX_TIMEOUT;

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
    pub(crate) fn leaves_reserve_after(self, wait: Duration) -> bool {
        let left = self.left();
        left > wait && left - wait >= self.reserve
    }
}

pub(crate) fn timed_out(problem: &str) -> Error {
    Error::new(ErrorKind::Timeout, Verdict::NotApplied, problem).with(|error| {
        error.deadline_exceeded = true;
        error.advice = "retry with a longer deadline (DIDIT_DEADLINE)";
    })
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
}
