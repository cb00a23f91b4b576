//! The test server records every request and fails the test on an unexpected one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{sync::mpsc, thread};

use crate::support::{LONG, Server, Step, confirmed, session_id};
use didit::{ErrorKind, StatusUpdate};

#[test]
fn the_server_records_every_request() {
    let server = Server::script(vec![confirmed()]);
    server
        .client()
        .update_status(&session_id(), &StatusUpdate::approved().comment("fine"))
        .unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[0].is_token_request());
    assert_eq!(requests[0].text(), "grant_type=client_credentials");
    assert_eq!(requests[1].method, "PATCH");
    assert_eq!(requests[1].path, format!("/v1/session/{}/update-status/", session_id()));
    assert_eq!(requests[1].header("Authorization"), Some("Bearer token-1"));
    assert_eq!(requests[1].text(), r#"{"new_status":"Approved","comment":"fine"}"#);
    assert_eq!(server.connections(), 1, "the connection is reused");
}

#[test]
fn an_unexpected_request_fails_the_test() {
    let server = Server::script(vec![]);
    let error = server
        .client()
        .update_status(&session_id(), &StatusUpdate::approved())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(server))).is_err());
}

#[test]
fn dropping_the_server_ends_a_stalled_response() {
    let (arrived, arrival) = mpsc::channel();
    let server = Server::start(move |_| {
        arrived.send(()).unwrap();
        vec![Step::Stall]
    });
    let client = server.api_key_client();
    thread::scope(|scope| {
        let update = scope.spawn(|| client.update_status(&session_id(), &StatusUpdate::approved()));
        arrival.recv_timeout(LONG).unwrap();
        drop(server);
        assert_eq!(update.join().unwrap().unwrap_err().kind(), ErrorKind::Network);
    });
}
