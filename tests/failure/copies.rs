//! Copies of a message that come to different ends: what the result leaves out is what the first one to arrive left out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use catchment::scratchpad::{Attempt, DeadLetterId, FailureReport, Scratchpad, Verdict};
use catchment::testing::faults::{Copies, Duplicate};
use catchment::{OnFailure, Pipeline, RunState, Stage, permanent};
use tokio::time::sleep;

use super::*;
use crate::common::*;

/// Item 2 is bad. Of item 1, one of the first two calls fails.
fn unsteady(is_first_slow: bool) -> Sum {
    let calls = Arc::new(AtomicU32::new(0));
    let items = Pipeline::new()
        .then(move |n: u64| {
            let call = match n {
                1 => calls.fetch_add(1, Ordering::Relaxed),
                _ => u32::MAX,
            };
            async move {
                match (n, call) {
                    (2, _) => Err(permanent("bad")),
                    (1, 0) => {
                        sleep(Duration::from_secs(if is_first_slow { 5 } else { 0 })).await;
                        Err(permanent("the first call"))
                    }
                    (1, 1) => {
                        sleep(Duration::from_secs(if is_first_slow { 0 } else { 5 })).await;
                        Ok(n)
                    }
                    (4, _) => {
                        // Until every copy of the others has ended.
                        sleep(Duration::from_secs(20)).await;
                        Ok(n)
                    }
                    _ => Ok(n),
                }
            }
        })
        .with(
            Stage::named("unsteady")
                .packet_size(1)
                .attempts(1)
                .on_failure(OnFailure::Skip),
        );
    sum(items)
}

#[tokio::test(start_paused = true)]
async fn the_outcome_lists_what_its_value_lacks_and_not_what_another_copy_left_out() {
    for is_first_slow in [false, true] {
        let store = Store::new();
        let backend = store.with(|queues| Duplicate::new(Copies::Early).queues(queues));
        let deployment = unsteady(is_first_slow).deploy("copies", backend).unwrap();
        let worker = deployment.worker().start();
        let run = deployment.submit(0..5).await.unwrap();
        let outcome = soon(run.outcome()).await.unwrap();
        // One of the copies has left item 1 out.
        let on_record = run.failures().await.unwrap();
        assert_eq!(on_record.len(), 2, "{on_record:?}");
        let (value, left_out) = match is_first_slow {
            false => (7, vec![1, 2]),
            true => (8, vec![2]),
        };
        let listed: Vec<u64> = outcome.failures.iter().filter_map(|it| it.item).collect();
        let found = (
            outcome.value,
            outcome.skipped,
            listed,
            outcome.more_failures,
        );
        let skipped = left_out.len() as u64;
        assert_eq!(found, (value, skipped, left_out, 0));
        let mut errors = outcome.failures.iter().map(|it| &*it.error);
        assert!(errors.all(|it| it == "bad" || it == "the first call"));
        assert_eq!(run.status().await.unwrap().items_skipped, skipped);
        worker.shutdown().await;
    }
}

/// Packet 0 leaves item 0 out, which is tolerated, and dies before the end of the item that comes after it is known. Its other
/// delivery fails for good. What the first one sent may still arrive: nothing else is tolerated in its place.
#[tokio::test(start_paused = true)]
async fn what_a_dead_letter_left_out_before_stays_in_the_count() {
    let store = Store::new();
    let items = Pipeline::new()
        .then(|n: u64| async move {
            match n {
                9 => Err(permanent("bad")),
                _ => Ok(n),
            }
        })
        .with(
            Stage::named("strict")
                .packet_size(2)
                .attempts(1)
                .on_failure(OnFailure::Tolerate(1)),
        );
    let deployment = sum(items).deploy("copies", store.backend()).unwrap();
    let run = deployment.submit(0..10).await.unwrap();
    let scratchpad = store.scratchpad.bind(deployment.name()).unwrap();
    let recorded = store.recorded(&deployment, run.id().as_str()).await;
    let key = recorded.record.key();
    let id = DeadLetterId::random();
    for verdict in [Verdict::Skip, Verdict::Dead(id)] {
        let attempts = vec![Attempt::new(1, SystemTime::UNIX_EPOCH, "bad").item(0)];
        let report = FailureReport::new(&key, "strict", "packet 0", attempts, verdict);
        scratchpad.record(&report).await.unwrap();
    }
    let worker = deployment.worker().start();
    sleep(MINUTE).await;
    let failures = run.failures().await.unwrap();
    let named: Vec<_> = failures
        .iter()
        .map(|it| (it.item, it.is_skipped()))
        .collect();
    assert_eq!(named, [(Some(0), false), (Some(9), false)], "{failures:?}");
    let status = run.status().await.unwrap();
    assert_eq!(
        (status.state, status.messages_failed),
        (RunState::Failed, 2)
    );
    worker.shutdown().await;
}
