//! A blocking client for approving, declining or resubmitting [Didit](https://didit.me) identity-verification sessions.
//! Every call tells you whether the decision took effect: applied, not applied, or unknown.
//!
//! There is no async runtime, and there are few dependencies. Unofficial: the crate reads and sets session statuses; it
//! does not create sessions or handle webhooks. The crate [`didit-cli`](https://crates.io/crates/didit-cli) has a command,
//! `didit`, that does the same from a shell and for whole files of sessions.
//!
//! ```no_run
//! use didit::{Client, StatusUpdate};
//!
//! fn decline(session: &str) -> didit::Result<()> {
//!     let client = Client::from_env()?;
//!     let update = StatusUpdate::declined().comment("Duplicated user");
//!     let updated = client.update_status(&session.parse()?, &update)?;
//!     println!("{} is declined", updated.session_id);
//!     Ok(())
//! }
//!
//! fn main() {
//!     if let Err(error) = decline("4c5c7f3a-3b52-4b26-9a44-6d2f3d6f3c10") {
//!         eprintln!("{error}");
//!         std::process::exit(1);
//!     }
//! }
//! ```
//!
//! Start at [`Client`]. [`Client::from_env`] reads the credentials and all other options from
//! [environment variables](ClientBuilder::from_env); [`Credentials`] and [`ClientBuilder`] set them in code.
//!
//! # Verdicts
//!
//! Every [`update_status`](Client::update_status) ends in one of three ways:
//!
//! - `Ok`: Didit answered 200 and confirmed this session, or the client read the wanted status after an attempt in doubt.
//! - `Err` with [`Verdict::NotApplied`]: the update certainly did not happen.
//! - `Err` with [`Verdict::Unknown`]: it may have happened, and the client could not find out.
//!
//! An update that was certainly not applied is as if it had never been sent. An update that may have been applied (in
//! doubt) is read before it is repeated: after a lost response, the client reads the session, and it never replaces a
//! decision that someone else may have made meanwhile. After `Unknown`, do the same: read the session, or call
//! [`Client::ensure_status_if`], which reads it first.
//!
//! So check the verdict of an error first. [`ErrorKind`] describes only the last attempt; an earlier one may have been
//! applied.
//!
//! ```
//! use didit::{Client, SessionId, StatusUpdate, Verdict};
//!
//! fn approve(client: &Client, session: &SessionId) -> didit::Result<()> {
//!     match client.update_status(session, &StatusUpdate::approved()) {
//!         Ok(_) => Ok(()),
//!         // Perhaps approved. Keep the session open in your records, and call `ensure_status_if`
//!         // later: it reads the session first, and does not replace someone else's decision.
//!         Err(error) if error.verdict() == Verdict::Unknown => Err(error),
//!         // Not approved. The error says why, and `is_retryable` whether to try again.
//!         Err(error) => Err(error),
//!     }
//! }
//! ```
//!
//! | what happened | `kind()` | `verdict()` | retried |
//! | --- | --- | --- | --- |
//! | bad input or configuration | `Config`, `InvalidInput` | `NotApplied` | no |
//! | could not get an access token | `Authentication`; or `Network`, `Timeout`, `Server`, `RateLimited` | `NotApplied` | yes, after no response, 408, 425, 429, and 5xx except 501 and 505 |
//! | name not resolved, connection refused or timed out, TLS handshake cut off, too little time left to send the update | `Network`, `Timeout` | `NotApplied` | yes |
//! | TLS handshake refused: certificate, version, client certificate required; the proxy answered 401, 403 or 407 | `Network` | `NotApplied` | no |
//! | the connection failed after sending began, or a 200 was cut off | `Network`, `Timeout` | `Unknown` | Approved and Declined: yes, after a read. Resubmitted: never |
//! | 401 | `Authentication` | `NotApplied` | with client credentials: once, with a new access token |
//! | 402 and 403, 404, other 4xx | `Forbidden`, `NotFound`, `Rejected` | `NotApplied` | no (425: yes) |
//! | 429 | `RateLimited` | `NotApplied` | after `Retry-After`, else `X-RateLimit-Reset`, else back-off |
//! | 408, 499, 5xx | `Server` | `Unknown` | Approved and Declined: yes, after a read, except after 499, 501 or 505. Resubmitted: never |
//! | 301, 307, 308 | `UnexpectedResponse` | `NotApplied` | no: redirects are never followed |
//! | any other 2xx or 3xx, or a response that is not HTTP; a 200 that is not JSON, names another session or status, reports an error, or is too large | `UnexpectedResponse` | `Unknown` | no |
//!
//! If any attempt may have been applied, and no read settled that, the call reports `Unknown`.
//!
//! # How long a call may take
//!
//! A call blocks its thread for 2 minutes at most. By default it makes up to 3 attempts and waits up to 60 s between them
//! if the server asks for that. Each request of an attempt, such as fetching an access token, reading the session and
//! sending the update, may take 30 s.
//!
//! Set another [deadline](ClientBuilder::deadline) when someone is waiting, such as in a web handler, or
//! [for one call](Client::with_deadline). [`RetryPolicy`] and [`timeout`](ClientBuilder::timeout) change the parts.
//!
//! In an async program, call the client on a thread that may block. With tokio:
//!
//! ```text
//! let client = client.clone();
//! let update = move || client.update_status(&session, &StatusUpdate::approved());
//! let updated = tokio::task::spawn_blocking(update).await??;
//! ```
//!
//! Dropping the future does not stop the call, but you lose its result. So record your intent before the call.
//!
//! # TLS
//!
//! - `rustls` (default): TLS by rustls with ring and bundled web roots. Building it needs a C compiler
//! - `platform-verifier`: rustls with the certificates that the system trusts
//! - `rustls-no-provider`: rustls with the crypto provider that your program installs. Use it if your program already uses
//!   aws-lc-rs: with two providers, `rustls::ClientConfig::builder()` panics. A new major version of rustls is a breaking
//!   change for this feature
//! - `native-tls`: the system's TLS and roots, for the smallest binary. On Linux, building it needs `libssl-dev` and
//!   `pkg-config`
//!
//! `rustls-no-provider` and `native-tls` need `default-features = false`. If several are enabled, the first of `rustls`,
//! `rustls-no-provider` and `native-tls` is used. Without any of them, building a client for an `https` URL fails.
//!
//! # Logging
//!
//! Log lines go to the [`log`](https://docs.rs/log) facade under the target `didit`: attempts at debug level, retries at
//! warn. They never contain a secret. But **at trace level, the target `ureq_proto` of the HTTP library logs everything
//! that is sent and received, secrets included: keep it off.**
//!
//! # Testing your own code
//!
//! Take the [`Client`] as an argument, so that a test can pass one that calls [mockito](https://docs.rs/mockito). An API
//! key needs no token, and [`RetryPolicy::none`] keeps the test from waiting.
//!
//! ```
//! use didit::{Client, Credentials, RetryPolicy, StatusUpdate, Verdict};
//!
//! let mut server = mockito::Server::new();
//! let builder = Client::builder(Credentials::api_key("any")).base_url(server.url());
//! let client = builder.retry(RetryPolicy::none()).build()?;
//!
//! let lost = server.mock("PATCH", "/v3/session/lost/update-status/").with_status(502).create();
//! let error = client.update_status(&"lost".parse()?, &StatusUpdate::approved()).unwrap_err();
//! assert_eq!(error.verdict(), Verdict::Unknown);
//! // Fails if the mock's path is wrong: mockito then answers 501, which is `Unknown` as well.
//! lost.assert();
//! # Ok::<(), didit::Error>(())
//! ```
//!
//! # More
//!
//! - [The README](https://docs.rs/crate/didit/latest): the command, and what the crate costs
//! - [Examples](https://docs.rs/crate/didit/latest/source/examples/): a worker, a web handler, a cron job, and tests
//! - [`didit_api`]: what is known about Didit's API, with sources
//! - [Changelog](https://docs.rs/crate/didit/latest/source/CHANGELOG.md)

#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod builder;
mod call;
mod client;
mod credentials;
mod deadline;
mod env;
mod error;
mod exchange;
mod http;
mod rate_limit;
mod response;
mod retry;
mod secret;
mod server_message;
mod session;
mod set_status;
/// Not part of the public API: the crate `didit-cli` uses it, which is released together with this one.
#[doc(hidden)]
pub mod text;
mod token;
mod update;
mod verdict;

pub use builder::ClientBuilder;
pub use client::Client;
pub use credentials::Credentials;
pub use error::{Error, ErrorKind, Result, Verdict};
pub use rate_limit::RateLimit;
pub use retry::RetryPolicy;
pub use session::{Ensured, Session, SessionId, SessionStatus, UpdatedSession};
pub use update::{ApiVersion, NewStatus, Node, StatusUpdate};

#[cfg(doc)]
#[doc = include_str!("../docs/didit-api.md")]
pub mod didit_api {}

/// The README's code, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
