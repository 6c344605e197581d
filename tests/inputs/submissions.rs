//! Submissions to a deployment.

use std::sync::Arc;
use std::time::Duration;

use catchment::queue::Depth;
use catchment::{Deployment, Run, RunFilter, RunState, permanent};
use futures::{StreamExt, stream};

use super::*;
use crate::common::*;

const ID: &str = "run";

type Numbers = Deployment<u64, u64>;

async fn submit(
    deployment: &Numbers,
    kind: Kind,
    id: Option<&str>,
    place: u64,
) -> catchment::Result<Run<u64>> {
    let items = broken_at(place);
    let unsized_items = || broken_at(place).filter(|_| true);
    soon(async {
        match (kind, id) {
            (Kind::List, None) => deployment.try_submit(items).await,
            (Kind::List, Some(id)) => deployment.try_submit_as(id, items).await,
            (Kind::Iterator, None) => deployment.try_submit(unsized_items()).await,
            (Kind::Iterator, Some(id)) => deployment.try_submit_as(id, unsized_items()).await,
            (Kind::Stream, None) => deployment.try_submit_stream(stream::iter(items)).await,
            (Kind::Stream, Some(id)) => {
                let items = stream::iter(items);
                deployment.try_submit_stream_as(id, items).await
            }
        }
    })
    .await
}

/// All of the items, under the id of the caller's.
async fn submit_whole(deployment: &Numbers, kind: Kind) -> Run<u64> {
    let items = (0..ITEMS).map(Ok::<u64, Unplugged>);
    let submitted = soon(async {
        match kind {
            Kind::List => deployment.try_submit_as(ID, items).await,
            Kind::Iterator => deployment.try_submit_as(ID, items.filter(|_| true)).await,
            Kind::Stream => {
                deployment
                    .try_submit_stream_as(ID, stream::iter(items))
                    .await
            }
        }
    });
    submitted.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_run_of_the_librarys_own_id_is_cancelled_and_leaves_nothing() {
    for kind in KINDS {
        for place in PLACES {
            let store = Store::new();
            let deployment = sum().deploy("input", store.backend()).unwrap();
            let worker = deployment.worker().start();
            let error = submit(&deployment, kind, None, place).await.unwrap_err();
            assert_broken_at(place, &error, kind);
            let runs = deployment.runs(RunFilter::new()).await.unwrap();
            let states: Vec<_> = runs.iter().map(|run| run.state).collect();
            assert_eq!(states, [RunState::Cancelled], "{kind:?}, {place}");
            tokio::time::sleep(Duration::from_secs(600)).await;
            let left = store.depth(&deployment).await;
            assert_eq!(left, Depth::default(), "{kind:?}, {place}");
            drop(worker);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_under_an_id_of_the_callers_is_completed_by_submitting_again() {
    for kind in KINDS {
        for place in PLACES {
            let what = format!("{kind:?}, {place}");
            let store = Store::new();
            let deployment = sum().deploy("input", store.backend()).unwrap();
            let worker = deployment.worker().start();
            let run = deployment.attach(ID);
            for _ in 0..2 {
                let error = submit(&deployment, kind, Some(ID), place).await;
                assert_broken_at(place, &error.unwrap_err(), kind);
                // A waiter learns that the rest will not come by itself.
                let Err(Error::Failed { failure, .. }) = soon(run.result()).await else {
                    panic!("{what}: the run is not over, and is not waited for");
                };
                let cause = format!(
                    "cannot read item {place} of the input: the disk was unplugged: no such device"
                );
                assert_eq!(failure.error, cause, "{what}");
            }
            let again = if place == ITEMS && matches!(kind, Kind::List) {
                // This input had said that it has an item more.
                let Err(Error::Submission { .. }) =
                    deployment.submit_as(ID, 0..ITEMS).await.map(drop)
                else {
                    panic!("{what}: another length was taken");
                };
                soon(deployment.submit_as(ID, 0..=ITEMS)).await.unwrap()
            } else {
                submit_whole(&deployment, kind).await
            };
            let outcome = soon(again.outcome()).await.unwrap();
            assert_eq!(outcome.value, (0..outcome.items).sum::<u64>(), "{what}");
            let status = run.status().await.unwrap();
            assert_eq!((status.state, status.messages_failed), (RunState::Done, 0));
            assert!(run.failures().await.unwrap().is_empty(), "{what}");
            tokio::time::sleep(Duration::from_secs(600)).await;
            let left = store.depth(&deployment).await;
            assert_eq!(left, Depth::default(), "{what}");
            drop(worker);
        }
    }
}

/// What was sent before the error is on record, and is not sent again.
#[tokio::test(start_paused = true)]
async fn what_was_sent_before_the_error_is_not_sent_again() {
    let (store, record) = (Store::new(), Arc::new(Record::default()));
    let deployment = sum().deploy("input", store.hooked(record.clone())).unwrap();
    let broken = stream::once(async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Err(unplugged())
    });
    // Slow input does not keep the packets that are ready.
    let items = stream::iter((0..10).map(Ok)).chain(broken);
    let error = soon(deployment.try_submit_stream_as(ID, items)).await;
    assert_broken_at(10, &error.unwrap_err(), "a slow stream");
    assert_eq!(record.sent().len(), 2, "packets of 4 before item 10");
    submit_whole(&deployment, Kind::Stream).await;
    assert_eq!(record.sent().len(), ITEMS.div_ceil(PACKET) as usize);
}

/// The input cannot be compared with what was submitted. The run itself does not change.
#[tokio::test(start_paused = true)]
async fn a_run_that_was_submitted_is_not_touched_by_an_input_that_breaks() {
    for kind in KINDS {
        let deployment = sum().deploy("input", Store::new().backend()).unwrap();
        let run = submit_whole(&deployment, kind).await;
        for is_done in [false, true] {
            let error = submit(&deployment, Kind::Stream, Some(ID), 5).await;
            assert_broken_at(5, &error.unwrap_err(), (kind, is_done));
            assert_eq!(run.status().await.unwrap().messages_failed, 0);
            let worker = deployment.worker().start();
            assert_eq!(soon(run.result()).await.unwrap(), (0..ITEMS).sum::<u64>());
            drop(worker);
        }
    }
}

/// The first failure on record stays the run's; the submitter has the error of its input.
#[tokio::test(start_paused = true)]
async fn an_input_that_breaks_after_its_run_has_failed_says_so() {
    let picky = Pipeline::new()
        .then(|n: u64| async move {
            match n {
                1 => Err(permanent("one")),
                n => Ok(n),
            }
        })
        .with(Stage::named("picky").packet_size(1))
        .reduce(|| 0, |a, b| a + b);
    let deployment = picky.deploy("picky", Store::new().backend()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.attach(ID);
    let broken = stream::once(async {
        // By then the run has failed.
        let failed = soon(run.result()).await.unwrap_err();
        assert!(matches!(failed, Error::Failed { .. }), "{failed}");
        Err(unplugged())
    });
    // The run exists before its stream is polled.
    let items = stream::iter((0..10).map(Ok)).chain(broken);
    let error = deployment.try_submit_stream_as(ID, items).await;
    assert_broken_at(10, &error.unwrap_err(), "after the run's failure");
    let failed = soon(run.result()).await.unwrap_err();
    let Error::Failed { failure, .. } = failed else {
        panic!("{failed}");
    };
    assert_eq!((&*failure.stage, &*failure.error), ("picky", "one"));
    worker.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn an_iterator_that_panics_leaves_no_run_behind() {
    let items = || {
        (0..100u64).map(|n| {
            if n == 50 {
                panic!("item 50")
            } else {
                Ok::<_, Unplugged>(n)
            }
        })
    };
    let deployment = sum().deploy("panics", Store::new().backend()).unwrap();
    let other = deployment.clone();
    let submitting = tokio::spawn(async move { other.try_submit(items()).await.map(drop) });
    assert!(submitting.await.unwrap_err().is_panic());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let runs = deployment.runs(RunFilter::new()).await.unwrap();
    assert_eq!((runs.len(), runs[0].state), (1, RunState::Cancelled));
}
