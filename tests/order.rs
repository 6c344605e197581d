//! The result does not depend on timing: values combine in item order, in a tree whose shape
//! follows from the input alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use catchment::testing::faults::{Copies, Duplicate, Shuffle};
use catchment::{Backend, Pipeline, RunningWorker, Stage};
use common::*;
use std::collections::HashSet;

/// Runs the pipeline over a backend of its own, with this many workers.
macro_rules! with_workers {
    ($pipeline:expr, $workers:expr, $items:expr) => {{
        let deployment = $pipeline.deploy("order", Backend::memory()).unwrap();
        let start = |_| deployment.worker().concurrency(4).prefetch(3).start();
        let workers: Vec<RunningWorker> = (0..$workers).map(start).collect();
        let run = deployment.submit($items).await.unwrap();
        let result = run.result().await.unwrap();
        drop(workers);
        result
    }};
}

/// Strings in order, with threads that really run side by side.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn strings_come_together_in_order_however_many_workers_there_are() {
    let pipeline = Pipeline::new()
        .map(|n: u64| format!("{n} "))
        .with(Stage::new().packet_size(3))
        .reduce(String::new, |a, b| a + &b)
        .with(Stage::new().fan_in(3));
    for workers in [1, 2, 16] {
        for length in [0, 1, 2, 9, 10, 500] {
            let result = with_workers!(pipeline, workers, 0..length);
            assert_eq!(result, counting(length), "{workers} workers");
        }
    }
}

/// The items of a packet end in any order, the packets too.
#[tokio::test(start_paused = true)]
async fn asynchronous_items_that_end_out_of_order_come_together_in_order() {
    for seed in 0..10 {
        let pipeline = Pipeline::new()
            .then(move |n: u64| async move {
                let wait = fastrand::Rng::with_seed(seed << 32 | n).u64(0..60_000);
                tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
                ok(format!("{n} ")).await
            })
            .with(Stage::new().packet_size(5))
            .combine(Concat)
            .with(Stage::new().fan_in(4));
        for workers in [1, 2, 16] {
            let result = soon(async { with_workers!(pipeline, workers, 0..300) }).await;
            assert_eq!(result, counting(300), "{workers} workers, seed {seed}");
        }
    }
}

/// Numbers whose sum depends on the order of additions.
fn rough(length: u64) -> Vec<f64> {
    let mut random = fastrand::Rng::with_seed(1);
    let one = |_| (random.f64() - 0.5) * 10f64.powi(random.i32(-12..12));
    (0..length).map(one).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn floating_point_sums_are_the_same_to_the_bit() {
    let numbers = rough(2_345);
    let backwards: f64 = numbers.iter().rev().sum();
    let mut sums = HashSet::new();
    for (fan_in, packet_size) in [(2, 1), (32, 3), (5, 100)] {
        let pipeline = Pipeline::new()
            .map(|x: f64| x)
            .with(Stage::new().packet_size(packet_size))
            .reduce(|| 0.0, |a, b| a + b)
            .with(Stage::new().fan_in(fan_in));
        let mut bits = HashSet::new();
        for workers in [1, 1, 2, 3, 5, 16, 16] {
            let sum = with_workers!(pipeline, workers, numbers.clone());
            assert!((sum - backwards).abs() < 1e-6 * backwards.abs().max(1.0));
            bits.insert(sum.to_bits());
        }
        bits.insert(soon(pipeline.run(numbers.clone())).await.unwrap().to_bits());
        let stream = futures::stream::iter(numbers.clone());
        bits.insert(soon(pipeline.run_stream(stream)).await.unwrap().to_bits());
        assert_eq!(bits.len(), 1, "fan_in {fan_in}, packet_size {packet_size}");
        sums.extend(bits);
    }
    // Otherwise the numbers would show nothing.
    sums.insert(backwards.to_bits());
    assert!(sums.len() > 1, "the order was to matter for these numbers");
}

#[tokio::test(start_paused = true)]
async fn floating_point_sums_are_the_same_to_the_bit_when_everything_comes_twice_in_any_order() {
    let pipeline = Pipeline::new()
        .then(ok::<f64>)
        .with(Stage::new().packet_size(2))
        .reduce(|| 0.0, |a, b| a + b)
        .with(Stage::new().fan_in(3));
    let plain = soon(pipeline.run(rough(300))).await.unwrap();
    for seed in 0..5 {
        let store = Store::new();
        let backend = store.with(|queues| {
            Shuffle::new(Some(seed)).queues(Duplicate::new(Copies::Early).queues(queues))
        });
        let deployment = pipeline.deploy("order", backend).unwrap();
        let workers = [deployment.worker().start(), deployment.worker().start()];
        let run = deployment.submit(rough(300)).await.unwrap();
        assert_eq!(soon(run.result()).await.unwrap().to_bits(), plain.to_bits());
        drop(workers);
    }
}

#[tokio::test(start_paused = true)]
async fn every_length_up_to_200_in_trees_of_every_shape() {
    let mut runs = 0;
    for fan_in in [2, 3, 4, 32] {
        for packet_size in [1, 7] {
            let pipeline = Pipeline::new()
                .then(|n: u64| ok(format!("{n} ")))
                .with(Stage::new().packet_size(packet_size))
                .combine(Concat)
                .with(Stage::new().fan_in(fan_in));
            for length in 0..=200 {
                let result = soon(pipeline.run(0..length)).await.unwrap();
                let what = format!("{length} by {fan_in}, packets of {packet_size}");
                assert_eq!(result, counting(length), "{what}");
                runs += 1;
            }
        }
    }
    println!("{runs} runs");
    assert_eq!(runs, 4 * 2 * 201);
}

/// A stream's tree is sealed last, when much of it has been reduced already.
#[tokio::test(start_paused = true)]
async fn every_length_up_to_200_as_a_stream() {
    for fan_in in [2, 3, 4, 32] {
        let pipeline = Pipeline::new()
            .then(|n: u64| ok(format!("{n} ")))
            .with(Stage::new().packet_size(4))
            .combine(Concat)
            .with(Stage::new().fan_in(fan_in));
        for length in 0..=200 {
            let result = soon(pipeline.run_stream(futures::stream::iter(0..length))).await;
            assert_eq!(result.unwrap(), counting(length), "{length} by {fan_in}");
        }
    }
}

/// CPU-bound stages on threads, with an operator that does not commute: 2×2 matrices, modulo a
/// prime.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn matrices_multiply_in_order_on_threads() {
    type Matrix = [u64; 4];
    const ONE: Matrix = [1, 0, 0, 1];
    fn times(a: Matrix, b: Matrix) -> Matrix {
        let cell = |row: usize, column: usize| {
            (a[row * 2] * b[column] + a[row * 2 + 1] * b[2 + column]) % 1_000_003
        };
        [cell(0, 0), cell(0, 1), cell(1, 0), cell(1, 1)]
    }
    let matrix = |n: u64| [n + 1, n * n + 2, 3 * n + 1, 7];
    for fan_in in [2, 3, 4, 32] {
        let pipeline = Pipeline::new()
            .map(matrix)
            .with(Stage::new().packet_size(2))
            .reduce(|| ONE, times)
            .with(Stage::new().fan_in(fan_in));
        for length in (0..=200).step_by(13).chain([64, 81, 128]) {
            let expected = (0..length).map(matrix).fold(ONE, times);
            let result = soon(pipeline.run(0..length)).await.unwrap();
            assert_eq!(result, expected, "{length} by {fan_in}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn collect_keeps_the_order() {
    let pipeline = Pipeline::new()
        .map(|n: u64| n)
        .with(Stage::new().packet_size(4))
        .filter(|n| n % 3 != 0)
        .flat_map(|n| vec![n; (n % 4) as usize])
        .collect()
        .with(Stage::new().fan_in(4));
    let items = (0..1_000).filter(|n| n % 3 != 0);
    let expected: Vec<u64> = items.flat_map(|n| vec![n; (n % 4) as usize]).collect();
    for workers in [1, 2, 16] {
        assert_eq!(
            with_workers!(pipeline, workers, 0..1_000),
            expected,
            "{workers} workers"
        );
    }
}

/// A fold to another type that notices any change of order: the first and last value, the length,
/// and whether neighbours were always next to each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_fold_that_does_not_commute_goes_in_order() {
    type Stretch = Option<(u64, u64, u64, bool)>;
    let join = |a: Stretch, b: Stretch| match (a, b) {
        (Some((first, end, n, good)), Some((begin, last, m, fine))) => {
            Some((first, last, n + m, good && fine && end + 1 == begin))
        }
        (a, b) => a.or(b),
    };
    let pipeline = Pipeline::new()
        .map(|n: u64| n)
        .with(Stage::new().packet_size(6))
        .fold(
            || None,
            move |stretch, n| join(stretch, Some((n, n, 1, true))),
            join,
        )
        .with(Stage::new().fan_in(2));
    for workers in [1, 2, 16] {
        for length in [1, 5, 6, 7, 600] {
            let expected = Some((0, length - 1, length, true));
            assert_eq!(with_workers!(pipeline, workers, 0..length), expected);
        }
    }
}
