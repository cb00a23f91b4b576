//! One request out, one bounded reply in. Everything that knows ureq lives here.

mod tls;
mod url;

use std::io::{self, Read};
use std::time::{Duration, Instant, SystemTime};

use ureq::http::{self, HeaderMap, HeaderValue};
use ureq::{AsSendBody, Body, Proxy, ProxyProtocol, SendBody};

use crate::error::{Error, ErrorKind, Result, sanitize};
use crate::secret::{Secret, is_visible_ascii};

pub(crate) use url::{base_url, host};

/// What a body may hold at most: 64 KiB, far more than any documented answer.
pub(crate) const MAX_BODY: u64 = 64 * 1024;
type Config = ureq::config::ConfigBuilder<ureq::typestate::AgentScope>;
const MAX_HEADERS: usize = 64 * 1024;
/// As good as for ever.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How to reach a server, as the caller configured it.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    /// It may hold a password.
    pub(crate) proxy: Option<Secret>,
    pub(crate) root_certificates: Option<Vec<u8>>,
    pub(crate) user_agent: String,
}

/// The connections, kept alive and shared by all threads.
pub(crate) struct Http {
    agent: ureq::Agent,
    timeout: Duration,
}

pub(crate) struct Request<'a> {
    pub(crate) method: &'static str,
    pub(crate) url: &'a str,
    pub(crate) headers: &'a [(&'static str, &'a str)],
    pub(crate) body: Option<&'a [u8]>,
    pub(crate) max_reply: u64,
}

/// An answer: its status is certain, its body may be missing.
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: HeaderMap,
    pub(crate) body: Result<Vec<u8>, Failure>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// What time it was by the server's clock, which set the moments in the other headers; else by ours.
    pub(crate) fn date(&self) -> SystemTime {
        let date = self
            .header("date")
            .and_then(|date| httpdate::parse_http_date(date).ok());
        date.unwrap_or_else(SystemTime::now)
    }
}

/// Why there is no answer, or none that is whole.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    /// Whether any of the request's body was handed to the connection. If not, the server cannot have acted on it.
    pub(crate) sent: bool,
    /// Whether the same request may do better later.
    pub(crate) retryable: bool,
    /// What to do about it.
    pub(crate) advice: &'static str,
    pub(crate) problem: String,
}

impl Failure {
    fn new(error: ureq::Error, sent: bool, how: &str) -> Failure {
        let kind = match &error {
            ureq::Error::Timeout(_) => ErrorKind::Timeout,
            // Before the request is sent these can only be a proxy's.
            ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) | ureq::Error::BodyExceedsLimit(_)
                if sent =>
            {
                ErrorKind::UnexpectedResponse
            }
            _ => ErrorKind::Network,
        };
        let problem = match &error {
            ureq::Error::Timeout(ureq::Timeout::Resolve) => "looking up the host took too long".into(),
            ureq::Error::Timeout(phase) if sent && *phase != ureq::Timeout::Connect => {
                "the answer took too long".into()
            }
            ureq::Error::Timeout(_) => "connecting took too long".into(),
            ureq::Error::Io(error) => error.to_string(),
            error => error.to_string(),
        };
        Failure {
            kind,
            sent,
            retryable: kind != ErrorKind::UnexpectedResponse,
            advice: "try again",
            problem: format!("{how}: {}", sanitize(&problem, 300, &[])),
        }
    }
}

impl Failure {
    /// An answer that breaks off in its body, or whose framing is broken.
    fn cut_short(error: ureq::Error) -> Failure {
        let failure = Failure::new(error, true, "the answer was cut short");
        match failure.kind {
            ErrorKind::Timeout => failure,
            _ => Failure {
                kind: ErrorKind::Network,
                retryable: true,
                ..failure
            },
        }
    }
}

/// Hands out the body and notes that it was asked for.
///
/// ureq asks only once the name is resolved, the connection made and TLS agreed: as long as it has not, the update
/// cannot have happened, whatever the error says.
struct Outgoing<'a> {
    rest: &'a [u8],
    asked: bool,
}

impl Read for Outgoing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.asked = true;
        self.rest.read(buffer)
    }
}

impl Http {
    /// # Errors
    /// `Config` for a proxy, certificates or a user agent that cannot be used.
    pub(crate) fn new(settings: &Settings) -> Result<Http> {
        let limit = |name, limit: Duration| match limit {
            Duration::ZERO => Err(Error::config("it has to be longer than nothing").within(name)),
            // ureq adds it to the time, which must not overflow.
            _ => Ok(limit.min(LONGEST)),
        };
        let timeout = limit("timeout", settings.timeout)?;
        let connect_timeout = limit("connect_timeout", settings.connect_timeout)?;
        if !is_visible_ascii(&settings.user_agent.replace(' ', "_")) {
            return Err(Error::config("only visible ASCII characters and spaces are allowed").within("user_agent"));
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // ureq would repeat a redirected PATCH as a GET and report that one's success.
            .max_redirects(0)
            .user_agent(&settings.user_agent)
            .timeout_global(Some(timeout))
            .timeout_resolve(Some(connect_timeout))
            .timeout_connect(Some(connect_timeout))
            .max_response_header_size(MAX_HEADERS)
            // An idle connection was a busy one before, so there are never more than threads; ureq's own limit is 3.
            .max_idle_connections(usize::MAX)
            .max_idle_connections_per_host(usize::MAX);
        let mut config = tls::configure(config, settings.root_certificates.as_deref())?;
        match settings.proxy.as_ref().map(Secret::expose) {
            None => {}
            Some("") => config = config.proxy(None),
            Some(url) => {
                // The value is not repeated: it may hold a password.
                let proxy = Proxy::new(url).map_err(|_| Error::config("not a proxy URL").within("proxy"))?;
                config = config.proxy(Some(proxy));
            }
        }
        let agent = config.build().new_agent();
        match agent.config().proxy().map(Proxy::protocol) {
            None | Some(ProxyProtocol::Http | ProxyProtocol::Https) => {}
            Some(other) => {
                return Err(Error::config(format!("{other} is not supported, use an http proxy")).within("proxy"));
            }
        }
        Ok(Http { agent, timeout })
    }

    /// The time that one request may take, connecting and reading included.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends one request and reads the answer, all within `timeout`.
    pub(crate) fn send(&self, request: &Request<'_>, timeout: Duration) -> Result<Reply, Failure> {
        let start = Instant::now();
        let mut outgoing = Outgoing {
            rest: request.body.unwrap_or_default(),
            asked: false,
        };
        let result = self.exchange(request, &mut outgoing, timeout);
        let (sent, how) = match request.body {
            None => (true, "the request failed"),
            Some(_) if outgoing.asked => (true, "the request was sent, then"),
            Some(_) => (false, "the request could not be sent"),
        };
        let result = result.map_err(|error| Failure::new(error, sent, how));
        log::debug!(
            target: "didit",
            "{} {}: {}, {} ms",
            request.method,
            path(request.url),
            match &result {
                Ok(reply) => reply.status.to_string(),
                Err(failure) => failure.problem.clone(),
            },
            start.elapsed().as_millis()
        );
        result
    }

    fn exchange(
        &self,
        request: &Request<'_>,
        outgoing: &mut Outgoing<'_>,
        timeout: Duration,
    ) -> Result<Reply, ureq::Error> {
        let mut message = http::Request::builder().method(request.method).uri(request.url);
        for (name, value) in request.headers {
            let mut value = HeaderValue::from_str(value).map_err(http::Error::from)?;
            value.set_sensitive(true);
            message = message.header(*name, value);
        }
        let response = match request.body {
            Some(bytes) => {
                // A reader has no length of its own; with this header it is not sent in chunks.
                let message = message.header("content-length", bytes.len());
                self.run(message.body(SendBody::from_reader(outgoing))?, timeout)
            }
            None => self.run(message.body(())?, timeout),
        };
        let (head, body) = response?.into_parts();
        let body = body.into_with_config().limit(request.max_reply).read_to_vec();
        Ok(Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.map_err(|error| match error {
                ureq::Error::BodyExceedsLimit(_) => Failure::new(error, true, "the answer is too large"),
                error => Failure::cut_short(error),
            }),
        })
    }

    fn run(
        &self,
        message: http::Request<impl AsSendBody>,
        timeout: Duration,
    ) -> Result<http::Response<Body>, ureq::Error> {
        if timeout >= self.timeout {
            return self.agent.run(message);
        }
        let config = self.agent.configure_request(message);
        self.agent.run(config.timeout_global(Some(timeout)).build())
    }
}

fn path(url: &str) -> &str {
    let host = url.find("://").map_or(0, |colon| colon + 3);
    url[host..].find('/').map_or("/", |slash| &url[host + slash..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_tells_the_path_alone() {
        assert_eq!(path("https://example.org:8443/v1/session/a/"), "/v1/session/a/");
        assert_eq!(path("http://localhost"), "/");
    }
}
