//! TLS: whether it is available, and its configuration.

mod errors;
mod records;
#[cfg(any(feature = "rustls", feature = "rustls-no-provider", feature = "native-tls"))]
mod roots;
mod watch;

use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;

use crate::error::{Error, Result};

pub(super) use errors::refusal;
pub(super) use records::TrackRecords;
pub(super) use watch::{CERTIFICATE_REQUIRED, WatchTls};

const ROOTS: &str = "root_certificates (DIDIT_CA_FILE)";

/// Checks that `https` can be used, and returns what it needs otherwise.
pub(super) fn available() -> Result<(), &'static str> {
    #[cfg(all(feature = "rustls-no-provider", not(feature = "rustls")))]
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err("https needs a crypto provider for rustls: install one first, with \
                    rustls::crypto::aws_lc_rs::default_provider().install_default()");
    }
    match cfg!(any(
        feature = "rustls",
        feature = "rustls-no-provider",
        feature = "native-tls"
    )) {
        true => Ok(()),
        false => Err("https needs one of the features rustls, rustls-no-provider, native-tls, platform-verifier"),
    }
}

type Config = ConfigBuilder<AgentScope>;

/// Sets up TLS with these root certificates, or with the default ones.
///
/// # Errors
/// `Config` for certificates that cannot be read.
pub(super) fn configure(config: Config, pem: Option<&[u8]>) -> Result<Config> {
    #[cfg(any(feature = "rustls", feature = "rustls-no-provider", feature = "native-tls"))]
    let configured = roots::config(pem).map(|tls| config.tls_config(tls));
    #[cfg(not(any(feature = "rustls", feature = "rustls-no-provider", feature = "native-tls")))]
    let configured = pem.map_or(Ok(()), |_| available()).map(|()| config);
    configured.map_err(|problem| Error::config(problem).for_setting(ROOTS))
}
