//! Reads a row of NDJSON.

use didit::{SessionId, StatusUpdate};
use serde::Deserialize;

/// A line of NDJSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct NdjsonRow {
    session_id: SessionId,
    /// Parsed here instead of in `update`, so that an empty comment is left out, as in CSV.
    #[serde(default)]
    comment: Option<String>,
    #[serde(flatten)]
    update: StatusUpdate,
}

const NODE: &str = r#"{"node_id": "feature_ocr_1", "feature": "OCR"}"#;

pub fn parse(text: &str) -> Result<(SessionId, StatusUpdate), String> {
    let (line, whole) = match text.split_once(['\r', '\n']) {
        Some((line, _)) => (line, true),
        None => (text, false),
    };
    let row: NdjsonRow = serde_json::from_str(line).map_err(|error| {
        if error.is_eof() && !whole {
            return "the last line is cut off".into();
        }
        let (text, column) = (error.to_string(), error.column());
        let place = format!(" at line {} column {column}", error.line());
        let problem = match error.is_data() {
            true => format!("not a row: {}", text.trim_end_matches(&place)),
            false => "not valid JSON".into(),
        };
        // The row's only list is that of its nodes.
        let problem = problem.replace("struct Node", NODE).replace("a sequence", "a list");
        format!("{problem} (column {column})")
    })?;
    let update = match row.comment.filter(|text| !text.is_empty()) {
        Some(text) => row.update.comment(text),
        None => row.update,
    };
    Ok((row.session_id, update))
}
