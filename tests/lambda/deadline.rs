//! Work that would outlast the function's deadline is handed back in time.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use catchment::queue::Depth;
use catchment::{Pipeline, Stage};
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{Instant, advance, sleep};

use super::*;

const TEN: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn what_is_begun_is_released_and_what_is_not_is_handed_back() {
    let store = Store::new();
    let stage = Stage::named("slow").packet_size(1).concurrency(2);
    let sum = Pipeline::new().then(|n: u64| async move {
        let takes = if n == 2 { NOW } else { LONG };
        sleep(takes).await;
        ok(n).await
    });
    let sum = sum.with(stage).reduce(|| 0, |a, b| a + b);
    let sum = sum.deploy("slow", store.backend()).unwrap();
    let run = sum.submit([1, 2, 3, 4, 5]).await.unwrap();
    let slow = Mapping::new(&store, sum.lambda("slow").unwrap()).await;
    let deliveries = slow.receive(NOW).await;
    assert_eq!(deliveries.len(), 5);

    let begin = Instant::now();
    let back = slow.invoke_for(&deliveries, TEN).await;
    assert!(begin.elapsed() < TEN, "{:?}", begin.elapsed());
    assert!(begin.elapsed() >= TEN * 9 / 10, "it has its time");

    let has = |item| back.iter().any(|body| has_item(body, item));
    assert_eq!((back.len(), has(2)), (4, false), "{back:?}");
    let depth = slow.queue.depth().await.unwrap();
    assert_eq!(
        (depth.ready + depth.delayed, depth.in_flight),
        (4, 0),
        "{depth:?}"
    );
    let at_once = soon(slow.queue.receive(10, NOW)).await.unwrap();
    let at_once = at_once.iter().map(text);
    let at_once: Vec<String> = at_once
        .filter(|body| !has_item(body, 1) && !has_item(body, 3))
        .collect();
    assert_eq!(at_once.len(), 2, "they had not begun: {at_once:?}");
    let failures = run.status().await.unwrap().messages_failed;
    assert_eq!(failures, 0);
}

#[tokio::test(start_paused = true)]
async fn what_always_outlasts_the_deadline_is_a_dead_letter_that_says_so() {
    let store = Store::new();
    let stage = Stage::named("slow").attempts(2);
    let sum = Pipeline::new().then(|n: u64| async move {
        sleep(LONG).await;
        ok(n).await
    });
    let sum = sum.with(stage).reduce(|| 0, |a, b| a + b);
    let sum = sum.deploy("endless", store.backend()).unwrap();
    let run = sum.submit([1]).await.unwrap();
    let function = sum.lambda("slow").unwrap().margin(Duration::from_secs(4));
    let slow = Mapping::new(&store, function).await;
    for attempt in 1..=2 {
        let deliveries = slow.receive(LONG).await;
        let begin = Instant::now();
        let back = slow.invoke_for(&deliveries, TEN).await;
        assert_eq!(back.len(), usize::from(attempt == 1));
        assert!(begin.elapsed() <= TEN, "{:?}", begin.elapsed());
    }
    let letters = run.dead_letters().await.unwrap();
    assert_eq!(letters[0].attempts.len(), 2, "{letters:?}");
    assert_eq!(
        letters[0].error,
        "cut off after 6s by the Lambda function's deadline: raise the function's timeout, or let each message have less to do (packet_size, fan_in)"
    );
}

/// A CPU-bound function cannot be stopped: its outcome is dropped, and the container continues
/// without its thread.
#[tokio::test(start_paused = true)]
async fn a_stuck_thread_is_left_behind() {
    let store = Store::new();
    let (begun, mut begins) = unbounded_channel();
    let (go_on, gate) = channel::<()>();
    let gate: Mutex<Option<Receiver<()>>> = Mutex::new(Some(gate));
    let stage = Stage::named("stuck").packet_size(1).concurrency(1);
    let sum = Pipeline::new()
        .map(move |n: u64| {
            // Only the first to come waits.
            let gate = gate.lock().unwrap().take();
            if let Some(gate) = gate {
                begun.send(n).unwrap();
                gate.recv().unwrap();
            }
            n
        })
        .with(stage)
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("sum"));
    let sum = sum.deploy("stuck", store.backend()).unwrap();
    let run = sum.submit([1, 2, 3]).await.unwrap();
    let stuck = Mapping::new(&store, sum.lambda("stuck").unwrap()).await;
    let deliveries = stuck.receive(NOW).await;
    let event = stuck.event(&deliveries);
    let function = stuck.function.clone();
    let answer = tokio::spawn(async move { function.handle(event, TEN).await.unwrap() });
    begins.recv().await.unwrap();
    while !answer.is_finished() {
        advance(Duration::from_millis(250)).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    let back = stuck.delete(&deliveries, &answer.await.unwrap()).await;
    assert_eq!(back.len(), 3);
    let depth = stuck.queue.depth().await.unwrap();
    // The record that was released has a random delay.
    assert_eq!(
        (depth.ready + depth.delayed, depth.in_flight, depth.dead),
        (3, 0, 0)
    );

    // The thread is still stuck.
    advance(LONG).await;
    let deliveries = stuck.receive(NOW).await;
    let mut counts: Vec<u32> = deliveries.iter().map(|one| one.receive_count).collect();
    counts.sort_unstable();
    assert_eq!(counts, [2, 2, 2]);
    assert!(stuck.invoke(&deliveries).await.is_empty());
    go_on.send(()).unwrap();
    let sums = Mapping::new(&store, sum.lambda("sum").unwrap()).await;
    work_off(&[&stuck, &sums]).await;
    assert_eq!(soon(run.result()).await.unwrap(), 6);
}

/// The backend does not answer: an invocation ends nevertheless, and nothing is lost.
#[tokio::test(start_paused = true)]
async fn an_outage_ends_with_the_invocation() {
    let store = Store::new();
    let hook = On(|call: &Call<'_>| match call {
        Call::Arrive(_) | Call::RecordFailure(_) => Act::Fail(outage()),
        _ => Act::Go,
    });
    let build = |backend| {
        let sum = Pipeline::new().map(|n: u64| n).with(Stage::named("same"));
        let sum = sum.reduce(|| 0, |a, b| a + b).with(Stage::named("sum"));
        sum.deploy("outage", backend).unwrap()
    };
    let during = build(store.hooked(Arc::new(hook)));
    let after = build(store.backend());
    let run = after.submit([1, 2, 3]).await.unwrap();
    let same = Mapping::new(&store, during.lambda("same").unwrap()).await;
    let deliveries = same.receive(NOW).await;
    let begin = Instant::now();
    let back = same.invoke_for(&deliveries, TEN).await;
    assert!(begin.elapsed() <= TEN, "{:?}", begin.elapsed());
    assert_eq!(back.len(), 3, "{back:?}");
    let same = Mapping::new(&store, after.lambda("same").unwrap()).await;
    let sums = Mapping::new(&store, after.lambda("sum").unwrap()).await;
    advance(LONG).await;
    work_off(&[&same, &sums]).await;
    assert_eq!(soon(run.result()).await.unwrap(), 6);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_pace_is_handed_back() {
    let store = Store::new();
    let stage = Stage::named("paced").packet_size(1).rate_limit(1, LONG);
    let sum = Pipeline::new().map(|n: u64| n).with(stage);
    let sum = sum.reduce(|| 0, |a, b| a + b);
    let sum = sum.deploy("paced", store.backend()).unwrap();
    let run = sum.submit([1, 2, 3]).await.unwrap();
    let paced = Mapping::new(&store, sum.lambda("paced").unwrap()).await;
    let deliveries = paced.receive(NOW).await;
    assert_eq!(paced.invoke_for(&deliveries, TEN).await.len(), 2);
    let depth = paced.queue.depth().await.unwrap();
    let expected = Depth::new().ready(2);
    assert_eq!(depth, expected);
    assert_eq!(run.status().await.unwrap().packets_done, 1);
}
