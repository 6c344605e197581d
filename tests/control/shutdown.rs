//! Workers that come to an end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use catchment::queue::Depth;
use catchment::testing::faults::{Crash, When};
use catchment::{Backend, Stage};
use tokio::time::{Instant, sleep};

use super::*;
use crate::common::*;

#[tokio::test(start_paused = true)]
async fn shutting_down_under_load_finishes_what_was_begun_and_hands_back_the_rest_at_once() {
    let store = Store::new();
    let (pipeline, begun) = slow(10 * SECOND, Stage::new().concurrency(8));
    let deployment = pipeline.deploy("shut", store.backend()).unwrap();
    let run = deployment.submit(0..40).await.unwrap();
    let begin = Instant::now();
    let mut handed_back = 0;
    for _ in 0..2 {
        let worker = deployment.worker().start();
        sleep(SECOND).await;
        let before = store.depth(&deployment).await;
        assert!(before.in_flight >= 13, "{before:?}");
        let shutdown = tokio::spawn(worker.shutdown());
        sleep(SECOND).await;
        // Messages that had only been received are ready for others; the eight that run are not.
        let depth = store.depth(&deployment).await;
        assert_eq!(depth.in_flight, 8, "{depth:?}");
        handed_back += before.in_flight - 8;
        soon(shutdown).await.unwrap();
        assert_eq!(store.depth(&deployment).await.in_flight, 0);
    }
    assert!(handed_back >= 10);
    assert_eq!(begin.elapsed().as_secs(), 20);
    assert_eq!(run.status().await.unwrap().items_done, 16);
    let worker = deployment.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), (0..40).sum::<u64>());
    assert_eq!(
        begin.elapsed().as_secs(),
        50,
        "no visibility timeout was waited for"
    );
    assert_eq!(begun.load(SeqCst), 40, "each item was begun once");
    worker.shutdown().await;
    assert_eq!(store.depth(&deployment).await, Depth::default());
}

#[tokio::test(start_paused = true)]
async fn work_that_outlasts_the_grace_period_is_handed_back_at_once() {
    let store = Store::new();
    let (pipeline, begun) = slow(100 * SECOND, Stage::new().concurrency(8));
    let deployment = pipeline.deploy("grace", store.backend()).unwrap();
    let run = deployment.submit(0..8).await.unwrap();
    let begin = Instant::now();
    let worker = deployment.worker().grace_period(5 * SECOND).start();
    sleep(SECOND).await;
    worker.shutdown().await;
    assert_eq!(begin.elapsed().as_secs(), 6);
    let depth = store.depth(&deployment).await;
    assert_eq!(depth, Depth::new().ready(8));
    // However long it may take.
    let worker = deployment.worker().grace_period(Duration::MAX).start();
    sleep(SECOND).await;
    soon(worker.shutdown()).await;
    assert_eq!(begin.elapsed().as_secs(), 106);
    assert_eq!(begun.load(SeqCst), 16);
    assert_eq!(run.status().await.unwrap().items_done, 8);
    let worker = deployment.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 28);
    worker.shutdown().await;
    assert_eq!(store.depth(&deployment).await, Depth::default());
}

/// Requeueing a message that was not begun is no attempt at it: a fleet may be restarted any number
/// of times.
#[tokio::test(start_paused = true)]
async fn workers_that_come_and_go_do_not_use_up_attempts() {
    let store = Store::new();
    let (pipeline, _) = slow(10 * SECOND, Stage::new().concurrency(1).attempts(2));
    let deployment = pipeline.deploy("go", store.backend()).unwrap();
    let run = deployment.submit(0..30).await.unwrap();
    for _ in 0..10 {
        let worker = deployment.worker().prefetch(30).start();
        sleep(SECOND).await;
        soon(worker.shutdown()).await;
    }
    let worker = deployment.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), (0..30).sum::<u64>());
    assert_eq!(store.depth(&deployment).await.dead, 0);
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn shutting_down_ends_even_when_the_service_is_away() {
    let store = Store::new();
    let begin = Instant::now();
    let hook = On(move |_: &Call<'_>| match begin.elapsed() > SECOND {
        true => Act::Fail(outage()),
        false => Act::Go,
    });
    let (pipeline, _) = slow(100 * SECOND, Stage::new().concurrency(2));
    let deployment = pipeline
        .deploy("away", store.hooked(Arc::new(hook)))
        .unwrap();
    let healthy = pipeline.deploy("away", store.backend()).unwrap();
    let run = healthy.submit(0..10).await.unwrap();
    let worker = deployment.worker().grace_period(5 * SECOND).start();
    sleep(2 * SECOND).await;
    soon(worker.shutdown()).await;
    assert!(begin.elapsed() < 30 * SECOND, "{:?}", begin.elapsed());
    let worker = healthy.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 45);
    drop(worker);
}

/// ECS and Kubernetes kill a process 30 s after they have asked it to end. By default everything is handed back by then,
/// however slow the service is.
#[tokio::test(start_paused = true)]
async fn a_worker_has_handed_back_everything_before_a_supervisor_kills_it() {
    for late in [0, 1, 60] {
        let store = Store::new();
        let shut = Arc::new(AtomicBool::new(false));
        let is_shut = Arc::clone(&shut);
        let hook = On(move |_: &Call<'_>| match is_shut.load(SeqCst) {
            true => Act::Late(late * SECOND),
            false => Act::Go,
        });
        let (pipeline, _) = slow(10_000 * SECOND, Stage::new().concurrency(8));
        let deployment = pipeline
            .deploy("supervised", store.hooked(Arc::new(hook)))
            .unwrap();
        deployment.submit(0..40).await.unwrap();
        let worker = deployment.worker().start();
        sleep(SECOND).await;
        shut.store(true, SeqCst);
        let begin = Instant::now();
        soon(worker.shutdown()).await;
        assert!(begin.elapsed() < 30 * SECOND, "{:?}", begin.elapsed());
        if late < 2 {
            assert_eq!(store.depth(&deployment).await.in_flight, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_shuts_down_at_once() {
    let deployment = quick().deploy("idle", Backend::memory()).unwrap();
    for wait in [0, 1, 100] {
        let worker = deployment.worker().start();
        sleep(wait * SECOND).await;
        let begin = Instant::now();
        worker.shutdown().await;
        assert!(begin.elapsed() < SECOND);
    }
    // As the whole of a worker process.
    let run = deployment.submit(0..10).await.unwrap();
    let stop = async {
        assert_eq!(run.result().await.unwrap(), 45);
    };
    soon(deployment.worker().run_until(stop)).await.unwrap();
}

/// Shutting down breaks off at any of its calls, and nothing is lost.
#[tokio::test(start_paused = true)]
async fn shutting_down_that_broke_off_loses_nothing() {
    let mut schedules = 0;
    for when in [When::Before, When::After] {
        for at in 1.. {
            let store = Store::new();
            let (pipeline, _) = slow(10 * SECOND, Stage::new().concurrency(2).attempts(2));
            let crash = Crash::new(Some(at), when);
            let doomed = pipeline
                .deploy("break", store.crashing(&crash, at))
                .unwrap();
            let healthy = pipeline.deploy("break", store.backend()).unwrap();
            let run = healthy.submit(0..12).await.unwrap();
            let worker = doomed.worker().grace_period(SECOND).start();
            let shutdown = async {
                sleep(SECOND).await;
                worker.shutdown().await;
            };
            let died = tokio::select! {
                () = crash.crashed() => true,
                () = shutdown => false,
            };
            let worker = healthy.worker().start();
            assert_eq!(
                soon(run.result()).await.unwrap(),
                66,
                "dies {when:?} call {at}"
            );
            sleep(MINUTE).await;
            assert_eq!(store.depth(&healthy).await, Depth::default());
            drop(worker);
            schedules += 1;
            if !died {
                break;
            }
        }
    }
    println!("{schedules} schedules");
    assert!(schedules > 10);
}
