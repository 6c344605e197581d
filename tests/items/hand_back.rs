//! A packet that goes back to its queue while its items wait: the next worker goes on from their counts.

use std::sync::{Arc, Mutex};

use catchment::{Context, Deployment, Pipeline, Stage};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};

use crate::common::*;

/// The item that fails at each attempt.
const BAD: u64 = 3;

/// What a function was called with: item and attempt number.
type Calls = Arc<Mutex<Vec<(u64, u32)>>>;

struct Observed {
    store: Store,
    deployment: Deployment<u64, Vec<u64>>,
    plan: Shared,
    calls: Calls,
    /// Each failure of the bad item, when it is about to happen.
    failing: UnboundedReceiver<()>,
}

impl Observed {
    fn new(is_async: bool, plan: Shared, options: Stage) -> Self {
        let (tell, failing) = unbounded_channel();
        let calls = Calls::default();
        let (note, planned) = (Arc::clone(&calls), Shared::clone(&plan));
        let begin = move |n: u64, context: &Context| {
            note.lock().unwrap().push((n, context.attempt()));
            if n == BAD {
                tell.send(()).unwrap();
            }
        };
        let items = Pipeline::new();
        let items = match is_async {
            true => items.then_with(move |n, context| {
                begin(n, &context);
                let plan = Shared::clone(&planned);
                async move { plan.called(n, || {}).await }
            }),
            false => items.try_map_with(move |n, context: &Context| {
                begin(n, context);
                planned.call(n)
            }),
        };
        let store = Store::new();
        let pipeline = items.with(options.packet_size(5)).collect();
        let deployment = pipeline.deploy("back", store.backend()).unwrap();
        Self {
            store,
            deployment,
            plan,
            calls,
            failing,
        }
    }

    async fn failed(&mut self, times: usize) {
        for _ in 0..times {
            let failing = timeout(100 * HOUR, self.failing.recv()).await;
            failing.expect("it does not run again").unwrap();
        }
    }

    /// The attempt numbers that an item's function has seen.
    fn attempts(&self, item: u64) -> Vec<u32> {
        let calls = self.calls.lock().unwrap();
        let of_item = calls.iter().filter(|call| call.0 == item);
        of_item.map(|call| call.1).collect()
    }
}

/// Workers that end after this many failures of the bad item each.
async fn shut_down_after(is_async: bool, failures: &[usize], bad: Nature) {
    let what = format!("asynchronous: {is_async}, shut down after {failures:?}, {bad:?}");
    let plan = Plan::with(10, [(BAD, bad), (4, Nature::Fails(1))]);
    let mut seen = Observed::new(is_async, plan, waiting(skipping(3)));
    let run = seen.deployment.submit(0..10).await.unwrap();
    for &times in failures {
        let worker = seen.deployment.worker().start();
        seen.failed(times).await;
        soon(worker.shutdown()).await;
        let depth = seen.store.depth(&seen.deployment).await;
        assert_eq!(depth.in_flight, 0, "{what}: {depth:?}");
        assert_eq!(run.status().await.unwrap().items_skipped, 0, "{what}");
    }
    let worker = seen.deployment.worker().start();
    let outcome = soon(run.outcome()).await.unwrap();
    assert_eq!(seen.attempts(BAD), [1, 2, 3], "{what}");
    let expected: Vec<u64> = seen.plan.good(3).collect();
    assert_eq!(outcome.value, expected, "{what}");
    let listed = run.failures().await.unwrap();
    let listed: Vec<_> = listed.iter().filter(|one| one.is_skipped()).collect();
    assert_eq!(outcome.skipped, listed.len() as u64, "{what}");
    for failure in listed {
        assert_eq!(failure.item, Some(BAD), "{what}");
    }
    let lives = failures.len() as u32 + 1;
    for item in [0, 1, 2] {
        let calls = seen.plan.calls(item);
        assert!(calls <= lives, "{what}, item {item}: {calls} calls");
    }
    assert!(seen.plan.calls(4) <= 1 + lives, "{what}");
    assert!((5..10).all(|item| seen.plan.calls(item) == 1), "{what}");
    worker.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_next_worker_has_the_attempts_that_are_left() {
    for is_async in [true, false] {
        for bad in [Nature::Fails(2), Nature::Fails(ALWAYS)] {
            shut_down_after(is_async, &[2], bad).await;
            shut_down_after(is_async, &[1, 1], bad).await;
            shut_down_after(is_async, &[1], bad).await;
        }
    }
}

/// Its neighbour does not end within the grace period: what had failed is on record all the same.
#[tokio::test(start_paused = true)]
async fn counts_are_kept_when_the_grace_period_is_over() {
    let plan = Plan::with(10, [(BAD, Nature::Fails(ALWAYS)), (4, Nature::Hangs(1))]);
    let options = waiting(skipping(3)).timeout(100 * HOUR);
    let mut seen = Observed::new(true, plan, options);
    let run = seen.deployment.submit(0..10).await.unwrap();
    let worker = seen.deployment.worker().grace_period(5 * SECOND).start();
    seen.failed(2).await;
    soon(worker.shutdown()).await;
    let worker = seen.deployment.worker().start();
    let outcome = soon(run.outcome()).await.unwrap();
    assert_eq!(outcome.value, seen.plan.good(3).collect::<Vec<_>>());
    assert_eq!(seen.attempts(BAD), [1, 2, 3]);
    assert_eq!(seen.attempts(4).len(), 2);
    worker.shutdown().await;
}

/// The same where no wait can be kept: the packet stays for its neighbour only.
#[tokio::test(start_paused = true)]
async fn counts_are_kept_when_the_grace_period_is_over_and_no_wait_is_kept() {
    let plan = Plan::with(10, [(BAD, Nature::Fails(ALWAYS)), (4, Nature::Hangs(1))]);
    let options = waiting(skipping(3)).timeout(100 * HOUR);
    let mut seen = Observed::new(true, plan, options.visibility_timeout(SECOND));
    let run = seen.deployment.submit(0..10).await.unwrap();
    let worker = seen.deployment.worker().grace_period(5 * SECOND).start();
    seen.failed(1).await;
    soon(worker.shutdown()).await;
    let worker = seen.deployment.worker().start();
    let outcome = soon(run.outcome()).await.unwrap();
    assert_eq!(outcome.value, seen.plan.good(3).collect::<Vec<_>>());
    assert_eq!(seen.attempts(BAD), [1, 2, 3]);
    worker.shutdown().await;
}

/// A message cannot be kept for an hour that is visible again after a second.
#[tokio::test(start_paused = true)]
async fn counts_are_kept_when_the_wait_outlasts_the_visibility_timeout() {
    for is_async in [true, false] {
        let plan = Plan::with(10, [(BAD, Nature::Fails(ALWAYS)), (4, Nature::Fails(3))]);
        let options = waiting(skipping(4)).visibility_timeout(SECOND);
        let mut seen = Observed::new(is_async, plan, options);
        let run = seen.deployment.submit(0..10).await.unwrap();
        let worker = seen.deployment.worker().start();
        let mut has_gone_back = false;
        for _ in 0..3 {
            seen.failed(1).await;
            sleep(SECOND).await;
            let depth = seen.store.depth(&seen.deployment).await;
            has_gone_back |= depth.in_flight == 0 && depth.delayed == 1;
        }
        assert!(has_gone_back, "asynchronous: {is_async}");
        let outcome = soon(run.outcome()).await.unwrap();
        assert_eq!(outcome.value, seen.plan.good(4).collect::<Vec<_>>());
        assert_eq!(seen.attempts(BAD), [1, 2, 3, 4]);
        assert_eq!(seen.attempts(4), [1, 2, 3, 4]);
        assert!((0..3).all(|item| seen.plan.calls(item) <= 7));
        worker.shutdown().await;
    }
}

/// A push handler has no time to wait.
#[tokio::test(start_paused = true)]
async fn counts_are_kept_when_a_push_handlers_deadline_is_near() {
    for is_async in [true, false] {
        let plan = Plan::with(10, [(BAD, Nature::Fails(ALWAYS)), (4, Nature::Fails(3))]);
        let seen = Observed::new(is_async, plan, waiting(skipping(4)));
        let run = seen.deployment.submit(0..10).await.unwrap();
        let outcome = tokio::select! {
            outcome = soon(run.outcome()) => outcome.unwrap(),
            never = push_all(&seen.store, &seen.deployment) => match never {},
        };
        assert_eq!(outcome.value, seen.plan.good(4).collect::<Vec<_>>());
        assert_eq!(seen.attempts(BAD), [1, 2, 3, 4]);
        assert_eq!(seen.attempts(4), [1, 2, 3, 4]);
        assert!((0..3).all(|item| seen.plan.calls(item) <= 7));
        assert!((5..10).all(|item| seen.plan.calls(item) == 1));
    }
}
