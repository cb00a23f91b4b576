//! A base URL, checked when the client is built.

use std::net::IpAddr;

use ureq::http::Uri;

use super::tls;
use crate::error::{Error, Result};
use crate::secret::is_visible_ascii;

/// A base URL, checked, without its trailing slash.
///
/// # Errors
/// `Config`, without the value, which may hold a secret by mistake.
pub(crate) fn base_url(text: &str, allow_insecure: bool) -> Result<String> {
    let refuse = |problem: &str| Err(Error::config(problem));
    if !is_visible_ascii(text) || text.contains(['\\', '"', '<', '>', '^', '`', '{', '|', '}']) {
        return refuse("not a URL");
    }
    if text.contains(['?', '#']) {
        return refuse("a base URL has no query and no fragment");
    }
    let Ok(uri) = text.parse::<Uri>() else {
        return refuse("not a URL");
    };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return refuse("not a whole URL: it starts with https://");
    };
    if authority.as_str().contains('@') {
        return refuse("a base URL has no user info");
    }
    let host = authority.host();
    let port = &authority.as_str()[host.len()..];
    if host.is_empty() || (!port.is_empty() && authority.port_u16().is_none_or(|port| port == 0)) {
        return refuse("its host or port cannot be used");
    }
    match scheme {
        "https" if tls::ENABLED => {}
        "https" => return refuse("https needs one of the features rustls, native-tls, platform-verifier"),
        "http" if allow_insecure || is_loopback(host) => {}
        "http" => return refuse("http is only for loopback hosts, unless allow_insecure_http is set: use https"),
        _ => return refuse("it starts neither with https:// nor with http://"),
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// The host of a URL, with its port if it has one.
pub(crate) fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split_once('/').map_or(rest, |(host, _)| host)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_base_url_is_told_why() {
        for (url, why) in [
            ("http://example.org", "http is only for loopback hosts"),
            ("ftp://example.org", "it starts neither with https:// nor with http://"),
            ("example.org", "not a whole URL"),
            ("http://user@localhost", "no user info"),
            ("http://localhost?a", "no query and no fragment"),
            ("http://localhost#a", "no query and no fragment"),
            ("http://localhost:0", "its host or port"),
            ("http://local host", "not a URL"),
        ] {
            let error = base_url(url, false).unwrap_err().to_string();
            assert!(error.contains(why), "{url}: {error}");
        }
        assert_eq!(base_url("http://[::1]:80/a/", false).unwrap(), "http://[::1]:80/a");
        assert_eq!(base_url("http://example.org", true).unwrap(), "http://example.org");
    }
}
