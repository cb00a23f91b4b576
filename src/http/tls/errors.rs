//! What the errors of TLS libraries mean.

use std::io;
use std::time::Duration;

use crate::text::{in_words, sanitize};

/// Returns why the TLS handshake with `peer`, the server or its proxy, failed, and the advice. A retry would fail the same
/// way. Returns `None` if the error has another cause, or the handshake was cut off.
// The types of these errors belong to TLS libraries that only ureq depends on, so this reads their text.
pub(in crate::http) fn refusal(
    error: &ureq::Error,
    peer: &str,
    is_proxy: bool,
    custom_roots: bool,
) -> Option<(String, &'static str)> {
    let text = match error {
        ureq::Error::Tls(text) => (*text).to_owned(),
        #[cfg(any(feature = "rustls", feature = "rustls-no-provider"))]
        ureq::Error::Rustls(error) => error.to_string(),
        #[cfg(feature = "native-tls")]
        ureq::Error::NativeTls(error) => error.to_string(),
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => error.to_string(),
        _ => return None,
    };
    explain(&text, peer, is_proxy, custom_roots)
}

/// Texts of rustls 0.23, OpenSSL and Windows, their meaning, and the advice. The first matching row applies; the last one
/// always matches. Alerts come from the server, so an alert about a certificate means that of the client.
const MEANINGS: &[(&[&str], &str, &str)] = &[
    (
        &[
            "alert: Certificate",
            "alert: BadCertificate",
            "alert: UnknownCA",
            "alert: UnsupportedCertificate",
            "alert certificate",
            "alert bad certificate",
            "alert unknown ca",
            "alert unsupported certificate",
        ],
        "HOST wants a client certificate, which didit cannot send",
        "a gateway in between may be asking for it",
    ),
    (
        &["alert: UnrecognisedName", "unrecognized name"],
        "HOST does not serve this host name (TLS alert unrecognized_name)",
        "check the host in the URL",
    ),
    (
        &["alert: AccessDenied", "alert access denied"],
        "HOST denies access to this machine (TLS alert access_denied)",
        "ask its administrator, or that of a gateway in between",
    ),
    (
        &["alert: HandshakeFailure", "alert handshake failure"],
        "HOST refused the TLS handshake (TLS alert handshake_failure): no cipher suits both sides, or it wants a client \
         certificate, which didit cannot send",
        "check the TLS settings of the server, or of a gateway in between",
    ),
    (
        &["certificate expired", "Expired", "has expired", "-2146762495"],
        "the certificate of HOST has expired",
        "check this machine's clock and the certificate",
    ),
    (
        &["not valid yet", "NotValidYet", "not yet valid"],
        "the certificate of HOST is not valid yet",
        "check this machine's clock and the certificate",
    ),
    (
        &["not valid for any names"],
        "the certificate of HOST names no host: it has no subjectAltName",
        "the server needs a certificate with its host name",
    ),
    (
        &[
            "not valid for",
            "NotValidForName",
            "ostname mismatch",
            "IP address mismatch",
            "-2146762481",
        ],
        "the certificate of HOST is for another host",
        "check the host in the URL",
    ),
    (
        &[
            "UnknownIssuer",
            "local issuer",
            "issuer certificate",
            "self-signed",
            "self signed",
            "first certificate",
            "-2146762487",
            "-2146762486",
        ],
        "the certificate of HOST is signed by an untrusted certificate authority, or the server does not send the whole \
         chain",
        UNTRUSTED,
    ),
    (
        &["evoked", "-2146762484"],
        "the certificate of HOST has been revoked",
        "",
    ),
    (
        &["CaUsedAsEndEntity"],
        "the certificate of HOST belongs to a certificate authority, not to a server",
        "the server needs its own certificate",
    ),
    (
        &["UnsupportedCertVersion"],
        "the certificate of HOST is outdated: it is not X.509 version 3",
        "the server needs a new one",
    ),
    (
        &["extended key usage", "InvalidPurpose", "certificate purpose"],
        "the certificate of HOST is not for servers (perhaps for clients)",
        "the server needs a server certificate",
    ),
    (
        &["certificate", "Certificate"],
        "the certificate of HOST cannot be used",
        "check the server's certificate",
    ),
    (
        &[
            "corrupt message",
            "wrong version number",
            "packet length too long",
            "http request",
        ],
        "HOST does not speak TLS on this port",
        NOT_TLS,
    ),
    (
        &[""],
        "the TLS handshake with HOST failed: no version or cipher suits both sides",
        "check the TLS settings of the server, or of a gateway in between",
    ),
];

/// The advice if a peer does not speak TLS.
const NOT_TLS: &str = "check the port and the scheme of the URL";
const NOT_TLS_PROXY: &str = "use http:// in the proxy's URL, or another port";

/// The advice if the authority is untrusted. With configured roots, these may be wrong.
const UNTRUSTED: &str = "if a proxy inspects TLS, trust its certificate authority with root_certificates (DIDIT_CA_FILE); \
                         otherwise the server must send its intermediate certificates";
const UNTRUSTED_BY_ROOTS: &str = "check root_certificates (DIDIT_CA_FILE), or whether the server sends its intermediate \
                                  certificates";

fn explain(text: &str, peer: &str, is_proxy: bool, custom_roots: bool) -> Option<(String, &'static str)> {
    let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
    if says(&["unexpected EOF", "unexpected eof", "InternalError", "internal error"]) {
        return None;
    }
    let (_, problem, advice) = MEANINGS.iter().find(|(words, ..)| says(words))?;
    let advice = match *advice {
        UNTRUSTED if custom_roots => UNTRUSTED_BY_ROOTS,
        NOT_TLS if is_proxy => NOT_TLS_PROXY,
        advice => advice,
    };
    let problem = match details(text) {
        Some(details) => format!("the certificate of {peer} {details}"),
        None => problem.replace("HOST", peer),
    };
    Some((problem, advice))
}

/// Returns details that only rustls reports: `(864000 seconds ago)`, or `is only valid for DnsName("a.test") or
/// IpAddress(127.0.0.2)`.
fn details(text: &str) -> Option<String> {
    if let Some((_, names)) = text.split_once("is only valid for ") {
        let types = ["DnsName(", "IpAddress(", "\"", ")"];
        let names = types
            .iter()
            .fold(names.to_owned(), |names, part| names.replace(part, ""));
        return Some(format!("is for {}, not for this host", sanitize(&names, 300, &[])));
    }
    let (front, end) = text.split_once(" seconds ")?;
    let time = in_words(Duration::from_secs(front.rsplit('(').next()?.parse().ok()?));
    Some(match end.starts_with("ago") {
        true => format!("expired {time} ago"),
        false => format!("is not valid before {time} from now"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNTRUSTED_AUTHORITY: &str =
        "is signed by an untrusted certificate authority, or the server does not send the whole chain";
    const CLIENT_CERTIFICATE: &str = "wants a client certificate, which didit cannot send";
    const HANDSHAKE_FAILURE: &str = "refused the TLS handshake (TLS alert handshake_failure): no cipher suits both \
                                     sides, or it wants a client certificate, which didit cannot send";

    #[test]
    fn the_errors_of_tls_libraries_are_explained() {
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
                "is for b.test or 127.0.0.2, not for this host",
            ),
            (
                "invalid peer certificate: certificate not valid for name \"a.test\"; certificate is not valid for any \
                 names (according to its subjectAltName extension)",
                true,
                "names no host: it has no subjectAltName",
            ),
            ("invalid peer certificate: NotValidForName", true, "is for another host"),
            ("invalid peer certificate: UnknownIssuer", true, UNTRUSTED_AUTHORITY),
            ("invalid peer certificate: Revoked", true, "has been revoked"),
            ("invalid peer certificate: BadEncoding", true, "cannot be used"),
            (
                "invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))",
                true,
                "belongs to a certificate authority, not to a server",
            ),
            (
                "invalid peer certificate: Other(OtherError(UnsupportedCertVersion))",
                true,
                "is outdated: it is not X.509 version 3",
            ),
            (
                "invalid peer certificate: certificate does not allow extended key usage for server authentication, \
                 allows client authentication",
                true,
                "is not for servers (perhaps for clients)",
            ),
            (
                "received corrupt message of type InvalidContentType",
                false,
                "does not speak TLS on this port",
            ),
            ("received fatal alert: CertificateRequired", false, CLIENT_CERTIFICATE),
            ("received fatal alert: BadCertificate", false, CLIENT_CERTIFICATE),
            ("received fatal alert: CertificateExpired", false, CLIENT_CERTIFICATE),
            (
                "received fatal alert: UnrecognisedName",
                false,
                "does not serve this host name (TLS alert unrecognized_name)",
            ),
            (
                "received fatal alert: AccessDenied",
                false,
                "denies access to this machine (TLS alert access_denied)",
            ),
            ("received fatal alert: HandshakeFailure", false, HANDSHAKE_FAILURE),
            (
                "received fatal alert: ProtocolVersion",
                false,
                "failed: no version or cipher suits both sides",
            ),
            (
                "peer is incompatible: ServerDoesNotSupportTls12Or13",
                false,
                "failed: no version or cipher suits both sides",
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
                UNTRUSTED_AUTHORITY,
            ),
            (
                "certificate verify failed: (self-signed certificate in certificate chain)",
                true,
                UNTRUSTED_AUTHORITY,
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
                "certificate verify failed: (unsuitable certificate purpose)",
                true,
                "is not for servers (perhaps for clients)",
            ),
            (
                "error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required:SSL alert number 116",
                false,
                CLIENT_CERTIFICATE,
            ),
            (
                "error:0A000412:SSL routines:ssl3_read_bytes:sslv3 alert bad certificate:SSL alert number 42",
                false,
                CLIENT_CERTIFICATE,
            ),
            (
                "error:0A000410:SSL routines:ssl3_read_bytes:sslv3 alert handshake failure:SSL alert number 40",
                false,
                HANDSHAKE_FAILURE,
            ),
            (
                "error:0A000458:SSL routines:ssl3_read_bytes:tlsv1 unrecognized name:SSL alert number 112",
                false,
                "does not serve this host name (TLS alert unrecognized_name)",
            ),
            (
                "error:0A000419:SSL routines:ssl3_read_bytes:tlsv1 alert access denied:SSL alert number 49",
                false,
                "denies access to this machine (TLS alert access_denied)",
            ),
            (
                "error:0A00010B:SSL routines:ssl3_get_record:wrong version number:../ssl/record/ssl3_record.c:354:",
                false,
                "does not speak TLS on this port",
            ),
            (
                "error:0A00042E:SSL routines:ssl3_read_bytes:tlsv1 alert protocol version:SSL alert number 70",
                false,
                "failed: no version or cipher suits both sides",
            ),
            // Windows
            (
                "Das Zertifikat ist abgelaufen. (os error -2146762495)",
                true,
                "has expired",
            ),
            (
                "A certificate chain processed, but terminated in a root certificate which is not trusted by the trust \
                 provider. (os error -2146762487)",
                true,
                UNTRUSTED_AUTHORITY,
            ),
            ("(os error -2146762486)", true, UNTRUSTED_AUTHORITY),
            (
                "The certificate's CN name does not match the passed value. (os error -2146762481)",
                true,
                "is for another host",
            ),
            ("(os error -2146762484)", true, "has been revoked"),
        ] {
            let (explained, _) = explain(text, "a.test", false, false).unwrap();
            let whose = match (of_certificate, problem.starts_with("failed")) {
                (true, _) => "the certificate of ",
                (false, true) => "the TLS handshake with ",
                (false, false) => "",
            };
            assert_eq!(explained, format!("{whose}a.test {problem}"), "{text}");
        }
    }

    #[test]
    fn a_handshake_that_was_cut_off_or_failed_inside_the_server_is_not_a_refusal() {
        for text in [
            "unexpected EOF",
            "error:0A000126:SSL routines:ssl3_read_n:unexpected eof while reading",
            "received fatal alert: InternalError",
            "error:0A000438:SSL routines:ssl3_read_bytes:tlsv1 alert internal error",
        ] {
            assert_eq!(explain(text, "a.test", false, false), None, "{text}");
        }
    }

    #[test]
    fn an_error_of_ureq_itself_is_a_refusal() {
        let (problem, _) = refusal(&ureq::Error::Tls("TLS is not enabled"), "a.test", false, false).unwrap();
        assert!(problem.starts_with("the TLS handshake with a.test failed"), "{problem}");
    }

    #[cfg(any(feature = "rustls", feature = "rustls-no-provider"))]
    #[test]
    fn an_error_of_rustls_before_the_handshake_is_a_refusal() {
        let error = ureq::Error::Rustls(rustls::Error::InvalidCertificate(rustls::CertificateError::Expired));
        let (problem, _) = refusal(&error, "a.test", false, false).unwrap();
        assert_eq!(problem, "the certificate of a.test has expired");
    }

    #[test]
    fn a_certificate_for_many_hosts_is_described_briefly() {
        let names: Vec<_> = (0..500)
            .map(|number| format!("DnsName(\"host-{number}.test\")"))
            .collect();
        let text = format!(
            "certificate not valid for name \"a\"; certificate is only valid for {}",
            names.join(", ")
        );
        let (problem, _) = explain(&text, "a.test", false, false).unwrap();
        assert!(problem.len() <= 400, "{}", problem.len());
    }

    #[test]
    fn the_advice_about_an_untrusted_authority_names_the_configured_roots() {
        let advice = |custom_roots| {
            let text = "invalid peer certificate: UnknownIssuer";
            explain(text, "a.test", false, custom_roots).unwrap().1
        };
        assert!(advice(true).starts_with("check root_certificates (DIDIT_CA_FILE)"));
        assert!(advice(false).starts_with("if a proxy inspects TLS"));
        for custom_roots in [false, true] {
            assert!(advice(custom_roots).contains("intermediate certificates"));
        }
    }

    #[test]
    fn a_proxy_that_does_not_speak_tls_is_named() {
        for text in [
            "received corrupt message of type InvalidContentType",
            "error:0A00010B:SSL routines:ssl3_get_record:wrong version number",
        ] {
            let (problem, advice) = explain(text, "the proxy p:3128", true, false).unwrap();
            assert_eq!(problem, "the proxy p:3128 does not speak TLS on this port");
            assert!(advice.starts_with("use http:// in the proxy's URL"));
            let (_, advice) = explain(text, "a.test", false, false).unwrap();
            assert_eq!(advice, "check the port and the scheme of the URL");
        }
    }
}
