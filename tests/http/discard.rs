//! Dead letters over HTTP: how much an answer has, and which are discarded.

use std::sync::{Arc, Mutex};

use axum::http::Method;
use catchment::queue::{Outgoing, PAGE_BYTES, Queues};
use catchment::scratchpad::{Attempt, DeadLetterId, FailureReport, Scratchpad, Verdict};
use serde_json::{Value, json};

use crate::client::Client;
use crate::{Act, Call, On, Store, adder, soon};

/// Dead letters that belong to no run.
async fn bury(store: &Store, count: usize, body: &[u8]) {
    let options = Default::default();
    let queue = store
        .queues
        .open("adder--times_two", &options)
        .await
        .unwrap();
    let message = Outgoing::new(body.to_vec());
    queue.send(vec![message; count]).await.unwrap();
    let second = std::time::Duration::from_secs(1);
    for delivery in queue.receive(count, second).await.unwrap() {
        queue.bury(delivery, "made up for a test").await.unwrap();
    }
}

fn letters(data: &Value) -> &[Value] {
    data["deadLetters"].as_array().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_look_at_one_dead_letter_reads_one() {
    let store = Store::new();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&asked);
    let hook = On(move |call: &Call<'_>| {
        if let Call::DeadLetters(_, max) = call {
            notes.lock().unwrap().push(*max);
        }
        Act::Go
    });
    let (adder, _) = adder(store.hooked(Arc::new(hook)));
    let client = Client::new(adder.router());
    bury(&store, 3_000, b"?").await;
    let reply = client.get("/dead-letters?limit=1").await;
    assert_eq!(letters(reply.is(200, "success").data()).len(), 1);
    assert_eq!(*asked.lock().unwrap(), [1]);
    for limit in ["0", "1001", "99999999999999999999", "all", "", "1.5", "-1"] {
        let reply = client.get(&format!("/dead-letters?limit={limit}")).await;
        reply.is(400, "invalid");
    }
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_bounded_in_bytes() {
    let store = Store::new();
    let (adder, _) = adder(store.backend());
    let client = Client::new(adder.router());
    // JSON makes six bytes of each of the last.
    for byte in [b'x', b'"', 0] {
        bury(&store, 40, &[byte; 256 * 1024]).await;
    }
    let (mut found, mut next) = (0, "/dead-letters?limit=1000&bodies=true".to_owned());
    loop {
        let reply = client.get(&next).await;
        let data = reply.is(200, "success").data();
        let bytes = reply.json.to_string().len();
        assert!(bytes <= 2 * PAGE_BYTES + 100_000, "{bytes}");
        found += letters(data).len();
        match data["next"].as_str() {
            Some(cursor) => next = format!("/dead-letters?limit=1000&bodies=true&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(found, 120);

    // The longest failures there are: a hundred attempts, with long errors.
    client.submit_as("a", "[1]").await.is(202, "accepted");
    let bound = store.scratchpad.bind("adder").unwrap();
    let run = bound
        .status(&"a".into())
        .await
        .unwrap()
        .unwrap()
        .record
        .key();
    for n in 0..60 {
        let (now, error) = (std::time::SystemTime::now(), "x".repeat(2_000));
        let attempts = (1..=100).map(|number| Attempt::new(number, now, error.clone()));
        let verdict = Verdict::Dead(DeadLetterId::random());
        let report = FailureReport::new(
            &run,
            "sum",
            format!("packet {n}"),
            attempts.collect(),
            verdict,
        );
        bound.record(&report).await.unwrap();
    }
    let (mut found, mut next) = (Vec::new(), "/runs/a/failures?limit=1000".to_owned());
    loop {
        let reply = client.get(&next).await;
        let data = reply.is(200, "success").data();
        let bytes = reply.json.to_string().len();
        assert!(bytes <= PAGE_BYTES + 100_000, "{bytes}");
        found.extend(
            data["failures"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["message"].to_string()),
        );
        match data["next"].as_str() {
            Some(cursor) => next = format!("/runs/a/failures?limit=1000&cursor={cursor}"),
            None => break,
        }
    }
    let count = found.len();
    found.sort();
    found.dedup();
    assert_eq!((found.len(), count), (60, 60));
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_discarded() {
    let store = Store::new();
    let (adder, _) = adder(store.backend());
    let client = Client::new(adder.router());
    let worker = adder.worker().start();
    for id in ["a", "b"] {
        client
            .submit_as(id, "[1, 200, 3, 400]")
            .await
            .is(202, "accepted");
        let reply = soon(client.get(&format!("/runs/{id}/result?wait=30"))).await;
        reply.is(409, "failed");
    }
    worker.shutdown().await;
    bury(&store, 1, b"?").await;

    // A parameter that was forgotten or misspelt removes nothing.
    for path in [
        "/dead-letters",
        "/dead-letters?letters=all",
        "/dead-letters?letter=",
        "/dead-letters?letter=all&limit=1",
        "/dead-letters?letter=a,b",
        "/dead-letters?letter=letter.00",
        "/runs/a/dead-letters?letter=all",
    ] {
        let reply = client.ask(Method::DELETE, path).await;
        reply.is(400, "invalid");
    }
    let listed = client.get("/dead-letters").await;
    let listed = letters(listed.data()).to_vec();
    assert_eq!(listed.len(), 5);

    let reply = client.ask(Method::DELETE, "/runs/a/dead-letters").await;
    let outcome = json!({ "arrayId": "a", "discarded": 2, "passedOver": 0, "more": false });
    assert_eq!(*reply.is(200, "success").data(), outcome);
    let status = client.get("/runs/a").await;
    assert_eq!(status.data()["state"], "failed");
    let failures = client.get("/runs/a/failures").await;
    assert_eq!(failures.data()["failures"].as_array().unwrap().len(), 2);
    let none = client.ask(Method::DELETE, "/runs/none/dead-letters").await;
    none.is(404, "not_found");

    // One of run b's, one that is gone, and the one of no run.
    let named = |run: Value| {
        let letter = listed
            .iter()
            .find(|letter| letter["arrayId"] == run)
            .unwrap();
        letter["id"].as_str().unwrap().to_owned()
    };
    let ids = [json!("b"), json!("a"), Value::Null].map(named).join(",");
    let reply = client
        .ask(Method::DELETE, &format!("/dead-letters?letter={ids}"))
        .await;
    let outcome = json!({ "arrayId": null, "discarded": 2, "passedOver": 1, "more": false });
    assert_eq!(*reply.is(200, "success").data(), outcome);
    let reply = client.ask(Method::DELETE, "/dead-letters?letter=all").await;
    assert_eq!(reply.is(200, "success").data()["discarded"], 1);
    assert!(letters(client.get("/dead-letters").await.data()).is_empty());
}
