//! Why there is no complete answer, in plain words.

use std::io::{self, ErrorKind as Io};
use std::time::Duration;

use ureq::Timeout;

use super::MAX_HEADERS;
use super::names::{Reason, Unresolved};
use super::tls;
use crate::error::{ErrorKind, sanitize, system_message};

/// Why there is no complete answer.
#[derive(Debug)]
pub(crate) struct Failure {
    /// For an answer that was cut short `Network`, for one that is too large `UnexpectedResponse`.
    pub(crate) kind: ErrorKind,
    /// False where the request has a body and none of it was handed to the connection: the server cannot have acted on
    /// it.
    pub(crate) sent: bool,
    /// Whether another attempt may end differently.
    pub(crate) retryable: bool,
    pub(crate) advice: &'static str,
    pub(crate) problem: String,
}

/// How far a request got.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Connecting,
    Waiting,
    Reading,
}

/// What the text of a failure says about the request.
pub(super) struct Context<'a> {
    /// With its port, where that is not the scheme's own.
    pub(super) host: &'a str,
    pub(super) proxy: Option<&'a str>,
    pub(super) timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) max_reply: u64,
    pub(super) own_roots: bool,
}

impl Failure {
    pub(super) fn new(error: &ureq::Error, stage: Stage, sent: bool, context: &Context<'_>) -> Failure {
        let refusal = match stage {
            Stage::Connecting => context.refusal(error),
            _ => None,
        };
        let (kind, retryable, problem, advice) = match refusal {
            Some((problem, advice)) => (ErrorKind::Network, false, problem, advice),
            None => match context.describe(error, stage) {
                (ErrorKind::UnexpectedResponse, problem) => (ErrorKind::UnexpectedResponse, false, problem, ""),
                (kind, problem) => (kind, true, problem, "try again"),
            },
        };
        Failure {
            kind,
            sent,
            retryable,
            advice,
            problem,
        }
    }
}

impl Context<'_> {
    /// Whoever answers, as the subject of a sentence.
    fn server(&self) -> String {
        match self.proxy {
            None => self.host.to_owned(),
            Some(proxy) => [self.host, ", through the proxy ", proxy, ","].concat(),
        }
    }

    fn connecting(&self, problem: &str, detail: &str) -> String {
        let (through, proxy) = self.proxy.map_or(("", ""), |proxy| (" through the proxy ", proxy));
        let detail = sanitize(detail, 300, &[]);
        ["connecting to ", self.host, through, proxy, ": ", problem, &detail].concat()
    }

    /// What another attempt would meet as well, and what to do about it.
    fn refusal(&self, error: &ureq::Error) -> Option<(String, &'static str)> {
        // "proxy server responded 407/407"
        if matches!(error, ureq::Error::ConnectProxyFailed(text) if text.ends_with("/407")) {
            let problem = "the proxy answered 407: it wants a user name and a password, or different ones";
            return Some((
                self.connecting(problem, ""),
                "check the proxy's URL, which carries them",
            ));
        }
        let refusal = tls::refusal(error, self.own_roots)?;
        let whose = if refusal.of_certificate {
            "the certificate of "
        } else {
            ""
        };
        let problem = [whose, &self.server(), " ", &refusal.problem].concat();
        Some((problem, refusal.advice))
    }

    /// What else happened.
    fn describe(&self, error: &ureq::Error, stage: Stage) -> (ErrorKind, String) {
        use ErrorKind::{Network, Timeout as TimedOut, UnexpectedResponse};
        use ureq::Error as E;

        let server = |problem: &str, detail: &str| {
            let detail = sanitize(detail, 300, &[]);
            [&self.server(), problem, &detail].concat()
        };
        let timeout = span(self.timeout);
        match (stage, error) {
            (Stage::Connecting, E::Other(other)) => {
                let kind = match other.downcast_ref::<Unresolved>() {
                    Some(unresolved) if matches!(unresolved.reason, Reason::TimedOut) => TimedOut,
                    _ => Network,
                };
                (kind, self.connecting("", &other.to_string()))
            }
            (Stage::Connecting, E::Timeout(Timeout::Connect | Timeout::Resolve)) => {
                let limit = span(self.connect_timeout.min(self.timeout));
                (TimedOut, self.connecting("no connection within ", &limit))
            }
            (Stage::Connecting, E::Timeout(_)) => (TimedOut, self.connecting("no connection within ", &timeout)),
            // "proxy server responded 502/502"
            (Stage::Connecting, E::ConnectProxyFailed(text)) => {
                let status = text.rsplit('/').next().unwrap_or_default();
                let problem = match status.bytes().all(|byte| byte.is_ascii_digit()) {
                    true => self.connecting("the proxy answered ", status),
                    false => self.connecting("the proxy closed the connection", ""),
                };
                (Network, problem)
            }
            (Stage::Connecting, E::Protocol(_)) => (
                Network,
                self.connecting("the proxy answered with something that is not HTTP", ""),
            ),
            (Stage::Connecting, E::Io(error)) if error.kind() != Io::InvalidData => {
                let problem = match Loss::of(error) {
                    Some(Loss::Closed) => self.connecting("the connection was closed", ""),
                    Some(Loss::Reset) => self.connecting("the connection was reset", ""),
                    None => self.connecting("", &system_message(error)),
                };
                (Network, problem)
            }
            // Such as a TLS handshake that was cut off.
            (Stage::Connecting, _) => (Network, self.connecting("the connection broke off", "")),

            (Stage::Waiting, E::Timeout(_)) => (TimedOut, server(" did not answer within ", &timeout)),
            (Stage::Waiting, E::Protocol(_)) => (
                UnexpectedResponse,
                server(" answered with something that is not HTTP", ""),
            ),
            (Stage::Waiting, E::LargeResponseHeader(..)) => {
                let limit = size(MAX_HEADERS as u64);
                (
                    UnexpectedResponse,
                    server(" answered with headers larger than ", &limit),
                )
            }
            (Stage::Waiting, E::Io(error)) => {
                let problem = match Loss::of(error) {
                    Some(Loss::Closed) => server(" closed the connection before answering", ""),
                    Some(Loss::Reset) => server(" reset the connection before answering", ""),
                    None => server(" could not be heard: ", &system_message(error)),
                };
                (Network, problem)
            }
            (Stage::Waiting, _) => {
                let problem = ["the connection to ", &self.server(), " broke before it answered"].concat();
                (Network, problem)
            }

            (Stage::Reading, E::Timeout(_)) => (TimedOut, server(" did not finish its answer within ", &timeout)),
            (Stage::Reading, E::BodyExceedsLimit(_)) => {
                let limit = size(self.max_reply);
                (UnexpectedResponse, server(" sent an answer larger than ", &limit))
            }
            (Stage::Reading, _) => (Network, server(" sent an answer that was cut short", "")),
        }
    }
}

/// How a connection ended that had been made.
enum Loss {
    Closed,
    Reset,
}

impl Loss {
    fn of(error: &io::Error) -> Option<Loss> {
        match error.kind() {
            Io::UnexpectedEof | Io::BrokenPipe => Some(Loss::Closed),
            Io::ConnectionReset | Io::ConnectionAborted => Some(Loss::Reset),
            _ => None,
        }
    }
}

/// How far a request without a body got, judging by its error alone.
pub(super) fn stage_of(error: &ureq::Error) -> Stage {
    match error {
        ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve) => Stage::Connecting,
        ureq::Error::Timeout(_) | ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => Stage::Waiting,
        ureq::Error::Io(error) if Loss::of(error).is_some() => Stage::Waiting,
        _ => Stage::Connecting,
    }
}

// Without floating point, whose formatting would add 15 KB to a small binary.
fn span(time: Duration) -> String {
    match time.as_millis() {
        millis if millis % 1000 == 0 => format!("{} s", millis / 1000),
        millis if millis < 1000 => format!("{millis} ms"),
        millis => {
            let tenths = (millis + 50) / 100;
            format!("{}.{} s", tenths / 10, tenths % 10)
        }
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

    const CONTEXT: Context<'_> = Context {
        host: "a.test:8443",
        proxy: None,
        timeout: Duration::from_millis(2500),
        connect_timeout: Duration::from_secs(2),
        max_reply: 64 * 1024,
        own_roots: false,
    };

    fn io(kind: Io) -> ureq::Error {
        ureq::Error::Io(kind.into())
    }

    fn unresolved(reason: Reason) -> ureq::Error {
        let name = "a.test".into();
        ureq::Error::Other(Box::new(Unresolved { name, reason }))
    }

    fn told(error: &ureq::Error, stage: Stage, proxy: Option<&str>) -> (ErrorKind, String, bool) {
        let failure = Failure::new(error, stage, stage != Stage::Connecting, &Context { proxy, ..CONTEXT });
        assert_eq!(failure.sent, stage != Stage::Connecting);
        assert_eq!(failure.advice == "try again", failure.retryable);
        (failure.kind, failure.problem, failure.retryable)
    }

    #[test]
    fn a_connection_that_was_not_made_is_told_in_plain_words() {
        let proxy_said = |text: &str| ureq::Error::ConnectProxyFailed(text.into());
        for (error, kind, problem) in [
            (io(Io::ConnectionRefused), ErrorKind::Network, "connection refused"),
            (io(Io::UnexpectedEof), ErrorKind::Network, "the connection was closed"),
            (io(Io::ConnectionReset), ErrorKind::Network, "the connection was reset"),
            (
                ureq::Error::Io(io::Error::new(Io::InvalidData, "received fatal alert: InternalError")),
                ErrorKind::Network,
                "the connection broke off",
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
                unresolved(Reason::TimedOut),
                ErrorKind::Timeout,
                "the name a.test could not be resolved in time",
            ),
            (
                unresolved(Reason::Failed(String::new())),
                ErrorKind::Network,
                "the name a.test could not be resolved",
            ),
            (
                unresolved(Reason::NoThread),
                ErrorKind::Network,
                "the name a.test could not be resolved: the system has no thread to spare",
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
            assert_eq!(told(&error, Stage::Connecting, None), (kind, direct, true));
            let tunnelled = format!("connecting to a.test:8443 through the proxy p:3128: {problem}");
            assert_eq!(told(&error, Stage::Connecting, Some("p:3128")), (kind, tunnelled, true));
        }
        let problem = "connecting to a.test:8443 through the proxy p:3128: the proxy answered 407: it wants a user name and a \
                       password, or different ones";
        assert_eq!(
            told(
                &proxy_said("proxy server responded 407/407"),
                Stage::Connecting,
                Some("p:3128")
            ),
            (ErrorKind::Network, problem.into(), false)
        );
    }

    #[test]
    fn an_answer_that_did_not_come_is_told_in_plain_words() {
        for (error, stage, kind, problem) in [
            (
                ureq::Error::Timeout(Timeout::Global),
                Stage::Waiting,
                ErrorKind::Timeout,
                "did not answer within 2.5 s",
            ),
            (
                io(Io::UnexpectedEof),
                Stage::Waiting,
                ErrorKind::Network,
                "closed the connection before answering",
            ),
            (
                io(Io::BrokenPipe),
                Stage::Waiting,
                ErrorKind::Network,
                "closed the connection before answering",
            ),
            (
                io(Io::ConnectionReset),
                Stage::Waiting,
                ErrorKind::Network,
                "reset the connection before answering",
            ),
            (
                ureq::Error::LargeResponseHeader(2, 1),
                Stage::Waiting,
                ErrorKind::UnexpectedResponse,
                "answered with headers larger than 64 KiB",
            ),
            (
                ureq::Error::Timeout(Timeout::Global),
                Stage::Reading,
                ErrorKind::Timeout,
                "did not finish its answer within 2.5 s",
            ),
            (
                ureq::Error::BodyExceedsLimit(1),
                Stage::Reading,
                ErrorKind::UnexpectedResponse,
                "sent an answer larger than 64 KiB",
            ),
            (
                io(Io::UnexpectedEof),
                Stage::Reading,
                ErrorKind::Network,
                "sent an answer that was cut short",
            ),
        ] {
            let retryable = kind != ErrorKind::UnexpectedResponse;
            let direct = format!("a.test:8443 {problem}");
            assert_eq!(told(&error, stage, None), (kind, direct, retryable));
            let tunnelled = format!("a.test:8443, through the proxy p:3128, {problem}");
            assert_eq!(told(&error, stage, Some("p:3128")), (kind, tunnelled, retryable));
        }
    }

    #[test]
    fn the_error_tells_how_far_a_question_came() {
        for (error, connecting) in [
            (io(Io::ConnectionRefused), true),
            (io(Io::HostUnreachable), true),
            (ureq::Error::Io(io::Error::from_raw_os_error(24)), true),
            (ureq::Error::Timeout(Timeout::Connect), true),
            (ureq::Error::Timeout(Timeout::Resolve), true),
            (unresolved(Reason::TimedOut), true),
            (ureq::Error::ConnectProxyFailed(String::new()), true),
            (io(Io::UnexpectedEof), false),
            (io(Io::ConnectionReset), false),
            (ureq::Error::Timeout(Timeout::Global), false),
            (ureq::Error::LargeResponseHeader(2, 1), false),
        ] {
            assert_eq!(stage_of(&error) == Stage::Connecting, connecting, "{error:?}");
        }
    }

    #[test]
    fn times_and_sizes_are_told_as_people_say_them() {
        for (millis, told) in [(30_000, "30 s"), (250, "250 ms"), (1500, "1.5 s"), (0, "0 s")] {
            assert_eq!(span(Duration::from_millis(millis)), told);
        }
        assert_eq!(size(64 * 1024), "64 KiB");
        assert_eq!(size(4 * 1024 * 1024), "4 MiB");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_the_system_says_is_told_without_a_number() {
        for (number, words) in [
            (111, "connection refused"),
            (24, "too many open files"),
            (104, "the connection was reset"),
        ] {
            let error = ureq::Error::Io(io::Error::from_raw_os_error(number));
            let (_, problem, _) = told(&error, Stage::Connecting, None);
            assert_eq!(problem, format!("connecting to a.test:8443: {words}"));
        }
    }
}
