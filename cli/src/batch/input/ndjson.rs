//! Reads a row of NDJSON.

use std::collections::BTreeMap;

use didit::{NewStatus, Node, SessionId, StatusUpdate};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::COLUMNS;
use crate::status_update::status_update;

/// A line of NDJSON. Its fields have the names of the columns of a CSV.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct NdjsonRow {
    session_id: SessionId,
    new_status: NewStatus,
    comment: Option<String>,
    /// The alias is Didit's name.
    #[serde(default, alias = "nodes_to_resubmit")]
    nodes: Vec<Node>,
    email: Option<String>,
    email_language: Option<String>,
    #[serde(flatten)]
    unknown: BTreeMap<String, IgnoredAny>,
}

const NODE: &str = r#"{"node_id": "feature_ocr_1", "feature": "OCR"}"#;

/// Parses the first line of `text`. Adds the names of unknown fields to `ignored`, if they are to be ignored.
pub fn parse(text: &str, ignored: Option<&mut Vec<String>>) -> Result<(SessionId, StatusUpdate), String> {
    let (line, is_terminated) = match text.split_once(['\r', '\n']) {
        Some((line, _)) => (line, true),
        None => (text, false),
    };
    let row: NdjsonRow = serde_json::from_str(line).map_err(|error| {
        if error.is_eof() && !is_terminated {
            return "the last line is cut off".into();
        }
        let row = line.trim().trim_matches([',', ' ', '\t']);
        if row != line.trim() && row.starts_with('{') && row.ends_with('}') {
            return "a comma separates this row from the next one: remove it".into();
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
    match (ignored, row.unknown.keys().next()) {
        (Some(ignored), _) => {
            for name in row.unknown.into_keys() {
                if !ignored.contains(&name) {
                    ignored.push(name);
                }
            }
        }
        (None, Some(name)) => {
            let known = COLUMNS.join(", ");
            return Err(format!(
                "not a row: unknown field `{name}`; the fields are {known}; use --ignore-unknown-columns to ignore others"
            ));
        }
        (None, None) => {}
    }
    let [comment, email, language] = [&row.comment, &row.email, &row.email_language].map(Option::as_deref);
    // As in a CSV, an empty field is absent.
    let [email, language] = [email, language].map(|field| field.filter(|text| !text.trim().is_empty()));
    let update = status_update(row.new_status, row.nodes, comment, email, language)?;
    Ok((row.session_id, update))
}
