//! Every public item is named here, so that one that disappears or changes its type fails to compile.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use didit::{
    ApiVersion, Client, ClientBuilder, Credentials, Ensured, Error, ErrorKind, NewStatus, Node, RateLimit, Result,
    RetryPolicy, Session, SessionId, SessionStatus, StatusUpdate, UpdatedSession, Verdict,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

#[test]
fn every_method_of_the_client_has_its_type() {
    let _: fn(Credentials) -> Result<Client> = Client::new;
    let _: fn() -> Result<Client> = Client::from_env;
    let _: fn(Credentials) -> ClientBuilder = Client::builder;
    let _: fn(&Client, &SessionId, &StatusUpdate) -> Result<UpdatedSession> = Client::update_status;
    let _: fn(&Client, &SessionId) -> Result<Session> = Client::session;
    let _: fn(&Client, &SessionId, &StatusUpdate) -> Result<Ensured> = Client::ensure_status;
    let _ = |client: &Client, id: &SessionId, update: &StatusUpdate| -> Result<Ensured> {
        client.ensure_status_if(id, update, |status: &SessionStatus| !status.is_decided())
    };
    let _: fn(&Client) -> Result<()> = Client::authenticate;
    let _: fn(&Client, &StatusUpdate) -> Result<()> = Client::check;
    let _: fn(&Client) -> Option<RateLimit> = Client::rate_limit;
    let _: fn(&Client, Duration) -> Client = Client::with_deadline;
    let _: fn(&Client) -> &str = Client::base_url;
    let _: fn(&Client) -> ApiVersion = Client::api_version;
    let _: fn(&Client) -> Option<&str> = Client::client_id;
    let _: fn(&Client) -> Duration = Client::timeout;
}

#[test]
fn every_option_of_the_builder_has_its_type() {
    type B = ClientBuilder;
    let _: fn() -> Result<B> = B::from_env;
    let _: fn(B, Credentials) -> B = B::credentials;
    let _: fn(B, ApiVersion) -> B = B::api_version;
    let _: [fn(B, &'static str) -> B; 4] = [B::base_url, B::auth_url, B::proxy, B::user_agent];
    let _: [fn(B, String) -> B; 4] = [B::base_url, B::auth_url, B::proxy, B::user_agent];
    let _: [fn(B, Duration) -> B; 3] = [B::timeout, B::connect_timeout, B::deadline];
    let _: fn(B, RetryPolicy) -> B = B::retry;
    let _: fn(B, &'static [u8]) -> B = B::root_certificates;
    let _: fn(B, &'static Path) -> B = B::token_file;
    let _: fn(B, bool) -> B = B::allow_insecure_http;
    let _: fn(B) -> Result<Client> = B::build;

    let _: fn(&'static str, &'static str) -> Credentials = Credentials::client;
    let _: fn(String) -> Credentials = Credentials::api_key;
    let _: fn() -> RetryPolicy = RetryPolicy::none;
    let _: fn(RetryPolicy, u32) -> RetryPolicy = RetryPolicy::max_retries;
    let _: [fn(RetryPolicy, Duration) -> RetryPolicy; 3] =
        [RetryPolicy::base_delay, RetryPolicy::max_delay, RetryPolicy::max_wait];
    let _ = RetryPolicy::default();
}

#[test]
fn every_method_of_an_update_and_a_session_has_its_type() {
    type U = StatusUpdate;
    let _: fn(NewStatus) -> U = U::new;
    let _: [fn() -> U; 2] = [U::approved, U::declined];
    let _: fn([Node; 1]) -> U = U::resubmitted;
    let _: [fn(U, &'static str) -> U; 3] = [U::comment, U::email, U::email_language];
    let _: fn(&U) -> NewStatus = U::new_status;
    let _: fn(&U) -> &[Node] = U::nodes;
    let _: [fn(&U) -> Option<&str>; 3] = [U::comment_text, U::email_address, U::email_language_code];
    let _: fn(&'static str, &'static str) -> Node = Node::new;
    let Node { node_id, feature, .. } = Node::new("a", "b");
    let _: (String, String) = (node_id, feature);

    let _: fn(&SessionId) -> &str = SessionId::as_str;
    let UpdatedSession {
        session_id,
        session_token,
        url,
        ..
    } = UpdatedSession::new("abc".parse().unwrap());
    let _: (SessionId, Option<String>, Option<String>) = (session_id, session_token, url);
    let Session { session_id, status, .. } = Session::new("abc".parse().unwrap(), SessionStatus::Approved);
    let _: (SessionId, SessionStatus) = (session_id, status);
    let _: fn(&SessionStatus) -> &str = SessionStatus::as_str;
    let _: fn(&SessionStatus) -> bool = SessionStatus::is_decided;
    let _: fn(NewStatus) -> &'static str = NewStatus::as_str;
    let _: fn(ApiVersion) -> &'static str = ApiVersion::as_str;
    let _ = |limit: RateLimit| -> (u64, u64, Option<SystemTime>, Option<Duration>) {
        (limit.limit, limit.remaining, limit.reset, limit.reset_after)
    };
}

#[test]
fn every_method_of_an_error_has_its_type() {
    let _: fn(ErrorKind, Verdict, &'static str) -> Error = Error::new;
    let _: fn(Error, u16) -> Error = Error::with_status;
    let _: [fn(Error, &'static str) -> Error; 2] = [Error::with_code, Error::with_message];
    let _: fn(Error, Duration) -> Error = Error::with_retry_after;
    let _: fn(Error, bool) -> Error = Error::with_retryable;
    let _: fn(&Error) -> ErrorKind = Error::kind;
    let _: fn(&Error) -> Verdict = Error::verdict;
    let _: fn(&Error) -> bool = Error::is_retryable;
    let _: fn(&Error) -> Option<u16> = Error::status;
    let _: [fn(&Error) -> Option<&str>; 4] = [Error::code, Error::message, Error::request_id, Error::advice];
    let _: fn(&Error) -> Option<Duration> = Error::retry_after;
    let _: fn(&Error) -> String = Error::summary;
    let _: [fn(Verdict) -> &'static str; 1] = [Verdict::as_str];
    let _: fn(ErrorKind) -> &'static str = ErrorKind::as_str;
}

#[test]
fn every_variant_has_its_name() {
    use ErrorKind::{
        Authentication, Config, Forbidden, InvalidInput, Network, NotFound, RateLimited, Rejected, Server, Timeout,
        UnexpectedResponse,
    };
    use SessionStatus::{
        Abandoned, Approved, AwaitingUser, Declined, Expired, InProgress, InReview, KycExpired, NotStarted, Other,
        Resubmitted,
    };
    let kinds = [
        Config,
        InvalidInput,
        Authentication,
        Forbidden,
        NotFound,
        Rejected,
        RateLimited,
        Server,
        Timeout,
        Network,
    ];
    assert!(!kinds.contains(&UnexpectedResponse));
    let statuses = [
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
    ];
    assert!(!statuses.contains(&Other("x".into())));
    let _ = [ApiVersion::V1, ApiVersion::V2, ApiVersion::V3];
    let _ = [NewStatus::Approved, NewStatus::Declined, NewStatus::Resubmitted];
    let _ = [
        Ensured::Already,
        Ensured::Updated,
        Ensured::LeftAlone(SessionStatus::Approved),
    ];
    // Complete by nature: there is no third verdict.
    match Verdict::NotApplied {
        Verdict::NotApplied | Verdict::Unknown => {}
    }
}

#[test]
fn every_type_has_its_traits() {
    fn shared<T: Clone + Debug + Send + Sync + 'static>() {}
    fn text<T: Display + FromStr + Debug>() {}
    fn key<T: Clone + Eq + Hash + Debug>() {}
    fn saved<T: Serialize + DeserializeOwned>() {}
    fn printed<T: Display + Serialize + Copy + Eq + Hash + Debug>() {}

    shared::<Client>();
    shared::<ClientBuilder>();
    shared::<Credentials>();
    shared::<Error>();
    shared::<RetryPolicy>();
    shared::<StatusUpdate>();
    shared::<UpdatedSession>();
    shared::<Session>();
    shared::<RateLimit>();
    shared::<Ensured>();
    text::<SessionId>();
    text::<NewStatus>();
    text::<ApiVersion>();
    text::<SessionStatus>();
    key::<SessionId>();
    key::<SessionStatus>();
    key::<NewStatus>();
    key::<ApiVersion>();
    saved::<SessionId>();
    saved::<SessionStatus>();
    saved::<NewStatus>();
    saved::<Node>();
    saved::<StatusUpdate>();
    printed::<Verdict>();
    printed::<ErrorKind>();
    printed::<ApiVersion>();

    let id: SessionId = "abc".try_into().unwrap();
    let same: SessionId = String::from("abc").try_into().unwrap();
    assert!(id <= same && id == *"abc" && id == "abc");
    let _: (&str, &str, String) = (id.as_ref(), id.borrow(), id.clone().into());
    let map = HashMap::from([(id, 7)]);
    assert_eq!(map.get("abc"), Some(&7));
    assert!(SessionStatus::from(NewStatus::Approved) == *"Approved");
    let _: Node = "a:b".parse().unwrap();
    let _: SessionStatus = String::from("Approved").into();
    let _: &dyn std::error::Error = &Error::new(ErrorKind::Config, Verdict::NotApplied, "x");
}
