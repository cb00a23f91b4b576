//! How far a batch has come: a bar on a terminal, else a line now and then.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::results::Counts;
use crate::report::diagnose;

const LINE_EVERY: Duration = Duration::from_secs(10);
const DRAW_EVERY: Duration = Duration::from_millis(100);

pub struct Progress {
    total: usize,
    /// What was done before this run.
    before: usize,
    start: Instant,
    how: How,
}

enum How {
    Bar(ProgressBar),
    Lines { next: Instant },
    Silent,
}

impl Progress {
    pub fn new(total: usize, before: usize, quiet: bool) -> Progress {
        let start = Instant::now();
        let how = if quiet {
            How::Silent
        } else if io::stderr().is_terminal() {
            // No colours: there is nothing for NO_COLOR to turn off.
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}").expect("a valid template");
            let target = ProgressDrawTarget::stderr();
            How::Bar(ProgressBar::with_draw_target(Some(total as u64), target).with_style(style))
        } else {
            How::Lines {
                next: start + LINE_EVERY,
            }
        };
        Progress {
            total,
            before,
            start,
            how,
        }
    }

    /// How long until it is worth calling `show` again.
    pub fn interval(&self) -> Duration {
        match &self.how {
            How::Bar(_) => DRAW_EVERY,
            How::Lines { next } => next.saturating_duration_since(Instant::now()),
            How::Silent => LINE_EVERY,
        }
    }

    /// `pause` is what is left of one that all workers keep.
    pub fn show(&mut self, counts: &Counts, pause: Option<Duration>) {
        let now = Instant::now();
        let speed = match pause {
            Some(left) => format!("pausing for {} s", left.as_secs() + 1),
            None => self.speed(counts, now),
        };
        match &mut self.how {
            How::Bar(bar) => {
                bar.set_position(counts.done() as u64);
                bar.set_message(format!("{} not applied, {speed}", counts.failed()));
            }
            How::Lines { next } if now >= *next => {
                *next = now + LINE_EVERY;
                let (done, failed, total) = (counts.done(), counts.failed(), self.total);
                diagnose(&format!("{done} of {total} rows done, {failed} not applied, {speed}"));
            }
            _ => {}
        }
    }

    /// Runs what writes to the terminal, with the bar out of its way.
    pub fn aside(&self, write: impl FnOnce()) {
        match &self.how {
            How::Bar(bar) => bar.suspend(write),
            _ => write(),
        }
    }

    pub fn finish(self) {
        if let How::Bar(bar) = self.how {
            bar.finish_and_clear();
        }
    }

    fn speed(&self, counts: &Counts, now: Instant) -> String {
        let done = counts.done() - self.before;
        let passed = now.duration_since(self.start);
        if done == 0 {
            return "just begun".into();
        }
        let left = passed.mul_f64((self.total - counts.done()) as f64 / done as f64);
        let left = match left.as_secs() {
            seconds @ 0..=119 => format!("{seconds} s"),
            seconds @ 120..=7199 => format!("{} min", seconds / 60),
            seconds => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        };
        let per_minute = done as f64 * 60.0 / passed.as_secs_f64();
        format!("{per_minute:.0} a minute, {left} left")
    }
}
