//! `ensure_status` settles an update in doubt by reading the session, and no personal data is kept, logged or shown.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use didit::{
    Client, Credentials, Ensured, Error, ErrorKind, Node, RetryPolicy, Session, SessionStatus, StatusUpdate, Verdict,
};

use crate::support::capture;
use crate::support::{
    API_KEY, SESSION, Server, Step, answer, confirmed, in_turn, lock, no_such_session, quick_retries, session_id,
    session_is, token,
};

fn dropped() -> Vec<Step> {
    vec![Step::Close]
}

fn resubmitted() -> StatusUpdate {
    StatusUpdate::resubmitted([Node::new("feature_ocr_1", "OCR")])
}

fn read(steps: Vec<Step>) -> Result<Session, Error> {
    let server = Server::script(vec![steps]);
    server.api_key_client().session(&session_id())
}

#[test]
fn every_documented_status_is_read() {
    for (name, expected) in [
        ("Not Started", SessionStatus::NotStarted),
        ("In Progress", SessionStatus::InProgress),
        ("In Review", SessionStatus::InReview),
        ("Approved", SessionStatus::Approved),
        ("Declined", SessionStatus::Declined),
        ("Resubmitted", SessionStatus::Resubmitted),
        ("Abandoned", SessionStatus::Abandoned),
        ("Expired", SessionStatus::Expired),
        ("Kyc Expired", SessionStatus::KycExpired),
        ("Awaiting User", SessionStatus::AwaitingUser),
    ] {
        let session = read(session_is(name)).unwrap();
        assert_eq!(session.session_id, session_id());
        assert_eq!(session.status, expected);
        assert_eq!(session.status.to_string(), name);
    }
}

#[test]
fn an_undocumented_status_is_returned_as_other() {
    for name in ["Escalated", "approved", ""] {
        let session = read(session_is(name)).unwrap();
        assert_eq!(session.status, SessionStatus::Other(name.into()));
        assert_eq!(session.status.to_string(), name);
    }
}

#[test]
fn a_session_id_in_capitals_is_the_same_session() {
    let body = format!(r#"{{"session_id":"{}","status":"Declined"}}"#, SESSION.to_uppercase());
    let session = read(answer(200, &[], body)).unwrap();
    assert_eq!(session.session_id, SESSION, "in canonical form");
}

#[test]
fn a_200_for_no_or_another_session_is_an_unexpected_response() {
    let other = r#"{"session_id":"11111111-1111-1111-1111-111111111111","status":"Approved"}"#;
    for body in [
        other,
        r#"{"status":"Approved"}"#,
        &format!(r#"{{"session_id":"{SESSION}"}}"#),
        &format!(r#"{{"session_id":"{SESSION}","status":null}}"#),
        &format!(r#"{{"session_id":"{SESSION}","status":7}}"#),
        &format!(r#"{{"session_id":"{SESSION}","status":"Approved"}}x"#),
        &format!(r#"{{"session_id":"{SESSION}","status":"Approved","#),
        &format!(r#"[{{"session_id":"{SESSION}","status":"Approved"}}]"#),
        &format!(r#"["{SESSION}","Approved"]"#),
        "",
        "null",
        "[]",
        "<html>Approved</html>",
    ] {
        let error = read(answer(200, &[], body)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedResponse, "{body}: {error}");
        assert_eq!(error.verdict(), Verdict::NotApplied, "{body}");
        assert!(!error.is_retryable(), "{body}");
        assert_eq!(error.status(), Some(200));
    }
}

#[test]
fn a_session_is_read_up_to_4_mib() {
    let of_size = |size: usize| {
        let images = "x".repeat(size);
        let body = format!(r#"{{"images":"{images}","session_id":"{SESSION}","status":"In Review"}}"#);
        read(answer(200, &[], body))
    };
    assert_eq!(of_size(3 << 20).unwrap().status, SessionStatus::InReview);

    let error = of_size(4 << 20).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedResponse, "{error}");
    assert_eq!(error.verdict(), Verdict::NotApplied);
    assert!(
        error.to_string().contains("sent a response larger than 4 MiB"),
        "{error}"
    );
}

#[test]
fn an_error_body_is_read_up_to_64_kib() {
    let of_size = |size: usize| {
        let body = format!(r#"{{"detail":"Session not found.","more":"{}"}}"#, "x".repeat(size));
        read(answer(404, &[], body)).unwrap_err()
    };
    assert_eq!(of_size(60 << 10).message(), Some("Session not found."));
    // A part of the body is not believed, even if it is complete JSON.
    let padded = format!(r#"{{"detail":"Session not found."}}{}"#, " ".repeat(64 << 10));
    for error in [of_size(64 << 10), read(answer(404, &[], padded)).unwrap_err()] {
        assert_eq!(
            (error.kind(), error.verdict()),
            (ErrorKind::NotFound, Verdict::NotApplied)
        );
        let words = "answered 404, but the rest of its response could not be read";
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.message(), None);
    }
}

#[test]
fn a_failed_read_is_retried_and_means_not_applied() {
    let server = Server::script(vec![answer(502, &[], ""), dropped(), session_is("Declined")]);
    assert_eq!(
        server.client().session(&session_id()).unwrap().status,
        SessionStatus::Declined
    );
    assert_eq!(server.methods(), "GET GET GET");

    for (steps, kind, requests) in [
        (answer(500, &[], ""), ErrorKind::Server, 3),
        (dropped(), ErrorKind::Network, 3),
        (answer(403, &[], ""), ErrorKind::Forbidden, 1),
        (answer(404, &[], ""), ErrorKind::NotFound, 1),
        (answer(204, &[], ""), ErrorKind::UnexpectedResponse, 1),
        (
            answer(302, &[("location", "/elsewhere/")], ""),
            ErrorKind::UnexpectedResponse,
            1,
        ),
    ] {
        let server = Server::always(steps);
        let error = server.client().session(&session_id()).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.verdict(), Verdict::NotApplied, "{error}");
        assert!(
            error.to_string().contains(&format!("reading session {SESSION}")),
            "{error}"
        );
        assert_eq!(server.session_requests().len(), requests, "{error}");
    }
}

#[test]
fn a_refused_token_is_replaced_once_for_a_read_too() {
    let server = Server::script(vec![answer(401, &[], ""), session_is("Approved")]);
    server.client().session(&session_id()).unwrap();
    let bearers: Vec<_> = server
        .session_requests()
        .iter()
        .map(|request| request.header("authorization").unwrap().to_owned())
        .collect();
    assert_eq!(bearers, ["Bearer token-1", "Bearer token-2"]);
}

#[test]
fn ensure_sends_nothing_if_the_session_has_the_status() {
    for (name, update) in [
        ("Approved", StatusUpdate::approved().comment("Again")),
        ("Declined", StatusUpdate::declined()),
        ("Resubmitted", resubmitted()),
    ] {
        let server = Server::script(vec![session_is(name)]);
        let ensured = server.api_key_client().ensure_status(&session_id(), &update).unwrap();
        assert_eq!(ensured, Ensured::Already);
        assert_eq!(server.methods(), "GET");
    }
}

#[test]
fn ensure_updates_a_session_that_has_another_status() {
    for name in ["In Review", "Approved", "declined", "Escalated"] {
        let server = Server::script(vec![session_is(name), confirmed()]);
        let ensured = server
            .client()
            .ensure_status(&session_id(), &StatusUpdate::declined().comment("Why"))
            .unwrap();
        assert_eq!(ensured, Ensured::Updated);
        assert_eq!(server.methods(), "GET PATCH");
        assert_eq!(
            server.session_requests()[1].text(),
            r#"{"new_status":"Declined","comment":"Why"}"#
        );
    }
}

/// A server that applies every update to its session, and then responds to the `n`th as `after` says.
fn stateful(after: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static) -> Server {
    let now = Mutex::new("In Review".to_owned());
    let updates = AtomicUsize::new(0);
    Server::start(move |request| match request.method.as_str() {
        "POST" => token("token"),
        "GET" => session_is(&lock(&now)),
        _ => {
            let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
            *lock(&now) = body["new_status"].as_str().unwrap().into();
            after(updates.fetch_add(1, SeqCst))
        }
    })
}

#[test]
fn an_applied_update_in_doubt_is_settled_without_a_second_patch() {
    for update in [StatusUpdate::approved(), StatusUpdate::declined(), resubmitted()] {
        for after in [
            dropped(),
            vec![Step::Reset],
            answer(500, &[], ""),
            answer(501, &[], ""),
            answer(200, &[], "<html>"),
            answer(202, &[], ""),
        ] {
            let server = stateful(move |_| after.clone());
            for policy in [RetryPolicy::none(), quick_retries()] {
                let builder = server.builder(Credentials::api_key(API_KEY)).retry(policy);
                let client = builder.build().unwrap();
                client.ensure_status(&session_id(), &update).unwrap();
            }
            assert_eq!(
                server.methods(),
                "GET PATCH GET GET",
                "the second call finds it applied"
            );
        }
    }
    let server = stateful(|_| dropped());
    let ensured = server
        .api_key_client()
        .ensure_status(&session_id(), &StatusUpdate::declined());
    assert_eq!(ensured.unwrap(), Ensured::Updated);
}

#[test]
fn an_update_in_doubt_stays_unknown_if_the_status_never_changes() {
    for (update, expected) in [
        // Safe to repeat: the session is read before each attempt and after the last one.
        (StatusUpdate::declined(), "GET PATCH GET PATCH GET PATCH GET"),
        (resubmitted(), "GET PATCH GET"),
    ] {
        let server = Server::start(|request| match request.method.as_str() {
            "GET" => session_is("In Review"),
            _ => dropped(),
        });
        let error = server
            .api_key_client()
            .ensure_status(&session_id(), &update)
            .unwrap_err();
        assert_eq!(error.verdict(), Verdict::Unknown, "{error}");
        assert_eq!(error.kind(), ErrorKind::Network, "{error}");
        assert!(!error.is_retryable());
        assert_eq!(server.methods(), expected);
    }
}

#[test]
fn an_update_in_doubt_is_settled_by_a_later_read() {
    let turns = vec![
        session_is("In Review"),
        dropped(),
        session_is("In Review"),
        dropped(),
        session_is("Declined"),
    ];
    let server = Server::script(turns);
    let ensured = server
        .api_key_client()
        .ensure_status(&session_id(), &StatusUpdate::declined());
    assert_eq!(ensured.unwrap(), Ensured::Updated);
}

#[test]
fn nothing_is_sent_if_the_first_read_fails() {
    for (steps, kind, requests) in [
        (answer(500, &[], ""), ErrorKind::Server, "GET GET GET"),
        (dropped(), ErrorKind::Network, "GET GET GET"),
        (answer(404, &[], ""), ErrorKind::NotFound, "GET"),
        (answer(200, &[], "{}"), ErrorKind::UnexpectedResponse, "GET"),
        (answer(202, &[], "{}"), ErrorKind::UnexpectedResponse, "GET"),
    ] {
        let server = Server::always(steps);
        let error = server
            .client()
            .ensure_status(&session_id(), &StatusUpdate::approved())
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(error.verdict(), Verdict::NotApplied, "{error}");
        assert!(error.to_string().contains("nothing was changed"), "{error}");
        assert_eq!(server.methods(), requests);
    }
}

#[test]
fn an_update_in_doubt_stays_unknown_if_reading_back_fails() {
    for update in [StatusUpdate::declined(), resubmitted()] {
        for failure in [
            answer(503, &[], ""),
            answer(404, &[], ""),
            answer(200, &[], "{"),
            dropped(),
        ] {
            let reads = AtomicUsize::new(0);
            let server = Server::start(move |request| match request.method.as_str() {
                "GET" if reads.fetch_add(1, SeqCst) == 0 => session_is("In Review"),
                "GET" => failure.clone(),
                _ => dropped(),
            });
            let error = server
                .api_key_client()
                .ensure_status(&session_id(), &update)
                .unwrap_err();
            assert_eq!(error.verdict(), Verdict::Unknown, "{error}");
            assert!(error.to_string().contains("unknown"), "{error}");
            assert_eq!(server.methods().matches("PATCH").count(), 1, "{error}");
        }
    }
}

#[test]
fn a_refused_update_is_not_read_back() {
    for code in [400, 403, 409, 429] {
        let server = Server::script(vec![
            session_is("In Review"),
            answer(code, &[("retry-after", "3600")], ""),
        ]);
        let error = server
            .client()
            .ensure_status(&session_id(), &StatusUpdate::approved())
            .unwrap_err();
        assert_eq!(error.status(), Some(code));
        assert_eq!(error.verdict(), Verdict::NotApplied, "{error}");
        assert_eq!(server.methods(), "GET PATCH");
    }
}

#[test]
fn updated_is_returned_only_if_an_attempt_of_this_call_may_have_been_applied() {
    // Rate limited, and before the retry somebody else approves the session.
    let limited = answer(429, &[("retry-after", "0")], "");
    let server = Server::script(vec![session_is("In Review"), limited, session_is("Approved")]);
    let ensured = server.client().ensure_status(&session_id(), &StatusUpdate::approved());
    assert_eq!(ensured.unwrap(), Ensured::Already);
    assert_eq!(server.methods(), "GET PATCH GET");

    let server = Server::script(vec![session_is("In Review"), dropped(), session_is("Approved")]);
    let ensured = server.client().ensure_status(&session_id(), &StatusUpdate::approved());
    assert_eq!(ensured.unwrap(), Ensured::Updated);
    assert_eq!(server.methods(), "GET PATCH GET");
}

#[test]
fn authenticate_fetches_a_new_token_and_reads_a_session_that_cannot_exist() {
    let server = Server::script(vec![no_such_session(), no_such_session(), confirmed()]);
    let client = server.client();
    client.authenticate().unwrap();
    client.authenticate().unwrap();
    client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
    assert_eq!(
        server.token_requests().len(),
        2,
        "one for each call of authenticate, none for the update"
    );
    let requests = server.session_requests();
    for (request, bearer) in requests
        .iter()
        .zip(["Bearer token-1", "Bearer token-2", "Bearer token-2"])
    {
        assert_eq!(request.header("authorization"), Some(bearer));
    }
    assert_eq!(
        requests[0].path,
        "/v1/session/00000000-0000-0000-0000-000000000000/decision/"
    );
}

#[test]
fn authenticate_with_an_api_key_only_reads_that_session() {
    let server = Server::script(vec![no_such_session()]);
    server.api_key_client().authenticate().unwrap();
    assert_eq!(server.methods(), "GET");
    assert_eq!(server.token_requests().len(), 0);

    let refusal = answer(401, &[], r#"{"detail":"Invalid API key."}"#);
    let error = Server::always(refusal).api_key_client().authenticate().unwrap_err();
    assert_eq!(
        error.summary(),
        "checking the credentials: Didit answered 401 (Invalid API key.)"
    );
    assert_eq!(
        (error.kind(), error.verdict()),
        (ErrorKind::Authentication, Verdict::NotApplied)
    );
    assert_eq!(error.message(), Some("Invalid API key."));
}

#[test]
fn authenticate_succeeds_only_on_an_error_in_didits_json() {
    for (status, body) in [
        (404, r#"{"detail":"Not found."}"#),
        (403, r#"{"detail":"You do not have permission."}"#),
        (400, r#"{"session_id":["Not finished."]}"#),
    ] {
        let server = Server::always(answer(status, &[], body));
        server.api_key_client().authenticate().expect(body);
    }
    for (status, body, words) in [
        (404, "<html>Not Found</html>", "answered 404 with HTML, not JSON"),
        (404, "", "answered 404 with an empty body"),
        (404, r#"{"path":"/v3"}"#, "answered 404 with JSON that is not Didit's"),
        (403, "Forbidden", "answered 403 with a body that is not JSON"),
        (405, r#"{"detail":"Method \"GET\" not allowed."}"#, "Didit answered 405"),
        (200, "<html>Welcome</html>", "answered 200 with HTML, not JSON"),
        (302, "", "answered 302"),
    ] {
        let server = Server::always(answer(status, &[], body));
        let error = server.api_key_client().authenticate().unwrap_err();
        let text = error.to_string();
        assert!(text.contains(words), "{text}");
        assert!(status == 405 || text.contains("check the base URL"), "{text}");
        assert!(text.starts_with("checking the credentials: "), "{text}");
        assert!(!text.contains("nothing was changed"), "a check changes nothing: {text}");
        assert_eq!(error.verdict(), Verdict::NotApplied);
    }
}

#[test]
fn authenticate_fails_if_the_credentials_are_refused() {
    let refusal = r#"{"error":"invalid_client","error_description":"No such client."}"#;
    let server = Server::start(in_turn(vec![answer(401, &[], refusal)]));
    let error = server.client().authenticate().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert_eq!(error.verdict(), Verdict::NotApplied);
    assert_eq!(
        (error.code(), error.message()),
        (Some("invalid_client"), Some("No such client."))
    );
    assert_eq!(server.requests().len(), 1);
}

/// The personal data in a decision.
const PERSON: [&str; 6] = [
    "Wilhelmina-Marker",
    "1971-02-03-marker",
    "DOC-NUMBER-998877",
    "Marker Street 12",
    "portrait-marker.jpg",
    "wilhelmina@marker.example",
];

/// A decision as Didit documents it.
fn decision(id: &str, end: &str) -> String {
    let [name, born, number, street, image, email] = PERSON;
    format!(
        r#"{{"session_id":"{id}","status":"In Review","session_number":43,
            "warnings":["{name} looks like {email}"],"features":["{number}","{street}"],
            "contact_details":{{"email":"{email}"}},
            "id_verification":{{"first_name":"{name}","date_of_birth":"{born}","document_number":"{number}",
            "address":"{street}","portrait_image":"https://images.example/{image}?token={name}"}}{end}"#
    )
}

fn assert_no_personal_data(text: &str) {
    for marker in PERSON {
        capture::assert_hidden(text, marker);
    }
}

#[test]
fn no_personal_data_is_kept_logged_or_shown() {
    capture::start();
    let call = |client: &Client| {
        let read = client.session(&session_id());
        let ensured = client.ensure_status(&session_id(), &StatusUpdate::declined());
        (read, ensured)
    };

    let whole = decision(SESSION, "}");
    let server = Server::start(move |request| match request.method.as_str() {
        "GET" => answer(200, &[], whole.clone()),
        _ => confirmed(),
    });
    let client = server.api_key_client();
    let (session, ensured) = call(&client);
    assert_no_personal_data(&format!("{session:?} {session:#?} {ensured:?} {client:?}"));
    assert_eq!(session.unwrap().status, SessionStatus::InReview);

    let bodies = [
        decision("11111111-1111-1111-1111-111111111111", "}"),
        decision(SESSION, ""),
        decision(SESSION, "}}"),
        decision(SESSION, ",}"),
        decision(SESSION, r#","status":"In Review"}"#),
        decision(SESSION, "}").replace(r#""In Review""#, &format!(r#"["{}"]"#, PERSON[0])),
        decision(SESSION, "}").replace(&format!(r#""{SESSION}""#), &format!(r#"{{"{}":1}}"#, PERSON[0])),
        format!("[{}]", decision(SESSION, "}")),
    ];
    for body in bodies {
        for code in [200, 201, 203, 206, 299, 301, 399] {
            let server = Server::always(answer(code, &[], &body));
            let (read, ensured) = call(&server.api_key_client());
            for error in [read.unwrap_err(), ensured.unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::UnexpectedResponse, "{code}: {error}");
                assert_no_personal_data(&format!("{error} {error:?} {error:#?} {:?}", error.message()));
                let mut source = std::error::Error::source(&error);
                while let Some(cause) = source {
                    assert_no_personal_data(&format!("{cause} {cause:?}"));
                    source = cause.source();
                }
            }
        }
    }

    // Truncated, with a name as the size of a chunk, and not HTTP.
    for steps in [
        vec![
            Step::Send(
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n{}",
                    decision(SESSION, "}")
                )
                .into(),
            ),
            Step::Close,
        ],
        vec![
            Step::Send(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}\r\n", PERSON[0]).into()),
            Step::Close,
        ],
        vec![Step::Send(decision(SESSION, "}\r\n\r\n").into()), Step::Close],
    ] {
        let server = Server::always(steps);
        let (read, ensured) = call(&server.api_key_client());
        for error in [read.unwrap_err(), ensured.unwrap_err()] {
            let cause = std::error::Error::source(&error);
            assert_no_personal_data(&format!("{error} {error:?} {error:#?} {cause:?}"));
        }
    }
    let logged = capture::logged();
    assert!(logged.contains("DEBUG didit: GET /v3/session/"), "{logged}");
    assert_no_personal_data(&logged);
}

fn ensure_undecided(server: &Server, update: &StatusUpdate) -> Result<Ensured, Error> {
    let client = server.api_key_client();
    client.ensure_status_if(&session_id(), update, |status| !status.is_decided())
}

#[test]
fn a_status_that_may_not_be_replaced_is_left_alone() {
    for (name, status_found) in [
        ("Declined", SessionStatus::Declined),
        ("Resubmitted", SessionStatus::Resubmitted),
    ] {
        let server = Server::script(vec![session_is(name)]);
        let ensured = ensure_undecided(&server, &StatusUpdate::approved()).unwrap();
        assert_eq!(ensured, Ensured::LeftAlone(status_found));
        assert_eq!(server.methods(), "GET");
    }
    let server = Server::script(vec![session_is("Approved")]);
    let ensured = ensure_undecided(&server, &StatusUpdate::approved()).unwrap();
    assert_eq!(ensured, Ensured::Already, "the wanted status is never left alone");
    for name in ["In Review", "Escalated"] {
        let server = Server::script(vec![session_is(name), confirmed()]);
        let ensured = ensure_undecided(&server, &StatusUpdate::approved()).unwrap();
        assert_eq!(ensured, Ensured::Updated);
        assert_eq!(server.methods(), "GET PATCH");
    }
}

#[test]
fn a_decision_made_between_two_attempts_is_never_overwritten() {
    // Certainly not applied, so the decision is left alone.
    let limited = || answer(429, &[("retry-after", "0")], "");
    let server = Server::script(vec![session_is("In Review"), limited(), session_is("Declined")]);
    let ensured = ensure_undecided(&server, &StatusUpdate::approved()).unwrap();
    assert_eq!(ensured, Ensured::LeftAlone(SessionStatus::Declined));

    // Possibly applied, or still on its way, so the result is unknown.
    for (doubt, kind) in [
        (dropped(), ErrorKind::Network),
        (answer(503, &[], ""), ErrorKind::Server),
    ] {
        let turns = vec![
            session_is("In Review"),
            limited(),
            session_is("In Review"),
            doubt,
            session_is("Declined"),
        ];
        let server = Server::script(turns);
        let error = ensure_undecided(&server, &StatusUpdate::approved()).unwrap_err();
        assert_eq!((error.verdict(), error.kind()), (Verdict::Unknown, kind), "{error}");
        assert!(!error.is_retryable());
        let text = error.to_string();
        for words in [
            "the session is already Declined, which this call may not replace",
            "attempt 2 may have been applied",
        ] {
            assert!(text.contains(words), "{text}");
        }
        assert_eq!(server.methods(), "GET PATCH GET PATCH GET");
    }
}

#[test]
fn a_decision_made_while_the_token_is_replaced_is_never_overwritten() {
    for (found, expected, requests) in [
        ("Declined", Ensured::LeftAlone(SessionStatus::Declined), "GET PATCH GET"),
        ("Approved", Ensured::Already, "GET PATCH GET"),
        ("In Review", Ensured::Updated, "GET PATCH GET PATCH"),
    ] {
        // Didit refuses the token of the update, and someone decides before the next one is fetched.
        let mut turns = vec![session_is("In Review"), answer(401, &[], ""), session_is(found)];
        turns.extend((expected == Ensured::Updated).then(confirmed));
        let server = Server::script(turns);
        let client = server.client();
        let undecided = |status: &SessionStatus| !status.is_decided();
        let ensured = client.ensure_status_if(&session_id(), &StatusUpdate::approved(), undecided);
        assert_eq!(ensured.unwrap(), expected);
        assert_eq!(server.methods(), requests);
        let bearers = server.session_requests();
        let bearers = bearers.iter().map(|request| request.header("authorization").unwrap());
        let expected = ["Bearer token-1", "Bearer token-1", "Bearer token-2", "Bearer token-2"];
        assert!(bearers.eq(expected.into_iter().take(requests.split(' ').count())));
    }
}

#[test]
fn the_last_attempt_in_doubt_is_read_once_more() {
    for (found, expected) in [
        ("Approved", Ok(Ensured::Updated)),
        ("In Review", Err("unknown: the update may have been applied")),
        (
            "Declined",
            Err("the session is already Declined, which this call may not replace"),
        ),
    ] {
        let undecided = || [session_is("In Review"), dropped()];
        let turns = [undecided(), undecided(), undecided()].concat();
        let server = Server::script([turns, vec![session_is(found)]].concat());
        let ensured = ensure_undecided(&server, &StatusUpdate::approved());
        match expected {
            Ok(expected) => assert_eq!(ensured.unwrap(), expected),
            Err(words) => {
                let error = ensured.unwrap_err();
                assert_eq!(error.verdict(), Verdict::Unknown);
                assert!(error.to_string().contains(words), "{error}");
            }
        }
        assert_eq!(server.methods(), "GET PATCH GET PATCH GET PATCH GET");
    }
}

#[test]
fn only_a_known_status_is_quoted_when_it_is_left_alone_in_doubt() {
    let turns = vec![session_is("In Review"), dropped(), session_is("k3y")];
    let server = Server::script(turns);
    let may_replace = |status: &SessionStatus| *status == SessionStatus::InReview;
    let client = server.api_key_client();
    let result = client.ensure_status_if(&session_id(), &StatusUpdate::approved(), may_replace);
    let text = result.unwrap_err().to_string();
    assert!(
        text.contains("the session is already in another status") && !text.contains("k3y"),
        "{text}"
    );
}
