//! `didit status`.

use crate::sandbox::Sandbox;
use serde_json::json;

#[test]
fn the_status_is_read_back() {
    let sandbox = Sandbox::start(&[]);
    assert_eq!(sandbox.run(&["status", "abc"]).exits(0).out, "In Review\n");
    let run = sandbox.run(&["status", "abc", "--json"]).exits(0);
    let expected = json!({"session_id": "abc", "status": "In Review", "result": "read"});
    assert_eq!(run.objects(), [expected]);
    assert!(sandbox.updates().is_empty());
}

#[test]
fn a_session_that_is_not_there_is_refused_by_didit() {
    let sandbox = Sandbox::start(&[]);
    let run = sandbox.run(&["status", "unknown-1"]).exits(4);
    assert_eq!(run.out, "");
    assert!(run.line().contains("Session not found."), "{run}");
    let run = sandbox.run(&["status", "unknown-1", "--json"]).exits(4);
    let object = &run.objects()[0];
    assert_eq!(
        (&object["result"], &object["status"]),
        (&json!("refused"), &json!(null))
    );
    assert_eq!(
        (&object["session_id"], &object["status_code"]),
        (&json!("unknown-1"), &json!(404))
    );
    assert_eq!(object["reason"], run.line());
}
