//! `didit auth` tells whether Didit accepts the credentials.

use std::process::Command;

use crate::sandbox::{Run, Sandbox, didit};
use crate::support::{Server, answer};
use serde_json::json;

#[test]
fn auth_prints_the_accepted_credentials_the_host_and_the_api_version() {
    let sandbox = Sandbox::start(&[]);
    let host = sandbox.url.strip_prefix("http://").unwrap();
    let text = |command: &mut Command| Run::of(command).exits(0).out;
    let key = text(&mut sandbox.with_key(&["auth"]));
    assert_eq!(key, format!("Didit accepts the API key at {host} (API v3)\n"));
    let id = text(&mut sandbox.didit(&["auth"]));
    assert_eq!(id, format!("Didit accepts client id me at {host} (API v1)\n"));
    let mut v2 = sandbox.didit(&["auth"]);
    let v2 = text(v2.env("DIDIT_API_VERSION", "v2"));
    assert_eq!(v2, format!("Didit accepts client id me at {host} (API v2)\n"));

    let key = Run::of(&mut sandbox.with_key(&["auth", "--json"])).exits(0);
    assert_eq!(
        key.objects(),
        [json!({"result": "accepted", "host": host, "api_version": "v3"})]
    );
    let id = sandbox.run(&["auth", "--json"]).exits(0);
    let expected = json!({"result": "accepted", "host": host, "api_version": "v1", "client_id": "me"});
    assert_eq!(id.objects(), [expected]);
    assert!(sandbox.updates().is_empty());
}

#[test]
fn a_failed_check_of_credentials_is_not_reported_as_a_failed_read() {
    let sandbox = Sandbox::start(&[]);
    let mut wrong = sandbox.with_key(&["auth", "--json"]);
    let run = Run::of(wrong.env("DIDIT_API_KEY", "wrong")).exits(3);
    assert!(
        run.line().starts_with("checking the credentials: Didit answered 401"),
        "{run}"
    );
    assert!(!run.to_string().contains("0000-0000"), "{run}");
}

#[test]
fn every_command_exits_3_if_the_credentials_are_refused() {
    let sandbox = Sandbox::start(&[]);
    for (args, result) in [
        (vec!["auth", "--json"], "refused"),
        (vec!["status", "abc", "--json"], "not_done"),
        (vec!["update", "abc", "approved", "--json"], "not_applied"),
    ] {
        for run in [
            Run::of(sandbox.didit(&args).env("DIDIT_CLIENT_SECRET", "wrong")),
            Run::of(sandbox.with_key(&args).env("DIDIT_API_KEY", "wrong")),
        ] {
            let run = run.exits(3);
            assert!(run.line().contains("401"), "{run}");
            assert_eq!(run.objects()[0]["result"], result, "{run}");
            assert_eq!(run.objects()[0]["status_code"], 401, "{run}");
        }
    }
    assert!(!sandbox.sessions().contains_key("abc"));
}

#[test]
fn only_a_response_of_didit_accepts_the_credentials() {
    for (status, body, exit) in [
        (404, r#"{"detail":"Not found."}"#, 0),
        (403, r#"{"detail":"You do not have permission."}"#, 0),
        (404, "<html>Not Found</html>", 6),
        (404, "", 6),
        (403, "<html>Forbidden</html>", 6),
        (400, r#"{"path":"/v3"}"#, 6),
    ] {
        let server = Server::always(answer(status, &[], body));
        let mut command = didit(&["auth"]);
        command.env("DIDIT_API_KEY", "k").env("DIDIT_BASE_URL", server.url());
        let run = Run::of(&mut command).exits(exit);
        assert_eq!(run.out.is_empty(), exit != 0, "{run}");
    }
}

#[test]
fn a_refused_token_is_replaced_once_and_then_exits_3() {
    let server = Server::start(|request| match request.method.as_str() {
        "POST" => answer(200, &[], r#"{"access_token":"t","expires_in":86400}"#),
        _ => answer(401, &[], r#"{"detail":"Given token not valid for any token type"}"#),
    });
    let mut command = didit(&["update", "abc", "approved"]);
    command
        .env("DIDIT_CLIENT_ID", "me")
        .env("DIDIT_CLIENT_SECRET", "hunter2");
    command
        .env("DIDIT_AUTH_URL", server.url())
        .env("DIDIT_BASE_URL", server.url());
    Run::of(&mut command).exits(3);
    let requests = server.requests();
    let count = |method: &str| requests.iter().filter(|request| request.method == method).count();
    assert_eq!((count("POST"), count("PATCH")), (2, 2));
}
