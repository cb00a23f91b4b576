//! Chooses the proxy for a host: the configured one, or the one of the environment, which it reads as curl does.

use std::net::IpAddr;

use ureq::http::Uri;
use ureq::{Proxy, ProxyProtocol};

use super::tls;
use super::url::{host_and_port, ip_address, is_loopback, is_usable};
use crate::error::{Error, Result};

/// Returns the value of an environment variable.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the environment of the process. A value that is not Unicode is rejected later, since it is not a proxy URL.
pub(super) fn environment(name: &str) -> Option<String> {
    Some(std::env::var_os(name)?.to_string_lossy().into_owned())
}

/// The longest URL of a proxy, including its user name and password.
const MAX_URL: usize = 8 * 1024;

/// Returns the proxy for a base URL: the `configured` one for any host, else the one of the environment.
///
/// # Errors
/// `Config` for an invalid proxy that would be used. The text names the option or the variable, but never the value,
/// which may contain a password.
pub(super) fn choose(url: &Uri, configured: Option<&str>, environment: Environment<'_>) -> Result<Option<Proxy>> {
    let chosen = match configured {
        Some("") => None,
        Some(proxy) => Some(("proxy", proxy.to_owned())),
        None => from_environment(url, environment),
    };
    let parse =
        |(name, proxy): (&str, String)| parse(&proxy).map_err(|problem| Error::config(problem).for_setting(name));
    chosen.map(parse).transpose()
}

/// Returns the variable that applies to a URL, and its value. An empty variable counts as unset.
fn from_environment(url: &Uri, environment: Environment<'_>) -> Option<(&'static str, String)> {
    let value = |name: &str| environment(name).filter(|value| !value.is_empty());
    let https = url.scheme_str() == Some("https");
    let (host, port) = host_and_port(url)?;
    let exceptions = value("no_proxy").or_else(|| value("NO_PROXY")).unwrap_or_default();
    if is_loopback(host) || is_exempt(host, port, &exceptions) {
        return None;
    }
    // In a CGI program, `HTTP_PROXY` is the `Proxy` header of the request, so its sender would choose the proxy.
    let cgi = value("REQUEST_METHOD").is_some();
    let names: &[&'static str] = match (https, cgi) {
        (true, _) => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        (false, false) => &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
        // Windows ignores the case of names, so `http_proxy` is that header as well.
        (false, true) if cfg!(windows) => &["all_proxy", "ALL_PROXY"],
        (false, true) => &["http_proxy", "all_proxy", "ALL_PROXY"],
    };
    names.iter().find_map(|name| Some((*name, value(name)?)))
}

fn parse(text: &str) -> Result<Proxy, &'static str> {
    if text.len() > MAX_URL {
        return Err("must not be longer than 8 KiB");
    }
    // The text does not contain the value, which may contain a password.
    let not_a_url = "not a proxy URL: it must look like http://user:password@host:port";
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(not_a_url);
    }
    let proxy = Proxy::new(text).map_err(|_| not_a_url)?;
    let authority = proxy.uri().authority().ok_or(not_a_url)?;
    if !is_usable(authority) {
        return Err("invalid host or port");
    }
    match proxy.protocol() {
        ProxyProtocol::Http => Ok(proxy),
        ProxyProtocol::Https => tls::available().map(|()| proxy),
        _ => Err("SOCKS proxies are not supported: use an HTTP proxy"),
    }
}

/// Returns whether `NO_PROXY` lists a host: as `*`, as a domain or its subdomain, as an address, or in a network such
/// as `10.0.0.0/8`. Domains and addresses may have a port. Commas or spaces separate the entries.
fn is_exempt(host: &str, port: u16, exceptions: &str) -> bool {
    let own = ip_address(host);
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let exceptions = exceptions.to_ascii_lowercase();
    let mut entries = exceptions.split([',', ' ', '\t']).filter(|entry| !entry.is_empty());
    entries.any(|entry| match own {
        _ if entry == "*" => true,
        Some(own) => covers(entry, own, port),
        None => {
            let (domain, fits) = split_port(entry, port);
            let domain = domain.trim_start_matches('*').trim_matches('.');
            let is_within = |front: &str| front.is_empty() || front.ends_with('.');
            fits && !domain.is_empty() && host.strip_suffix(domain).is_some_and(is_within)
        }
    })
}

/// Returns whether an entry is this address, with this port if it has one, or a network that contains the address.
fn covers(entry: &str, own: IpAddr, port: u16) -> bool {
    if let Some((network, prefix)) = entry.split_once('/') {
        return match (ip_address(network), prefix.parse()) {
            (Some(network), Ok(prefix)) => is_in_network(own, network, prefix),
            _ => false,
        };
    }
    // An IPv6 address contains colons. It can have a port only if it is in brackets.
    if let Some(entry) = ip_address(entry) {
        return entry == own;
    }
    let (entry, fits) = split_port(entry, port);
    fits && ip_address(entry) == Some(own)
}

fn is_in_network(address: IpAddr, network: IpAddr, prefix: u32) -> bool {
    // Both versions start at the highest bit, so that a prefix means the same for both.
    let bits = |address| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    };
    let width = if address.is_ipv4() { 32 } else { 128 };
    let same_version = address.is_ipv4() == network.is_ipv4();
    same_version && prefix <= width && (bits(address) ^ bits(network)).leading_zeros() >= prefix
}

/// Returns an entry without its port, and whether it has no port or this one.
fn split_port(entry: &str, port: u16) -> (&str, bool) {
    match entry.rsplit_once(':') {
        Some((host, own)) => (host, own.parse() == Ok(port)),
        None => (entry, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(url: &str, configured: Option<&str>, variables: &[(&str, &str)]) -> Result<Option<String>> {
        let environment = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let proxy = choose(&url.parse().unwrap(), configured, &environment)?;
        Ok(proxy.map(|proxy| format!("{}:{}", proxy.host(), proxy.port())))
    }

    fn by(url: &str, variables: &[(&str, &str)]) -> Option<String> {
        chosen(url, None, variables).unwrap()
    }

    #[test]
    fn each_scheme_has_its_variables_and_lower_case_takes_precedence() {
        let all = [
            ("https_proxy", "http://a:1"),
            ("HTTPS_PROXY", "http://b:1"),
            ("all_proxy", "http://c:1"),
            ("ALL_PROXY", "http://d:1"),
            ("http_proxy", "http://e:1"),
            ("HTTP_PROXY", "http://f:1"),
        ];
        for (url, order) in [("https://x.test", "abcd"), ("http://x.test", "efcd")] {
            let mut left = all.to_vec();
            for letter in order.chars() {
                assert_eq!(by(url, &left), Some(format!("{letter}:1")), "{url}");
                left.retain(|(_, proxy)| !proxy.contains(&format!("/{letter}:")));
            }
            assert_eq!(
                by(url, &left),
                None,
                "{url}: the variables of the other scheme must be ignored"
            );
        }
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let variables = [
            ("https_proxy", ""),
            ("HTTPS_PROXY", "http://b:1"),
            ("no_proxy", ""),
            ("NO_PROXY", "y.test"),
        ];
        assert_eq!(by("https://x.test", &variables).unwrap(), "b:1");
        assert_eq!(by("https://y.test", &variables), None);
        assert_eq!(by("https://x.test", &[("HTTPS_PROXY", "")]), None);
    }

    #[test]
    fn in_a_cgi_program_the_sender_of_a_request_cannot_choose_the_proxy() {
        let cgi = ("REQUEST_METHOD", "POST");
        assert_eq!(by("http://x.test", &[("HTTP_PROXY", "http://b:1"), cgi]), None);
        let lower_case = by("http://x.test", &[("http_proxy", "http://b:1"), cgi]);
        assert_eq!(lower_case.is_none(), cfg!(windows), "{lower_case:?}");
    }

    #[test]
    fn loopback_hosts_are_reached_directly_unless_a_proxy_is_configured() {
        let variables = [("all_proxy", "http://a:1")];
        for host in ["localhost", "LOCALHOST:81", "127.0.0.1", "127.3.2.1:80", "[::1]"] {
            for scheme in ["http", "https"] {
                let url = format!("{scheme}://{host}");
                assert_eq!(by(&url, &variables), None, "{url}");
                let configured = chosen(&url, Some("http://b:1"), &variables).unwrap();
                assert_eq!(configured.unwrap(), "b:1", "{url}");
            }
        }
    }

    #[test]
    fn a_configured_proxy_overrides_the_environment_and_an_empty_one_disables_proxies() {
        let variables = [("https_proxy", "htp://"), ("no_proxy", "*")];
        let configured = chosen("https://x.test", Some("http://b"), &variables).unwrap();
        assert_eq!(configured.unwrap(), "b:80");
        assert_eq!(chosen("https://x.test", Some(""), &variables).unwrap(), None);
    }

    #[test]
    fn no_proxy_is_read_in_all_common_forms() {
        for (exceptions, host, exempt) in [
            ("x.test", "x.test", true),
            ("x.test", "X.TEST", true),
            ("x.test", "x.test.", true),
            ("x.test", "a.x.test", true),
            ("x.test", "ax.test", false),
            ("a.x.test", "x.test", false),
            (".x.test", "a.x.test", true),
            (".x.test", "x.test", true),
            ("*.x.test", "a.x.test", true),
            ("y.test, x.test", "x.test", true),
            ("y.test x.test", "x.test", true),
            (" y.test ,, x.test ", "x.test", true),
            ("*", "x.test", true),
            ("*", "10.1.2.3", true),
            ("y.test,*", "x.test", true),
            ("x.test:443", "x.test", true),
            ("x.test:8443", "x.test", false),
            ("x.test:8443", "x.test:8443", true),
            ("x.test:", "x.test", false),
            (".", "x.test", false),
            ("", "x.test", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3:443", "10.1.2.3", true),
            ("10.1.2.3:80", "10.1.2.3", false),
            ("10.1.2.0/24", "10.1.2.3", true),
            ("10.1.2.0/24", "10.1.3.3", false),
            ("0.0.0.0/0", "10.1.2.3", true),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("10.1.2.3/33", "10.1.2.3", false),
            ("10.0.0.0/8", "x.test", false),
            ("fd00::/8", "[fd12::1]", true),
            ("fd00::/8", "[fe80::1]", false),
            ("fd00::/8", "10.1.2.3", false),
            ("::/0", "[fe80::1]", true),
            ("fd12::1", "[fd12::1]", true),
            ("[fd12::1]", "[fd12::1]", true),
            ("[fd12::1]:443", "[fd12::1]", true),
            ("[fd12::1]:80", "[fd12::1]", false),
            ("2.3", "10.1.2.3", false),
        ] {
            for name in ["no_proxy", "NO_PROXY"] {
                let variables = [("https_proxy", "http://a:1"), (name, exceptions)];
                let proxy = by(&format!("https://{host}"), &variables);
                assert_eq!(proxy.is_none(), exempt, "{name}={exceptions:?}: {host}");
            }
        }
    }

    #[test]
    fn an_invalid_variable_is_named_without_its_value() {
        for (value, problem) in [
            ("htp://me:hunter2@proxy.test", "not a proxy URL"),
            ("http://me:hunter2@proxy.test ", "not a proxy URL"),
            ("http://proxy .test/hunter2", "not a proxy URL"),
            ("http://pröxy.test/hunter2", "not a proxy URL"),
            ("/hunter2", "not a proxy URL"),
            ("http://", "not a proxy URL"),
            ("http://me:hunter2@:3128", "invalid host or port"),
            ("http://me:hunter2@proxy.test:0", "invalid host or port"),
            ("http://me:hunter2@proxy.test:99999", "invalid host or port"),
            ("socks5://me:hunter2@proxy.test", "SOCKS proxies are not supported"),
            ("socks4a://me:hunter2@proxy.test", "SOCKS proxies are not supported"),
        ] {
            let error = chosen("https://x.test", None, &[("HTTPS_PROXY", value)]).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.starts_with("HTTPS_PROXY: "), "{value}: {shown}");
            assert!(shown.contains(problem), "{value}: {shown}");
            assert!(!shown.contains("hunter2"), "{shown}");
            // It is rejected only if it would be used.
            assert_eq!(by("http://x.test", &[("HTTPS_PROXY", value)]), None);
            assert_eq!(
                by("https://x.test", &[("HTTPS_PROXY", value), ("no_proxy", "x.test")]),
                None
            );
        }
        let of_length =
            |length: usize| format!("http://{}@proxy.test", "p".repeat(length - "http://@proxy.test".len()));
        let chosen = |length| chosen("https://x.test", Some(&of_length(length)), &[]);
        assert_eq!(chosen(8 * 1024).unwrap().as_deref(), Some("proxy.test:80"));
        let error = chosen(8 * 1024 + 1).unwrap_err();
        assert!(error.to_string().contains("longer than 8 KiB"), "{error}");
    }

    #[test]
    fn a_proxy_without_scheme_and_port_uses_http_and_port_80() {
        for proxy in [
            "proxy.test",
            "http://proxy.test",
            "http://proxy.test/",
            "HTTP://proxy.test:80",
        ] {
            assert_eq!(
                by("https://x.test", &[("ALL_PROXY", proxy)]).unwrap(),
                "proxy.test:80",
                "{proxy}"
            );
        }
    }

    #[test]
    fn an_https_proxy_needs_tls() {
        let result = chosen(
            "https://x.test",
            None,
            &[("ALL_PROXY", "https://me:hunter2@proxy.test")],
        );
        match tls::available() {
            Ok(()) => assert_eq!(result.unwrap().unwrap(), "proxy.test:443"),
            Err(problem) => assert_eq!(result.unwrap_err().to_string(), format!("ALL_PROXY: {problem}")),
        }
    }
}
