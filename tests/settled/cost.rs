//! What it costs to wait: requests, counted at the scratchpad.

use std::sync::Mutex;

use super::*;

/// Counts the calls of one process.
fn counted(store: &Store) -> (catchment::Backend, Arc<Mutex<Vec<&'static str>>>) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&calls);
    let counts = On(move |call: &Call<'_>| {
        let name = match call {
            Call::Status(_) => "status",
            Call::Wait => "wait",
            Call::Arrived => "arrived",
            Call::Failures => "failures",
            _ => "other",
        };
        seen.lock().unwrap().push(name);
        Act::Go
    });
    (store.hooked(Arc::new(counts)), calls)
}

fn count(calls: &[&str], name: &str) -> usize {
    calls.iter().filter(|call| **call == name).count()
}

/// Ten hours of which one packet failed at once.
#[tokio::test(start_paused = true)]
async fn a_long_wait_looks_seldom_and_reads_no_failures_until_the_end() {
    let (pipeline, _) = slow(|n| n == 0);
    let store = Store::new();
    let worker = pipeline
        .clone()
        .deploy("long", store.backend())
        .unwrap()
        .worker()
        .start();
    let (backend, calls) = counted(&store);
    let deployment = pipeline.deploy("long", backend).unwrap();
    let run = deployment.submit((0..300).chain([600])).await.unwrap();
    let id = run.id().clone();
    calls.lock().unwrap().clear();
    let begin = Instant::now();
    let status = soon(deployment.attach(id).settled()).await.unwrap();
    assert!(begin.elapsed() >= 10 * HOUR && status.settled);
    let calls = calls.lock().unwrap();
    let looks = count(&calls, "wait");
    assert!(
        (1_200..1_400).contains(&looks),
        "{looks} looks in ten hours"
    );
    // The root, and the groups to its right.
    let reads = count(&calls, "arrived");
    assert!(
        reads <= looks * 7,
        "{reads} reads of groups in {looks} looks"
    );
    assert!(
        count(&calls, "failures") <= looks,
        "{:?}",
        count(&calls, "failures")
    );
    assert_eq!(count(&calls, "other"), 0);
    drop(worker);
}

/// Every packet of 3,000 fails.
#[tokio::test(start_paused = true)]
async fn many_dead_letters_are_read_a_thousand_at_a_time() {
    let pipeline: Sum = Pipeline::new()
        .then(|_: u64| async { Err::<u64, _>(permanent("broken")) })
        .with(Stage::named("all").packet_size(1))
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("sum").fan_in(3));
    let store = Store::new();
    let worker = pipeline
        .clone()
        .deploy("many", store.backend())
        .unwrap()
        .worker()
        .start();
    let (backend, calls) = counted(&store);
    let deployment = pipeline.deploy("many", backend).unwrap();
    let run = deployment.submit(0..3_000).await.unwrap();
    let status = soon(run.settled()).await.unwrap();
    assert_eq!(
        (status.messages_failed, status.items_failed),
        (3_000, 3_000)
    );
    calls.lock().unwrap().clear();
    assert!(run.settled().await.unwrap().settled);
    let calls = calls.lock().unwrap();
    // Twice, since a redrive may come in between: 3 pages of failures, and 1,500 groups in chunks of a thousand per level.
    assert_eq!(count(&calls, "failures"), 6, "{calls:?}");
    assert!(count(&calls, "arrived") <= 30, "{calls:?}");
    assert_eq!(
        count(&calls, "wait") + count(&calls, "status"),
        2,
        "{calls:?}"
    );
    drop(worker);
}
