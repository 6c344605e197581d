//! A run is settled once nothing of it is under way any more, and not before.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../common/mod.rs"]
mod common;

mod cost;
mod random;
mod redrive;
mod stages;
mod submissions;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use catchment::pipeline::One;
use catchment::{Error, Pipeline, Run, RunState, Stage, Status, permanent};
use tokio::time::{Instant, sleep, timeout};

use crate::common::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

type Sum = Pipeline<u64, u64, One>;

/// A sum in groups of three. Item n takes n minutes, and those that `fails` selects fail then, while the switch is on.
fn slow(fails: fn(u64) -> bool) -> (Sum, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&broken);
    let pipeline = Pipeline::new()
        .then(move |n: u64| {
            let switch = Arc::clone(&switch);
            async move {
                sleep(MINUTE * n as u32).await;
                match fails(n) && switch.load(SeqCst) {
                    true => Err(permanent("broken")),
                    false => Ok(n),
                }
            }
        })
        .with(
            Stage::named("slow")
                .concurrency(1_000)
                .packet_size(1)
                .timeout(24 * HOUR),
        )
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("sum").fan_in(3));
    (pipeline, broken)
}

/// Whether the run is still not settled after half an hour. In memory, dead letters are kept for an hour.
async fn goes_on<R>(run: &Run<R>) -> bool {
    !run.status().await.unwrap().settled && timeout(30 * MINUTE, run.settled()).await.is_err()
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_done_or_cancelled_is_settled_at_once() {
    let (pipeline, _) = slow(|_| false);
    let deployment = pipeline.deploy("settled", Store::new().backend()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(0..5).await.unwrap();
    assert!(!run.status().await.unwrap().settled);
    let status = soon(run.settled()).await.unwrap();
    assert_eq!((status.state, status.settled), (RunState::Done, true));
    let now = Instant::now();
    assert_eq!(run.settled().await.unwrap(), status);
    assert_eq!(run.status().await.unwrap(), status);

    let other = deployment.submit(0..5).await.unwrap();
    assert!(other.cancel().await.unwrap());
    let status = other.settled().await.unwrap();
    assert_eq!((status.state, status.settled), (RunState::Cancelled, true));
    assert_eq!(now.elapsed(), Duration::ZERO);
    let unknown = deployment.attach("unknown").settled().await;
    assert!(matches!(unknown, Err(Error::NoSuchRun { .. })));
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_is_settled_when_its_other_packets_are_done_or_dead() {
    let (pipeline, _) = slow(|n| n == 1 || n == 7);
    let store = Store::new();
    let deployment = pipeline.deploy("settled", store.backend()).unwrap();
    let worker = deployment.worker().start();
    let begin = Instant::now();
    let run = deployment.submit(0..10).await.unwrap();
    let early = soon(run.wait(HOUR)).await.unwrap();
    assert_eq!((early.state, early.settled), (RunState::Failed, false));
    assert_eq!((early.items_failed, early.messages_failed), (1, 1));
    assert_eq!(begin.elapsed().as_secs() / 60, 1);

    let status: Status = soon(run.settled()).await.unwrap();
    let after = begin.elapsed();
    assert!(after >= 9 * MINUTE && after < 10 * MINUTE, "{after:?}");
    assert_eq!((status.state, status.settled), (RunState::Failed, true));
    assert_eq!((status.items_done, status.items_skipped), (8, 0));
    assert_eq!((status.items_failed, status.messages_failed), (2, 2));
    let depth = store.depth(&deployment).await;
    assert_eq!((depth.ready, depth.delayed, depth.dead), (0, 0, 2));
    assert_eq!(run.status().await.unwrap(), status);
    drop(worker);
}

/// Its future may be dropped at any time, and another one begins anew.
#[tokio::test(start_paused = true)]
async fn waiting_for_it_changes_nothing() {
    let (pipeline, _) = slow(|n| n == 1);
    let deployment = pipeline.deploy("settled", Store::new().backend()).unwrap();
    let worker = deployment.worker().start();
    let begin = Instant::now();
    let run = deployment.submit(0..6).await.unwrap();
    while timeout(7 * SECOND, run.settled()).await.is_err() {
        assert!(begin.elapsed() < HOUR);
    }
    assert!(begin.elapsed() >= 5 * MINUTE);
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn an_outage_does_not_end_the_wait() {
    let (pipeline, _) = slow(|n| n == 1);
    let store = Store::new();
    let deployment = pipeline.deploy("settled", store.backend()).unwrap();
    let worker = deployment.worker().start();
    let id = deployment.submit(0..4).await.unwrap().id().clone();
    let begin = Instant::now();
    let away = On(move |call: &Call<'_>| match call {
        Call::Status(_) | Call::Wait | Call::Arrived | Call::Failures if begin.elapsed() < HOUR => {
            Act::Fail(outage())
        }
        _ => Act::Go,
    });
    let (pipeline, _) = slow(|_| false);
    let looks = pipeline
        .deploy("settled", store.hooked(Arc::new(away)))
        .unwrap();
    let status = soon(looks.attach(id).settled()).await.unwrap();
    assert!(status.settled && begin.elapsed() >= HOUR);
    drop(worker);
}
