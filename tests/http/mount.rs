//! The router in an application that has paths of its own.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{Method, Request, StatusCode};
use axum::routing::get;
use catchment::Backend;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::client::Client;
use crate::{adder, soon};

/// The application's own answer to a path that it does not have.
async fn lost() -> (StatusCode, &'static str) {
    (StatusCode::IM_A_TEAPOT, "the application's own")
}

/// Asks, and returns the answer's code and text, whoever gives it.
async fn ask(router: &Router, method: Method, path: &str) -> (u16, String) {
    let request = Request::builder().method(method).uri(path);
    let request = request.body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let code = response.status().as_u16();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

async fn is_the_applications(router: &Router, path: &str) {
    let answer = ask(router, Method::GET, path).await;
    assert_eq!(answer, (418, "the application's own".to_owned()), "{path}");
}

/// Paths under those of the API, which it does not have.
const UNKNOWN: [&str; 8] = [
    "/runs/a/",
    "/runs/a/b",
    "/runs/a/b/c",
    "/runs/a/result/",
    "/runs/a/result/more",
    "/runs/invoices/2026-11-21",
    "/dead-letters/",
    "/dead-letters/a/b",
];

async fn has_its_own_errors(client: &Client, prefix: &str) {
    for path in UNKNOWN {
        for method in [Method::GET, Method::POST, Method::PATCH] {
            let reply = client.ask(method, path).await;
            reply.is(404, "not_found");
            let expected = format!("there is nothing at {prefix}{path}:");
            assert!(reply.message().contains(&expected), "{}", reply.message());
        }
    }
    for (method, path, allowed) in [
        (Method::DELETE, "/runs", "GET,HEAD,POST"),
        (Method::POST, "/runs/", "GET,HEAD,PUT"),
        (Method::POST, "/runs/a", "GET,HEAD,PUT"),
        (Method::GET, "/runs/a/cancel", "POST"),
        (Method::OPTIONS, "/runs/a/result", "GET,HEAD"),
        (Method::POST, "/openapi.json", "GET,HEAD"),
    ] {
        let reply = client.ask(method.clone(), path).await;
        reply.is(405, "method_not_allowed");
        let expected = format!("{prefix}{path} does not take {method}");
        assert!(reply.message().contains(&expected), "{}", reply.message());
        let mut names: Vec<&str> = reply.headers["allow"]
            .to_str()
            .unwrap()
            .split(',')
            .collect();
        names.sort_unstable();
        assert_eq!(names.join(","), allowed);
    }
}

/// The answers to a run's whole life under a prefix.
async fn serves_runs(client: &Client) {
    let reply = client.submit("[1, 2, 3]").await;
    let location = reply.is(202, "accepted").headers["location"]
        .to_str()
        .unwrap()
        .to_owned();
    let path = format!("/{location}/result?wait=30");
    let result = soon(client.get(&path)).await;
    assert_eq!(result.is(200, "success").data()["result"], 12);
    client.submit_as("a%2Fb", "[1]").await.is(202, "accepted");
    let result = soon(client.get("/runs/a%2Fb/result?wait=30")).await;
    assert_eq!(result.is(200, "success").data()["arrayId"], "a/b");
    client.get("/openapi.json").await;
}

#[tokio::test(start_paused = true)]
async fn it_merges_and_leaves_other_paths_to_the_application() {
    let (adder, _) = adder(Backend::memory());
    let _worker = adder.worker().start();
    let own = || Router::new().route("/health", get(async || "fine"));
    for router in [
        own().fallback(lost).merge(adder.router()),
        own().merge(adder.router()).fallback(lost),
        adder.router().merge(own()).fallback(lost),
        own()
            .merge(adder.router())
            .fallback(lost)
            .method_not_allowed_fallback(lost),
    ] {
        let client = Client::new(router.clone());
        serves_runs(&client).await;
        has_its_own_errors(&client, "").await;
        assert_eq!(
            ask(&router, Method::GET, "/health").await,
            (200, "fine".to_owned())
        );
        for path in ["/", "/run", "/runs2", "/openapi.json/", "/nothing/at/all"] {
            is_the_applications(&router, path).await;
        }
    }
}

#[tokio::test]
async fn without_a_fallback_of_the_applications_other_paths_are_axums() {
    let (adder, _) = adder(Backend::memory());
    let router = adder.router();
    assert_eq!(
        ask(&router, Method::GET, "/nothing").await,
        (404, String::new())
    );
}

#[tokio::test(start_paused = true)]
async fn it_nests_and_leaves_other_paths_to_the_application() {
    let (adder, _) = adder(Backend::memory());
    let _worker = adder.worker().start();
    let nested = Router::new().fallback(lost).nest("/adder", adder.router());
    let client = Client::under(nested.clone(), "/adder");
    serves_runs(&client).await;
    has_its_own_errors(&client, "/adder").await;
    for path in ["/", "/runs", "/adder", "/adder/", "/adder/nothing"] {
        is_the_applications(&nested, path).await;
    }
    let service = Router::new()
        .fallback(lost)
        .nest_service("/adder", adder.router());
    let client = Client::under(service.clone(), "/adder");
    serves_runs(&client).await;
    has_its_own_errors(&client, "/adder").await;
    is_the_applications(&service, "/nothing").await;
    let last = Router::new().fallback_service(adder.router());
    serves_runs(&Client::new(last)).await;
}

/// The application's own parameter is not taken for the run's id.
#[tokio::test(start_paused = true)]
async fn it_nests_under_a_path_with_parameters() {
    let (adder, _) = adder(Backend::memory());
    let _worker = adder.worker().start();
    for prefix in ["/of/{tenant}", "/of/{arrayId}"] {
        let router = Router::new().nest(prefix, adder.router());
        let client = Client::under(router, "/of/some%20one");
        serves_runs(&client).await;
        has_its_own_errors(&client, "/of/some%20one").await;
        let document = client.get("/openapi.json").await.json;
        assert_eq!(document["servers"], json!([{ "url": "/of/some%20one" }]));
    }
}

#[tokio::test(start_paused = true)]
async fn several_deployments_are_nested_side_by_side() {
    let [first, second] = ["first", "second"].map(|name| {
        let pipeline = catchment::Pipeline::new().then(crate::ok::<i64>);
        let pipeline = pipeline.reduce(|| 0, |a, b| a + b);
        pipeline.deploy(name, Backend::memory()).unwrap()
    });
    let router = Router::new()
        .merge(Router::new().nest("/first", first.router()))
        .merge(Router::new().nest("/second", second.router()))
        .fallback(lost);
    for (prefix, name) in [("/first", "first"), ("/second", "second")] {
        let client = Client::under(router.clone(), prefix);
        has_its_own_errors(&client, prefix).await;
        let document = client.get("/openapi.json").await.json;
        assert_eq!(document["info"]["title"], name);
        assert_eq!(document["servers"], json!([{ "url": prefix }]));
    }
    // Each has its own runs.
    let (one, two) = (
        Client::under(router.clone(), "/first"),
        Client::under(router.clone(), "/second"),
    );
    one.submit_as("a", "[1]").await.is(202, "accepted");
    two.get("/runs/a").await.is(404, "not_found");
    is_the_applications(&router, "/third").await;
}

#[tokio::test(start_paused = true)]
async fn it_goes_into_an_application_that_has_a_state() {
    #[derive(Clone)]
    struct Settings(&'static str);
    let (adder, _) = adder(Backend::memory());
    let _worker = adder.worker().start();
    let greet = async |State(settings): State<Settings>| settings.0;
    let own = || Router::<Settings>::new().route("/greet", get(greet));
    let before: Router = own()
        .merge(adder.router().with_state(()))
        .fallback(lost)
        .with_state(Settings("hello"));
    let after: Router = own()
        .with_state(Settings("hello"))
        .merge(adder.router())
        .fallback(lost);
    let nested: Router = own()
        .nest("/adder", adder.router().with_state(()))
        .fallback(lost)
        .with_state(Settings("hello"));
    for (router, prefix) in [(before, ""), (after, ""), (nested, "/adder")] {
        let answer = ask(&router, Method::GET, "/greet").await;
        assert_eq!(answer, (200, "hello".to_owned()));
        let client = Client::under(router.clone(), prefix);
        serves_runs(&client).await;
        has_its_own_errors(&client, prefix).await;
        is_the_applications(&router, "/nothing").await;
    }
}

/// A `HEAD` request gets the headers of the `GET` request, and nothing else.
#[tokio::test(start_paused = true)]
async fn a_head_request_has_no_body() {
    let (adder, _) = adder(Backend::memory());
    let router = adder.router();
    for (path, code) in [
        ("/runs", 200),
        ("/runs/none", 404),
        ("/runs/a%20b", 400),
        ("/runs/a/b", 404),
        ("/runs/a/cancel", 405),
        ("/openapi.json", 200),
    ] {
        let answer = ask(&router, Method::HEAD, path).await;
        assert_eq!(answer, (code, String::new()), "{path}");
        let (_, body) = ask(&router, Method::GET, path).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert!(body.is_object(), "{path}");
    }
}
