//! When the next request may go out. Pure code: the time since the run began comes in as a value.

use std::time::Duration;

const WINDOW: Duration = Duration::from_secs(60);

/// Spreads requests evenly. A late request is not followed by a burst, so any 60 seconds contain at most the rate.
pub struct Pace {
    interval: Duration,
    next: Duration,
}

impl Pace {
    pub fn new(per_minute: u32) -> Pace {
        Pace {
            interval: WINDOW / per_minute,
            next: Duration::ZERO,
        }
    }

    /// Returns how long to wait until a request may go out.
    pub fn wait(&self, now: Duration) -> Duration {
        self.next.saturating_sub(now)
    }

    /// Counts a request that goes out.
    pub fn count(&mut self, now: Duration) {
        self.next = now + self.interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Sends every request that may go out from `start` for `time`. Returns when each was sent, in seconds.
    fn run(pace: &mut Pace, start: Duration, time: Duration) -> Vec<f64> {
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
        let sent = run(&mut Pace::new(600), Duration::ZERO, SECOND);
        assert_eq!(sent.len(), 10);
        for (index, at) in sent.iter().enumerate() {
            assert!((at - index as f64 * 0.1).abs() < 1e-6, "{sent:?}");
        }
    }

    #[test]
    fn any_sixty_seconds_contain_at_most_the_rate() {
        let mut pace = Pace::new(60);
        let mut sent = run(&mut pace, Duration::ZERO, 20 * SECOND);
        sent.extend(run(&mut pace, 50 * SECOND, 100 * SECOND));
        for (index, at) in sent.iter().enumerate() {
            let window = sent[index..].iter().filter(|other| *other - at < 60.0 - 1e-6).count();
            assert!(window <= 60, "{window} from {at}");
        }
    }
}
