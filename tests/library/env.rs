//! `Client::from_env` configures a client from the environment alone. The unit tests of `env` cover each variable.

use didit::{Client, ErrorKind, StatusUpdate};

use crate::support::directory::Directory;
use crate::support::process::{is_child, run_in_child};
use crate::support::{API_KEY, CLIENT_ID, CLIENT_SECRET, Server, answer, confirmed, session_id};

#[test]
fn the_environment_sets_client_credentials_and_all_options() {
    if is_child() {
        let client = Client::from_env().unwrap();
        let error = client
            .update_status(&session_id(), &StatusUpdate::approved())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Server);
        return;
    }
    let server = Server::always(answer(503, &[("retry-after", "0")], ""));
    let directory = Directory::new();
    let file = directory.path("token.json");
    for _ in 0..2 {
        run_in_child(
            "the_environment_sets_client_credentials_and_all_options",
            &[
                ("DIDIT_CLIENT_ID", CLIENT_ID),
                ("DIDIT_CLIENT_SECRET", CLIENT_SECRET),
                ("DIDIT_API_KEY", ""),
                ("DIDIT_API_VERSION", "v2"),
                ("DIDIT_BASE_URL", &format!("{}/sessions", server.url())),
                ("DIDIT_AUTH_URL", &format!("{}/tokens/", server.url())),
                ("DIDIT_TIMEOUT", "4.5"),
                ("DIDIT_MAX_RETRIES", "0"),
                ("DIDIT_TOKEN_FILE", &file),
            ],
        );
    }
    let paths: Vec<_> = server.requests().into_iter().map(|request| request.path).collect();
    let update = format!("/sessions/v2/session/{}/update-status/", session_id());
    assert_eq!(
        paths,
        ["/tokens/auth/v2/token/", &update, &update],
        "one attempt per process, and one token for both"
    );
}

#[test]
fn the_environment_sets_an_api_key_and_a_huge_timeout() {
    if is_child() {
        let client = Client::from_env().unwrap();
        client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
        return;
    }
    let server = Server::always(confirmed());
    run_in_child(
        "the_environment_sets_an_api_key_and_a_huge_timeout",
        &[
            ("DIDIT_API_KEY", API_KEY),
            ("DIDIT_BASE_URL", &server.url()),
            ("DIDIT_AUTH_URL", &server.url()),
            ("DIDIT_TIMEOUT", "1000000000000000000"),
        ],
    );
    assert_eq!(server.requests()[0].header("x-api-key"), Some(API_KEY));
    assert_eq!(server.token_requests().len(), 0);
}

#[test]
fn an_environment_without_credentials_is_a_configuration_error() {
    if is_child() {
        let error = Client::from_env().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("DIDIT_API_KEY"), "{error}");
        return;
    }
    run_in_child("an_environment_without_credentials_is_a_configuration_error", &[]);
}

#[test]
fn the_environment_names_a_file_with_the_api_key() {
    if is_child() {
        let client = Client::from_env().unwrap();
        client.update_status(&session_id(), &StatusUpdate::approved()).unwrap();
        return;
    }
    let server = Server::always(confirmed());
    let directory = Directory::new();
    let file = directory.file("key", format!("{API_KEY}\n"));
    run_in_child(
        "the_environment_names_a_file_with_the_api_key",
        &[("DIDIT_API_KEY_FILE", &file), ("DIDIT_BASE_URL", &server.url())],
    );
    assert_eq!(server.requests()[0].header("x-api-key"), Some(API_KEY));
}
