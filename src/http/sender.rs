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

/// Refuses a request that would change something and may have been sent by a page of another site.
pub(super) async fn check(
    endpoint: Endpoint,
    origins: Origins,
    request: Request,
    next: Next,
) -> Response {
    let refused = match *request.method() {
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE => None,
        _ => refusal(endpoint, &origins, request.uri(), request.headers()),
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
            let own = text(header::HOST.as_str());
            let own = own.or_else(|| uri.authority().map(|authority| authority.as_str()));
            let origin = origin.split_once("://").map(|(_, host)| host);
            match (origin, own) {
                (Some(origin), Some(own)) => origin.eq_ignore_ascii_case(own),
                _ => false,
            }
        }
    }
}
