//! Text for people: durations, messages of the system, and text from outside made safe to show.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::time::Duration;

/// Formats a duration for people: `250 ms`, `1.5 s`, `90 s`, `59 min 51 s`, `2 h 5 min`, `10 days`.
// Without floating point, whose formatting would add 15 KB to a small binary.
pub fn in_words(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0) if millis > 0 => format!("{millis} ms"),
        (0, 0..=1, _) if millis >= 100 => format!("{seconds}.{} s", millis / 100),
        (0, 0..=1, _) => format!("{seconds} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, rest) => format!("{minutes} min {rest} s"),
        (hours @ 48.., ..) => format!("{} days", hours / 24),
        (hours, 0, _) => format!("{hours} h"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// Returns the message of the operating system without its number: "Connection refused", not "… (os error 111)".
pub fn system_message(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.trim_end_matches('.').to_owned()
}

/// Returns the message of the operating system for the middle of a sentence: "connection refused".
pub(crate) fn system_words(error: &std::io::Error) -> String {
    let mut text = system_message(error);
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    text
}

/// Escapes control characters and those that change the direction of writing, because text from outside may contain
/// terminal sequences.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return text.into();
    }
    let mut line = String::new();
    for c in text.chars() {
        if is_unsafe(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line.into()
}

fn is_unsafe(c: char) -> bool {
    let changes_direction = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    c.is_control() || changes_direction
}

/// Makes text from the server safe to show in one line. Removes secrets first, since a cut could leave half of one,
/// then cuts the text, then escapes it.
pub(crate) fn sanitize(text: &str, max: usize, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    let mut secrets: Vec<_> = secrets.iter().filter(|secret| !secret.is_empty()).collect();
    // One secret may be a part of another.
    secrets.sort_by_key(|secret| Reverse(secret.len()));
    for secret in secrets {
        text = text.replace(secret, "[hidden]");
    }
    let text = text.trim();
    match text.char_indices().nth(max) {
        Some((end, _)) => escaped(&text[..end]).into_owned() + "…",
        None => escaped(text).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_cannot_control_a_terminal_or_break_a_line() {
        for (text, line) in [
            ("a\nb", r"a\nb"),
            ("a\r\n\tb", r"a\r\n\tb"),
            ("\x1b[31mred\x07", r"\u{1b}[31mred\u{7}"),
            ("\u{9b}31m", r"\u{9b}31m"),
            ("a\u{202e}b\u{2066}c\u{2069}", r"a\u{202e}b\u{2066}c\u{2069}"),
            ("a\u{2028}b\u{200f}c\u{200e}", r"a\u{2028}b\u{200f}c\u{200e}"),
            ("a\u{61c}b", r"a\u{61c}b"),
            ("\u{7f}", r"\u{7f}"),
            ("  é ü 你好 🙂  ", "é ü 你好 🙂"),
        ] {
            assert_eq!(sanitize(text, 300, &[]), line);
        }
    }

    #[test]
    fn a_secret_that_ends_in_a_space_is_hidden_completely() {
        assert_eq!(sanitize(" wrong: hunter2 ", 99, &["hunter2 "]), "wrong: [hidden]");
    }

    #[test]
    fn secrets_are_hidden_even_where_the_text_is_cut() {
        let text = format!("{}s3cret and s3cret", "x".repeat(8));
        assert_eq!(sanitize(&text, 300, &["", "s3cret"]), "xxxxxxxx[hidden] and [hidden]");
        for max in 0..text.len() {
            let line = sanitize(&text, max, &["s3cret"]);
            assert!(!line.contains("s3"), "{max}: {line}");
        }
        assert_eq!(sanitize("token key", 300, &["key", "token"]), "[hidden] [hidden]");
        assert_eq!(sanitize("wrong: s3cret", 300, &["s3", "s3cret"]), "wrong: [hidden]");
    }

    #[test]
    fn durations_are_formatted_for_people() {
        for (millis, words) in [
            (0, "0 s"),
            (1, "1 ms"),
            (250, "250 ms"),
            (1500, "1.5 s"),
            (30_000, "30 s"),
            (60_000, "60 s"),
            (119_000, "119 s"),
            (120_000, "2 min"),
            (3_591_000, "59 min 51 s"),
            (3_600_000, "1 h"),
            (86_400_000, "24 h"),
            (7_500_000, "2 h 5 min"),
            (864_000_000, "10 days"),
        ] {
            assert_eq!(in_words(Duration::from_millis(millis)), words);
        }
    }
}
