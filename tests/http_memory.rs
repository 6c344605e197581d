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
use futures::stream;
use serde_json::Value;
use tower::ServiceExt;

use common::*;
use counting::{LIVE, PEAK};

const ITEMS: usize = 1_000_000;

#[tokio::test]
async fn a_million_items_take_a_few_times_their_text() {
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
