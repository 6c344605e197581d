//! Backends that panic, that answer with less than they were asked, that do not wait, and that hang.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use async_trait::async_trait;

use super::*;

type IsMeant = fn(&Call<'_>) -> bool;

/// Panics at the n-th of some calls, and at no other.
fn panics_at(nth: usize, is_meant: IsMeant) -> Arc<dyn Hook> {
    let seen = AtomicUsize::new(0);
    Arc::new(On(move |call: &Call<'_>| {
        if is_meant(call) && seen.fetch_add(1, SeqCst) == nth {
            panic!("a fault of the backend");
        }
        Act::Go
    }))
}

/// A call that panics is not the last one: neither of its message, nor of its kind.
///
/// <https://github.com/llm-d/llm-d-batch-gateway/issues/199>: the panic is recovered, and the batch is "in progress" for ever.
/// <https://github.com/riverqueue/river/issues/1303>: a panic in the completer that all jobs share.
#[tokio::test(start_paused = true)]
async fn a_call_that_panics_is_not_the_last() {
    let calls: [(&str, IsMeant); 7] = [
        (
            "send",
            |call| matches!(call, Call::Send(queue, _) if queue.ends_with("sum")),
        ),
        ("acknowledge", |call| matches!(call, Call::Acknowledge(..))),
        ("arrive", |call| matches!(call, Call::Arrive(_))),
        ("members", |call| matches!(call, Call::Members(_))),
        ("retire", |call| matches!(call, Call::Retire(_))),
        ("complete", |call| matches!(call, Call::Complete(_))),
        ("status", |call| matches!(call, Call::Status(_))),
    ];
    for (name, is_meant) in calls {
        for nth in 0..6 {
            let store = Store::new();
            let submitter = sum().deploy("panics", store.backend()).unwrap();
            let hooked = store.hooked(panics_at(nth, is_meant));
            let deployment = sum().deploy("panics", hooked).unwrap();
            let worker = deployment.worker().start();
            for _ in 0..2 {
                let run = submitter.submit(1..=8).await.unwrap();
                let result = soon(run.result()).await;
                assert_eq!(result.unwrap(), 36, "{name} {nth}");
            }
            // What has been done is off the queues.
            tokio::time::sleep(HOUR).await;
            let depth = store.depth(&submitter).await;
            assert_eq!((depth.ready, depth.in_flight), (0, 0), "{name} {nth}");
            worker.shutdown().await;
        }
    }
}

/// Answers its first receives at once, and with nothing.
struct NeverWaits(AtomicUsize);

#[async_trait]
impl Hook for NeverWaits {
    async fn before(&self, call: &Call<'_>) -> Act {
        match call {
            Call::Receive(_) if self.0.fetch_add(1, SeqCst) < 100_000 => Act::Swallow,
            _ => Act::Go,
        }
    }
}

/// <https://github.com/activepieces/activepieces/pull/14300>: a receive that does not wait keeps a processor busy.
#[tokio::test(start_paused = true)]
async fn a_queue_that_does_not_wait_is_not_asked_without_a_pause() {
    let store = Store::new();
    let hook = Arc::new(NeverWaits(AtomicUsize::new(0)));
    let deployment = sum().deploy("eager", store.hooked(hook.clone())).unwrap();
    let worker = deployment.worker().start();
    tokio::time::sleep(10 * SECOND).await;
    let asked = hook.0.load(SeqCst);
    assert!((20..=500).contains(&asked), "{asked} times in 10 s");
    worker.shutdown().await;
}

/// The first of some calls never ends.
struct FirstHangs(AtomicUsize, IsMeant);

impl FirstHangs {
    fn of(is_meant: IsMeant) -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(0), is_meant))
    }
}

#[async_trait]
impl Hook for FirstHangs {
    async fn before(&self, call: &Call<'_>) -> Act {
        if (self.1)(call) && self.0.fetch_add(1, SeqCst) == 0 {
            std::future::pending::<()>().await;
        }
        Act::Go
    }
}

/// <https://github.com/novuhq/novu/pull/12437>: one visibility call that hangs, and the message lapses.
#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_hangs_is_not_the_last() {
    let store = Store::new();
    let hook = FirstHangs::of(|call| matches!(call, Call::Extend(_)));
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let slow = Pipeline::new()
        .then(move |n: u64| {
            count.fetch_add(1, SeqCst);
            async move {
                tokio::time::sleep(600 * SECOND).await;
                ok(n).await
            }
        })
        .reduce(|| 0, |a, b| a + b);
    let deployment = slow.deploy("hangs", store.hooked(hook)).unwrap();
    assert_eq!(outcome(&deployment, [7]).await.unwrap(), 7);
    assert_eq!(begun.load(SeqCst), 1);
}

/// <https://github.com/contribsys/faktory/issues/486>: of what was under way when the server went, nothing is heard again.
#[tokio::test(start_paused = true)]
async fn a_worker_ends_although_a_call_hangs_and_another_goes_on() {
    let calls: [(&str, IsMeant); 4] = [
        ("acknowledge", |call| matches!(call, Call::Acknowledge(..))),
        ("arrive", |call| matches!(call, Call::Arrive(_))),
        ("receive", |call| matches!(call, Call::Receive(..))),
        ("open", |call| matches!(call, Call::Open)),
    ];
    for (name, is_meant) in calls {
        let store = Store::new();
        let submitter = sum().deploy("hangs", store.backend()).unwrap();
        let run = submitter.submit(1..=8).await.unwrap();
        let hook = FirstHangs::of(is_meant);
        let deployment = sum().deploy("hangs", store.hooked(hook.clone())).unwrap();
        let worker = deployment.worker().start();
        tokio::time::sleep(SECOND).await;
        assert!(hook.0.load(SeqCst) > 0, "{name} hangs");
        let shut_down = tokio::time::timeout(30 * SECOND, worker.shutdown());
        assert!(shut_down.await.is_ok(), "{name}");
        let worker = submitter.worker().start();
        assert_eq!(soon(run.result()).await.unwrap(), 36, "{name}");
        worker.shutdown().await;
    }
}
