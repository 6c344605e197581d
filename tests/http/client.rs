//! A client without a network, which checks every answer against the document.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request};
use serde_json::Value;
use tower::ServiceExt;

use crate::schema;

#[derive(Clone)]
pub(crate) struct Client {
    router: Router,
    prefix: &'static str,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) json: Value,
}

impl Reply {
    #[track_caller]
    pub(crate) fn is(&self, code: u16, status: &str) -> &Self {
        assert_eq!((self.code, self.status()), (code, status), "{}", self.json);
        self
    }

    pub(crate) fn status(&self) -> &str {
        self.json["status"].as_str().unwrap_or_default()
    }

    pub(crate) fn message(&self) -> &str {
        self.json["message"].as_str().unwrap_or_default()
    }

    pub(crate) fn data(&self) -> &Value {
        &self.json["data"]
    }

    pub(crate) fn run(&self) -> &str {
        self.data()["arrayId"].as_str().unwrap()
    }
}

impl Client {
    pub(crate) fn new(router: Router) -> Self {
        Self { router, prefix: "" }
    }

    /// Of a router that is mounted under this path.
    pub(crate) fn under(router: Router, prefix: &'static str) -> Self {
        Self { router, prefix }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        assert_eq!(parts.headers["content-type"], "application/json");
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let json = serde_json::from_slice(&body).unwrap();
        let code = parts.status.as_u16();
        let path = path.strip_prefix(self.prefix).unwrap_or_default();
        schema::check_answer(&method, path, code, &json);
        Reply {
            code,
            headers: parts.headers,
            json,
        }
    }

    pub(crate) async fn ask(&self, method: Method, path: &str) -> Reply {
        let request = Request::builder().method(method);
        // Without it, nothing is changed.
        let request = request.header("content-type", "application/json");
        let request = request.uri(format!("{}{path}", self.prefix));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask(Method::GET, path).await
    }

    pub(crate) async fn post(&self, path: &str) -> Reply {
        self.ask(Method::POST, path).await
    }

    pub(crate) async fn submit(&self, body: impl Into<Body>) -> Reply {
        self.put_on(Method::POST, "/runs", body).await
    }

    pub(crate) async fn submit_as(&self, id: &str, body: impl Into<Body>) -> Reply {
        self.put_on(Method::PUT, &format!("/runs/{id}"), body).await
    }

    async fn put_on(&self, method: Method, path: &str, body: impl Into<Body>) -> Reply {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header("content-type", "application/json");
        self.send(request.body(body.into()).unwrap()).await
    }
}
