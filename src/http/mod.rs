//! One request out, one bounded reply in. Everything that knows ureq lives here.

mod failure;
mod names;
mod proxy;
mod tls;
mod tunnel;
mod url;

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use ureq::http::{self, HeaderMap, HeaderValue, Uri};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, AsSendBody, Body, Proxy, SendBody};

use self::failure::{Context, Stage, stage_of};
use self::names::Names;
use self::proxy::Environment;
use self::tunnel::TunnelConnector;
use crate::error::{Error, Result};
use crate::secret::{Secret, is_visible_ascii};

pub(crate) use failure::Failure;
pub(crate) use url::{base_url, host};

/// What a body may hold at most: 64 KiB, far more than any documented answer.
pub(crate) const MAX_BODY: u64 = 64 * 1024;
type Config = ureq::config::ConfigBuilder<ureq::typestate::AgentScope>;
const MAX_HEADERS: usize = 64 * 1024;
/// Filling ureq's own buffers of 128 KiB with zeros is half of the work of a single update. What is read has to hold
/// one byte more than the longest head of an answer, or ureq takes a longer one for a lost connection.
const INPUT_BUFFER: usize = MAX_HEADERS + 1;
/// The longest head of a request fits: 8 KiB of base URL, 16 KiB of token, 1 KiB of user agent, and some more.
const OUTPUT_BUFFER: usize = 32 * 1024;
const MAX_USER_AGENT: usize = 1024;
/// As good as for ever.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// After a lost connection, how long every request opens one of its own. It is as long as ureq keeps idle ones.
const DISTRUST: Duration = Duration::from_secs(15);

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
    /// One for all hosts that are reached in the same way; the first is for those that were not named.
    routes: Vec<Route>,
    names: Names,
    timeout: Duration,
    connect_timeout: Duration,
    own_roots: bool,
    start: Instant,
    /// Until when kept connections are not used, in milliseconds after `start`.
    distrust_until: AtomicU64,
}

/// How some hosts are reached.
struct Route {
    /// `https://apx.didit.me/`
    origins: Vec<String>,
    agent: Agent,
    proxy: Option<Proxy>,
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
    /// For these base URLs: how each is reached is settled here, once.
    ///
    /// # Errors
    /// `Config` for a proxy, certificates or a user agent that cannot be used.
    pub(crate) fn new(settings: &Settings, base_urls: &[&str]) -> Result<Http> {
        Http::in_environment(settings, base_urls, &proxy::environment)
    }

    fn in_environment(settings: &Settings, base_urls: &[&str], environment: Environment<'_>) -> Result<Http> {
        let limit = |name, limit: Duration| match limit {
            Duration::ZERO => Err(Error::config("it must be longer than 0 s").within(name)),
            // ureq adds it to the time, which must not overflow.
            _ => Ok(limit.min(LONGEST)),
        };
        let timeout = limit("timeout", settings.timeout)?;
        let connect_timeout = limit("connect_timeout", settings.connect_timeout)?;
        let user_agent = &settings.user_agent;
        if !is_visible_ascii(&user_agent.replace(' ', "_")) || user_agent.len() > MAX_USER_AGENT {
            let problem = "only visible ASCII characters and spaces are allowed, at most 1 KiB";
            return Err(Error::config(problem).within("user_agent"));
        }
        let named = settings.proxy.as_ref().map(Secret::expose);
        let mut http = Http {
            routes: Vec::new(),
            names: Names::new(),
            timeout,
            connect_timeout,
            own_roots: settings.root_certificates.is_some(),
            start: Instant::now(),
            distrust_until: AtomicU64::new(0),
        };
        for url in base_urls {
            let uri: Uri = url.parse().map_err(|_| Error::config("not a URL"))?;
            let proxy = proxy::choose(&uri, named, environment)?;
            let origin = url.split_inclusive('/').take(3).collect::<String>();
            let origin = format!("{}/", origin.trim_end_matches('/'));
            match http.routes.iter_mut().find(|route| route.proxy == proxy) {
                Some(route) => route.origins.push(origin),
                None => {
                    let agent = http.agent(settings, proxy.clone())?;
                    http.routes.push(Route {
                        origins: vec![origin],
                        agent,
                        proxy,
                    });
                }
            }
        }
        Ok(http)
    }

    fn agent(&self, settings: &Settings, proxy: Option<Proxy>) -> Result<Agent> {
        let tunnel = proxy.is_some();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // ureq would repeat a redirected PATCH as a GET and report that one's success.
            .max_redirects(0)
            .user_agent(&settings.user_agent)
            .proxy(proxy)
            .timeout_global(Some(self.timeout))
            .timeout_resolve(Some(self.connect_timeout))
            .timeout_connect(Some(self.connect_limit(self.timeout, tunnel)))
            .input_buffer_size(INPUT_BUFFER)
            .output_buffer_size(OUTPUT_BUFFER)
            .max_response_header_size(MAX_HEADERS)
            // An idle connection was a busy one before, so there are never more than threads; ureq's own limit is 3.
            .max_idle_connections(usize::MAX)
            .max_idle_connections_per_host(usize::MAX)
            .max_idle_age(DISTRUST);
        let config = tls::configure(config, settings.root_certificates.as_deref())?.build();
        let names = self.names.clone();
        Ok(match tunnel {
            true => Agent::with_parts(config, TunnelConnector::default(), names),
            false => Agent::with_parts(config, DefaultConnector::default(), names),
        })
    }

    /// ureq gives the name of a proxy and the connection to it the whole of this, each; so that both fit into the
    /// request's own limit, they get half of it.
    fn connect_limit(&self, timeout: Duration, tunnel: bool) -> Duration {
        match tunnel {
            true => self.connect_timeout.min(timeout / 2),
            false => self.connect_timeout,
        }
    }

    fn route(&self, url: &str) -> &Route {
        let serves = |route: &&Route| route.origins.iter().any(|origin| url.starts_with(&**origin));
        self.routes[1..].iter().find(serves).unwrap_or(&self.routes[0])
    }

    /// The time that one request may take, connecting and reading included.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends one request and reads the answer, all within `timeout`.
    pub(crate) fn send(&self, request: &Request<'_>, timeout: Duration) -> Result<Reply, Failure> {
        let start = Instant::now();
        let route = self.route(request.url);
        let timeout = timeout.min(self.timeout);
        let mut outgoing = Outgoing {
            rest: request.body.unwrap_or_default(),
            asked: false,
        };
        let result = self.exchange(route, request, &mut outgoing, timeout, start);
        let failed = |error: &ureq::Error, stage| {
            let sent = request.body.is_none() || stage != Stage::Connecting;
            self.failure(route, request, error, stage, sent, timeout)
        };
        let result = match result {
            Ok((head, body)) => Ok(Reply {
                status: head.status.as_u16(),
                headers: head.headers,
                body: body.map_err(|error| failed(&error, Stage::Reading)),
            }),
            Err(error) => {
                let stage = match request.body {
                    None => stage_of(&error),
                    Some(_) if outgoing.asked => Stage::Waiting,
                    Some(_) => Stage::Connecting,
                };
                Err(failed(&error, stage))
            }
        };
        if log::log_enabled!(target: "didit", log::Level::Debug) {
            let end = match &result {
                Ok(reply) => reply.status.to_string(),
                Err(failure) => failure.problem.clone(),
            };
            let (method, path, millis) = (request.method, path(request.url), start.elapsed().as_millis());
            log::debug!(target: "didit", "{method} {path}: {end}, {millis} ms");
        }
        result
    }

    fn failure(
        &self,
        route: &Route,
        request: &Request<'_>,
        error: &ureq::Error,
        stage: Stage,
        sent: bool,
        timeout: Duration,
    ) -> Failure {
        let proxy = route.proxy.as_ref();
        if stage != Stage::Connecting {
            let until = (self.start.elapsed() + DISTRUST).as_millis();
            self.distrust_until.store(until.try_into().unwrap_or(u64::MAX), Relaxed);
        }
        match proxy {
            Some(proxy) => self.names.doubt(proxy.uri()),
            None => {
                if let Ok(uri) = request.url.parse() {
                    self.names.doubt(&uri);
                }
            }
        }
        let proxy = proxy.map(|proxy| format!("{}:{}", proxy.host(), proxy.port()));
        let context = Context {
            host: host(request.url),
            proxy: proxy.as_deref(),
            timeout,
            connect_timeout: self.connect_limit(timeout, proxy.is_some()),
            max_reply: request.max_reply,
            own_roots: self.own_roots,
        };
        Failure::new(error, stage, sent, &context)
    }

    fn exchange(
        &self,
        route: &Route,
        request: &Request<'_>,
        outgoing: &mut Outgoing<'_>,
        timeout: Duration,
        now: Instant,
    ) -> Result<(http::response::Parts, Result<Vec<u8>, ureq::Error>), ureq::Error> {
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
                self.run(route, message.body(SendBody::from_reader(outgoing))?, timeout, now)
            }
            None => self.run(route, message.body(())?, timeout, now),
        };
        let (head, body) = response?.into_parts();
        Ok((head, body.into_with_config().limit(request.max_reply).read_to_vec()))
    }

    fn run(
        &self,
        route: &Route,
        message: http::Request<impl AsSendBody>,
        timeout: Duration,
        now: Instant,
    ) -> Result<http::Response<Body>, ureq::Error> {
        let until = Duration::from_millis(self.distrust_until.load(Relaxed));
        let distrust = now.saturating_duration_since(self.start) < until;
        if timeout >= self.timeout && !distrust {
            return route.agent.run(message);
        }
        let limit = self.connect_limit(timeout, route.proxy.is_some());
        let mut config = route.agent.configure_request(message);
        config = config.timeout_global(Some(timeout)).timeout_connect(Some(limit));
        if distrust {
            config = config.max_idle_age(Duration::ZERO);
        }
        route.agent.run(config.build())
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
