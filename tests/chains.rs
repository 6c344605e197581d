//! Functions in a row are one stage, and behave as if each item went through them before the next item began.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use catchment::{
    Backend, BoxError, Context, Emitter, Error, Execution, Failure, Map, OnFailure, Pipeline, Stage,
};
use proptest::prelude::*;
use tokio::sync::Notify;

use common::*;

/// The failure of a run in this process.
fn failure(error: Error) -> Failure {
    match error {
        Error::Failed { failure, .. } => *failure,
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn map_filter_map_is_one_queue_and_its_messages_are_those_of_one_map() {
    let one = Pipeline::new().map(|n: u64| n).reduce(|| 0, |a, b| a + b);
    let row = Pipeline::new()
        .map(|n: u64| n + 1)
        .filter(|n| n % 2 == 0)
        .map(|n| n * 10)
        .reduce(|| 0, |a, b| a + b);
    let mut sent = Vec::new();
    for (pipeline, expected) in [(one, 45), (row, 300)] {
        let record = Arc::new(Record::default());
        let backend = Store::new().hooked(record.clone());
        let deployment = pipeline.deploy("row", backend).unwrap();
        let stages: Vec<_> = deployment.stages().collect();
        assert_eq!(stages, ["map-0", "reduce-1"]);
        let worker = deployment.worker().start();
        let run = deployment.submit(0..10).await.unwrap();
        assert_eq!(soon(run.result()).await.unwrap(), expected);
        drop(worker);
        let queues = record.sent().into_iter().map(|(queue, _)| queue);
        sent.push(queues.collect::<Vec<_>>());
    }
    assert_eq!(sent[0], sent[1]);
}

/// A user's function that chooses where it runs.
struct AddOne(Execution);

impl Map for AddOne {
    type Input = u64;
    type Output = u64;

    async fn map(
        &self,
        item: u64,
        _: &Context,
        output: &mut Emitter<'_, u64>,
    ) -> Result<(), BoxError> {
        output.push(item + 1);
        Ok(())
    }

    fn execution(&self) -> Execution {
        self.0
    }
}

#[tokio::test(start_paused = true)]
async fn a_stage_ends_at_with_at_a_reduction_and_where_another_kind_of_function_begins() {
    let deployment = Pipeline::new()
        .map(|n: u64| n)
        .stage(AddOne(Execution::Blocking))
        .then(ok)
        .stage(AddOne(Execution::Async))
        .with(Stage::new().concurrency(2))
        .with(Stage::new().attempts(2))
        .then(ok)
        .filter(|_| true)
        .reduce(|| 0, |a, b| a + b)
        .map(|n| n + 1)
        .map(|n| n * 2)
        .deploy("ends", Backend::memory())
        .unwrap();
    let stages: Vec<_> = deployment.stages().collect();
    let expected = ["map-0", "map-1", "map-2", "map-3", "reduce-4", "map-5"];
    assert_eq!(stages, expected);
    let worker = deployment.worker().start();
    let run = deployment.submit(0..10).await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), (45 + 20 + 1) * 2);
    drop(worker);
}

/// Item 0 is in the second function while item 1 is in the first: neither waits for the packet.
#[tokio::test(start_paused = true)]
async fn an_item_goes_on_without_waiting_for_its_packet() {
    let met = Arc::new(Notify::new());
    let (first, second) = (Arc::clone(&met), met);
    let pipeline = Pipeline::new()
        .then(move |n: u64| {
            let met = Arc::clone(&first);
            async move {
                if n == 1 {
                    met.notified().await;
                }
                Ok::<_, String>(n)
            }
        })
        .then(move |n| {
            let met = Arc::clone(&second);
            async move {
                if n == 0 {
                    met.notify_one();
                }
                Ok::<_, String>(n)
            }
        })
        .with(Stage::new().packet_size(2))
        .collect();
    assert_eq!(soon(pipeline.run(0..2)).await.unwrap(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn an_error_names_the_stage_and_the_function() {
    let options = || Stage::named("parse").packet_size(4).attempts(1);
    let row = |bad: u64| {
        Pipeline::new()
            .map(|n: u64| n)
            .filter(move |n| *n != 100 || bad == 100)
            .try_map(move |n| match n == bad {
                true => Err("it is bad"),
                false => Ok(n),
            })
            .with(options())
            .count()
    };
    let failed = failure(soon(row(3).run(0..4)).await.unwrap_err());
    assert_eq!((&*failed.stage, failed.item), ("parse", Some(3)));
    assert_eq!(failed.error, "function 3 of 3 (`try_map`): it is bad");

    let panics = Pipeline::new()
        .map(|n: u64| n)
        .map(|n| assert!(n != 2, "two"))
        .with(options())
        .count();
    let failed = failure(soon(panics.run(0..4)).await.unwrap_err());
    assert_eq!(failed.item, Some(2));
    assert_eq!(failed.error, "function 2 of 2 (`map`): panicked: two");

    let asynchronous = Pipeline::new()
        .then(|n: u64| ok(n))
        .then(|n| async move { if n == 1 { Err("one") } else { Ok(n) } })
        .with(options())
        .count();
    let failed = failure(soon(asynchronous.run(0..4)).await.unwrap_err());
    assert_eq!((&*failed.stage, failed.item), ("parse", Some(1)));
    assert_eq!(failed.error, "function 2 of 2 (`then`): one");

    // A function by itself needs no number.
    let alone = Pipeline::new().try_map(|_: u64| Err::<u64, _>("it is bad"));
    let failed = failure(
        soon(alone.with(options()).count().run(0..1))
            .await
            .unwrap_err(),
    );
    assert_eq!(failed.error, "it is bad");
}

/// The first function fails at item 17 and panics at 30; a later one fails at `second`.
#[tokio::test(start_paused = true)]
async fn the_first_item_that_fails_is_the_one_that_is_named() {
    for second in [0, 1, 2, 5, 16, 17, 18, 40] {
        for panics in [false, true] {
            for packet_size in [1, 50] {
                let pipeline = Pipeline::new()
                    .try_map(move |n: u64| match n {
                        17 if panics => panic!("first"),
                        17 => Err("first"),
                        n => Ok(n),
                    })
                    .flat_map(|n| [n, n])
                    .map(|n| n)
                    .try_map(move |n| match n == second {
                        true => Err("second"),
                        false => Ok(n),
                    })
                    .with(Stage::new().packet_size(packet_size).attempts(1))
                    .count();
                let failed = failure(soon(pipeline.run(0..50)).await.unwrap_err());
                if packet_size == 1 {
                    // Packets run side by side.
                    assert!(failed.item == Some(17) || failed.item == Some(second));
                    continue;
                }
                assert_eq!(failed.item, Some(second.min(17)), "{second} {panics}");
                let function = if second < 17 { 4 } else { 1 };
                let text = format!("function {function} of 4");
                assert!(failed.error.contains(&text), "{}", failed.error);
            }
        }
    }
}

/// One that takes nine tenths of the timeout in each of two functions is over it.
#[tokio::test(start_paused = true)]
async fn a_slow_item_has_one_timeout_for_all_functions() {
    const TENTH: Duration = Duration::from_secs(1);
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let (go_on, gate) = mpsc::channel::<()>();
    let gate = Arc::new(Mutex::new(gate));
    let slow = move |number: u32| {
        let (begun, gate) = (begun.clone(), Arc::clone(&gate));
        move |n: u64| {
            begun.send(number).unwrap();
            let _ = gate.lock().unwrap().recv();
            n
        }
    };
    let deployment = Pipeline::new()
        .map(slow(1))
        .map(slow(2))
        .with(Stage::new().timeout(10 * TENTH).attempts(1))
        .count()
        .deploy("slow", Backend::memory())
        .unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit([7]).await.unwrap();
    for number in [1, 2] {
        assert_eq!(begins.recv().await, Some(number));
        for _ in 0..9 {
            tokio::time::advance(TENTH).await;
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        if number == 1 {
            go_on.send(()).unwrap();
        }
    }
    // It was given up by now; what it returns after all is dropped.
    drop(go_on);
    let failed = failure(soon(run.result()).await.unwrap_err());
    assert_eq!(failed.item, Some(0));
    assert!(failed.error.contains("function 2 of 2"), "{}", failed.error);
    assert!(failed.error.contains("timed out"), "{}", failed.error);
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a_context_tells_every_function_the_item() {
    let pipeline = Pipeline::new()
        .flat_map(|n: u64| vec![n; n as usize])
        .filter(|n| n % 2 == 1)
        .try_map_with(|n, context: &Context| Ok::<_, String>((n, context.item())))
        .flat_map(|pair| [pair, pair])
        .try_map_with(|(n, first), context: &Context| Ok::<_, String>((n, first, context.item())))
        .with(Stage::new().packet_size(5))
        .collect();
    let expected: Vec<_> = (0..12u64)
        .filter(|n| n % 2 == 1)
        .flat_map(|n| vec![(n, Some(n), Some(n)); 2 * n as usize])
        .collect();
    assert_eq!(soon(pipeline.run(0..12)).await.unwrap(), expected);
}

/// An item that fails in part is left out as a whole.
#[tokio::test(start_paused = true)]
async fn an_item_is_left_out_if_one_of_its_values_fails_in_any_function() {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let deployment = Pipeline::new()
        .flat_map(|n: u64| (0..n).map(move |part| (n, part)))
        .try_map(|(n, part)| match (n, part) {
            (3, 1) => Err("three"),
            (5, 4) => panic!("five"),
            pair => Ok(pair),
        })
        .map(move |(n, _)| {
            counted.fetch_add(1, Relaxed);
            assert!(n != 7, "seven");
            n
        })
        .with(
            Stage::new()
                .packet_size(4)
                .attempts(1)
                .on_failure(OnFailure::Skip),
        )
        .collect()
        .deploy("parts", Backend::memory())
        .unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(0..9).await.unwrap();
    let outcome = soon(run.outcome()).await.unwrap();
    let expected = (0..9).filter(|n| ![3, 5, 7].contains(n));
    let expected: Vec<u64> = expected.flat_map(|n| vec![n; n as usize]).collect();
    assert_eq!(outcome.value, expected);
    assert_eq!((outcome.contains, outcome.skipped), (6, 3));
    let failures = run.failures().await.unwrap();
    let mut items: Vec<_> = failures.iter().map(|failure| failure.item).collect();
    items.sort_unstable();
    assert_eq!(items, [Some(3), Some(5), Some(7)]);
    assert!(calls.load(Relaxed) > 0);
    drop(worker);
}

/// A random function: what it makes of a value, and the values at which it fails.
#[derive(Clone, Debug)]
enum Random {
    Map(i64, i64),
    Filter(i64),
    FlatMap(i64, i64),
    Panic(i64),
}

fn random() -> impl Strategy<Value = (Random, bool)> {
    let function = prop_oneof![
        (-5..5i64, 3..40i64).prop_map(|(by, bad)| Random::Map(by, bad)),
        (2..5i64).prop_map(Random::Filter),
        (0..4i64, 3..40i64).prop_map(|(by, bad)| Random::FlatMap(by, bad)),
        (3..40i64).prop_map(Random::Panic),
    ];
    (function, any::<bool>())
}

fn add(function: Random, pipeline: Pipeline<i64>) -> Pipeline<i64> {
    match function {
        Random::Map(by, bad) => pipeline.try_map(move |n| match n.rem_euclid(bad) {
            1 => Err("bad"),
            _ => Ok(n.wrapping_mul(3) + by),
        }),
        Random::Filter(by) => pipeline.filter(move |n| n % by != 0),
        Random::FlatMap(by, bad) => pipeline.flat_map(move |n| {
            assert!(n.rem_euclid(bad) != 2, "bad");
            (0..n.rem_euclid(by + 1)).map(move |k| n + k)
        }),
        Random::Panic(bad) => pipeline.map(move |n| {
            assert!(n.rem_euclid(bad) != 2, "bad");
            n + 1
        }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Functions in one stage leave out the same items as functions with a queue after each, and make the same of the rest.
    #[test]
    fn a_stage_of_several_functions_is_as_good_as_several_stages(
        functions in prop::collection::vec(random(), 1..5),
        items in prop::collection::vec(0..1_000i64, 1..60),
        packet_size in 1..20u32,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let skip = || Stage::new().attempts(1).on_failure(OnFailure::Skip);
        let mut outcomes = Vec::new();
        for apart in [true, false] {
            let mut pipeline = Pipeline::new();
            for (index, (function, ends)) in functions.iter().enumerate() {
                pipeline = add(function.clone(), pipeline);
                // The first stage of all has the packet size.
                let is_first = index == 0 || (!apart && !functions[..index].iter().any(|(_, ends)| *ends));
                if apart || *ends || index + 1 == functions.len() {
                    pipeline = pipeline.with(match is_first {
                        true => skip().packet_size(packet_size),
                        false => skip(),
                    });
                }
            }
            let outcome = runtime.block_on(async {
                let deployment = pipeline.collect().deploy("skips", Backend::memory()).unwrap();
                let worker = deployment.worker().start();
                let run = deployment.submit(items.clone()).await.unwrap();
                let outcome = soon(run.outcome()).await.unwrap();
                let failures = run.failures().await.unwrap();
                let mut skipped: Vec<_> = failures.iter().map(|failure| failure.item).collect();
                skipped.sort_unstable();
                skipped.dedup();
                drop(worker);
                (outcome.value, outcome.contains, outcome.skipped, skipped)
            });
            outcomes.push(outcome);
        }
        prop_assert_eq!(&outcomes[0], &outcomes[1]);
    }
}
