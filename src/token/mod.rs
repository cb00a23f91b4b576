//! An access token and its lifetime.

pub(crate) mod file;
pub(crate) mod source;

use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::error::TokenOrigin;
use crate::secret::{Secret, is_visible_ascii};

/// One moment by both clocks. The monotonic clock may stop while a laptop sleeps; the wall clock may jump.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timestamp {
    pub(crate) monotonic: Instant,
    pub(crate) wall: SystemTime,
}

impl Timestamp {
    pub(crate) fn now() -> Timestamp {
        Timestamp {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }
}

/// The longest time that an access token is cached.
pub(crate) const MAX_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// The lifetime of an access token if the response has no usable one (docs/didit-api.md §2).
const DEFAULT_LIFETIME: Duration = Duration::from_secs(5 * 60);
/// An access token is refreshed when it has less than this left, or less than a tenth of its lifetime if that is
/// shorter: it must not expire between the read of a session and its update, and a token of a minute or less must not be
/// refreshed all the time.
const REFRESH_MARGIN: Duration = Duration::from_secs(60);

/// An access token and its lifetime. It expires as soon as either clock says so.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    /// The value of the `Authorization` header: `Bearer` and the access token.
    authorization: Secret,
    pub(crate) lifetime: Duration,
    pub(crate) issued_at: Timestamp,
    pub(crate) origin: TokenOrigin,
}

const BEARER: &str = "Bearer ";
/// Limits the access token, so that the head of a request fits into its buffer.
const MAX_LENGTH: usize = 16 * 1024;

impl Token {
    /// Returns `None` if a header must not contain `value`.
    pub(crate) fn new(value: &str, lifetime: Duration, issued_at: Timestamp) -> Option<Token> {
        (is_visible_ascii(value) && value.len() <= MAX_LENGTH).then(|| Token {
            authorization: Secret::new([BEARER, value].concat()),
            lifetime: lifetime.min(MAX_LIFETIME),
            issued_at,
            origin: TokenOrigin::Fetched,
        })
    }

    pub(crate) fn value(&self) -> &str {
        &self.authorization.expose()[BEARER.len()..]
    }

    pub(crate) fn authorization(&self) -> &str {
        self.authorization.expose()
    }

    /// Parses the response to a token request (docs/didit-api.md §2). Tolerates harmless differences between servers.
    ///
    /// # Errors
    /// What is wrong with the response.
    pub(crate) fn parse(body: &Value, issued_at: Timestamp) -> Result<Token, &'static str> {
        let value = match body["access_token"].as_str() {
            _ if !body["error"].is_null() => return Err("its response is an error"),
            None | Some("") => return Err("its response contains no access token"),
            Some(value) => value,
        };
        let kind = &body["token_type"];
        if !kind.is_null() && !kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
            return Err("the token is not a Bearer token");
        }
        let between = || whole_seconds(&body["exp"])?.checked_sub(whole_seconds(&body["iat"])?);
        let lifetime = whole_seconds(&body["expires_in"])
            .or_else(|| between().filter(|seconds| *seconds > 0))
            .map_or(DEFAULT_LIFETIME, Duration::from_secs);
        Token::new(value, lifetime, issued_at)
            .ok_or("the access token is longer than 16 KiB, or contains characters that a header must not contain")
    }

    /// Returns the rest of the lifetime.
    pub(crate) fn remaining(&self, now: Timestamp) -> Duration {
        let monotonic = now.monotonic.saturating_duration_since(self.issued_at.monotonic);
        // If the wall clock was set back, only the monotonic clock counts.
        let wall = now.wall.duration_since(self.issued_at.wall).unwrap_or_default();
        self.lifetime.saturating_sub(monotonic.max(wall))
    }

    pub(crate) fn is_fresh(&self, now: Timestamp) -> bool {
        self.remaining(now) > REFRESH_MARGIN.min(self.lifetime / 10)
    }

    pub(crate) fn is_valid(&self, now: Timestamp) -> bool {
        !self.remaining(now).is_zero()
    }
}

/// Parses a number of seconds, which may be in a string, and drops its fraction. Returns `None` if it is not a number
/// above 0.
fn whole_seconds(value: &Value) -> Option<u64> {
    let number = match value {
        Value::Number(number) => number.clone(),
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    // The cast saturates: a negative number becomes 0.
    let seconds = number.as_u64().or_else(|| number.as_f64().map(|float| float as u64));
    seconds.filter(|seconds| *seconds > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NANO: Duration = Duration::from_nanos(1);

    fn lasting(lifetime: Duration) -> Token {
        Token::new("token", lifetime, Timestamp::now()).unwrap()
    }

    /// Moves both clocks forward.
    fn later(token: &Token, by: Duration) -> Timestamp {
        Timestamp {
            monotonic: token.issued_at.monotonic + by,
            wall: token.issued_at.wall + by,
        }
    }

    fn lifetime(body: &Value) -> Duration {
        Token::parse(body, Timestamp::now()).unwrap().lifetime
    }

    #[test]
    fn a_token_is_fresh_until_a_tenth_of_its_lifetime_or_a_minute_is_left() {
        for (life, margin) in [(100, 10), (600, 60), (601, 60), (86400, 60), (31_536_000, 60), (10, 1)] {
            let token = lasting(life * SECOND);
            let edge = (life - margin) * SECOND;
            assert!(token.is_fresh(later(&token, edge - NANO)), "{life}");
            assert!(!token.is_fresh(later(&token, edge)), "{life}");
            assert!(!token.is_fresh(later(&token, edge + NANO)), "{life}");
        }
    }

    #[test]
    fn a_token_is_valid_until_its_last_nanosecond() {
        let token = lasting(100 * SECOND);
        assert!(token.is_valid(later(&token, 100 * SECOND - NANO)));
        assert!(!token.is_valid(later(&token, 100 * SECOND)));
        assert!(!token.is_valid(later(&token, 3600 * SECOND)));
        assert_eq!(token.remaining(later(&token, 30 * SECOND)), 70 * SECOND);
        assert!(!lasting(Duration::ZERO).is_valid(Timestamp::now()));
        assert!(!lasting(Duration::ZERO).is_fresh(Timestamp::now()));
    }

    #[test]
    fn the_clock_that_advanced_further_counts() {
        let token = lasting(1000 * SECOND);
        let Timestamp { monotonic, wall } = token.issued_at;
        let left = |now: Timestamp| token.remaining(now);
        // A laptop slept: its monotonic clock stopped.
        let slept = Timestamp {
            monotonic: monotonic + SECOND,
            wall: wall + 999 * SECOND,
        };
        assert_eq!(left(slept), SECOND);
        let slept_long = Timestamp {
            monotonic,
            wall: wall + 2000 * SECOND,
        };
        assert!(!token.is_valid(slept_long));
        // The wall clock was set back, even to before the token was issued, and forward again.
        let back = Timestamp {
            monotonic: monotonic + 400 * SECOND,
            wall: wall - 86400 * SECOND,
        };
        assert_eq!(left(back), 600 * SECOND);
        let epoch = Timestamp {
            monotonic: monotonic + 1000 * SECOND,
            wall: SystemTime::UNIX_EPOCH,
        };
        assert!(!token.is_valid(epoch));
        let forth = Timestamp {
            monotonic: monotonic + 500 * SECOND,
            wall: wall + 500 * SECOND,
        };
        assert_eq!(left(forth), 500 * SECOND);
    }

    #[test]
    fn a_lifetime_is_parsed_in_any_form() {
        for (expires_in, expected) in [
            (json!(86400), 86400),
            (json!(1), 1),
            (json!(3600.9), 3600),
            (json!("3600"), 3600),
            (json!(" 3600 "), 3600),
            (json!("3600.5"), 3600),
            (json!(31_536_001), 31_536_000),
            (json!(u64::MAX), 31_536_000),
            (json!(1e300), 31_536_000),
            (json!("1e300"), 31_536_000),
            (json!("inf"), 300),
            (json!("18446744073709551616"), 31_536_000),
            // Unusable.
            (json!(0), 300),
            (json!(-1), 300),
            (json!(i64::MIN), 300),
            (json!(0.9), 300),
            (json!(-0.0), 300),
            (json!("0"), 300),
            (json!("-3600"), 300),
            (json!("NaN"), 300),
            (json!("soon"), 300),
            (json!(""), 300),
            (json!(true), 300),
            (json!(null), 300),
            (json!([3600]), 300),
            (json!({"seconds": 3600}), 300),
        ] {
            let body = json!({"access_token": "a", "expires_in": expires_in});
            assert_eq!(lifetime(&body), expected * SECOND, "{body}");
        }
        assert_eq!(lifetime(&json!({"access_token": "a"})), 300 * SECOND);
    }

    #[test]
    fn without_expires_in_the_lifetime_is_exp_minus_iat() {
        for (body, expected) in [
            (json!({"iat": 1_617_220_000, "exp": 1_618_084_000}), 864_000),
            (
                json!({"iat": 1_617_220_000, "exp": 1_618_084_000, "expires_in": 86400}),
                86400,
            ),
            (
                json!({"iat": 1_617_220_000, "exp": 1_618_084_000, "expires_in": 0}),
                864_000,
            ),
            (json!({"iat": "1617220000", "exp": "1617220001", "expires_in": "x"}), 1),
            (json!({"iat": 5, "exp": 5}), 300),
            (json!({"iat": 6, "exp": 5}), 300),
            (json!({"exp": 1_618_084_000}), 300),
            (json!({"iat": 1_618_084_000}), 300),
            (json!({"iat": 1, "exp": u64::MAX}), 31_536_000),
            (json!({"iat": -1, "exp": 5}), 300),
            (json!({"iat": 0, "exp": 1_618_084_000}), 300),
        ] {
            let mut body = body;
            body["access_token"] = json!("a");
            assert_eq!(lifetime(&body), expected * SECOND, "{body}");
        }
    }

    #[test]
    fn a_response_without_a_bearer_token_is_not_used() {
        for body in [
            json!(null),
            json!([]),
            json!("a"),
            json!({}),
            json!({"access_token": ""}),
            json!({"access_token": null}),
            json!({"access_token": 7}),
            json!({"access_token": "a b"}),
            json!({"access_token": "a\n"}),
            json!({"access_token": "é"}),
            json!({"access_token": "a".repeat(16 * 1024 + 1)}),
            json!({"access_token": "a", "error": "invalid_client"}),
            json!({"access_token": "a", "error": false}),
            json!({"access_token": "a", "token_type": "mac"}),
            json!({"access_token": "a", "token_type": ""}),
            json!({"access_token": "a", "token_type": 7}),
        ] {
            assert!(Token::parse(&body, Timestamp::now()).is_err(), "{body}");
        }
        for body in [
            json!({"access_token": "a.b-c_d~e+f/g="}),
            json!({"access_token": "a".repeat(16 * 1024)}),
            json!({"access_token": "a", "token_type": "BEARER"}),
            json!({"access_token": "a", "token_type": null, "error": null}),
        ] {
            let issued_at = Timestamp::now();
            let token = Token::parse(&body, issued_at).unwrap();
            assert_eq!(Some(token.value()), body["access_token"].as_str());
            assert_eq!(
                (token.issued_at.monotonic, token.issued_at.wall),
                (issued_at.monotonic, issued_at.wall)
            );
        }
    }
}
