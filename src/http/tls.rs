//! TLS: by which library, and whom it trusts.

#[cfg(any(feature = "rustls", feature = "native-tls"))]
pub(super) use with_tls::*;
#[cfg(not(any(feature = "rustls", feature = "native-tls")))]
pub(super) use without_tls::*;

#[cfg(any(feature = "rustls", feature = "native-tls"))]
mod with_tls {
    use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

    use super::super::Config;
    use crate::error::{Error, Result};

    pub(in super::super) const ENABLED: bool = true;

    pub(in super::super) fn configure(config: Config, pem: Option<&[u8]>) -> Result<Config> {
        let (provider, roots) = if cfg!(feature = "platform-verifier") {
            (TlsProvider::Rustls, RootCerts::PlatformVerifier)
        } else if cfg!(feature = "rustls") {
            (TlsProvider::Rustls, RootCerts::WebPki)
        } else {
            (TlsProvider::NativeTls, RootCerts::PlatformVerifier)
        };
        let roots = match pem {
            Some(pem) => certificates(pem)?.into(),
            None => roots,
        };
        Ok(config.tls_config(TlsConfig::builder().provider(provider).root_certs(roots).build()))
    }

    fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>> {
        let refuse = |problem: &str| Err(Error::config(problem).within("root_certificates (DIDIT_CA_FILE)"));
        let mut certificates = Vec::new();
        for item in parse_pem(pem) {
            match item {
                Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
                Ok(_) => {}
                Err(_) => return refuse("not PEM"),
            }
        }
        if certificates.is_empty() {
            return refuse("no certificate in it");
        }
        Ok(certificates)
    }
}

#[cfg(not(any(feature = "rustls", feature = "native-tls")))]
mod without_tls {
    use super::super::Config;
    use crate::error::{Error, Result};

    pub(in super::super) const ENABLED: bool = false;

    pub(in super::super) fn configure(config: Config, pem: Option<&[u8]>) -> Result<Config> {
        match pem {
            None => Ok(config),
            Some(_) => Err(
                Error::config("needs one of the features rustls, native-tls, platform-verifier")
                    .within("root_certificates (DIDIT_CA_FILE)"),
            ),
        }
    }
}
