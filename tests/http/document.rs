//! The OpenAPI document and the router agree.

use std::collections::BTreeSet;
use std::path::Path;

use axum::Router;
use axum::http::Method;
use catchment::Backend;
use serde_json::{Value, json};

use crate::client::Client;
use crate::schema::{DOCUMENT, check, operations, paths};
use crate::{adder, idle};

/// Every status of an answer, with its code.
pub(crate) const STATUSES: [(u16, &str); 15] = [
    (200, "success"),
    (202, "accepted"),
    (202, "pending"),
    (400, "invalid"),
    (403, "forbidden"),
    (404, "not_found"),
    (405, "method_not_allowed"),
    (408, "timeout"),
    (409, "conflict"),
    (409, "failed"),
    (410, "cancelled"),
    (413, "too_large"),
    (415, "unsupported_media_type"),
    (500, "error"),
    (503, "unavailable"),
];

#[tokio::test(start_paused = true)]
async fn the_router_has_every_operation_of_the_document_and_no_other() {
    let (client, _) = idle();
    for (template, item) in paths() {
        let path = template.replace("{arrayId}", "x");
        let mut allowed = BTreeSet::new();
        for verb in ["get", "put", "post", "delete", "patch", "options", "trace"] {
            let method = Method::from_bytes(verb.to_ascii_uppercase().as_bytes()).unwrap();
            let reply = client.ask(method.clone(), &path).await;
            assert_eq!(reply.code != 405, item.get(verb).is_some(), "{verb} {path}");
            let is_fallback = reply.message().contains("there is nothing at");
            assert!(!is_fallback, "{verb} {path}: {}", reply.json);
            if item.get(verb).is_some() {
                allowed.insert(method.to_string());
            }
        }
        if allowed.contains("GET") {
            allowed.insert("HEAD".to_owned());
        }
        let reply = client.ask(Method::TRACE, &path).await;
        reply.is(405, "method_not_allowed");
        let header = reply.headers["allow"].to_str().unwrap();
        let header: BTreeSet<String> = header.split(',').map(str::to_owned).collect();
        assert_eq!(header, allowed, "{path}");
    }
}

#[test]
fn its_statuses_are_those_that_are_promised() {
    let mut found = BTreeSet::new();
    collect(&DOCUMENT, &mut found);
    let promised = STATUSES.iter().map(|(_, status)| (*status).to_owned());
    assert_eq!(found, promised.collect());
    assert_eq!(DOCUMENT["info"]["version"], env!("CARGO_PKG_VERSION"));
    let description = DOCUMENT["info"]["description"].as_str().unwrap();
    assert!(description.contains("**There is no authentication in this API"));
}

/// Every `status` that some schema requires.
fn collect(value: &Value, found: &mut BTreeSet<String>) {
    if let Some(status) = value.pointer("/properties/status/const") {
        found.insert(status.as_str().unwrap().to_owned());
    }
    match value {
        Value::Object(members) => members.values().for_each(|value| collect(value, found)),
        Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}

#[test]
fn operations_have_names_of_their_own() {
    let names: BTreeSet<&str> = operations()
        .map(|(_, _, operation)| operation["operationId"].as_str().unwrap())
        .collect();
    assert_eq!(names.len(), operations().count());
}

#[test]
fn the_check_of_answers_finds_what_is_wrong() {
    let run = &DOCUMENT["components"]["schemas"]["Redriven"];
    let good = json!({ "arrayId": "a/b", "redriven": 0, "underWay": 0 });
    assert_eq!(check(run, &good, "it"), Ok(()));
    for bad in [
        json!({ "arrayId": "a/b" }),
        json!({ "arrayId": "a/b", "redriven": -1, "underWay": 0 }),
        json!({ "arrayId": "a/b", "redriven": "0", "underWay": 0 }),
        json!({ "arrayId": "a b", "redriven": 0, "underWay": 0 }),
        json!({ "arrayId": "", "redriven": 0, "underWay": 0 }),
        json!({ "arrayId": "a", "redriven": 0, "underWay": 0, "more": 1 }),
        json!([]),
    ] {
        let outcome = std::panic::catch_unwind(|| check(run, &bad, "it"));
        assert!(!matches!(outcome, Ok(Ok(()))), "{bad}");
    }
}

/// `scripts/test` runs a validator of OpenAPI on the file that this test writes.
#[tokio::test]
async fn what_is_served_says_where_it_is() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openapi");
    std::fs::create_dir_all(&folder).unwrap();
    let (adder, _) = adder(Backend::memory());
    let mounted = Router::new().nest("/of/the/adder", adder.router());
    for (name, client, url) in [
        ("plain", Client::new(adder.router()), "/"),
        (
            "nested",
            Client::under(mounted, "/of/the/adder"),
            "/of/the/adder",
        ),
    ] {
        let served = client.get("/openapi.json").await.json;
        let mut expected = DOCUMENT.clone();
        expected["info"]["title"] = "adder".into();
        expected["servers"] = json!([{ "url": url }]);
        assert_eq!(served, expected);
        let file = folder.join(format!("{name}.json"));
        std::fs::write(file, served.to_string()).unwrap();
    }
}
