//! How to test your own code that uses the client, with mockito in place of Didit.
//!
//!     cargo test --example testing
//!
//! Pass the client in, so that tests can substitute one. An API key needs no token, so one mock is enough.
//! `RetryPolicy::none()` keeps a test from waiting.

use didit::{Client, SessionId, StatusUpdate, Verdict};

/// The code under test: returns the text that is shown to the person who pressed the button.
fn approve(client: &Client, session: &SessionId) -> String {
    match client.update_status(session, &StatusUpdate::approved()) {
        Ok(_) => "Approved.".into(),
        Err(error) if error.verdict() == Verdict::Unknown => {
            "Perhaps approved: check the session before you try again.".into()
        }
        Err(error) => match error.retry_after() {
            Some(wait) => format!("Not approved: try again in {} seconds.", wait.as_secs()),
            None => "Not approved.".into(),
        },
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let session = std::env::args().nth(1).ok_or("usage: testing SESSION_ID")?;
    println!("{}", approve(&Client::from_env()?, &session.parse()?));
    Ok(())
}

#[cfg(test)]
mod tests {
    use didit::{Credentials, RetryPolicy};
    use mockito::{Mock, Server, ServerGuard};

    use super::*;

    fn didit() -> (ServerGuard, Client) {
        let server = Server::new();
        let builder = Client::builder(Credentials::api_key("a-key")).base_url(server.url());
        (server, builder.retry(RetryPolicy::none()).build().unwrap())
    }

    fn update(server: &mut Server) -> Mock {
        server.mock("PATCH", "/v3/session/abc/update-status/")
    }

    fn pressed(client: &Client) -> String {
        approve(client, &"abc".parse().unwrap())
    }

    #[test]
    fn applied() {
        let (mut server, client) = didit();
        update(&mut server).with_body(r#"{"session_id":"abc"}"#).create();
        assert_eq!(pressed(&client), "Approved.");
    }

    #[test]
    fn refused() {
        let (mut server, client) = didit();
        update(&mut server)
            .with_status(404)
            .with_body(r#"{"detail":"Not found."}"#)
            .create();
        assert_eq!(pressed(&client), "Not approved.");
    }

    #[test]
    fn unknown() {
        let (mut server, client) = didit();
        update(&mut server).with_status(502).create();
        assert_eq!(
            pressed(&client),
            "Perhaps approved: check the session before you try again."
        );
    }

    #[test]
    fn limited() {
        let (mut server, client) = didit();
        update(&mut server)
            .with_status(429)
            .with_header("retry-after", "30")
            .create();
        assert_eq!(pressed(&client), "Not approved: try again in 30 seconds.");
    }
}
