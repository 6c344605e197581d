//! Random pipelines of functions, groupings and reductions, compared with the same on iterators, bit for bit.

use std::collections::BTreeMap;

use catchment::testing::faults::{Copies, Duplicate};
use catchment::{Pipeline, Stage};
use proptest::prelude::*;

use crate::common::*;

/// The function `x -> a * x + b` over the ring of 64-bit numbers. Composing two of them is associative and not commutative,
/// so that it shows in which order items were combined.
type Item = (u64, u64);

fn compose(first: Item, second: Item) -> Item {
    let (a, b) = first;
    let (c, d) = second;
    (a.wrapping_mul(c), b.wrapping_mul(c).wrapping_add(d))
}

/// What a grouped reduction makes of the items of a key.
#[derive(Clone, Copy, Debug)]
enum Each {
    Reduce,
    TryReduce,
    Fold,
    Count,
    Collect,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Map(u64),
    Then(u64),
    Filter(u64),
    FlatMap(u64),
    /// Groups by the remainder of this division, and makes items of the pairs again.
    Group(u64, Each),
    /// The same, with a text for a key.
    GroupByText(u64, Each),
    /// Combines all items and makes several of the one value.
    Reduce(u64),
}

fn each() -> impl Strategy<Value = Each> {
    prop_oneof![
        Just(Each::Reduce),
        Just(Each::TryReduce),
        Just(Each::Fold),
        Just(Each::Count),
        Just(Each::Collect),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1..9u64).prop_map(Step::Map),
        1 => (1..9u64).prop_map(Step::Then),
        1 => (2..5u64).prop_map(Step::Filter),
        1 => (1..4u64).prop_map(Step::FlatMap),
        4 => (1..20u64, each()).prop_map(|(by, each)| Step::Group(by, each)),
        2 => (1..20u64, each()).prop_map(|(by, each)| Step::GroupByText(by, each)),
        1 => (1..30u64).prop_map(Step::Reduce),
    ]
}

fn map(by: u64, (a, b): Item) -> Item {
    (a.wrapping_mul(2 * by + 1), b.wrapping_add(by))
}

fn several(by: u64, (a, b): Item) -> Vec<Item> {
    (0..b % (by + 1))
        .map(|copy| (a.wrapping_add(2 * copy), b ^ copy))
        .collect()
}

fn of_list(items: &[Item]) -> Item {
    let sum = items
        .iter()
        .fold(0u64, |sum, (a, b)| sum.rotate_left(7) ^ a ^ b);
    (items.len() as u64 | 1, sum)
}

/// The items that follow from the pairs of a grouping.
macro_rules! grouped {
    ($grouped:expr, $each:expr, $number:expr) => {{
        let (grouped, number) = ($grouped, $number);
        match $each {
            Each::Reduce => {
                let pairs = grouped.reduce(|| (1, 0), compose);
                pairs.map(move |(key, (a, b))| (a, b ^ number(&key)))
            }
            Each::TryReduce => {
                let pairs = grouped.try_reduce(|| (1, 0), |a, b| Ok::<_, String>(compose(a, b)));
                pairs.map(move |(key, (a, b))| (a, b ^ number(&key)))
            }
            Each::Fold => {
                let pairs = grouped.fold(Vec::new, with, |a, b| [a, b].concat());
                pairs.map(move |(key, list)| (number(&key) | 1, of_list(&list).1))
            }
            Each::Count => grouped
                .count()
                .map(move |(key, count)| (2 * count + 1, number(&key))),
            Each::Collect => {
                let pairs = grouped.collect();
                pairs.map(move |(key, list)| (number(&key) | 1, of_list(&list).1))
            }
        }
    }};
}

fn with(mut list: Vec<Item>, item: Item) -> Vec<Item> {
    list.push(item);
    list
}

fn text(by: u64, item: &Item) -> String {
    format!("key {}", item.1 % by)
}

impl Step {
    fn add_to(self, pipeline: Pipeline<Item>) -> Pipeline<Item> {
        match self {
            Self::Map(by) => pipeline.map(move |item| map(by, item)),
            Self::Then(by) => pipeline.then(move |item| ok(map(by, item))),
            Self::Filter(by) => pipeline.filter(move |item| item.1 % by != 0),
            Self::FlatMap(by) => pipeline.flat_map(move |item| several(by, item)),
            Self::Group(by, each) => {
                grouped!(
                    pipeline.group_by(move |item| item.1 % by),
                    each,
                    |key: &u64| *key
                )
            }
            Self::GroupByText(by, each) => {
                let grouped = pipeline.group_by(move |item| text(by, item));
                grouped!(grouped, each, |key: &String| key.len() as u64)
            }
            Self::Reduce(by) => {
                let one = pipeline.reduce(|| (1, 0), compose);
                one.flat_map(move |item| several(by, item))
            }
        }
    }

    fn apply(self, items: Vec<Item>) -> Vec<Item> {
        match self {
            Self::Map(by) | Self::Then(by) => items.into_iter().map(|item| map(by, item)).collect(),
            Self::Filter(by) => items.into_iter().filter(|item| item.1 % by != 0).collect(),
            Self::FlatMap(by) => items
                .into_iter()
                .flat_map(|item| several(by, item))
                .collect(),
            Self::Group(by, each) => apply_each(items, each, |item| item.1 % by, |key| *key),
            Self::GroupByText(by, each) => {
                apply_each(items, each, |item| text(by, item), |key| key.len() as u64)
            }
            Self::Reduce(by) => several(by, items.into_iter().fold((1, 0), compose)),
        }
    }
}

fn by_key<K: Ord>(items: Vec<Item>, key: impl Fn(&Item) -> K) -> BTreeMap<K, Vec<Item>> {
    let mut groups: BTreeMap<K, Vec<Item>> = BTreeMap::new();
    for item in items {
        groups.entry(key(&item)).or_default().push(item);
    }
    groups
}

fn apply_each<K: Ord>(
    items: Vec<Item>,
    each: Each,
    key: impl Fn(&Item) -> K,
    number: impl Fn(&K) -> u64,
) -> Vec<Item> {
    let groups = by_key(items, key).into_iter();
    groups
        .map(|(key, list)| match each {
            Each::Reduce | Each::TryReduce => {
                let (a, b) = list.into_iter().fold((1, 0), compose);
                (a, b ^ number(&key))
            }
            Each::Fold | Each::Collect => (number(&key) | 1, of_list(&list).1),
            Each::Count => (2 * list.len() as u64 + 1, number(&key)),
        })
        .collect()
}

#[derive(Clone, Debug)]
struct Manner {
    packet_size: u32,
    fan_in: u32,
    copies: Copies,
}

fn manner() -> impl Strategy<Value = Manner> {
    let copies = prop_oneof![Just(Copies::None), Just(Copies::Early), Just(Copies::Late)];
    (1..12u32, 2..6u32, copies).prop_map(|(packet_size, fan_in, copies)| Manner {
        packet_size,
        fan_in,
        copies,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_pipeline_with_groupings_computes_what_iterators_do(
        steps in prop::collection::vec(step(), 0..6),
        items in prop::collection::vec(any::<Item>(), 0..80),
        manner in manner(),
        last in 1..20u64,
    ) {
        let mut expected = items.clone();
        let mut pipeline = Pipeline::new().map(|item: Item| item);
        pipeline = pipeline.with(Stage::named("first").packet_size(manner.packet_size));
        for step in &steps {
            pipeline = step.add_to(pipeline);
            expected = step.apply(expected);
        }
        let list = pipeline.clone().collect().with(Stage::new().fan_in(manner.fan_in));
        let groups = pipeline.group_by(move |item| item.1 % last).collect();
        let groups = groups.with(Stage::new().fan_in(manner.fan_in));
        let by_key: Vec<(u64, Vec<Item>)> = by_key(expected.clone(), |item| item.1 % last).into_iter().collect();

        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            // As it is, in one process.
            assert_eq!(soon(list.run(items.clone())).await.unwrap(), expected);
            let answer = soon(groups.run(items.clone())).await.unwrap();
            assert_eq!(answer.len(), by_key.len() as u64);
            assert_eq!(answer.collect::<Vec<_>>().await.unwrap(), by_key);
            for (key, list) in &by_key {
                assert_eq!(answer.get(key).await.unwrap().as_ref(), Some(list));
            }
            assert_eq!(answer.get(&last).await.unwrap(), None);

            // Written, and delivered twice.
            let store = Store::new();
            let backend = store.with(|queues| Duplicate::new(manner.copies).queues(queues));
            let deployment = groups.deploy("groups", backend).unwrap();
            let worker = deployment.worker().start();
            let run = deployment.submit(items.clone()).await.unwrap();
            let outcome = soon(run.outcome()).await.unwrap();
            drop(worker);
            assert_eq!(outcome.contains, items.len() as u64);
            assert_eq!(outcome.value.collect::<Vec<_>>().await.unwrap(), by_key);
        });
    }
}
