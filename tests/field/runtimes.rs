//! Runtimes that end in the middle of a run, runs within runs, and functions that go on after their worker has gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use tokio::runtime::{Builder, Runtime};

use super::*;

fn runtime() -> Runtime {
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap()
}

/// Items of which number 5 does not end before the gate is open.
fn gated(is_open: &Arc<AtomicBool>) -> Sum {
    let gate = Arc::clone(is_open);
    let stage = Stage::named("map").packet_size(1);
    Pipeline::new()
        .then(move |n: u64| {
            let gate = Arc::clone(&gate);
            async move {
                if n == 5 && !gate.load(SeqCst) {
                    std::future::pending::<()>().await;
                }
                ok(n).await
            }
        })
        .with(stage.visibility_timeout(Duration::from_millis(100)))
        .reduce(|| 0, |a, b| a + b)
}

/// A deployment belongs to no runtime: one that ends takes its workers with it, and nothing else.
///
/// <https://github.com/transact-rs/sqlx/issues/531>: a pool is used by several runtimes, and goes with the first.
#[test]
fn a_runtime_that_ends_in_the_middle_of_a_run_is_like_a_crash() {
    let is_open = Arc::new(AtomicBool::new(false));
    let deployment = gated(&is_open)
        .deploy("gated", Store::new().backend())
        .unwrap();
    let first = runtime();
    let (run, worker) = first.block_on(async {
        let worker = deployment.worker().start();
        let run = deployment.submit(1..=8).await.unwrap();
        while run.status().await.unwrap().packets_done < 7 {
            tokio::task::yield_now().await;
        }
        (run, worker)
    });
    drop(first);
    is_open.store(true, SeqCst);
    runtime().block_on(async {
        let next = deployment.worker().start();
        assert_eq!(soon(run.result()).await.unwrap(), 36);
        next.shutdown().await;
        // The first one has ended with its runtime, and says so.
        soon(worker.shutdown()).await;
    });
}

/// A handler is kept from call to call, and each may have a runtime of its own.
#[test]
fn a_handler_outlives_the_runtime_of_a_call_that_broke_off() {
    let hang = Arc::new(AtomicBool::new(true));
    let store = Store::new();
    let hook = Hangs(Arc::clone(&hang));
    let deployment = sum()
        .deploy("handled", store.hooked(Arc::new(hook)))
        .unwrap();
    let handler = deployment.handler("map").unwrap();
    let receive = async || {
        let queue = store.queue(handler.queue_name()).await;
        queue.receive(1, Duration::ZERO).await.unwrap()
    };
    let first = runtime();
    let run = first.block_on(async {
        let run = deployment.submit([7, 8]).await.unwrap();
        let deliveries = receive().await;
        let mut handling = std::pin::pin!(handler.handle(deliveries, HOUR));
        while hang.load(SeqCst) {
            assert!(futures::poll!(handling.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        run
    });
    drop(first);
    runtime().block_on(async {
        let fates = handler.handle(receive().await, HOUR).await;
        assert_eq!(fates, [catchment::Fate::Acknowledge]);
        drop(run);
    });
}

/// The first arrival never ends; says when it has begun.
struct Hangs(Arc<AtomicBool>);

#[async_trait::async_trait]
impl Hook for Hangs {
    async fn before(&self, call: &Call<'_>) -> Act {
        if matches!(call, Call::Arrive(_)) && self.0.swap(false, SeqCst) {
            std::future::pending::<()>().await;
        }
        Act::Go
    }
}

/// <https://github.com/finos/opengris-scaler/issues/950>: tasks that wait for tasks of their own occupy every place.
/// <https://github.com/dask/distributed/pull/471>: the same.
#[test]
fn runs_within_runs_do_not_wait_for_each_others_places() {
    let inner = |n: u64| async move {
        let doubled = Pipeline::new().map(|n: u64| n * 2);
        doubled.reduce(|| 0, |a, b| a + b).run(0..=n).await
    };
    let one = || Stage::named("outer").concurrency(1);
    let runtime = runtime();
    let then = Pipeline::new().then(inner).with(one());
    let then = then.reduce(|| 0, |a, b| a + b);
    assert_eq!(runtime.block_on(then.run(0..40)).unwrap(), 21_320);
    let blocking = move |n| tokio::runtime::Handle::current().block_on(inner(n));
    let map = Pipeline::new().try_map(blocking).with(one());
    let map = map.reduce(|| 0, |a, b| a + b);
    assert_eq!(runtime.block_on(map.run(0..40)).unwrap(), 21_320);
}

/// The function of a worker that was shut down without grace ends after another worker has done its item.
///
/// <https://github.com/sidekiq/sidekiq/issues/5524>: a job is handed back at shutdown and ends all the same, and the batch has
/// less than nothing pending.
#[test]
fn a_function_that_ends_after_its_item_was_handed_back_counts_once() {
    let calls = Arc::new(AtomicUsize::new(0));
    let (counted, is_open) = (Arc::clone(&calls), Arc::new(AtomicBool::new(false)));
    let (gate, ended) = (Arc::clone(&is_open), Arc::new(AtomicBool::new(false)));
    let end = Arc::clone(&ended);
    let pipeline = Pipeline::new()
        .map(move |n: u64| {
            if counted.fetch_add(1, SeqCst) == 0 {
                while !gate.load(SeqCst) {
                    std::thread::yield_now();
                }
                end.store(true, SeqCst);
            }
            n
        })
        .with(Stage::named("map"))
        .reduce(|| 0, |a, b| a + b);
    let deployment = pipeline.deploy("handed", Store::new().backend()).unwrap();
    runtime().block_on(async {
        let worker = deployment.worker().grace_period(Duration::ZERO).start();
        let run = deployment.submit([7]).await.unwrap();
        while calls.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        worker.shutdown().await;
        let next = deployment.worker().start();
        let done = run.wait(60 * SECOND).await.unwrap();
        assert_eq!((done.items_done, done.packets_done), (1, 1));
        is_open.store(true, SeqCst);
        while !ended.load(SeqCst) {
            tokio::task::yield_now().await;
        }
        assert_eq!(run.status().await.unwrap().items_done, 1);
        assert_eq!(run.result().await.unwrap(), 7);
        assert_eq!(calls.load(SeqCst), 2);
        next.shutdown().await;
    });
}
