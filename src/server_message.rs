//! What a server says in the body of an error response.

use serde_json::Value;

use crate::text::sanitize;

/// What the server said in the body of an error, safe to show.
#[derive(Clone, Default)]
pub(crate) struct ServerMessage {
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) request_id: Option<String>,
}

const MAX_MESSAGE: usize = 300;
const MAX_CODE: usize = 64;

impl ServerMessage {
    /// Reads the body of an error, whose shape varies (docs/didit-api.md §6). A body that is not JSON is `null` here.
    pub(crate) fn read(body: &Value, request_id: Option<&str>, secrets: &[&str]) -> ServerMessage {
        let text = |key: &&str| body[*key].as_str().filter(|text| !text.is_empty());
        let first = |keys: &[&str]| keys.iter().find_map(text).map(str::to_owned);
        let message = first(&["detail", "message", "error_description"])
            .or_else(|| field_messages(body))
            .or_else(|| first(&["error"]));
        let clean = |text: String, max| Some(sanitize(&text, max, secrets)).filter(|text| !text.is_empty());
        ServerMessage {
            code: first(&["code", "error"]).and_then(|text| clean(text, MAX_CODE)),
            message: message.and_then(|text| clean(text, MAX_MESSAGE)),
            request_id: request_id.and_then(|id| clean(id.into(), MAX_CODE)),
        }
    }

    /// Returns whether the body has the shape of an error from Didit. If not, another server may have answered.
    pub(crate) fn is_from_didit(&self) -> bool {
        self.message.is_some()
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> (Option<String>, Option<String>) {
        let message = ServerMessage::read(&body, None, &[]);
        (message.message, message.code)
    }

    #[test]
    fn an_empty_message_is_skipped() {
        let message = ServerMessage::read(&json!({"detail": "", "message": "a"}), None, &[]);
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
    fn long_messages_are_cut() {
        let (message, code) = read(json!({"detail": "é".repeat(301), "code": "c".repeat(65)}));
        assert_eq!(message.unwrap(), "é".repeat(300) + "…");
        assert_eq!(code.unwrap(), "c".repeat(64) + "…");
        let (message, code) = read(json!({"detail": "é".repeat(300), "code": "c".repeat(64)}));
        assert_eq!(message.unwrap(), "é".repeat(300));
        assert_eq!(code.unwrap(), "c".repeat(64));
        let message = ServerMessage::read(&Value::Null, Some(&"r".repeat(65)), &[]);
        assert_eq!(message.request_id.unwrap(), "r".repeat(64) + "…");
    }

    #[test]
    fn secrets_are_hidden_in_every_field() {
        let message = ServerMessage::read(
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
