//! The progress of a batch: a bar on a terminal, otherwise a line every 10 s.

use std::env;
use std::io::{self, IsTerminal};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use didit::text::in_words;

use super::report::Counts;
use crate::terminal::{BAR_IS_SHOWN, say};

const LINE_EVERY: Duration = Duration::from_secs(10);
const DRAW_EVERY: Duration = Duration::from_millis(100);

pub struct Progress {
    total: usize,
    /// How many rows were done before this run.
    before: usize,
    /// The time spent sending requests, without pauses.
    active: Duration,
    last: Instant,
    style: Style,
}

enum Style {
    Bar(ProgressBar),
    Lines { next: Instant },
    Silent,
}

impl Progress {
    pub fn new(total: usize, before: usize, quiet: bool) -> Progress {
        let now = Instant::now();
        let style = if quiet {
            Style::Silent
        } else if io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb") {
            // Text that does not fit on the line is cut off. The bar has no colours, so NO_COLOR has nothing to turn off.
            let style = ProgressStyle::with_template("{bar:12} {pos}/{len} {wide_msg}").expect("a valid template");
            let target = ProgressDrawTarget::stderr();
            BAR_IS_SHOWN.store(true, Relaxed);
            Style::Bar(ProgressBar::with_draw_target(Some(total as u64), target).with_style(style))
        } else {
            Style::Lines { next: now + LINE_EVERY }
        };
        Progress {
            total,
            before,
            active: Duration::ZERO,
            last: now,
            style,
        }
    }

    /// Returns how long to wait before the next call of `show`.
    pub fn interval(&self) -> Duration {
        match &self.style {
            Style::Bar(_) => DRAW_EVERY,
            Style::Lines { next } => next.saturating_duration_since(Instant::now()),
            Style::Silent => LINE_EVERY,
        }
    }

    /// Shows the progress. `state` says what the run does while it sends no new requests.
    pub fn show(&mut self, counts: &Counts, state: Option<String>) {
        let now = Instant::now();
        if state.is_none() {
            self.active += now - self.last;
        }
        self.last = now;
        let speed = state.unwrap_or_else(|| self.speed(counts));
        let (done, failed) = (counts.reported(), counts.refused + counts.unknown);
        let text = match failed {
            0 => speed,
            _ => format!("{failed} refused or unknown, {speed}"),
        };
        match &mut self.style {
            Style::Bar(bar) => {
                bar.set_position(done as u64);
                bar.set_message(text);
            }
            Style::Lines { next } if now >= *next => {
                *next = now + LINE_EVERY;
                say(&format!("{done} of {} rows have a result, {text}", self.total));
            }
            _ => {}
        }
    }

    pub fn finish(self) {
        if let Style::Bar(bar) = self.style {
            bar.finish_and_clear();
            BAR_IS_SHOWN.store(false, Relaxed);
        }
    }

    fn speed(&self, counts: &Counts) -> String {
        let done = counts.reported().saturating_sub(self.before);
        if done == 0 {
            return "starting".into();
        }
        let left = self
            .active
            .mul_f64((self.total - counts.reported()) as f64 / done as f64);
        let per_minute = done as f64 * 60.0 / self.active.as_secs_f64().max(0.001);
        format!("{} left, {per_minute:.0} per minute", in_whole_seconds(left))
    }
}

/// Formats a duration, rounded up to a second.
pub fn in_whole_seconds(duration: Duration) -> String {
    in_words(Duration::from_secs(duration.as_millis().div_ceil(1000) as u64))
}
