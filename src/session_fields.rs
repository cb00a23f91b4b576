//! Parses the answer about a session. Skips everything else in it, which may be personal data.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

/// The fields of a confirmation and of a session that are used (docs/didit-api.md §3, §5). A field that is not a string
/// counts as missing.
#[derive(Default)]
pub(crate) struct SessionFields {
    pub(crate) session_id: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) session_token: Option<String>,
    pub(crate) url: Option<String>,
}

impl SessionFields {
    /// Returns `None` if the body is not a JSON object, or contains one of these fields twice. Drops the error of
    /// serde_json, which may quote the body.
    pub(crate) fn parse(body: &[u8]) -> Option<SessionFields> {
        serde_json::from_slice(body).ok()
    }
}

// Derived code would add 12 KB to a small binary.
impl<'de> Deserialize<'de> for SessionFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SessionFields, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = SessionFields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SessionFields, A::Error> {
        let mut fields = SessionFields::default();
        let mut seen = 0u8;
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            let (bit, field) = match &*key {
                "session_id" => (1, &mut fields.session_id),
                "status" => (2, &mut fields.status),
                "session_token" => (4, &mut fields.session_token),
                "url" => (8, &mut fields.url),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            if seen & bit != 0 {
                return Err(serde::de::Error::custom("a duplicate field"));
            }
            seen |= bit;
            if let Value::String(text) = map.next_value()? {
                *field = Some(text);
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_must_be_strings_and_unique() {
        let body = br#"{"a":[{"session_id":"no"}],"session_id":"x","status":7,"url":null,"session_token":"t"}"#;
        let fields = SessionFields::parse(body).unwrap();
        assert_eq!(fields.session_id.as_deref(), Some("x"));
        assert_eq!(fields.session_token.as_deref(), Some("t"));
        assert_eq!((fields.status, fields.url), (None, None));
        for field in ["session_id", "status", "session_token", "url"] {
            let twice = format!(r#"{{"{field}":"x","{field}":"x"}}"#);
            assert!(SessionFields::parse(twice.as_bytes()).is_none(), "{field}");
        }
        for body in [
            "",
            "[]",
            "\"x\"",
            "null",
            "{",
            r#"{"session_id":"x"} "#.trim_end_matches("} "),
        ] {
            assert!(SessionFields::parse(body.as_bytes()).is_none(), "{body}");
        }
        assert!(SessionFields::parse(br#"{"other":1,"other":2}"#).is_some());
        let error = serde_json::from_str::<SessionFields>("[]").err().unwrap();
        assert!(error.to_string().contains("expected a JSON object"), "{error}");
    }
}
