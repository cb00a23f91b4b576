//! Parsers for values of options.

use std::time::Duration;

/// Parses a number from 1 to `max`.
pub fn whole(text: &str, max: u32) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| format!("must be a whole number from 1 to {max}"))
}

/// Parses seconds, up to about 30 years, which can still be added to any clock.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.0..=1e9).contains(seconds));
    let duration = seconds.map(Duration::from_secs_f64);
    duration.ok_or_else(|| "must be a number of seconds, such as 60 or 2.5".into())
}
