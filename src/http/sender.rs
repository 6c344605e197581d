//! Requests that change something are not taken from pages of other sites.
//!
//! A browser sends a page's request to any host, with the cookies and from within the network of whoever looks at the page,
//! and asks the host first (a preflight) only if the request is none that a form could send. So a request that changes
//! something has a header that no form can send, and does not come from a page of another origin.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer::{Answer, Kind};
use super::body;
use super::endpoint::Endpoint;

/// What a request without a body may have in place of a content type.
const REQUESTED_WITH: &str = "x-requested-with";
/// A browser says by it how the page that sends a request is related to where the request goes. No page can set it.
const FETCH_SITE: &str = "sec-fetch-site";

/// The origins whose pages may change something, beside the server's own.
#[derive(Clone, Debug)]
pub(super) struct Origins(Arc<[String]>);

impl Origins {
    pub(super) fn new(origins: &[String]) -> Self {
        Self(origins.into())
    }

    fn has(&self, origin: &str) -> bool {
        let mut origins = self.0.iter();
        origins.any(|one| one.trim_end_matches('/').eq_ignore_ascii_case(origin))
    }
}

/// The names under which the server is asked, without ports; any, if there are none.
#[derive(Clone, Debug)]
pub(super) struct Hosts(Arc<[String]>);

impl Hosts {
    pub(super) fn new(hosts: &[String]) -> Self {
        Self(hosts.iter().map(|host| name_of(host).to_owned()).collect())
    }

    fn have(&self, host: Option<&str>) -> bool {
        let mut names = self.0.iter();
        let is_own = |host: &str| names.any(|one| one.eq_ignore_ascii_case(name_of(host)));
        self.0.is_empty() || host.is_some_and(is_own)
    }
}

/// A host without its port. The address of an IPv6 host stands in brackets, and has colons of its own.
fn name_of(host: &str) -> &str {
    match (host.starts_with('['), host.rsplit_once(':')) {
        (true, _) => host.split_inclusive(']').next().unwrap_or(host),
        (false, Some((name, _))) => name,
        (false, None) => host,
    }
}

/// The host that a request was sent to.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    match headers.get(header::HOST) {
        Some(host) => host.to_str().ok(),
        // HTTP/2 has it there.
        None => uri.authority().map(|authority| authority.as_str()),
    }
}

/// Refuses a request to a host that is not one of the application's, and one that would change something and may have been
/// sent by a page of another site.
pub(super) async fn check(
    endpoint: Endpoint,
    hosts: Hosts,
    origins: Origins,
    request: Request,
    next: Next,
) -> Response {
    let (uri, headers) = (request.uri(), request.headers());
    let refused = match *request.method() {
        _ if !hosts.have(host(uri, headers)) => Some(Answer::new(
            Kind::Forbidden,
            "the header `host` is not a name that this server was told to answer to",
        )),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE => None,
        _ => refusal(endpoint, &origins, uri, headers),
    };
    match refused {
        Some(answer) => answer.into_response(),
        None => next.run(request).await,
    }
}

fn refusal(
    endpoint: Endpoint,
    origins: &Origins,
    uri: &Uri,
    headers: &HeaderMap,
) -> Option<Answer> {
    if !is_same_site(origins, uri, headers) {
        return Some(Answer::new(
            Kind::Forbidden,
            "a page of another origin may not change anything here, unless the server was told to allow its origin",
        ));
    }
    // The type of a body is looked at when the body is read.
    if endpoint.takes_body() || body::is_json(headers) {
        return None;
    }
    let has_type = headers.contains_key(header::CONTENT_TYPE);
    if !has_type && headers.contains_key(REQUESTED_WITH) {
        return None;
    }
    Some(Answer::new(
        Kind::UnsupportedMediaType,
        "send the header `content-type: application/json`, though there is no body, or `x-requested-with` with any value: a page of another site cannot",
    ))
}

/// Whether the request does not come from a page, or from one of this origin or of an allowed one.
fn is_same_site(origins: &Origins, uri: &Uri, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    let origin = text(header::ORIGIN.as_str());
    if origin.is_some_and(|origin| origins.has(origin)) {
        return true;
    }
    match (text(FETCH_SITE), origin) {
        // The browser knows it, also if a proxy in between has changed the header `host`.
        (Some("same-origin" | "none"), _) => true,
        (Some(_), _) => false,
        // A program: browsers send the origin with every request that changes something.
        (None, None) => true,
        (None, Some(origin)) => {
            let origin = origin.split_once("://").map(|(_, host)| host);
            match (origin, host(uri, headers)) {
                (Some(origin), Some(own)) => origin.eq_ignore_ascii_case(own),
                _ => false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_known_by_its_name_whatever_its_port() {
        let own = ["localhost", "127.0.0.1:8080", "[::1]"].map(str::to_owned);
        let hosts = Hosts::new(&own);
        for host in [
            "localhost",
            "LocalHost:8080",
            "127.0.0.1",
            "[::1]:1",
            "[::1]",
        ] {
            assert!(hosts.have(Some(host)), "{host}");
        }
        for host in [
            "evil.example:8080",
            "localhost.evil.example",
            "",
            "[::1",
            "[::2]:1",
            "::1",
        ] {
            assert!(!hosts.have(Some(host)), "{host}");
        }
        assert!(!hosts.have(None));
        assert!(Hosts::new(&[]).have(None) && Hosts::new(&[]).have(Some("any")));
    }
}
