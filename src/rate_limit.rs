//! What a server says about its rate limit and about waiting.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::http::Response;
use crate::retry::MAX_DELAY;

/// Didit's window, and how long a limit without a reset time counts.
const WINDOW: Duration = Duration::from_secs(60);

/// The rate limit of updates ([Didit's API, §7](crate::didit_api#7-rate-limits)).
///
/// Didit advises clients to slow down once `remaining` is below 15 % of `limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimit {
    /// The number of updates that Didit allows in a window: `X-RateLimit-Limit`.
    pub limit: u64,
    /// The number of updates that are left in this window: `X-RateLimit-Remaining`.
    pub remaining: u64,
    /// The time when the limit resets, by the server's clock: `X-RateLimit-Reset`.
    pub reset: Option<SystemTime>,
    /// The time that is left until `reset`. It is based on the `Date` of the response, so a wrong local clock does not
    /// matter.
    pub reset_after: Option<Duration>,
}

impl RateLimit {
    pub(crate) fn read(response: &Response) -> Option<RateLimit> {
        let number = |name| response.header(name).and_then(whole_number);
        let (limit, remaining) = (number("x-ratelimit-limit")?, number("x-ratelimit-remaining")?);
        let now = response.date();
        let reset = response
            .header("x-ratelimit-reset")
            .and_then(|value| reset_moment(value, now));
        Some(RateLimit {
            limit,
            remaining,
            reset,
            reset_after: reset.map(|moment| moment.duration_since(now).unwrap_or_default()),
        })
    }

    /// Returns what the limit is this long after its response, or `None` if its window is over.
    pub(crate) fn after(mut self, elapsed: Duration) -> Option<RateLimit> {
        let left = self.reset_after.unwrap_or(WINDOW).checked_sub(elapsed)?;
        self.reset_after = self.reset_after.map(|_| left);
        Some(self).filter(|_| !left.is_zero())
    }
}

/// Returns the wait that a response asks for: the longest `Retry-After`, in seconds or as an HTTP date (RFC 9110 §10.2.3),
/// else `X-RateLimit-Reset` if the caller passes it. `now` is the time by the server's clock. A time in the past is a wait
/// of zero. An invalid value is ignored.
pub(crate) fn retry_after<'a>(
    headers: impl Iterator<Item = &'a str>,
    reset: Option<&str>,
    now: SystemTime,
) -> Option<Duration> {
    let until = |moment: SystemTime| moment.duration_since(now).unwrap_or_default();
    let requested = headers.filter_map(|value| match httpdate::parse_http_date(value.trim()) {
        Ok(moment) => Some(until(moment)),
        // A proxy may join several lines with commas (RFC 9110 §5.3).
        Err(_) => value.split(',').filter_map(whole_number).max().map(Duration::from_secs),
    });
    let reset = || reset.and_then(|value| reset_moment(value, now)).map(until);
    Some(requested.max().or_else(reset)?.min(MAX_DELAY))
}

/// Parses `X-RateLimit-Reset`: Unix seconds (docs/didit-api.md §7). Some gateways send milliseconds, which would be
/// thousands of years away as seconds, and others send the seconds that are left, which would be in 1970.
fn reset_moment(value: &str, now: SystemTime) -> Option<SystemTime> {
    let at = |seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    match whole_number(value)? {
        // A server whose clock is that far behind means a moment.
        seconds_left @ ..1_000_000_000 if at(seconds_left)? < now => now.checked_add(Duration::from_secs(seconds_left)),
        seconds @ ..100_000_000_000 => at(seconds),
        // The year 9999 at most: the clock of Windows ends in the year 30828.
        millis => UNIX_EPOCH.checked_add(Duration::from_millis(millis.min(253_402_300_799_000))),
    }
}

/// Parses a number of any length. Rounds a fraction up, so that no wait is cut short.
fn whole_number(value: &str) -> Option<u64> {
    let value = value.trim();
    let (whole, fraction) = value.split_once('.').unwrap_or((value, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let up = u64::from(fraction.bytes().any(|digit| digit != b'0'));
    (is_number(whole) && is_number(fraction)).then(|| whole.parse().unwrap_or(u64::MAX).saturating_add(up))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86400);

    #[test]
    fn a_rate_limit_counts_down_and_ends_with_its_window() {
        let seconds = Duration::from_secs;
        let limit = |reset_after| RateLimit {
            limit: 300,
            remaining: 0,
            reset: None,
            reset_after,
        };
        for (reset_after, elapsed, left) in [
            (Some(5), 0, Some(Some(5))),
            (Some(5), 4, Some(Some(1))),
            (Some(5), 5, None),
            (Some(5), 500, None),
            (Some(0), 0, None),
            (None, 0, Some(None)),
            (None, 59, Some(None)),
            (None, 60, None),
        ] {
            let expected = left.map(|left: Option<u64>| limit(left.map(seconds)));
            let actual = limit(reset_after.map(seconds)).after(seconds(elapsed));
            assert_eq!(actual, expected, "{reset_after:?} {elapsed}");
        }
    }

    #[test]
    fn a_requested_wait_is_parsed_from_seconds_a_date_or_a_reset_time() {
        // Sun, 06 Nov 2033 08:49:37 GMT: the date of RFC 9110 §5.6.7, but in a year whose Unix time is not below 10^9.
        let now = UNIX_EPOCH + Duration::from_secs(2_014_879_777);
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
            (Some("Sun, 06 Nov 2033 08:49:37 GMT"), None, seconds(0)),
            (Some("Sun, 06 Nov 2033 08:49:36 GMT"), None, seconds(0)),
            (Some("Sun, 06 Nov 2033 08:51:37 GMT"), None, seconds(120)),
            (Some(" Sun, 06 Nov 2033 08:51:37 GMT "), None, seconds(120)),
            (Some("Sunday, 06-Nov-33 08:51:37 GMT"), None, seconds(120)),
            (Some("Sun Nov  6 08:51:37 2033"), None, seconds(120)),
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
            (Some("Sun, 06 Nov 2033 25:49:37 GMT"), None, None),
            (None, Some("2014879897"), seconds(120)),
            (None, Some("2014879896.4"), seconds(120)),
            (None, Some("2014879897500"), Some(Duration::from_millis(120_500))),
            (None, Some("2014879777"), seconds(0)),
            (None, Some("2014879776"), seconds(0)),
            // Seconds that are left, and the earliest moment.
            (None, Some("0"), seconds(0)),
            (None, Some("3"), seconds(3)),
            (None, Some("2.5"), seconds(3)),
            (None, Some("999999999"), Some(DAY)),
            (None, Some("1000000000"), seconds(0)),
            (None, Some("18446744073709551615"), Some(DAY)),
            (None, Some("Sun, 06 Nov 2033 08:51:37 GMT"), None),
            (None, Some("-5"), None),
            (None, Some(""), None),
            (Some("7"), Some("2014879897"), seconds(7)),
            (Some("soon"), Some("2014879897"), seconds(120)),
        ] {
            assert_eq!(
                retry_after(header.into_iter(), reset, now),
                expected,
                "{header:?} {reset:?}"
            );
        }
    }

    #[test]
    fn a_server_whose_clock_is_decades_behind_means_a_moment() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (reset, seconds) in [("784111897", 120), ("784111777", 0), ("784111776", 86_400), ("3", 3)] {
            let wait = retry_after([].into_iter(), Some(reset), now);
            assert_eq!(wait, Some(Duration::from_secs(seconds)), "{reset}");
        }
    }

    #[test]
    fn of_several_requested_waits_the_longest_counts() {
        let longest = |values: &[&'static str]| retry_after(values.iter().copied(), None, UNIX_EPOCH);
        for (values, expected) in [
            (&["1", "30", "2"][..], Some(30)),
            (&["soon", "5"], Some(5)),
            (&["1, 30,2"], Some(30)),
            (&["soon, 5", "4"], Some(5)),
            (&["3", "Thu, 01 Jan 1970 00:00:40 GMT"], Some(40)),
            (&["soon", ""], None),
        ] {
            assert_eq!(longest(values), expected.map(Duration::from_secs), "{values:?}");
        }
    }
}
