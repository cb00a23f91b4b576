//! An update is sent exactly as documented, over few connections, and only Didit's confirmation makes it a success.

use std::sync::Barrier;
use std::thread;

use didit::{Client, ClientBuilder, Credentials, ErrorKind, StatusUpdate, Verdict};

use crate::support::*;

/// All headers of a request, sorted.
fn headers(request: &Request) -> Vec<(&str, &str)> {
    let mut headers: Vec<_> = request.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    headers.sort_unstable();
    headers
}

#[test]
fn an_update_sends_a_token_request_and_a_patch_exactly_as_documented() {
    let server = Server::script(vec![confirmed()]);
    let host = server.address().to_string();
    let client = server.client();
    let update = StatusUpdate::declined().comment("Duplicated user");
    let updated = client.update_status(&session_id(), &update).unwrap();
    assert_eq!(updated.session_id, session_id());
    assert_eq!((updated.session_token, updated.url), (None, None));

    let agent = concat!("didit-rust/", env!("CARGO_PKG_VERSION"));
    let requests = server.requests();
    let [token, patch] = requests.as_slice() else {
        panic!("{requests:?}")
    };
    assert_eq!(
        (token.method.as_str(), token.path.as_str()),
        ("POST", "/auth/v2/token/")
    );
    assert_eq!(token.text(), "grant_type=client_credentials");
    assert_eq!(
        headers(token),
        [
            ("accept", "application/json"),
            // printf the-client-id:the-client-secret | base64
            ("authorization", "Basic dGhlLWNsaWVudC1pZDp0aGUtY2xpZW50LXNlY3JldA=="),
            ("content-length", "29"),
            ("content-type", "application/x-www-form-urlencoded"),
            ("host", &host),
            ("user-agent", agent),
        ]
    );
    let path = format!("/v1/session/{SESSION}/update-status/");
    assert_eq!((patch.method.as_str(), patch.path.as_str()), ("PATCH", path.as_str()));
    assert_eq!(patch.text(), r#"{"new_status":"Declined","comment":"Duplicated user"}"#);
    assert_eq!(
        headers(patch),
        [
            ("accept", "application/json"),
            ("authorization", "Bearer token-1"),
            ("content-length", "53"),
            ("content-type", "application/json"),
            ("host", &host),
            ("user-agent", agent),
        ]
    );
}

#[test]
fn each_host_receives_only_its_own_requests() {
    let auth = Server::script(vec![]);
    let sessions = Server::script(vec![confirmed()]);
    let client = sessions
        .builder(Credentials::client("id", "secret"))
        .auth_url(auth.url())
        .build()
        .unwrap();
    client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
    assert_eq!((auth.token_requests().len(), auth.requests().len()), (1, 1));
    assert_eq!((sessions.session_requests().len(), sessions.requests().len()), (1, 1));
}

#[test]
fn nothing_is_sent_before_the_first_call() {
    let server = Server::script(vec![]);
    drop(server.client());
    assert_eq!(server.connections(), 0);
}

#[test]
fn a_second_call_reuses_the_token_and_the_connection() {
    let auth = Server::script(vec![]);
    let sessions = Server::script(vec![confirmed(), confirmed()]);
    let client = sessions
        .builder(Credentials::client("id", "secret"))
        .auth_url(auth.url())
        .build()
        .unwrap();
    for _ in 0..2 {
        client
            .clone()
            .update_status(&session_id(), &StatusUpdate::approved())
            .unwrap();
    }
    assert_eq!(auth.token_requests().len(), 1);
    assert_eq!((sessions.session_requests().len(), sessions.connections()), (2, 1));
}

#[test]
fn session_ids_are_sent_and_returned_in_canonical_form() {
    for typed in [
        SESSION.to_uppercase(),
        SESSION.replace('-', ""),
        format!("{{{SESSION}}}"),
    ] {
        for confirmed in [SESSION.to_owned(), SESSION.to_uppercase(), SESSION.replace('-', "")] {
            let server = Server::script(vec![answer(200, &[], format!(r#"{{"session_id":"{confirmed}"}}"#))]);
            let id = typed.parse().unwrap();
            let updated = server
                .api_key_client()
                .update_status(&id, &StatusUpdate::approved())
                .unwrap();
            assert_eq!(updated.session_id, SESSION);
            assert!(server.requests()[0].path.contains(SESSION), "{typed}");
        }
    }
    let upper = SESSION.to_uppercase();
    let body = format!(r#"{{"session_id":"{upper}","session_token":"st","url":"https://verify/st","more":[1]}}"#);
    let server = Server::script(vec![answer(200, &[], body)]);
    let updated = server
        .client()
        .update_status(&session_id(), &StatusUpdate::approved())
        .unwrap();
    assert_eq!(updated.session_id.as_ref(), SESSION);
    assert_eq!(updated.session_token.as_deref(), Some("st"));
    assert_eq!(updated.url.as_deref(), Some("https://verify/st"));
    assert!(!format!("{updated:?}").contains("st\""), "{updated:?}");
    assert!(format!("{updated:?}").contains("[hidden]"), "{updated:?}");
}

#[test]
fn invalid_optional_fields_of_a_confirmation_are_ignored() {
    let body = format!(r#"{{"session_id":"{SESSION}","session_token":null,"url":7}}"#);
    let server = Server::script(vec![answer(200, &[], body)]);
    let updated = server
        .client()
        .update_status(&session_id(), &StatusUpdate::approved())
        .unwrap();
    assert_eq!((updated.session_token, updated.url), (None, None));
}

#[test]
fn a_custom_user_agent_is_validated_and_sent() {
    let server = Server::script(vec![confirmed()]);
    let builder = |name: &str| server.builder(Credentials::client("id", "secret")).user_agent(name);
    let client = builder("acme review/2.0").build().unwrap();
    client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
    for request in server.requests() {
        assert_eq!(request.header("user-agent"), Some("acme review/2.0"));
    }
    for bad in ["", "a\nb", "é"] {
        let error = builder(bad).build().unwrap_err();
        assert_eq!(
            (error.kind(), error.verdict()),
            (ErrorKind::Config, Verdict::NotApplied)
        );
        assert!(error.to_string().starts_with("user_agent: "), "{error}");
    }
}

#[test]
fn invalid_credentials_are_a_configuration_error() {
    let refused = [
        Credentials::client("", "marker"),
        Credentials::client("marker", ""),
        Credentials::client("mar:ker", "marker"),
        Credentials::client("marker", "marker\n"),
        Credentials::client("marker\r", "marker"),
        Credentials::api_key(""),
        Credentials::api_key("mar ker"),
        Credentials::api_key("marker\n"),
        Credentials::api_key("märker"),
    ];
    for credentials in refused {
        let builder = Client::builder(credentials)
            .base_url("http://localhost")
            .auth_url("http://localhost")
            .proxy("");
        let error = builder.build().unwrap_err();
        assert_eq!(
            (error.kind(), error.verdict()),
            (ErrorKind::Config, Verdict::NotApplied)
        );
        assert!(!format!("{error} {error:?}").contains("mar"), "{error}");
    }
}

#[test]
fn zero_durations_are_a_configuration_error() {
    let zero = std::time::Duration::ZERO;
    let refuse = |name: &str, change: fn(ClientBuilder, std::time::Duration) -> ClientBuilder| {
        let builder = Client::builder(Credentials::api_key("key")).base_url("http://localhost");
        let builder = builder.auth_url("http://localhost").proxy("");
        let error = change(builder, zero).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().starts_with(name), "{error}");
    };
    refuse("timeout", ClientBuilder::timeout);
    refuse("connect_timeout", ClientBuilder::connect_timeout);
    refuse("deadline", ClientBuilder::deadline);
}

#[test]
fn the_longest_durations_mean_no_limit() {
    let server = Server::script(vec![confirmed()]);
    let max = std::time::Duration::MAX;
    let builder = server.builder(Credentials::api_key("key"));
    let client = builder.timeout(max).connect_timeout(max).deadline(max).build().unwrap();
    client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
}

#[test]
fn eight_threads_open_at_most_eight_connections() {
    const THREADS: usize = 8;
    let server = Server::always(confirmed());
    let auth = Server::script(vec![]);
    let client = server
        .builder(Credentials::client("id", "secret"))
        .auth_url(auth.url())
        .build()
        .unwrap();
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..1000 {
                    client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
                }
            });
        }
    });
    assert_eq!(server.session_requests().len(), 8000);
    assert_eq!(auth.token_requests().len(), 1);
    assert!(server.connections() <= THREADS, "{} connections", server.connections());
}

#[test]
fn sixteen_threads_reuse_sixteen_connections() {
    const THREADS: usize = 16;
    let server = Server::always(confirmed());
    let client = server.api_key_client();
    // All sixteen are busy at the same time, so the later rounds find sixteen idle connections.
    let barrier = Barrier::new(THREADS);
    for _ in 0..3 {
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    barrier.wait();
                    for _ in 0..50 {
                        client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
                    }
                });
            }
        });
    }
    assert!(server.connections() <= THREADS, "{} connections", server.connections());
}

#[test]
fn a_client_and_an_error_are_unwind_safe() {
    fn is_unwind_safe<T: std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    is_unwind_safe::<Client>();
    is_unwind_safe::<didit::Error>();
}
