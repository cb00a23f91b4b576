//! A circuit breaker: it opens when requests fail in a row, and one probe at a time then shows whether writes get through
//! again. Pure: time comes in as a value.

use std::time::Duration;

/// The time since the run began.
pub type Time = Duration;

/// So many failures in a row, and no write that got through in between, open it.
const FAILURES: u32 = 8;
/// The pause before the first probe, where the server asks for none; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);

pub struct Circuit {
    max_outage: Duration,
    failures: u32,
    outage: Option<Outage>,
    /// The end of a pause.
    until: Time,
}

struct Outage {
    /// When it began; after the first pause, where the server asked for that.
    since: Time,
    next_pause: Duration,
}

/// What a failure leads to.
#[derive(Debug, PartialEq)]
pub enum Change {
    None,
    /// The circuit was closed and is open now.
    Opened(Duration),
    /// It has been open for too long, or the server asks for a pause that would be too long.
    GiveUp,
}

impl Circuit {
    pub fn new(max_outage: Duration) -> Circuit {
        Circuit {
            max_outage,
            failures: 0,
            outage: None,
            until: Time::ZERO,
        }
    }

    pub fn is_open(&self) -> bool {
        self.outage.is_some()
    }

    /// How much of a pause is left.
    pub fn remaining_pause(&self, now: Time) -> Option<Duration> {
        Some(self.until.saturating_sub(now)).filter(|left| !left.is_zero())
    }

    /// A write got through. A pause that has begun goes on: the server may have asked for it.
    pub fn got_through(&mut self) {
        self.failures = 0;
        self.outage = None;
    }

    /// A request failed. `asked` is the pause that the server asks for; `at_once` opens the circuit whatever came before.
    pub fn failed(&mut self, now: Time, asked: Option<Duration>, at_once: bool) -> Change {
        self.failures += 1;
        let pausing = now < self.until;
        let asked_until = now + asked.unwrap_or_default();
        self.until = self.until.max(asked_until);
        if asked.is_some_and(|asked| asked > self.max_outage) {
            return Change::GiveUp;
        }
        let opens = self.outage.is_none();
        if opens && !at_once && asked.is_none() && self.failures < FAILURES {
            return Change::None;
        }
        let outage = self.outage.get_or_insert(Outage {
            since: asked_until,
            next_pause: FIRST_PAUSE,
        });
        let left = (outage.since + self.max_outage).saturating_sub(now);
        match (opens, pausing) {
            // It was in flight when the pause began.
            (false, true) => return Change::None,
            (false, false) if left.is_zero() => return Change::GiveUp,
            _ => {}
        }
        let pause = asked.unwrap_or(outage.next_pause.min(left));
        outage.next_pause = MAX_PAUSE.min(outage.next_pause * 2);
        self.until = self.until.max(now + pause);
        match opens {
            true => Change::Opened(pause),
            false => Change::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn opened(max_outage: u64) -> Circuit {
        let mut circuit = Circuit::new(SECOND * max_outage as u32);
        for _ in 0..FAILURES - 1 {
            assert_eq!(circuit.failed(Time::ZERO, None, false), Change::None);
        }
        assert_eq!(circuit.remaining_pause(Time::ZERO), None);
        assert_eq!(circuit.failed(Time::ZERO, None, false), Change::Opened(SECOND));
        circuit
    }

    /// Lets every probe fail, each asked to wait for `asked`; the pauses before each, in seconds.
    fn pauses(circuit: &mut Circuit, asked: Option<Duration>) -> Vec<f64> {
        let mut now = Time::ZERO;
        let mut pauses = Vec::new();
        loop {
            let pause = circuit.remaining_pause(now).unwrap_or_default();
            pauses.push(pause.as_secs_f64());
            now += pause;
            if circuit.failed(now, asked, false) == Change::GiveUp {
                return pauses;
            }
            assert!(pauses.len() < 100);
        }
    }

    #[test]
    fn eight_failures_in_a_row_open_it_and_a_write_in_between_does_not_let_them_add_up() {
        let mut circuit = Circuit::new(60 * SECOND);
        for _ in 0..3 {
            for _ in 0..FAILURES - 1 {
                assert_eq!(circuit.failed(Time::ZERO, None, false), Change::None);
            }
            circuit.got_through();
        }
        assert!(!circuit.is_open());
        assert!(opened(60).is_open());
    }

    #[test]
    fn the_pauses_grow_and_a_last_probe_goes_out_when_the_outage_has_lasted_too_long() {
        assert_eq!(pauses(&mut opened(60), None), [1.0, 2.0, 4.0, 8.0, 16.0, 29.0]);
        assert_eq!(pauses(&mut opened(5), None), [1.0, 2.0, 2.0]);
        assert_eq!(
            pauses(&mut opened(100), None),
            [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 9.0]
        );
        let mut none = Circuit::new(Duration::ZERO);
        assert_eq!(none.failed(Time::ZERO, None, true), Change::Opened(Duration::ZERO));
        assert_eq!(pauses(&mut none, None), [0.0]);
    }

    #[test]
    fn a_pause_that_was_asked_for_does_not_count_unless_it_is_asked_for_again() {
        let mut circuit = Circuit::new(60 * SECOND);
        let asked = Some(45 * SECOND);
        assert_eq!(circuit.failed(Time::ZERO, asked, true), Change::Opened(45 * SECOND));
        assert_eq!(pauses(&mut circuit, asked), [45.0, 45.0, 45.0]);
        let mut circuit = Circuit::new(60 * SECOND);
        circuit.failed(Time::ZERO, asked, true);
        assert_eq!(pauses(&mut circuit, None), [45.0, 2.0, 4.0, 8.0, 16.0, 30.0]);
    }

    #[test]
    fn a_pause_longer_than_an_outage_may_last_is_not_waited_for() {
        let mut circuit = Circuit::new(60 * SECOND);
        assert_eq!(circuit.failed(Time::ZERO, Some(61 * SECOND), true), Change::GiveUp);
        assert_eq!(
            circuit.failed(Time::ZERO, Some(60 * SECOND), true),
            Change::Opened(60 * SECOND)
        );
    }

    #[test]
    fn a_write_that_got_through_does_not_cut_short_what_the_server_asked_for() {
        let mut circuit = Circuit::new(60 * SECOND);
        circuit.failed(Time::ZERO, Some(10 * SECOND), true);
        // Another worker's answer of the same moment, and one that asks for less.
        circuit.got_through();
        circuit.failed(SECOND, Some(SECOND), true);
        assert_eq!(circuit.remaining_pause(SECOND), Some(9 * SECOND));
        circuit.got_through();
        assert_eq!(circuit.remaining_pause(10 * SECOND), None);
    }

    #[test]
    fn what_was_under_way_when_it_opened_does_not_lengthen_the_outage() {
        let mut circuit = opened(60);
        for _ in 0..20 {
            assert_eq!(circuit.failed(Time::ZERO, None, false), Change::None);
        }
        assert_eq!(circuit.remaining_pause(Time::ZERO), Some(SECOND));
    }
}
