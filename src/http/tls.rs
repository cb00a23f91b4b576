//! TLS: which library does it, which roots it trusts, and what its errors mean.

use std::io;
use std::time::Duration;

use super::Config;
use crate::error::{Error, Result, in_words, sanitize};

pub(super) const ENABLED: bool = cfg!(any(feature = "rustls", feature = "native-tls"));

const ROOTS: &str = "root_certificates (DIDIT_CA_FILE)";

#[cfg(not(any(feature = "rustls", feature = "native-tls")))]
pub(super) fn configure(config: Config, pem: Option<&[u8]>) -> Result<Config> {
    match pem {
        None => Ok(config),
        Some(_) => Err(Error::config("needs one of the features rustls, native-tls, platform-verifier").within(ROOTS)),
    }
}

#[cfg(any(feature = "rustls", feature = "native-tls"))]
pub(super) fn configure(config: Config, pem: Option<&[u8]>) -> Result<Config> {
    use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

    let (provider, roots) = if cfg!(feature = "platform-verifier") {
        (TlsProvider::Rustls, RootCerts::PlatformVerifier)
    } else if cfg!(feature = "rustls") {
        (TlsProvider::Rustls, RootCerts::WebPki)
    } else {
        (TlsProvider::NativeTls, RootCerts::PlatformVerifier)
    };
    let roots = match pem {
        Some(pem) => certificates(pem)
            .map_err(|problem| Error::config(problem).within(ROOTS))?
            .into(),
        None => roots,
    };
    Ok(config.tls_config(TlsConfig::builder().provider(provider).root_certs(roots).build()))
}

#[cfg(any(feature = "rustls", feature = "native-tls"))]
fn certificates(pem: &[u8]) -> Result<Vec<ureq::tls::Certificate<'static>>, &'static str> {
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(pem) {
        match item.map_err(|_| "not PEM")? {
            ureq::tls::PemItem::Certificate(certificate) if is_sequence(certificate.der()) => {
                certificates.push(certificate);
            }
            // ureq would drop it silently.
            ureq::tls::PemItem::Certificate(_) => return Err("one of its certificates is none, or is damaged"),
            _ => {}
        }
    }
    match certificates.is_empty() {
        true => Err("no certificate in it"),
        false => Ok(certificates),
    }
}

/// Whether these bytes are one whole SEQUENCE in DER, as every certificate is (X.690 §8.1, §10.1).
#[cfg(any(feature = "rustls", feature = "native-tls"))]
fn is_sequence(der: &[u8]) -> bool {
    let (length, rest) = match der {
        [0x30, short @ 0..=0x7f, rest @ ..] => (usize::from(*short), rest),
        [0x30, 0x81, a, rest @ ..] => (usize::from(*a), rest),
        [0x30, 0x82, a, b, rest @ ..] => (usize::from(u16::from_be_bytes([*a, *b])), rest),
        [0x30, 0x83, a, b, c, rest @ ..] => (u32::from_be_bytes([0, *a, *b, *c]) as usize, rest),
        _ => return false,
    };
    length == rest.len()
}

/// Why TLS was not agreed with `server`, and what to do about it, judging by an error from before anything was sent.
/// Another attempt would end the same way. `None` if the error is about something else, or the handshake was merely cut
/// off.
///
/// The types behind these errors are those of the TLS libraries, which are ureq's dependencies and not ours, so their
/// text is all there is to read.
pub(super) fn refusal(error: &ureq::Error, server: &str, custom_roots: bool) -> Option<(String, &'static str)> {
    let text = match error {
        ureq::Error::Tls(text) => (*text).to_owned(),
        #[cfg(feature = "rustls")]
        ureq::Error::Rustls(error) => error.to_string(),
        #[cfg(feature = "native-tls")]
        ureq::Error::NativeTls(error) => error.to_string(),
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => error.to_string(),
        _ => return None,
    };
    let (whose, problem, advice) = read(&text, custom_roots)?;
    Some((format!("{whose}{server} {problem}"), advice))
}

const CLOCK: &str = "check the clock of this machine, and the certificate";
const CERTIFICATE: &str = "the certificate of ";

/// What rustls 0.23 and OpenSSL say, and what that means. The first row that fits counts; the last one always does.
const MEANINGS: [(&str, &str, &str, &str); 8] = [
    (
        "certificate expired|Expired|has expired",
        CERTIFICATE,
        "has expired",
        CLOCK,
    ),
    (
        "not valid yet|NotValidYet|not yet valid",
        CERTIFICATE,
        "is not valid yet",
        CLOCK,
    ),
    (
        "not valid for|NotValidForName|ostname mismatch|IP address mismatch",
        CERTIFICATE,
        "is for another host",
        "check the host in the URL",
    ),
    (
        "UnknownIssuer|local issuer|issuer certificate|self-signed|self signed|first certificate",
        CERTIFICATE,
        "is signed by an authority that is not trusted here",
        "where a proxy inspects TLS, name its authority with root_certificates (DIDIT_CA_FILE)",
    ),
    ("evoked", CERTIFICATE, "has been revoked", ""),
    (
        "certificate|Certificate",
        CERTIFICATE,
        "cannot be used",
        "check the server's certificate",
    ),
    (
        "corrupt message|wrong version number|packet length too long|http request",
        "",
        "does not speak TLS there",
        "check the port, and https",
    ),
    (
        "",
        "",
        "could not agree on TLS: no version or cipher suits both sides",
        "check what the server, or a proxy before it, allows",
    ),
];

/// What the text says: whose fault, before the server's name; the problem, after it; and the advice.
fn read(text: &str, custom_roots: bool) -> Option<(&'static str, String, &'static str)> {
    let says = |any: &str| any.split('|').any(|words| text.contains(words));
    if says("unexpected EOF|unexpected eof|InternalError|internal error") {
        return None;
    }
    let (_, whose, problem, advice) = MEANINGS.into_iter().find(|(any, ..)| says(any))?;
    let advice = match advice.ends_with(ROOTS) && custom_roots {
        true => "check root_certificates (DIDIT_CA_FILE)",
        false => advice,
    };
    Some((whose, details(text).unwrap_or_else(|| problem.into()), advice))
}

/// What rustls alone adds: `(864000 seconds ago)`, or `is only valid for DnsName("a.test") or IpAddress(127.0.0.2)`.
fn details(text: &str) -> Option<String> {
    if let Some((_, names)) = text.split_once("is only valid for ") {
        let types = ["DnsName(", "IpAddress(", "\"", ")"];
        let names = types
            .iter()
            .fold(names.to_owned(), |names, part| names.replace(part, ""));
        return Some(format!("is for {}, and not for this host", sanitize(&names, 300, &[])));
    }
    let (front, end) = text.split_once(" seconds ")?;
    let time = in_words(Duration::from_secs(front.rsplit('(').next()?.parse().ok()?));
    Some(match end.starts_with("ago") {
        true => format!("expired {time} ago"),
        false => format!("is not valid before {time} from now"),
    })
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
            ("certificate expired (1 seconds ago)", true, "expired 1 s ago"),
            ("certificate expired (59 seconds ago)", true, "expired 59 s ago"),
            ("certificate expired (120 seconds ago)", true, "expired 2 min ago"),
            (
                "certificate expired (3599 seconds ago)",
                true,
                "expired 59 min 59 s ago",
            ),
            (
                "certificate expired (86399 seconds ago)",
                true,
                "expired 23 h 59 min ago",
            ),
            ("certificate expired (86400 seconds ago)", true, "expired 24 h ago"),
            ("invalid peer certificate: Expired", true, "has expired"),
            (
                "invalid peer certificate: certificate not valid yet: verification time 1 (UNIX), but certificate is \
                 not valid before 3601 (3600 seconds in future)",
                true,
                "is not valid before 1 h from now",
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
            let (whose, told, _) = read(text, false).unwrap();
            assert_eq!((whose == CERTIFICATE, &*told), (of_certificate, problem), "{text}");
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
        let (problem, _) = refusal(&ureq::Error::Tls("TLS is not enabled"), "a.test", false).unwrap();
        assert!(problem.starts_with("a.test could not agree on TLS"), "{problem}");
    }

    #[cfg(feature = "rustls")]
    #[test]
    fn what_rustls_refuses_before_a_handshake_is_a_refusal_too() {
        let error = ureq::Error::Rustls(rustls::Error::InvalidCertificate(rustls::CertificateError::Expired));
        let (problem, _) = refusal(&error, "a.test", false).unwrap();
        assert_eq!(problem, "the certificate of a.test has expired");
    }

    #[test]
    fn a_certificate_for_many_hosts_makes_no_endless_message() {
        let names: Vec<_> = (0..500)
            .map(|number| format!("DnsName(\"host-{number}.test\")"))
            .collect();
        let text = format!(
            "certificate not valid for name \"a\"; certificate is only valid for {}",
            names.join(", ")
        );
        let (_, told, _) = read(&text, false).unwrap();
        assert!(told.len() <= 400, "{}", told.len());
    }

    #[test]
    fn the_callers_certificates_are_suspected_first() {
        let advice = |custom_roots| read("invalid peer certificate: UnknownIssuer", custom_roots).unwrap().2;
        assert_eq!(advice(true), "check root_certificates (DIDIT_CA_FILE)");
        assert!(advice(false).contains("where a proxy inspects TLS"));
    }
}
