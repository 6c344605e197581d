//! Pipelines of every shape: without a reduction or with several, and the context of their
//! functions.

use std::sync::Arc;

use catchment::{
    Backend, BoxError, Combine, Context, Emitter, Execution, Items, Map, OnFailure, Pipeline,
    Stage, permanent,
};
use serde_json::Value;

use crate::common::*;
use crate::lengths::lengths;

#[tokio::test(start_paused = true)]
async fn all_filtered_out_gives_the_identity() {
    for length in lengths(2) {
        let nothing = || Pipeline::new().filter(|_: &u64| false);
        let sum = nothing()
            .reduce(|| 0, |a, b| a + b)
            .with(Stage::new().fan_in(2));
        assert_eq!(soon(sum.run(0..length)).await.unwrap(), 0);
        let product = nothing().reduce(|| 1, |a, b| a * b);
        assert_eq!(soon(product.run(0..length)).await.unwrap(), 1);
        let list = nothing().map(|n| n.to_string()).collect();
        assert_eq!(
            soon(list.run(0..length)).await.unwrap(),
            Vec::<String>::new()
        );
        assert_eq!(soon(nothing().count().run(0..length)).await.unwrap(), 0);
        let longest = nothing().fold(|| None, |a, n| a.max(Some(n)), Option::max);
        assert_eq!(soon(longest.run(0..length)).await.unwrap(), None);
        let all_but_one = Pipeline::new()
            .filter(|n: &u64| *n == 3)
            .reduce(|| 0, |a, b| a + b)
            .with(Stage::new().fan_in(2));
        let expected = if length > 3 { 3 } else { 0 };
        assert_eq!(soon(all_but_one.run(0..length)).await.unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_reduction_the_answer_is_how_many_items_went_through() {
    for length in [0, 1, 32, 33, 100, 1_500] {
        let run = async |pipeline: Pipeline<u64>| soon(pipeline.run(0..length)).await.unwrap();
        assert_eq!(run(Pipeline::new()).await, length);
        assert_eq!(run(Pipeline::new().map(|n: u64| n)).await, length);
        assert_eq!(run(Pipeline::new().then(ok::<u64>)).await, length);
        // The number of values that an item yields does not matter: the item was processed.
        assert_eq!(
            run(Pipeline::new().filter(|n: &u64| n.is_multiple_of(2))).await,
            length
        );
        assert_eq!(run(Pipeline::new().filter(|_: &u64| false)).await, length);
        assert_eq!(run(Pipeline::new().flat_map(|n: u64| [n; 3])).await, length);
        let mixed = Pipeline::new()
            .flat_map(|n: u64| vec![n; (n % 4) as usize])
            .filter(|n| n % 3 == 0)
            .filter_map(|n| (n > 5).then_some(n))
            .flat_map(|n| [n, n]);
        assert_eq!(run(mixed).await, length);
    }
}

#[tokio::test(start_paused = true)]
async fn items_that_were_skipped_did_not_go_through() {
    let pipeline = Pipeline::new()
        .try_map(|n: u64| match n % 10 {
            7 => Err(permanent("a seven")),
            _ => Ok(n),
        })
        .with(Stage::new().on_failure(OnFailure::Skip));
    assert_eq!(soon(pipeline.run(0..100)).await.unwrap(), 90);
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_may_begin_with_its_reduction() {
    let sum = Pipeline::new().reduce(|| 0i64, |a, b| a + b);
    assert_eq!(soon(sum.run(1..=5)).await.unwrap(), 15);
    let words = Pipeline::new().combine(Concat);
    let items = ["a", "b", "c"].map(str::to_owned);
    assert_eq!(soon(words.run(items)).await.unwrap(), "abc");
    let deployment = sum.deploy("sum", Backend::memory()).unwrap();
    assert_eq!(
        deployment.stages().collect::<Vec<_>>(),
        ["map-0", "reduce-1"]
    );
}

#[tokio::test(start_paused = true)]
async fn stages_that_are_apart_have_a_queue_each() {
    let store = Store::new();
    let record = Arc::new(Record::default());
    let deployment = Pipeline::new()
        .map(|n: u64| n + 1)
        .with(Stage::new())
        .filter(|n| n % 2 == 0)
        .with(Stage::named("even"))
        .then(ok)
        .flat_map(|n| [n, n])
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::new().fan_in(4))
        .map(|sum| sum * 10)
        .deploy("many", store.hooked(record.clone()))
        .unwrap();
    let stages = ["map-0", "even", "map-2", "map-3", "reduce-4", "map-5"];
    assert_eq!(deployment.stages().collect::<Vec<_>>(), stages);
    let worker = deployment.worker().start();
    let run = deployment.submit(0..10).await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), 600);
    // Ten packets pass each queue before the reduction, filtered out or not; three full or told
    // groups and the root pass its own; the finishing stage gets the one value.
    for (stage, expected) in stages.iter().zip([10, 10, 10, 10, 4, 1]) {
        let queue = format!("many--{stage}");
        let sent = record.sent();
        let sent: Vec<_> = sent.iter().filter(|(name, _)| *name == queue).collect();
        assert_eq!(sent.len(), expected, "{queue}");
        for (_, body) in sent {
            let message: Value = serde_json::from_slice(body).unwrap();
            assert_eq!(message["stage"], *stage);
        }
    }
    assert_eq!(record.queues().len(), stages.len());
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a_map_behind_the_reduction_finishes_the_one_value() {
    let mean = Pipeline::new()
        .map(|n: f64| n)
        .fold(
            || (0.0, 0u64),
            |(sum, count), n| (sum + n, count + 1),
            |(a, n), (b, m)| (a + b, n + m),
        )
        .map(|(sum, count)| {
            if count == 0 {
                None
            } else {
                Some(sum / count as f64)
            }
        })
        .then(|mean| ok(format!("{mean:?}")));
    assert_eq!(soon(mean.run([1.0, 2.0, 6.0])).await.unwrap(), "Some(3.0)");
    assert_eq!(soon(mean.run([])).await.unwrap(), "None");
}

#[tokio::test(start_paused = true)]
async fn what_a_flat_map_makes_of_the_one_value_is_reduced_again() {
    let counted = Pipeline::new()
        .map(|word: String| word)
        .collect()
        .with(Stage::new().fan_in(2))
        .flat_map(|words| words)
        .map(|word| word.len() as u64)
        .filter(|length| *length > 1)
        .reduce(|| 0, |a, b| a + b)
        .map(|sum| -(sum as i64));
    for length in 0..20u64 {
        let words = (0..length).map(|n| "x".repeat(n as usize));
        let expected: u64 = (2..length.max(2)).sum();
        assert_eq!(soon(counted.run(words)).await.unwrap(), -(expected as i64));
    }
    // And once more.
    let thrice = Pipeline::new()
        .reduce(|| 0u64, |a, b| a + b)
        .flat_map(|sum| 0..sum)
        .reduce(|| 0, |a, b| a + b)
        .flat_map(|sum| vec![1u64; sum as usize])
        .count();
    assert_eq!(soon(thrice.run(0..4)).await.unwrap(), 15);
    // Without the second reduction, the answer is how many items went in.
    let open = Pipeline::new()
        .reduce(|| 0u64, |a, b| a + b)
        .flat_map(|sum| 0..sum);
    assert_eq!(soon(open.run(0..4)).await.unwrap(), 4);
}

/// An asynchronous stage that asks for a thread: its future may wait nevertheless.
struct Patient;

impl Map for Patient {
    type Input = u64;
    type Output = u64;

    async fn map(
        &self,
        n: u64,
        _: &Context,
        output: &mut Emitter<'_, u64>,
    ) -> Result<(), BoxError> {
        tokio::task::yield_now().await;
        output.push(n);
        tokio::task::yield_now().await;
        output.extend([n * 10]);
        Ok(())
    }

    fn execution(&self) -> Execution {
        Execution::Blocking
    }
}

impl Combine for Patient {
    type Input = u64;
    type Output = u64;

    fn identity(&self) -> u64 {
        0
    }

    async fn fold(&self, items: Items<'_, u64>, _: &Context) -> Result<u64, BoxError> {
        tokio::task::yield_now().await;
        Ok(items.sum())
    }

    async fn combine(&self, group: Vec<u64>, _: &Context) -> Result<u64, BoxError> {
        tokio::task::yield_now().await;
        Ok(group.into_iter().sum())
    }

    fn execution(&self) -> Execution {
        Execution::Blocking
    }
}

#[tokio::test(start_paused = true)]
async fn a_stage_on_a_thread_may_wait() {
    let pipeline = Pipeline::new()
        .stage(Patient)
        .with(Stage::new().packet_size(3))
        .combine(Patient)
        .with(Stage::new().fan_in(2));
    assert_eq!(soon(pipeline.run(0..10)).await.unwrap(), 45 * 11);
}

/// Functions know which item of which run they work on, and the attempt number.
#[tokio::test(start_paused = true)]
async fn a_context_names_the_item() {
    type Seen = (String, Option<u64>, u32);
    fn seen(context: &Context) -> Seen {
        let place = format!("{} of {}", context.stage(), context.run());
        (place, context.item(), context.attempt())
    }
    let deployment = Pipeline::new()
        .then_with(|n: u64, context| ok((n, seen(&context))))
        .with(Stage::named("first").packet_size(3))
        // Item n becomes n values.
        .flat_map(|(n, first): (u64, Seen)| vec![first; n as usize])
        .try_map_with(|first, context: &Context| Ok::<_, String>((first, seen(context))))
        .with(Stage::named("last"))
        .collect()
        .try_map_with(|pairs, context: &Context| Ok::<_, String>((pairs, seen(context))))
        .with(Stage::named("finish"))
        .deploy("where", Backend::memory())
        .unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit_as("run", 0..5).await.unwrap();
    let (pairs, finish) = soon(run.result()).await.unwrap();
    let expected = (0..5).flat_map(|n| {
        let pair = (
            ("first of run".to_owned(), Some(n), 1),
            ("last of run".to_owned(), Some(n), 1),
        );
        vec![pair; n as usize]
    });
    assert_eq!(pairs, expected.collect::<Vec<_>>());
    assert_eq!(finish, ("finish of run".to_owned(), None, 1));
    drop(worker);
}
