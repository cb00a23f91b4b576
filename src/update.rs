//! Decisions: the new status of a session with its details, and how each API version encodes it.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, Result};
use crate::secret::hidden;

/// A status that an update can set ([Didit's API, §4](crate::didit_api#4-update-v2-and-v3)).
///
/// A status is displayed and serialized as Didit writes it. Parsing and deserializing ignore letter case.
///
/// ```
/// use didit::{NewStatus, StatusUpdate};
///
/// let status: NewStatus = "approved".parse()?;
/// assert_eq!(StatusUpdate::new(status), StatusUpdate::approved());
/// assert_eq!(status.to_string(), "Approved");
/// # Ok::<(), didit::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum NewStatus {
    /// Approves the session. Idempotent: Didit ignores it if the session is approved already.
    Approved,
    /// Declines the session. Idempotent, too.
    Declined,
    /// Asks the person to repeat some steps. Not idempotent. Needs API v3.
    Resubmitted,
}

impl NewStatus {
    /// Returns the status as Didit writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            NewStatus::Approved => "Approved",
            NewStatus::Declined => "Declined",
            NewStatus::Resubmitted => "Resubmitted",
        }
    }

    /// Returns whether repeating the update changes nothing (docs/didit-api.md §4).
    pub(crate) fn is_idempotent(self) -> bool {
        self != NewStatus::Resubmitted
    }
}

impl fmt::Display for NewStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for NewStatus {
    type Err = Error;

    /// Parses a status in any letter case.
    ///
    /// # Errors
    /// `InvalidInput`, verdict `NotApplied`, for any other text.
    fn from_str(status: &str) -> Result<Self> {
        [NewStatus::Approved, NewStatus::Declined, NewStatus::Resubmitted]
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(status))
            .ok_or_else(|| Error::input("not a status that can be set: use Approved, Declined or Resubmitted"))
    }
}

impl<'de> Deserialize<'de> for NewStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A step that the person must repeat, for [`StatusUpdate::resubmitted`] ([Didit's API,
/// §4](crate::didit_api#4-update-v2-and-v3)).
///
/// ```
/// use didit::{Node, StatusUpdate};
///
/// let node = Node::new("feature_ocr_1", "OCR");
/// let update = StatusUpdate::resubmitted([node]).email("person@example.org");
/// assert_eq!(update.nodes()[0].feature, "OCR");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Node {
    /// The id of the node in the workflow of the session, such as `feature_ocr_1`.
    pub node_id: String,
    /// The feature that the node checks, such as `OCR`.
    pub feature: String,
}

impl Node {
    /// Returns the node with this id and this feature.
    pub fn new(node_id: impl Into<String>, feature: impl Into<String>) -> Node {
        Node {
            node_id: node_id.into(),
            feature: feature.into(),
        }
    }
}

impl FromStr for Node {
    type Err = Error;

    /// Parses `NODE_ID:FEATURE`, such as `feature_ocr_1:OCR`. The feature begins after the first colon.
    ///
    /// # Errors
    /// `InvalidInput`, verdict `NotApplied`, if the id, the colon or the feature is missing, or if there is a space or a
    /// separator, as in a list of nodes.
    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            Some((id, feature)) if is_name(id) && is_name(feature) => Ok(Node::new(id, feature)),
            _ => Err(Error::input(
                "not a node: use NODE_ID:FEATURE, such as feature_ocr_1:OCR",
            )),
        }
    }
}

/// The version of Didit's session API ([Didit's API, §3](crate::didit_api#3-update-v1),
/// [§4](crate::didit_api#4-update-v2-and-v3)).
///
/// All versions accept both kinds of credentials. The default is [`V1`](ApiVersion::V1) for client credentials and
/// [`V3`](ApiVersion::V3) for an API key. A version is displayed and serialized as `v1`, `v2` or `v3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ApiVersion {
    /// Supports Approved and Declined, with a comment.
    V1,
    /// Supports the same as v1, under a newer path.
    V2,
    /// Also supports Resubmitted and emails.
    V3,
}

impl ApiVersion {
    /// Returns the version as the path of a request contains it: `v1`, `v2` or `v3`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ApiVersion::V1 => "v1",
            ApiVersion::V2 => "v2",
            ApiVersion::V3 => "v3",
        }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ApiVersion {
    type Err = Error;

    /// Parses `v1`, `v2` or `v3` in any letter case.
    ///
    /// # Errors
    /// `Config`, verdict `NotApplied`, for any other text.
    fn from_str(version: &str) -> Result<Self> {
        [ApiVersion::V1, ApiVersion::V2, ApiVersion::V3]
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(version))
            .ok_or_else(|| Error::config("not an API version: use v1, v2 or v3"))
    }
}

/// The languages of Didit's emails (docs/didit-api.md §4).
const LANGUAGES: &str = "en es fr de pt it ar bg bn ca cs da el et fa fi he hi hr hu hy id ja ka ko lt lv mk ms nl \
                         no pl pt-BR ro ru sk sl so sr sv th tr uk uz vi zh zh-CN zh-TW";

/// A decision: the new status of a session, with a comment, an email or the nodes to repeat.
///
/// ```
/// use didit::StatusUpdate;
///
/// let update = StatusUpdate::declined().comment("Duplicated user");
/// assert_eq!(update.new_status().to_string(), "Declined");
/// ```
///
/// `StatusUpdate` implements `Serialize` and `Deserialize`, so you can queue it in a format with field names, such as
/// JSON. Its fields have the names of the columns of `didit batch`: `new_status`, `comment`, `nodes` (or
/// `nodes_to_resubmit`), `email` and `email_language`. All but `new_status` are optional, and other names are rejected.
/// The client checks a deserialized update when it sends it; [`Client::check`](crate::Client::check) checks it earlier.
///
/// ```
/// use didit::{SessionId, StatusUpdate};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Job {
///     session_id: SessionId,
///     update: StatusUpdate,
/// }
///
/// let text = r#"{"session_id":"abc","update":{"new_status":"declined","comment":"Seen before"}}"#;
/// let job: Job = serde_json::from_str(text)?;
/// assert_eq!(job.update, StatusUpdate::declined().comment("Seen before"));
/// let misspelled = text.replace("comment", "coment");
/// assert!(serde_json::from_str::<Job>(&misspelled).is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// Avoid `#[serde(flatten)]` for the update: serde would then accept unknown names, such as a misspelled `comment`
/// ([serde#2283](https://github.com/serde-rs/serde/issues/2283)).
///
/// `Debug` hides the comment and the email address.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use = "an update does nothing until a client sends it"]
pub struct StatusUpdate {
    new_status: NewStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", alias = "nodes_to_resubmit")]
    nodes: Vec<Node>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    email_language: Option<String>,
}

/// The body of an update (docs/didit-api.md §4).
#[derive(Serialize)]
struct Body<'a> {
    new_status: NewStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    nodes_to_resubmit: &'a [Node],
    #[serde(skip_serializing_if = "Option::is_none")]
    send_email: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_address: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_language: Option<&'a str>,
}

impl StatusUpdate {
    /// Returns an update to this status, without a comment or an email. Resubmitted also needs nodes: see
    /// [`resubmitted`](StatusUpdate::resubmitted).
    pub fn new(new_status: NewStatus) -> StatusUpdate {
        StatusUpdate {
            new_status,
            comment: None,
            nodes: Vec::new(),
            email: None,
            email_language: None,
        }
    }

    /// Returns an update that approves the session.
    pub fn approved() -> StatusUpdate {
        StatusUpdate::new(NewStatus::Approved)
    }

    /// Returns an update that declines the session.
    pub fn declined() -> StatusUpdate {
        StatusUpdate::new(NewStatus::Declined)
    }

    /// Returns an update that asks the person to repeat these nodes. Needs at least one node, and API v3.
    ///
    /// Didit refuses it for a session that is already Resubmitted ([Didit's API,
    /// §4](crate::didit_api#4-update-v2-and-v3)). So after an unknown result, finding Resubmitted proves nothing unless the
    /// session had another status before: [`Client::ensure_status`](crate::Client::ensure_status) reads it first.
    pub fn resubmitted(nodes: impl IntoIterator<Item = Node>) -> StatusUpdate {
        StatusUpdate {
            nodes: nodes.into_iter().collect(),
            ..StatusUpdate::new(NewStatus::Resubmitted)
        }
    }

    /// Sets a comment, which Didit adds to the review. Default: none.
    pub fn comment(mut self, text: impl Into<String>) -> StatusUpdate {
        self.comment = Some(text.into());
        self
    }

    /// Sets the address where Didit emails the person. Default: no email. Needs API v3.
    pub fn email(mut self, address: impl Into<String>) -> StatusUpdate {
        self.email = Some(address.into());
        self
    }

    /// Sets the language of the email. Default: Didit's default, `en`. Needs an [`email`](StatusUpdate::email) address.
    ///
    /// It must be one of en es fr de pt it ar bg bn ca cs da el et fa fi he hi hr hu hy id ja ka ko lt lv mk ms nl no
    /// pl pt-BR ro ru sk sl so sr sv th tr uk uz vi zh zh-CN zh-TW ([Didit's API,
    /// §4](crate::didit_api#4-update-v2-and-v3)).
    pub fn email_language(mut self, code: impl Into<String>) -> StatusUpdate {
        self.email_language = Some(code.into());
        self
    }

    /// Returns the status that this update sets.
    #[must_use]
    pub fn new_status(&self) -> NewStatus {
        self.new_status
    }

    /// Returns the nodes that the person must repeat.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the comment, if there is one.
    #[must_use]
    pub fn comment_text(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    /// Returns the email address, if there is one.
    #[must_use]
    pub fn email_address(&self) -> Option<&str> {
        self.email.as_deref()
    }

    /// Returns the language of the email, if it is set.
    #[must_use]
    pub fn email_language_code(&self) -> Option<&str> {
        self.email_language.as_deref()
    }

    /// Checks that `version` supports the update, and returns the body of the request.
    pub(crate) fn to_body(&self, version: ApiVersion) -> Result<Vec<u8>> {
        let resubmitted = self.new_status == NewStatus::Resubmitted;
        let (email, language) = (self.email.as_deref(), self.email_language.as_deref());
        let problem = if version != ApiVersion::V3 && resubmitted {
            "resubmitting needs API v3: set DIDIT_API_VERSION=v3".into()
        } else if version != ApiVersion::V3 && (email.is_some() || language.is_some()) {
            "sending an email needs API v3: set DIDIT_API_VERSION=v3".into()
        } else if resubmitted && self.nodes.is_empty() {
            "Resubmitted needs at least one node".into()
        } else if !resubmitted && !self.nodes.is_empty() {
            "only Resubmitted takes nodes".into()
        } else if self
            .nodes
            .iter()
            .any(|node| !is_name(&node.node_id) || !is_name(&node.feature))
        {
            "every node needs a node id and a feature, without spaces and separators".into()
        } else if self.comment.as_ref().is_some_and(|text| text.contains('\0')) {
            "comment: must not contain a NUL character (U+0000)".into()
        } else if email.is_some_and(|address| !is_address(address)) {
            // It does not quote the address, which may be somebody's.
            "email: not an email address".into()
        } else if let Some(code) = language.filter(|code| !LANGUAGES.split(' ').any(|known| known == *code)) {
            format!("email_language: {code:?} is not a language of Didit's emails: use one of {LANGUAGES}")
        } else if language.is_some() && email.is_none() {
            "an email language needs an email address".into()
        } else {
            let body = Body {
                new_status: self.new_status,
                comment: self.comment.as_deref(),
                nodes_to_resubmit: &self.nodes,
                send_email: email.map(|_| true),
                email_address: email,
                email_language: language,
            };
            // This cannot fail: the body contains only strings, a bool and a list of strings.
            return serde_json::to_vec(&body).map_err(|_| Error::input("the update cannot be serialized"));
        };
        Err(Error::input(problem))
    }
}

impl fmt::Debug for StatusUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusUpdate")
            .field("new_status", &self.new_status)
            .field("comment", &hidden(&self.comment))
            .field("nodes", &self.nodes)
            .field("email", &hidden(&self.email))
            .field("email_language", &self.email_language)
            .finish()
    }
}

/// Returns whether a text can be a node id or a feature. This catches lists of nodes.
fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || ",;|".contains(c))
}

/// Returns whether a text looks like an email address. This catches typos only.
fn is_address(address: &str) -> bool {
    address
        .split_once('@')
        .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'))
        && !address.contains(|c: char| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionStatus;

    #[test]
    fn a_new_status_is_displayed_as_didit_writes_it_and_parsed_in_any_letter_case() {
        for (status, name) in [
            (NewStatus::Approved, "Approved"),
            (NewStatus::Declined, "Declined"),
            (NewStatus::Resubmitted, "Resubmitted"),
        ] {
            assert_eq!(status.to_string(), name);
            assert_eq!(name.to_uppercase().parse::<NewStatus>().unwrap(), status);
            assert_eq!(serde_json::to_value(status).unwrap(), name);
            let lower = name.to_lowercase();
            assert_eq!(serde_json::from_value::<NewStatus>(lower.into()).unwrap(), status);

            assert_eq!(SessionStatus::from(status).as_str(), name);
            assert_eq!(SessionStatus::from(name), status);
            assert_eq!(status, SessionStatus::from(name));
            assert_ne!(SessionStatus::InReview, status);
            assert_ne!(status, SessionStatus::InReview);
        }
        assert!("In Review".parse::<NewStatus>().is_err());
    }

    #[test]
    fn a_version_is_displayed_as_in_the_path_and_parsed_in_any_letter_case() {
        assert_eq!("V2".parse::<ApiVersion>().unwrap(), ApiVersion::V2);
        assert!("2".parse::<ApiVersion>().is_err());
        let names = [ApiVersion::V1, ApiVersion::V2, ApiVersion::V3].map(|version| version.to_string());
        assert_eq!(names, ["v1", "v2", "v3"]);
    }

    #[test]
    fn a_version_is_serialized_as_in_the_path() {
        for version in [ApiVersion::V1, ApiVersion::V2, ApiVersion::V3] {
            assert_eq!(serde_json::to_value(version).unwrap(), version.as_str());
        }
    }

    #[test]
    fn a_node_is_parsed_from_id_and_feature() {
        assert_eq!("a:b:c".parse::<Node>().unwrap(), Node::new("a", "b:c"));
        for text in [
            "", ":", "a:", ":b", "ab", "a:b,c:d", "a:b c:d", "a:b;", "a:b|c:d", " a:b", "a :b", "a:b\n", "a\0:b",
        ] {
            let error = text.parse::<Node>().unwrap_err().to_string();
            assert!(error.contains("NODE_ID:FEATURE"), "{text}: {error}");
        }
    }

    #[test]
    fn debug_hides_the_comment_and_the_address() {
        let update = StatusUpdate::declined().comment("she lied").email("ann@example.org");
        assert_eq!(
            format!("{update:?}"),
            r#"StatusUpdate { new_status: Declined, comment: Some("[hidden]"), nodes: [], email: Some("[hidden]"), email_language: None }"#
        );
    }

    #[test]
    fn an_email_address_needs_a_name_and_a_host_without_spaces() {
        for (address, valid) in [
            ("ann@example.org", true),
            ("ann", false),
            ("@example.org", false),
            ("ann@", false),
            ("ann@example@org", false),
            ("ann@@example.org", false),
            ("an n@example.org", false),
            ("ann@example.org\n", false),
        ] {
            assert_eq!(is_address(address), valid, "{address:?}");
        }
    }
}
