//! Sessions and what can be said about them: pure data, checked when it is made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const MAX_ID: usize = 128;

/// The id of a verification session: 1 to 128 of `A-Z a-z 0-9 - _`.
///
/// Anything else is refused when the id is made, so an id can never change the path of a request. Didit's own ids
/// are UUIDs (didit-api.md §4).
///
/// ```
/// use didit::SessionId;
///
/// let id: SessionId = "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10".parse()?;
/// assert_eq!(id.to_string(), "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10");
/// assert!("../../v1/x".parse::<SessionId>().is_err());
/// # Ok::<(), didit::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(Box<str>);

impl SessionId {
    /// Whether `other` names this session: Didit may write an id in another letter case.
    pub(crate) fn is(&self, other: &str) -> bool {
        self.0.eq_ignore_ascii_case(other)
    }
}

impl TryFrom<&str> for SessionId {
    type Error = Error;

    /// # Errors
    /// `InvalidInput`, verdict `NotApplied`.
    fn try_from(id: &str) -> Result<Self> {
        let problem = if id.is_empty() {
            "it is empty".into()
        } else if id.len() > MAX_ID {
            format!("it is longer than {MAX_ID} characters")
        } else if let Some(c) = id
            .chars()
            .find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_'))
        {
            format!("it contains {c:?}, and only A-Z a-z 0-9 - _ are allowed")
        } else {
            return Ok(SessionId(id.into()));
        };
        Err(Error::input(format!("not a session id: {problem}")))
    }
}

impl TryFrom<String> for SessionId {
    type Error = Error;

    fn try_from(id: String) -> Result<Self> {
        id.as_str().try_into()
    }
}

impl FromStr for SessionId {
    type Err = Error;

    fn from_str(id: &str) -> Result<Self> {
        id.try_into()
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> String {
        id.0.into()
    }
}

impl AsRef<str> for SessionId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A status that a reviewer may set (didit-api.md §4).
///
/// Displayed as on the wire; parsed in any letter case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum NewStatus {
    /// The person is accepted. Safe to repeat.
    Approved,
    /// The person is refused. Safe to repeat.
    Declined,
    /// The person is asked to repeat some steps. Not safe to repeat; v3 only.
    Resubmitted,
}

impl NewStatus {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            NewStatus::Approved => "Approved",
            NewStatus::Declined => "Declined",
            NewStatus::Resubmitted => "Resubmitted",
        }
    }

    /// Whether repeating the update changes nothing (didit-api.md §4).
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

    /// # Errors
    /// `InvalidInput`, verdict `NotApplied`, for any other word.
    fn from_str(status: &str) -> Result<Self> {
        [NewStatus::Approved, NewStatus::Declined, NewStatus::Resubmitted]
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(status))
            .ok_or_else(|| Error::input("not a status that can be set: use Approved, Declined or Resubmitted"))
    }
}

/// A step that a person is asked to repeat, for [`StatusUpdate::resubmitted`] (didit-api.md §4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Node {
    /// The node in the session's workflow, for example `feature_ocr_1`.
    pub node_id: String,
    /// What the node checks, for example `OCR`.
    pub feature: String,
}

impl Node {
    /// A step of the session's workflow by its id and its feature.
    pub fn new(node_id: impl Into<String>, feature: impl Into<String>) -> Node {
        Node {
            node_id: node_id.into(),
            feature: feature.into(),
        }
    }
}

/// Which generation of Didit's session API is called (didit-api.md §3, §4).
///
/// Any version takes either kind of credential. The default is [`V1`](ApiVersion::V1) for client credentials and
/// [`V3`](ApiVersion::V3) for an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ApiVersion {
    /// Approved and Declined, with a comment.
    V1,
    /// The same as v1, in Didit's newer path.
    V2,
    /// Resubmitted and emails as well.
    V3,
}

impl ApiVersion {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            ApiVersion::V1 => "v1",
            ApiVersion::V2 => "v2",
            ApiVersion::V3 => "v3",
        }
    }
}

impl FromStr for ApiVersion {
    type Err = Error;

    /// # Errors
    /// `Config`, verdict `NotApplied`, for anything but `v1`, `v2`, `v3` in any letter case.
    fn from_str(version: &str) -> Result<Self> {
        [ApiVersion::V1, ApiVersion::V2, ApiVersion::V3]
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(version))
            .ok_or_else(|| Error::config("not an API version: use v1, v2 or v3"))
    }
}

/// Languages that Didit writes emails in (didit-api.md §4).
const LANGUAGES: &str = "en es fr de pt it ar bg bn ca cs da el et fa fi he hi hr hu hy id ja ka ko lt lv mk ms nl \
                         no pl pt-BR ro ru sk sl so sr sv th tr uk uz vi zh zh-CN zh-TW";

/// A decision about a session: the new status and what goes with it.
///
/// ```
/// use didit::StatusUpdate;
///
/// let update = StatusUpdate::declined().comment("Duplicated user");
/// assert_eq!(update.new_status().to_string(), "Declined");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[must_use = "an update does nothing until a client sends it"]
pub struct StatusUpdate {
    new_status: NewStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nodes_to_resubmit: Vec<Node>,
    #[serde(skip_serializing_if = "Option::is_none")]
    send_email: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_language: Option<String>,
}

impl StatusUpdate {
    fn new(new_status: NewStatus) -> StatusUpdate {
        StatusUpdate {
            new_status,
            comment: None,
            nodes_to_resubmit: Vec::new(),
            send_email: None,
            email_address: None,
            email_language: None,
        }
    }

    /// Accept the person.
    pub fn approved() -> StatusUpdate {
        StatusUpdate::new(NewStatus::Approved)
    }

    /// Refuse the person.
    pub fn declined() -> StatusUpdate {
        StatusUpdate::new(NewStatus::Declined)
    }

    /// Ask the person to repeat these steps, of which there must be at least one. v3 only.
    pub fn resubmitted(nodes: impl IntoIterator<Item = Node>) -> StatusUpdate {
        StatusUpdate {
            nodes_to_resubmit: nodes.into_iter().collect(),
            ..StatusUpdate::new(NewStatus::Resubmitted)
        }
    }

    /// A comment for the review, sent as given. Without one, the key is left out.
    pub fn comment(mut self, text: impl Into<String>) -> StatusUpdate {
        self.comment = Some(text.into());
        self
    }

    /// Email the person at this address. v3 only.
    pub fn email(mut self, address: impl Into<String>) -> StatusUpdate {
        self.send_email = Some(true);
        self.email_address = Some(address.into());
        self
    }

    /// The email's language (Didit's default: `en`). Goes with [`email`](StatusUpdate::email).
    ///
    /// One of en es fr de pt it ar bg bn ca cs da el et fa fi he hi hr hu hy id ja ka ko lt lv mk ms nl no pl pt-BR ro ru sk
    /// sl so sr sv th tr uk uz vi zh zh-CN zh-TW (didit-api.md §4).
    pub fn email_language(mut self, code: impl Into<String>) -> StatusUpdate {
        self.email_language = Some(code.into());
        self
    }

    /// The status that this update sets.
    #[must_use]
    pub fn new_status(&self) -> NewStatus {
        self.new_status
    }

    /// The request's body, once the update is one that `version` knows.
    pub(crate) fn to_body(&self, version: ApiVersion) -> Result<Vec<u8>> {
        let resubmitted = self.new_status == NewStatus::Resubmitted;
        let problem = if version != ApiVersion::V3 && resubmitted {
            format!("{} knows no Resubmitted: use API version v3", version.as_str())
        } else if version != ApiVersion::V3 && (self.send_email.is_some() || self.email_language.is_some()) {
            format!("{} sends no email: use API version v3", version.as_str())
        } else if resubmitted && self.nodes_to_resubmit.is_empty() {
            "Resubmitted needs at least one node to repeat".into()
        } else if self
            .nodes_to_resubmit
            .iter()
            .any(|node| node.node_id.is_empty() || node.feature.is_empty())
        {
            "a node to repeat needs a node id and a feature".into()
        } else if self
            .email_address
            .as_deref()
            .is_some_and(|address| !is_address(address))
        {
            "not an email address".into()
        } else if self
            .email_language
            .as_deref()
            .is_some_and(|code| !LANGUAGES.split(' ').any(|known| known == code))
        {
            format!("not a language that Didit writes emails in: use one of {LANGUAGES}")
        } else if self.email_language.is_some() && self.email_address.is_none() {
            "an email language needs an email address".into()
        } else {
            // Strings, a bool and enums: there is nothing in it that JSON could refuse.
            return serde_json::to_vec(self).map_err(|_| Error::input("the update is not JSON"));
        };
        Err(Error::input(problem))
    }
}

/// Enough to catch a slip; whether the address exists only its mail server knows.
fn is_address(address: &str) -> bool {
    address
        .split_once('@')
        .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty())
        && !address.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// What Didit confirmed (didit-api.md §3).
///
/// `Debug` hides the session token and the URL, which contains it: whoever has them can act as the person.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpdatedSession {
    /// The session that was updated, in the caller's spelling.
    pub session_id: SessionId,
    /// The session's token, if Didit sent it.
    pub session_token: Option<String>,
    /// The URL of the session for the person, if Didit sent it.
    pub url: Option<String>,
}

impl fmt::Debug for UpdatedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |value: &Option<String>| value.as_ref().map(|_| "[hidden]");
        f.debug_struct("UpdatedSession")
            .field("session_id", &self.session_id)
            .field("session_token", &hidden(&self.session_token))
            .field("url", &hidden(&self.url))
            .finish()
    }
}

/// The status that a session has (didit-api.md §5). Displayed as on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs)] // Didit's own words; the docs define them no further.
pub enum SessionStatus {
    NotStarted,
    InProgress,
    InReview,
    Approved,
    Declined,
    Resubmitted,
    Abandoned,
    Expired,
    KycExpired,
    AwaitingUser,
    /// A status that this version of the crate does not know, as Didit wrote it.
    Other(String),
}

const STATUSES: [(SessionStatus, &str); 10] = [
    (SessionStatus::NotStarted, "Not Started"),
    (SessionStatus::InProgress, "In Progress"),
    (SessionStatus::InReview, "In Review"),
    (SessionStatus::Approved, "Approved"),
    (SessionStatus::Declined, "Declined"),
    (SessionStatus::Resubmitted, "Resubmitted"),
    (SessionStatus::Abandoned, "Abandoned"),
    (SessionStatus::Expired, "Expired"),
    (SessionStatus::KycExpired, "Kyc Expired"),
    (SessionStatus::AwaitingUser, "Awaiting User"),
];

impl SessionStatus {
    pub(crate) fn from_wire(status: String) -> SessionStatus {
        match STATUSES.iter().find(|(_, name)| *name == status) {
            Some((known, _)) => known.clone(),
            None => SessionStatus::Other(status),
        }
    }

    fn as_str(&self) -> &str {
        match self {
            SessionStatus::Other(name) => name,
            known => STATUSES
                .iter()
                .find(|(status, _)| status == known)
                .map_or("", |(_, name)| name),
        }
    }
}

impl fmt::Display for SessionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl PartialEq<NewStatus> for SessionStatus {
    fn eq(&self, new: &NewStatus) -> bool {
        self.as_str() == new.as_str()
    }
}

/// A session as it was read back: its id and its status, and nothing of the person.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// The session that was read, in the caller's spelling.
    pub session_id: SessionId,
    /// The status that it has.
    pub status: SessionStatus,
}

/// How [`Client::ensure_status`](crate::Client::ensure_status) got there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ensured {
    /// The session had the status; nothing was sent.
    Already,
    /// The session has the status now.
    Updated,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_serialized_as_it_is_and_checked_when_it_comes_back() {
        let id: SessionId = "A-Z_09".parse().unwrap();
        assert_eq!(serde_json::to_value(&id).unwrap(), "A-Z_09");
        assert_eq!(serde_json::from_value::<SessionId>("A-Z_09".into()).unwrap(), id);
        assert!(serde_json::from_value::<SessionId>("a/b".into()).is_err());
        assert_eq!(String::from(id), "A-Z_09");
        assert!(SessionId::try_from("a b".to_owned()).is_err());
    }

    #[test]
    fn a_status_is_displayed_as_on_the_wire_and_parsed_in_any_letter_case() {
        for (status, name) in [
            (NewStatus::Approved, "Approved"),
            (NewStatus::Declined, "Declined"),
            (NewStatus::Resubmitted, "Resubmitted"),
        ] {
            assert_eq!(status.to_string(), name);
            assert_eq!(name.to_uppercase().parse::<NewStatus>().unwrap(), status);
            assert_eq!(SessionStatus::from_wire(name.into()), status);
            assert_ne!(SessionStatus::InReview, status);
        }
        assert!("In Review".parse::<NewStatus>().is_err());
        assert_eq!("V2".parse::<ApiVersion>().unwrap(), ApiVersion::V2);
        assert!("2".parse::<ApiVersion>().is_err());
    }

    #[test]
    fn an_address_has_a_name_and_a_host_and_no_space() {
        for (address, fits) in [
            ("ann@example.org", true),
            ("ann", false),
            ("@example.org", false),
            ("ann@", false),
            ("an n@example.org", false),
            ("ann@example.org\n", false),
        ] {
            assert_eq!(is_address(address), fits, "{address:?}");
        }
    }
}
