//! A packet whose items wait for their next attempt takes no thread, and a retry inside a worker costs no request.

use std::sync::{Arc, Mutex};

use catchment::{Pipeline, Stage};
use tokio::time::sleep;

use crate::common::*;
use crate::shapes::Shape;

/// A pipeline with one place, and the order of its calls.
fn one_at_a_time(plan: &Shared, options: Stage) -> (Kept, Arc<Mutex<Vec<u64>>>) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let (plan, note) = (Shared::clone(plan), Arc::clone(&calls));
    let items = Pipeline::new().try_map(move |n: u64| {
        note.lock().unwrap().push(n);
        plan.call(n)
    });
    (items.with(options.concurrency(1)).collect(), calls)
}

/// One item of each of the first packets waits; everything else is done before the first of them has waited long enough.
async fn others_go_on(way: Way) {
    const LENGTH: u64 = 400;
    let waits = |item: u64| item < 200 && item % 10 == 4;
    let plan = Plan::new((0..LENGTH).map(|item| match waits(item) {
        true => Nature::Fails(3),
        false => Nature::Good,
    }));
    let options = waiting(skipping(4)).packet_size(10);
    let (pipeline, calls) = one_at_a_time(&plan, options);
    let seen = way.run(pipeline, LENGTH).await.unwrap();
    assert_exact("one thread", &plan, 4, &seen, as_it_is);
    let calls = calls.lock().unwrap();
    let mut first: Vec<u64> = calls[..LENGTH as usize].to_vec();
    first.sort_unstable();
    assert!(first.into_iter().eq(0..LENGTH), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_waiting_item_holds_no_thread_in_run() {
    others_go_on(Way::Run).await;
}

#[tokio::test(start_paused = true)]
async fn a_waiting_item_holds_no_thread_when_deployed() {
    others_go_on(Way::Deployed).await;
}

/// Requests of a run in which three items fail, by what they are for.
#[tokio::test(start_paused = true)]
async fn a_retry_inside_a_worker_costs_no_request() {
    for shape in [Shape::TryMap, Shape::Then] {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&requests);
        let hook = On(move |call: &Call<'_>| {
            let costs = match call {
                Call::Release(_, after) => Some(format!("release after {after:?}")),
                Call::RecordFailure(report) => Some(format!("record {:?}", report.verdict)),
                Call::NoteBeginning(_) => Some("note a beginning".to_owned()),
                Call::WithdrawBeginning(_) => Some("withdraw a beginning".to_owned()),
                Call::Bury(..) => Some("bury".to_owned()),
                _ => None,
            };
            note.lock().unwrap().extend(costs);
            Act::Go
        });
        let failing = [3, 4, 77].map(|item| (item, Nature::Fails(2)));
        let plan = Plan::with(100, failing);
        let pipeline = shape.pipeline(&plan, waiting(skipping(3)).packet_size(10));
        let store = Store::new();
        let deployment = pipeline.deploy("free", store.hooked(Arc::new(hook)));
        let deployment = deployment.unwrap();
        let worker = deployment.worker().start();
        let run = deployment.submit(0..100).await.unwrap();
        let seen = seen(&run).await.unwrap();
        assert_exact("free", &plan, 3, &seen, as_it_is);
        assert!(run.failures().await.unwrap().is_empty());
        worker.shutdown().await;
        let requests = requests.lock().unwrap();
        assert!(requests.is_empty(), "{shape:?}: {requests:?}");
    }
}

/// The only thread is free for whatever comes later.
#[tokio::test(start_paused = true)]
async fn a_packet_that_waits_does_not_hold_up_another_run() {
    let plan = Plan::with(20, [(4, Nature::Fails(ALWAYS))]);
    let options = waiting(skipping(3)).packet_size(10);
    let (pipeline, _) = one_at_a_time(&plan, options);
    let store = Store::new();
    let deployment = pipeline.deploy("two", store.backend()).unwrap();
    let worker = deployment.worker().concurrency(1).start();
    let first = deployment.submit(0..10).await.unwrap();
    sleep(SECOND).await;
    let second = deployment.submit(10..20).await.unwrap();
    assert_eq!(
        soon(second.result()).await.unwrap(),
        (10..20).collect::<Vec<_>>()
    );
    assert_eq!(first.status().await.unwrap().items_skipped, 0);
    let seen = seen(&first).await.unwrap();
    assert_eq!(seen.skipped, Some(vec![4]));
    assert_eq!((plan.calls(4), plan.calls(5)), (3, 1));
    worker.shutdown().await;
}
