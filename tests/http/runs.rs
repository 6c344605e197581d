//! The states of runs: pending, failed and redriven, cancelled, unknown.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use axum::http::Method;
use catchment::http::HttpOptions;
use catchment::queue::Queues;
use catchment::{Backend, OnFailure, Stage};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::Client;
use crate::{Store, adder, adder_with, idle, soon};

#[tokio::test(start_paused = true)]
async fn a_wait_is_as_long_as_asked_for_and_as_allowed() {
    let (adder, _) = adder(Backend::memory());
    let options = HttpOptions::new().longest_wait(Duration::from_secs(20));
    let client = Client::new(adder.router_with(options));
    client.submit_as("a", "[1]").await.is(202, "accepted");
    for (query, seconds) in [
        ("", 0),
        ("?wait=0", 0),
        ("?wait=3", 3),
        ("?wait=20", 20),
        ("?wait=1000", 20),
        ("?wait=18446744073709551615", 20),
    ] {
        let began = Instant::now();
        let reply = soon(client.get(&format!("/runs/a/result{query}"))).await;
        reply.is(202, "pending");
        assert_eq!(reply.data()["state"], "running");
        assert_eq!(began.elapsed().as_secs(), seconds, "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_hears_of_the_result_when_it_is_there() {
    let (client, adder) = idle();
    client.submit_as("a", "[21]").await;
    let began = Instant::now();
    let waiting = client.get("/runs/a/result?wait=30");
    let work = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        adder.worker().start()
    };
    let (reply, _worker) = tokio::join!(waiting, work);
    assert_eq!(reply.is(200, "success").data()["result"], 42);
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// The library drops a result soon after it was read. A request for it may have to be repeated.
#[tokio::test(start_paused = true)]
async fn a_result_can_be_asked_for_again() {
    let (client, adder) = idle();
    let _worker = adder.worker().start();
    client.submit_as("a", "[1]").await;
    for _ in 0..3 {
        let reply = soon(client.get("/runs/a/result?wait=30")).await;
        assert_eq!(reply.is(200, "success").data()["result"], 2);
        // A store with that hint would drop the result by now, when the next run begins.
        tokio::time::sleep(Duration::from_secs(600)).await;
        client.submit("[2]").await.is(202, "accepted");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_says_why_and_is_redriven() {
    let (adder, limit) = adder(Backend::memory());
    let client = Client::new(adder.router());
    let worker = adder.worker().start();
    let reply = client.submit_as("a%2Fb", "[1, 200, 3, 400]").await;
    reply.is(202, "accepted");
    let reply = soon(client.get("/runs/a%2Fb/result?wait=30")).await;
    reply.is(409, "failed");
    assert_eq!(reply.data()["state"], "failed");
    assert!(
        reply
            .message()
            .starts_with("run a/b failed: stage `times_two`"),
        "{}",
        reply.message()
    );
    soon(until(&client, "/runs/a%2Fb/dead-letters", |data| {
        data["deadLetters"].as_array().unwrap().len() == 2
    }))
    .await;

    let failures = client.get("/runs/a%2Fb/failures").await;
    assert_eq!(failures.is(200, "success").data()["next"], Value::Null);
    let of = |at: usize, name: &str| failures.data()["failures"][at][name].clone();
    assert_eq!((of(0, "item"), of(1, "item")), (json!(1), json!(3)));
    assert_eq!(
        (of(0, "error"), of(0, "skipped")),
        (json!("200 is above 100"), json!(false))
    );
    assert_eq!(of(0, "attempts")[0]["number"], 1);

    let letters = client.get("/runs/a%2Fb/dead-letters?bodies=true").await;
    let letter = &letters.is(200, "success").data()["deadLetters"][0];
    assert_eq!(
        (&letter["arrayId"], &letter["stage"]),
        (&json!("a/b"), &json!("times_two"))
    );
    assert_eq!(letter["bodyEncoding"], "utf-8");
    let body: Value = serde_json::from_str(letter["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["arrayId"], "a/b");
    for path in [
        "/runs/a%2Fb/dead-letters",
        "/runs/a%2Fb/failures",
        "/dead-letters",
    ] {
        let whole = client.get(&format!("{path}?limit=100")).await;
        let whole = entries(whole.is(200, "success").data());
        assert_eq!(whole.len(), 2, "{path}");
        assert_eq!(pages(&client, path, 1).await, whole, "{path}");
    }

    soon(until(&client, "/runs/a%2Fb", |data| {
        data["settled"] == true
    }))
    .await;
    let status = client.get("/runs/a%2Fb").await;
    let status = status.is(200, "success").data();
    let of = |name: &str| status[name].as_u64().unwrap();
    assert_eq!((of("itemsDone"), of("itemsSkipped")), (2, 0));
    assert_eq!((of("itemsFailed"), of("messagesFailed")), (2, 2));

    limit.store(1_000, SeqCst);
    let redriven = soon(client.post("/runs/a%2Fb/redrive")).await;
    assert_eq!(
        *redriven.is(200, "success").data(),
        json!({ "arrayId": "a/b", "redriven": 2, "underWay": 0 })
    );
    let reply = soon(client.get("/runs/a%2Fb/result?wait=30")).await;
    assert_eq!(reply.is(200, "success").data()["result"], 1208);
    let again = soon(client.post("/runs/a%2Fb/redrive")).await;
    assert_eq!(again.is(200, "success").data()["redriven"], 0);
    assert!(entries(client.get("/dead-letters").await.data()).is_empty());
    worker.shutdown().await;
}

/// The entries of a page of a list.
fn entries(data: &Value) -> Vec<Value> {
    let lists = ["runs", "failures", "deadLetters"].map(|name| data[name].as_array());
    lists.into_iter().flatten().next().unwrap().clone()
}

/// The entries of all pages of a list.
async fn pages(client: &Client, path: &str, limit: usize) -> Vec<Value> {
    let query = if path.contains('?') { '&' } else { '?' };
    let first = format!("{path}{query}limit={limit}");
    let mut all = Vec::new();
    let mut next = first.clone();
    loop {
        let reply = client.get(&next).await;
        let data = reply.is(200, "success").data();
        let page = entries(data);
        assert!(page.len() <= limit, "{next}");
        all.extend(page);
        match data["next"].as_str() {
            // A cursor needs no escapes.
            Some(cursor) => next = format!("{first}&cursor={cursor}"),
            None => return all,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn runs_are_listed_newest_first_page_by_page() {
    let (client, adder) = idle();
    let reply = client.get("/runs").await;
    assert_eq!(
        *reply.is(200, "success").data(),
        json!({ "runs": [], "next": null })
    );
    for id in ["a", "b%2Fc", "d"] {
        client.submit_as(id, "[1, 2]").await.is(202, "accepted");
    }
    client.post("/runs/d/cancel").await.is(200, "success");
    let runs = pages(&client, "/runs", 100).await;
    assert_eq!(runs.len(), 3);
    for limit in [1, 2, 3] {
        assert_eq!(pages(&client, "/runs", limit).await, runs);
    }
    let times: Vec<u64> = runs
        .iter()
        .map(|run| run["createdAt"].as_u64().unwrap())
        .collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    let (first, last) = (times[0], times[2]);
    assert_eq!(
        pages(&client, &format!("/runs?since={last}"), 2).await,
        runs
    );
    let none: [Value; 0] = [];
    assert_eq!(
        pages(&client, &format!("/runs?since={}", first + 1), 2).await,
        none
    );
    assert_eq!(
        pages(&client, &format!("/runs?until={last}"), 2).await,
        none
    );

    let cancelled = pages(&client, "/runs?state=cancelled", 10).await;
    assert_eq!(cancelled.len(), 1);
    assert_eq!(
        (
            &cancelled[0]["arrayId"],
            &cancelled[0]["items"],
            &cancelled[0]["packets"]
        ),
        (&json!("d"), &json!(2), &json!(2))
    );
    let _worker = adder.worker().start();
    soon(client.get("/runs/b%2Fc/result?wait=30"))
        .await
        .is(200, "success");
    let done = pages(&client, "/runs?state=done", 10).await;
    assert!(done.iter().any(|run| run["arrayId"] == "b/c"), "{done:?}");
}

/// Repeats the request until the answer's data meet the condition.
async fn until(client: &Client, path: &str, holds: impl Fn(&Value) -> bool) {
    while !holds(client.get(path).await.data()) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn items_that_were_left_out_are_counted_and_listed() {
    let stage = Stage::named("times_two").on_failure(OnFailure::Skip);
    let (adder, _) = adder_with(Backend::memory(), stage);
    let client = Client::new(adder.router());
    let _worker = adder.worker().start();
    client.submit_as("a", "[1, 200, 3]").await;
    let reply = soon(client.get("/runs/a/result?wait=30")).await;
    let data = json!({ "arrayId": "a", "result": 8, "items": 3, "contains": 2, "skipped": 1 });
    assert_eq!(*reply.is(200, "success").data(), data);
    let failures = client.get("/runs/a/failures").await;
    assert_eq!(failures.data()["failures"][0]["skipped"], true);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_stays_cancelled_and_a_done_one_done() {
    let (client, adder) = idle();
    client.submit_as("a", "[1]").await;
    for _ in 0..2 {
        let reply = client.post("/runs/a/cancel").await;
        assert_eq!(reply.is(200, "success").data()["state"], "cancelled");
    }
    client
        .get("/runs/a/result?wait=30")
        .await
        .is(410, "cancelled");
    let status = client.get("/runs/a").await;
    assert_eq!(status.is(200, "success").data()["state"], "cancelled");

    let _worker = adder.worker().start();
    client.submit_as("b", "[1]").await;
    soon(client.get("/runs/b/result?wait=30"))
        .await
        .is(200, "success");
    let reply = client.post("/runs/b/cancel").await;
    assert_eq!(reply.is(409, "conflict").message(), "run b is done");
    assert_eq!(reply.data()["state"], "done");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_nobody_knows_is_not_found() {
    let (client, _) = idle();
    for (method, path) in [
        (Method::GET, ""),
        (Method::GET, "/result"),
        (Method::GET, "/result?wait=30"),
        (Method::GET, "/failures"),
        (Method::GET, "/dead-letters"),
        (Method::POST, "/redrive"),
        (Method::POST, "/cancel"),
    ] {
        let began = Instant::now();
        let reply = soon(client.ask(method, &format!("/runs/none{path}"))).await;
        reply.is(404, "not_found");
        assert!(
            reply.message().starts_with("no run none"),
            "{}",
            reply.message()
        );
        assert!(began.elapsed() < Duration::from_secs(10), "{path}");
    }
}

/// A message that another program put on a dead-letter queue belongs to no run, and need not be
/// text.
#[tokio::test(start_paused = true)]
async fn dead_letters_of_no_run_are_the_deployments() {
    let store = Store::new();
    let (adder, _) = adder(store.backend());
    let client = Client::new(adder.router());
    let queue = store
        .queues
        .open("adder--times_two", &Default::default())
        .await
        .unwrap();
    queue.send(vec![b"\xff\xfe"[..].into()]).await.unwrap();
    let _worker = adder.worker().start();
    soon(until(&client, "/dead-letters", |data| {
        entries(data).len() == 1
    }))
    .await;
    let reply = client.get("/dead-letters?bodies=true").await;
    let letter = &reply.data()["deadLetters"][0];
    assert_eq!(
        (&letter["arrayId"], &letter["message"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(
        (&letter["body"], &letter["bodyEncoding"]),
        (&json!("//4="), &json!("base64"))
    );
}
