//! `didit status` prints the status of a session.

use crate::sandbox::Sandbox;
use serde_json::json;

#[test]
fn status_prints_the_status() {
    let sandbox = Sandbox::start(&[]);
    assert_eq!(sandbox.run(&["status", "abc"]).exits(0).out, "In Review\n");
    let run = sandbox.run(&["status", "abc", "--json"]).exits(0);
    let expected = json!({"session_id": "abc", "status": "In Review", "result": "read"});
    assert_eq!(run.objects(), [expected]);
    assert!(sandbox.updates().is_empty());
}

#[test]
fn a_missing_session_is_reported_as_refused() {
    let sandbox = Sandbox::start(&[]);
    let run = sandbox.run(&["status", "unknown-1"]).exits(4);
    assert_eq!(run.out, "");
    assert!(run.line().contains("Session not found."), "{run}");
    let run = sandbox.run(&["status", "unknown-1", "--json"]).exits(4);
    let object = &run.objects()[0];
    assert_eq!((&object["result"], object.get("status")), (&json!("refused"), None));
    assert_eq!(
        (&object["session_id"], &object["status_code"]),
        (&json!("unknown-1"), &json!(404))
    );
    assert_eq!(object["reason"], run.line());
}
