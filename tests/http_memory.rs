//! The memory of a submission over HTTP is bounded by its body, whatever its items take in memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;
#[path = "common/counting.rs"]
mod counting;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use bytes::Bytes;
use catchment::Pipeline;
use catchment::queue::{Outgoing, PAGE_BYTES};
use futures::future::join_all;
use futures::{StreamExt, stream};
use serde_json::Value;
use tower::ServiceExt;

use common::*;
use counting::{LIVE, PEAK};

const ITEMS: usize = 1_000_000;

/// The counts are the process's.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Ten thousand dead letters of 11 kB, 110 MB in all.
async fn many_dead_letters(store: &Store) {
    let queue = store.queue("count--map-0").await;
    let second = std::time::Duration::from_secs(1);
    for _ in 0..10 {
        let letter = Outgoing::new(vec![b'x'; 11_000]);
        queue.send(vec![letter; 1_000]).await.unwrap();
        for delivery in queue.receive(1_000, second).await.unwrap() {
            queue.bury(delivery, "made up for a test").await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn lists_of_dead_letters_take_a_bounded_memory_however_many_ask() {
    let _alone = ALONE.lock().await;
    let store = Store::new();
    let router = Pipeline::new().then(ok::<Value>).count();
    let router = router.deploy("count", store.backend()).unwrap().router();
    many_dead_letters(&store).await;
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let ask = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap()
    };
    let refused = ask("/dead-letters?limit=10000&bodies=true").await;
    assert_eq!(refused.status(), 400);

    // Six clients that read what they asked for.
    let reads = (0..6).map(|_| async {
        let response = ask("/dead-letters?limit=1000&bodies=true").await;
        assert_eq!(response.status(), 200);
        let length: usize = response.headers()["content-length"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        let mut frames = response.into_body().into_data_stream();
        let mut bytes = 0;
        while let Some(frame) = frames.next().await {
            bytes += frame.unwrap().len();
        }
        assert_eq!(bytes, length);
        bytes
    });
    let bytes = join_all(reads).await;
    assert!(
        bytes.iter().all(|bytes| *bytes < 2 * PAGE_BYTES),
        "{bytes:?}"
    );
    let peak = PEAK.load(Relaxed) - before;
    println!("six lists of {} bytes took {peak} at most", bytes[0]);
    assert!(peak < 64 * 1024 * 1024, "{peak} bytes");

    // And forty that do not: those without a place are told so.
    PEAK.store(LIVE.load(Relaxed), Relaxed);
    let unread = join_all((0..40).map(|_| ask("/dead-letters?limit=1000&bodies=true"))).await;
    let answered = unread.iter().filter(|one| one.status() == 200).count();
    let refused = unread.iter().filter(|one| one.status() == 503).count();
    assert_eq!((answered, refused), (4, 36));
    let peak = PEAK.load(Relaxed) - before;
    println!("forty that nobody reads took {peak} at most");
    assert!(peak < 64 * 1024 * 1024, "{peak} bytes");
    // Small ones need no place for long, and the places are free again in time.
    tokio::time::sleep(std::time::Duration::from_secs(301)).await;
    assert_eq!(ask("/dead-letters?limit=1").await.status(), 200);
    for response in unread.into_iter().filter(|one| one.status() == 200) {
        let read = to_bytes(response.into_body(), usize::MAX).await;
        assert!(read.is_err(), "it was complete");
    }
}

#[tokio::test]
async fn a_million_items_take_a_few_times_their_text() {
    let _alone = ALONE.lock().await;
    // Messages do not pile up: what is measured is the submission.
    let swallow = On(|call: &Call<'_>| match call {
        Call::Send(..) => Act::Swallow,
        _ => Act::Go,
    });
    // In memory each item has sixteen times its two bytes here.
    let pipeline = Pipeline::new().then(ok::<Value>).count();
    let backend = Store::new().hooked(Arc::new(swallow));
    let router = pipeline.deploy("count", backend).unwrap().router();
    let length = 2 * ITEMS + 1;
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let parts = (0..ITEMS / 1_000).map(|part| {
        let text = match part {
            0 => format!("[1{}", ",1".repeat(999)),
            _ => ",1".repeat(1_000),
        };
        Ok::<_, std::io::Error>(Bytes::from(text))
    });
    let end = std::iter::once(Ok(Bytes::from_static(b"]")));
    let request = Request::put("/runs/a")
        .header("content-type", "application/json")
        .body(Body::from_stream(stream::iter(parts.chain(end))))
        .unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 202);
    let peak = PEAK.load(Relaxed) - before;
    assert!(peak < 4 * length, "{peak} bytes for a body of {length}");

    let request = Request::get("/runs/a").body(Body::empty()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let status: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(status["data"]["items"], ITEMS);
    println!("a body of {length} bytes took {peak} at most");
}
