//! The labels that failures show: in a run inside the process and deployed, of CPU-bound and asynchronous functions.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(feature = "postcard")]
use catchment::Codec;
use catchment::pipeline::One;
use catchment::{Backend, Error, OnFailure, Pipeline, Stage};
use serde::{Deserialize, Serialize};

/// Sums the items but 17, which fails.
fn sum(stage: Stage, side_by_side: bool) -> Pipeline<u64, u64, One> {
    let check = |n: u64| match n {
        17 => Err("not found"),
        n => Ok(n),
    };
    let checked = match side_by_side {
        false => Pipeline::new().try_map(check),
        true => Pipeline::new().then(move |n| ready(check(n))),
    };
    let stage = stage.attempts(1).packet_size(4);
    checked.with(stage).reduce(|| 0, |a, b| a + b)
}

fn pages() -> Stage {
    Stage::named("fetch").label(|n: &u64| format!("https://example.org/{n}"))
}

/// The texts of the failures of a deployed run.
async fn failures(pipeline: &Pipeline<u64, u64, One>) -> Vec<String> {
    let deployment = pipeline.deploy("reported", Backend::memory()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(0..20).await.unwrap();
    let _ = run.result().await;
    worker.shutdown().await;
    let failures = run.failures().await.unwrap();
    failures.iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn a_failure_has_the_label_of_its_item() {
    let expected = "stage `fetch`, packet 4, item 17 (https://example.org/17): not found";
    for side_by_side in [false, true] {
        let fails = sum(pages(), side_by_side);
        let error = fails.run(0..20).await.unwrap_err();
        assert!(error.to_string().ends_with(expected), "{error}");
        assert_eq!(failures(&fails).await, [expected]);

        let skips = sum(pages().on_failure(OnFailure::Skip), side_by_side);
        assert_eq!(failures(&skips).await, [expected]);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_function_it_is_the_beginning_of_the_value() {
    for side_by_side in [false, true] {
        let fails = sum(Stage::named("fetch"), side_by_side);
        let expected = "stage `fetch`, packet 4, item 17 (17): not found";
        let error = fails.run(0..20).await.unwrap_err();
        assert!(error.to_string().ends_with(expected), "{error}");
        assert_eq!(failures(&fails).await, [expected]);
    }
}

#[cfg(feature = "postcard")]
#[tokio::test(start_paused = true)]
async fn bytes_that_nobody_reads_are_no_label() {
    let compact = sum(Stage::named("fetch"), false).codec(Codec::Postcard);
    assert_eq!(
        failures(&compact).await,
        ["stage `fetch`, packet 4, item 17: not found"]
    );
    let compact = sum(pages(), false).codec(Codec::Postcard);
    let expected = "stage `fetch`, packet 4, item 17 (https://example.org/17): not found";
    assert_eq!(failures(&compact).await, [expected]);
}

/// A second stage names the values that it gets, not the items that they came from.
#[tokio::test(start_paused = true)]
async fn a_second_stage_labels_its_own_items() {
    for with_label in [false, true] {
        let stage = Stage::named("store").attempts(1);
        let stage = match with_label {
            false => stage,
            true => stage.label(|size: &String| format!("a page of {size}")),
        };
        let stored = Pipeline::new()
            .map(|n: u64| format!("{} bytes", n * 1_000))
            .with(Stage::named("fetch").packet_size(4))
            .try_map(|size: String| match size.as_str() {
                "17000 bytes" => Err("too large"),
                _ => Ok(1),
            })
            .with(stage)
            .reduce(|| 0u64, |a, b| a + b);
        let label = ["17000 bytes", "a page of 17000 bytes"][usize::from(with_label)];
        let expected = format!("stage `store`, packet 4, item 17 ({label}): too large");
        let error = stored.run(0..20).await.unwrap_err();
        assert!(error.to_string().ends_with(&expected), "{error}");
        assert_eq!(failures(&stored).await, [expected]);
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_failed_is_labelled() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let stage = Stage::named("fetch").label(move |n: &u64| {
        counted.fetch_add(1, Ordering::Relaxed);
        *n
    });
    let skips = sum(stage.on_failure(OnFailure::Skip), false);
    assert_eq!(skips.run(0..1_000).await.unwrap(), 999 * 500 - 17);
    let calls = calls.load(Ordering::Relaxed);
    assert!((1..10).contains(&calls), "{calls}");
}

#[tokio::test(start_paused = true)]
async fn a_label_that_panics_is_none() {
    for side_by_side in [false, true] {
        let stage = Stage::named("fetch").label(|n: &u64| -> u64 { panic!("no label for {n}") });
        let fails = sum(stage, side_by_side);
        let expected = "stage `fetch`, packet 4, item 17: not found";
        let error = fails.run(0..20).await.unwrap_err();
        assert!(error.to_string().ends_with(expected), "{error}");
        assert_eq!(failures(&fails).await, [expected]);
    }
}

/// A number that can be written, and read unless it is 17.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "u64", try_from = "u64")]
struct Picky(u64);

impl From<Picky> for u64 {
    fn from(picky: Picky) -> Self {
        picky.0
    }
}

impl TryFrom<u64> for Picky {
    type Error = &'static str;

    fn try_from(n: u64) -> Result<Self, Self::Error> {
        match n {
            17 => Err("17 is not read"),
            n => Ok(Self(n)),
        }
    }
}

/// One item of a packet that cannot be read takes no other item with it.
#[tokio::test(start_paused = true)]
async fn an_item_that_cannot_be_read_is_left_out_alone() {
    for side_by_side in [false, true] {
        for policy in [OnFailure::Fail, OnFailure::Skip] {
            let stage = Stage::named("look").packet_size(4).on_failure(policy);
            let numbers = match side_by_side {
                false => Pipeline::new().map(|picky: Picky| picky.0),
                true => Pipeline::new().then(|picky: Picky| ready(Ok::<_, Error>(picky.0))),
            };
            let sum = numbers.with(stage).reduce(|| 0, |a, b| a + b);
            let deployment = sum.deploy("reported", Backend::memory()).unwrap();
            let worker = deployment.worker().start();
            let run = deployment.submit((0..20).map(Picky)).await.unwrap();
            let result = run.result().await;
            worker.shutdown().await;
            match policy {
                OnFailure::Fail => assert!(result.is_err(), "{result:?}"),
                _ => assert_eq!(result.unwrap(), 190 - 17),
            }
            let failures = run.failures().await.unwrap();
            let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
            let expected = "stage `look`, packet 4, item 17 (17): cannot decode the item (`Picky`): 17 is not read";
            assert_eq!(texts.len(), 1, "{texts:?}");
            assert!(texts[0].starts_with(expected), "{texts:?}");
            assert!(texts[0].find("(attempt").is_none(), "{texts:?}");
        }
    }
}
