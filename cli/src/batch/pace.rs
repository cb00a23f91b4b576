//! When the next request may go out. Pure: time comes in as a value.

use std::time::Duration;

use super::outage::Time;

const WINDOW: Duration = Duration::from_secs(60);

/// Spreads requests evenly, and slower where the service's headers ask for it. What was missed is not made up for, so no 60
/// seconds see more than the rate.
pub struct Pace {
    interval: Duration,
    next: Time,
    /// The interval that the service asks for, and until when.
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

    /// How long until a request may go out.
    pub fn wait(&self, now: Time) -> Duration {
        self.next.saturating_sub(now)
    }

    /// A request goes out.
    pub fn count(&mut self, now: Time) {
        self.next = now + self.interval(now);
    }

    /// About how long until so many requests have gone out.
    pub fn estimate(&self, now: Time, requests: usize) -> Duration {
        self.wait(now) + self.interval(now) * requests.saturating_sub(1) as u32
    }

    fn interval(&self, now: Time) -> Duration {
        let slowed = self.slowed.filter(|(_, until)| now < *until);
        slowed.map_or(self.interval, |(interval, _)| interval.max(self.interval))
    }

    /// What an answer says about the rate limit: under 15 % what is left is spread over the time until there is more
    /// (docs/didit-api.md §7).
    pub fn heed_rate_limit(&mut self, now: Time, limit: u64, remaining: u64, reset: Option<Duration>) {
        let low = remaining.saturating_mul(100) < limit.saturating_mul(15);
        // Without a time, and whatever another clock says, it is no longer than the window.
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

    /// Lets out whatever may go from `start` for `time`, and tells when, in seconds.
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
    fn no_sixty_seconds_see_more_than_the_rate() {
        let mut pace = Pace::new(60);
        let mut sent = run(&mut pace, Time::ZERO, 20 * SECOND);
        sent.extend(run(&mut pace, 50 * SECOND, 100 * SECOND));
        for (index, at) in sent.iter().enumerate() {
            let window = sent[index..].iter().filter(|other| *other - at < 60.0 - 1e-6).count();
            assert!(window <= 60, "{window} from {at}");
        }
    }

    #[test]
    fn it_slows_down_once_less_than_fifteen_percent_are_left() {
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
        // A clock that is wrong does not stop it for longer than the window.
        let mut pace = Pace::new(6000);
        pace.heed_rate_limit(Time::ZERO, 100, 0, Some(86_400 * SECOND));
        assert_eq!(pace.wait(Time::ZERO), WINDOW);
    }
}
