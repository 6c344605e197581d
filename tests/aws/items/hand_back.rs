//! Packets that go back to their queue while their items wait: the next worker goes on from the counts on record.

use catchment::Pipeline;
use tempfile::TempDir;

use super::*;
use crate::common::unique;

const LENGTH: u64 = 50;
const PACKET: u64 = 5;
/// One bad item in each packet.
const BAD: u64 = 10;

fn is_bad(item: u64) -> bool {
    item % PACKET == 3
}

/// Each item of which the function has seen all but `attempts` fails, if it is bad; its neighbour fails once.
fn call(calls: &Calls, item: u64, attempt: u32) -> Result<u64, String> {
    calls.note(item, attempt);
    match is_bad(item) || (item % PACKET == 4 && attempt == 1) {
        true => Err(format!("attempt {attempt}")),
        false => Ok(item),
    }
}

fn deploy(name: &str, calls: &Calls, is_async: bool, stage: Stage, tables: Tables) -> Kept {
    let calls = calls.clone();
    let items = Pipeline::new();
    let items = match is_async {
        false => items.try_map_with(move |n, context| call(&calls, n, context.attempt())),
        true => items.then_with(move |n, context| {
            let calls = calls.clone();
            async move { call(&calls, n, context.attempt()) }
        }),
    };
    let pipeline = items.with(stage.packet_size(PACKET as u32)).collect();
    pipeline.deploy(name, tables.backend()).unwrap()
}

/// Waits of up to two seconds, and a visibility timeout that no busy machine misses.
fn patient(attempts: u32) -> Stage {
    let wait = Duration::from_secs(2);
    skipping(attempts)
        .backoff(Backoff::exponential(wait, wait))
        .visibility_timeout(Duration::from_secs(30))
}

/// The counts are exact over all lives, and what had succeeded in a packet that went back has run again.
async fn check(what: &str, run: &Run<Vec<u64>>, calls: &Calls, most: u32, lives: usize) {
    let outcome = tokio::time::timeout(PATIENCE, run.outcome()).await;
    let outcome = outcome.expect("it has no end").unwrap();
    let good: Vec<u64> = (0..LENGTH).filter(|item| !is_bad(*item)).collect();
    assert_eq!((outcome.value, outcome.skipped), (good, BAD), "{what}");
    let bad = (0..LENGTH).filter(|item| is_bad(*item));
    for item in bad.clone() {
        let expected: Vec<u32> = (1..=most).collect();
        assert_eq!(calls.attempts(item), expected, "{what}: item {item}");
    }
    let listed = listed(run).await;
    let expected: Vec<_> = bad.map(|item| (item, most as usize)).collect();
    assert_eq!(attempts(&listed), expected, "{what}");
    let mut again = 0;
    for item in (0..LENGTH).filter(|item| item % PACKET < 3) {
        let times = calls.attempts(item).len();
        assert!((1..=lives).contains(&times), "{what}: item {item}, {times}");
        again += times - 1;
    }
    assert!(again > 0, "{what}: no packet has gone back");
}

const TERMINATED: &str = "items::hand_back::the_next_worker_goes_on_from_the_counts";

/// The first worker is a process that is told to end, the second one is shut down.
#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn the_next_worker_goes_on_from_the_counts() {
    const MOST: u32 = 4;
    // The kind of function is part of the name, for the processes.
    let deploy = |name: &str, calls: &Calls| {
        let is_async = name.starts_with("async");
        let tables = match is_async {
            true => Tables::Ministack,
            false => Tables::DynamoDbLocal,
        };
        deploy(name, calls, is_async, patient(MOST), tables)
    };
    if let Some((name, calls)) = told() {
        return work(&deploy(&name, &calls)).await;
    }
    for kind in ["async", "blocking"] {
        let folder = TempDir::new().unwrap();
        let calls = Calls(folder.path().join("calls"));
        let name = unique(kind);
        let deployment = deploy(&name, &calls);
        deployment.provision().await.unwrap();
        let run = deployment.submit(0..LENGTH).await.unwrap();

        let process = Process::start(TERMINATED, &name, &calls.0);
        calls.until(BAD as usize, is_bad).await;
        process.told_to_end().await;

        let before = calls.all().len();
        let worker = deployment.worker().start();
        let failed = calls.all().iter().filter(|call| is_bad(call.0)).count();
        calls.until(failed + BAD as usize / 2, is_bad).await;
        worker.shutdown().await;
        assert!(calls.all().len() > before, "{kind}: the second did nothing");

        let worker = deployment.worker().start();
        check(kind, &run, &calls, MOST, 3).await;
        worker.shutdown().await;
        deployment.deprovision(&name).await.unwrap();
    }
}

/// A message cannot be kept for ten seconds that is visible again after five.
#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn counts_are_kept_when_a_wait_outlasts_the_visibility_timeout() {
    const MOST: u32 = 3;
    let each = [(true, Tables::DynamoDbLocal), (false, Tables::Ministack)];
    let each = each.map(|(is_async, tables)| async move {
        let folder = TempDir::new().unwrap();
        let calls = Calls(folder.path().join("calls"));
        let wait = Duration::from_secs(10);
        let stage = skipping(MOST)
            .backoff(Backoff::exponential(wait, wait))
            .visibility_timeout(wait / 2);
        let name = unique("outlasts");
        let deployment = deploy(&name, &calls, is_async, stage, tables);
        deployment.provision().await.unwrap();
        let run = deployment.submit(0..LENGTH).await.unwrap();
        let worker = deployment.worker().start();
        let what = format!("asynchronous: {is_async}");
        check(&what, &run, &calls, MOST, MOST as usize).await;
        worker.shutdown().await;
        deployment.deprovision(&name).await.unwrap();
    });
    futures::future::join_all(each).await;
}
