//! A 200 confirms an update only if it names this session and denies nothing.

use didit::{Credentials, Error, ErrorKind, Node, StatusUpdate, UpdatedSession, Verdict};

use crate::support::{API_KEY, SESSION, Server, answer, session_id, session_is};

/// Updates a session, and gets a 200 with its id and these fields.
fn updated(update: &StatusUpdate, fields: &str) -> Result<UpdatedSession, Error> {
    let body = format!(r#"{{"session_id":"{SESSION}"{fields}}}"#);
    let server = Server::script(vec![answer(200, &[], body)]);
    server.api_key_client().update_status(&session_id(), update)
}

fn resubmitted() -> StatusUpdate {
    StatusUpdate::resubmitted([Node::new("feature_ocr_1", "OCR")])
}

#[test]
fn a_200_about_this_session_confirms_the_update() {
    for fields in [
        "",
        r#","status":"Approved""#,
        r#","status":"approved""#,
        r#","new_status":"APPROVED""#,
        r#","status":null,"new_status":null"#,
        r#","success":true,"ok":true"#,
        r#","success":null,"error":null,"errors":null"#,
        r#","error":"","errors":[]"#,
        r#","error":{},"errors":{}"#,
        r#","error":false,"errors":0"#,
        // Servers say anything here.
        r#","message":"no error: updated","detail":"not failed","warnings":["x"],"code":"error""#,
        r#","nested":{"error":"x","success":false,"status":"Declined"}"#,
    ] {
        let updated = updated(&StatusUpdate::approved(), fields).unwrap_or_else(|error| panic!("{fields}: {error}"));
        assert_eq!(updated, UpdatedSession::new(session_id()));
    }
}

#[test]
fn a_200_with_another_status_confirms_nothing() {
    for (update, other) in [
        (StatusUpdate::approved(), "Declined"),
        (StatusUpdate::declined(), "In Review"),
        (resubmitted(), "Approved"),
        (resubmitted(), "In Review"),
    ] {
        for key in ["status", "new_status"] {
            let error = updated(&update, &format!(r#","{key}":"{other}""#)).unwrap_err();
            assert_unconfirmed(&error, &format!("says that the session is {other}"));
        }
    }
    let error = updated(&StatusUpdate::approved(), r#","status":"k3y""#).unwrap_err();
    assert_unconfirmed(&error, "says that the session is in another status");
    assert!(!error.to_string().contains("k3y"), "{error}");
}

#[test]
fn a_200_with_a_status_that_is_not_text_confirms_nothing() {
    for value in ["7", "true", "false", "[]", r#"["Approved"]"#, r#"{"name":"Approved"}"#] {
        for key in ["status", "new_status"] {
            let error = updated(&StatusUpdate::approved(), &format!(r#","{key}":{value}"#)).unwrap_err();
            assert_unconfirmed(&error, "with a status that is not text");
        }
    }
}

#[test]
fn a_200_that_denies_success_confirms_nothing() {
    for update in [StatusUpdate::approved(), resubmitted()] {
        for (fields, words) in [
            (r#","success":false"#, "denies success"),
            (r#","ok":false"#, "denies success"),
            (r#","ok":"false""#, "denies success"),
            (r#","success":0"#, "denies success"),
            (r#","success":true,"ok":false"#, "denies success"),
            (r#","error":"session is locked""#, "reports an error"),
            (r#","success":false,"error":"session is locked""#, "reports an error"),
            (r#","success":true,"error":"session is locked""#, "reports an error"),
            (r#","status":"Approved","errors":["locked"]"#, "reports an error"),
            (r#","errors":{"session":["locked"]}"#, "reports an error"),
            (r#","error":true"#, "reports an error"),
            (r#","errors":2"#, "reports an error"),
        ] {
            if fields.contains("Approved") && update == resubmitted() {
                continue;
            }
            let error = updated(&update, fields).unwrap_err();
            assert_unconfirmed(&error, words);
            // A success may contain personal data, so nothing of it is shown.
            assert!(!error.to_string().contains("locked"), "{error}");
        }
    }
}

fn assert_unconfirmed(error: &Error, words: &str) {
    assert_eq!(error.kind(), ErrorKind::UnexpectedResponse, "{error}");
    assert_eq!(
        (error.verdict(), error.is_retryable()),
        (Verdict::Unknown, false),
        "{error}"
    );
    assert_eq!(error.status(), Some(200));
    assert!(error.to_string().contains(words), "{words}: {error}");
}

#[test]
fn a_field_that_appears_twice_confirms_nothing() {
    for fields in [
        format!(r#","session_id":"{SESSION}""#),
        r#","status":"Approved","status":"Approved""#.into(),
        r#","success":true,"success":true"#.into(),
        r#","error":null,"error":null"#.into(),
    ] {
        let error = updated(&StatusUpdate::approved(), &fields).unwrap_err();
        assert_unconfirmed(&error, "answered 200 with JSON that is not Didit's");
    }
}

#[test]
fn only_an_object_confirms_an_update() {
    for body in [
        format!(r#"["{SESSION}"]"#),
        format!(r#"["{SESSION}","Approved"]"#),
        format!(r#"[{{"session_id":"{SESSION}"}}]"#),
        format!(r#""{SESSION}""#),
    ] {
        let server = Server::script(vec![answer(200, &[], &body)]);
        let error = server
            .api_key_client()
            .update_status(&session_id(), &StatusUpdate::approved())
            .unwrap_err();
        assert_unconfirmed(&error, "answered 200 with JSON that is not Didit's");
    }
}

#[test]
fn ensure_status_reads_the_session_after_a_200_that_denies() {
    let denial = answer(200, &[], format!(r#"{{"session_id":"{SESSION}","success":false}}"#));
    for (found, is_done) in [("Approved", true), ("In Review", false)] {
        let server = Server::script(vec![session_is("In Review"), denial.clone(), session_is(found)]);
        let client = server.builder(Credentials::api_key(API_KEY)).build().unwrap();
        let ensured = client.ensure_status(&session_id(), &StatusUpdate::approved());
        assert_eq!(ensured.is_ok(), is_done, "{ensured:?}");
        assert_eq!(server.methods(), "GET PATCH GET");
    }
}
