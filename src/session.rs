//! Sessions, their ids and their statuses. This is plain data, which is checked when it is created.

use std::borrow::Borrow;
use std::convert::Infallible;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::secret::hidden;
use crate::update::NewStatus;

const MAX_ID: usize = 128;

/// The id of a verification session: a UUID, or 1 to 128 of the characters `A-Z a-z 0-9 - _`.
///
/// Didit's own ids are UUIDs ([Didit's API, §4](crate::didit_api#4-update-v2-and-v3)). Parsing converts a UUID in any
/// spelling (in capitals, without hyphens, in braces, after `urn:uuid:`) to its canonical form: lower case, with
/// hyphens. Note that any 32 hexadecimal digits count as a UUID. Other ids stay as they are.
///
/// Parsing rejects anything else, so that an id cannot change the path of a request.
///
/// Two ids are equal if their canonical forms are. Comparison is case-sensitive, including with strings.
///
/// ```
/// use didit::SessionId;
///
/// let id: SessionId = "{4C5C7F3A-3B52-4B26-9A44-6D2F3D6F3C10}".parse()?;
/// assert_eq!(id, "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10");
/// assert!("../../v1/x".parse::<SessionId>().is_err());
/// # Ok::<(), didit::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(Box<str>);

impl SessionId {
    /// Returns the id: a UUID in its canonical form, or any other id as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether `other`, in any spelling, identifies this session.
    pub(crate) fn is(&self, other: &str) -> bool {
        // Usually, the spelling is the same.
        self == other || canonical_uuid(other).is_some_and(|other| self == other.as_str())
    }
}

/// Returns the canonical form of a UUID (RFC 9562 §4), or `None` if `text` is not a UUID in any spelling.
fn canonical_uuid(text: &str) -> Option<String> {
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];
    let text = text.strip_prefix("urn:uuid:").unwrap_or(text);
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let text = inner.unwrap_or(text);
    let is_hyphenated = text.len() == 36 && HYPHENS.iter().all(|at| text.as_bytes()[*at] == b'-');
    let mut uuid = text.replace('-', "").to_ascii_lowercase();
    if !(is_hyphenated || text.len() == 32) || uuid.len() != 32 || !uuid.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    HYPHENS.iter().for_each(|at| uuid.insert(*at, '-'));
    Some(uuid)
}

impl TryFrom<&str> for SessionId {
    type Error = Error;

    /// Parses a session id.
    ///
    /// # Errors
    /// `InvalidInput`, verdict `NotApplied`.
    fn try_from(id: &str) -> Result<Self> {
        if let Some(uuid) = canonical_uuid(id) {
            return Ok(SessionId(uuid.into()));
        }
        let problem = if id.is_empty() {
            "empty".into()
        } else if id.len() > MAX_ID {
            format!("longer than {MAX_ID} characters")
        } else if let Some(c) = id
            .chars()
            .find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_'))
        {
            format!("contains {c:?}, and only A-Z a-z 0-9 - _ are allowed")
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

impl Borrow<str> for SessionId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for SessionId {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for SessionId {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Didit's confirmation of an update ([Didit's API, §3](crate::didit_api#3-update-v1)).
///
/// `Debug` hides the session token and the URL, which contains it: anyone who has them can act as the person.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpdatedSession {
    /// The session that was updated.
    pub session_id: SessionId,
    /// The token of the session, if Didit sent it.
    pub session_token: Option<String>,
    /// The URL of the session for the person, if Didit sent it.
    pub url: Option<String>,
}

impl UpdatedSession {
    /// Returns a confirmation without a token and a URL, for a fake client in a test.
    #[must_use]
    pub fn new(session_id: SessionId) -> UpdatedSession {
        UpdatedSession {
            session_id,
            session_token: None,
            url: None,
        }
    }
}

impl fmt::Debug for UpdatedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpdatedSession")
            .field("session_id", &self.session_id)
            .field("session_token", &hidden(&self.session_token))
            .field("url", &hidden(&self.url))
            .finish()
    }
}

/// The status of a session ([Didit's API, §5](crate::didit_api#5-reading-a-session)).
///
/// A status is displayed and serialized as Didit writes it. Parsing is case-sensitive and never fails: an unknown
/// status becomes `Other`. Two statuses are equal if Didit writes them the same way.
///
/// ```
/// use didit::{NewStatus, SessionStatus};
///
/// let status = SessionStatus::from("In Review");
/// assert_eq!(status, SessionStatus::InReview);
/// assert_eq!(status, "In Review");
/// assert!(status != NewStatus::Approved);
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "String")]
#[non_exhaustive]
#[allow(missing_docs)] // These are Didit's names, which its documentation does not explain.
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
    /// A status that this version of the crate does not know, as Didit wrote it. [`Client::session`](crate::Client::session)
    /// removes the client's secrets from it, escapes control characters, and cuts it after 300 characters.
    Other(String),
}

impl SessionStatus {
    const KNOWN: [SessionStatus; 10] = [
        SessionStatus::NotStarted,
        SessionStatus::InProgress,
        SessionStatus::InReview,
        SessionStatus::Approved,
        SessionStatus::Declined,
        SessionStatus::Resubmitted,
        SessionStatus::Abandoned,
        SessionStatus::Expired,
        SessionStatus::KycExpired,
        SessionStatus::AwaitingUser,
    ];

    /// Returns the status as Didit writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            SessionStatus::NotStarted => "Not Started",
            SessionStatus::InProgress => "In Progress",
            SessionStatus::InReview => "In Review",
            SessionStatus::Approved => "Approved",
            SessionStatus::Declined => "Declined",
            SessionStatus::Resubmitted => "Resubmitted",
            SessionStatus::Abandoned => "Abandoned",
            SessionStatus::Expired => "Expired",
            SessionStatus::KycExpired => "Kyc Expired",
            SessionStatus::AwaitingUser => "Awaiting User",
            SessionStatus::Other(name) => name,
        }
    }

    /// Returns the status for the text of an error. Hides an unknown one, since the server may have put a secret or personal data in it.
    pub(crate) fn describe(&self) -> &str {
        match self {
            SessionStatus::Other(_) => "in another status",
            known => known.as_str(),
        }
    }

    /// Returns whether a reviewer or Didit has decided: Approved, Declined or Resubmitted, in any letter case.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        // The decisions are what can be set.
        self.as_str().parse::<NewStatus>().is_ok()
    }
}

impl From<String> for SessionStatus {
    fn from(status: String) -> SessionStatus {
        let known = SessionStatus::KNOWN.into_iter().find(|known| known.as_str() == status);
        known.unwrap_or(SessionStatus::Other(status))
    }
}

impl From<&str> for SessionStatus {
    fn from(status: &str) -> SessionStatus {
        status.to_owned().into()
    }
}

impl FromStr for SessionStatus {
    type Err = Infallible;

    fn from_str(status: &str) -> Result<Self, Infallible> {
        Ok(status.into())
    }
}

impl From<NewStatus> for SessionStatus {
    fn from(new: NewStatus) -> SessionStatus {
        new.as_str().into()
    }
}

impl fmt::Display for SessionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for SessionStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

// Compares the text, so that `Other("Approved")` equals `Approved`.
impl PartialEq for SessionStatus {
    fn eq(&self, other: &SessionStatus) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for SessionStatus {}

impl Hash for SessionStatus {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialEq<str> for SessionStatus {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for SessionStatus {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl PartialEq<NewStatus> for SessionStatus {
    fn eq(&self, new: &NewStatus) -> bool {
        self.as_str() == new.as_str()
    }
}

impl PartialEq<SessionStatus> for NewStatus {
    fn eq(&self, status: &SessionStatus) -> bool {
        status == self
    }
}

/// The id and the status of a session, without personal data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// The session that was read.
    pub session_id: SessionId,
    /// Its status when it was read.
    pub status: SessionStatus,
}

impl Session {
    /// Returns a session with this status, for a fake client in a test.
    ///
    /// ```
    /// use didit::{Session, SessionStatus};
    ///
    /// let session = Session::new("abc".parse()?, "In Review");
    /// assert_eq!(session.status, SessionStatus::InReview);
    /// # Ok::<(), didit::Error>(())
    /// ```
    pub fn new(session_id: SessionId, status: impl Into<SessionStatus>) -> Session {
        Session {
            session_id,
            status: status.into(),
        }
    }
}

/// What [`Client::ensure_status`](crate::Client::ensure_status) or
/// [`Client::ensure_status_if`](crate::Client::ensure_status_if) did.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ensured {
    /// The session already had the status. Nothing of this call was applied.
    Already,
    /// The session now has the status: Didit confirmed the update, or the client read it back after an attempt in doubt.
    Updated,
    /// The session has this status, which `may_replace` did not accept. This call changed nothing.
    LeftAlone(SessionStatus),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_serialized_as_text_and_checked_when_deserialized() {
        let id: SessionId = "A-Z_09".parse().unwrap();
        assert_eq!(serde_json::to_value(&id).unwrap(), "A-Z_09");
        assert_eq!(serde_json::from_value::<SessionId>("A-Z_09".into()).unwrap(), id);
        assert!(serde_json::from_value::<SessionId>("a/b".into()).is_err());
        assert_eq!(String::from(id), "A-Z_09");
        assert!(SessionId::try_from("a b".to_owned()).is_err());
    }

    #[test]
    fn an_id_is_compared_with_text_case_sensitively() {
        let id: SessionId = "Abc".parse().unwrap();
        assert_eq!(id.as_str(), "Abc");
        assert!(id == *"Abc" && id == "Abc");
        assert!(id != *"abc" && id != "abc");
    }

    #[test]
    fn a_uuid_in_any_spelling_becomes_canonical() {
        let canonical = "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10";
        let id: SessionId = canonical.parse().unwrap();
        for spelling in [
            canonical,
            "4C5C7F3A-3B52-4B26-9A44-6D2F3D6F3C10",
            "4c5c7f3a3b524b269a446d2f3d6f3c10",
            "4C5c7f3a3b524b269a446d2f3d6f3C10",
            "{4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10}",
            "{4C5C7F3A3B524B269A446D2F3D6F3C10}",
            "urn:uuid:4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10",
        ] {
            let parsed: SessionId = spelling.parse().unwrap();
            assert_eq!(parsed.as_str(), canonical, "{spelling}");
            assert_eq!(parsed, id);
            assert!(id.is(spelling), "{spelling}");
            assert_eq!(serde_json::from_value::<SessionId>(spelling.into()).unwrap(), id);
        }
        let ids = std::collections::HashMap::from([(id, 7)]);
        assert_eq!(ids.get(canonical), Some(&7));
    }

    #[test]
    fn an_id_that_is_not_a_uuid_stays_as_it_is_or_is_rejected() {
        for id in [
            "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c1",
            "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c1G",
            "4C5C7F3A3B52-4B26-9A44-6D2F3D6F3C10",
            "4C5C7F3A-3B524B26-9A44-6D2F3D6F3C-10",
            "--------4C5C7F3A3B524B269A446D2F",
            "Abc",
        ] {
            let parsed: SessionId = id.parse().unwrap();
            assert_eq!(parsed.as_str(), id);
            assert!(parsed.is(id) && !parsed.is("abc"));
        }
        for id in [
            "{4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10",
            "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10}",
            "{abc}",
            "urn:uuid:abc",
            "{}",
            "4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3cé",
        ] {
            assert!(id.parse::<SessionId>().is_err(), "{id}");
        }
    }

    #[test]
    fn a_known_status_is_never_parsed_as_other() {
        for known in SessionStatus::KNOWN {
            let name = known.to_string();
            for parsed in [
                SessionStatus::from(name.as_str()),
                SessionStatus::from(name.clone()),
                name.parse().unwrap(),
                serde_json::from_value(name.clone().into()).unwrap(),
            ] {
                assert!(!matches!(parsed, SessionStatus::Other(_)), "{name}");
                assert_eq!(parsed, known);
            }
            assert_eq!(serde_json::to_value(&known).unwrap(), name);
        }
    }

    #[test]
    fn approved_declined_and_resubmitted_are_decided() {
        for status in SessionStatus::KNOWN {
            let name = status.to_string();
            let decided = ["Approved", "Declined", "Resubmitted"].contains(&name.as_str());
            assert_eq!(status.is_decided(), decided, "{name}");
            assert_eq!(SessionStatus::Other(name.to_uppercase()).is_decided(), decided);
        }
    }

    #[test]
    fn a_status_equals_its_name() {
        for status in SessionStatus::KNOWN {
            let name = status.to_string();
            assert!(status == *name && status == name.as_str() && status != "Other");
        }
        assert!(SessionStatus::Other("Escalated".into()) == "Escalated");
    }

    #[test]
    fn statuses_and_their_hashes_are_equal_if_their_names_are() {
        let hash = |status: &SessionStatus| {
            let mut hasher = std::hash::DefaultHasher::new();
            status.hash(&mut hasher);
            hasher.finish()
        };
        let other = |name: &str| SessionStatus::Other(name.into());
        for left in SessionStatus::KNOWN {
            for right in SessionStatus::KNOWN.into_iter().chain([other("approved")]) {
                let same = left.as_str() == right.as_str();
                assert_eq!(left == right, same, "{left}, {right}");
                assert_eq!(hash(&left) == hash(&right), same, "{left}, {right}");
            }
            let own = other(left.as_str());
            assert_eq!(left, own);
            assert_eq!(hash(&left), hash(&own));
        }
        assert_ne!(SessionStatus::Approved, NewStatus::Declined);
        assert_eq!(SessionStatus::Approved, NewStatus::Approved);
    }

    #[test]
    fn an_unknown_status_is_kept_as_it_is() {
        for name in ["Escalated", "approved", ""] {
            let status = SessionStatus::from(name);
            assert!(matches!(&status, SessionStatus::Other(text) if text == name));
            assert_eq!(status.as_str(), name);
            assert_eq!(serde_json::to_value(&status).unwrap(), name);
            assert_ne!(status, NewStatus::Approved);
        }
    }

    #[test]
    fn a_handmade_other_equals_the_known_status() {
        let handmade = SessionStatus::Other("Approved".into());
        assert_eq!(handmade, SessionStatus::Approved);
        assert_eq!(handmade, NewStatus::Approved);
        let mut set = std::collections::HashSet::from([SessionStatus::Approved, SessionStatus::Declined]);
        assert!(!set.insert(handmade));
        assert!(set.insert(SessionStatus::Other("Escalated".into())));
    }
}
