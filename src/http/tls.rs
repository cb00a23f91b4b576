//! TLS: which library does it, which roots it trusts, and what its errors mean.

#[cfg(any(feature = "rustls", feature = "native-tls"))]
pub(super) use with_tls::*;
#[cfg(not(any(feature = "rustls", feature = "native-tls")))]
pub(super) use without_tls::*;

/// Why TLS was not agreed, in plain words. Another attempt would end the same way.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) of_certificate: bool,
    /// Follows "the certificate of HOST ", or the host alone.
    pub(super) problem: String,
    pub(super) advice: &'static str,
}

#[cfg(any(feature = "rustls", feature = "native-tls"))]
mod with_tls {
    use std::io;

    use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

    use super::super::Config;
    use super::Refusal;
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
                Ok(PemItem::Certificate(certificate)) if is_sequence(certificate.der()) => {
                    certificates.push(certificate);
                }
                // ureq would drop it silently.
                Ok(PemItem::Certificate(_)) => return refuse("one of its certificates is none, or is damaged"),
                Ok(_) => {}
                Err(_) => return refuse("not PEM"),
            }
        }
        if certificates.is_empty() {
            return refuse("no certificate in it");
        }
        Ok(certificates)
    }

    /// Whether these bytes are one whole SEQUENCE in DER, as every certificate is (X.690 §8.1, §10.1).
    pub(in super::super) fn is_sequence(der: &[u8]) -> bool {
        let (length, rest) = match der {
            [0x30, short @ 0..=0x7f, rest @ ..] => (usize::from(*short), rest),
            [0x30, 0x81, a, rest @ ..] => (usize::from(*a), rest),
            [0x30, 0x82, a, b, rest @ ..] => (usize::from(u16::from_be_bytes([*a, *b])), rest),
            [0x30, 0x83, a, b, c, rest @ ..] => (u32::from_be_bytes([0, *a, *b, *c]) as usize, rest),
            _ => return false,
        };
        length == rest.len()
    }

    /// What TLS refused, judging by an error from before anything was sent; `None` if the error is about something else,
    /// or the handshake was merely cut off.
    ///
    /// The types behind these errors are those of the TLS libraries, which are ureq's dependencies and not ours, so
    /// their text is all there is to read.
    pub(in super::super) fn refusal(error: &ureq::Error, own_roots: bool) -> Option<Refusal> {
        let text = match error {
            ureq::Error::Tls(text) => (*text).to_owned(),
            #[cfg(feature = "rustls")]
            ureq::Error::Rustls(error) => error.to_string(),
            #[cfg(feature = "native-tls")]
            ureq::Error::NativeTls(error) => error.to_string(),
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => error.to_string(),
            _ => return None,
        };
        read(&text, own_roots)
    }

    /// Reads what rustls 0.23 and OpenSSL say. Anything else gets a general text.
    pub(in super::super) fn read(text: &str, own_roots: bool) -> Option<Refusal> {
        let says = |any: &[&str]| any.iter().any(|words| text.contains(words));
        if says(&["unexpected EOF", "unexpected eof", "InternalError", "internal error"]) {
            return None;
        }
        let clock = "check the clock of this machine, and the certificate";
        let (of_certificate, problem, advice) = if says(&["certificate expired", "Expired", "has expired"]) {
            let ago = match seconds(text) {
                Some(seconds) => format!("expired {} ago", duration(seconds)),
                None => "has expired".into(),
            };
            (true, ago, clock)
        } else if says(&["not valid yet", "NotValidYet", "not yet valid"]) {
            let ahead = match seconds(text) {
                Some(seconds) => format!("is not valid before {} from now", duration(seconds)),
                None => "is not valid yet".into(),
            };
            (true, ahead, clock)
        } else if says(&[
            "not valid for",
            "NotValidForName",
            "ostname mismatch",
            "IP address mismatch",
        ]) {
            let names = match text.split_once("is only valid for ") {
                Some((_, names)) => format!("is for {}, and not for this host", without_types(names)),
                None => "is for another host".into(),
            };
            (true, names, "check the host in the URL")
        } else if says(&[
            "UnknownIssuer",
            "local issuer",
            "issuer certificate",
            "self-signed",
            "self signed",
            "first certificate",
        ]) {
            let advice = match own_roots {
                true => "check root_certificates (DIDIT_CA_FILE)",
                false => "where a proxy inspects TLS, name its authority with root_certificates (DIDIT_CA_FILE)",
            };
            (
                true,
                "is signed by an authority that is not trusted here".into(),
                advice,
            )
        } else if says(&["evoked"]) {
            (true, "has been revoked".into(), "")
        } else if says(&["certificate", "Certificate"]) {
            (true, "cannot be used".into(), "check the server's certificate")
        } else if says(&[
            "corrupt message",
            "wrong version number",
            "packet length too long",
            "http request",
        ]) {
            (false, "does not speak TLS there".into(), "check the port, and https")
        } else {
            let problem = "could not agree on TLS: no version or cipher suits both sides";
            (
                false,
                problem.into(),
                "check what the server, or a proxy before it, allows",
            )
        };
        Some(Refusal {
            of_certificate,
            problem,
            advice,
        })
    }

    /// The number in "(864000 seconds ago)".
    fn seconds(text: &str) -> Option<u64> {
        let (front, _) = text.split_once(" seconds ")?;
        front.rsplit('(').next()?.parse().ok()
    }

    /// `DnsName("a.test") or IpAddress(127.0.0.2)` without the types.
    fn without_types(names: &str) -> String {
        ["DnsName(", "IpAddress(", "\"", ")"]
            .iter()
            .fold(names.to_owned(), |names, unwanted| names.replace(unwanted, ""))
    }

    /// A time in its largest unit.
    fn duration(seconds: u64) -> String {
        let (number, unit) = match seconds {
            0..60 => (seconds, "second"),
            60..3600 => (seconds / 60, "minute"),
            3600..86_400 => (seconds / 3600, "hour"),
            _ => (seconds / 86_400, "day"),
        };
        let plural = if number == 1 { "" } else { "s" };
        format!("{number} {unit}{plural}")
    }
}

#[cfg(not(any(feature = "rustls", feature = "native-tls")))]
mod without_tls {
    use super::super::Config;
    use super::Refusal;
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

    pub(in super::super) fn refusal(_: &ureq::Error, _: bool) -> Option<Refusal> {
        None
    }
}

#[cfg(all(test, any(feature = "rustls", feature = "native-tls")))]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_one_whole_sequence() {
        let with = |head: &[u8], length: usize| [head, &vec![0; length]].concat();
        for (head, length) in [
            (&[0x30, 0][..], 0),
            (&[0x30, 0x7f], 0x7f),
            (&[0x30, 0x81, 0x80], 0x80),
            (&[0x30, 0x82, 1, 2], 0x102),
            (&[0x30, 0x83, 1, 0, 2], 0x1_0002),
        ] {
            assert!(is_sequence(&with(head, length)), "{head:x?}");
            assert!(!is_sequence(&with(head, length + 1)), "{head:x?}");
            assert!(length == 0 || !is_sequence(&with(head, length - 1)), "{head:x?}");
        }
        for junk in [
            &b""[..],
            b"0",
            b"\x30",
            b"\x31\x00",
            b"\x30\x80",
            b"\x30\x82\x01",
            b"junk",
        ] {
            assert!(!is_sequence(junk), "{junk:x?}");
        }
    }

    #[test]
    fn what_the_tls_libraries_say_is_told_in_plain_words() {
        for (text, of_certificate, problem) in [
            // rustls
            (
                "invalid peer certificate: certificate expired: verification time 1795465547 (UNIX), but certificate is \
                 not valid after 1794601547 (864000 seconds ago)",
                true,
                "expired 10 days ago",
            ),
            ("certificate expired (1 seconds ago)", true, "expired 1 second ago"),
            ("certificate expired (59 seconds ago)", true, "expired 59 seconds ago"),
            ("certificate expired (120 seconds ago)", true, "expired 2 minutes ago"),
            ("certificate expired (3599 seconds ago)", true, "expired 59 minutes ago"),
            ("certificate expired (86399 seconds ago)", true, "expired 23 hours ago"),
            ("certificate expired (86400 seconds ago)", true, "expired 1 day ago"),
            ("invalid peer certificate: Expired", true, "has expired"),
            (
                "invalid peer certificate: certificate not valid yet: verification time 1 (UNIX), but certificate is \
                 not valid before 3601 (3600 seconds in future)",
                true,
                "is not valid before 1 hour from now",
            ),
            ("invalid peer certificate: NotValidYet", true, "is not valid yet"),
            (
                "invalid peer certificate: certificate not valid for name \"a.test\"; certificate is only valid for \
                 DnsName(\"b.test\") or IpAddress(127.0.0.2)",
                true,
                "is for b.test or 127.0.0.2, and not for this host",
            ),
            (
                "invalid peer certificate: certificate not valid for name \"a.test\"; certificate is not valid for any \
                 names (according to its subjectAltName extension)",
                true,
                "is for another host",
            ),
            ("invalid peer certificate: NotValidForName", true, "is for another host"),
            (
                "invalid peer certificate: UnknownIssuer",
                true,
                "is signed by an authority that is not trusted here",
            ),
            ("invalid peer certificate: Revoked", true, "has been revoked"),
            ("invalid peer certificate: BadEncoding", true, "cannot be used"),
            (
                "invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))",
                true,
                "cannot be used",
            ),
            (
                "received corrupt message of type InvalidContentType",
                false,
                "does not speak TLS there",
            ),
            (
                "received fatal alert: HandshakeFailure",
                false,
                "could not agree on TLS: no version or cipher suits both sides",
            ),
            (
                "peer is incompatible: ServerDoesNotSupportTls12Or13",
                false,
                "could not agree on TLS: no version or cipher suits both sides",
            ),
            // OpenSSL
            (
                "error:0A000086:SSL routines:tls_post_process_server_certificate:certificate verify failed:../ssl/\
                 statem/statem_clnt.c:1889: (certificate has expired)",
                true,
                "has expired",
            ),
            (
                "certificate verify failed: (certificate is not yet valid)",
                true,
                "is not valid yet",
            ),
            (
                "certificate verify failed: (hostname mismatch)",
                true,
                "is for another host",
            ),
            (
                "certificate verify failed: (IP address mismatch)",
                true,
                "is for another host",
            ),
            (
                "certificate verify failed: (unable to get local issuer certificate)",
                true,
                "is signed by an authority that is not trusted here",
            ),
            (
                "certificate verify failed: (self-signed certificate in certificate chain)",
                true,
                "is signed by an authority that is not trusted here",
            ),
            (
                "certificate verify failed: (certificate revoked)",
                true,
                "has been revoked",
            ),
            (
                "certificate verify failed: (CA signature digest algorithm too weak)",
                true,
                "cannot be used",
            ),
            (
                "error:0A00010B:SSL routines:ssl3_get_record:wrong version number:../ssl/record/ssl3_record.c:354:",
                false,
                "does not speak TLS there",
            ),
            (
                "error:0A00042E:SSL routines:ssl3_read_bytes:tlsv1 alert protocol version:SSL alert number 70",
                false,
                "could not agree on TLS: no version or cipher suits both sides",
            ),
        ] {
            let refusal = read(text, false).unwrap();
            assert_eq!(
                (refusal.of_certificate, &*refusal.problem),
                (of_certificate, problem),
                "{text}"
            );
        }
    }

    #[test]
    fn a_handshake_that_was_cut_off_or_failed_inside_the_server_refuses_nothing() {
        for text in [
            "unexpected EOF",
            "error:0A000126:SSL routines:ssl3_read_n:unexpected eof while reading",
            "received fatal alert: InternalError",
            "error:0A000438:SSL routines:ssl3_read_bytes:tlsv1 alert internal error",
        ] {
            assert_eq!(read(text, false), None, "{text}");
        }
    }

    #[test]
    fn what_ureq_refuses_itself_is_a_refusal_too() {
        let refusal = refusal(&ureq::Error::Tls("TLS is not enabled"), false).unwrap();
        assert!(!refusal.of_certificate);
    }

    #[cfg(feature = "rustls")]
    #[test]
    fn what_rustls_refuses_before_a_handshake_is_a_refusal_too() {
        let error = ureq::Error::Rustls(rustls::Error::InvalidCertificate(rustls::CertificateError::Expired));
        let refusal = refusal(&error, false).unwrap();
        assert_eq!(
            (refusal.of_certificate, refusal.problem.as_str()),
            (true, "has expired")
        );
    }

    #[test]
    fn the_callers_certificates_are_suspected_first() {
        let advice = |own_roots| {
            read("invalid peer certificate: UnknownIssuer", own_roots)
                .unwrap()
                .advice
        };
        assert_eq!(advice(true), "check root_certificates (DIDIT_CA_FILE)");
        assert!(advice(false).contains("where a proxy inspects TLS"));
    }
}
