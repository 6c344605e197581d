//! Threads that are lost in functions that never return, and what becomes of the work.

use std::sync::{Arc, Condvar, Mutex};

use catchment::{Backend, Error, OnFailure, RunState};

use super::*;

/// Longer than any of these tests takes; reached only by a hang.
const HANG: Duration = Duration::from_secs(60);

async fn soon<T>(work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(HANG, work).await;
    done.expect("it hangs")
}

/// More threads than are lost before a worker ends, by default.
fn too_many() -> u64 {
    4 * std::thread::available_parallelism().unwrap().get() as u64 + 1
}

/// The stages that an error names, the threads that are lost, and the limit.
fn lost(error: Error) -> (Vec<String>, usize, usize) {
    let text = error.to_string();
    match error {
        Error::LostThreads {
            stages,
            lost,
            limit,
            ..
        } => {
            assert!(text.contains("`stuck`"), "{text}");
            assert!(text.contains("new process"), "{text}");
            (stages, lost, limit)
        }
        other => panic!("{other}"),
    }
}

#[test]
fn four_items_that_never_end_cost_four_items() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let hanging = hanging(|n| n % 25 == 0, OnFailure::Skip);
    let done = runtime.block_on(soon(async {
        let hanging = hanging.deploy("four", Backend::memory()).unwrap();
        let worker = hanging.worker().start();
        let run = hanging.submit(0..100).await.unwrap();
        let outcome = run.outcome().await.unwrap();
        worker.shutdown().await;
        (outcome.value, outcome.contains, outcome.skipped)
    }));
    assert_eq!(done, ((0..100).filter(|n| n % 25 != 0).sum(), 96, 4));
}

#[tokio::test]
async fn more_items_that_never_end_than_threads_may_be_lost_end_the_run_with_an_error() {
    let hanging = hanging(|_| true, OnFailure::Skip);
    let error = soon(hanging.run(0..2 * too_many())).await.unwrap_err();
    let (stages, lost, limit) = lost(error);
    assert_eq!(stages, ["stuck"]);
    assert_eq!(limit as u64, too_many() - 1);
    assert!(lost > limit, "{lost} of {limit}");

    // As a stream, whose submission goes on while its worker works.
    let items = futures::stream::iter(0..);
    let error = soon(hanging.run_stream(items)).await.unwrap_err();
    assert_eq!(self::lost(error).0, ["stuck"]);
}

#[tokio::test]
async fn a_worker_that_has_lost_too_many_threads_hands_back_the_rest_and_says_why_it_ends() {
    // A message that was not handed back would keep the run from its end for longer than this test lasts.
    let hanging = hanging(|n| n < 3, OnFailure::Skip);
    let hanging = hanging.deploy("limit", Backend::memory()).unwrap();
    let run = hanging.submit(0..100).await.unwrap();
    let worker = || hanging.worker().concurrency(1).max_lost_threads(2);
    let mut first = worker().start();
    let (stages, lost, limit) = lost(soon(first.finished()).await.unwrap_err());
    assert_eq!((stages, lost, limit), (vec!["stuck".to_owned()], 3, 2));
    soon(first.finished()).await.expect("it is said once");
    assert_eq!(run.status().await.unwrap().state, RunState::Running);

    // A new process, as it were.
    let second = worker().start();
    let outcome = soon(run.outcome()).await.unwrap();
    assert_eq!((outcome.contains, outcome.skipped), (97, 3));
    soon(second.shutdown()).await;
}

#[tokio::test]
async fn run_until_returns_the_error() {
    let hanging = hanging(|_| true, OnFailure::Skip);
    let hanging = hanging.deploy("until", Backend::memory()).unwrap();
    let _run = hanging.submit(0..10).await.unwrap();
    let worker = hanging.worker().max_lost_threads(0);
    let error = soon(worker.run_until(std::future::pending())).await;
    assert_eq!(lost(error.unwrap_err()).0, ["stuck"]);
}

/// One item after the other outlasts its timeout, and returns after all.
#[tokio::test]
async fn a_thread_that_comes_back_is_not_lost_any_more() {
    // Items below this one are let through, also by a thread that is late to look.
    let first_held = Arc::new((Mutex::new(0), Condvar::new()));
    let gate = Arc::clone(&first_held);
    let stage = Stage::named("slow")
        .timeout(TIMEOUT)
        .attempts(1)
        .packet_size(1)
        .on_failure(OnFailure::Skip);
    let slow = Pipeline::new()
        .map(move |n: u64| {
            let (first, opened) = &*gate;
            drop(opened.wait_while(first.lock().unwrap(), |first| n >= *first));
            n
        })
        .with(stage)
        .reduce(|| 0, |a, b| a + b);
    let slow = slow.deploy("slow", Backend::memory()).unwrap();
    let mut worker = slow.worker().concurrency(1).max_lost_threads(1).start();
    for round in 0..5 {
        let run = slow.submit([round]).await.unwrap();
        tokio::select! {
            outcome = soon(run.outcome()) => assert_eq!(outcome.unwrap().skipped, 1),
            error = worker.finished() => panic!("{error:?}"),
        }
        *first_held.0.lock().unwrap() = round + 1;
        first_held.1.notify_all();
        // Another run is done by the same worker: its thread is back, or one is lost at most.
        let run = slow.submit([round]).await.unwrap();
        assert_eq!(soon(run.result()).await.unwrap(), round);
    }
    worker.shutdown().await;
}
