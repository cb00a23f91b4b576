//! Sets the status of a [Didit](https://didit.me) identity-verification session, and can always say what became of it.
//!
//! Blocking, no async runtime, few dependencies. Unofficial, and no full SDK: no webhooks, no new sessions, no reports.
//! The crate `didit-cli` has a command, `didit`, which does the same from a shell and for whole files of sessions.
//!
//! ```no_run
//! use didit::{Client, Credentials, StatusUpdate};
//!
//! fn decline(session: &str) -> didit::Result<()> {
//!     let client = Client::new(Credentials::api_key("my-api-key"))?;
//!     let update = StatusUpdate::declined().comment("Duplicated user");
//!     client.update_status(&session.parse()?, &update)?;
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
//! Start at [`Client`]. [`Credentials`] are an API key, or a client id and a client secret. [`Client::from_env`] takes
//! them and the rest of the configuration from [environment variables](ClientBuilder::from_env); [`ClientBuilder`] sets
//! it in code.
//!
//! # Verdicts
//!
//! Every call ends in one of three ways:
//!
//! - `Ok`: Didit answered 200 and confirmed this very session id.
//! - `Err` with [`Verdict::NotApplied`]: the update certainly did not happen.
//! - `Err` with [`Verdict::Unknown`]: it may have happened. Read the session back, or repeat the update, which is safe
//!   for Approved and Declined ([Didit's API, §4](crate::didit_api#4-update-v2-and-v3)). [`Client::ensure_status`] does
//!   both.
//!
//! So handle an error by its verdict first. [`ErrorKind`] only says what failed last.
//!
//! ```
//! use didit::{Client, SessionId, StatusUpdate, Verdict};
//!
//! fn approve(client: &Client, session: &SessionId) -> didit::Result<()> {
//!     match client.update_status(session, &StatusUpdate::approved()) {
//!         Ok(_) => Ok(()),
//!         // It may have been applied: look, and approve the session if it was not. If the look fails as well, the first
//!         // error still holds.
//!         Err(error) if error.verdict() == Verdict::Unknown => {
//!             let ensured = client.ensure_status(session, &StatusUpdate::approved());
//!             ensured.map(drop).map_err(|_| error)
//!         }
//!         // Nothing was changed. The error says why, and whether trying again can help.
//!         Err(error) => Err(error),
//!     }
//! }
//! ```
//!
//! | what happened | kind | verdict | tried again |
//! | --- | --- | --- | --- |
//! | bad input or configuration | `Config`, `InvalidInput` | `NotApplied` | no |
//! | no token could be had | `Authentication`; or `Network`, `Timeout`, `Server`, `RateLimited` | `NotApplied` | network, 408, 425, 429, 5xx but 501 and 505 |
//! | name not resolved, connection refused or timed out, TLS handshake cut off | `Network`, `Timeout` | `NotApplied` | yes |
//! | TLS not agreed: certificate refused, no common version; the proxy answered 401, 403 or 407 | `Network` | `NotApplied` | no |
//! | connecting left too little time to send the update | `Timeout` | `NotApplied` | yes |
//! | sent in part or whole, then reset, closed or timed out; a 200 that breaks off | `Network`, `Timeout` | `Unknown` | Approved, Declined |
//! | 401 | `Authentication` | `NotApplied` | a token's: once, with a new one |
//! | 403, 404, other 4xx | `Forbidden`, `NotFound`, `Rejected` | `NotApplied` | no (425: yes) |
//! | 429 | `RateLimited` | `NotApplied` | after `Retry-After`, else `X-RateLimit-Reset`, else back-off |
//! | 408, 499, 5xx | `Server` | `Unknown` | Approved, Declined: 408, 5xx but 501 and 505 |
//! | 301, 307, 308 | `UnexpectedResponse` | `NotApplied` | no: redirects are never followed |
//! | other 3xx, 1xx as a final answer, other 2xx, no HTTP; a 200 that is not JSON, names another session or status, or is too large | `UnexpectedResponse` | `Unknown` | no |
//!
//! Once an attempt of a call ended `Unknown`, the call does, whatever the attempts after it said.
//!
//! # How long a call may take
//!
//! A call blocks its thread. By default it makes up to 3 attempts of 30 s each, and waits up to 60 s between two of them,
//! where the server asks for that: 3.5 minutes at worst with an API key. With client credentials, fetching the token may
//! take 3.5 minutes as well, and a token that is refused is replaced once: 11 minutes at worst. [`Client::ensure_status`]
//! also reads the session, which adds to this.
//!
//! Where somebody waits for the answer, such as in a web handler, set a [deadline](ClientBuilder::deadline) for the whole
//! call. [`RetryPolicy`] and [`timeout`](ClientBuilder::timeout) change the parts.
//!
//! In an async program, make the call on a thread that may block. With tokio:
//!
//! ```text
//! let client = client.clone();
//! let update = move || client.update_status(&session, &StatusUpdate::approved());
//! let updated = tokio::task::spawn_blocking(update).await??;
//! ```
//!
//! If the future is dropped, the call goes on all the same, and its result is lost: note before it that it is made.
//!
//! # Features
//!
//! | feature | |
//! | --- | --- |
//! | `rustls` (default) | TLS by rustls with ring and bundled web roots; building it needs a C compiler |
//! | `rustls-no-provider` | rustls with the crypto provider that the program installed, and bundled web roots; use it with `default-features = false` where the program uses rustls with aws-lc-rs, its default: two providers in one program make `rustls::ClientConfig::builder()` panic |
//! | `native-tls` | the system's TLS and roots, for the smallest binary; use it with `default-features = false`. On Linux, building it needs `libssl-dev` and `pkg-config` |
//! | `platform-verifier` | rustls, trusting what the system trusts |
//!
//! With no TLS feature, or with `rustls-no-provider` and no provider installed, an `https` URL is refused when the client
//! is built. If several features are on, `rustls` wins over `rustls-no-provider`, and both over `native-tls`: with `rustls`,
//! ring is used unless the program installed another provider. Rust 1.85 or later; only a new minor version will need a newer one.
//!
//! # Environment
//!
//! [`Client::from_env`] reads `DIDIT_API_KEY`, or `DIDIT_CLIENT_ID` and `DIDIT_CLIENT_SECRET` (or a file that
//! `DIDIT_API_KEY_FILE` or `DIDIT_CLIENT_SECRET_FILE` names), and the optional
//! `DIDIT_API_VERSION`, `DIDIT_BASE_URL`, `DIDIT_AUTH_URL`, `DIDIT_TIMEOUT`, `DIDIT_DEADLINE`, `DIDIT_MAX_RETRIES`,
//! `DIDIT_TOKEN_FILE`, `DIDIT_CA_FILE`, `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`. What they mean stands at
//! [`ClientBuilder::from_env`]. Without it, only the proxy variables are read, and those only when no
//! [proxy](ClientBuilder::proxy) is set.
//!
//! # Logging
//!
//! Log lines go to the [`log`](https://docs.rs/log) facade under the target `didit`: an attempt at debug, a retry at
//! warn. A [token file](ClientBuilder::token_file) that cannot be written is logged once at warn, under
//! `didit::token_file`. They never hold a secret. But **at trace, the target `ureq_proto` of the HTTP library shows the
//! wire, secrets included: leave it off.**
//!
//! # Testing your own code
//!
//! Pass the [`Client`] in. In a test, [mockito](https://docs.rs/mockito) stands in for Didit. With an API key there is no
//! token to fetch, and [`RetryPolicy::none`] keeps the test from waiting. `assert` fails if the request went elsewhere:
//! mockito answers 501 to what it does not expect.
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
//! lost.assert();
//! # Ok::<(), didit::Error>(())
//! ```
//!
//! If your code takes a trait of your own in place of the client, a fake can return [`UpdatedSession::new`],
//! [`Session::new`] and [`Error::new`].
//!
//! # More
//!
//! - [The README](https://docs.rs/crate/didit/latest): the command, and what the crate costs
//! - [Examples](https://docs.rs/crate/didit/latest/source/examples/): a worker, a web handler, a job for cron, and tests
//! - [`didit_api`]: what the crate knows of Didit's API, and from where
//! - [Changelog](https://docs.rs/crate/didit/latest/source/CHANGELOG.md)

#![deny(missing_docs)]
#![forbid(unsafe_code)]

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
mod session_fields;
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
