//! Whatever words a server or a gateway uses, the error says what happened, and who said so.

use didit::{Client, Credentials, Error, ErrorKind, RetryPolicy, StatusUpdate, Verdict};

use crate::support::{API_KEY, SESSION, Server, answer, confirmed, session_id};

/// The error of an update that gets this response.
fn refused(status: u16, body: impl AsRef<[u8]>) -> Error {
    let server = Server::script(vec![answer(status, &[], body)]);
    let builder = server.builder(Credentials::api_key(API_KEY)).retry(RetryPolicy::none());
    let client = builder.build().unwrap();
    client
        .update_status(&session_id(), &StatusUpdate::approved())
        .unwrap_err()
}

const UNUSUAL: [(&str, &str, Option<&str>); 11] = [
    (r#"["Not finished."]"#, "Not finished.", None),
    (
        r#"[{"message":"Not finished.","code":"c-1"}]"#,
        "Not finished.",
        Some("c-1"),
    ),
    (r#"{"errors":[{"message":"Not finished."}]}"#, "Not finished.", None),
    (
        r#"{"error":{"message":"Not finished.","code":"c-1"}}"#,
        "Not finished.",
        Some("c-1"),
    ),
    (r#"{"detail":{"msg":"Not finished."}}"#, "Not finished.", None),
    (
        r#"{"detail":[{"loc":["body"],"msg":"Not finished."}]}"#,
        "Not finished.",
        None,
    ),
    (r#""Not finished.""#, "Not finished.", None),
    (
        r#"{"type":"about:blank","title":"Not finished.","status":400}"#,
        "Not finished.",
        None,
    ),
    (r#"{"Message":"Not finished."}"#, "Not finished.", None),
    (r#"{"data":{"reason":"Not finished."}}"#, "Not finished.", None),
    (
        r#"{"errors":{"new_status":["Not finished."]}}"#,
        "new_status: Not finished.",
        None,
    ),
];

#[test]
fn a_refusal_about_the_request_is_didits_in_any_shape_of_json() {
    for status in [400, 409, 413, 422] {
        for (body, message, code) in UNUSUAL {
            let error = refused(status, body);
            let meaning = (error.kind(), error.verdict(), error.is_retryable());
            assert_eq!(meaning, (ErrorKind::Rejected, Verdict::NotApplied, false), "{body}");
            assert_eq!((error.message(), error.code()), (Some(message), code), "{body}");
            let text = error.to_string();
            assert!(text.contains(&format!("Didit answered {status} ({message})")), "{text}");
            assert!(!text.contains("not JSON") && !text.contains("base URL"), "{text}");
        }
    }
}

#[test]
fn a_refusal_that_a_gateway_may_have_sent_is_didits_only_in_a_documented_shape() {
    for (status, kind) in [
        (401, ErrorKind::Authentication),
        (403, ErrorKind::Forbidden),
        (404, ErrorKind::NotFound),
    ] {
        for (body, ..) in UNUSUAL {
            let error = refused(status, body);
            assert_eq!(
                (error.kind(), error.verdict(), error.message()),
                (kind, Verdict::NotApplied, None),
                "{body}"
            );
            let text = error.to_string();
            assert!(text.contains("with JSON that is not Didit's"), "{text}");
        }
        assert_eq!(refused(status, r#"{"detail":"No."}"#).message(), Some("No."));
    }
}

#[test]
fn authenticate_accepts_only_documented_shapes() {
    for status in [400, 401, 403, 404] {
        for (body, ..) in UNUSUAL.into_iter().chain([(r#"["no Route matched"]"#, "", None)]) {
            let server = Server::script(vec![answer(status, &[], body)]);
            let error = server.api_key_client().authenticate().unwrap_err();
            assert_eq!(error.verdict(), Verdict::NotApplied, "{body}");
        }
    }
}

#[test]
fn words_in_latin_1_are_read() {
    let error = refused(400, b"{\"detail\":\"Sesi\xf3n no terminada.\"}");
    assert_eq!(error.message(), Some("Sesión no terminada."));
    let error = refused(404, b"{\"detail\":\"Sesi\xf3n desconocida.\",\"code\":\"caf\xe9\"}");
    assert_eq!(
        (error.message(), error.code()),
        (Some("Sesión desconocida."), Some("café"))
    );
}

#[test]
fn valid_json_is_never_called_something_else() {
    for status in [200, 400, 404, 503] {
        for body in [
            "{}",
            "[]",
            "null",
            "7",
            "\"\"",
            "true",
            r#"{"path":"/v3"}"#,
            " {\n} ",
            "[[], {}]",
        ] {
            let text = refused(status, body).to_string();
            assert!(
                text.contains("with JSON that is not Didit's"),
                "{status} {body}: {text}"
            );
        }
    }
}

#[test]
fn a_request_that_is_too_large_is_refused_whoever_says_so() {
    for body in [
        "<html><h1>413 Request Entity Too Large</h1></html>",
        "",
        "too large",
        "{}",
    ] {
        let error = refused(413, body);
        let meaning = (error.kind(), error.verdict(), error.is_retryable());
        assert_eq!(meaning, (ErrorKind::Rejected, Verdict::NotApplied, false));
        let text = error.to_string();
        assert!(
            text.contains("answered 413: the request is too large; nothing was changed; shorten the comment"),
            "{text}"
        );
    }
    let text = refused(413, r#"{"detail":"Comment too long."}"#).to_string();
    assert!(
        text.contains("Didit answered 413 (Comment too long.); nothing was changed; shorten the comment"),
        "{text}"
    );
}

#[test]
fn invalid_json_is_reported_with_its_position_and_not_as_a_login_page() {
    let start = format!("{{\"session_id\":\"{SESSION}\",\"status\":\"Declined\",\n");
    for (end, position) in [
        (r#""score":NaN}"#, "line 2, column 9"),
        (r#""score":-Infinity}"#, "line 2, column 10"),
        (r#""score":1,}"#, "line 2, column 11"),
        (r#""secret":"hunter2"#, "line 2, column 17"),
    ] {
        let body = format!("{start}{end}");
        let server = Server::script(vec![answer(200, &[], &body), answer(200, &[], &body)]);
        let client = server.api_key_client();
        let read = client.session(&session_id()).unwrap_err();
        let update = client
            .update_status(&session_id(), &StatusUpdate::declined())
            .unwrap_err();
        assert_eq!(
            (read.verdict(), update.verdict()),
            (Verdict::NotApplied, Verdict::Unknown)
        );
        for error in [read, update] {
            assert_eq!(error.kind(), ErrorKind::UnexpectedResponse);
            let text = error.to_string();
            assert!(
                text.contains(&format!("answered 200 with invalid JSON ({position})")),
                "{text}"
            );
            for word in ["login", "base URL", "hunter2"] {
                assert!(!text.contains(word), "{word}: {text}");
            }
        }
    }
}

#[test]
fn a_reset_in_seconds_and_the_longest_retry_after_set_the_wait() {
    let limited = [("retry-after", "0"), ("retry-after", "3"), ("x-ratelimit-reset", "7")];
    for (headers, seconds) in [(&limited[..], 3), (&limited[2..], 7)] {
        let server = Server::script(vec![answer(429, headers, "")]);
        let policy = RetryPolicy::default().max_wait(std::time::Duration::from_secs(1));
        let client: Client = server
            .builder(Credentials::api_key(API_KEY))
            .retry(policy)
            .build()
            .unwrap();
        let error = client
            .update_status(&session_id(), &StatusUpdate::approved())
            .unwrap_err();
        assert_eq!(error.retry_after().map(|wait| wait.as_secs()), Some(seconds));
    }
}

#[test]
fn a_nul_in_a_comment_is_rejected_before_anything_is_sent() {
    let server = Server::script(vec![]);
    let client = server.api_key_client();
    let update = StatusUpdate::declined().comment("a\0b");
    for error in [
        client.update_status(&session_id(), &update).unwrap_err(),
        client.ensure_status(&session_id(), &update).unwrap_err(),
        client.check(&update).unwrap_err(),
    ] {
        assert_eq!(
            (error.kind(), error.verdict()),
            (ErrorKind::InvalidInput, Verdict::NotApplied)
        );
        assert!(
            error.to_string().contains("comment: must not contain a NUL character"),
            "{error}"
        );
    }
    assert_eq!(server.connections(), 0);
    // Other control characters are sent as they are.
    let server = Server::script(vec![confirmed()]);
    let update = StatusUpdate::declined().comment("a\u{1}\u{7}b");
    server.api_key_client().update_status(&session_id(), &update).unwrap();
}

#[test]
fn a_refusal_says_what_to_do() {
    for (status, advice) in [
        (204, None),
        (302, Some("check the base URL (DIDIT_BASE_URL)")),
        (400, Some("retrying the same request will not help")),
        (401, Some("check the API key (DIDIT_API_KEY)")),
        (402, Some("check the application's credits")),
        (403, Some("check the application's permissions and credits")),
        (
            404,
            Some("check the session id; the session may belong to another application"),
        ),
        (408, Some("retry later")),
        (425, Some("retry later")),
        (429, Some("retry later")),
        (499, None),
        (500, Some("retry later")),
        (501, None),
        (505, None),
        (599, Some("retry later")),
    ] {
        let server = Server::always(answer(status, &[], r#"{"detail":"No."}"#));
        let client = server.builder(Credentials::api_key(API_KEY));
        let client = client.retry(RetryPolicy::none()).build().unwrap();
        assert_eq!(client.session(&session_id()).unwrap_err().advice(), advice, "{status}");
    }
}
