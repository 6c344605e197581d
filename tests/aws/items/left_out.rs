//! Packets of several items, some of which fail: exactly the bad ones are left out, and each is listed once.

use std::collections::BTreeSet;
use std::sync::Arc;

use catchment::{Error, Pipeline, RunState};

use super::*;
use crate::common::unique;
use crate::plan::{ALWAYS, Nature, Plan};

const LENGTH: u64 = 200;
const ATTEMPTS: u32 = 3;

fn deploy(plan: &Arc<Plan>, is_async: bool, stage: Stage, tables: Tables) -> Kept {
    let plan = Arc::clone(plan);
    let items = Pipeline::new();
    let items = match is_async {
        false => items.try_map(move |n| plan.call(n)),
        true => items.then(move |n| {
            let plan = Arc::clone(&plan);
            async move { plan.called(n, || {}).await }
        }),
    };
    let name = unique("left-out");
    let pipeline = items.with(stage).collect();
    pipeline.deploy(&name, tables.backend()).unwrap()
}

/// Bad items and such that recover, most of them in one packet with others.
fn some_fail() -> Arc<Plan> {
    Plan::new((0..LENGTH).map(|item| match item % 50 {
        3 | 20 => Nature::Fails(ALWAYS),
        4 => Nature::Permanent,
        21 => Nature::Panics(ALWAYS),
        5 | 22 | 23 | 40 => Nature::Fails(1),
        6 => Nature::Fails(2),
        7 => Nature::Panics(1),
        _ => Nature::Good,
    }))
}

async fn only_bad_items(tables: Tables) {
    for is_async in [false, true] {
        let plan = some_fail();
        let stage = skipping(ATTEMPTS).packet_size(20);
        let deployment = deploy(&plan, is_async, stage, tables);
        deployment.provision().await.unwrap();
        let worker = deployment.worker().start();
        let run = deployment.submit(0..LENGTH).await.unwrap();
        let outcome = run.outcome().await.unwrap();
        let what = format!("{tables:?}, asynchronous: {is_async}");
        assert_eq!(
            outcome.value,
            plan.good(ATTEMPTS).collect::<Vec<_>>(),
            "{what}"
        );
        let bad = plan.bad(ATTEMPTS);
        assert_eq!(outcome.skipped, bad.len() as u64, "{what}");
        let listed = listed(&run).await;
        let calls = |item: u64| plan.nature(item).calls(ATTEMPTS);
        let expected: Vec<_> = bad
            .iter()
            .map(|item| (*item, calls(*item) as usize))
            .collect();
        assert_eq!(attempts(&listed), expected, "{what}");
        assert!(listed.iter().all(|(_, one)| one.is_skipped()), "{what}");
        for item in 0..LENGTH {
            let nature = plan.nature(item);
            assert_eq!(
                plan.calls(item),
                calls(item),
                "{what}: item {item}, {nature:?}"
            );
        }
        worker.shutdown().await;
        deployment.deprovision(deployment.name()).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn only_bad_items_are_left_out_on_ministack() {
    only_bad_items(Tables::Ministack).await;
}

#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn only_bad_items_are_left_out_on_dynamodb_local() {
    only_bad_items(Tables::DynamoDbLocal).await;
}

const BAD: [u64; 6] = [0, 3, 20, 21, 45, 59];

/// One more than are tolerated: the run fails, and each bad item is listed once all the same.
async fn too_many(tables: Tables) {
    for (is_async, bad) in [(false, Nature::Fails(ALWAYS)), (true, Nature::Permanent)] {
        let what = format!("{tables:?}, asynchronous: {is_async}, {bad:?}");
        let plan = Plan::with(60, BAD.map(|item| (item, bad)));
        let stage = skipping(ATTEMPTS).on_failure(OnFailure::Tolerate(5));
        let deployment = deploy(&plan, is_async, stage.packet_size(10), tables);
        deployment.provision().await.unwrap();
        let worker = deployment.worker().start();
        let run = deployment.submit(0..60).await.unwrap();
        match run.result().await.unwrap_err() {
            Error::Failed { failure, .. } => {
                assert!(failure.error.contains("tolerate"), "{what}: {failure}");
            }
            other => panic!("{what}: {other}"),
        }
        let status = run.settled().await.unwrap();
        assert_eq!(status.state, RunState::Failed, "{what}");
        let listed = listed(&run).await;
        let items: Vec<u64> = listed.iter().map(|(item, _)| *item).collect();
        println!("{what}: {items:?}");
        let packets = |items: &[u64]| -> BTreeSet<u64> { items.iter().map(|n| n / 10).collect() };
        // A packet that was one too many is a dead letter, which names one of its items. So are two that were written down
        // at once.
        assert_eq!(packets(&items), packets(&BAD), "{what}: {items:?}");
        let once: BTreeSet<u64> = items.iter().copied().collect();
        assert_eq!(once.len(), items.len(), "{what}: {items:?}");
        assert!(once.iter().all(|n| BAD.contains(n)), "{what}: {items:?}");
        let dead = listed.iter().filter(|(_, one)| !one.is_skipped()).count();
        assert_eq!(dead as u64, status.messages_failed, "{what}: {listed:?}");
        assert!(dead > 0, "{what}: {listed:?}");
        for item in BAD {
            let needed = plan.nature(item).calls(ATTEMPTS);
            assert_eq!(plan.calls(item), needed, "{what}: item {item}");
        }
        worker.shutdown().await;
        deployment.deprovision(deployment.name()).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn one_item_too_many_is_listed_like_the_others_on_ministack() {
    too_many(Tables::Ministack).await;
}

#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn one_item_too_many_is_listed_like_the_others_on_dynamodb_local() {
    too_many(Tables::DynamoDbLocal).await;
}
