//! What a server says in the body of an error response.

use serde_json::Value;

use crate::text::sanitize;

/// What the server said in the body of an error, safe to show.
#[derive(Clone, Default)]
pub(crate) struct ServerMessage {
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) request_id: Option<String>,
    /// Whether the message has a shape that Didit's have. A gateway may have sent any other.
    pub(crate) is_documented: bool,
}

const MAX_MESSAGE: usize = 300;
const MAX_CODE: usize = 64;

/// The keys that contain words, the most specific first. Servers write them in any letter case.
const WORDS: [&str; 10] = [
    "detail",
    "message",
    "msg",
    "error_description",
    "description",
    "reason",
    "title",
    "error",
    "errors",
    "error_message",
];

impl ServerMessage {
    /// Reads a body in one of the shapes that Didit's have (docs/didit-api.md §6).
    pub(crate) fn documented(body: &Value, request_id: Option<&str>, secrets: &[&str]) -> ServerMessage {
        let text = |key: &&str| body[*key].as_str().filter(|text| !text.is_empty());
        let first = |keys: &[&str]| keys.iter().find_map(text).map(str::to_owned);
        let message = first(&["detail", "message", "error_description"])
            .or_else(|| field_messages(body))
            .or_else(|| first(&["error"]));
        let found = ServerMessage::new(first(&["code", "error"]), message, request_id, secrets);
        ServerMessage {
            is_documented: found.message.is_some(),
            ..found
        }
    }

    /// Finds words wherever the JSON of an error has them.
    pub(crate) fn any_shape(body: &Value, request_id: Option<&str>, secrets: &[&str]) -> ServerMessage {
        let places = [body, &body["error"], &body["detail"], &body["errors"][0], &body[0]];
        let code = places.iter().find_map(|place| place["code"].as_str());
        let code = code.map(str::to_owned);
        // A code alone says more than nothing.
        let message = words(body).or_else(|| code.clone());
        ServerMessage::new(code, message, request_id, secrets)
    }

    fn new(code: Option<String>, message: Option<String>, request_id: Option<&str>, secrets: &[&str]) -> ServerMessage {
        let clean = |text: String, max| Some(sanitize(&text, max, secrets)).filter(|text| !text.is_empty());
        ServerMessage {
            code: code.and_then(|text| clean(text, MAX_CODE)),
            message: message.and_then(|text| clean(text, MAX_MESSAGE)),
            request_id: request_id.and_then(|id| clean(id.into(), MAX_CODE)),
            is_documented: false,
        }
    }
}

/// Joins the messages about fields: `{"new_status": ["\"Foo\" is not a valid choice."]}`.
fn field_messages(body: &Value) -> Option<String> {
    let messages = body.as_object()?.iter().filter_map(|(field, value)| {
        let texts: Vec<_> = value.as_array()?.iter().filter_map(Value::as_str).collect();
        (!texts.is_empty()).then(|| format!("{field}: {}", texts.join(" ")))
    });
    let messages: Vec<_> = messages.collect();
    (!messages.is_empty()).then(|| messages.join("; "))
}

/// Returns the words in a value: a text, those of a list, or those of an object, by its best key. A single word under another
/// key, such as a path, says nothing about the error.
fn words(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Array(list) => {
            let all: Vec<_> = list.iter().filter_map(words).collect();
            (!all.is_empty()).then(|| all.join(" "))
        }
        Value::Object(object) => {
            let by_key = |known: &&str| {
                let mut entries = object.iter().filter(|(key, _)| key.eq_ignore_ascii_case(known));
                entries.find_map(|(_, value)| words(value))
            };
            let sentence = |(key, value): (&String, &Value)| {
                let text = value.as_str().filter(|text| text.trim().contains(' '))?;
                Some(format!("{key}: {text}"))
            };
            // The best keys have been searched. To search their values twice would double the time with every level.
            let nested = |(key, value): (&String, &Value)| match value {
                Value::String(_) => None,
                _ if WORDS.iter().any(|known| known.eq_ignore_ascii_case(key)) => None,
                value => words(value),
            };
            WORDS
                .iter()
                .find_map(by_key)
                .or_else(|| field_messages(value))
                .or_else(|| object.iter().find_map(nested))
                .or_else(|| object.iter().find_map(sentence))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> (Option<String>, Option<String>) {
        let message = ServerMessage::documented(&body, None, &[]);
        (message.message, message.code)
    }

    #[test]
    fn an_empty_message_is_skipped() {
        let message = ServerMessage::documented(&json!({"detail": "", "message": "a"}), None, &[]);
        assert_eq!(message.message.as_deref(), Some("a"));
    }

    #[test]
    fn bodies_of_any_shape_are_read() {
        for (body, message, code) in [
            (json!({"detail": "a"}), Some("a"), None),
            (json!({"detail": "a", "code": "c"}), Some("a"), Some("c")),
            (json!({"message": "a"}), Some("a"), None),
            (json!({"detail": "a", "message": "b"}), Some("a"), None),
            (json!({"error": "c", "error_description": "a"}), Some("a"), Some("c")),
            (json!({"error": "c"}), Some("c"), Some("c")),
            (json!({"error": "e", "code": "c"}), Some("e"), Some("c")),
            (json!({"error": {"message": "a"}}), None, None),
            (json!({"new_status": ["a.", "b."]}), Some("new_status: a. b."), None),
            (json!({"b": ["2"], "a": ["1"], "c": 3}), Some("a: 1; b: 2"), None),
            (json!({"detail": ["a"], "b": [1, null]}), Some("detail: a"), None),
            (json!({"detail": 7, "message": "a", "code": 7}), Some("a"), None),
            (json!({}), None, None),
            (json!([]), None, None),
            (json!(["a"]), None, None),
            (json!("a"), None, None),
            (json!(null), None, None),
            (json!(7), None, None),
        ] {
            let (read_message, read_code) = read(body.clone());
            assert_eq!(
                (read_message.as_deref(), read_code.as_deref()),
                (message, code),
                "{body}"
            );
        }
    }

    #[test]
    fn words_are_found_wherever_json_has_them() {
        for (body, message, code) in [
            (
                json!(["The session is not finished."]),
                "The session is not finished.",
                None,
            ),
            (
                json!("The session is not finished."),
                "The session is not finished.",
                None,
            ),
            (json!([{"message": "a", "code": "c"}]), "a", Some("c")),
            (json!([{"message": "a"}, {"message": "b"}, 7]), "a b", None),
            (json!({"errors": [{"message": "a", "code": "c"}]}), "a", Some("c")),
            (json!({"errors": {"new_status": ["a", "b"]}}), "new_status: a b", None),
            (json!({"error": {"message": "a", "code": "c"}}), "a", Some("c")),
            (json!({"error": {"details": [{"reason": "a"}]}}), "a", None),
            (json!({"detail": {"msg": "a"}, "code": "c"}), "a", Some("c")),
            (
                json!({"detail": [{"loc": ["body", "new_status"], "msg": "a"}]}),
                "a",
                None,
            ),
            (
                json!({"type": "about:blank", "title": "Conflict", "status": 409}),
                "Conflict",
                None,
            ),
            (json!({"title": "t", "detail": "d"}), "d", None),
            (json!({"Message": "a"}), "a", None),
            (json!({"data": {"session": {"message": "a"}}}), "a", None),
            (json!({"non_field_errors": ["a"]}), "non_field_errors: a", None),
            (
                json!({"why": "it is not finished", "path": "/v3"}),
                "why: it is not finished",
                None,
            ),
            (json!({"message": "  ", "error": "a"}), "a", None),
            (json!({"code": "c"}), "c", Some("c")),
            (json!({"errors": [{"code": "c"}]}), "c", Some("c")),
        ] {
            let found = ServerMessage::any_shape(&body, None, &[]);
            let found = (found.message.as_deref(), found.code.as_deref());
            assert_eq!(found, (Some(message), code), "{body}");
        }
        for body in [
            json!({}),
            json!([]),
            json!(null),
            json!(7),
            json!(""),
            json!([[], {}, null]),
            json!({"path": "/v3", "status": 400, "ok": false}),
        ] {
            assert_eq!(ServerMessage::any_shape(&body, None, &[]).message, None, "{body}");
        }
        let secret = json!([{"message": "the key s3cret is wrong"}]);
        let found = ServerMessage::any_shape(&secret, None, &["s3cret"]);
        assert_eq!(found.message.as_deref(), Some("the key [hidden] is wrong"));
    }

    #[test]
    fn a_deeply_nested_body_is_searched_once() {
        let mut body = json!({"message": 7});
        for level in 0..100 {
            body = json!({WORDS[level % WORDS.len()]: body});
        }
        assert_eq!(ServerMessage::any_shape(&body, None, &[]).message, None);
    }

    #[test]
    fn long_messages_are_cut() {
        let (message, code) = read(json!({"detail": "é".repeat(301), "code": "c".repeat(65)}));
        assert_eq!(message.unwrap(), "é".repeat(300) + "…");
        assert_eq!(code.unwrap(), "c".repeat(64) + "…");
        let (message, code) = read(json!({"detail": "é".repeat(300), "code": "c".repeat(64)}));
        assert_eq!(message.unwrap(), "é".repeat(300));
        assert_eq!(code.unwrap(), "c".repeat(64));
        let message = ServerMessage::documented(&Value::Null, Some(&"r".repeat(65)), &[]);
        assert_eq!(message.request_id.unwrap(), "r".repeat(64) + "…");
    }

    #[test]
    fn secrets_are_hidden_in_every_field() {
        let message = ServerMessage::documented(
            &json!({"detail": "s3cret", "code": "s3cret"}),
            Some("s3cret"),
            &["s3cret"],
        );
        let texts = [message.message, message.code, message.request_id];
        assert_eq!(
            texts,
            ["[hidden]", "[hidden]", "[hidden]"].map(|word| Some(word.into()))
        );
    }
}
