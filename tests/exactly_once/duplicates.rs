//! Messages that are delivered twice, late, or by a service that fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use catchment::queue::Depth;
use catchment::testing::faults::{Copies, Duplicate, Flaky, Shuffle};
use catchment::{Backend, Pipeline, RunState, Stage};

use super::*;
use crate::common::*;

#[tokio::test(start_paused = true)]
async fn what_is_delivered_twice_counts_once() {
    let mut runs = 0;
    for copies in [Copies::Early, Copies::Late] {
        for shape in [Shape::Reduce, Shape::Finish, Shape::Twice] {
            for input in [Input::List, Input::Stream] {
                for length in [0, 1, 2, 3, 4, 5, 8, 9, 27] {
                    for fan_in in [2, 3] {
                        let store = Store::new();
                        let backend = store.with(|queues| {
                            Shuffle::new(Some(length)).queues(Duplicate::new(copies).queues(queues))
                        });
                        let twice = deploy(shape, fan_in, backend);
                        let workers = [twice.worker().start(), twice.worker().start()];
                        soon(submit(&twice, length, input)).await.unwrap();
                        let what = format!("{copies:?} {shape:?} {input:?} {length} by {fan_in}");
                        settles(&store, &twice, length, &what).await;
                        drop(workers);
                        runs += 1;
                    }
                }
            }
        }
    }
    println!("{runs} runs with everything twice");
    assert_eq!(runs, 216);
}

/// Every fifth call fails, with its effect or without: nothing but time is lost.
#[tokio::test(start_paused = true)]
async fn a_flaky_service_costs_time_and_nothing_else() {
    let mut failures = 0;
    for seed in 0..20 {
        for shape in [Shape::Reduce, Shape::Finish, Shape::Twice] {
            let store = Store::new();
            let flaky = Flaky::new(seed, 0.2);
            let backend = Backend::new(
                flaky.queues(store.queues.clone()),
                flaky.scratchpad(store.scratchpad.clone()),
            );
            let deployment = deploy(shape, 3, backend);
            let workers = [deployment.worker().start(), deployment.worker().start()];
            // The test's own calls may fail as well; it repeats them.
            let healthy = deploy(shape, 3, store.backend());
            while soon(submit(&deployment, 20, Input::Stream)).await.is_err() {}
            assert_eq!(
                soon(healthy.attach("run").result()).await.unwrap(),
                counting(20)
            );
            tokio::time::sleep(Duration::from_secs(300)).await;
            settles(&store, &healthy, 20, &format!("{shape:?}, seed {seed}")).await;
            failures += flaky.failures();
            drop(workers);
        }
    }
    println!("{failures} calls failed");
    assert!(failures > 500);
}

/// Puts messages on their queues again.
async fn send_again(store: &Store, sent: &[(String, bytes::Bytes)]) {
    for (queue, body) in sent {
        let queue = store.queue(queue).await;
        queue.send(vec![body.clone().into()]).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn late_duplicates_find_nothing_to_do() {
    for shape in [Shape::Reduce, Shape::Finish, Shape::Twice] {
        for length in [0, 1, 4, 9, 30] {
            let store = Store::new();
            let record = Arc::new(Record::default());
            let deployment = deploy(shape, 3, store.hooked(record.clone()));
            let what = format!("{shape:?} {length}");
            let worker = deployment.worker().start();
            submit(&deployment, length, Input::List).await.unwrap();
            settles(&store, &deployment, length, &what).await;
            let sent = record.sent();
            assert!(sent.len() as u64 >= length);

            // The run is done, and the worker has seen that or not.
            send_again(&store, &sent).await;
            settles(&store, &deployment, length, &what).await;
            let another = deploy(shape, 3, store.backend()).worker().start();
            drop(worker);
            send_again(&store, &sent).await;
            settles(&store, &deployment, length, &what).await;

            // The run has been removed, because its retention has ended when the next one begins.
            tokio::time::sleep(Duration::from_secs(2 * 60 * 60)).await;
            let other = deployment.submit_as("other", 0..3).await.unwrap();
            assert_eq!(soon(other.result()).await.unwrap(), counting(3), "{what}");
            assert!(deployment.attach("run").status().await.is_err(), "{what}");
            send_again(&store, &sent).await;
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(store.depth(&deployment).await, Depth::default(), "{what}");
            assert!(deployment.attach("run").status().await.is_err(), "{what}");
            drop(another);
        }
    }
}

/// A run under way does not fail if messages are delivered more often than they have attempts, as
/// long as their work was done each time.
#[tokio::test(start_paused = true)]
async fn more_copies_than_attempts_do_not_fail_a_run() {
    let store = Store::new();
    let record = Arc::new(Record::default());
    let pipeline = Pipeline::new()
        .then(|n: u64| async move {
            let seconds = if n == 0 { 300 } else { 1 };
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            ok(format!("{n} ")).await
        })
        .with(Stage::new().attempts(2).concurrency(1_000))
        .combine(Concat)
        .with(Stage::new().attempts(2).fan_in(2));
    let deployment = pipeline
        .deploy("words", store.hooked(record.clone()))
        .unwrap();
    let worker = deployment.worker().prefetch(1_000).start();
    let run = deployment.submit_as("run", 0..9).await.unwrap();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let sent = record.sent();
        assert!(run.status().await.unwrap().state == RunState::Running);
        send_again(&store, sent.split_at(9).0).await;
    }
    assert_eq!(soon(run.result()).await.unwrap(), counting(9));
    // The copies of the long message end later.
    tokio::time::sleep(Duration::from_secs(600)).await;
    settles(&store, &deployment, 9, "ten copies").await;
    drop(worker);
}

/// Every acknowledgement is lost for a while, so that each message is delivered more often than it
/// has attempts. Its work was done every time, so that is not a failure.
#[tokio::test(start_paused = true)]
async fn more_deliveries_than_attempts_do_not_fail_a_run_whose_work_was_done() {
    let store = Store::new();
    let begin = tokio::time::Instant::now();
    let hook = On(move |call: &Call<'_>| match call {
        Call::Acknowledge(..) if begin.elapsed() < Duration::from_secs(600) => Act::Swallow,
        _ => Act::Go,
    });
    let pipeline = Pipeline::new()
        .then(|n: u64| async move {
            // One packet keeps the run going.
            let seconds = if n == 0 { 900 } else { 1 };
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            ok(format!("{n} ")).await
        })
        .combine(Concat)
        .with(Stage::new().fan_in(2));
    let deployment = pipeline
        .deploy("words", store.hooked(Arc::new(hook)))
        .unwrap();
    let worker = deployment.worker().start();
    deployment.submit_as("run", 0..9).await.unwrap();
    settles(&store, &deployment, 9, "lost acknowledgements").await;
    drop(worker);
}

/// The second worker to finish finds the result there, and leaves it unchanged.
#[tokio::test(start_paused = true)]
async fn the_first_result_stands() {
    let store = Store::new();
    let tries = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&tries);
    let deployment = Pipeline::new()
        .then(ok::<u64>)
        .reduce(|| 0, |a, b| a + b)
        .then(move |_| {
            let nth = seen.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                tokio::time::sleep(Duration::from_secs(10 * nth)).await;
                ok(nth).await
            }
        })
        .with(Stage::named("finish"))
        .deploy(
            "first",
            store.with(|queues| Duplicate::new(Copies::Early).queues(queues)),
        )
        .unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit_as("run", 0..5).await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), 1);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(
        tries.load(Ordering::SeqCst) >= 2,
        "it was to be finished twice"
    );
    assert_eq!(deployment.attach("run").result().await.unwrap(), 1);
    drop(worker);
}
