//! Items that are left out, by policy.

use catchment::queue::Depth;
use catchment::testing::faults::{Copies, Duplicate};
use catchment::{
    Backend, BoxError, Context, Emitter, Execution, Map, OnFailure, Pipeline, RunState, Stage,
    permanent,
};
use futures::stream;
use tokio::time::sleep;

use super::*;
use crate::common::*;

/// A pipeline that leaves out the multiples of ten.
fn lenient(policy: OnFailure, packet_size: u32) -> Sum {
    let items = Pipeline::new()
        .try_map(|n: u64| {
            if n.is_multiple_of(10) {
                Err("a ten")
            } else {
                Ok(n)
            }
        })
        .with(
            Stage::named("lenient")
                .packet_size(packet_size)
                .attempts(2)
                .on_failure(policy),
        );
    sum(items)
}

fn without_tens(length: u64) -> u64 {
    (0..length).filter(|n| n % 10 != 0).sum()
}

#[tokio::test(start_paused = true)]
async fn skipped_items_are_left_out_listed_and_counted() {
    for packet_size in [1, 4, 100] {
        for copies in [Copies::None, Copies::Early, Copies::Late] {
            let store = Store::new();
            let backend = store.with(|queues| Duplicate::new(copies).queues(queues));
            let pipeline = lenient(OnFailure::Skip, packet_size);
            let deployment = pipeline.deploy("skip", backend).unwrap();
            let worker = deployment.worker().start();
            let run = deployment.submit(0..45).await.unwrap();
            let outcome = soon(run.outcome()).await.unwrap();
            assert_eq!(outcome.value, without_tens(45));
            assert_eq!(
                (outcome.items, outcome.contains, outcome.skipped),
                (45, 40, 5)
            );
            let failures = run.failures().await.unwrap();
            let mut items: Vec<u64> = failures.iter().filter_map(|failure| failure.item).collect();
            items.sort_unstable();
            assert_eq!(items, [0, 10, 20, 30, 40]);
            for failure in &failures {
                assert!(
                    failure.is_skipped() && failure.error.contains("a ten"),
                    "{failure}"
                );
                assert_eq!(failure.stage, "lenient");
            }
            sleep(MINUTE).await;
            let status = run.status().await.unwrap();
            assert_eq!((status.state, status.items_skipped), (RunState::Done, 5));
            assert_eq!((status.messages_failed, status.items_done), (0, 45));
            assert_eq!(store.depth(&deployment).await, Depth::default());
            drop(worker);
        }
    }
}

/// An item is one item, however many values a stage before has made of it and however many of them
/// fail.
#[tokio::test(start_paused = true)]
async fn an_item_whose_values_all_fail_is_skipped_once() {
    for values in [1, 2, 30] {
        let items = Pipeline::new()
            .flat_map(move |n: u64| vec![n; values])
            .with(Stage::new().packet_size(4))
            .try_map(|n| if n == 7 { Err("seven") } else { Ok(n) })
            .with(Stage::new().attempts(2).on_failure(OnFailure::Skip));
        let deployment = sum(items).deploy("once", Backend::memory()).unwrap();
        let worker = deployment.worker().start();
        let run = deployment.submit(0..12).await.unwrap();
        let outcome = soon(run.outcome()).await.unwrap();
        assert_eq!(outcome.value, values as u64 * (66 - 7));
        assert_eq!(
            (outcome.items, outcome.contains, outcome.skipped),
            (12, 11, 1)
        );
        worker.shutdown().await;
    }
}

/// The others of its packet stay, whatever is wrong with an item and wherever.
#[tokio::test(start_paused = true)]
async fn only_the_bad_items_are_skipped_and_not_their_packet() {
    let skip = || Stage::new().attempts(2).on_failure(OnFailure::Skip);
    let packets = || skip().packet_size(8);
    let items: [(&str, Sum); 6] = [
        (
            "a panic",
            sum(Pipeline::new()
                .map(|n: u64| if n == 7 { panic!("seven") } else { n })
                .with(packets())),
        ),
        (
            "an asynchronous panic",
            sum(Pipeline::new()
                .then(|n: u64| async move { if n == 7 { panic!("seven") } else { ok(n).await } })
                .with(packets())),
        ),
        (
            "a permanent error",
            sum(Pipeline::new()
                .try_map(|n: u64| {
                    if n == 7 {
                        Err(permanent("seven"))
                    } else {
                        Ok(n)
                    }
                })
                .with(packets())),
        ),
        (
            "a panic in a fold",
            Pipeline::new().map(|n: u64| n).with(packets()).fold(
                || 0,
                |sum, n| if n == 7 { panic!("seven") } else { sum + n },
                |a, b| a + b,
            ),
        ),
        (
            "no end",
            sum(Pipeline::new()
                .then(|n: u64| async move {
                    if n == 7 {
                        std::future::pending::<()>().await;
                    }
                    ok(n).await
                })
                .with(packets())),
        ),
        (
            // Seven sevens, of which the first are fine.
            "one of many values",
            sum(Pipeline::new()
                .flat_map(|n: u64| (0..n).map(|k| (n, k)).collect::<Vec<_>>())
                .with(Stage::new().packet_size(8))
                .try_map(|(n, k)| match (n, k) {
                    (7, 4) => Err("seven"),
                    (n, k) => Ok(u64::from(k == 0) * n),
                })
                .with(skip())),
        ),
    ];
    for (what, pipeline) in items {
        let deployment = pipeline.deploy("skip", Backend::memory()).unwrap();
        let worker = deployment.worker().start();
        let run = deployment.submit(0..20).await.unwrap();
        let outcome = soon(run.outcome()).await.unwrap();
        assert_eq!(outcome.value, 190 - 7, "{what}");
        assert_eq!(
            (outcome.items, outcome.contains, outcome.skipped),
            (20, 19, 1),
            "{what}"
        );
        let failures = run.failures().await.unwrap();
        let [failure] = failures.as_slice() else {
            panic!("{what}: {failures:?}");
        };
        assert_eq!(failure.item, Some(7), "{what}");
        drop(worker);
    }
}

#[tokio::test(start_paused = true)]
async fn so_many_bad_items_are_tolerated_and_not_one_more() {
    // Five of 45 are tens.
    for (policy, streamed, tolerated) in [
        (OnFailure::Tolerate(5), false, true),
        (OnFailure::Tolerate(5), true, true),
        (OnFailure::Tolerate(4), false, false),
        (OnFailure::Tolerate(4), true, false),
        (OnFailure::Tolerate(0), false, false),
        (OnFailure::TolerateShare(12.0), false, true),
        (OnFailure::TolerateShare(12.0), true, true),
        (OnFailure::TolerateShare(11.0), false, false),
        (OnFailure::TolerateShare(11.0), true, false),
        (OnFailure::TolerateShare(100.0), true, true),
        (OnFailure::TolerateShare(0.0), false, false),
        (OnFailure::TolerateShare(0.0), true, false),
    ] {
        for packet_size in [1, 7] {
            let what = format!("{policy:?}, streamed: {streamed}, packets of {packet_size}");
            let pipeline = lenient(policy, packet_size);
            // Every message is delivered twice: one bad item counts once.
            let store = Store::new();
            let backend = store.with(|queues| Duplicate::new(Copies::Early).queues(queues));
            let deployment = pipeline.deploy("tolerate", backend).unwrap();
            let worker = deployment.worker().start();
            let run = match streamed {
                false => deployment.submit(0..45).await.unwrap(),
                true => deployment.submit_stream(stream::iter(0..45)).await.unwrap(),
            };
            match soon(run.outcome()).await {
                Ok(outcome) => {
                    assert!(tolerated, "{what}");
                    assert_eq!(outcome.value, without_tens(45), "{what}");
                    assert_eq!(
                        (outcome.items, outcome.contains, outcome.skipped),
                        (45, 40, 5)
                    );
                }
                Err(error) => {
                    assert!(!tolerated, "{what}: {error}");
                    let text = failure(error).error;
                    assert!(text.contains("tolerate"), "{what}: {text}");
                    assert_eq!(run.status().await.unwrap().state, RunState::Failed);
                }
            }
            drop(worker);
        }
    }
}

/// What becomes a dead letter because it is one too many is not listed as left out as well.
#[tokio::test(start_paused = true)]
async fn each_bad_item_is_listed_once() {
    for copies in [Copies::None, Copies::Early, Copies::Late] {
        for packet_size in [1, 4] {
            let store = Store::new();
            let backend = store.with(|queues| Duplicate::new(copies).queues(queues));
            let pipeline = lenient(OnFailure::Tolerate(10), packet_size);
            let deployment = pipeline.deploy("once", backend).unwrap();
            let worker = deployment.worker().start();
            let run = deployment.submit(0..200).await.unwrap();
            soon(run.outcome()).await.unwrap_err();
            sleep(MINUTE).await;
            let failures = run.failures().await.unwrap();
            let mut items: Vec<u64> = failures.iter().filter_map(|it| it.item).collect();
            items.sort_unstable();
            let bad: Vec<u64> = (0..200).step_by(10).collect();
            assert_eq!(items, bad, "{copies:?}, packets of {packet_size}");
            let skipped = failures.iter().filter(|it| it.is_skipped()).count() as u64;
            let status = run.status().await.unwrap();
            assert_eq!(
                (status.items_skipped, status.messages_failed),
                (skipped, 20 - skipped)
            );
            assert!(skipped <= 10, "{skipped} were left out");
            drop(worker);
        }
    }
}

/// As floating point numbers, 69 · 100 is more than 18.4 · 375.
#[tokio::test(start_paused = true)]
async fn a_share_is_compared_exactly() {
    for (length, bad, share, tolerated) in [
        (375, 69, 18.4, true),
        (375, 70, 18.4, false),
        (1_000, 7, 0.7, true),
        (1_000, 8, 0.7, false),
        (300, 1, 1e-300, false),
    ] {
        for streamed in [false, true] {
            let what = format!("{bad} of {length}, {share} per cent, streamed: {streamed}");
            let items = Pipeline::new()
                .try_map(move |n: u64| match n < bad {
                    true => Err("bad"),
                    false => Ok(n),
                })
                .with(
                    Stage::named("lenient")
                        .packet_size(50)
                        .attempts(1)
                        .on_failure(OnFailure::TolerateShare(share)),
                );
            let deployment = items.count().deploy("share", Backend::memory()).unwrap();
            let worker = deployment.worker().start();
            let run = match streamed {
                false => deployment.submit(0..length).await.unwrap(),
                true => {
                    let items = stream::iter(0..length);
                    deployment.submit_stream(items).await.unwrap()
                }
            };
            let outcome = soon(run.outcome()).await;
            match outcome {
                Ok(outcome) => {
                    assert!(tolerated, "{what}");
                    assert_eq!(outcome.skipped, bad, "{what}");
                }
                Err(error) => assert!(!tolerated, "{what}: {error}"),
            }
            drop(worker);
        }
    }
}

/// Whichever stage leaves out its items first, the outcome is the same: a limit is that of the run.
#[tokio::test(start_paused = true)]
async fn a_limit_counts_the_items_of_all_stages_in_any_order() {
    for policy in [OnFailure::Tolerate(2), OnFailure::TolerateShare(4.0)] {
        for first_fail_first in [true, false] {
            let what = format!("{policy:?}, {first_fail_first}");
            let bad = move |n: u64| match first_fail_first {
                true => n < 2,
                false => n >= 48,
            };
            let deployment = Pipeline::new()
                .try_map(move |n: u64| match bad(n) {
                    true => Err("bad at first"),
                    false => Ok(n),
                })
                .with(
                    Stage::named("strict")
                        .packet_size(1)
                        .concurrency(1)
                        .attempts(1)
                        .on_failure(policy),
                )
                .try_map(|n: u64| match (20..25).contains(&n) {
                    true => Err("bad later"),
                    false => Ok(n),
                })
                .with(
                    Stage::named("lenient")
                        .attempts(1)
                        .on_failure(OnFailure::Skip),
                )
                .count()
                .deploy("limit", Backend::memory())
                .unwrap();
            let worker = deployment.worker().start();
            let run = deployment.submit(0..50).await.unwrap();
            let error = soon(run.outcome()).await.expect_err(&what);
            let text = failure(error).error;
            assert!(text.contains("tolerate"), "{what}: {text}");
            drop(worker);
        }
    }
}

/// Emits two values per item, and fails in between if the item is seven.
struct Halfway(Execution);

impl Map for Halfway {
    type Input = u64;
    type Output = u64;

    async fn map(
        &self,
        n: u64,
        context: &Context,
        output: &mut Emitter<'_, u64>,
    ) -> Result<(), BoxError> {
        output.push(n);
        match n {
            7 => return Err("seven".into()),
            8 => panic!("eight"),
            9 if context.attempt() == 1 => return Err("nine, at first".into()),
            n => output.push(n),
        }
        Ok(())
    }

    fn execution(&self) -> Execution {
        self.0
    }
}

/// An item counts whole or not at all.
#[tokio::test(start_paused = true)]
async fn what_an_item_emitted_before_it_failed_does_not_count() {
    for execution in [Execution::Async, Execution::Blocking] {
        let pipeline = Pipeline::new()
            .stage(Halfway(execution))
            .with(
                Stage::new()
                    .packet_size(5)
                    .attempts(2)
                    .on_failure(OnFailure::Skip),
            )
            .collect();
        let values = soon(pipeline.run(0..12)).await.unwrap();
        let expected = (0..12).filter(|n| ![7, 8].contains(n));
        let expected: Vec<u64> = expected.flat_map(|n| [n, n]).collect();
        assert_eq!(values, expected, "{execution:?}");
    }
}
