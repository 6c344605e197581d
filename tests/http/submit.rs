//! Arrays that are taken.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use bytes::Bytes;
use catchment::{Backend, Pipeline, Stage};
use futures::future::join_all;
use futures::stream;
use serde_json::json;

use crate::client::Client;
use crate::{Record, Store, adder, idle, ok, soon};

#[tokio::test(start_paused = true)]
async fn an_array_goes_in_and_its_result_comes_out() {
    let (client, adder) = idle();
    let _worker = adder.worker().start();
    let reply = client.submit("[1, 2, 3, 4, 5]").await;
    reply.is(202, "accepted");
    let id = reply.run();
    assert_eq!(reply.headers["location"], format!("runs/{id}"));
    let result = soon(client.get(&format!("/runs/{id}/result?wait=30"))).await;
    result.is(200, "success");
    let data = json!({ "arrayId": id, "result": 30, "items": 5, "contains": 5, "skipped": 0 });
    assert_eq!(*result.data(), data);
    let status = client.get(&format!("/runs/{id}")).await;
    status.is(200, "success");
    assert_eq!(status.data()["state"], "done");
}

#[tokio::test(start_paused = true)]
async fn it_works_under_a_prefix() {
    let (adder, _) = adder(Backend::memory());
    let _worker = adder.worker().start();
    let client = Client::under(Router::new().nest("/adder", adder.router()), "/adder");
    let reply = client.submit("[20, 1]").await;
    let path = format!(
        "/{}/result?wait=30",
        reply.headers["location"].to_str().unwrap()
    );
    let result = soon(client.get(&path)).await;
    assert_eq!(result.is(200, "success").data()["result"], 42);
    client.get("/nothing").await.is(404, "not_found");
    client
        .ask(Method::DELETE, "/runs")
        .await
        .is(405, "method_not_allowed");
}

#[tokio::test(start_paused = true)]
async fn the_same_id_twice_is_one_run() {
    let (client, adder) = idle();
    let _worker = adder.worker().start();
    for _ in 0..2 {
        let reply = client.submit_as("monday", "[1, 2]").await;
        assert_eq!(reply.is(202, "accepted").run(), "monday");
        let result = soon(client.get("/runs/monday/result?wait=30")).await;
        assert_eq!(result.is(200, "success").data()["result"], 6);
    }
    let reply = client.submit_as("monday", "[1, 2, 3]").await;
    reply.is(409, "conflict");
    assert!(
        reply
            .message()
            .contains("an array of 2 items, and this one has 3")
    );
}

#[tokio::test(start_paused = true)]
async fn other_items_under_a_used_id_are_a_conflict() {
    let (client, adder) = idle();
    client
        .submit_as("monday", "[1, 2, 3]")
        .await
        .is(202, "accepted");
    let is_refused = async || {
        for body in ["[4, 5, 6]", "[3, 2, 1]"] {
            let reply = client.submit_as("monday", body).await;
            reply.is(409, "conflict");
            let range = "some of packets 0 to 2 (items 0 to 2) differ";
            assert!(reply.message().contains(range), "{}", reply.message());
        }
    };
    is_refused().await;
    let _worker = adder.worker().start();
    let result = soon(client.get("/runs/monday/result?wait=30")).await;
    assert_eq!(result.is(200, "success").data()["result"], 12);
    is_refused().await;
    client
        .submit_as("monday", "[1, 2, 3]")
        .await
        .is(202, "accepted");
}

/// More than a queue in memory has room for, and a worker that needs longer for it than a request may take.
#[tokio::test(start_paused = true)]
async fn a_large_array_is_submitted_by_repeating_the_request() {
    let record = Arc::new(Record::default());
    let lengths = Pipeline::new()
        .then(|text: String| async move {
            tokio::time::sleep(Duration::from_secs(2)).await;
            ok(text.len()).await
        })
        .with(Stage::new().concurrency(1))
        .reduce(|| 0, |sum, length| sum + length);
    let backend = Store::new().hooked(record.clone());
    let lengths = lengths.deploy("lengths", backend).unwrap();
    let client = Client::new(lengths.router());
    let body = serde_json::to_string(&vec!["x".repeat(100_000); 80]).unwrap();
    let _worker = lengths.worker().start();
    let mut requests = 0;
    loop {
        requests += 1;
        assert!(requests <= 10, "it never completes");
        let reply = soon(client.submit_as("a", body.clone())).await;
        if reply.code == 202 {
            break;
        }
        reply.is(503, "unavailable");
    }
    assert!(requests > 1, "there was room for all of it");
    let result = soon(lengths.attach("a").result()).await;
    assert_eq!(result.unwrap(), 8_000_000);
    let queue = "lengths--map-0";
    let sent = record.sent().into_iter().filter(|(to, _)| to == queue);
    assert_eq!(sent.count(), 80, "each packet was sent once");
}

#[tokio::test(start_paused = true)]
async fn many_submissions_of_one_id_at_once_are_one_run() {
    let (client, adder) = idle();
    let _worker = adder.worker().start();
    let numbers: Vec<i64> = (0..300).map(|n| n % 100).collect();
    let body = serde_json::to_string(&numbers).unwrap();
    let replies = join_all((0..8).map(|_| client.submit_as("all", body.clone()))).await;
    for reply in replies {
        reply.is(202, "accepted");
    }
    let result = soon(client.get("/runs/all/result?wait=30")).await;
    let sum = 2 * numbers.iter().sum::<i64>();
    assert_eq!(result.is(200, "success").data()["result"], sum);
    assert_eq!(result.data()["contains"], 300);
}

/// Every character that an id may have, as encoded in a URL.
#[tokio::test(start_paused = true)]
async fn ids_are_percent_encoded() {
    let (client, adder) = idle();
    let _worker = adder.worker().start();
    for (written, id) in [
        ("invoices%2F2026-11-21", "invoices/2026-11-21"),
        ("a%3Ab", "a:b"),
        ("a:b@c=d+e,f_g.h", "a:b@c=d+e,f_g.h"),
        ("%2F", "/"),
        ("a%2Fresult", "a/result"),
        ("%61", "a"),
    ] {
        let reply = client.submit_as(written, "[7]").await;
        assert_eq!(reply.is(202, "accepted").run(), id);
        let outcome = soon(adder.attach(id).result()).await;
        assert_eq!(outcome.unwrap(), 14, "{id}");
        let path = format!("/runs/{written}/result?wait=5");
        assert_eq!(client.get(&path).await.run(), id);
    }
    // Decoded on its way, it is another path.
    client
        .get("/runs/invoices/2026-11-21")
        .await
        .is(404, "not_found");
}

#[tokio::test(start_paused = true)]
async fn the_empty_array_has_a_result() {
    let (client, adder) = idle();
    let _worker = adder.worker().start();
    let reply = client.submit(" [ ]\n").await;
    let path = format!("/runs/{}/result?wait=5", reply.is(202, "accepted").run());
    let result = soon(client.get(&path)).await;
    assert_eq!(result.is(200, "success").data()["result"], 0);
}

#[tokio::test]
async fn a_body_that_comes_in_small_parts_is_put_together() {
    let count = Pipeline::new()
        .then(crate::ok::<u64>)
        .reduce(|| 0, u64::max);
    let count = count.deploy("count", Backend::memory()).unwrap();
    let _worker = count.worker().start();
    let client = Client::new(count.router());
    let numbers: Vec<u64> = (1..=20_000).collect();
    let body = Bytes::from(serde_json::to_vec(&numbers).unwrap());
    // Cut anywhere, and without a length that is known beforehand.
    let parts: Vec<Result<Bytes, std::io::Error>> = (0..body.len())
        .step_by(999)
        .map(|at| Ok(body.slice(at..body.len().min(at + 999))))
        .collect();
    let request = Request::post("/runs").header("content-type", "application/json; charset=utf-8");
    let request = request
        .body(Body::from_stream(stream::iter(parts)))
        .unwrap();
    let reply = client.send(request).await;
    let path = format!("/runs/{}/result?wait=30", reply.is(202, "accepted").run());
    let result = client.get(&path).await;
    assert_eq!(result.is(200, "success").data()["result"], 20_000);
}
