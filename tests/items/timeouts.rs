//! An item that outlasts its timeout fails its own attempt, and no other item's.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use catchment::queue::Depth;
use catchment::{Backoff, OnFailure, Pipeline, Stage};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::advance;

use crate::common::*;
use crate::shapes::Shape;

const LENGTH: u64 = 60;
const TIMEOUT: Duration = Duration::from_secs(20);
const ATTEMPTS: u32 = 3;

/// Several items of one packet hang, some of them for good.
fn plan() -> Shared {
    Plan::with(
        LENGTH,
        [
            (3, Nature::Hangs(1)),
            (12, Nature::Hangs(ALWAYS)),
            (13, Nature::Fails(1)),
            (14, Nature::Hangs(2)),
        ],
    )
}

fn options() -> Stage {
    skipping(ATTEMPTS).packet_size(10).timeout(TIMEOUT)
}

async fn pending(way: Way) {
    let plan = plan();
    let pipeline = Shape::Then.pipeline(&plan, options());
    let seen = way.run(pipeline, LENGTH).await.unwrap();
    assert_exact("it hangs", &plan, ATTEMPTS, &seen, as_it_is);
}

each_way! {
    an_asynchronous_item_that_hangs_fails_its_own_attempt = pending;
}

/// A thread that is held until the test has ended.
#[derive(Clone)]
struct Gate {
    held: UnboundedSender<()>,
    is_open: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    fn new() -> (Self, UnboundedReceiver<()>) {
        let (held, holds) = unbounded_channel();
        let is_open = Arc::default();
        (Self { held, is_open }, holds)
    }

    fn hold(&self) {
        self.held.send(()).unwrap();
        let (is_open, opened) = &*self.is_open;
        drop(opened.wait_while(is_open.lock().unwrap(), |is_open| !*is_open));
    }
}

/// Lets all of them go on when it is dropped.
struct Opens(Gate);

impl Drop for Opens {
    fn drop(&mut self) {
        *self.0.is_open.0.lock().unwrap() = true;
        self.0.is_open.1.notify_all();
    }
}

/// The clock does not move by itself while a thread is busy. It is moved past the timeout each time one is held, and only
/// then: no other item runs meanwhile, since there is one place.
async fn blocked(way: Way) {
    // Four threads are lost: no more are borne on a machine of one core.
    let hanging = [(3, 1), (12, ALWAYS), (59, 1)].map(|(item, calls)| (item, Nature::Hangs(calls)));
    let [a, b, c] = hanging;
    let plan = Plan::with(LENGTH, [a, b, (13, Nature::Fails(1)), c]);
    let (gate, mut holds) = Gate::new();
    let _opens = Opens(gate.clone());
    let planned = Shared::clone(&plan);
    let pipeline = Pipeline::new()
        .try_map(move |n: u64| {
            let number = planned.calls(n) + 1;
            let called = planned.call(n);
            match planned.nature(n) {
                Nature::Hangs(calls) if number <= calls => {
                    gate.hold();
                    Ok(n)
                }
                _ => called,
            }
        })
        .with(options().attempts(2).concurrency(1))
        .collect();
    let mut run = tokio::spawn(way.run(pipeline, LENGTH));
    let seen = loop {
        tokio::select! {
            seen = &mut run => break seen.unwrap().unwrap(),
            hold = holds.recv() => hold.expect("the function has gone"),
        }
        // It is noticed up to a quarter late.
        for _ in 0..TIMEOUT.as_secs() * 5 / 4 + 1 {
            advance(SECOND).await;
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
    };
    let expected: Vec<u64> = plan.good(2).collect();
    assert_eq!(seen.value, expected);
    assert!(seen.skipped.is_none_or(|skipped| skipped == [12]));
    for item in [3, 12, 13, 59] {
        assert_eq!(plan.calls(item), 2, "calls of item {item}");
    }
    // What a lost thread had done before is lost with it; what others had done is not.
    assert!((0..LENGTH).all(|item| plan.calls(item) <= 3));
    assert!((20..50).all(|item| plan.calls(item) == 1));
}

each_way! {
    a_cpu_bound_item_that_hangs_fails_its_own_attempt = blocked;
}

/// Under the default policy it is the run that fails, by that item, after as many timeouts as it has attempts.
#[tokio::test(start_paused = true)]
async fn an_item_that_hangs_for_good_is_the_failure() {
    let plan = Plan::with(LENGTH, [(3, Nature::Hangs(1)), (12, Nature::Hangs(ALWAYS))]);
    let stage = options().on_failure(OnFailure::Fail);
    let stage = stage.backoff(Backoff::exponential(SECOND, SECOND));
    let store = Store::new();
    let pipeline = Shape::Then.pipeline(&plan, stage);
    let deployment = pipeline.deploy("hangs", store.backend()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(0..LENGTH).await.unwrap();
    let error = soon(run.result()).await.unwrap_err();
    assert!(error.to_string().contains("timed out"), "{error}");
    tokio::time::sleep(10 * MINUTE).await;
    let letters = run.dead_letters().await.unwrap();
    let items: Vec<_> = letters.iter().map(|letter| letter.item).collect();
    assert_eq!(items, [Some(12)]);
    let attempts = letters[0].attempts.iter();
    let attempts: Vec<_> = attempts.map(|one| (one.number, one.item)).collect();
    assert_eq!(attempts, [1, 2, 3].map(|number| (number, Some(12))));
    for item in 0..LENGTH {
        let needed = plan.nature(item).calls(ATTEMPTS);
        assert_eq!(plan.calls(item), needed, "calls of item {item}");
    }
    assert_eq!(store.depth(&deployment).await, Depth::new().dead(1));
    worker.shutdown().await;
}
