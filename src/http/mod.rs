//! Sends one request and reads one bounded response. Only this module uses ureq.

mod current;
mod dns;
mod failure;
mod limits;
mod proxy;
mod tcp;
mod tls;
mod url;

use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ureq::http::header::CONTENT_LENGTH;
use ureq::http::{self, HeaderMap, HeaderName, HeaderValue};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector};
use ureq::{Agent, AsSendBody, Body, Proxy, ProxyProtocol, SendBody};

use self::current::Current;
use self::dns::DnsCache;
use self::failure::{FailedRequest, phase_of};
use self::limits::{INPUT_BUFFER, MAX_HEADERS, OUTPUT_BUFFER};
use self::tcp::TcpConnector;
use crate::error::{Error, Result};
use crate::secret::Secret;

pub(crate) use failure::{Failure, Phase};
pub(crate) use limits::{MAX_BODY, MAX_TIMEOUT};
pub(crate) use ureq::http::Method;
pub(crate) use url::{base_url, host};

const MAX_USER_AGENT: usize = 1024;
/// How long idle connections are reused. Servers and firewalls drop them after 5 s or more.
const MAX_IDLE_AGE: Duration = Duration::from_secs(4);
/// After a connection was lost, or an update is in doubt, idle connections are not reused for this long. It is longer than
/// the back-off before a retry.
const RECONNECT_FOR: Duration = Duration::from_secs(15);

/// How to reach a host, as configured.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    /// May contain a password.
    pub(crate) proxy: Option<Secret>,
    pub(crate) root_certificates: Option<Vec<u8>>,
    pub(crate) user_agent: String,
}

/// Sends requests to the hosts that are reached through the same proxy, or directly. Clones share connections.
#[derive(Clone)]
pub(crate) struct Http {
    agent: Agent,
    dns: DnsCache,
    /// How long one request may take, from the DNS lookup to the end of the response.
    pub(crate) timeout: Duration,
    connect_timeout: Duration,
    custom_roots: bool,
    /// When a connection was last lost, or an update was last in doubt.
    lost_at: Arc<Mutex<Option<Instant>>>,
}

pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a str,
    pub(crate) headers: &'a [(&'static str, &'a str)],
    pub(crate) body: Option<&'a [u8]>,
    /// The largest body of a 200. For any other status, the limit is [`MAX_BODY`].
    pub(crate) max_response: u64,
}

pub(crate) struct Response {
    pub(crate) status: u16,
    headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// Why the body is incomplete, if it is.
    pub(crate) cut_off: Option<Failure>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the values of a header that may appear more than once.
    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
    }

    /// Returns the time of the response by the server's clock, which its other headers use, too. Without a `Date`, returns
    /// the local time.
    pub(crate) fn date(&self) -> SystemTime {
        let date = self
            .header("date")
            .and_then(|date| httpdate::parse_http_date(date).ok());
        date.unwrap_or_else(SystemTime::now)
    }
}

/// The body of a request, which records how far the request got, and fails if it is read too late.
///
/// ureq reads the body only after the DNS lookup, connecting and the TLS handshake. Until then, the update cannot have
/// happened.
struct RequestBody<'a> {
    rest: &'a [u8],
    send_by: Option<Instant>,
    phase: Phase,
}

impl Read for RequestBody<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.phase != Phase::Sent && self.send_by.is_some_and(|moment| Instant::now() > moment) {
            self.phase = Phase::TooLate;
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.phase = Phase::Sent;
        self.rest.read(buffer)
    }
}

impl Http {
    /// Chooses the proxy for the host of `base_url`. Shares the connections of `other` if that has the same proxy.
    ///
    /// # Errors
    /// `Config` for an invalid proxy, certificate, user agent or time limit.
    pub(crate) fn new(settings: &Settings, base_url: &str, other: Option<&Http>) -> Result<Http> {
        let limit = |name, limit: Duration| match limit {
            Duration::ZERO => Err(Error::config("must be longer than 0 s").for_setting(name)),
            _ => Ok(limit.min(MAX_TIMEOUT)),
        };
        let timeout = limit("timeout", settings.timeout)?;
        let connect_timeout = limit("connect_timeout", settings.connect_timeout)?;
        let user_agent = &settings.user_agent;
        let is_printable = user_agent.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if !is_printable || user_agent.is_empty() || user_agent.len() > MAX_USER_AGENT {
            let problem = "must be 1 to 1024 visible ASCII characters or spaces";
            return Err(Error::config(problem).for_setting("user_agent"));
        }
        let url = base_url.parse().map_err(|_| Error::config("not a URL"))?;
        let configured = settings.proxy.as_ref().map(Secret::expose);
        let proxy = proxy::choose(&url, configured, &proxy::environment)?;
        if let Some(same) = other.filter(|other| other.agent.config().proxy() == proxy.as_ref()) {
            return Ok(same.clone());
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // ureq would follow a redirected PATCH with a GET, and report the success of that.
            .max_redirects(0)
            .user_agent(user_agent)
            .proxy(proxy)
            .timeout_global(Some(timeout))
            .timeout_resolve(Some(connect_timeout))
            .timeout_connect(Some(connect_limit(connect_timeout, timeout)))
            .input_buffer_size(INPUT_BUFFER)
            .output_buffer_size(OUTPUT_BUFFER)
            .max_response_header_size(MAX_HEADERS)
            // There are never more idle connections than there were threads. ureq's default limit is 3.
            .max_idle_connections(usize::MAX)
            .max_idle_connections_per_host(usize::MAX)
            .max_idle_age(MAX_IDLE_AGE);
        let config = tls::configure(config, settings.root_certificates.as_deref())?.build();
        let dns = other.map_or_else(DnsCache::new, |other| other.dns.clone());
        Ok(Http {
            agent: Agent::with_parts(config, connector(dns.clone()), dns.clone()),
            dns,
            timeout,
            connect_timeout,
            custom_roots: settings.root_certificates.is_some(),
            lost_at: Arc::default(),
        })
    }

    /// Sends one request and reads the response within `timeout`. Does not send the body after `send_by`. Reuses no
    /// connection if `new_connection` is set.
    pub(crate) fn send(
        &self,
        request: &Request<'_>,
        timeout: Duration,
        send_by: Option<Instant>,
        new_connection: bool,
    ) -> Result<Response, Failure> {
        let start = Instant::now();
        let mut outgoing = RequestBody {
            rest: request.body.unwrap_or_default(),
            send_by,
            phase: Phase::Connecting,
        };
        let lost_at = *self.lost_at();
        let reconnect = new_connection || lost_at.is_some_and(|lost_at| start < lost_at + RECONNECT_FOR);
        Current::begin(timeout, connect_limit(self.connect_timeout, timeout), reconnect);
        let result = match self.run(request, &mut outgoing) {
            // This cannot confirm an update that the server has not read to its end.
            Ok(response) if Current::get().cut_off && response.status() == 200 => {
                let error = io::Error::other("it answered 200 before it had the whole request");
                Err(self.failure(request, &error.into(), Phase::Sent, timeout))
            }
            Ok(response) => {
                let (head, body) = response.into_parts();
                let status = head.status.as_u16();
                // Errors are parsed into a JSON value, which may take many times their size.
                let limit = if status == 200 { request.max_response } else { MAX_BODY };
                // Enough to read an ordinary response at once.
                let mut bytes = Vec::with_capacity(1024);
                let read = body.into_with_config().limit(limit).reader().read_to_end(&mut bytes);
                let failed = |error: io::Error| self.failure(request, &error.into(), Phase::Receiving, timeout);
                Ok(Response {
                    status,
                    headers: head.headers,
                    body: bytes,
                    cut_off: read.err().map(failed),
                })
            }
            Err(error) => {
                let phase = match request.body {
                    None => phase_of(&error),
                    Some(_) => outgoing.phase,
                };
                Err(self.failure(request, &error, phase, timeout))
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

    /// Makes the next requests use new connections.
    pub(crate) fn abandon_connections(&self) {
        *self.lost_at() = Some(Instant::now());
    }

    fn lost_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.lost_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self, request: &Request<'_>, error: &ureq::Error, phase: Phase, timeout: Duration) -> Failure {
        if matches!(phase, Phase::Sent | Phase::Receiving) {
            self.abandon_connections();
        }
        let (url, proxy) = (request.url.parse().ok(), self.agent.config().proxy());
        if let Some(connected_to) = proxy.map(Proxy::uri).or(url.as_ref()) {
            self.dns.failed(connected_to);
        }
        let is_tls_proxy = proxy.is_some_and(|proxy| proxy.protocol() == ProxyProtocol::Https);
        let proxy = proxy.map(|proxy| format!("{}:{}", proxy.host(), proxy.port()));
        let failed = FailedRequest {
            host: host(request.url),
            proxy: proxy.as_deref(),
            timeout,
            connect_timeout: connect_limit(self.connect_timeout, timeout),
            max_response: request.max_response,
            custom_roots: self.custom_roots,
            proxy_handshake_failed: is_tls_proxy && Current::get().tls_handshakes == 0,
        };
        Failure::new(error, phase, &failed)
    }

    fn run(&self, request: &Request<'_>, outgoing: &mut RequestBody<'_>) -> Result<http::Response<Body>, ureq::Error> {
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
            // Without this header, ureq would send the body of a reader in chunks.
            head.headers.append(CONTENT_LENGTH, bytes.len().into());
            body = SendBody::from_reader(outgoing);
        }
        self.agent.run(http::Request::from_parts(head, body))
    }
}

/// Returns what opens connections: directly or through a proxy's tunnel, and with TLS or without.
fn connector(dns: DnsCache) -> impl Connector {
    let connector = ().chain(ConnectProxyConnector::default()).chain(TcpConnector { dns }).chain(tls::TrackRecords);
    #[cfg(any(feature = "rustls", feature = "rustls-no-provider"))]
    let connector = connector.chain(ureq::unversioned::transport::RustlsConnector::default());
    #[cfg(all(feature = "native-tls", not(any(feature = "rustls", feature = "rustls-no-provider"))))]
    let connector = connector.chain(ureq::unversioned::transport::NativeTlsConnector::default());
    connector.chain(tls::WatchTls)
}

/// Returns how long connecting may take. A fifth of `timeout` remains for sending the request and reading the response.
fn connect_limit(connect_timeout: Duration, timeout: Duration) -> Duration {
    connect_timeout.min(timeout - timeout / 5)
}

fn path(url: &str) -> &str {
    let host = url.find("://").map_or(0, |colon| colon + 3);
    url[host..].find('/').map_or("/", |slash| &url[host + slash..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_has_only_the_path_of_the_url() {
        assert_eq!(path("https://example.org:8443/v1/session/a/"), "/v1/session/a/");
        assert_eq!(path("http://localhost"), "/");
        assert_eq!(path("http://a/b"), "/b");
    }

    #[test]
    fn connecting_leaves_a_fifth_of_the_timeout() {
        let seconds = Duration::from_secs;
        assert_eq!(connect_limit(seconds(10), seconds(5)), seconds(4));
        assert_eq!(connect_limit(seconds(1), seconds(5)), seconds(1));
    }

    #[test]
    fn ureq_reads_the_body_only_once_the_name_the_connection_and_tls_are_ready() {
        let settings = Settings {
            timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(10),
            proxy: None,
            root_certificates: None,
            user_agent: "test".into(),
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            // Each connection ends after its first bytes: the head of a request, or a TLS handshake.
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 8]);
            }
        });
        let closed = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        for (url, phase) in [
            ("http://no-such-host.invalid".to_owned(), Phase::Connecting),
            (format!("http://{closed}"), Phase::Connecting),
            #[cfg(any(feature = "rustls", feature = "native-tls"))]
            (format!("https://{address}"), Phase::Connecting),
            (format!("http://{address}"), Phase::Sent),
        ] {
            let request = Request {
                method: Method::PATCH,
                url: &url,
                headers: &[],
                body: Some(b"body"),
                max_response: MAX_BODY,
            };
            let http = Http::new(&settings, &url, None).unwrap();
            let failure = http.send(&request, settings.timeout, None, true).err().unwrap();
            assert_eq!(failure.phase, phase, "{url}: {}", failure.problem);
        }
    }

    #[test]
    fn a_body_is_not_sent_too_late() {
        let body = |send_by| RequestBody {
            rest: b"body",
            send_by,
            phase: Phase::Connecting,
        };
        let now = Instant::now();
        let mut late = body(Some(now - Duration::from_nanos(1)));
        assert!(late.read(&mut [0; 8]).is_err());
        assert_eq!(late.phase, Phase::TooLate);
        for send_by in [None, Some(now + Duration::from_secs(3600))] {
            let mut early = body(send_by);
            assert_eq!(early.read(&mut [0; 8]).unwrap(), 4);
            assert_eq!(early.phase, Phase::Sent);
        }
        // A body that was sent in part is sent to its end.
        let mut started = body(Some(now));
        started.phase = Phase::Sent;
        assert_eq!(started.read(&mut [0; 8]).unwrap(), 4);
    }
}
