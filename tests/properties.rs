//! Random pipelines over random input, compared with the same computation on a plain iterator.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use catchment::testing::faults::{Copies, Duplicate, Shuffle};
use catchment::{Backend, Pipeline, Stage};
use common::*;
use futures::stream;
use proptest::prelude::*;

/// One stage, by what it does to its values.
#[derive(Clone, Copy, Debug)]
enum Step {
    Map(i64),
    TryMap(i64),
    Then(i64),
    Filter(i64),
    FilterMap(i64),
    FlatMap(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (-5..5i64).prop_map(Step::Map),
        (-5..5i64).prop_map(Step::TryMap),
        (-5..5i64).prop_map(Step::Then),
        (2..5i64).prop_map(Step::Filter),
        (2..5i64).prop_map(Step::FilterMap),
        (1..4i64).prop_map(Step::FlatMap),
    ]
}

impl Step {
    /// The values that the stage makes of one value.
    fn apply(self, n: i64) -> Vec<i64> {
        match self {
            Self::Map(by) | Self::TryMap(by) | Self::Then(by) => vec![n.wrapping_mul(3) + by],
            Self::Filter(by) => {
                if n % by != 0 {
                    vec![n]
                } else {
                    vec![]
                }
            }
            Self::FilterMap(by) => {
                if n % by != 0 {
                    vec![n / by]
                } else {
                    vec![]
                }
            }
            Self::FlatMap(by) => (0..n.rem_euclid(by + 1)).map(|k| n + k).collect(),
        }
    }

    fn add_to(self, pipeline: Pipeline<i64>) -> Pipeline<i64> {
        let one = move |n| self.apply(n)[0];
        match self {
            Self::Map(_) => pipeline.map(one),
            Self::TryMap(_) => pipeline.try_map(move |n| Ok::<_, String>(one(n))),
            Self::Then(_) => pipeline.then(move |n| ok(one(n))),
            Self::Filter(by) => pipeline.filter(move |n| n % by != 0),
            Self::FilterMap(_) => pipeline.filter_map(move |n| self.apply(n).pop()),
            Self::FlatMap(_) => pipeline.flat_map(move |n| self.apply(n)),
        }
    }
}

/// The manner of running, which must not change the result.
#[derive(Clone, Debug)]
struct Manner {
    packet_size: Option<u32>,
    fan_in: u32,
    workers: usize,
    copies: Copies,
    shuffle: Option<u64>,
    streamed: bool,
}

fn manner() -> impl Strategy<Value = Manner> {
    let copies = prop_oneof![Just(Copies::None), Just(Copies::Early), Just(Copies::Late)];
    (
        proptest::option::of(1..20u32),
        2..6u32,
        1..4usize,
        copies,
        proptest::option::of(any::<u64>()),
        any::<bool>(),
    )
        .prop_map(
            |(packet_size, fan_in, workers, copies, shuffle, streamed)| Manner {
                packet_size,
                fan_in,
                workers,
                copies,
                shuffle,
                streamed,
            },
        )
}

/// Runs a pipeline in a given manner: returns the value, and the number of items it stands for.
macro_rules! run {
    ($pipeline:expr, $items:expr, $manner:expr) => {{
        let Manner {
            workers,
            copies,
            shuffle,
            streamed,
            ..
        } = $manner;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let store = Store::new();
            let backend = store
                .with(|queues| Shuffle::new(shuffle).queues(Duplicate::new(copies).queues(queues)));
            let deployment = $pipeline.deploy("random", backend).unwrap();
            let start = |_| deployment.worker().start();
            let workers: Vec<_> = (0..workers).map(start).collect();
            let run = match streamed {
                true => deployment
                    .submit_stream(stream::iter($items))
                    .await
                    .unwrap(),
                false => deployment.submit($items).await.unwrap(),
            };
            let outcome = soon(run.outcome()).await.unwrap();
            assert_eq!(outcome.skipped, 0);
            assert_eq!(outcome.contains, outcome.items);
            drop(workers);
            (outcome.value, outcome.items)
        })
    }};
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pipeline_computes_what_an_iterator_does(
        steps in prop::collection::vec((step(), any::<bool>()), 0..5),
        items in prop::collection::vec(-1_000..1_000i64, 0..60),
        manner in manner(),
    ) {
        let mut expected = items.clone();
        for (step, _) in &steps {
            expected = expected.into_iter().flat_map(|n| step.apply(n)).collect();
        }
        // The first stage is always there, so that it can have a packet size.
        let mut options = Stage::named("first");
        if let Some(size) = manner.packet_size {
            options = options.packet_size(size);
        }
        let mut pipeline = Pipeline::new().map(|n: i64| n).with(options);
        for (step, ends_its_stage) in steps {
            pipeline = step.add_to(pipeline);
            if ends_its_stage {
                pipeline = pipeline.with(Stage::new());
            }
        }
        let by = || Stage::new().fan_in(manner.fan_in);
        let length = items.len() as u64;

        let list = pipeline.clone().collect().with(by());
        let (value, stands_for) = run!(list, items.clone(), manner.clone());
        prop_assert_eq!(&value, &expected);
        prop_assert_eq!(stands_for, length);

        // The collected list becomes items again, which are added up.
        let again = list.flat_map(|list| list).fold(
            || (0i64, 0u64),
            |(sum, count), n| (sum.wrapping_add(n), count + 1),
            |(a, n), (b, m)| (a.wrapping_add(b), n + m),
        );
        let (value, stands_for) = run!(again, items.clone(), manner.clone());
        let sum = expected.iter().fold(0i64, |a, b| a.wrapping_add(*b));
        prop_assert_eq!(value, (sum, expected.len() as u64));
        prop_assert_eq!(stands_for, length);

        let (value, _) = run!(pipeline.clone(), items.clone(), manner.clone());
        prop_assert_eq!(value, length);
        let (value, _) = run!(pipeline.count().with(by()), items, manner);
        prop_assert_eq!(value, expected.len() as u64);
    }

    /// However large items are, and wherever a queue's limit cuts between them.
    #[test]
    fn packets_are_cut_anywhere_and_the_result_is_the_same(
        sizes in prop::collection::vec(0..600usize, 0..80),
        limit in 900..4_000usize,
        packet_size in 1..40u32,
        manner in manner(),
    ) {
        let items: Vec<String> = sizes.iter().map(|size| "x".repeat(*size)).collect();
        let queues = catchment::backends::memory::MemoryQueues::new().max_body(limit);
        let store = Store::with_queues(queues);
        let pipeline = Pipeline::new()
            .then(|text: String| ok(text.len()))
            .with(Stage::new().packet_size(packet_size))
            .collect()
            .with(Stage::new().fan_in(manner.fan_in));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let (value, contains) = runtime.block_on(async {
            let backend: Backend = store.backend();
            let deployment = pipeline.deploy("cut", backend).unwrap();
            let worker = deployment.worker().start();
            let run = match manner.streamed {
                true => deployment.submit_stream(stream::iter(items)).await.unwrap(),
                false => deployment.submit(items).await.unwrap(),
            };
            let outcome = soon(run.outcome()).await.unwrap();
            drop(worker);
            (outcome.value, outcome.contains)
        });
        prop_assert_eq!(contains, sizes.len() as u64);
        prop_assert_eq!(value, sizes);
    }
}
