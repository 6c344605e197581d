//! A small run beside a large one, whose messages were on the queue before.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::hint::black_box;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use catchment::backends::memory::MemoryQueues;
use catchment::queue::{Delivery, Outgoing, QueueOptions, Queues};
use catchment::{Backend, Deployment, Pipeline, Stage};
use tokio::runtime::Handle;

/// The small run's messages come after one of the large one's, however many of those were there before.
#[tokio::test(start_paused = true)]
async fn the_messages_of_runs_are_delivered_in_turn() {
    const LARGE: usize = 1_000;
    let packet = Bytes::from(vec![b'1'; 5_000]);
    let (queues, options) = (MemoryQueues::new(), QueueOptions::default());
    let queue = queues.open("work", &options).await.unwrap();
    let runs = |received: Vec<Delivery>| -> Vec<String> {
        let runs = received.into_iter().map(|one| one.run.unwrap());
        runs.map(|run| run.to_string()).collect()
    };
    let large = Outgoing::new(packet).run("large");
    queue.send(vec![large; LARGE]).await.unwrap();
    let small = Outgoing::new("1").run("small");
    queue.send(vec![small; 2]).await.unwrap();
    let four = queue.receive(4, Duration::ZERO).await.unwrap();
    let receipts = four.iter().map(|one| one.receipt.clone()).collect();
    assert_eq!(runs(four), ["large", "small", "small", "large"]);

    // Released, they are at the end of their own run's.
    queue.release(receipts, Duration::ZERO).await.unwrap();
    let mut four = queue.receive(4, Duration::ZERO).await.unwrap();
    four.sort_by_key(|one| one.run.clone());
    let small = four.split_off(2);
    assert_eq!(runs(small.clone()), ["small", "small"]);

    for delivery in small {
        queue.bury(delivery, "made up for a test").await.unwrap();
    }
    let letters = queue.dead_letters(None, 10).await.unwrap();
    queue.redrive(letters.items).await.unwrap();
    let four = queue.receive(4, Duration::ZERO).await.unwrap();
    assert_eq!(runs(four).iter().filter(|run| *run == "small").count(), 2);
}

/// A packet of this size ends its run's turn.
const LARGE: usize = 5_000;

/// Which packets began, in their order: whether each was of the large run.
#[derive(Default)]
struct Begun(Mutex<Vec<bool>>);

impl Begun {
    fn of_large(&self, from: usize) -> usize {
        let begun = self.0.lock().unwrap();
        begun[from..].iter().filter(|is_large| **is_large).count()
    }
}

/// What counts is what begins between the time when the small run's packets are on the queue, which hundreds of the large one's
/// fill, and the last of them. Nothing begins while they are sent: the gate is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_packets_of_a_large_run_begin_before_a_small_run_is_done() {
    let (begun, gate) = (Arc::new(Begun::default()), Arc::new(RwLock::new(())));
    let (noted, passed) = (Arc::clone(&begun), Arc::clone(&gate));
    let work = move |item: String| {
        drop(passed.read().unwrap());
        let is_large = item.len() == LARGE;
        noted.0.lock().unwrap().push(is_large);
        let start = Instant::now();
        // What takes long is held in small numbers.
        while is_large && start.elapsed() < Duration::from_millis(1) {
            std::hint::spin_loop();
        }
        1_u64
    };
    let pipeline = Pipeline::new()
        .map(work)
        .with(Stage::named("work").packet_size(1))
        .reduce(|| 0, |a, b| a + b);
    let counter = pipeline.deploy("counter", Backend::memory()).unwrap();
    let large = (0..700).map(|_| "x".repeat(LARGE));
    let large = counter.submit(large.collect::<Vec<_>>()).await.unwrap();
    let worker = counter.worker().concurrency(1).start();
    while begun.of_large(0) < 50 {
        tokio::task::yield_now().await;
    }
    let (before, small) = tokio::task::block_in_place(|| {
        let _closed = gate.write().unwrap();
        let before = begun.0.lock().unwrap().len();
        let sending = counter.submit(vec!["y".to_owned(); 10]);
        let small = Handle::current().block_on(sending).unwrap();
        (before, small)
    });
    assert_eq!(small.result().await.unwrap(), 10);
    let last = begun
        .0
        .lock()
        .unwrap()
        .iter()
        .rposition(|is_large| !is_large);
    let waited = begun.of_large(before) - begun.of_large(last.unwrap());
    assert!(
        waited <= 12,
        "{waited} packets of the large run began before"
    );
    large.cancel().await.unwrap();
    worker.shutdown().await;
}

type Adder = Deployment<u64, u64>;

/// Adds numbers up, after this many turns of a loop for each.
fn adder(turns: u64) -> Adder {
    let pipeline = Pipeline::new()
        .map(move |n: u64| (0..turns).fold(n, |n, _| black_box(n)))
        .reduce(|| 0, |a, b| a + b);
    pipeline.deploy("adder", Backend::memory()).unwrap()
}

async fn small(adder: &Adder) -> Duration {
    let start = Instant::now();
    let run = adder.submit(0..10).await.unwrap();
    assert_eq!(run.result().await.unwrap(), 45);
    start.elapsed()
}

/// The median and the longest.
async fn several(adder: &Adder) -> (Duration, Duration) {
    let mut times = Vec::new();
    for _ in 0..5 {
        times.push(small(adder).await);
    }
    times.sort();
    (times[times.len() / 2], times[times.len() - 1])
}

async fn measure(turns: u64, items: u64) {
    let adder = adder(turns);
    let _worker = adder.worker().start();
    small(&adder).await;
    let alone = several(&adder).await;
    let large = adder.clone();
    let submission = tokio::spawn(async move {
        let run = large.attach("large");
        let sent = large.submit_as("large", 0..items).await;
        sent.map(|_| run)
    });
    while adder.attach("large").status().await.is_err() {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let beside = several(&adder).await;
    let status = adder.attach("large").status().await.unwrap();
    println!(
        "{turns} turns: alone {alone:?}, beside {beside:?}, {:.1} times as long; of the large run {:?} of {items} items are done, {}",
        beside.0.as_secs_f64() / alone.0.as_secs_f64(),
        status.items_done,
        if submission.is_finished() {
            "and all of it is submitted"
        } else {
            "and it is being submitted"
        },
    );
    let _ = adder.attach("large").cancel().await;
    let _ = submission.await;
}

/// The small run waits for the large run's packets that workers hold, which nothing interrupts. Without turns it waited for the
/// thousand on the queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: --ignored --nocapture prints it"]
async fn how_long_ten_items_take_beside_ten_million() {
    for turns in [0, 1_000] {
        measure(turns, 10_000_000).await;
    }
}
