//! A backend that fails, or does not answer.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use catchment::backends::memory::{MemoryQueues, MemoryScratchpad};
use catchment::http::HttpOptions;
use catchment::testing::faults::Flaky;
use catchment::{Backend, Error};
use tokio::time::Instant;

use crate::client::{Client, Reply};
use crate::document::STATUSES;
use crate::{Act, Call, On, Store, adder, idle, outage, soon};

const ASKED: [(Method, &str); 8] = [
    (Method::GET, "/runs"),
    (Method::GET, "/runs/a"),
    (Method::GET, "/runs/a/result?wait=10"),
    (Method::GET, "/runs/a/failures"),
    (Method::GET, "/runs/a/dead-letters"),
    (Method::GET, "/dead-letters"),
    (Method::POST, "/runs/a/redrive"),
    (Method::POST, "/runs/a/cancel"),
];

fn is_unavailable(reply: &Reply) {
    reply.is(503, "unavailable");
    assert_eq!(reply.headers["retry-after"], "5");
    // The service's own error is in the log.
    assert!(
        !reply.message().contains("made up for a test"),
        "{}",
        reply.message()
    );
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_down_is_unavailable() {
    let flaky = Flaky::new(1, 1.0);
    let queues = flaky.queues(Arc::new(MemoryQueues::new()));
    let scratchpad = flaky.scratchpad(Arc::new(MemoryScratchpad::new()));
    let (adder, _) = adder(Backend::new(queues, scratchpad));
    let client = Client::new(adder.router());
    for (method, path) in ASKED {
        let began = Instant::now();
        is_unavailable(&soon(client.ask(method, path)).await);
        assert_eq!(began.elapsed(), Duration::ZERO, "{path}");
    }
    let began = Instant::now();
    let reply = soon(client.submit_as("a", "[1]")).await;
    is_unavailable(&reply);
    assert!(reply.message().contains("repeat the request"));
    assert_eq!(began.elapsed(), Duration::from_secs(30));
    is_unavailable(&soon(client.submit("[1]")).await);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_answer_is_unavailable() {
    let never = On(|_: &Call<'_>| Act::Late(Duration::from_secs(1_000_000)));
    let (adder, _) = adder(Store::new().hooked(Arc::new(never)));
    let client = Client::new(adder.router());
    for (method, path) in ASKED {
        let began = Instant::now();
        is_unavailable(&soon(client.ask(method, path)).await);
        let limit = if path.ends_with("wait=10") { 40 } else { 30 };
        assert_eq!(began.elapsed(), Duration::from_secs(limit), "{path}");
    }
    let began = Instant::now();
    is_unavailable(&soon(client.submit("[1]")).await);
    // Five of them are for the attempt to cancel the run.
    assert_eq!(began.elapsed(), Duration::from_secs(35));
}

/// The queue is out of reach, the scratchpad is not: the run began.
#[tokio::test(start_paused = true)]
async fn a_submission_that_fails_is_withdrawn_or_can_be_completed() {
    let store = Store::new();
    let broken = On(|call: &Call<'_>| match call {
        Call::Send(..) => Act::Fail(outage()),
        _ => Act::Go,
    });
    let (cut_off, _) = adder(store.hooked(Arc::new(broken)));
    // Twelve attempts take 50 s on average, with waits that are drawn: three times in a hundred less than the default limit of
    // 30 s, and then the attempts are used up first.
    let options = HttpOptions::new().time_limit(Duration::from_secs(5));
    let cut_off = Client::new(cut_off.router_with(options));
    let (adder, _) = adder(store.backend());
    let client = Client::new(adder.router());

    is_unavailable(&soon(cut_off.submit_as("a", "[1, 2]")).await);
    assert_eq!(client.get("/runs/a").await.data()["state"], "open");
    client.submit_as("a", "[1, 2]").await.is(202, "accepted");
    let _worker = adder.worker().start();
    let reply = soon(client.get("/runs/a/result?wait=30")).await;
    assert_eq!(reply.is(200, "success").data()["result"], 6);

    let reply = soon(cut_off.submit("[1, 2]")).await;
    is_unavailable(&reply);
    assert!(reply.message().contains("was withdrawn"));
}

/// A permanent error, and the errors of each other status.
#[tokio::test(start_paused = true)]
async fn every_status_is_given_with_its_code() {
    let refuses = |retryable| {
        let hook = On(move |_: &Call<'_>| {
            let source = "made up for a test";
            Act::Fail(match retryable {
                true => Error::unavailable("test", "a call", source),
                false => Error::refused("test", "a call", source),
            })
        });
        Client::new(adder(Store::new().hooked(Arc::new(hook))).0.router())
    };
    let (client, adder) = idle();
    let small = catchment::http::HttpOptions::new().body_limit(1);
    let small = Client::new(adder.router_with(small));
    let mut replies = vec![
        client.submit_as("a", "[1]").await,
        client.submit_as("a", "[1, 2]").await,
        client.submit_as("a", "1").await,
        client.get("/runs/a").await,
        client.get("/runs/a/result").await,
        client.post("/runs/a/cancel").await,
        client.get("/runs/a/result").await,
        client.get("/runs/a/nothing").await,
        client.post("/runs/a").await,
        client.post("/runs").await,
        small.submit("[]").await,
        refuses(false).get("/runs/a").await,
        refuses(true).get("/runs/a").await,
    ];
    let stopped = axum::body::Body::from_stream(futures::stream::pending::<
        Result<bytes::Bytes, std::io::Error>,
    >());
    replies.push(soon(client.submit(stopped)).await);
    let untyped = axum::http::Request::post("/runs");
    replies.push(client.send(untyped.body("[1]".into()).unwrap()).await);
    let foreign =
        axum::http::Request::post("/runs/a/cancel").header("origin", "http://evil.example");
    replies.push(client.send(foreign.body(Default::default()).unwrap()).await);
    let worker = adder.worker().start();
    client.submit_as("b", "[101]").await;
    replies.push(soon(client.get("/runs/b/result?wait=30")).await);
    worker.shutdown().await;
    let mut seen: Vec<(u16, &str)> = replies
        .iter()
        .map(|reply| (reply.code, reply.status()))
        .collect();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, STATUSES);
}
