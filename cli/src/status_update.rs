//! A status update from the words of a command line or of a row.

use didit::{NewStatus, Node, StatusUpdate};

/// Returns an update. An empty comment is left out. The library checks the rest.
///
/// # Errors
/// There are nodes, but the status does not use them.
pub fn status_update(
    status: NewStatus,
    nodes: Vec<Node>,
    comment: Option<&str>,
    email: Option<&str>,
    email_language: Option<&str>,
) -> Result<StatusUpdate, String> {
    let mut update = match status {
        NewStatus::Resubmitted => StatusUpdate::resubmitted(nodes),
        _ if !nodes.is_empty() => return Err("nodes: only valid with Resubmitted".into()),
        _ => StatusUpdate::new(status),
    };
    if let Some(text) = comment.filter(|text| !text.is_empty()) {
        update = update.comment(text);
    }
    if let Some(address) = email {
        update = update.email(address);
    }
    if let Some(code) = email_language {
        update = update.email_language(code);
    }
    Ok(update)
}
