//! What is seen of a run whose items fail, and what can be done about it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use catchment::{Error, Pipeline, RunState};
use futures::TryStreamExt;

use super::*;
use crate::common::unique;

const LENGTH: u64 = 60;
const BAD: [u64; 2] = [13, 47];

/// Bad items fail until they are fixed, and others once.
async fn settled_and_redriven(tables: Tables) {
    let is_fixed = Arc::new(AtomicBool::new(false));
    let fixed = Arc::clone(&is_fixed);
    let failed = Mutex::new(HashSet::new());
    let items = Pipeline::new().try_map(move |n: u64| {
        let is_bad = BAD.contains(&n) && !fixed.load(SeqCst);
        match is_bad || (n % 7 == 2 && failed.lock().unwrap().insert(n)) {
            true => Err(format!("{n} is broken")),
            false => Ok(n),
        }
    });
    let stage = skipping(3).on_failure(OnFailure::Fail).packet_size(10);
    let name = unique("settled");
    let deployment = items.with(stage).collect();
    let deployment: Kept = deployment.deploy(&name, tables.backend()).unwrap();
    deployment.provision().await.unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(0..LENGTH).await.unwrap();
    let updates = run.progress().every(Duration::from_millis(100));
    let updates = tokio::spawn(updates.try_collect::<Vec<_>>());
    let error = run.result().await.unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error}");
    let updates = updates.await.unwrap().unwrap();
    assert_eq!(updates.last().unwrap().state, RunState::Failed);

    let status = run.settled().await.unwrap();
    assert_eq!((status.state, status.settled), (RunState::Failed, true));
    // Their neighbours wait with them in the dead letters.
    let counts = (
        status.items_done,
        status.items_failed,
        status.messages_failed,
    );
    assert_eq!(counts, (LENGTH - 20, 2, 2), "{status:?}");
    let listed = listed(&run).await;
    assert_eq!(attempts(&listed), BAD.map(|item| (item, 3)));
    let mut letters = run.dead_letters().await.unwrap().to_vec();
    letters.sort_unstable_by_key(|letter| letter.item);
    let seen = letters
        .iter()
        .map(|letter| (letter.item, letter.label.clone()));
    let expected = BAD.map(|item| (Some(item), Some(label(&item))));
    assert_eq!(seen.collect::<Vec<_>>(), expected);
    for letter in &letters {
        let own = letter.attempts.iter().map(|one| (one.number, one.item));
        let expected = [1, 2, 3].map(|number| (number, letter.item));
        assert_eq!(own.collect::<Vec<_>>(), expected, "{letter:?}");
    }

    is_fixed.store(true, SeqCst);
    let redriven = run.redrive().await.unwrap();
    assert_eq!((redriven.redriven, redriven.under_way), (2, 0));
    let outcome = run.outcome().await.unwrap();
    let expected: Vec<u64> = (0..LENGTH).collect();
    assert_eq!((outcome.value, outcome.skipped), (expected, 0));
    assert_eq!(run.settled().await.unwrap().state, RunState::Done);
    let updates: Vec<_> = run.progress().try_collect().await.unwrap();
    let last = updates.last().unwrap();
    let work = &last.stages[0];
    assert_eq!(
        (last.state, last.items, last.left_out),
        (RunState::Done, Some(LENGTH), 0)
    );
    assert_eq!(
        (work.total, work.done, work.left_out),
        (Some(LENGTH), Some(LENGTH), Some(0))
    );
    worker.shutdown().await;
    deployment.deprovision(&name).await.unwrap();
}

#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn a_settled_run_is_redriven_on_ministack() {
    settled_and_redriven(Tables::Ministack).await;
}

#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn a_settled_run_is_redriven_on_dynamodb_local() {
    settled_and_redriven(Tables::DynamoDbLocal).await;
}

/// The stream of a run that leaves out items ends with what was left out.
#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn progress_shows_what_was_left_out() {
    let items = Pipeline::new().try_map(|n: u64| match BAD.contains(&n) {
        true => Err("it is broken"),
        false => Ok(n),
    });
    let name = unique("progress");
    let deployment = items.with(skipping(2).packet_size(10)).collect();
    let backend = Tables::Ministack.backend();
    let deployment: Kept = deployment.deploy(&name, backend).unwrap();
    deployment.provision().await.unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(0..LENGTH).await.unwrap();
    let updates = run.progress().every(Duration::from_millis(100));
    let updates: Vec<_> = updates.try_collect().await.unwrap();
    for pair in updates.windows(2) {
        assert!(pair[0].left_out <= pair[1].left_out, "{pair:?}");
        assert!(pair[0].stages[0].done <= pair[1].stages[0].done, "{pair:?}");
    }
    let last = updates.last().unwrap();
    println!("{} updates, the last: {last}", updates.len());
    assert_eq!(
        (last.state, last.items, last.left_out),
        (RunState::Done, Some(LENGTH), 2)
    );
    let work = &last.stages[0];
    assert_eq!((work.done, work.left_out), (Some(LENGTH - 2), Some(2)));
    worker.shutdown().await;
    deployment.deprovision(&name).await.unwrap();
}

/// Requests of a cancelled run that hang hold up nobody.
#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn a_worker_does_not_wait_for_hanging_requests_of_a_cancelled_run() {
    let begun = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&begun);
    let items = Pipeline::new().then(move |_: u64| {
        count.fetch_add(1, SeqCst);
        std::future::pending::<Result<u64, String>>()
    });
    let name = unique("hanging");
    let stage = skipping(3).packet_size(5).timeout(24 * 20 * PATIENCE);
    let deployment: Kept = items
        .with(stage)
        .collect()
        .deploy(&name, Tables::Ministack.backend())
        .unwrap();
    deployment.provision().await.unwrap();
    let worker = deployment.worker().grace_period(100 * PATIENCE);
    let worker = worker.cancel_check(Duration::from_millis(100)).start();
    let run = deployment.submit(0..20).await.unwrap();
    let test = async {
        while begun.load(SeqCst) < 5 {
            poll().await;
        }
        assert!(run.cancel().await.unwrap());
        worker.shutdown().await;
    };
    let done = tokio::time::timeout(PATIENCE, test).await;
    done.expect("the worker waits for what hangs");
    let error = run.result().await.unwrap_err();
    assert!(matches!(error, Error::Cancelled { .. }), "{error}");
    deployment.deprovision(&name).await.unwrap();
}
