//! Runs and workers under control: cancel, wait, status, shutdown, limits, back-pressure, and what
//! `deploy` refuses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../common/mod.rs"]
mod common;

mod attach;
mod batching;
mod cancel;
mod deploy;
mod limits;
mod pressure;
mod shutdown;
mod stages;
mod status;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use catchment::pipeline::One;
use catchment::{Pipeline, Stage};
use tokio::time::sleep;

use common::*;

const SECOND: Duration = Duration::from_secs(1);

const MINUTE: Duration = Duration::from_secs(60);

type Sum = Pipeline<u64, u64, One>;

/// Adds up items that take this long each, and counts those that were begun.
fn slow(takes: Duration, stage: Stage) -> (Sum, Arc<AtomicUsize>) {
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let pipeline = Pipeline::new()
        .then(move |n: u64| {
            count.fetch_add(1, SeqCst);
            async move {
                sleep(takes).await;
                ok(n).await
            }
        })
        .with(stage)
        .reduce(|| 0, |a, b| a + b);
    (pipeline, begun)
}

fn quick() -> Sum {
    Pipeline::new().then(ok::<u64>).reduce(|| 0, |a, b| a + b)
}

/// The number of calls that run now, and their maximum.
#[derive(Clone, Default)]
struct Gauge(Arc<(AtomicUsize, AtomicUsize)>);

impl Gauge {
    fn enter(&self) -> Self {
        let now = self.0.0.fetch_add(1, SeqCst) + 1;
        self.0.1.fetch_max(now, SeqCst);
        self.clone()
    }

    fn leave(&self) {
        self.0.0.fetch_sub(1, SeqCst);
    }

    fn most(&self) -> usize {
        self.0.1.load(SeqCst)
    }

    /// On a thread: long enough to overlap with others.
    fn linger(&self) {
        self.enter();
        for _ in 0..200 {
            std::thread::yield_now();
        }
        self.leave();
    }
}
