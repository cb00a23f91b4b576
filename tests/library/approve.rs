//! The function `approve` of README.md and the crate's documentation never hides that an update may have been applied.

use didit::{Client, SessionId, StatusUpdate, Verdict};

use crate::support::{Server, Step, answer, confirmed, session_id};

#[rustfmt::skip]
fn approve(client: &Client, session: &SessionId) -> didit::Result<()> {
    match client.update_status(session, &StatusUpdate::approved()) {
        Ok(_) => Ok(()),
        // The update may have been applied. Read the session, and approve it if it is not
        // approved yet. If that fails too, return the first error.
        Err(error) if error.verdict() == Verdict::Unknown => {
            let ensured = client.ensure_status(session, &StatusUpdate::approved());
            ensured.map(drop).map_err(|_| error)
        }
        // Nothing was changed. The error says why, and whether a retry can help.
        Err(error) => Err(error),
    }
}

#[test]
fn the_readme_and_the_crate_documentation_print_this_function() {
    let function = |text: &str| {
        let text = text.lines().map(|line| line.strip_prefix("//! ").unwrap_or(line));
        let lines = text.skip_while(|line| !line.starts_with("fn approve("));
        let end = lines.scan(false, |ended, line| {
            (!std::mem::replace(ended, line == "}")).then(|| line.to_owned())
        });
        end.collect::<Vec<_>>()
    };
    let own = function(include_str!("approve.rs"));
    assert!(own.len() > 5);
    assert_eq!(function(include_str!("../../README.md")), own);
    assert_eq!(function(include_str!("../../src/lib.rs")), own);
}

#[test]
fn approve_returns_the_first_error_if_the_read_fails_too() {
    let server = Server::start(|request| match request.method.as_str() {
        "GET" => answer(503, &[], ""),
        _ => answer(502, &[], ""),
    });
    let error = approve(&server.api_key_client(), &session_id()).unwrap_err();
    assert_eq!(
        (error.verdict(), error.status()),
        (Verdict::Unknown, Some(502)),
        "{error}"
    );
}

#[test]
fn approve_settles_an_update_in_doubt_by_reading_the_session() {
    let found = |status: &str| {
        answer(
            200,
            &[],
            format!(r#"{{"session_id":"{}","status":"{status}"}}"#, session_id()),
        )
    };
    let lost = || vec![Step::Close];
    for turns in [
        vec![lost(), lost(), lost(), found("Approved")],
        vec![lost(), lost(), lost(), found("In Review"), confirmed()],
    ] {
        let server = Server::script(turns);
        approve(&server.api_key_client(), &session_id()).unwrap();
    }
}
