//! How to test your own code that uses the client.
//!
//!     cargo test --example testing
//!
//! Either pass the client in, so that a test can pass one that calls mockito: an API key needs no token, so one mock is
//! enough, and `RetryPolicy::none()` keeps the test from waiting. Or keep what follows the call in a function of its own, so
//! that a test can pass it a fake result.

use didit::{Client, SessionId, StatusUpdate, UpdatedSession, Verdict};

/// The code under test: returns the text that is shown to the person who pressed the button.
fn approve(client: &Client, session: &SessionId) -> String {
    shown(client.update_status(session, &StatusUpdate::approved()))
}

fn shown(result: didit::Result<UpdatedSession>) -> String {
    match result {
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
    use std::time::Duration;

    use didit::{Credentials, Error, ErrorKind, RetryPolicy};
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
    fn a_confirmed_update_is_reported_as_approved() {
        let (mut server, client) = didit();
        update(&mut server).with_body(r#"{"session_id":"abc"}"#).create();
        assert_eq!(pressed(&client), "Approved.");
    }

    #[test]
    fn a_refused_update_is_reported_as_not_approved() {
        let (mut server, client) = didit();
        update(&mut server)
            .with_status(404)
            .with_body(r#"{"detail":"Not found."}"#)
            .create();
        assert_eq!(pressed(&client), "Not approved.");
    }

    #[test]
    fn a_lost_response_is_reported_as_perhaps_approved() {
        let (mut server, client) = didit();
        update(&mut server).with_status(502).create();
        assert_eq!(
            pressed(&client),
            "Perhaps approved: check the session before you try again."
        );
    }

    #[test]
    fn a_rate_limit_says_when_to_try_again() {
        let fake = Error::new(ErrorKind::RateLimited, Verdict::NotApplied, "Didit answered 429")
            .with_status(429)
            .with_retry_after(Duration::from_secs(30));
        assert_eq!(shown(Err(fake)), "Not approved: try again in 30 seconds.");
    }

    #[test]
    fn a_fake_confirmation_is_reported_as_approved() {
        let confirmed = UpdatedSession::new("abc".parse().unwrap());
        assert_eq!(shown(Ok(confirmed)), "Approved.");
    }
}
