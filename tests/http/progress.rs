//! A submission takes as long as it has to while it makes progress, and is given up if it makes none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use bytes::Bytes;
use catchment::backends::memory::MemoryQueues;
use catchment::http::HttpOptions;
use catchment::{Backend, Deployment, Pipeline, RunState, Stage};
use futures::{Stream, StreamExt, stream};
use tokio::time::{Instant, sleep, timeout};

use crate::client::{Client, Reply};
use crate::{Act, Call, On, Record, Store, adder, ok, soon};

const SECOND: Duration = Duration::from_secs(1);

/// Adds up the lengths of texts, one message at a time, each of which takes this long.
pub(crate) fn lengths(backend: Backend, each: Duration) -> Deployment<String, usize> {
    let pipeline = Pipeline::new()
        .then(move |text: String| async move {
            sleep(each).await;
            ok(text.len()).await
        })
        .with(Stage::new().concurrency(1))
        .reduce(|| 0, |sum, length| sum + length);
    pipeline.deploy("lengths", backend).unwrap()
}

/// Eighty texts of this many bytes each, which are as many packets.
pub(crate) fn eighty_texts_of(bytes: usize) -> String {
    serde_json::to_string(&vec!["x".repeat(bytes); 80]).unwrap()
}

/// Twice as much as a queue of [`small`] has room for.
fn too_much() -> String {
    eighty_texts_of(1_000)
}

fn small() -> Store {
    Store::with_queues(MemoryQueues::with_capacity(1_024, 40_000))
}

/// How many packets were put on the queue.
pub(crate) fn packets(record: &Record) -> usize {
    let sent = record.sent().into_iter();
    sent.filter(|(queue, _)| queue == "lengths--map-0").count()
}

fn ways() -> [(Method, &'static str); 2] {
    [(Method::POST, "/runs"), (Method::PUT, "/runs/a")]
}

async fn submit(client: &Client, method: &Method, path: &str, body: impl Into<Body>) -> Reply {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("content-type", "application/json");
    soon(client.send(request.body(body.into()).unwrap())).await
}

#[tokio::test(start_paused = true)]
async fn a_slow_worker_does_not_cut_a_submission_off() {
    // Longer for one message than any call may take, too.
    for each in [2 * SECOND, 500 * SECOND] {
        for (method, path) in ways() {
            let record = Arc::new(Record::default());
            let lengths = lengths(small().hooked(record.clone()), each);
            let client = Client::new(lengths.router());
            let _worker = lengths.worker().start();
            let begin = Instant::now();
            let reply = submit(&client, &method, path, too_much()).await;
            let run = reply.is(202, "accepted").run().to_owned();
            assert!(begin.elapsed() > 10 * each, "there was room for all of it");
            let result = soon(lengths.attach(run).result()).await;
            assert_eq!(result.unwrap(), 80_000);
            assert_eq!(packets(&record), 80, "each packet was sent once");
        }
    }
}

/// A worker whose function never ends.
#[tokio::test(start_paused = true)]
async fn a_queue_that_stays_full_does() {
    let store = small();
    let stuck = lengths(store.backend(), 1_000_000 * SECOND);
    let options = HttpOptions::new().full_queue_limit(300 * SECOND);
    let client = Client::new(stuck.router_with(options));
    let worker = stuck.worker().start();
    for (method, path) in ways() {
        let begin = Instant::now();
        let reply = submit(&client, &method, path, too_much()).await;
        reply.is(503, "unavailable");
        assert_eq!(reply.headers["retry-after"], "5");
        let message = reply.message();
        let expected = "the queue is full, and no message went from it for 300 s; ";
        assert!(message.starts_with(expected), "{message}");
        let outcome = match method {
            Method::PUT => "repeat the request, which goes on from there",
            _ => "the run was withdrawn: submit it again",
        };
        assert!(message.contains(outcome), "{message}");
        let waited = begin.elapsed();
        assert!(
            waited >= 300 * SECOND && waited < 320 * SECOND,
            "{waited:?}"
        );
    }
    let state = stuck.attach("a").status().await.unwrap().state;
    assert_eq!(state, RunState::Open);
    drop(worker);
}

/// The total is the application's choice. A repeated request goes on where the last one was.
#[tokio::test(start_paused = true)]
async fn a_submission_that_was_given_up_is_completed_by_repeating_it() {
    let record = Arc::new(Record::default());
    let lengths = lengths(small().hooked(record.clone()), 2 * SECOND);
    let options = HttpOptions::new().submission_limit(30 * SECOND);
    let client = Client::new(lengths.router_with(options));
    let _worker = lengths.worker().start();
    let mut requests = 0;
    let mut before = 0;
    loop {
        requests += 1;
        let begin = Instant::now();
        let reply = submit(&client, &Method::PUT, "/runs/a", too_much()).await;
        let after = packets(&record);
        assert!(after > before, "it is where it was");
        before = after;
        if reply.code == 202 {
            break;
        }
        reply.is(503, "unavailable");
        assert_eq!(begin.elapsed(), 30 * SECOND);
        let expected = "the array did not get on the queue within 30 s; repeat the request";
        assert!(reply.message().starts_with(expected), "{}", reply.message());
    }
    assert!(requests > 2, "there was room for all of it");
    let result = soon(lengths.attach("a").result()).await;
    assert_eq!(result.unwrap(), 80_000);
    assert_eq!(packets(&record), 80, "each packet was sent once");
    // Once more, and nothing is sent.
    let reply = submit(&client, &Method::PUT, "/runs/a", too_much()).await;
    reply.is(202, "accepted");
    assert_eq!(packets(&record), 80);
}

/// A client or a proxy whose patience is shorter than the submission repeats the request while the first one goes on.
#[tokio::test(start_paused = true)]
async fn a_request_that_is_repeated_too_early_sends_nothing_twice() {
    let record = Arc::new(Record::default());
    let lengths = lengths(small().hooked(record.clone()), 2 * SECOND);
    let client = Client::new(lengths.router());
    let _worker = lengths.worker().start();
    let mut requests = 0;
    loop {
        requests += 1;
        let reply = submit(&client, &Method::PUT, "/runs/a", too_much());
        // The client closes the connection after a minute without an answer.
        if let Ok(reply) = timeout(60 * SECOND, reply).await {
            reply.is(202, "accepted");
            break;
        }
    }
    assert!(requests > 1, "there was room for all of it");
    let result = soon(lengths.attach("a").result()).await;
    assert_eq!(result.unwrap(), 80_000);
    assert_eq!(packets(&record), 80, "each packet was sent once");
}

/// What is on no queue was not accepted.
#[tokio::test(start_paused = true)]
async fn a_cancelled_run_takes_no_array() {
    let lengths = lengths(small().backend(), 2 * SECOND);
    let client = Client::new(lengths.router());
    let _worker = lengths.worker().start();
    let first = submit(&client, &Method::PUT, "/runs/a", too_much());
    let cancel = async {
        sleep(10 * SECOND).await;
        client.post("/runs/a/cancel").await.is(200, "success");
    };
    let (first, ()) = tokio::join!(first, cancel);
    let again = submit(&client, &Method::PUT, "/runs/a", too_much()).await;
    for reply in [first, again] {
        reply.is(410, "cancelled");
        assert_eq!(reply.message(), "run a was cancelled");
    }
    let other = too_much().replacen('x', "y", 1);
    let reply = submit(&client, &Method::PUT, "/runs/a", other).await;
    reply.is(409, "conflict");
}

/// The part that was sent is compared, and the rest is not there to be compared.
#[tokio::test(start_paused = true)]
async fn a_submission_that_was_given_up_is_not_completed_by_other_items() {
    let lengths = lengths(small().backend(), 2 * SECOND);
    let options = HttpOptions::new().submission_limit(10 * SECOND);
    let client = Client::new(lengths.router_with(options));
    let _worker = lengths.worker().start();
    let reply = submit(&client, &Method::PUT, "/runs/a", too_much()).await;
    reply.is(503, "unavailable");
    let other = too_much().replacen('x', "y", 1);
    let reply = submit(&client, &Method::PUT, "/runs/a", other).await;
    reply.is(409, "conflict");
}

/// Each call is slow, and all together are slower than one may be.
#[tokio::test(start_paused = true)]
async fn a_slow_backend_does_not_cut_a_submission_off_and_a_silent_one_does() {
    for (limit, answer) in [(usize::MAX, 202), (4, 503)] {
        let sent = AtomicU64::new(0);
        let slow = On(move |call: &Call<'_>| match call {
            Call::Send(..) if sent.fetch_add(1, SeqCst) as usize >= limit => {
                Act::Late(1_000_000 * SECOND)
            }
            Call::Send(..) | Call::Begin | Call::Measure | Call::Submitted => {
                Act::Late(29 * SECOND)
            }
            _ => Act::Go,
        });
        let (adder, _) = adder(Store::new().hooked(Arc::new(slow)));
        let client = Client::new(adder.router());
        let body = serde_json::to_string(&vec![1; 100]).unwrap();
        for (method, path) in ways() {
            let begin = Instant::now();
            let reply = submit(&client, &method, path, body.clone()).await;
            assert_eq!(reply.code, answer, "{}", reply.json);
            if answer == 202 {
                assert!(begin.elapsed() > 10 * 29 * SECOND);
                continue;
            }
            let message = reply.message();
            let expected = "the backend did not answer for 30 s; ";
            assert!(message.starts_with(expected), "{message}");
            // `begin`, what it sent, and the silence.
            if method == Method::POST {
                assert_eq!(begin.elapsed(), (29 + 4 * 29 + 30) * SECOND);
            }
        }
    }
}

/// `[1,1,…]` in parts, of which each comes this long after the last.
fn parts(number: usize, each: Duration) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    stream::iter(0..number).then(move |n| async move {
        sleep(each).await;
        let part = match n {
            0 => "[1",
            n if n + 1 == number => ",1]",
            _ => ",1",
        };
        Ok(Bytes::from_static(part.as_bytes()))
    })
}

/// Within the time of a body, which is not that of the submission: the queue may be full for as long as it takes.
#[tokio::test(start_paused = true)]
async fn a_slow_body_is_read_to_its_end_and_its_submission_is_not_cut_off() {
    let lengths = lengths(small().backend(), 500 * SECOND);
    let _worker = lengths.worker().start();
    let client = Client::new(lengths.router());
    for (method, path) in ways() {
        let begin = Instant::now();
        // The text comes in ten parts, one each 29 s.
        let text = too_much();
        let parts: Vec<Bytes> = text
            .as_bytes()
            .chunks(text.len().div_ceil(10))
            .map(Bytes::copy_from_slice)
            .collect();
        let parts = stream::iter(parts).then(|part| async {
            sleep(29 * SECOND).await;
            Ok::<_, std::io::Error>(part)
        });
        let reply = submit(&client, &method, path, Body::from_stream(parts)).await;
        reply.is(202, "accepted");
        assert!(begin.elapsed() > 5_000 * SECOND, "there was room at once");
    }
}

/// A byte now and then keeps a request open for the time of a body, and no longer.
#[tokio::test(start_paused = true)]
async fn a_body_has_one_deadline_however_steadily_it_comes() {
    let store = Store::new();
    let (adder, _) = adder(store.backend());
    for (options, limit) in [
        (HttpOptions::new(), 300),
        (HttpOptions::new().body_time_limit(60 * SECOND), 60),
    ] {
        let client = Client::new(adder.router_with(options));
        for (method, path) in ways() {
            let begin = Instant::now();
            let byte = || Ok::<_, std::io::Error>(Bytes::from_static(b"["));
            let body = stream::repeat_with(byte).then(|byte| async {
                sleep(25 * SECOND).await;
                byte
            });
            let reply = submit(&client, &method, path, Body::from_stream(body)).await;
            reply.is(408, "timeout");
            // The byte that is due at the very end may still have come.
            let bytes = (limit - 1) / 25;
            let message = reply.message();
            let expected = [bytes, limit / 25].map(|bytes| {
                format!("the body took too long: {bytes} bytes came within its limit of {limit} s")
            });
            assert!(expected.iter().any(|text| text == message), "{message}");
            assert_eq!(begin.elapsed(), u32::try_from(limit).unwrap() * SECOND);
        }
    }
    assert_eq!(store.depth(&adder).await, Default::default());
}

#[tokio::test(start_paused = true)]
async fn a_body_without_progress_is_given_up() {
    let store = Store::new();
    let (adder, _) = adder(store.backend());
    let client = Client::new(adder.router_with(HttpOptions::new().time_limit(7 * SECOND)));
    let never = || stream::pending::<Result<Bytes, std::io::Error>>();
    let empty = || {
        stream::repeat_with(|| Ok(Bytes::new())).then(|part| async {
            sleep(SECOND).await;
            part
        })
    };
    for (method, path) in ways() {
        for body in [
            Body::from_stream(parts(2, SECOND).take(1).chain(never())),
            // Parts without a byte are no progress.
            Body::from_stream(parts(2, SECOND).take(1).chain(empty())),
        ] {
            let begin = Instant::now();
            let reply = submit(&client, &method, path, body).await;
            reply.is(408, "timeout");
            assert_eq!(reply.message(), "the body stopped after 2 bytes, for 7 s");
            assert_eq!(begin.elapsed(), 8 * SECOND);
        }
    }
    // The application's total counts from the first byte on.
    let options = HttpOptions::new().submission_limit(20 * SECOND);
    let client = Client::new(adder.router_with(options));
    for (method, path) in ways() {
        let begin = Instant::now();
        let body = Body::from_stream(parts(100, 3 * SECOND));
        let reply = submit(&client, &method, path, body).await;
        reply.is(408, "timeout");
        let expected =
            "the body took too long: 12 bytes came within the time limit of a submission";
        assert_eq!(reply.message(), expected);
        assert_eq!(begin.elapsed(), 20 * SECOND);
    }
    assert_eq!(store.depth(&adder).await, Default::default());
}
