//! Values that a deployment does not give back, each refused by the process that writes it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use catchment::pipeline::One;
use catchment::{Backend, Data, Deployment, Error, Failure, Pipeline, Stage};
use serde::{Deserialize, Serialize};

/// The error and its sources, on one line.
fn text(error: Error) -> String {
    format!("{:#}", anyhow::Error::new(error))
}

/// What submitting these items to a deployment is refused with.
async fn submitting<T: Data + Clone + Sync>(items: Vec<T>) -> String {
    let pipeline = Pipeline::new()
        .map(|item: T| item)
        .with(Stage::named("same").packet_size(2))
        .collect();
    let deployment = pipeline.deploy("refuses", Backend::memory()).unwrap();
    text(deployment.submit(items).await.unwrap_err())
}

/// The failure of a run, which is there at once: repeating does not help.
async fn failure<I: Data, R: Data + std::fmt::Debug>(
    pipeline: Pipeline<I, R, One>,
    items: Vec<I>,
) -> Failure {
    let deployment = pipeline.deploy("fails", Backend::memory()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(items).await.unwrap();
    let error = run.result().await.unwrap_err();
    worker.shutdown().await;
    let Error::Failed { failure, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(failure.attempts.len(), 1, "{failure}");
    *failure
}

#[tokio::test(start_paused = true)]
async fn an_infinity_in_a_partial_result() {
    let largest = Pipeline::new()
        .map(|n: i64| 1.0 / n as f64)
        .with(Stage::named("invert"))
        .fold(
            || None::<f64>,
            |a, b| Some(a.unwrap_or(f64::MIN).max(b)),
            |a, b| a.into_iter().chain(b).reduce(f64::max),
        );
    let failure = failure(largest, vec![1, 0, 2]).await;
    assert_eq!(
        (failure.stage.as_str(), failure.message.as_str()),
        ("invert", "packet 1")
    );
    assert!(
        failure.error.contains("JSON has no number for inf"),
        "{failure}"
    );
    assert!(failure.error.contains("Codec::Postcard"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn some_of_nothing() {
    let text = submitting(vec![None, Some(Some(1)), Some(None::<u32>)]).await;
    assert!(
        text.starts_with("cannot encode packet 1, item 2: JSON writes the inside"),
        "{text}"
    );
    let seen = Pipeline::new()
        .map(|n: u8| n)
        .with(Stage::named("look"))
        .fold(|| None::<()>, |_, _| Some(()), |a, b| a.or(b));
    let failure = failure(seen, vec![1]).await;
    assert_eq!(failure.stage, "look");
    assert!(failure.error.contains("read as None"), "{failure}");
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    x: f64,
    y: f64,
    tags: BTreeMap<String, f64>,
}

#[tokio::test(start_paused = true)]
async fn an_infinity_in_a_struct() {
    let point = |x| Point {
        x,
        y: 0.0,
        tags: BTreeMap::from([("mean".into(), 1.0 - x)]),
    };
    let text = submitting(vec![point(0.0), point(f64::NEG_INFINITY)]).await;
    assert!(
        text.starts_with("cannot encode packet 0, item 1: at `x`: JSON has no number"),
        "{text}"
    );
    let mut bad = point(0.0);
    bad.tags.insert("mean".into(), f64::NAN);
    let text = submitting(vec![point(0.0), point(0.0), bad]).await;
    let expected = "cannot encode packet 1, item 2: at `tags[\"mean\"]`: JSON has no number for NaN; \
                    write a string, or None for a number that is missing, or use Codec::Postcard (feature `postcard`)";
    assert_eq!(text, expected);
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_not_text() {
    let text = submitting(vec![HashMap::from([((1u32, 2u32), 3u64)])]).await;
    assert!(
        text.starts_with("cannot encode packet 0, item 0: JSON has only text as keys"),
        "{text}"
    );
    let text = submitting(vec![BTreeMap::from([(vec![1u8], 3u64)])]).await;
    assert!(text.contains("list of pairs"), "{text}");
    let grid = Pipeline::new()
        .map(|n: u8| n)
        .with(Stage::named("grid"))
        .fold(
            BTreeMap::<(u8, u8), u64>::new,
            |mut grid, n| {
                grid.insert((n, n), 1);
                grid
            },
            |a, mut b| {
                b.extend(a);
                b
            },
        );
    let failure = failure(grid, vec![1]).await;
    assert!(
        failure.error.contains(
            "a partial result of `reduce-1` (`BTreeMap<(u8, u8), u64>`): JSON has only text"
        ),
        "{failure}"
    );
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Node(Box<Tree>),
}

fn tree(depth: usize) -> Tree {
    (0..depth).fold(Tree::Leaf, |tree, _| Tree::Node(Box::new(tree)))
}

/// The run fails and names the stage. After a fix it is redriven.
#[tokio::test(start_paused = true)]
async fn a_result_that_is_nested_too_deeply() {
    let fixed = Arc::new(AtomicBool::new(false));
    let is_fixed = Arc::clone(&fixed);
    let trees = Pipeline::new()
        .map(|n: usize| n)
        .reduce(|| 0, |a, b| a + b)
        .map(move |n| {
            tree(if is_fixed.load(Ordering::Relaxed) {
                n / 3
            } else {
                n
            })
        })
        .with(Stage::named("grow"));
    let trees: Deployment<usize, Tree> = trees.deploy("trees", Backend::memory()).unwrap();
    let worker = trees.worker().start();
    let run = trees.submit([100, 200]).await.unwrap();
    let Error::Failed { failure, .. } = run.result().await.unwrap_err() else {
        panic!("it has to fail")
    };
    assert_eq!(failure.stage, "grow");
    assert!(
        failure.error.contains("nested more than 126 levels deep"),
        "{failure}"
    );
    assert!(failure.error.contains("at `Node.Node"), "{failure}");
    assert_eq!(failure.attempts.len(), 1, "{failure}");

    fixed.store(true, Ordering::Relaxed);
    assert_eq!(run.redrive().await.unwrap().redriven, 1);
    assert_eq!(run.result().await.unwrap(), tree(100));
    worker.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_mean_of_nothing_as_a_result() {
    let mean = Pipeline::new()
        .map(|n: f64| n)
        .fold(
            || (0.0, 0.0),
            |(s, n), x| (s + x, n + 1.0),
            |a, b| (a.0 + b.0, a.1 + b.1),
        )
        .map(|(sum, count)| sum / count)
        .with(Stage::named("mean"));
    let failure = failure(mean, Vec::new()).await;
    assert_eq!(failure.stage, "mean");
    assert!(
        failure.error.contains("JSON has no number for NaN"),
        "{failure}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_result_of_a_reduction() {
    let mean = Pipeline::new()
        .map(|n: f64| n)
        .with(Stage::named("same"))
        .reduce(|| f64::NAN, f64::max)
        .with(Stage::named("largest"));
    let failure = failure(mean, Vec::new()).await;
    assert!(
        failure.error.contains("JSON has no number for NaN"),
        "{failure}"
    );
}

#[cfg(feature = "postcard")]
mod postcard {
    use catchment::Codec;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Skips {
        #[serde(skip_serializing_if = "Option::is_none")]
        a: Option<u8>,
        b: u8,
    }

    #[tokio::test(start_paused = true)]
    async fn a_field_that_is_left_out() {
        let skips = Pipeline::new()
            .map(|it: Skips| it.b)
            .reduce(|| 0, |a, b| a + b);
        let skips = skips
            .codec(Codec::Postcard)
            .deploy("skips", Backend::memory())
            .unwrap();
        let items = [Some(1), None].map(|a| Skips { a, b: 3 });
        let error = text(skips.submit(items).await.unwrap_err());
        assert!(
            error.starts_with("cannot encode packet 1, item 1: the field `a` is left out"),
            "{error}"
        );
        assert!(
            error.contains("remove `skip_serializing_if`, or use Codec::Json"),
            "{error}"
        );
    }
}
