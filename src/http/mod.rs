//! One request out, one bounded response in. Everything that knows ureq lives here.

mod dns;
mod failure;
mod proxy;
mod tls;
mod tunnel;
mod url;

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use ureq::http::header::CONTENT_LENGTH;
use ureq::http::{self, HeaderMap, HeaderName, HeaderValue};
use ureq::{Agent, AsSendBody, Body, Proxy, SendBody};

use self::dns::DnsCache;
use self::failure::{Context, Stage, stage_of};
use self::tunnel::TunnelConnector;
use crate::error::{Error, Result};
use crate::secret::Secret;

pub(crate) use failure::{Failure, Outcome};
pub(crate) use ureq::http::Method;
pub(crate) use url::{base_url, host};

/// The longest body that is read: 64 KiB, far more than any documented answer.
pub(crate) const MAX_BODY: u64 = 64 * 1024;
type Config = ureq::config::ConfigBuilder<ureq::typestate::AgentScope>;
const MAX_HEADERS: usize = 64 * 1024;
/// ureq's default is 128 KiB, and filling that with zeros is half of the work of a single update. It must hold one byte
/// more than the longest head of an answer, or ureq mistakes a longer head for a lost connection.
const INPUT_BUFFER: usize = MAX_HEADERS + 1;
/// Holds the longest head of a request: 8 KiB of base URL, 16 KiB of token, 1 KiB of user agent, and the rest.
const OUTPUT_BUFFER: usize = 32 * 1024;
const MAX_USER_AGENT: usize = 1024;
/// A year: ureq adds it to the time, which must not overflow.
const MAX_TIMEOUT: Duration = Duration::from_secs(31_536_000);
/// How long idle connections are kept; and after a lost one, how long none of them is used.
const MAX_IDLE_AGE: Duration = Duration::from_secs(15);

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

/// Sends requests to one host, or to several that are reached in the same way. Clones share the connections.
#[derive(Clone)]
pub(crate) struct Http {
    agent: Agent,
    proxy: Option<Proxy>,
    dns: DnsCache,
    timeout: Duration,
    connect_timeout: Duration,
    custom_roots: bool,
    start: Instant,
    /// Until when every request opens a connection of its own, in milliseconds after `start`.
    reconnect_until: Arc<AtomicU64>,
}

pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a str,
    pub(crate) headers: &'a [(&'static str, &'a str)],
    pub(crate) body: Option<&'a [u8]>,
    /// How much of a 200 is read; of any other answer it is [`MAX_BODY`].
    pub(crate) max_response: u64,
}

/// An answer: its status is certain, its body may be missing.
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: HeaderMap,
    pub(crate) body: Result<Vec<u8>, Failure>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// When the answer was sent, by the server's clock, which the other headers go by; without a `Date`, by ours.
    pub(crate) fn date(&self) -> SystemTime {
        let date = self
            .header("date")
            .and_then(|date| httpdate::parse_http_date(date).ok());
        date.unwrap_or_else(SystemTime::now)
    }
}

/// A request's body, which notes that it was read.
///
/// ureq reads it only once the name is resolved, the connection made and TLS agreed: until then the update cannot have
/// happened, whatever the error says.
struct RequestBody<'a> {
    rest: &'a [u8],
    was_read: bool,
}

impl Read for RequestBody<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.was_read = true;
        self.rest.read(buffer)
    }
}

impl Http {
    /// For one base URL: how its host is reached is settled here, once. The connections of `other` are shared if its
    /// host is reached in the same way.
    ///
    /// # Errors
    /// `Config` for a proxy, certificates or a user agent that cannot be used.
    pub(crate) fn new(settings: &Settings, base_url: &str, other: Option<&Http>) -> Result<Http> {
        let limit = |name, limit: Duration| match limit {
            Duration::ZERO => Err(Error::config("it must be longer than 0 s").within(name)),
            _ => Ok(limit.min(MAX_TIMEOUT)),
        };
        let timeout = limit("timeout", settings.timeout)?;
        let connect_timeout = limit("connect_timeout", settings.connect_timeout)?;
        let user_agent = &settings.user_agent;
        let is_printable = user_agent.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if !is_printable || user_agent.is_empty() || user_agent.len() > MAX_USER_AGENT {
            let problem = "only visible ASCII characters and spaces are allowed, at most 1 KiB";
            return Err(Error::config(problem).within("user_agent"));
        }
        let url = base_url.parse().map_err(|_| Error::config("not a URL"))?;
        let configured = settings.proxy.as_ref().map(Secret::expose);
        let proxy = proxy::choose(&url, configured, &proxy::environment)?;
        if let Some(same) = other.filter(|other| other.proxy == proxy) {
            return Ok(same.clone());
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // ureq would repeat a redirected PATCH as a GET and report that one's success.
            .max_redirects(0)
            .user_agent(user_agent)
            .proxy(proxy.clone())
            .timeout_global(Some(timeout))
            .timeout_resolve(Some(connect_timeout))
            .timeout_connect(Some(connect_limit(connect_timeout, timeout, proxy.is_some())))
            .input_buffer_size(INPUT_BUFFER)
            .output_buffer_size(OUTPUT_BUFFER)
            .max_response_header_size(MAX_HEADERS)
            // An idle connection was a busy one before, so there are never more than threads; ureq's own limit is 3.
            .max_idle_connections(usize::MAX)
            .max_idle_connections_per_host(usize::MAX)
            .max_idle_age(MAX_IDLE_AGE);
        let config = tls::configure(config, settings.root_certificates.as_deref())?.build();
        let dns = other.map_or_else(DnsCache::new, |other| other.dns.clone());
        Ok(Http {
            agent: Agent::with_parts(config, TunnelConnector::new(proxy.is_some()), dns.clone()),
            proxy,
            dns,
            timeout,
            connect_timeout,
            custom_roots: settings.root_certificates.is_some(),
            start: Instant::now(),
            reconnect_until: Arc::default(),
        })
    }

    /// The time that one request may take, connecting and reading included.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends one request and reads the answer, all within `timeout`.
    pub(crate) fn send(&self, request: &Request<'_>, timeout: Duration) -> Result<Response, Failure> {
        let start = Instant::now();
        let timeout = timeout.min(self.timeout);
        let mut outgoing = RequestBody {
            rest: request.body.unwrap_or_default(),
            was_read: false,
        };
        let result = match self.run(request, &mut outgoing, timeout, start) {
            Ok(response) => {
                let (head, body) = response.into_parts();
                let status = head.status.as_u16();
                // An error is read as JSON, which may take many times its size in memory.
                let limit = if status == 200 { request.max_response } else { MAX_BODY };
                let body = body.into_with_config().limit(limit).read_to_vec();
                Ok(Response {
                    status,
                    headers: head.headers,
                    body: body.map_err(|error| self.failure(request, &error, Stage::Reading, timeout)),
                })
            }
            Err(error) => {
                let stage = match request.body {
                    None => stage_of(&error),
                    Some(_) if outgoing.was_read => Stage::Waiting,
                    Some(_) => Stage::Connecting,
                };
                Err(self.failure(request, &error, stage, timeout))
            }
        };
        if log::log_enabled!(target: "didit", log::Level::Debug) {
            let end = match &result {
                Ok(response) => response.status.to_string(),
                Err(failure) => failure.problem.clone(),
            };
            let (method, path, millis) = (&request.method, path(request.url), start.elapsed().as_millis());
            log::debug!(target: "didit", "{method} {path}: {end}, {millis} ms");
        }
        result
    }

    fn failure(&self, request: &Request<'_>, error: &ureq::Error, stage: Stage, timeout: Duration) -> Failure {
        if stage != Stage::Connecting {
            let until = (self.start.elapsed() + MAX_IDLE_AGE).as_millis();
            self.reconnect_until
                .store(until.try_into().unwrap_or(u64::MAX), Relaxed);
        }
        let url = request.url.parse().ok();
        if let Some(connected_to) = self.proxy.as_ref().map(Proxy::uri).or(url.as_ref()) {
            self.dns.mark_stale(connected_to);
        }
        let proxy = self.proxy.as_ref();
        let proxy = proxy.map(|proxy| format!("{}:{}", proxy.host(), proxy.port()));
        let context = Context {
            host: host(request.url),
            proxy: proxy.as_deref(),
            timeout,
            connect_timeout: connect_limit(self.connect_timeout, timeout, proxy.is_some()),
            max_response: request.max_response,
            custom_roots: self.custom_roots,
        };
        Failure::new(error, stage, &context)
    }

    fn run(
        &self,
        request: &Request<'_>,
        outgoing: &mut RequestBody<'_>,
        timeout: Duration,
        now: Instant,
    ) -> Result<http::Response<Body>, ureq::Error> {
        let (mut head, ()) = http::Request::new(()).into_parts();
        head.method = request.method.clone();
        head.uri = request.url.parse().map_err(http::Error::from)?;
        for (name, value) in request.headers {
            let mut value = HeaderValue::from_str(value).map_err(http::Error::from)?;
            value.set_sensitive(true);
            head.headers.append(HeaderName::from_static(name), value);
        }
        let mut nothing = ();
        let mut body = nothing.as_body();
        if let Some(bytes) = request.body {
            // A reader has no length of its own; with this header it is not sent in chunks.
            head.headers.append(CONTENT_LENGTH, bytes.len().into());
            body = SendBody::from_reader(outgoing);
        }
        let message = http::Request::from_parts(head, body);
        let until = Duration::from_millis(self.reconnect_until.load(Relaxed));
        let reconnect = now.saturating_duration_since(self.start) < until;
        if timeout >= self.timeout && !reconnect {
            return self.agent.run(message);
        }
        let limit = connect_limit(self.connect_timeout, timeout, self.proxy.is_some());
        let mut config = self.agent.configure_request(message);
        config = config.timeout_global(Some(timeout)).timeout_connect(Some(limit));
        if reconnect {
            config = config.max_idle_age(Duration::ZERO);
        }
        self.agent.run(config.build())
    }
}

/// ureq gives the name of a proxy and the connection to it the whole of this, each; so that both fit into the request's
/// own limit, they get half of it.
fn connect_limit(connect_timeout: Duration, timeout: Duration, through_proxy: bool) -> Duration {
    match through_proxy {
        true => connect_timeout.min(timeout / 2),
        false => connect_timeout,
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
    fn a_log_line_has_the_path_alone() {
        assert_eq!(path("https://example.org:8443/v1/session/a/"), "/v1/session/a/");
        assert_eq!(path("http://localhost"), "/");
        assert_eq!(path("http://a/b"), "/b");
    }

    #[test]
    fn the_name_of_a_proxy_and_the_connection_to_it_fit_into_the_limit_of_the_request() {
        let seconds = Duration::from_secs;
        assert_eq!(connect_limit(seconds(10), seconds(4), true), seconds(2));
        assert_eq!(connect_limit(seconds(1), seconds(4), true), seconds(1));
        assert_eq!(connect_limit(seconds(10), seconds(4), false), seconds(10));
    }
}
