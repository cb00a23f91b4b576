//! Each API version gets exactly the documented requests, and invalid input is rejected before anything is sent.

use didit::{ApiVersion, Client, ClientBuilder, Credentials, Error, ErrorKind, Node, SessionId, StatusUpdate, Verdict};

use crate::support::{API_KEY, CLIENT_ID, CLIENT_SECRET, Request, SESSION, Server, answer, confirmed, session_id};

/// The whole request, with its headers sorted and the address and version replaced.
fn text(request: &Request, server: &Server) -> String {
    let mut headers: Vec<_> = request
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\n"))
        .collect();
    headers.sort();
    let headers = headers.concat();
    let text = format!("{} {}\n{headers}\n{}", request.method, request.path, request.text());
    text.replace(&server.address().to_string(), "HOST")
        .replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

/// The body of the request for an update.
fn body(version: ApiVersion, update: &StatusUpdate) -> String {
    let server = Server::always(confirmed());
    let client = server.builder(Credentials::api_key(API_KEY)).api_version(version);
    client.build().unwrap().update_status(&session_id(), update).unwrap();
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    let path = format!(
        "/{}/session/{SESSION}/update-status/",
        format!("{version:?}").to_lowercase()
    );
    assert_eq!(requests[0].path, path);
    requests[0].text().to_owned()
}

const VERSIONS: [(ApiVersion, &str); 3] = [(ApiVersion::V1, "v1"), (ApiVersion::V2, "v2"), (ApiVersion::V3, "v3")];

#[test]
fn an_update_with_client_credentials_is_sent_exactly_as_documented() {
    let update = StatusUpdate::declined().comment("Duplicated user");
    for (version, name) in VERSIONS {
        let server = Server::always(confirmed());
        let client = server
            .builder(Credentials::client(CLIENT_ID, CLIENT_SECRET))
            .api_version(version)
            .build()
            .unwrap();
        client.update_status(&session_id(), &update).unwrap();
        let sent: Vec<_> = server.requests().iter().map(|request| text(request, &server)).collect();
        assert_eq!(
            sent,
            [
                "POST /auth/v2/token/\n\
                 accept: application/json\n\
                 authorization: Basic dGhlLWNsaWVudC1pZDp0aGUtY2xpZW50LXNlY3JldA==\n\
                 content-length: 29\n\
                 content-type: application/x-www-form-urlencoded\n\
                 host: HOST\n\
                 user-agent: didit-rust/VERSION\n\
                 \n\
                 grant_type=client_credentials"
                    .to_owned(),
                format!(
                    "PATCH /{name}/session/{SESSION}/update-status/\n\
                     accept: application/json\n\
                     authorization: Bearer token\n\
                     content-length: 53\n\
                     content-type: application/json\n\
                     host: HOST\n\
                     user-agent: didit-rust/VERSION\n\
                     \n\
                     {{\"new_status\":\"Declined\",\"comment\":\"Duplicated user\"}}"
                )
            ]
        );
    }
}

#[test]
fn an_update_with_an_api_key_is_sent_exactly_as_documented() {
    for (version, name) in VERSIONS {
        let server = Server::always(confirmed());
        let client = server
            .builder(Credentials::api_key(API_KEY))
            .api_version(version)
            .build()
            .unwrap();
        client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
        let sent: Vec<_> = server.requests().iter().map(|request| text(request, &server)).collect();
        let expected = format!(
            "PATCH /{name}/session/{SESSION}/update-status/\n\
             accept: application/json\n\
             content-length: 25\n\
             content-type: application/json\n\
             host: HOST\n\
             user-agent: didit-rust/VERSION\n\
             x-api-key: the-api-key\n\
             \n\
             {{\"new_status\":\"Approved\"}}"
        );
        assert_eq!(sent, [expected], "only the update, no token request");
    }
}

#[test]
fn reading_a_session_sends_exactly_the_documented_request() {
    for (version, name) in VERSIONS {
        let server = Server::always(answer(
            200,
            &[],
            format!(r#"{{"session_id":"{SESSION}","status":"Declined"}}"#),
        ));
        let client = server.builder(Credentials::api_key(API_KEY)).api_version(version);
        client.build().unwrap().session(&session_id()).unwrap();
        let expected = format!(
            "GET /{name}/session/{SESSION}/decision/\n\
             accept: application/json\n\
             host: HOST\n\
             user-agent: didit-rust/VERSION\n\
             x-api-key: the-api-key\n\
             \n"
        );
        assert_eq!(text(&server.requests()[0], &server), expected);
    }
}

#[test]
fn client_credentials_default_to_v1_and_an_api_key_to_v3() {
    let server = Server::always(confirmed());
    server
        .client()
        .update_status(&session_id(), &StatusUpdate::approved())
        .unwrap();
    server
        .api_key_client()
        .update_status(&session_id(), &StatusUpdate::approved())
        .unwrap();
    let paths: Vec<_> = server
        .session_requests()
        .into_iter()
        .map(|request| request.path)
        .collect();
    assert_eq!(
        paths,
        ["v1", "v3"].map(|version| format!("/{version}/session/{SESSION}/update-status/"))
    );
}

#[test]
fn every_documented_field_of_v3_is_sent_as_documented() {
    let nodes = [
        Node::new("feature_ocr_1", "OCR"),
        Node::new("feature_liveness_1", "LIVENESS"),
    ];
    for (update, expected) in [
        (StatusUpdate::approved(), r#"{"new_status":"Approved"}"#),
        (
            StatusUpdate::declined().comment("Duplicated user"),
            r#"{"new_status":"Declined","comment":"Duplicated user"}"#,
        ),
        (
            StatusUpdate::resubmitted(nodes.clone()),
            r#"{"new_status":"Resubmitted","nodes_to_resubmit":[{"node_id":"feature_ocr_1","feature":"OCR"},{"node_id":"feature_liveness_1","feature":"LIVENESS"}]}"#,
        ),
        (
            StatusUpdate::approved().email("ann@example.org"),
            r#"{"new_status":"Approved","send_email":true,"email_address":"ann@example.org"}"#,
        ),
        (
            StatusUpdate::resubmitted(nodes.into_iter().take(1))
                .comment("Blurred")
                .email("ann@example.org")
                .email_language("pt-BR"),
            r#"{"new_status":"Resubmitted","comment":"Blurred","nodes_to_resubmit":[{"node_id":"feature_ocr_1","feature":"OCR"}],"send_email":true,"email_address":"ann@example.org","email_language":"pt-BR"}"#,
        ),
    ] {
        assert_eq!(body(ApiVersion::V3, &update), expected);
    }
}

#[test]
fn every_documented_language_is_accepted() {
    let documented = "en es fr de pt it ar bg bn ca cs da el et fa fi he hi hr hu hy id ja ka ko lt lv mk ms nl no pl \
                      pt-BR ro ru sk sl so sr sv th tr uk uz vi zh zh-CN zh-TW";
    let server = Server::always(confirmed());
    let client = server.api_key_client();
    for code in documented.split_whitespace() {
        let update = StatusUpdate::approved().email("ann@example.org").email_language(code);
        client.update_status(&session_id(), &update).unwrap();
    }
    assert_eq!(server.requests().len(), documented.split_whitespace().count());
}

#[test]
fn a_comment_is_sent_unchanged_in_every_version() {
    let long = "ü".repeat(10_000);
    for comment in [
        "",
        " ",
        "Ünïcode ✓ 🦀",
        "\"quotes\" and \\ and \n and \u{1}",
        "null",
        long.as_str(),
    ] {
        for (version, _) in VERSIONS {
            let sent: serde_json::Value =
                serde_json::from_str(&body(version, &StatusUpdate::declined().comment(comment))).unwrap();
            assert_eq!(sent, serde_json::json!({"new_status": "Declined", "comment": comment}));
        }
    }
}

/// The message of an update that is rejected as invalid input before anything is sent.
fn rejected(version: ApiVersion, update: &StatusUpdate) -> String {
    let server = Server::always(confirmed());
    let credentials = Credentials::client(CLIENT_ID, CLIENT_SECRET);
    let client = server.builder(credentials).api_version(version).build().unwrap();
    let update_error = client.update_status(&session_id(), update).unwrap_err();
    let ensure_error = client.ensure_status(&session_id(), update).unwrap_err();
    for error in [&update_error, &ensure_error] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert_eq!(error.verdict(), Verdict::NotApplied, "{error}");
        assert!(!error.is_retryable(), "{error}");
        assert!(error.to_string().contains("nothing was changed"), "{error}");
    }
    assert_eq!(server.connections(), 0, "not even for a token");
    update_error.to_string()
}

#[test]
fn v1_and_v2_reject_what_needs_v3_and_name_v3() {
    for version in [ApiVersion::V1, ApiVersion::V2] {
        for update in [
            StatusUpdate::resubmitted([Node::new("feature_ocr_1", "OCR")]),
            StatusUpdate::resubmitted([]),
            StatusUpdate::approved().email("ann@example.org"),
            StatusUpdate::declined().email_language("en"),
        ] {
            let message = rejected(version, &update);
            assert!(message.contains("v3"), "{message}");
        }
    }
}

#[test]
fn resubmitted_needs_at_least_one_node_and_complete_nodes() {
    for nodes in [
        vec![],
        vec![Node::new("", "OCR")],
        vec![Node::new("feature_ocr_1", "OCR"), Node::new("feature_ocr_2", "")],
    ] {
        let message = rejected(ApiVersion::V3, &StatusUpdate::resubmitted(nodes));
        assert!(message.contains("node"), "{message}");
    }
}

#[test]
fn an_email_needs_an_address() {
    for address in [
        "",
        "ann",
        "@",
        "ann@",
        "@example.org",
        "ann@example.org\n",
        "ann @example.org",
        "ann@example@org",
    ] {
        let message = rejected(ApiVersion::V3, &StatusUpdate::approved().email(address));
        assert!(message.contains("not an email address"), "{message}");
        assert!(address.len() < 3 || !message.contains(address), "{message}");
    }
}

#[test]
fn an_email_language_must_be_documented_and_needs_an_address() {
    let email = || StatusUpdate::approved().email("ann@example.org");
    for code in ["", "xx", "EN", "en ", "en es", "pt-br", "english"] {
        let message = rejected(ApiVersion::V3, &email().email_language(code));
        assert!(message.contains("pt-BR"), "the message lists the codes: {message}");
    }
    let message = rejected(ApiVersion::V3, &StatusUpdate::approved().email_language("en"));
    assert!(message.contains("needs an email address"), "{message}");
}

#[test]
fn a_session_id_can_never_change_the_path() {
    let long = "a".repeat(129);
    for id in [
        "../../v1/x",
        "a/b",
        "a?b",
        "a#b",
        "%2e%2e",
        "a b",
        "a\r\nx: y",
        "a\0",
        ".",
        "..",
        "",
        "é",
        "a\u{200d}",
        "a;b",
        "a\\b",
        &long,
    ] {
        let errors: [Error; 3] = [
            id.parse::<SessionId>().unwrap_err(),
            SessionId::try_from(id).unwrap_err(),
            SessionId::try_from(id.to_owned()).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{id}");
            assert_eq!(error.verdict(), Verdict::NotApplied, "{id}");
            assert!(!error.to_string().contains(|c: char| c.is_control()), "{id:?}");
        }
        let json = serde_json::to_string(id).unwrap();
        assert!(serde_json::from_str::<SessionId>(&json).is_err(), "{id}");
    }
}

#[test]
fn a_session_id_of_up_to_128_safe_characters_is_sent_unchanged() {
    for id in ["A", "-", "_", "Az09-_", &"x".repeat(128)] {
        let server = Server::always(answer(200, &[], format!(r#"{{"session_id":"{id}"}}"#)));
        let session: SessionId = id.parse().unwrap();
        server
            .api_key_client()
            .update_status(&session, &StatusUpdate::approved())
            .unwrap();
        assert_eq!(server.requests()[0].path, format!("/v3/session/{id}/update-status/"));
    }
}

/// A builder with one URL for both hosts, and no proxy.
fn at(url: &str) -> ClientBuilder {
    Client::builder(Credentials::api_key(API_KEY))
        .base_url(url)
        .auth_url(url)
        .proxy("")
}

#[test]
fn an_invalid_url_is_rejected_and_never_quoted() {
    for url in [
        "",
        " ",
        "https://",
        "https:///v3",
        "verification.example",
        "/v3",
        "//host",
        "ftp://hunter2.example",
        "file:///hunter2",
        "HTTPS//hunter2.example",
        "https://hunter2@example.org",
        "https://me:hunter2@example.org",
        "http://me:hunter2@127.0.0.1",
        "https://example.org?hunter2",
        "https://example.org/?hunter2=1",
        "https://example.org/#hunter2",
        "https://example.org/hunter2 x",
        "https://example.org/hunter2\r\nx: y",
        "https://exämple.org/hunter2",
        "https://example.org\\hunter2",
        "https://example.org:0",
        "https://example.org:65536",
        "https://example.org:hunter2",
        "https://example.org:-1",
        "https://[::1",
        "http://hunter2.example",
        "http://10.0.0.1",
        "http://localhost.hunter2.example",
        "http://127.0.0.1.hunter2.example",
        "http://0.0.0.0",
        "http://[::2]",
    ] {
        let loopback = "http://127.0.0.1:1";
        for (option, builder) in [
            ("base_url", at(loopback).base_url(url)),
            ("auth_url", at(loopback).auth_url(url)),
        ] {
            let shown = format!("{builder:?}");
            let error = builder.build().expect_err(url);
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert_eq!(error.verdict(), Verdict::NotApplied, "{url}");
            assert!(!error.is_retryable(), "{url}");
            let message = error.to_string();
            assert!(message.contains(option), "{url}: {message}");
            assert!(
                !format!("{message} {error:?} {shown}").contains("hunter2"),
                "{url}: {message}"
            );
        }
    }
}

#[test]
fn plain_http_needs_a_loopback_host_or_allow_insecure_http() {
    for url in [
        "http://127.0.0.1",
        "http://127.0.0.2:8080",
        "http://localhost:8080",
        "http://LOCALHOST",
        "http://[::1]",
        "http://[::1]:8080/prefix/",
        "HTTP://127.0.0.1",
    ] {
        at(url).build().unwrap_or_else(|error| panic!("{url}: {error}"));
    }
    let insecure = at("http://didit.internal:8080");
    let error = insecure.clone().build().unwrap_err();
    assert!(error.to_string().contains("allow_insecure_http"), "{error}");
    insecure.allow_insecure_http(true).build().unwrap();
}

#[test]
#[cfg(any(feature = "rustls", feature = "rustls-no-provider", feature = "native-tls"))]
fn https_urls_may_have_a_port_a_prefix_and_a_trailing_slash() {
    crate::tls::install_provider();
    for url in [
        "https://example.org",
        "https://example.org/",
        "https://example.org:8443",
        "https://example.org:65535/gateway/didit/",
        "https://192.0.2.1",
        "https://[2001:db8::1]:8443/",
        "HTTPS://EXAMPLE.ORG",
    ] {
        at(url).build().unwrap_or_else(|error| panic!("{url}: {error}"));
    }
}

#[test]
#[cfg(not(any(feature = "rustls", feature = "rustls-no-provider", feature = "native-tls")))]
fn without_tls_an_https_url_is_rejected_and_the_features_are_named() {
    let https = "https://example.org";
    let loopback = "http://127.0.0.1:1";
    for builder in [
        Client::builder(Credentials::api_key(API_KEY)),
        at(https),
        at(loopback).base_url(https),
        at(loopback).auth_url(https),
        at(loopback).root_certificates("any"),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let message = error.to_string();
        for feature in ["rustls", "native-tls", "platform-verifier"] {
            assert!(message.contains(feature), "{message}");
        }
    }
}

#[test]
fn a_path_prefix_precedes_the_documented_path() {
    for (prefix, expected) in [("", ""), ("/", ""), ("/didit", "/didit"), ("/a/b/", "/a/b")] {
        let server = Server::always(confirmed());
        let url = format!("{}{prefix}", server.url());
        let client = server
            .builder(Credentials::client(CLIENT_ID, CLIENT_SECRET))
            .base_url(&url)
            .auth_url(url)
            .build()
            .unwrap();
        client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
        let paths: Vec<_> = server.requests().into_iter().map(|request| request.path).collect();
        assert_eq!(
            paths,
            [
                format!("{expected}/auth/v2/token/"),
                format!("{expected}/v1/session/{SESSION}/update-status/")
            ]
        );
    }
}
