//! Checks base URLs, and returns parts of URLs.

use std::net::IpAddr;

use ureq::http::Uri;
use ureq::http::uri::Authority;

use super::tls;
use crate::error::{Error, Result};
use crate::secret::is_visible_ascii;

/// The longest base URL. The head of a request must fit into ureq's buffer.
const MAX_URL: usize = 8 * 1024;

/// Checks a base URL and returns it without trailing slashes.
///
/// # Errors
/// `Config`, without the value, which may contain a secret by mistake.
pub(crate) fn base_url(text: &str, allow_insecure: bool) -> Result<String> {
    let reject = |problem: &str| Err(Error::config(problem));
    if text.len() > MAX_URL {
        return reject("must not be longer than 8 KiB");
    }
    if !is_visible_ascii(text) {
        return reject("not a URL: it contains a space, or a character other than visible ASCII");
    }
    if text.contains(['\\', '"', '<', '>', '^', '`', '{', '|', '}']) {
        return reject("not a URL");
    }
    if text.contains(['?', '#']) {
        return reject("must not have a query or a fragment");
    }
    let Ok(uri) = text.parse::<Uri>() else {
        return reject("not a URL");
    };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return reject("not an absolute URL: it must start with https://");
    };
    if authority.as_str().contains('@') {
        return reject("must not contain credentials");
    }
    let host = authority.host();
    if !is_usable(authority) {
        return reject("invalid host or port");
    }
    let insecure = "http:// works only for loopback hosts: use https:// (in code: `allow_insecure_http`)";
    match scheme {
        "https" => tls::available().map_err(Error::config)?,
        "http" if allow_insecure || is_loopback(host) => {}
        "http" => return reject(insecure),
        _ => return reject("must start with https:// or http://"),
    }
    // The path of a gateway may have a version of its own further ahead.
    let path = uri.path().trim_end_matches('/').trim_end_matches("/session");
    if ["/v1", "/v2", "/v3"].iter().any(|version| path.ends_with(version)) {
        return reject(
            "names an API version: remove it and what follows, and set api_version (DIDIT_API_VERSION) instead",
        );
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Returns whether there is a host, and the port is valid or absent.
pub(super) fn is_usable(authority: &Authority) -> bool {
    let host = authority.host();
    let with_port = authority.as_str().rsplit('@').next().unwrap_or_default();
    !host.is_empty() && (with_port == host || authority.port_u16().is_some_and(|port| port > 0))
}

/// Returns the host of a URL, with its port unless that is the default of the scheme.
pub(crate) fn host(url: &str) -> &str {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let host = rest.split('/').next().unwrap_or_default();
    let port = if scheme == "https" { ":443" } else { ":80" };
    host.strip_suffix(port).unwrap_or(host)
}

/// Returns whether a host is a loopback host: `localhost`, 127.0.0.0/8 or `::1`.
pub(super) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || ip_address(host).is_some_and(|address| address.is_loopback())
}

/// Parses a host that is an IP address. An IPv6 address may be in brackets.
pub(super) fn ip_address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Returns the host of a URL and its port, or the default port of the scheme.
pub(super) fn host_and_port(url: &Uri) -> Option<(&str, u16)> {
    let default = if url.scheme_str() == Some("https") { 443 } else { 80 };
    Some((url.host()?, url.port_u16().unwrap_or(default)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_base_url_is_rejected_with_a_reason() {
        for (url, reason) in [
            ("http://example.org", "http:// works only for loopback hosts"),
            ("ftp://example.org", "must start with https:// or http://"),
            ("example.org", "not an absolute URL"),
            ("http://user@localhost", "contain credentials"),
            ("http://localhost?a", "a query or a fragment"),
            ("http://localhost#a", "a query or a fragment"),
            ("http://localhost:0", "invalid host or port"),
            ("http://local host", "not a URL: it contains a space"),
            ("http://local|host", "not a URL"),
            ("http://localhost/v3", "names an API version"),
            ("http://localhost/v3/session", "names an API version"),
            ("http://localhost/prefix/v1/", "names an API version"),
            (
                "http://localhost/auth/v2//",
                "remove it and what follows, and set api_version (DIDIT_API_VERSION) instead",
            ),
        ] {
            let error = base_url(url, false).unwrap_err().to_string();
            assert!(error.contains(reason), "{url}: {error}");
        }
        let longest = format!("http://[::1]/{}", "p".repeat(MAX_URL - 13));
        assert_eq!(base_url(&longest, false).unwrap(), longest);
        let error = base_url(&format!("{longest}p"), false).unwrap_err().to_string();
        assert!(error.contains("longer than 8 KiB"), "{error}");
        assert_eq!(base_url("http://[::1]:80/a/", false).unwrap(), "http://[::1]:80/a");
        for url in [
            "http://v3",
            "http://localhost/v4",
            "http://localhost/dev1",
            "http://localhost/v3/proxy",
        ] {
            assert_eq!(base_url(url, true).unwrap(), url);
        }
        assert_eq!(base_url("http://example.org", true).unwrap(), "http://example.org");
    }

    #[test]
    fn a_host_is_shown_with_its_port_only_if_it_is_unusual() {
        for (url, expected) in [
            ("https://example.org:8443/v1/session/a/", "example.org:8443"),
            ("https://example.org:443/v1", "example.org"),
            ("https://example.org:80/v1", "example.org:80"),
            ("http://[::1]:80", "[::1]"),
            ("http://localhost/", "localhost"),
        ] {
            assert_eq!(host(url), expected);
        }
    }
}
