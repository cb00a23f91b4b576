//! When the next request may go out. Pure: time comes in as a value.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);
/// How far the pace may run behind and make up for it.
const CATCH_UP: Duration = Duration::from_secs(1);
/// So many failures in a row are an outage.
const OUTAGE: u32 = 8;
/// The pauses in an outage, before it is given up: 1, 2, 4, 8, 16 s.
const PAUSES: u32 = 5;

/// Spreads requests evenly, at most so many in any 60 seconds, slower or not at all when the service asks for it.
pub struct Pace {
    per_minute: usize,
    interval: Duration,
    next: Option<Instant>,
    sent: VecDeque<Instant>,
    paused_until: Option<Instant>,
    /// The interval that the service asks for, and until when.
    slowed: Option<(Duration, Instant)>,
    throttled: u32,
    failures: u32,
}

impl Pace {
    pub fn new(per_minute: u32) -> Pace {
        Pace {
            per_minute: per_minute as usize,
            interval: WINDOW / per_minute,
            next: None,
            sent: VecDeque::new(),
            paused_until: None,
            slowed: None,
            throttled: 0,
            failures: 0,
        }
    }

    /// Lets a request out, or says how long to wait before asking again.
    pub fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        if let Some(wait) = self.pause(now) {
            return Err(wait);
        }
        while self
            .sent
            .front()
            .is_some_and(|first| now.duration_since(*first) >= WINDOW)
        {
            self.sent.pop_front();
        }
        if self.sent.len() >= self.per_minute {
            return Err(self.sent.front().map_or(WINDOW, |first| *first + WINDOW - now));
        }
        let next = self.next.unwrap_or(now);
        if next > now {
            return Err(next - now);
        }
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
        self.next = Some(match self.slowed {
            Some((interval, until)) if now < until => now + interval.max(self.interval),
            _ => next.max(earliest) + self.interval,
        });
        self.sent.push_back(now);
        Ok(())
    }

    /// What is left of a pause.
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        let left = self.paused_until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// A 429. Without a word on how long, 5, 10, 20, 40 s (didit-api.md §7).
    pub fn throttle(&mut self, now: Instant, asked: Option<Duration>) {
        let wait = match asked.filter(|wait| !wait.is_zero()) {
            Some(wait) => wait,
            // The others that were under way get their 429 as well.
            None if self.pause(now).is_some() => return,
            None => {
                self.throttled += 1;
                Duration::from_secs(5 << (self.throttled - 1).min(3))
            }
        };
        self.pause_for(now, wait);
    }

    /// What an answer said of the rate limit: under 15 % what is left is spread over the time until there is more.
    pub fn observe(&mut self, now: Instant, limit: u64, remaining: u64, reset: Option<Duration>) {
        let low = remaining.saturating_mul(100) < limit.saturating_mul(15);
        // Without a time, and whatever another clock says, it is no longer than the window.
        let reset = reset.map_or(WINDOW, |reset| reset.min(WINDOW));
        self.slowed = low.then(|| {
            let shares = u32::try_from(remaining.saturating_add(1)).unwrap_or(u32::MAX);
            (reset / shares, now + reset)
        });
        if let Some((interval, _)) = self.slowed {
            self.next = self.next.max(Some(now + interval));
        }
    }

    /// Didit answered, be it with a refusal.
    pub fn answered(&mut self) {
        self.throttled = 0;
        self.failures = 0;
    }

    /// No answer, or a 5xx. Returns whether to give up.
    pub fn fail(&mut self, now: Instant) -> bool {
        // Those that were under way when the pause began tell nothing new.
        if self.pause(now).is_some() {
            return false;
        }
        self.failures += 1;
        let Some(pauses) = self.failures.checked_sub(OUTAGE) else {
            return false;
        };
        if pauses < PAUSES {
            self.pause_for(now, Duration::from_secs(1 << pauses));
        }
        pauses >= PAUSES
    }

    fn pause_for(&mut self, now: Instant, wait: Duration) {
        self.paused_until = self.paused_until.max(Some(now + wait));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Lets out whatever may go from `start` for `time`, and tells when, in seconds.
    fn run(pace: &mut Pace, start: Instant, time: Duration) -> Vec<f64> {
        let mut sent = Vec::new();
        let mut now = start;
        while now - start < time {
            match pace.admit(now) {
                Ok(()) => sent.push((now - start).as_secs_f64()),
                Err(wait) => {
                    assert!(!wait.is_zero(), "a wait of nothing would spin");
                    now += wait;
                }
            }
        }
        sent
    }

    #[test]
    fn requests_are_spread_evenly() {
        let sent = run(&mut Pace::new(600), Instant::now(), SECOND);
        assert_eq!(sent.len(), 10);
        for (index, at) in sent.iter().enumerate() {
            assert!((at - index as f64 * 0.1).abs() < 1e-6, "{sent:?}");
        }
    }

    #[test]
    fn what_was_missed_is_made_up_for_a_second_at_most() {
        let start = Instant::now();
        let mut pace = Pace::new(600);
        run(&mut pace, start, SECOND);
        let sent = run(&mut pace, start + 30 * SECOND, SECOND / 1000);
        assert_eq!(sent.len(), 11);
    }

    #[test]
    fn no_sixty_seconds_see_more_than_the_rate() {
        let start = Instant::now();
        let mut pace = Pace::new(60);
        let mut sent = run(&mut pace, start, 20 * SECOND);
        sent.extend(
            run(&mut pace, start + 50 * SECOND, 100 * SECOND)
                .iter()
                .map(|at| at + 50.0),
        );
        for (index, at) in sent.iter().enumerate() {
            let window = sent[index..].iter().filter(|other| *other - at < 60.0 - 1e-6).count();
            assert!(window <= 60, "{window} from {at}");
        }
    }

    #[test]
    fn a_429_stops_everything_for_as_long_as_it_asks() {
        let start = Instant::now();
        let mut pace = Pace::new(6000);
        run(&mut pace, start, SECOND);
        pace.throttle(start + SECOND, Some(2 * SECOND));
        let sent = run(&mut pace, start + SECOND, 3 * SECOND);
        assert!((sent[0] - 2.0).abs() < 1e-6, "{}", sent[0]);
        // A shorter one on top does not cut it short.
        pace.throttle(start, Some(10 * SECOND));
        pace.throttle(start, Some(SECOND));
        assert_eq!(pace.pause(start), Some(10 * SECOND));
    }

    #[test]
    fn a_429_without_a_time_waits_longer_each_time_until_an_answer_comes() {
        let start = Instant::now();
        let mut pace = Pace::new(300);
        let mut now = start;
        let mut waits = Vec::new();
        for _ in 0..5 {
            pace.throttle(now, None);
            // The other workers' 429 of the same moment is no news.
            pace.throttle(now, None);
            let wait = pace.pause(now).unwrap();
            waits.push(wait.as_secs());
            now += wait;
        }
        assert_eq!(waits, [5, 10, 20, 40, 40]);
        pace.answered();
        pace.throttle(now, None);
        assert_eq!(pace.pause(now), Some(5 * SECOND));
    }

    #[test]
    fn it_slows_down_once_less_than_fifteen_percent_are_left() {
        let start = Instant::now();
        let count = |remaining, reset| {
            let mut pace = Pace::new(6000);
            pace.admit(start).unwrap();
            pace.observe(start, 100, remaining, reset);
            run(&mut pace, start, 10 * SECOND).len()
        };
        assert_eq!(count(15, Some(10 * SECOND)), 1000 - 1);
        // 9 are left for 10 s.
        assert_eq!(count(9, Some(10 * SECOND)), 9);
        assert_eq!(count(0, Some(10 * SECOND)), 0);
        // A clock that is wrong does not stop it for longer than the window.
        let mut pace = Pace::new(6000);
        pace.observe(start, 100, 0, Some(86_400 * SECOND));
        assert_eq!(pace.admit(start), Err(WINDOW));
    }

    #[test]
    fn an_outage_makes_it_pause_and_then_give_up() {
        let mut now = Instant::now();
        let mut pace = Pace::new(300);
        for _ in 0..OUTAGE - 1 {
            assert!(!pace.fail(now));
        }
        assert_eq!(pace.pause(now), None);
        let mut waits = Vec::new();
        while !pace.fail(now) {
            let wait = pace.pause(now).unwrap();
            assert!(!pace.fail(now), "a failure during the pause is no news");
            waits.push(wait.as_secs());
            now += wait;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16]);
        pace.answered();
        assert!(!pace.fail(now));
    }
}
