//! When the next request may go out. Pure code: the time comes in as a value.

use std::time::Duration;

use super::outage::Time;

const WINDOW: Duration = Duration::from_secs(60);

/// Spreads requests evenly, and slows down if Didit's rate-limit headers ask for it. A late request is not followed by a burst,
/// so any 60 seconds contain at most the rate.
pub struct Pace {
    interval: Duration,
    next: Time,
    /// The interval that the headers ask for, and until when.
    slowed: Option<(Duration, Time)>,
}

impl Pace {
    pub fn new(per_minute: u32) -> Pace {
        Pace {
            interval: WINDOW / per_minute,
            next: Time::ZERO,
            slowed: None,
        }
    }

    /// Returns how long to wait until a request may go out.
    pub fn wait(&self, now: Time) -> Duration {
        self.next.saturating_sub(now)
    }

    /// Counts a request that goes out.
    pub fn count(&mut self, now: Time) {
        self.next = now + self.interval(now);
    }

    /// Estimates how long it takes until this many requests have gone out.
    pub fn estimate(&self, now: Time, requests: usize) -> Duration {
        self.wait(now) + self.interval(now) * requests.saturating_sub(1) as u32
    }

    fn interval(&self, now: Time) -> Duration {
        let slowed = self.slowed.filter(|(_, until)| now < *until);
        slowed.map_or(self.interval, |(interval, _)| interval.max(self.interval))
    }

    /// Adapts to the rate limit that an answer reports. If less than 15 % is left, the rest is spread over the time until the
    /// reset (docs/didit-api.md §7).
    pub fn heed_rate_limit(&mut self, now: Time, limit: u64, remaining: u64, reset: Option<Duration>) {
        let low = remaining.saturating_mul(100) < limit.saturating_mul(15);
        // A reset is at most one window away, also if it is missing or if the server's clock is wrong.
        let reset = reset.map_or(WINDOW, |reset| reset.min(WINDOW));
        self.slowed = low.then(|| {
            let shares = u32::try_from(remaining.saturating_add(1)).unwrap_or(u32::MAX);
            (reset / shares, now + reset)
        });
        if let Some((interval, _)) = self.slowed {
            self.next = self.next.max(now + interval);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Sends every request that may go out from `start` for `time`. Returns when each was sent, in seconds.
    fn run(pace: &mut Pace, start: Time, time: Duration) -> Vec<f64> {
        let mut sent = Vec::new();
        let mut now = start;
        while now - start < time {
            let wait = pace.wait(now);
            if wait.is_zero() {
                pace.count(now);
                sent.push(now.as_secs_f64());
            }
            now += wait;
        }
        sent
    }

    #[test]
    fn requests_are_spread_evenly() {
        let sent = run(&mut Pace::new(600), Time::ZERO, SECOND);
        assert_eq!(sent.len(), 10);
        for (index, at) in sent.iter().enumerate() {
            assert!((at - index as f64 * 0.1).abs() < 1e-6, "{sent:?}");
        }
    }

    #[test]
    fn any_sixty_seconds_contain_at_most_the_rate() {
        let mut pace = Pace::new(60);
        let mut sent = run(&mut pace, Time::ZERO, 20 * SECOND);
        sent.extend(run(&mut pace, 50 * SECOND, 100 * SECOND));
        for (index, at) in sent.iter().enumerate() {
            let window = sent[index..].iter().filter(|other| *other - at < 60.0 - 1e-6).count();
            assert!(window <= 60, "{window} from {at}");
        }
    }

    #[test]
    fn the_pace_slows_down_when_less_than_fifteen_percent_of_the_limit_is_left() {
        let count = |remaining, reset| {
            let mut pace = Pace::new(6000);
            pace.count(Time::ZERO);
            pace.heed_rate_limit(Time::ZERO, 100, remaining, reset);
            run(&mut pace, Time::ZERO, 10 * SECOND).len()
        };
        assert_eq!(count(15, Some(10 * SECOND)), 1000 - 1);
        // 9 are left for 10 s.
        assert_eq!(count(9, Some(10 * SECOND)), 9);
        assert_eq!(count(0, Some(10 * SECOND)), 0);
        // A wrong clock delays a request by at most one window.
        let mut pace = Pace::new(6000);
        pace.heed_rate_limit(Time::ZERO, 100, 0, Some(86_400 * SECOND));
        assert_eq!(pace.wait(Time::ZERO), WINDOW);
    }
}
