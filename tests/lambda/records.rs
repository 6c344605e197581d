//! The outcome of each of an event's records.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use catchment::backends::memory::MemoryQueues;
use catchment::queue::Depth;
use catchment::{Backoff, BoxError, Error, Pipeline, Stage, permanent};

use super::*;

/// Waits of up to half a day. No invocation lasts that long.
const HALF_A_DAY: Duration = Duration::from_secs(12 * 60 * 60);
/// The time of an invocation that waits for nothing.
const SECOND: Duration = Duration::from_secs(1);

fn waits_long(stage: Stage) -> Stage {
    stage.backoff(Backoff::exponential(HALF_A_DAY, HALF_A_DAY))
}

#[tokio::test(start_paused = true)]
async fn good_malformed_poison_oversized_and_busy_records_in_one_event() {
    let store = Store::with_queues(MemoryQueues::new().max_body(1_000));
    let letters = Pipeline::new()
        .try_map(|n: u64| match n {
            13 => Err(BoxError::from(permanent("unlucky"))),
            7 => Err("busy".into()),
            n => Ok("x".repeat(n as usize)),
        })
        .with(waits_long(Stage::named("spell").packet_size(1)))
        .map(|word: String| word.len() as u64)
        .with(Stage::named("measure"))
        .reduce(|| 0, |a, b| a + b);
    let letters = letters.deploy("letters", store.backend()).unwrap();
    let run = letters.submit([1, 13, 5_000, 7]).await.unwrap();
    let spell = Mapping::new(&store, letters.lambda("spell").unwrap()).await;
    spell.queue.send(vec!["not json".into()]).await.unwrap();

    let deliveries = spell.receive(NOW).await;
    assert_eq!(deliveries.len(), 5);
    let back = spell.invoke_for(&deliveries, SECOND).await;

    assert_eq!(back.len(), 1, "{back:?}");
    assert!(has_item(&back[0], 7), "{back:?}");
    let depth = Depth::new().delayed(1).dead(3);
    assert_eq!(
        spell.queue.depth().await.unwrap(),
        depth,
        "its backoff is kept"
    );
    assert_eq!(
        store
            .queue("letters--measure")
            .await
            .depth()
            .await
            .unwrap()
            .ready,
        1
    );
    let letters = letters.dead_letters().await.unwrap();
    let mut errors: Vec<String> = letters.into_iter().map(|letter| letter.error).collect();
    errors.sort();
    assert!(errors[0].contains("bytes, the limit is 1000"), "{errors:?}");
    assert!(
        errors[1].contains("the message cannot be read"),
        "{errors:?}"
    );
    assert_eq!(errors[2], "unlucky");
    assert!(matches!(run.result().await, Err(Error::Failed { .. })));
}

#[tokio::test(start_paused = true)]
async fn attempts_are_used_up_over_several_invocations() {
    let store = Store::new();
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let stage = waits_long(Stage::named("half").packet_size(1).attempts(3));
    let halves = Pipeline::new()
        .try_map(move |n: u64| {
            let call = if n == 2 {
                count.fetch_add(1, SeqCst)
            } else {
                0
            };
            if n == 2 {
                Err(format!("no {call}"))
            } else {
                Ok(n)
            }
        })
        .with(stage)
        .reduce(|| 0, |a, b| a + b);
    let halves = halves.deploy("halves", store.backend()).unwrap();
    let run = halves.submit([1, 2]).await.unwrap();
    let half = Mapping::new(&store, halves.lambda("half").unwrap()).await;

    for attempt in 1..=3 {
        let deliveries = half.receive(2 * HALF_A_DAY).await;
        assert_eq!(deliveries.len(), if attempt == 1 { 2 } else { 1 });
        let back = half.invoke_for(&deliveries, SECOND).await;
        assert_eq!(back.len(), usize::from(attempt < 3), "attempt {attempt}");
    }
    assert!(half.receive(LONG).await.is_empty());
    assert_eq!(calls.load(SeqCst), 3);
    let letters = run.dead_letters().await.unwrap();
    let attempts = letters[0].attempts.iter();
    let attempts: Vec<_> = attempts.map(|one| (one.number, &*one.error)).collect();
    assert_eq!(attempts, [(1, "no 0"), (2, "no 1"), (3, "no 2")]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_fails_its_record_on_threads_and_in_tasks() {
    let store = Store::new();
    let stage = || Stage::named("half").packet_size(1).attempts(1);
    let fragile = |n: u64| if n == 2 { panic!("cannot do {n}") } else { n };
    let on_threads = Pipeline::new().map(fragile).with(stage());
    let in_tasks = Pipeline::new().then(move |n: u64| async move { ok(fragile(n)).await });
    let pipelines = [("threads", on_threads), ("tasks", in_tasks.with(stage()))];
    for (name, pipeline) in pipelines {
        let sum = pipeline.reduce(|| 0, |a, b| a + b);
        let sum = sum.deploy(name, store.backend()).unwrap();
        let run = sum.submit([1, 2, 3]).await.unwrap();
        let half = Mapping::new(&store, sum.lambda("half").unwrap()).await;
        let deliveries = half.receive(NOW).await;
        assert_eq!(deliveries.len(), 3);
        assert!(half.invoke(&deliveries).await.is_empty(), "{name}");
        let letters = run.dead_letters().await.unwrap();
        assert_eq!(letters.len(), 1, "{name}: {letters:?}");
        assert!(
            letters[0].error.contains("cannot do 2"),
            "{name}: {letters:?}"
        );
        let status = run.status().await.unwrap();
        assert_eq!(status.packets_done, 2, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_buried_is_reported() {
    let store = Store::new();
    let broken = || Error::refused("test", "burying", "forbidden");
    let hook = On(move |call: &Call<'_>| match call {
        Call::Bury(..) => Act::Fail(broken()),
        _ => Act::Go,
    });
    let sum = Pipeline::new().map(|n: u64| n).with(Stage::named("same"));
    let sum = sum.reduce(|| 0, |a, b| a + b);
    let sum = sum.deploy("graves", store.hooked(Arc::new(hook))).unwrap();
    let same = Mapping::new(&store, sum.lambda("same").unwrap()).await;
    same.queue.send(vec!["not json".into()]).await.unwrap();
    let deliveries = same.receive(NOW).await;
    assert_eq!(same.invoke(&deliveries).await, ["not json"]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_comes_twice_counts_once() {
    let store = Store::new();
    let sum = Pipeline::new()
        .map(|n: u64| n * 2)
        .with(Stage::named("double"));
    let sum = sum.reduce(|| 0, |a, b| a + b).with(Stage::named("sum"));
    let sum = sum.deploy("twice", store.backend()).unwrap();
    let run = sum.submit([1, 2, 3]).await.unwrap();
    let double = Mapping::new(&store, sum.lambda("double").unwrap()).await;
    let deliveries = double.receive(NOW).await;
    let mut event = double.event(&deliveries);
    event.records.extend(event.records.clone());
    let response = double.function.handle(event.clone(), MINUTE).await.unwrap();
    assert!(reported(&response).is_empty());
    // The answer was lost: all of it again.
    let response = double.function.handle(event, MINUTE).await.unwrap();
    assert!(double.delete(&deliveries, &response).await.is_empty());
    let sums = Mapping::new(&store, sum.lambda("sum").unwrap()).await;
    work_off(&[&double, &sums]).await;
    assert_eq!(soon(run.result()).await.unwrap(), 12);
}

/// Throttled invocations raise a record's receive count before the function ever sees it.
#[tokio::test(start_paused = true)]
async fn a_record_that_was_throttled_keeps_its_attempts() {
    let store = Store::new();
    let once = Stage::named("once").attempts(1).packet_size(1);
    let sum = Pipeline::new().map(|n: u64| n).with(once);
    let sum = sum.reduce(|| 0, |a, b| a + b).with(Stage::named("sum"));
    let sum = sum.deploy("throttled", store.backend()).unwrap();
    let run = sum.submit([1, 2, 3]).await.unwrap();
    let once = Mapping::new(&store, sum.lambda("once").unwrap()).await;
    let mut deliveries = once.receive(NOW).await;
    for delivery in &mut deliveries {
        delivery.receive_count = 6;
    }
    assert!(once.invoke(&deliveries).await.is_empty());
    let sums = Mapping::new(&store, sum.lambda("sum").unwrap()).await;
    work_off(&[&sums]).await;
    assert_eq!(soon(run.result()).await.unwrap(), 6);
}
