//! A circuit breaker. It opens after several failures in a row. While it is open, one probe at a time shows whether Didit
//! answers updates again. Pure code: the time since the run began comes in as a value.

use std::time::Duration;

/// This many failures in a row, without an answered update in between, open the circuit.
const FAILURES: u32 = 8;
/// The pause before the first probe, unless the server asks for one. Each pause is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(30);

pub struct Circuit {
    max_outage: Duration,
    failures: u32,
    outage: Option<Outage>,
    /// The time when the current pause ends.
    until: Duration,
}

struct Outage {
    /// When the outage began: after the first pause, if the server asked for one.
    since: Duration,
    next_pause: Duration,
}

/// What the run does after a failure.
#[derive(Debug, PartialEq)]
pub enum AfterFailure {
    /// It continues, or an earlier pause does.
    Continue,
    /// The circuit was closed and is open now: all workers pause.
    Pause(Duration),
    /// The circuit has been open for too long.
    GiveUp,
    /// The server asks for a longer pause than an outage may take.
    PauseTooLong(Duration),
}

impl Circuit {
    pub fn new(max_outage: Duration) -> Circuit {
        Circuit {
            max_outage,
            failures: 0,
            outage: None,
            until: Duration::ZERO,
        }
    }

    pub fn is_open(&self) -> bool {
        self.outage.is_some()
    }

    /// Returns what is left of a pause.
    pub fn remaining_pause(&self, now: Duration) -> Option<Duration> {
        Some(self.until.saturating_sub(now)).filter(|left| !left.is_zero())
    }

    /// Closes the circuit, because Didit answered an update. A pause that has begun continues: the server may have asked for it.
    pub fn close(&mut self) {
        self.failures = 0;
        self.outage = None;
    }

    /// Counts a failure. `asked` is the pause that the server asks for. `at_once` opens the circuit even at the first failure.
    pub fn failed(&mut self, now: Duration, asked: Option<Duration>, at_once: bool) -> AfterFailure {
        self.failures += 1;
        // A server that asks for 0 s leaves the pause to us.
        let asked = asked.filter(|asked| !asked.is_zero());
        let pausing = now < self.until;
        let asked_until = now + asked.unwrap_or_default();
        self.until = self.until.max(asked_until);
        if let Some(pause) = asked.filter(|pause| *pause > self.max_outage) {
            return AfterFailure::PauseTooLong(pause);
        }
        let opens = self.outage.is_none();
        if opens && !at_once && asked.is_none() && self.failures < FAILURES {
            return AfterFailure::Continue;
        }
        let outage = self.outage.get_or_insert(Outage {
            since: asked_until,
            next_pause: FIRST_PAUSE,
        });
        let left = (outage.since + self.max_outage).saturating_sub(now);
        match (opens, pausing) {
            // The request was in flight when the pause began.
            (false, true) => return AfterFailure::Continue,
            (false, false) if left.is_zero() => return AfterFailure::GiveUp,
            _ => {}
        }
        let pause = asked.unwrap_or(outage.next_pause.min(left));
        outage.next_pause = MAX_PAUSE.min(outage.next_pause * 2);
        self.until = self.until.max(now + pause);
        match opens {
            true => AfterFailure::Pause(pause),
            false => AfterFailure::Continue,
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
            assert_eq!(circuit.failed(Duration::ZERO, None, false), AfterFailure::Continue);
        }
        assert_eq!(circuit.remaining_pause(Duration::ZERO), None);
        assert_eq!(circuit.failed(Duration::ZERO, None, false), AfterFailure::Pause(SECOND));
        circuit
    }

    /// Fails every probe, each with a requested pause of `asked`. Returns the pauses before each probe, in seconds.
    fn pauses(circuit: &mut Circuit, asked: Option<Duration>) -> Vec<f64> {
        let mut now = Duration::ZERO;
        let mut pauses = Vec::new();
        loop {
            let pause = circuit.remaining_pause(now).unwrap_or_default();
            pauses.push(pause.as_secs_f64());
            now += pause;
            if circuit.failed(now, asked, false) == AfterFailure::GiveUp {
                return pauses;
            }
            assert!(pauses.len() < 100);
        }
    }

    #[test]
    fn eight_failures_in_a_row_open_the_circuit_and_an_answered_update_resets_the_count() {
        let mut circuit = Circuit::new(60 * SECOND);
        for _ in 0..3 {
            for _ in 0..FAILURES - 1 {
                assert_eq!(circuit.failed(Duration::ZERO, None, false), AfterFailure::Continue);
            }
            circuit.close();
        }
        assert!(!circuit.is_open());
        assert!(opened(60).is_open());
    }

    #[test]
    fn pauses_grow_and_the_last_probe_is_sent_when_the_outage_reaches_its_limit() {
        assert_eq!(pauses(&mut opened(60), None), [1.0, 2.0, 4.0, 8.0, 16.0, 29.0]);
        assert_eq!(pauses(&mut opened(5), None), [1.0, 2.0, 2.0]);
        assert_eq!(
            pauses(&mut opened(100), None),
            [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 9.0]
        );
        let mut none = Circuit::new(Duration::ZERO);
        assert_eq!(
            none.failed(Duration::ZERO, None, true),
            AfterFailure::Pause(Duration::ZERO)
        );
        assert_eq!(pauses(&mut none, None), [0.0]);
    }

    #[test]
    fn a_requested_pause_counts_as_outage_only_if_it_is_requested_again() {
        let mut circuit = Circuit::new(60 * SECOND);
        let asked = Some(45 * SECOND);
        assert_eq!(
            circuit.failed(Duration::ZERO, asked, true),
            AfterFailure::Pause(45 * SECOND)
        );
        assert_eq!(pauses(&mut circuit, asked), [45.0, 45.0, 45.0]);
        let mut circuit = Circuit::new(60 * SECOND);
        circuit.failed(Duration::ZERO, asked, true);
        assert_eq!(pauses(&mut circuit, None), [45.0, 2.0, 4.0, 8.0, 16.0, 30.0]);
    }

    #[test]
    fn a_requested_pause_longer_than_max_outage_stops_the_run() {
        let mut circuit = Circuit::new(60 * SECOND);
        assert_eq!(
            circuit.failed(Duration::ZERO, Some(61 * SECOND), true),
            AfterFailure::PauseTooLong(61 * SECOND)
        );
        assert_eq!(
            circuit.failed(Duration::ZERO, Some(60 * SECOND), true),
            AfterFailure::Pause(60 * SECOND)
        );
    }

    #[test]
    fn an_answered_update_does_not_shorten_a_requested_pause() {
        let mut circuit = Circuit::new(60 * SECOND);
        circuit.failed(Duration::ZERO, Some(10 * SECOND), true);
        // Another worker succeeds at the same moment, and a third is asked for a shorter pause.
        circuit.close();
        circuit.failed(SECOND, Some(SECOND), true);
        assert_eq!(circuit.remaining_pause(SECOND), Some(9 * SECOND));
        circuit.close();
        assert_eq!(circuit.remaining_pause(10 * SECOND), None);
    }

    #[test]
    fn requests_in_flight_when_the_circuit_opens_do_not_lengthen_the_pause() {
        let mut circuit = opened(60);
        for _ in 0..20 {
            assert_eq!(circuit.failed(Duration::ZERO, None, false), AfterFailure::Continue);
        }
        assert_eq!(circuit.remaining_pause(Duration::ZERO), Some(SECOND));
    }
}
