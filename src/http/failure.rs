//! Why there is no complete response, in plain English.

use std::io::{self, ErrorKind as Io};
use std::time::Duration;

use ureq::{Error as E, Timeout};

use super::limits::MAX_HEADERS;
use super::tls;
use crate::error::ErrorKind::{self, Network, Timeout as TimedOut, UnexpectedResponse};
use crate::text::{in_words, sanitize, system_words};

/// Why there is no complete response.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) phase: Phase,
    /// Whether the same request may succeed later.
    pub(crate) may_succeed_later: bool,
    pub(crate) problem: String,
    pub(crate) advice: &'static str,
    /// Whether the URL may be wrong. The caller knows the name of its setting.
    pub(crate) check_url: bool,
}

/// How far a request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing of the request was sent.
    Connecting,
    /// Connected, but too little time was left to send the body. So the server did not get the whole request.
    TooLate,
    /// The server may have received the request.
    Sent,
    /// The server has responded.
    Receiving,
}

/// Why a tunnel cannot be used, as the text of an error.
pub(super) const TUNNEL_NOT_CLEAN: &str = "the proxy closed the tunnel, or sent data that no request had asked for";

/// The request that failed, as far as the text mentions it.
pub(super) struct FailedRequest<'a> {
    /// With its port, unless that is the default of the scheme.
    pub(super) host: &'a str,
    pub(super) proxy: Option<&'a str>,
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) max_response: u64,
    pub(super) custom_roots: bool,
    /// Whether a TLS handshake that failed was that with the proxy.
    pub(super) proxy_handshake_failed: bool,
}

impl Failure {
    pub(super) fn new(error: &E, phase: Phase, request: &FailedRequest<'_>) -> Failure {
        let host = request.host;
        let (route, server) = match request.proxy {
            None => (host.to_owned(), host.to_owned()),
            Some(proxy) => (
                format!("{host} through the proxy {proxy}"),
                format!("{host}, through the proxy {proxy},"),
            ),
        };
        // In TLS 1.3, the server may refuse the handshake after the request was sent.
        let is_connecting = phase == Phase::Connecting || matches!(error, E::Tls(tls::CERTIFICATE_REQUIRED));
        if let Some((problem, advice)) = request.refusal(error, &server).filter(|_| is_connecting) {
            return Failure {
                kind: Network,
                phase: Phase::Connecting,
                may_succeed_later: false,
                problem,
                advice,
                check_url: false,
            };
        }
        let kind = kind(error, phase);
        let problem = match phase {
            Phase::Connecting => format!("connecting to {route}: {}", request.connecting(error)),
            Phase::TooLate => {
                let timeout = in_words(request.timeout);
                format!("connecting to {route}: too little of the {timeout} was left to send the update")
            }
            Phase::Sent => request.waiting(error, &server),
            Phase::Receiving => request.reading(error, &server),
        };
        let is_absent = matches!(error, E::Io(error) if matches!(error.kind(), Io::ConnectionRefused | Io::Other));
        let may_succeed_later = kind != UnexpectedResponse;
        Failure {
            kind,
            phase,
            may_succeed_later,
            problem,
            advice: if may_succeed_later { "retry later" } else { "" },
            check_url: phase == Phase::Connecting
                && is_absent
                && request.proxy.is_none()
                && !host.ends_with(".didit.me"),
        }
    }
}

impl FailedRequest<'_> {
    /// Returns why connecting was refused, and the advice, if a retry would fail the same way.
    fn refusal(&self, error: &E, server: &str) -> Option<(String, &'static str)> {
        let proxy = self.proxy.unwrap_or_default();
        match proxy_status(error) {
            Some(status @ (401 | 407)) => Some((
                format!(
                    "the proxy {proxy} requires a user name and a password, or refused those given (it answered {status})"
                ),
                "check the user name and the password in the proxy's URL; only Basic authentication is supported",
            )),
            Some(403) => Some((
                format!("the proxy {proxy} refuses {} (it answered 403)", self.host),
                "ask the proxy's administrator",
            )),
            _ if self.proxy_handshake_failed => {
                tls::refusal(error, &format!("the proxy {proxy}"), true, self.custom_roots)
            }
            _ => tls::refusal(error, server, false, self.custom_roots),
        }
    }

    fn connecting(&self, error: &E) -> String {
        match error {
            E::Timeout(Timeout::Connect | Timeout::Resolve) => {
                format!("no connection within {}", in_words(self.connect_timeout))
            }
            E::Timeout(_) => format!("no connection within {}", in_words(self.timeout)),
            E::ConnectProxyFailed(text) if text == TUNNEL_NOT_CLEAN => text.clone(),
            E::ConnectProxyFailed(_) => match proxy_status(error) {
                Some(status) => format!("the proxy answered {status}"),
                None => "the proxy closed the connection".into(),
            },
            E::Protocol(_) => format!(
                "the proxy answered with {}; does it expect https:// in its URL?",
                not_http(error, 20)
            ),
            E::Io(error) if error.kind() != Io::InvalidData => match loss(error) {
                Some(loss) => format!("the connection was {loss}"),
                None => sanitize(&system_words(error), 300, &[]),
            },
            // For example, the TLS handshake was cut off.
            _ => "the connection was lost".into(),
        }
    }

    fn waiting(&self, error: &E, server: &str) -> String {
        match error {
            E::Timeout(_) => format!("{server} did not answer within {}", in_words(self.timeout)),
            E::Protocol(_) => format!("{server} answered with {}", not_http(error, 128)),
            E::LargeResponseHeader(..) => {
                let limit = size(MAX_HEADERS as u64);
                format!("{server} answered with headers larger than {limit}")
            }
            E::Io(error) => match loss(error) {
                Some(loss) => format!("{server} {loss} the connection before answering"),
                None => {
                    let reason = sanitize(&system_words(error), 300, &[]);
                    format!("reading the response from {server} failed: {reason}")
                }
            },
            _ => format!("{server} lost the connection before answering"),
        }
    }

    fn reading(&self, error: &E, server: &str) -> String {
        match error {
            E::Timeout(_) => format!("{server} did not finish its response within {}", in_words(self.timeout)),
            E::BodyExceedsLimit(_) => format!("{server} sent a response larger than {}", size(self.max_response)),
            _ => format!("{server} sent a response that was cut off"),
        }
    }
}

fn kind(error: &E, phase: Phase) -> ErrorKind {
    match error {
        _ if phase == Phase::TooLate => TimedOut,
        E::Timeout(_) => TimedOut,
        // The name was not resolved in time.
        E::Io(error) if phase == Phase::Connecting && error.kind() == Io::TimedOut => TimedOut,
        E::Protocol(_) | E::LargeResponseHeader(..) if phase == Phase::Sent => UnexpectedResponse,
        E::BodyExceedsLimit(_) => UnexpectedResponse,
        _ => Network,
    }
}

/// Returns "closed" or "reset" if the peer did that to the connection.
pub(super) fn loss(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        Io::UnexpectedEof | Io::BrokenPipe => Some("closed"),
        Io::ConnectionReset | Io::ConnectionAborted => Some("reset"),
        _ => None,
    }
}

/// Describes a head that ureq, which parses at most `max_headers`, could not parse.
// ureq does not export the type of this error, so this reads its text.
fn not_http(error: &E, max_headers: usize) -> String {
    match error.to_string() {
        text if text.contains("too many headers") => format!("more than {max_headers} headers"),
        text if text.contains("header") => "a header that is not valid HTTP".into(),
        _ => "something that is not HTTP".into(),
    }
}

/// Returns the status of a proxy's response to CONNECT: "proxy server responded 502/502".
fn proxy_status(error: &E) -> Option<u16> {
    match error {
        E::ConnectProxyFailed(text) => text.rsplit('/').next()?.parse().ok(),
        _ => None,
    }
}

/// Returns how far a request without a body got. Only its error tells.
pub(super) fn phase_of(error: &E) -> Phase {
    match error {
        E::Timeout(Timeout::Connect | Timeout::Resolve) => Phase::Connecting,
        E::Timeout(_) | E::Protocol(_) | E::LargeResponseHeader(..) => Phase::Sent,
        E::Io(error) if loss(error).is_some() => Phase::Sent,
        _ => Phase::Connecting,
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 0x10_0000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: FailedRequest<'_> = FailedRequest {
        host: "a.test:8443",
        proxy: None,
        timeout: Duration::from_millis(2500),
        connect_timeout: Duration::from_secs(2),
        max_response: 64 * 1024,
        custom_roots: false,
        proxy_handshake_failed: false,
    };

    fn io(kind: Io) -> ureq::Error {
        ureq::Error::Io(kind.into())
    }

    fn unresolved(kind: Io, why: &str) -> ureq::Error {
        ureq::Error::Io(io::Error::new(
            kind,
            format!("the name a.test could not be resolved{why}"),
        ))
    }

    fn failure(error: &ureq::Error, phase: Phase, proxy: Option<&str>) -> (ErrorKind, String, bool) {
        let failure = Failure::new(error, phase, &FailedRequest { proxy, ..REQUEST });
        assert_eq!(failure.phase, phase);
        assert_eq!(failure.advice == "retry later", failure.may_succeed_later);
        (failure.kind, failure.problem, failure.may_succeed_later)
    }

    #[test]
    fn a_tls_error_after_the_request_was_sent_is_not_a_refused_handshake() {
        for text in [
            "received fatal alert: HandshakeFailure",
            "received fatal alert: CertificateRequired",
            "received fatal alert: DecryptError",
            "invalid peer certificate: Expired",
            "cannot decrypt peer's message",
            "received corrupt message of type InvalidContentType",
        ] {
            let error = ureq::Error::Io(io::Error::new(Io::InvalidData, text));
            for phase in [Phase::Sent, Phase::Receiving] {
                let (kind, problem, retryable) = failure(&error, phase, None);
                assert_eq!((kind, retryable), (ErrorKind::Network, true), "{text}: {problem}");
            }
            let refused = Failure::new(&error, Phase::Connecting, &REQUEST);
            assert!(!refused.may_succeed_later, "{text}");
        }
        // ureq returns this only if the server sent nothing but the alert.
        let required = Failure::new(&ureq::Error::Tls(tls::CERTIFICATE_REQUIRED), Phase::Sent, &REQUEST);
        assert_eq!((required.phase, required.may_succeed_later), (Phase::Connecting, false));
    }

    #[test]
    fn the_url_may_be_wrong_if_there_is_no_such_host() {
        for (error, phase, host, proxy, check_url) in [
            (io(Io::ConnectionRefused), Phase::Connecting, "a.test:8443", None, true),
            (unresolved(Io::Other, ""), Phase::Connecting, "a.test:8443", None, true),
            (
                unresolved(Io::Other, ""),
                Phase::Connecting,
                "apx.didit.me",
                None,
                false,
            ),
            (
                unresolved(Io::TimedOut, " in time"),
                Phase::Connecting,
                "a.test",
                None,
                false,
            ),
            (
                io(Io::ConnectionRefused),
                Phase::Connecting,
                "a.test",
                Some("p:3128"),
                false,
            ),
            (io(Io::ConnectionReset), Phase::Connecting, "a.test", None, false),
            (io(Io::ConnectionRefused), Phase::Sent, "a.test", None, false),
        ] {
            let failure = Failure::new(&error, phase, &FailedRequest { host, proxy, ..REQUEST });
            assert_eq!(failure.check_url, check_url, "{error:?}");
            assert!(failure.may_succeed_later);
        }
    }

    #[test]
    fn a_failure_to_connect_is_described() {
        let proxy_said = |text: &str| ureq::Error::ConnectProxyFailed(text.into());
        for (error, kind, problem) in [
            (io(Io::ConnectionRefused), ErrorKind::Network, "connection refused"),
            (io(Io::UnexpectedEof), ErrorKind::Network, "the connection was closed"),
            (io(Io::ConnectionReset), ErrorKind::Network, "the connection was reset"),
            (
                ureq::Error::Io(io::Error::new(Io::InvalidData, "received fatal alert: InternalError")),
                ErrorKind::Network,
                "the connection was lost",
            ),
            (
                ureq::Error::Timeout(Timeout::Connect),
                ErrorKind::Timeout,
                "no connection within 2 s",
            ),
            (
                ureq::Error::Timeout(Timeout::Global),
                ErrorKind::Timeout,
                "no connection within 2.5 s",
            ),
            (
                unresolved(Io::TimedOut, " in time"),
                ErrorKind::Timeout,
                "the name a.test could not be resolved in time",
            ),
            (
                unresolved(Io::Other, ""),
                ErrorKind::Network,
                "the name a.test could not be resolved",
            ),
            (
                unresolved(Io::Other, ": the system could not start a thread"),
                ErrorKind::Network,
                "the name a.test could not be resolved: the system could not start a thread",
            ),
            (
                proxy_said("proxy server responded 502/502"),
                ErrorKind::Network,
                "the proxy answered 502",
            ),
            (
                proxy_said("proxy server did not respond"),
                ErrorKind::Network,
                "the proxy closed the connection",
            ),
        ] {
            let direct = format!("connecting to a.test:8443: {problem}");
            assert_eq!(failure(&error, Phase::Connecting, None), (kind, direct, true));
            let tunnelled = format!("connecting to a.test:8443 through the proxy p:3128: {problem}");
            assert_eq!(
                failure(&error, Phase::Connecting, Some("p:3128")),
                (kind, tunnelled, true)
            );
        }
        let credentials = "the proxy p:3128 requires a user name and a password, or refused those given";
        for (status, problem) in [
            (401, credentials),
            (403, "the proxy p:3128 refuses a.test:8443"),
            (407, credentials),
        ] {
            let error = proxy_said(&format!("proxy server responded {status}/{status}"));
            let problem = format!("{problem} (it answered {status})");
            let failure = failure(&error, Phase::Connecting, Some("p:3128"));
            assert_eq!(failure, (ErrorKind::Network, problem, false));
        }
    }

    #[test]
    fn an_update_that_was_not_sent_in_time_may_be_retried() {
        let failure = Failure::new(&io(Io::TimedOut), Phase::TooLate, &REQUEST);
        assert_eq!((failure.kind, failure.phase), (ErrorKind::Timeout, Phase::TooLate));
        assert!(failure.may_succeed_later);
        assert_eq!(
            failure.problem,
            "connecting to a.test:8443: too little of the 2.5 s was left to send the update"
        );
    }

    #[test]
    fn a_missing_or_incomplete_response_is_described() {
        for (error, phase, kind, problem) in [
            (
                ureq::Error::Timeout(Timeout::Global),
                Phase::Sent,
                ErrorKind::Timeout,
                "did not answer within 2.5 s",
            ),
            (
                io(Io::UnexpectedEof),
                Phase::Sent,
                ErrorKind::Network,
                "closed the connection before answering",
            ),
            (
                io(Io::BrokenPipe),
                Phase::Sent,
                ErrorKind::Network,
                "closed the connection before answering",
            ),
            (
                io(Io::ConnectionReset),
                Phase::Sent,
                ErrorKind::Network,
                "reset the connection before answering",
            ),
            (
                ureq::Error::LargeResponseHeader(2, 1),
                Phase::Sent,
                ErrorKind::UnexpectedResponse,
                "answered with headers larger than 64 KiB",
            ),
            (
                ureq::Error::Timeout(Timeout::Global),
                Phase::Receiving,
                ErrorKind::Timeout,
                "did not finish its response within 2.5 s",
            ),
            (
                ureq::Error::BodyExceedsLimit(1),
                Phase::Receiving,
                ErrorKind::UnexpectedResponse,
                "sent a response larger than 64 KiB",
            ),
            (
                io(Io::UnexpectedEof),
                Phase::Receiving,
                ErrorKind::Network,
                "sent a response that was cut off",
            ),
        ] {
            let retryable = kind != ErrorKind::UnexpectedResponse;
            let direct = format!("a.test:8443 {problem}");
            assert_eq!(failure(&error, phase, None), (kind, direct, retryable));
            let tunnelled = format!("a.test:8443, through the proxy p:3128, {problem}");
            assert_eq!(failure(&error, phase, Some("p:3128")), (kind, tunnelled, retryable));
        }
        let error = ureq::Error::Io(io::Error::other("Out of memory"));
        let (kind, problem, retryable) = failure(&error, Phase::Sent, None);
        assert_eq!((kind, retryable), (ErrorKind::Network, true));
        assert_eq!(problem, "reading the response from a.test:8443 failed: out of memory");
    }

    #[test]
    fn the_error_of_a_read_tells_how_far_it_got() {
        for (error, connecting) in [
            (io(Io::ConnectionRefused), true),
            (io(Io::HostUnreachable), true),
            (ureq::Error::Io(io::Error::from_raw_os_error(24)), true),
            (ureq::Error::Timeout(Timeout::Connect), true),
            (ureq::Error::Timeout(Timeout::Resolve), true),
            (unresolved(Io::TimedOut, " in time"), true),
            (ureq::Error::ConnectProxyFailed(String::new()), true),
            (io(Io::UnexpectedEof), false),
            (io(Io::ConnectionReset), false),
            (ureq::Error::Timeout(Timeout::Global), false),
            (ureq::Error::LargeResponseHeader(2, 1), false),
        ] {
            assert_eq!(phase_of(&error) == Phase::Connecting, connecting, "{error:?}");
        }
    }

    #[test]
    fn sizes_are_formatted_for_people() {
        assert_eq!(size(64 * 1024), "64 KiB");
        assert_eq!(size(4 * 1024 * 1024), "4 MiB");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn system_messages_are_shown_without_their_number() {
        for number in [111, 24] {
            let error = io::Error::from_raw_os_error(number);
            // The words are those of the C library.
            let words = error.to_string().replace(&format!(" (os error {number})"), "");
            let (_, problem, _) = failure(&ureq::Error::Io(error), Phase::Connecting, None);
            let expected = format!("connecting to a.test:8443: {words}");
            assert!(problem.eq_ignore_ascii_case(&expected), "{problem:?}, not {expected:?}");
            assert!(!problem.contains(&words[..1]), "{problem} should be in lower case");
        }
        let reset = ureq::Error::Io(io::Error::from_raw_os_error(104));
        let (_, problem, _) = failure(&reset, Phase::Connecting, None);
        assert_eq!(problem, "connecting to a.test:8443: the connection was reset");
    }
}
