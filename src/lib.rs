//! Sets the status of a [Didit](https://didit.me) identity-verification session, and can always say what became of it.
//!
//! Blocking, no async runtime, few dependencies. Unofficial.
//!
//! Every call ends in one of three ways, and the caller can tell which:
//!
//! - `Ok`: Didit answered 200 and confirmed this very session id.
//! - `Err` with [`Verdict::NotApplied`]: the update certainly did not happen.
//! - `Err` with [`Verdict::Unknown`]: it may have happened; read the session back, or repeat the update, which is safe for
//!   Approved and Declined.
//!
//! Start at [`Client`]; [`Error`] tells what can go wrong. Log lines go to the `log` facade under the target `didit`.
//! They never hold a secret, but at `trace` the target `ureq_proto` of the HTTP library dumps the wire, secrets included:
//! leave it off.
//!
//! What the crate knows of Didit's API, and from where, stands in [`didit_api`]; `didit-api.md §4` is its fourth section.

#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod answer;
mod builder;
mod call;
mod client;
mod credentials;
mod env;
mod error;
mod http;
mod rate_limit;
mod retry;
mod secret;
mod session;
mod token;
mod verdict;

pub use builder::ClientBuilder;
pub use client::Client;
pub use credentials::Credentials;
pub use error::{Error, ErrorKind, Result, Verdict};
pub use rate_limit::RateLimit;
pub use retry::RetryPolicy;
pub use session::{
    ApiVersion, Ensured, NewStatus, Node, Session, SessionId, SessionStatus, StatusUpdate, UpdatedSession,
};

#[cfg(doc)]
#[doc = include_str!("../docs/didit-api.md")]
pub mod didit_api {}

/// The README's code, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
