//! Producers that are faster than consumers.

use std::time::Duration;

use catchment::backends::memory::MemoryQueues;
use catchment::{Pipeline, RunState, Stage};
use futures::stream;
use tokio::time::sleep;

use super::*;
use crate::common::*;

#[tokio::test(start_paused = true)]
async fn a_fast_producer_waits_for_slow_work() {
    const CAPACITY: usize = 50;
    for slow_stage in [0, 1, 2] {
        for streamed in [false, true] {
            let what = format!("stage {slow_stage} is slow, streamed: {streamed}");
            let live = Gauge::default();
            let done = live.clone();
            let pace = move |stage| {
                let done = done.clone();
                move |n: u64| {
                    let done = done.clone();
                    async move {
                        if stage == slow_stage {
                            sleep(Duration::from_millis(10)).await;
                        }
                        if stage == 2 {
                            done.leave();
                        }
                        ok(n).await
                    }
                }
            };
            let four = || Stage::new().concurrency(4);
            let pipeline = Pipeline::new()
                .then(pace(0))
                .with(four().packet_size(1))
                .then(pace(1))
                .with(four())
                .then(pace(2))
                .with(four())
                .reduce(|| 0, |a, b| a + b);
            let queues = MemoryQueues::with_capacity(CAPACITY, usize::MAX);
            let store = Store::with_queues(queues);
            let deployment = pipeline.deploy("press", store.backend()).unwrap();
            let worker = deployment.worker().start();
            let pulled = live.clone();
            let items = (0..3_000).inspect(move |_| drop(pulled.enter()));
            let run = match streamed {
                false => soon(deployment.submit(items)).await.unwrap(),
                true => soon(deployment.submit_stream(stream::iter(items)))
                    .await
                    .unwrap(),
            };
            assert_eq!(
                soon(run.result()).await.unwrap(),
                (0..3_000).sum::<u64>(),
                "{what}"
            );
            // Each queue may hold its capacity, and beyond it a batch or what a worker holds.
            let bound = (slow_stage + 1) * (CAPACITY + 30);
            let most = live.most();
            assert!(most <= bound, "{what}: {most} items between input and end");
            assert!(
                most >= CAPACITY,
                "{what}: {most} items between input and end"
            );
            drop(worker);
        }
    }
}

/// A CPU-bound stage works on many packets together, but stops in time if what it makes of them is large or too much.
#[tokio::test(start_paused = true)]
async fn a_fast_cpu_bound_stage_waits_for_a_slow_one() {
    const CAPACITY: usize = 50;
    const LARGE: usize = 32 * 1024;
    for (what, size, messages, bytes) in [
        ("many", 1, CAPACITY, usize::MAX),
        ("large", LARGE, usize::MAX, CAPACITY * LARGE),
    ] {
        let live = Gauge::default();
        let (made, used) = (live.clone(), live.clone());
        let pipeline = Pipeline::new()
            .map(move |n: usize| {
                drop(made.enter());
                "x".repeat(size + n % 2)
            })
            .with(Stage::named("fast").packet_size(1).concurrency(2))
            .then(move |text: String| {
                let used = used.clone();
                async move {
                    sleep(Duration::from_millis(10)).await;
                    used.leave();
                    ok(text.len()).await
                }
            })
            .with(Stage::named("slow").concurrency(4))
            .reduce(|| 0, |a, b| a + b);
        let queues = MemoryQueues::with_capacity(messages, bytes);
        let store = Store::with_queues(queues);
        let deployment = pipeline.deploy("press", store.backend()).unwrap();
        let worker = deployment.worker().start();
        let run = soon(deployment.submit(0..600)).await.unwrap();
        let sum = soon(run.result()).await.unwrap();
        assert_eq!(sum, 600 * size + 300, "{what}");
        // The slow stage's queue may hold its capacity, and beyond it what was begun while it had room.
        let most = live.most();
        assert!(
            (CAPACITY..=CAPACITY + 30).contains(&most),
            "{what}: {most} items between the stages"
        );
        drop(worker);
    }
}

#[tokio::test(start_paused = true)]
async fn submitting_ends_although_nobody_works_yet() {
    let store = Store::new();
    let deployment = quick().deploy("alone", store.backend()).unwrap();
    let run = soon(deployment.submit(0..1_000_000)).await.unwrap();
    assert_eq!(store.depth(&deployment).await.ready, 1_000);
    assert_eq!(run.status().await.unwrap().state, RunState::Running);
    // Many more messages than a queue has room for.
    let single = quick().deploy("single", store.backend()).unwrap();
    let stream = stream::iter(0..1_000_000);
    let run = soon(single.submit_stream(stream)).await.unwrap();
    let depth = store.depth(&single).await;
    assert!(depth.ready > 1_024, "{depth:?}");
    let worker = single.worker().start();
    assert_eq!(
        soon(run.result()).await.unwrap(),
        (0..1_000_000).sum::<u64>()
    );
    drop(worker);
}

/// Packets of which one fills the queue must not be worked on one after the other.
#[tokio::test(start_paused = true)]
async fn large_items_are_worked_on_side_by_side() {
    const LARGE: usize = 3 * 1024 * 1024;
    let meeting = |size| {
        let together = Arc::new(tokio::sync::Barrier::new(size));
        Pipeline::new()
            .then(move |text: String| {
                let together = Arc::clone(&together);
                async move {
                    let alone = tokio::time::timeout(MINUTE, together.wait()).await;
                    alone.map(|_| text.len()).map_err(|_| "nobody came")
                }
            })
            .with(Stage::new().packet_size(1).attempts(1).concurrency(size))
            .reduce(|| 0, |a, b| a + b)
    };
    // As many as the stage works on at once, whatever the number of cores.
    let count = 2 * std::thread::available_parallelism().map_or(1, usize::from) + 4;
    let items = || (0..count).map(|_| " ".repeat(LARGE));
    let sum = soon(meeting(count).run(items())).await.unwrap();
    assert_eq!(sum, count * LARGE, "inside the process");
    let pipeline = meeting(2);
    let deployment = pipeline
        .deploy("large", catchment::Backend::memory())
        .unwrap();
    let worker = deployment.worker().start();
    let run = soon(deployment.submit(items())).await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), count * LARGE, "deployed");
    drop(worker);
}

/// Slow input does not make the packets before it wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_slow_iterator_gave_is_worked_on_meanwhile() {
    let (done, arrived) = std::sync::mpsc::channel();
    let pipeline = Pipeline::new()
        .map(move |n: u64| {
            // The receiver has gone after it gave its last item.
            let _ = done.send(n);
            n
        })
        .with(Stage::new().packet_size(1))
        .reduce(|| 0, |a, b| a + b);
    let items = (0..40).inspect(move |n| {
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        if *n >= 8 {
            let next = arrived.recv_timeout(MINUTE);
            assert!(next.is_ok(), "nothing was done by the time of item {n}");
        }
    });
    let sum = pipeline.run(items).await.unwrap();
    assert_eq!(sum, (0..40).sum::<u64>());
}
