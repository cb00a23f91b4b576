//! `update_status` reads the session before it repeats an update in doubt, and never replaces a decision that it may not have
//! made itself.

use didit::{
    ApiVersion, Client, Credentials, Error, ErrorKind, Node, RetryPolicy, StatusUpdate, UpdatedSession, Verdict,
};

use crate::support::{
    API_KEY, CLIENT_ID, CLIENT_SECRET, SESSION, Server, Step, answer, confirmed, no_such_session, quick_retries,
    session_id, session_is,
};

fn decline(client: &Client) -> Result<UpdatedSession, Error> {
    client.update_status(&session_id(), &StatusUpdate::declined())
}

fn lost() -> Vec<Step> {
    vec![Step::Close]
}

fn busy() -> Vec<Step> {
    answer(503, &[("retry-after", "0")], "")
}

/// Declines against this script, and returns the error and the methods of the requests.
fn failed(turns: Vec<Vec<Step>>) -> (Error, String) {
    let server = Server::script(turns);
    let error = decline(&server.api_key_client()).unwrap_err();
    assert_eq!(error.verdict(), Verdict::Unknown, "{error}");
    assert!(
        !error.is_retryable(),
        "the same call would begin with the update: {error}"
    );
    (error, server.methods())
}

#[test]
fn a_decision_of_a_reviewer_after_a_lost_update_is_not_overwritten() {
    for found in ["APPROVED", "resubmitted"] {
        let (error, requests) = failed(vec![answer(502, &[], ""), session_is(found)]);
        assert_eq!(requests, "PATCH GET", "a decision in another letter case is one");
        assert!(
            error.to_string().contains("the session is already in another status"),
            "{error}"
        );
    }
    for found in ["Approved", "Resubmitted"] {
        let (error, requests) = failed(vec![answer(502, &[], ""), session_is(found)]);
        assert_eq!(requests, "PATCH GET");
        assert_eq!(error.kind(), ErrorKind::Server);
        let text = error.to_string();
        for words in [
            &*format!("setting session {SESSION} to Declined: the session is already {found}"),
            "which this call may not replace",
            "unknown: attempt 1 may have been applied (",
            "answered 502",
            "someone else may have decided, or the session had this decision before",
            "`ensure_status`",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    }
}

#[test]
fn an_update_in_doubt_that_was_applied_is_confirmed_by_reading() {
    for doubt in [lost(), vec![Step::Reset], busy(), answer(408, &[], "")] {
        let server = Server::script(vec![doubt, session_is("Declined")]);
        let updated = decline(&server.api_key_client()).unwrap();
        assert_eq!(updated, UpdatedSession::new(session_id()), "no token and no URL");
        assert_eq!(server.methods(), "PATCH GET");
    }
}

#[test]
fn an_update_in_doubt_is_sent_again_if_there_is_no_decision() {
    for found in ["In Review", "Not Started", "Kyc Expired", "Escalated"] {
        let server = Server::script(vec![lost(), session_is(found), confirmed()]);
        decline(&server.api_key_client()).unwrap();
        assert_eq!(server.methods(), "PATCH GET PATCH");
        let requests = server.requests();
        assert_eq!(requests[0].body, requests[2].body);
    }
}

#[test]
fn an_update_that_was_certainly_not_applied_is_as_if_it_had_never_been_sent() {
    let limited = || answer(429, &[("retry-after", "0")], "");
    let server = Server::script(vec![limited(), answer(425, &[], ""), confirmed()]);
    decline(&server.api_key_client()).unwrap();
    assert_eq!(server.methods(), "PATCH PATCH PATCH");

    // A refused token says nothing about the update either.
    let server = Server::script(vec![answer(401, &[], ""), confirmed()]);
    decline(&server.client()).unwrap();
    assert_eq!(server.methods(), "PATCH PATCH");
}

#[test]
fn a_failed_read_is_a_failed_attempt() {
    let (error, requests) = failed(vec![lost(), answer(500, &[], ""), busy()]);
    assert_eq!(requests, "PATCH GET GET");
    assert_eq!((error.kind(), error.status()), (ErrorKind::Server, Some(503)));
    let text = error.to_string();
    let start = format!("setting session {SESSION} to Declined: reading session {SESSION}: ");
    assert!(text.starts_with(&start), "{text}");
    for words in [
        "gave up after 3 attempts",
        "attempt 1 may have been applied (",
        "closed the connection",
    ] {
        assert!(text.contains(words), "{text}");
    }

    // A read that fails at first, and then settles the attempt in doubt.
    let server = Server::script(vec![lost(), busy(), session_is("Declined")]);
    decline(&server.api_key_client()).unwrap();
    assert_eq!(server.methods(), "PATCH GET GET");
}

#[test]
fn a_read_that_didit_refuses_ends_the_call() {
    for (status, kind) in [
        (401, ErrorKind::Authentication),
        (402, ErrorKind::Forbidden),
        (403, ErrorKind::Forbidden),
        (404, ErrorKind::NotFound),
    ] {
        let refusal = answer(status, &[], r#"{"detail":"No."}"#);
        let (error, requests) = failed(vec![lost(), refusal]);
        assert_eq!(requests, "PATCH GET");
        assert_eq!((error.kind(), error.status()), (kind, Some(status)));
        assert!(error.to_string().contains("attempt 1 may have been applied"), "{error}");
    }
}

#[test]
fn a_token_that_is_refused_by_the_read_is_replaced_and_the_read_repeated() {
    let server = Server::script(vec![lost(), answer(401, &[], ""), session_is("In Review"), confirmed()]);
    decline(&server.client()).unwrap();
    assert_eq!(server.methods(), "PATCH GET GET PATCH");
    let requests = server.session_requests();
    let bearers = requests.iter().map(|request| request.header("authorization").unwrap());
    assert!(bearers.eq(["Bearer token-1", "Bearer token-1", "Bearer token-2", "Bearer token-2"]));
}

#[test]
fn the_last_attempt_in_doubt_is_read_once_more() {
    let repeated = || vec![lost(), session_is("In Review"), lost(), session_is("In Review"), lost()];
    let with_last = |last: Vec<Step>| [repeated(), vec![last]].concat();
    let server = Server::script(with_last(session_is("Declined")));
    decline(&server.api_key_client()).unwrap();
    assert_eq!(server.methods(), "PATCH GET PATCH GET PATCH GET");

    for (last, words) in [
        (session_is("In Review"), "unknown: the update may have been applied"),
        (
            busy(),
            "closed the connection before answering; gave up after 3 attempts; unknown: ",
        ),
        (
            no_such_session(),
            "closed the connection before answering; gave up after 3 attempts",
        ),
        (
            session_is("Approved"),
            "the session is already Approved, which this call may not replace",
        ),
    ] {
        let (error, requests) = failed(with_last(last));
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(error.kind(), ErrorKind::Network);
        assert_eq!(requests, "PATCH GET PATCH GET PATCH GET");
    }
}

#[test]
fn the_last_read_replaces_a_refused_token() {
    let policy = quick_retries().max_retries(1);
    let turns = vec![
        lost(),
        session_is("In Review"),
        lost(),
        answer(401, &[], ""),
        session_is("Declined"),
    ];
    let server = Server::script(turns);
    let builder = server.builder(Credentials::client(CLIENT_ID, CLIENT_SECRET));
    decline(&builder.retry(policy).build().unwrap()).unwrap();
    assert_eq!(server.methods(), "PATCH GET PATCH GET GET");
}

#[test]
fn a_doubt_that_no_retry_can_settle_ends_the_call_without_a_read() {
    for doubt in [
        answer(501, &[], ""),
        answer(505, &[], ""),
        answer(499, &[], ""),
        answer(202, &[], ""),
        answer(302, &[("location", "/")], ""),
        answer(200, &[], "<html>"),
        answer(200, &[], r#"{"session_id":"other"}"#),
    ] {
        let (_, requests) = failed(vec![doubt]);
        assert_eq!(requests, "PATCH");
    }
}

#[test]
fn without_retries_a_doubt_ends_the_call_without_a_read() {
    for doubt in [lost(), busy()] {
        let server = Server::script(vec![doubt]);
        let builder = server.builder(Credentials::api_key(API_KEY)).retry(RetryPolicy::none());
        let error = decline(&builder.build().unwrap()).unwrap_err();
        assert_eq!(error.verdict(), Verdict::Unknown);
        assert_eq!(server.methods(), "PATCH");
    }
}

#[test]
fn a_resubmission_in_doubt_is_neither_read_nor_repeated() {
    let update = StatusUpdate::resubmitted([Node::new("feature_ocr_1", "OCR")]);
    for doubt in [lost(), busy()] {
        let server = Server::script(vec![doubt]);
        let error = server
            .api_key_client()
            .update_status(&session_id(), &update)
            .unwrap_err();
        assert_eq!((error.verdict(), error.is_retryable()), (Verdict::Unknown, false));
        assert_eq!(server.methods(), "PATCH");
    }
}

#[test]
fn the_advice_after_an_unknown_result_is_to_read_before_a_retry() {
    let server = Server::script(vec![lost()]);
    let builder = server
        .builder(Credentials::api_key(API_KEY))
        .api_version(ApiVersion::V1);
    let error = decline(&builder.retry(RetryPolicy::none()).build().unwrap()).unwrap_err();
    let advice = "read the session's status before you retry, as `ensure_status_if` does";
    assert_eq!(error.advice(), Some(advice));
    assert!(error.to_string().ends_with(advice), "{error}");
}

#[test]
fn after_a_resubmission_in_doubt_the_advice_does_not_rely_on_the_status_alone() {
    let server = Server::script(vec![lost()]);
    let client = server.builder(Credentials::api_key(API_KEY)).build().unwrap();
    let error = client
        .update_status(&session_id(), &StatusUpdate::resubmitted([Node::new("a", "OCR")]))
        .unwrap_err();
    let advice = error.advice().unwrap();
    assert!(
        advice.contains("check in Didit's console which steps it asks for"),
        "{error}"
    );
}
