//! Inside the process, the packets of a full group may travel as one message, a bundle. Nothing but
//! the time it takes may show it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use catchment::testing::faults::{Chaos, Rates};
use catchment::{Backend, Backoff, Context, Error, Pipeline, Stage, permanent};
use common::*;
use futures::stream;

/// This many items are many groups on every machine that this may run on.
const MANY: u64 = 20_000;

/// How often a function was called for each item.
#[derive(Clone)]
struct Calls(Arc<Vec<AtomicU32>>);

impl Calls {
    fn new(items: u64) -> Self {
        Self(Arc::new((0..items).map(|_| AtomicU32::new(0)).collect()))
    }

    /// Returns which call it is, from 1.
    fn note(&self, item: u64) -> u32 {
        self.0[item as usize].fetch_add(1, Relaxed) + 1
    }

    fn of(&self, item: u64) -> u32 {
        self.0[item as usize].load(Relaxed)
    }
}

/// Takes longer than a bundle may take before it is split.
fn work_long() {
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(2) {
        std::hint::spin_loop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_come_together_in_order() {
    for (packet_size, fan_in) in [(1, 2), (1, 3), (1, 32), (3, 2), (7, 5), (1, 1_000)] {
        let pipeline = Pipeline::new()
            .map(|n: u64| format!("{n} "))
            .with(Stage::new().packet_size(packet_size))
            .reduce(String::new, |a, b| a + &b)
            .with(Stage::new().fan_in(fan_in));
        let group = u64::from(packet_size) * u64::from(fan_in);
        let lengths = [0, 1, group - 1, group, group + 1, 4 * group, MANY, MANY + 1];
        for length in lengths {
            let expected = counting(length);
            assert_eq!(pipeline.run(0..length).await.unwrap(), expected);
            let stream = stream::iter(0..length);
            assert_eq!(pipeline.run_stream(stream).await.unwrap(), expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_may_become_none_or_several() {
    let pipeline = Pipeline::new()
        .filter(|n: &u64| !n.is_multiple_of(5))
        .flat_map(|n: u64| (0..n % 4).map(move |copy| format!("{n}.{copy} ")))
        .reduce(String::new, |a, b| a + &b)
        .with(Stage::new().fan_in(4));
    let expected: String = (0..MANY)
        .filter(|n| !n.is_multiple_of(5))
        .flat_map(|n| (0..n % 4).map(move |copy| format!("{n}.{copy} ")))
        .collect();
    assert_eq!(pipeline.run(0..MANY).await.unwrap(), expected);
    let dropped = Pipeline::new().filter(|_: &u64| false).count();
    assert_eq!(dropped.run(0..MANY).await.unwrap(), 0);
}

/// The tree has the same shape, and so a sum of floats the same bits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floats_come_to_the_same_bits_as_where_each_packet_travels_alone() {
    let pipeline = Pipeline::new()
        .map(|n: u64| 1.0 / (n as f64 + 0.3))
        .reduce(|| 0.0, |a, b| a + b)
        .with(Stage::new().fan_in(6));
    let alone = pipeline.deploy("floats", Backend::memory()).unwrap();
    let worker = alone.worker().start();
    let alone = alone.submit(0..MANY).await.unwrap().result().await.unwrap();
    worker.shutdown().await;
    let together = pipeline.run(0..MANY).await.unwrap();
    assert_eq!(together.to_bits(), alone.to_bits());
    let in_turn: f64 = (0..MANY).map(|n| 1.0 / (n as f64 + 0.3)).sum();
    assert_ne!(
        in_turn.to_bits(),
        alone.to_bits(),
        "it has to tell shapes apart"
    );
}

/// A bundle whose function turns out slow is split: finished work is kept, and nothing slow is done
/// twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_items_are_worked_on_once() {
    let slow_ones = [(|n| n < 200) as fn(u64) -> bool, |n| n % 41 == 7];
    for (packet_size, is_slow) in [1, 20]
        .into_iter()
        .flat_map(|size| slow_ones.map(|slow| (size, slow)))
    {
        let calls = Calls::new(MANY);
        let noted = calls.clone();
        let pipeline = Pipeline::new()
            .map(move |n: u64| {
                noted.note(n);
                if is_slow(n) {
                    work_long();
                }
                format!("{n} ")
            })
            .with(Stage::new().packet_size(packet_size))
            .reduce(String::new, |a, b| a + &b)
            .with(Stage::new().fan_in(8));
        assert_eq!(pipeline.run(0..MANY).await.unwrap(), counting(MANY));
        // A quick item may have run again, if another process had the core meanwhile.
        let often = (0..MANY).find(|n| match is_slow(*n) {
            true => calls.of(*n) != 1,
            false => !(1..=2).contains(&calls.of(*n)),
        });
        assert_eq!(often, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_that_fails_has_its_attempts_and_no_more() {
    let calls = Calls::new(MANY);
    let noted = calls.clone();
    let pipeline = Pipeline::new()
        .try_map(move |n: u64| match (n, noted.note(n)) {
            (4_321, call) => Err(format!("call {call}")),
            (1_234, 1) => Err("not today".to_owned()),
            _ => Ok(n),
        })
        .with(
            Stage::named("picky")
                .packet_size(1)
                .attempts(3)
                .backoff(Backoff::none()),
        )
        .reduce(|| 0, |a, b| a + b);
    let error = pipeline.run(0..MANY).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Failed { .. }), "{error:?}");
    for part in ["picky", "packet 4321", "item 4321", "call 3"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(calls.of(4_321), 3);

    // Each has attempts of its own, though its neighbours fail as well.
    let calls = Calls::new(MANY);
    let noted = calls.clone();
    let pipeline = Pipeline::new()
        .try_map(move |n: u64| match noted.note(n) {
            1 => Err("not today"),
            _ => Ok(n),
        })
        .with(
            Stage::new()
                .packet_size(1)
                .attempts(2)
                .backoff(Backoff::none()),
        )
        .reduce(|| 0, |a, b| a + b);
    assert_eq!(pipeline.run(0..MANY).await.unwrap(), (0..MANY).sum::<u64>());
}

/// Runs a pipeline that fails, and returns its failure.
async fn failure_of(
    packet_size: u32,
    map: impl Fn(u64) -> u64 + Send + Sync + 'static,
    identity: impl Fn() -> u64 + Send + Sync + 'static,
    add: impl Fn(u64, u64) -> u64 + Send + Sync + 'static,
) -> String {
    let twice = || Stage::new().attempts(2).backoff(Backoff::none());
    let pipeline = Pipeline::new()
        .map(map)
        .with(
            twice()
                .packet_size(packet_size)
                .timeout(Duration::from_millis(500)),
        )
        .reduce(identity, add)
        .with(twice());
    pipeline.run(0..MANY).await.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn items_that_panic_or_hang_are_named() {
    for packet_size in [1, 50] {
        let map = |n| match n {
            2_000 => panic!("boom"),
            n => n,
        };
        let error = failure_of(packet_size, map, || 0, |a, b| a + b).await;
        assert!(
            error.contains("item 2000") && error.contains("boom"),
            "{error}"
        );
        let add = |a, b| match b {
            3_000 => panic!("boom"),
            b => a + b,
        };
        let error = failure_of(packet_size, |n| n, || 0, add).await;
        assert!(
            error.contains("item 3000") && error.contains("boom"),
            "{error}"
        );
        let (ending, ended) = mpsc::channel::<()>();
        let ended = Mutex::new(ended);
        let hang = move |n| {
            if n == 2_500 {
                let _ = ended.lock().unwrap().recv();
            }
            n
        };
        let error = failure_of(packet_size, hang, || 0, |a, b| a + b).await;
        assert!(
            error.contains("item 2500") && error.contains("timed out"),
            "{error}"
        );
        drop(ending);
    }
}

/// The start of a fold belongs to no item: it costs the item before it no attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_panics_is_not_the_failure_of_the_item_before() {
    thread_local! {
        static NEXT: Cell<bool> = const { Cell::new(false) };
    }
    let twice = || Stage::new().attempts(2).backoff(Backoff::none());
    let calls = AtomicU32::new(0);
    let folds = AtomicU32::new(0);
    let pipeline = Pipeline::new()
        .try_map(move |n: u64| match n {
            40 if calls.fetch_add(1, Relaxed) == 1 => Err("not today"),
            n => Ok(n),
        })
        .with(twice().packet_size(1))
        .reduce(
            || match NEXT.take() {
                true => panic!("boom"),
                false => 0,
            },
            move |a, b| {
                NEXT.set(b == 40 && folds.fetch_add(1, Relaxed) == 0);
                a + b
            },
        )
        .with(twice());
    assert_eq!(pipeline.run(0..MANY).await.unwrap(), (0..MANY).sum::<u64>());
}

/// A reduction that fails does so at its own stage, with its own attempts, though map stages have
/// tried it first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reduction_that_fails_or_panics_is_the_reductions_failure() {
    for panics in [false, true] {
        let pipeline = Pipeline::new()
            .map(|n: u64| n)
            .with(Stage::named("numbers").packet_size(1))
            .try_reduce(
                || 0,
                move |a, b| match a + b {
                    // Of any two neighbours' sum: that of no packet.
                    sum if b > 0 && sum > 30_000 && !panics => Err(permanent("too much")),
                    sum if b > 0 && sum > 30_000 => panic!("too much"),
                    sum => Ok(sum),
                },
            )
            .with(Stage::named("total").attempts(2).backoff(Backoff::none()));
        let error = pipeline.run(0..MANY).await.unwrap_err().to_string();
        for part in ["`total`", "group 1/", "too much"] {
            assert!(error.contains(part), "{error}");
        }
    }
}

/// A slow reduction has the timeout of its own stage.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reduction_is_not_held_to_the_functions_time() {
    let pipeline = Pipeline::new()
        .map(|n: u64| n)
        .with(
            Stage::named("numbers")
                .packet_size(1)
                .timeout(Duration::from_millis(20)),
        )
        .reduce(
            || 0,
            |a: u64, b| {
                if a.max(b) == 1 << 40 && a > 0 && b > 0 {
                    (0..20).for_each(|_| work_long());
                }
                a + b
            },
        )
        .with(Stage::new().fan_in(4));
    let items = (0..MANY).map(|n| if n == 5_000 { 1 << 40 } else { n });
    let expected = (0..MANY).sum::<u64>() - 5_000 + (1 << 40);
    assert_eq!(pipeline.run(items).await.unwrap(), expected);
}

/// A reduction that fails now and then gets its attempts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reduction_that_fails_once_is_tried_again() {
    let failed = Mutex::new(std::collections::HashSet::new());
    let pipeline = Pipeline::new()
        .map(|n: u64| format!("{n} "))
        .with(Stage::new().packet_size(1))
        .try_reduce(String::new, move |a: String, b: String| {
            let is_group = a.len() > 20 && b.len() < 20;
            if is_group && b.ends_with("5 ") && failed.lock().unwrap().insert(b.clone()) {
                return Err("not today");
            }
            Ok(a + &b)
        })
        .with(Stage::new().fan_in(16).backoff(Backoff::none()));
    assert_eq!(pipeline.run(0..MANY).await.unwrap(), counting(MANY));
}

/// Deliveries that are repeated, late and out of order, calls that fail or take longer than the
/// visibility timeout.
#[test]
fn each_item_counts_once_whatever_happens_to_messages() {
    for seed in 0..60 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let slow = seed % 3 == 0;
        let sum = runtime.block_on(soon(async {
            let store = Store::new();
            let chaos = Chaos::new(seed, Rates::default());
            let backend = Backend::new(
                chaos.queues(store.queues.clone()),
                chaos.scratchpad(store.scratchpad.clone()),
            );
            let pipeline = Pipeline::new()
                .map(move |n: u64| {
                    if slow && n.is_multiple_of(150) {
                        work_long();
                    }
                    format!("{n} ")
                })
                .with(
                    Stage::new()
                        .packet_size([1, 5][seed as usize % 2])
                        .attempts(1_000)
                        .backoff(Backoff::none()),
                )
                .reduce(String::new, |a, b| a + &b)
                .with(
                    Stage::new()
                        .fan_in(2 + seed as u32 % 4)
                        .attempts(1_000)
                        .backoff(Backoff::none()),
                );
            pipeline.run_over(backend, 0..1_500).await.unwrap()
        }));
        assert_eq!(sum, counting(1_500), "seed {seed}");
    }
}

/// Two stages with a queue between them, in a run that passes the queue by if it can.
fn apart(
    second: impl Fn(u64, &Context) -> Result<String, String> + Send + Sync + 'static,
) -> Pipeline<u64, String> {
    Pipeline::new()
        .map(|n: u64| n)
        .with(Stage::named("first").packet_size(1).attempts(2))
        .try_map_with(second)
        .with(Stage::named("second").attempts(3).backoff(Backoff::none()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stages_that_are_apart_come_to_the_same() {
    let pipeline = apart(|n, context| match (context.stage(), context.item()) {
        ("second", Some(item)) if item == n => Ok(format!("{n} ")),
        other => Err(format!("{other:?} at {n}")),
    });
    let pipeline = pipeline
        .filter(|text| text.len() != 3)
        .reduce(String::new, |a, b| a + &b);
    for length in [0, 1, MANY, MANY + 1] {
        let expected: String = (0..length)
            .map(|n| format!("{n} "))
            .filter(|text| text.len() != 3)
            .collect();
        assert_eq!(pipeline.run(0..length).await.unwrap(), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_stage_counts_its_own_attempts_and_names_itself() {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let pipeline = apart(move |n, _| match n {
        77 => {
            counted.fetch_add(1, Relaxed);
            Err("it is bad".to_owned())
        }
        _ => Ok(n.to_string()),
    });
    let error = pipeline.count().run(0..MANY).await.unwrap_err();
    let Error::Failed { failure, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((&*failure.stage, failure.item), ("second", Some(77)));
    assert_eq!(failure.attempts.len(), 3, "{failure}");
    assert_eq!(calls.load(Relaxed), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_stage_that_fails_once_or_is_slow_goes_on() {
    let calls = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&calls);
    let pipeline = apart(move |n, _| {
        if n == 77 {
            assert!(counted.fetch_add(1, Relaxed) > 1, "not yet");
        }
        if n % 500 == 1 {
            work_long();
        }
        Ok(format!("{n} "))
    });
    let pipeline = pipeline.reduce(String::new, |a, b| a + &b);
    assert_eq!(pipeline.run(0..MANY).await.unwrap(), counting(MANY));
    assert_eq!(calls.load(Relaxed), 3);
}
