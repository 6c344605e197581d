//! Items whose key or value cannot be computed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use catchment::{Error, OnFailure, Pipeline, Stage};

fn grouped(stage: Stage) -> Pipeline<u64, (u64, u64), catchment::pipeline::Keyed> {
    let pipeline = Pipeline::new().map(|n: u64| n).with(stage);
    pipeline.group_by(|n| 100 / (7 - n)).count()
}

#[tokio::test]
async fn a_key_that_panics_is_the_failure_of_its_item() {
    let error = grouped(Stage::new().attempts(1))
        .run(0..=7)
        .await
        .unwrap_err();
    let Error::Failed { failure, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(failure.item, Some(7));
    assert!(
        failure.error.contains("divide by zero") || failure.error.contains("overflow"),
        "{}",
        failure.error
    );
}

#[tokio::test]
async fn an_item_that_is_left_out_counts_in_no_group() {
    let stage = Stage::new().attempts(1).on_failure(OnFailure::Skip);
    let outcome = grouped(stage).run_outcome(0..=7).await.unwrap();
    assert_eq!(outcome.skipped, 1);
    assert_eq!(outcome.contains, 7);
    let counts: Vec<(u64, u64)> = outcome.value.collect().await.unwrap();
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), 7);
}

/// The whole packet is folded again, and counts once.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_fails_leaves_nothing_behind() {
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let pipeline = Pipeline::new().group_by(|n: &u64| n % 3).try_reduce(
        || 0,
        move |a, b| match count.fetch_add(1, Ordering::Relaxed) % 11 {
            5 => Err("not now"),
            _ => Ok(a + b),
        },
    );
    let groups = pipeline
        .with(Stage::new().fan_in(2))
        .run(0..50)
        .await
        .unwrap();
    let sums: Vec<(u64, u64)> = groups.collect().await.unwrap();
    let expected = |rest| (0..50).filter(|n| n % 3 == rest).sum::<u64>();
    assert_eq!(sums, [(0, expected(0)), (1, expected(1)), (2, expected(2))]);
    assert!(calls.load(Ordering::Relaxed) > 50);
}
