//! Random chains of functions over random stages, of which values fail at random attempts of their items, against plain
//! iterators: nothing is lost, doubled or reordered.

use std::fmt::Debug;
use std::future::ready;

use catchment::{BoxError, Codec, Context, OnFailure, Outcome, Pipeline, Stage, permanent};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::skipping;
use crate::store::{Store, soon};

/// What travels: the item that a value came from, and the value.
type Value = (u64, u64);

/// A function. Those that can fail do so by a rule of their own number.
#[derive(Clone, Copy, Debug)]
enum Op {
    Map(u64),
    TryMap(u64),
    Filter(u64),
    FlatMap(u64),
    FilterMap(u64),
    Panics(u64),
}

/// A stage: asynchronous functions, of which there is one kind only, or others.
#[derive(Clone, Debug)]
struct Ops {
    is_async: bool,
    ops: Vec<Op>,
    attempts: u32,
}

#[derive(Clone, Debug)]
struct Chain {
    length: u64,
    packet_size: u32,
    fan_in: u32,
    stages: Vec<Ops>,
}

fn chain() -> impl Strategy<Value = Chain> {
    let op = prop_oneof![
        (1..20u64).prop_map(Op::Map),
        (1..20u64).prop_map(Op::TryMap),
        (1..20u64).prop_map(Op::TryMap),
        (2..5u64).prop_map(Op::Filter),
        (2..5u64).prop_map(Op::FlatMap),
        (2..5u64).prop_map(Op::FilterMap),
        (1..20u64).prop_map(Op::Panics),
    ];
    let stage = (any::<bool>(), prop::collection::vec(op, 1..5), 1..4u32);
    let stage = stage.prop_map(|(is_async, ops, attempts)| Ops {
        is_async,
        ops,
        attempts,
    });
    let stages = prop::collection::vec(stage, 1..4);
    (0..150u64, 1..150u32, 2..5u32, stages).prop_map(|(length, packet_size, fan_in, stages)| {
        Chain {
            length,
            packet_size,
            fan_in,
            stages,
        }
    })
}

/// The last attempt of its item at which a value fails; 0 if it never does. A permanent error counts as infinitely many.
fn fails_until(seed: u64, (item, value): Value) -> u32 {
    let mut hash = (seed << 40) ^ (item << 20) ^ value;
    hash = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    match (hash >> 32) % 64 {
        0..6 => 1,
        6..9 => 2,
        9 => 9,
        10 => u32::MAX,
        _ => 0,
    }
}

fn fail(seed: u64, value: Value, attempt: u32) -> Result<(), BoxError> {
    match fails_until(seed, value) {
        u32::MAX => Err(permanent(format!("{value:?} for good")).into()),
        until if attempt <= until => Err(format!("{value:?} at attempt {attempt}").into()),
        _ => Ok(()),
    }
}

impl Op {
    /// What it makes of a value.
    fn plain(self, (item, value): Value) -> Vec<Value> {
        let of = |value: u64| (item, value % 1_000_003);
        match self {
            Self::Map(n) | Self::TryMap(n) | Self::Panics(n) => vec![of(value * 31 + n)],
            Self::Filter(n) if value.is_multiple_of(n) => Vec::new(),
            Self::Filter(_) => vec![(item, value)],
            Self::FlatMap(n) => (0..value % n).map(|more| of(value * 7 + more)).collect(),
            Self::FilterMap(n) if value.is_multiple_of(n) => Vec::new(),
            Self::FilterMap(n) => vec![of(value * 3 + n)],
        }
    }

    fn seed(self) -> Option<u64> {
        match self {
            Self::TryMap(n) | Self::Panics(n) => Some(n),
            _ => None,
        }
    }

    fn add(self, items: Pipeline<u64, Value>, is_async: bool) -> Pipeline<u64, Value> {
        if is_async {
            return items.then_with(move |value: Value, context: Context| {
                ready(match self {
                    Self::Panics(n) => {
                        if let Err(error) = fail(n, value, context.attempt()) {
                            match fails_until(n, value) {
                                u32::MAX => return ready(Err(error)),
                                _ => panic!("{error}"),
                            }
                        }
                        Ok(self.one(value))
                    }
                    Self::TryMap(n) => fail(n, value, context.attempt()).map(|()| self.one(value)),
                    _ => Ok(self.one(value)),
                })
            });
        }
        match self {
            Self::Map(_) => items.map(move |value| self.one(value)),
            Self::TryMap(n) => items.try_map_with(move |value, context: &Context| {
                fail(n, value, context.attempt()).map(|()| self.one(value))
            }),
            Self::Panics(n) => items.try_map_with(move |value, context: &Context| {
                if let Err(error) = fail(n, value, context.attempt()) {
                    panic!("{error}");
                }
                Ok::<_, BoxError>(self.one(value))
            }),
            Self::Filter(_) => items.filter(move |value| !self.plain(*value).is_empty()),
            Self::FlatMap(_) => items.flat_map(move |value| self.plain(value)),
            Self::FilterMap(_) => items.filter_map(move |value| self.plain(value).pop()),
        }
    }

    /// As an asynchronous function, which makes one value of each.
    fn one(self, value: Value) -> Value {
        match self {
            Self::Filter(n) | Self::FlatMap(n) | Self::FilterMap(n) => Self::Map(n).plain(value)[0],
            _ => self.plain(value)[0],
        }
    }
}

impl Chain {
    fn pipeline(&self) -> Pipeline<u64, Vec<Value>, catchment::pipeline::One> {
        let mut items = Pipeline::new().map(|n: u64| (n, n));
        items = items.with(Stage::named("begin").packet_size(self.packet_size));
        for (place, stage) in self.stages.iter().enumerate() {
            for op in &stage.ops {
                items = op.add(items, stage.is_async);
            }
            let name = format!("s{place}");
            let options = Stage::named(name).attempts(stage.attempts);
            let options = options.backoff(catchment::Backoff::none());
            items = items.with(options.on_failure(OnFailure::Skip).concurrency(7));
        }
        let reduction = items.collect();
        reduction.with(Stage::named("collect").fan_in(self.fan_in))
    }

    /// What is left of an item; `None` if it is left out. A function sees what the one before it has made of its item in
    /// the same attempt.
    fn plain(&self, item: u64) -> Option<Vec<Value>> {
        let mut values = vec![(item, item)];
        for stage in &self.stages {
            let survives = (1..=stage.attempts).find_map(|attempt| {
                let mut made = values.clone();
                for op in &stage.ops {
                    for value in &made {
                        if let Some(seed) = op.seed() {
                            let until = fails_until(seed, *value);
                            // A permanent error leaves no other attempt; a panic is none.
                            if until >= attempt {
                                return None;
                            }
                        }
                    }
                    made = match stage.is_async {
                        true => made.into_iter().map(|value| op.one(value)).collect(),
                        false => made.into_iter().flat_map(|value| op.plain(value)).collect(),
                    };
                }
                Some(made)
            });
            values = survives?;
        }
        Some(values)
    }

    fn check(&self, outcome: &Outcome<Vec<Value>>) -> Result<(), TestCaseError> {
        let all: Vec<_> = (0..self.length).map(|item| self.plain(item)).collect();
        let expected: Vec<Value> = all.iter().flatten().flatten().copied().collect();
        let left_out = all.iter().filter(|values| values.is_none()).count() as u64;
        prop_assert_eq!(&outcome.value, &expected);
        prop_assert_eq!(outcome.skipped, left_out);
        prop_assert_eq!(outcome.contains + outcome.skipped, self.length);
        let listed = outcome.failures.iter().map(|failure| failure.item.unwrap());
        let mut listed: Vec<u64> = listed.collect();
        listed.sort_unstable();
        listed.dedup();
        prop_assert_eq!(listed.len() as u64 + outcome.more_failures, left_out);
        for item in listed {
            prop_assert!(all[item as usize].is_none(), "item {} is listed", item);
        }
        Ok(())
    }

    async fn embedded(&self) -> Result<(), TestCaseError> {
        let outcome = soon(self.pipeline().run_outcome(0..self.length)).await;
        self.check(&outcome.map_err(failed)?)
    }

    async fn deployed(&self, codec: Codec) -> Result<(), TestCaseError> {
        let pipeline = self.pipeline().codec(codec);
        let store = Store::new();
        let deployment = pipeline.deploy("chain", store.backend()).map_err(failed)?;
        let workers = [deployment.worker().start(), deployment.worker().start()];
        let run = deployment.submit(0..self.length).await.map_err(failed)?;
        let outcome = soon(run.outcome()).await.map_err(failed)?;
        for worker in workers {
            worker.shutdown().await;
        }
        self.check(&outcome)
    }
}

fn failed(error: impl Debug) -> TestCaseError {
    TestCaseError::fail(format!("{error:?}"))
}

#[test]
fn what_rounds_make_is_what_iterators_make() {
    let _ = skipping(1);
    let cases = std::env::var("CATCHMENT_TEST_CASES");
    let cases = cases
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(150);
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let checked = runner.run(&chain(), |chain| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            chain.embedded().await?;
            chain.deployed(Codec::Json).await?;
            #[cfg(feature = "postcard")]
            chain.deployed(Codec::Postcard).await?;
            Ok(())
        })
    });
    if let Err(error) = checked {
        panic!("{error}");
    }
}
