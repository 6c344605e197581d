//! A limit on the items that may be left out: each of them is listed once, whatever packet it was in.

use catchment::{Error, OnFailure, RunState};
use tokio::time::sleep;

use crate::common::*;
use crate::shapes::Shape;

const LENGTH: u64 = 60;
const BAD: [u64; 6] = [0, 3, 20, 21, 45, 59];

fn plan(bad: Nature) -> Shared {
    let nature = |item: u64| match BAD.contains(&item) {
        true => bad,
        false if item % 7 == 1 => Nature::Fails(1),
        false => Nature::Good,
    };
    Plan::new((0..LENGTH).map(nature))
}

async fn limited(shape: Shape, bad: Nature, packet_size: u32) {
    for limit in [6, 5] {
        let what = format!("{shape:?}, {bad:?}, packets of {packet_size}, at most {limit}");
        let plan = plan(bad);
        let options = skipping(3).on_failure(OnFailure::Tolerate(limit));
        let pipeline = shape.pipeline(&plan, options.packet_size(packet_size));
        let store = Store::new();
        let deployment = pipeline.deploy("limit", store.backend()).unwrap();
        let worker = deployment.worker().start();
        let run = deployment.submit(0..LENGTH).await.unwrap();
        if limit == 6 {
            let seen = seen(&run).await.unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_exact(&what, &plan, 3, &seen, |item| shape.kept(item));
        } else {
            match soon(run.result()).await.unwrap_err() {
                Error::Failed { failure, .. } => {
                    assert!(failure.error.contains("tolerate"), "{what}: {failure}");
                    assert!(BAD.contains(&failure.item.unwrap()), "{what}: {failure}");
                }
                other => panic!("{what}: {other}"),
            }
            sleep(HOUR).await;
            let status = run.status().await.unwrap();
            assert_eq!(status.state, RunState::Failed, "{what}");
            let failures = run.failures().await.unwrap();
            for failure in failures.iter() {
                let own = failure.attempts.iter();
                let own = own.filter(|one| one.item == failure.item);
                let mut numbers: Vec<u32> = own.map(|one| one.number).collect();
                // That of the dead letter is there a second time, with what it led to.
                numbers.dedup();
                let needed = plan.nature(failure.item.unwrap()).calls(3);
                assert_eq!(
                    numbers,
                    (1..=needed).collect::<Vec<_>>(),
                    "{what}: {failure:?}"
                );
            }
            let mut items: Vec<u64> = failures.iter().filter_map(|one| one.item).collect();
            items.sort_unstable();
            let distinct: std::collections::BTreeSet<u64> = items.iter().copied().collect();
            assert_eq!(distinct.len(), items.len(), "{what}: {items:?}");
            assert!(
                items.iter().all(|item| BAD.contains(item)),
                "{what}: {items:?}"
            );
            // The packet that was one too many may name but one of its items.
            let packets =
                |items: &mut dyn Iterator<Item = u64>| -> std::collections::BTreeSet<u64> {
                    items.map(|item| item / u64::from(packet_size)).collect()
                };
            let (listed, bad) = (
                packets(&mut items.iter().copied()),
                packets(&mut BAD.into_iter()),
            );
            assert_eq!(listed, bad, "{what}: {items:?}");
        }
        for item in BAD {
            let needed = plan.nature(item).calls(3);
            assert_eq!(plan.calls(item), needed, "{what}: calls of item {item}");
        }
        worker.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_item_over_several_packets_is_listed_once() {
    for packet_size in [1, 10, 60] {
        limited(Shape::TryMap, Nature::Fails(ALWAYS), packet_size).await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_asynchronous_item_is_listed_once() {
    for packet_size in [1, 10, 60] {
        limited(Shape::Then, Nature::Fails(ALWAYS), packet_size).await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_permanent_failure_is_listed_once() {
    for packet_size in [1, 10, 60] {
        limited(Shape::TryMap, Nature::Permanent, packet_size).await;
        limited(Shape::Then, Nature::Permanent, packet_size).await;
    }
}
