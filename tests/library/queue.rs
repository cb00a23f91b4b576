//! A serialized `StatusUpdate` deserializes to the same update, and is validated when it is sent.

use didit::{ErrorKind, NewStatus, Node, SessionId, StatusUpdate, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::{SESSION, Server, confirmed, session_id};

/// A job as a program would queue it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Job {
    session_id: SessionId,
    #[serde(flatten)]
    update: StatusUpdate,
}

fn deserialize(job: Value) -> serde_json::Result<StatusUpdate> {
    serde_json::from_value(job)
}

#[test]
fn an_update_serializes_with_the_field_names_of_a_batch_row() {
    let nodes = || [Node::new("feature_ocr_1", "OCR")];
    for (update, row) in [
        (StatusUpdate::approved(), json!({"new_status": "Approved"})),
        (
            StatusUpdate::declined().comment("Duplicated user"),
            json!({"new_status": "Declined", "comment": "Duplicated user"}),
        ),
        (
            StatusUpdate::declined().comment(""),
            json!({"new_status": "Declined", "comment": ""}),
        ),
        (
            StatusUpdate::resubmitted(nodes())
                .email("ann@example.org")
                .email_language("pt-BR"),
            json!({
                "new_status": "Resubmitted",
                "nodes": [{"node_id": "feature_ocr_1", "feature": "OCR"}],
                "email": "ann@example.org",
                "email_language": "pt-BR",
            }),
        ),
    ] {
        assert_eq!(serde_json::to_value(&update).unwrap(), row);
        assert_eq!(deserialize(row.clone()).unwrap(), update);

        let job = Job {
            session_id: session_id(),
            update,
        };
        let text = serde_json::to_string(&job).unwrap();
        assert_eq!(serde_json::from_str::<Job>(&text).unwrap(), job);
    }
}

#[test]
fn deserializing_ignores_letter_case_and_nulls_and_accepts_both_names_of_the_nodes() {
    let update = deserialize(json!({"new_status": "dEcLiNeD", "comment": null, "email": null, "email_language": null}));
    assert_eq!(update.unwrap(), StatusUpdate::declined());
    let text = r#"{"session_id":"abc","new_status":"resubmitted","nodes_to_resubmit":[{"node_id":"a","feature":"B"}]}"#;
    let job: Job = serde_json::from_str(text).unwrap();
    assert_eq!(job.update, StatusUpdate::resubmitted([Node::new("a", "B")]));
}

#[test]
fn invalid_updates_fail_to_deserialize() {
    let node = json!({"node_id": "a", "feature": "B"});
    for job in [
        json!({}),
        json!({"comment": "no status"}),
        json!({"new_status": "In Review"}),
        json!({"new_status": null}),
        json!({"new_status": "Approved", "coment": "misspelled"}),
        json!({"new_status": "Approved", "send_email": true}),
        json!({"new_status": "Resubmitted", "nodes": [{"node_id": "a"}]}),
        json!({"new_status": "Resubmitted", "nodes": [{"node_id": "a", "feature": "B", "other": 1}]}),
        json!({"new_status": "Resubmitted", "nodes": [node], "nodes_to_resubmit": [node]}),
    ] {
        assert!(deserialize(job.clone()).is_err(), "{job}");
    }
    let error = deserialize(json!({"new_status": "Aproved"})).unwrap_err();
    assert!(
        error.to_string().contains("use Approved, Declined or Resubmitted"),
        "{error}"
    );
}

#[test]
fn a_deserialized_update_is_validated_before_anything_is_sent() {
    let server = Server::always(confirmed());
    let client = server.api_key_client();
    let node = json!({"node_id": "feature_ocr_1", "feature": "OCR"});
    for (job, problem) in [
        (json!({"new_status": "Resubmitted"}), "at least one node"),
        (
            json!({"new_status": "Approved", "nodes": [node]}),
            "only Resubmitted takes nodes",
        ),
        (
            json!({"new_status": "Resubmitted", "nodes": [{"node_id": "", "feature": "OCR"}]}),
            "needs a node id",
        ),
        (
            json!({"new_status": "Resubmitted", "nodes": [{"node_id": "a", "feature": "OCR,b:FACE"}]}),
            "without spaces and separators",
        ),
        (
            json!({"new_status": "Approved", "email": "ann"}),
            "not an email address",
        ),
        (
            json!({"new_status": "Approved", "email_language": "en"}),
            "needs an email address",
        ),
    ] {
        let update = deserialize(job).unwrap();
        for error in [
            client.check(&update).unwrap_err(),
            client.update_status(&session_id(), &update).unwrap_err(),
            client.ensure_status(&session_id(), &update).unwrap_err(),
        ] {
            let met = (error.kind(), error.verdict());
            assert_eq!(met, (ErrorKind::InvalidInput, Verdict::NotApplied), "{error}");
            assert!(error.to_string().contains(problem), "{error}");
        }
    }
    assert_eq!(server.connections(), 0);
}

#[test]
fn a_deserialized_update_is_sent_with_the_field_names_of_the_api() {
    let server = Server::always(confirmed());
    let row = json!({
        "session_id": SESSION,
        "new_status": "resubmitted",
        "nodes": [{"node_id": "feature_ocr_1", "feature": "OCR"}],
        "email": "ann@example.org",
    });
    let job: Job = serde_json::from_value(row).unwrap();
    server
        .api_key_client()
        .update_status(&job.session_id, &job.update)
        .unwrap();
    assert_eq!(
        server.requests()[0].text(),
        r#"{"new_status":"Resubmitted","nodes_to_resubmit":[{"node_id":"feature_ocr_1","feature":"OCR"}],"send_email":true,"email_address":"ann@example.org"}"#
    );
}

#[test]
fn an_update_returns_its_fields() {
    let update = StatusUpdate::resubmitted([Node::new("feature_ocr_1", "OCR")])
        .comment("Blurred")
        .email("ann@example.org")
        .email_language("pt-BR");
    assert_eq!(update.new_status(), NewStatus::Resubmitted);
    assert_eq!(update.nodes(), [Node::new("feature_ocr_1", "OCR")]);
    assert_eq!(update.comment_text(), Some("Blurred"));
    assert_eq!(update.email_address(), Some("ann@example.org"));
    assert_eq!(update.email_language_code(), Some("pt-BR"));

    let update = StatusUpdate::new(NewStatus::Declined);
    assert_eq!(update, StatusUpdate::declined());
    assert!(update.nodes().is_empty());
    let nothing = (
        update.comment_text(),
        update.email_address(),
        update.email_language_code(),
    );
    assert_eq!(nothing, (None, None, None));
}
