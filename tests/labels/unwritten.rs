//! A value that cannot be written or read: its failure names the stage that makes such values and their type, says what
//! else to write, and comes at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use catchment::pipeline::One;
use catchment::{Backend, BoxError, Data, Error, Failure, OnFailure, Pipeline, Stage};

/// The failure of a deployed run.
async fn failure<I: Data, R: Data + std::fmt::Debug>(
    pipeline: &Pipeline<I, R, One>,
    items: impl IntoIterator<Item = I, IntoIter: Send>,
) -> Failure {
    let deployment = pipeline.deploy("unwritten", Backend::memory()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(items).await.unwrap();
    let error = run.result().await.unwrap_err();
    worker.shutdown().await;
    let Error::Failed { failure, .. } = error else {
        panic!("{error}")
    };
    *failure
}

#[track_caller]
fn is_final_at_once(failure: &Failure, stage: &str, error: &str) {
    let numbers: Vec<u32> = failure
        .attempts
        .iter()
        .map(|attempt| attempt.number)
        .collect();
    assert_eq!(
        (failure.stage.as_str(), failure.error.as_str(), numbers),
        (stage, error, vec![1])
    );
}

type Counts = HashMap<(String, u16), u64>;

/// Counts the pairs of host and status in lines such as `a 200`.
fn counts(
    policy: OnFailure,
    calls: &Arc<AtomicUsize>,
    side_by_side: bool,
) -> Pipeline<String, Counts, One> {
    let calls = Arc::clone(calls);
    let parse = move |line: String| {
        calls.fetch_add(1, Ordering::Relaxed);
        let (host, status) = line.split_once(' ').ok_or("no status")?;
        Ok::<_, BoxError>((host.to_owned(), status.parse::<u16>()?))
    };
    let pairs = match side_by_side {
        false => Pipeline::new().try_map(parse),
        true => Pipeline::new().then(move |line| std::future::ready(parse(line))),
    };
    let add = |mut counts: Counts, (key, count)| {
        *counts.entry(key).or_default() += count;
        counts
    };
    pairs
        .with(Stage::named("parse").on_failure(policy).packet_size(2))
        .fold(
            Counts::new,
            move |counts, key| add(counts, (key, 1)),
            move |a, b| b.into_iter().fold(a, add),
        )
        .with(Stage::named("sum"))
}

const TUPLE_KEYS: &str = "cannot encode a partial result of `sum` (`HashMap<(String, u16), u64>`): \
    JSON has only text as keys of a map (key must be a string); use a list of pairs, a map in a map, \
    keys that are written as text, or Codec::Postcard (feature `postcard`)";

fn lines(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_partial_result() {
    use OnFailure::{Fail, Skip, Tolerate, TolerateShare};
    for policy in [Fail, Skip, Tolerate(3), TolerateShare(50.0)] {
        for side_by_side in [false, true] {
            let pipeline = counts(policy, &Arc::default(), side_by_side);
            let failure = failure(&pipeline, lines(&["a 200", "b 404", "a 200"])).await;
            is_final_at_once(&failure, "parse", TUPLE_KEYS);
        }
    }
}

/// Of a packet with one item, too, it is not the item that is at fault, or it would be left out.
#[tokio::test(start_paused = true)]
async fn a_partial_result_of_one_item() {
    for policy in [OnFailure::Fail, OnFailure::Skip] {
        for side_by_side in [false, true] {
            let pipeline = counts(policy, &Arc::default(), side_by_side);
            let failure = failure(&pipeline, lines(&["a 200"])).await;
            assert_eq!((failure.error.as_str(), failure.item), (TUPLE_KEYS, None));
        }
    }
}

/// Where an item is left out after its attempts, those are not attempts at the partial result of the others.
#[tokio::test(start_paused = true)]
async fn a_partial_result_beside_an_item_that_fails() {
    for side_by_side in [false, true] {
        let pipeline = counts(OnFailure::Skip, &Arc::default(), side_by_side);
        let failure = failure(&pipeline, lines(&["a 200", "nothing", "b 404", "c"])).await;
        let of_the_packet = failure
            .attempts
            .iter()
            .filter(|attempt| attempt.item.is_none());
        let numbers: Vec<u32> = of_the_packet.map(|attempt| attempt.number).collect();
        assert_eq!((failure.error.as_str(), numbers), (TUPLE_KEYS, vec![1]));
    }
}

/// Inside the process nothing is written.
#[tokio::test]
async fn a_partial_result_that_stays_in_the_process() {
    let calls = Arc::default();
    let counts = counts(OnFailure::Fail, &calls, false);
    let counts = counts
        .run(lines(&["a 200", "b 404", "a 200"]))
        .await
        .unwrap();
    assert_eq!(counts[&("a".to_owned(), 200)], 2);
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

/// A stage that nobody named is named by its place.
#[tokio::test(start_paused = true)]
async fn a_partial_result_of_a_reduction_without_a_name() {
    let largest = Pipeline::new()
        .map(|n: u64| 1.0 / n as f64)
        .reduce(|| 0.0, f64::max);
    let failure = failure(&largest, [0]).await;
    is_final_at_once(
        &failure,
        "map-0",
        "cannot encode a partial result of `reduce-1` (`f64`): JSON has no number for inf; \
         write a string, or None for a number that is missing, or use Codec::Postcard (feature `postcard`)",
    );
}

/// The same pipeline under two names: neither takes the other's.
#[tokio::test(start_paused = true)]
async fn a_reduction_that_is_named_twice() {
    let largest = Pipeline::new()
        .map(|n: u64| 1.0 / n as f64)
        .reduce(|| 0.0, f64::max);
    for name in ["one", "other"] {
        let failure = failure(&largest.clone().with(Stage::named(name)), [0]).await;
        let named = format!("a partial result of `{name}` (`f64`)");
        assert!(failure.error.contains(&named), "{failure}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_combined_partial_result() {
    let sum = Pipeline::new()
        .map(|n: f64| n)
        .with(Stage::named("same").packet_size(1))
        .reduce(|| 0.0, |a, b| a + b)
        .with(Stage::named("sum"));
    let failure = failure(&sum, [f64::MAX, f64::MAX]).await;
    is_final_at_once(
        &failure,
        "sum",
        "cannot encode a partial result of `sum` (`f64`): JSON has no number for inf; \
         write a string, or None for a number that is missing, or use Codec::Postcard (feature `postcard`)",
    );
}

#[tokio::test(start_paused = true)]
async fn an_identity() {
    let largest = Pipeline::new()
        .map(|n: f64| n)
        .reduce(|| f64::NAN, f64::max)
        .with(Stage::named("largest"));
    let failure = failure(&largest, []).await;
    is_final_at_once(
        &failure,
        "largest",
        "cannot encode the identity of `largest` (`f64`), which is the result of no items: JSON has no number for NaN; \
         write a string, or None for a number that is missing, or use Codec::Postcard (feature `postcard`)",
    );
}

#[tokio::test(start_paused = true)]
async fn a_result() {
    let mean = Pipeline::new()
        .map(|n: f64| n)
        .fold(
            || (0.0, 0.0),
            |(s, n), x| (s + x, n + 1.0),
            |a, b| (a.0 + b.0, a.1 + b.1),
        )
        .map(|(sum, count)| sum / count)
        .with(Stage::named("mean"));
    let failure = failure(&mean, []).await;
    is_final_at_once(
        &failure,
        "mean",
        "cannot encode the result (`f64`): JSON has no number for NaN; \
         write a string, or None for a number that is missing, or use Codec::Postcard (feature `postcard`)",
    );
}

#[tokio::test(start_paused = true)]
async fn an_output_for_the_next_stage() {
    for side_by_side in [false, true] {
        let invert = |n: u64| (n, 1.0 / n as f64);
        let inverted = match side_by_side {
            false => Pipeline::new().map(invert),
            true => Pipeline::new().then(move |n| std::future::ready(Ok::<_, BoxError>(invert(n)))),
        };
        let count = inverted
            .with(Stage::named("invert").packet_size(4))
            .map(|pair: (u64, f64)| pair)
            .count();
        let failure = failure(&count, [3, 2, 0, 1]).await;
        assert_eq!(failure.item, Some(2), "{failure}");
        is_final_at_once(
            &failure,
            "invert",
            "cannot encode an output of the item (`(u64, f64)`): at `1`: JSON has no number for inf; \
             write a string, or None for a number that is missing, or use Codec::Postcard (feature `postcard`)",
        );
    }
}

/// What an earlier version of the program wrote, and this one cannot read.
#[tokio::test(start_paused = true)]
async fn a_packet_and_a_partial_result_of_another_version() {
    #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
    #[serde(into = "u64", try_from = "String")]
    struct Changed(u64);
    impl From<Changed> for u64 {
        fn from(changed: Changed) -> Self {
            changed.0
        }
    }
    impl TryFrom<String> for Changed {
        type Error = std::num::ParseIntError;
        fn try_from(text: String) -> Result<Self, Self::Error> {
            text.parse().map(Self)
        }
    }
    let sum = Pipeline::new()
        .map(|n: u64| n)
        .with(Stage::named("same").packet_size(1))
        .fold(
            || Changed(0),
            |a, b| Changed(a.0 + b),
            |a, b| Changed(a.0 + b.0),
        )
        .with(Stage::named("sum"));
    let unread = failure(&sum, [1, 2]).await;
    is_final_at_once(
        &unread,
        "sum",
        "cannot decode a partial result of `sum` (`Changed`): invalid type: integer `1`, expected a string at line 1 column 1",
    );
    let count = Pipeline::new()
        .map(|changed: Changed| changed.0)
        .with(Stage::named("look").packet_size(1))
        .count();
    let unread = failure(&count, [Changed(1)]).await;
    is_final_at_once(
        &unread,
        "look",
        "cannot decode the item (`Changed`): invalid type: integer `1`, expected a string at line 1 column 1",
    );
}
