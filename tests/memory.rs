//! Memory is bounded by what is in flight, never by the input, and finished work is dropped.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "common/counting.rs"]
mod counting;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use catchment::backends::memory::{MemoryQueues, MemoryScratchpad};
use catchment::queue::{Depth, QueueOptions, Queues};
use catchment::testing::faults::{Chaos, Rates};
use catchment::{Backend, Data, Pipeline, Stage};
use futures::future::join_all;
use futures::stream;
use serde::{Deserialize, Serialize};

use counting::{ALLOCATIONS, LIVE, PEAK};

const MIB: usize = 1024 * 1024;

/// The whole process is measured, so only one test runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs it on a clock that is paused, and returns the most that was allocated meanwhile, beyond
/// what was before.
fn peak_of(work: impl Future<Output = ()>) -> usize {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    runtime.block_on(work);
    PEAK.load(Relaxed).saturating_sub(before)
}

fn assert_flat(what: &str, most: usize, work: impl Future<Output = ()>) {
    let peak = peak_of(work);
    println!("{what}: {:.1} MiB at most", peak as f64 / MIB as f64);
    assert!(
        peak < most,
        "{what}: {peak} bytes at once, and {most} are allowed"
    );
}

/// `alive` was measured after each of several equal stretches of work. A leak adds to every stretch.
/// A collection that doubles its capacity adds to one stretch only, and which one depends on the
/// threads. So the stretch that added least tells the two apart.
fn assert_no_leak(alive: &[usize], most: usize) {
    let grown = alive.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
    let least = grown.min().expect("two measurements");
    assert!(
        least < most,
        "at least {least} bytes more after each stretch: {alive:?}"
    );
}

#[test]
fn a_million_items_need_no_more_memory_than_what_is_in_flight() {
    const ITEMS: u64 = 1_000_000;
    let sum = (0..ITEMS).sum::<u64>();
    let pipeline = Pipeline::new().map(|n: u64| n).reduce(|| 0, |a, b| a + b);
    assert_flat("a million as a list", 16 * MIB, async {
        assert_eq!(pipeline.run(0..ITEMS).await.unwrap(), sum);
    });
    assert_flat("a million as a stream", 16 * MIB, async {
        assert_eq!(
            pipeline.run_stream(stream::iter(0..ITEMS)).await.unwrap(),
            sum
        );
    });
}

/// The tree of twenty thousand packets: groups that are done take no room.
#[test]
fn many_packets_need_no_more_memory_than_few() {
    const ITEMS: u64 = 20_000;
    let pipeline = Pipeline::new()
        .then(|n: u64| async move { Ok::<_, Infallible>(n) })
        .with(Stage::new().packet_size(1))
        .reduce(|| 0, |a, b| a + b);
    assert_flat("twenty thousand packets", 4 * MIB, async {
        let sum = pipeline.run(0..ITEMS).await.unwrap();
        assert_eq!(sum, (0..ITEMS).sum::<u64>());
    });
}

/// The packets of a bundle share what each would need by itself.
#[test]
fn a_packet_of_one_item_takes_about_one_allocation() {
    const ITEMS: u64 = 100_000;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pipeline = Pipeline::new()
        .map(|n: u64| n)
        .with(Stage::new().packet_size(1))
        .reduce(|| 0, |a, b| a + b);
    let before = ALLOCATIONS.load(Relaxed);
    let sum = runtime.block_on(pipeline.run(0..ITEMS)).unwrap();
    let allocations = (ALLOCATIONS.load(Relaxed) - before) as u64;
    assert_eq!(sum, (0..ITEMS).sum::<u64>());
    println!("{allocations} allocations for {ITEMS} packets");
    assert!(allocations < 2 * ITEMS, "{allocations} allocations");
}

/// 64 MiB in items of 64 KiB: what is in flight is counted in bytes as well.
#[test]
fn large_items_need_no_more_memory_than_what_is_in_flight() {
    const ITEMS: u64 = 1_000;
    let pipeline = Pipeline::new()
        .then(|text: String| async move { Ok::<_, Infallible>(text) })
        .with(Stage::new())
        .then(|text: String| async move { Ok::<_, Infallible>(text.len() as u64) })
        .with(Stage::new().concurrency(4))
        .reduce(|| 0, |a, b| a + b);
    assert_flat("large items", 16 * MIB, async {
        let items = (0..ITEMS).map(|_| "x".repeat(64 * 1024));
        assert_eq!(pipeline.run(items).await.unwrap(), ITEMS * 64 * 1024);
    });
}

/// A type of the application's own, whose memory only its `Serialize` shows.
#[derive(Clone, Serialize, Deserialize)]
struct Text(String);

#[test]
fn values_of_own_types_need_no_more_memory_than_what_is_in_flight() {
    assert_flat("400 MB of own values", 24 * MIB, async {
        let lengths = Pipeline::new()
            .map(|Text(text)| text.len() as u64)
            .with(Stage::new().packet_size(10))
            .reduce(|| 0, |a, b| a + b);
        let texts = (0..4_000).map(|_| Text("r".repeat(100_000)));
        assert_eq!(lengths.run(texts).await.unwrap(), 400_000_000);
    });
}

/// Items of 10 KB, whatever they own it by, through a stage and through two with a queue between them.
fn assert_streams<T: Data>(
    what: &str,
    items: u64,
    item: impl Fn(u64) -> T,
    bytes: fn(&T) -> usize,
) {
    let is_right = |sum: u64| assert_eq!(sum, items * 10_000, "{what}");
    assert_flat(what, 24 * MIB, async {
        let pipeline = Pipeline::new()
            .map(move |value: T| bytes(&value) as u64)
            .reduce(|| 0, |a, b| a + b);
        is_right(pipeline.run((0..items).map(&item)).await.unwrap());
    });
    assert_flat(&format!("{what}, two stages"), 24 * MIB, async {
        let pipeline = Pipeline::new()
            .map(|value: T| value)
            .with(Stage::named("first"))
            .map(move |value: T| bytes(&value) as u64)
            .with(Stage::named("second"))
            .reduce(|| 0, |a, b| a + b);
        is_right(pipeline.run((0..items).map(&item)).await.unwrap());
    });
}

#[test]
fn a_gigabyte_of_structs_is_never_all_in_flight() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Record {
        place: (f64, f64),
        text: Option<String>,
    }
    let record = |n| Record {
        place: (n as f64, f64::NAN),
        text: Some("r".repeat(10_000)),
    };
    assert_streams("a gigabyte of structs", 100_000, record, |record| {
        record.text.as_ref().map_or(0, String::len)
    });
}

#[test]
fn maps_need_no_more_memory_than_what_is_in_flight() {
    let map = |_| HashMap::from(["a", "b", "c", "d"].map(|key| (key.into(), "r".repeat(2_500))));
    assert_streams(
        "200 MB of maps",
        20_000,
        map,
        |map: &HashMap<String, String>| map.values().map(String::len).sum(),
    );
}

#[test]
fn lists_of_options_need_no_more_memory_than_what_is_in_flight() {
    let list = |n| {
        let text = |part| (part != n % 5).then(|| "r".repeat(2_500).into_boxed_str());
        (0..5).map(text).collect()
    };
    assert_streams(
        "200 MB of lists",
        20_000,
        list,
        |list: &Vec<Option<Box<str>>>| list.iter().flatten().map(|text| text.len()).sum(),
    );
}

/// Most items are empty, and one of a hundred has all the memory of the hundred.
#[test]
fn a_few_large_items_among_many_need_no_more_memory_than_what_is_in_flight() {
    let rare = |n| Text("r".repeat(1_000_000 * usize::from(n % 100 == 7)));
    assert_streams("200 MB in a few items", 20_000, rare, |text| text.0.len());
}

/// Nothing is encoded in a run inside the process, but it counts.
#[test]
fn values_that_are_kept_as_they_are_need_no_more_memory_than_what_is_in_flight() {
    assert_flat("4 GB of kept strings", 24 * MIB, async {
        let lengths = Pipeline::new()
            .map(|text: String| text.len() as u64)
            .with(Stage::new().packet_size(10))
            .reduce(|| 0, |a, b| a + b);
        let texts = (0..40_000).map(|_| "r".repeat(100_000));
        assert_eq!(lengths.run(texts).await.unwrap(), 4_000_000_000);
    });
}

#[test]
fn runs_that_are_done_and_taken_leave_nothing_behind() {
    let pipeline = Pipeline::new()
        .then(|n: u64| async move { Ok::<_, Infallible>(n) })
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::new().fan_in(4));
    let peak = peak_of(async {
        let deployment = pipeline.deploy("many", Backend::memory()).unwrap();
        let worker = deployment.worker().start();
        let mut live = Vec::new();
        for round in 0..6 {
            for key in 0..150u64 {
                let id = format!("run-{round}-{key}");
                let run = deployment.submit_as(id, 0..20).await.unwrap();
                assert_eq!(run.result().await.unwrap(), 190);
            }
            // Results that were read are kept for a minute, and removed when the next run begins.
            tokio::time::sleep(Duration::from_secs(2 * 60 * 60)).await;
            let run = deployment.submit(0..20).await.unwrap();
            assert_eq!(run.result().await.unwrap(), 190);
            live.push(LIVE.load(Relaxed));
        }
        println!("bytes alive after each 150 runs: {live:?}");
        // A worker remembers a thousand runs by their ids: less than a run that is kept.
        assert_no_leak(&live, 150 * 300);
        drop(worker);
    });
    assert!(peak < 16 * MIB, "{peak}");
}

/// An hour in which a run begins every eighteen seconds and takes some minutes, so that many
/// overlap, on a backend where everything goes wrong; and another hour. After the second hour the
/// same memory is in use as after the first.
#[test]
fn an_hour_of_overlapping_runs_leaves_nothing_behind() {
    const RUNS: u64 = 200;
    let peak = peak_of(async {
        fastrand::seed(11);
        let queues = Arc::new(MemoryQueues::new());
        let scratchpad = Arc::new(MemoryScratchpad::new());
        let chaos = Chaos::new(11, Rates::default());
        let backend = Backend::new(
            chaos.queues(queues.clone()),
            chaos.scratchpad(scratchpad.clone()),
        );
        let deployment = Pipeline::new()
            .then(|n: u64| async move {
                tokio::time::sleep(Duration::from_secs(20)).await;
                Ok::<_, Infallible>(n)
            })
            .with(Stage::named("slow").attempts(1_000).concurrency(40))
            .reduce(|| 0, |a, b| a + b)
            .with(Stage::named("sum").attempts(1_000).fan_in(4))
            .deploy("long", backend)
            .unwrap();
        let metrics = tokio::runtime::Handle::current().metrics();
        let mut alive = Vec::new();
        for hour in 0..6 {
            let worker = deployment.worker().start();
            let begin = tokio::time::Instant::now();
            let runs = (0..RUNS).map(|number| {
                let deployment = &deployment;
                async move {
                    tokio::time::sleep(Duration::from_secs(18 * number)).await;
                    let run = loop {
                        let id = format!("{hour}-{number}");
                        match deployment.submit_as(id, 0..20).await {
                            Ok(run) => break run,
                            Err(error) => assert!(error.is_retryable(), "{error}"),
                        }
                    };
                    assert_eq!(run.result().await.unwrap(), 190);
                }
            });
            join_all(runs).await;
            assert!(begin.elapsed() >= Duration::from_secs(60 * 60 - 18));
            // Late messages have ended, and so has the runs' retention.
            tokio::time::sleep(Duration::from_secs(3 * 60 * 60)).await;
            worker.shutdown().await;
            for stage in deployment.stages() {
                let name = format!("long--{stage}");
                let queue = queues.open(&name, &QueueOptions::default()).await.unwrap();
                assert_eq!(queue.depth().await.unwrap(), Depth::default(), "{stage}");
            }
            assert_eq!(metrics.num_alive_tasks(), 0, "tasks");
            alive.push(LIVE.load(Relaxed));
        }
        println!("bytes alive after each hour: {alive:?}");
        assert_no_leak(&alive, RUNS as usize * 100);
    });
    assert!(peak < 16 * MIB, "{peak}");
}
