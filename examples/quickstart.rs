//! One decision from end to end, without an account: a stand-in for both Didit hosts, and the real client against it.
//!
//!     cargo run --example quickstart

use didit::{Client, Credentials, SessionId, StatusUpdate, Verdict};
use mockito::{Request, Server, ServerGuard};

const SESSION: &str = "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (auth, sessions) = (stand_in_for_auth(), stand_in_for_sessions());

    println!("== A user's program ==\n");
    println!("    let client = Client::new(Credentials::client(id, secret))?;");
    println!("    let update = StatusUpdate::declined().comment(\"Duplicated user\");");
    println!("    let updated = client.update_status(&session_id, &update)?;\n");

    println!("== What goes over the wire ==\n");
    let client = Client::builder(Credentials::client("my-client-id", "my-client-secret"))
        .auth_url(auth.url())
        .base_url(sessions.url())
        .build()?;
    let id: SessionId = SESSION.parse()?;
    let update = StatusUpdate::declined().comment("Duplicated user");
    let updated = client.update_status(&id, &update)?;

    println!("== What comes back ==\n");
    println!("{} is now {}", updated.session_id, update.new_status());

    println!("\n== Once more: the token is kept ==\n");
    client.update_status(&id, &StatusUpdate::approved())?;

    println!("== And when it goes wrong ==\n");
    let unknown: SessionId = "no-such-session".parse()?;
    let error = client
        .update_status(&unknown, &update)
        .expect_err("the stand-in does not know it");
    println!("{error}");
    println!("kind {:?}, verdict {:?}", error.kind(), error.verdict());
    assert_eq!(error.verdict(), Verdict::NotApplied);
    Ok(())
}

fn stand_in_for_auth() -> ServerGuard {
    let mut server = Server::new();
    server
        .mock("POST", "/auth/v2/token/")
        .with_header("content-type", "application/json")
        .with_body_from_request(|request| answer(request, r#"{"access_token":"an-access-token","expires_in":86400}"#))
        .create();
    server
}

fn stand_in_for_sessions() -> ServerGuard {
    let mut server = Server::new();
    server
        .mock("PATCH", format!("/v1/session/{SESSION}/update-status/").as_str())
        .with_header("content-type", "application/json")
        .with_body_from_request(|request| answer(request, &format!(r#"{{"session_id":"{SESSION}"}}"#)))
        .create();
    server
        .mock("PATCH", "/v1/session/no-such-session/update-status/")
        .with_status(404)
        .with_body_from_request(|request| answer(request, r#"{"detail":"Not found."}"#))
        .create();
    server
}

/// Shows a request, its secrets masked, and the answer that it gets.
fn answer(request: &Request, body: &str) -> Vec<u8> {
    println!("    {} {}", request.method(), request.path());
    for name in ["host", "content-type", "accept", "user-agent", "authorization"] {
        for value in request.header(name) {
            let value = String::from_utf8_lossy(value.as_bytes());
            match value.split_once(' ') {
                Some((scheme, _)) if name == "authorization" => println!("    {name}: {scheme} ********"),
                _ => println!("    {name}: {value}"),
            }
        }
    }
    let sent = request.body().map(|body| String::from_utf8_lossy(body).into_owned());
    println!("\n    {}\n    -> {body}\n", sent.unwrap_or_default());
    body.into()
}
