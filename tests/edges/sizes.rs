//! Messages that are too large for their queue.

use std::collections::BTreeSet;
use std::sync::Arc;

use catchment::backends::memory::MemoryQueues;
use catchment::pipeline::One;
use catchment::{Backend, Codec, Error, OnFailure, Pipeline, Stage};
use futures::stream;

use crate::common::*;

/// A store whose queues take bodies up to this size, and everything that was sent to them.
fn small_queues(limit: usize) -> (Store, Arc<Record>, Backend) {
    let store = Store::with_queues(MemoryQueues::new().max_body(limit));
    let record = Arc::new(Record::default());
    let backend = store.hooked(record.clone());
    (store, record, backend)
}

#[tokio::test(start_paused = true)]
async fn packets_are_cut_by_their_bytes() {
    const LIMIT: usize = 2_000;
    let pipeline = Pipeline::new()
        .then(|text: String| ok(text.len() as u64))
        .with(Stage::new().packet_size(50))
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::new().fan_in(3));
    let items: Vec<String> = (0..200).map(|n| "x".repeat(100 + n)).collect();
    let expected: u64 = items.iter().map(|item| item.len() as u64).sum();
    for as_stream in [false, true] {
        let (_, record, backend) = small_queues(LIMIT);
        let deployment = pipeline.deploy("cut", backend).unwrap();
        let worker = deployment.worker().start();
        let run = match as_stream {
            false => deployment.submit(items.clone()).await.unwrap(),
            true => deployment
                .submit_stream(stream::iter(items.clone()))
                .await
                .unwrap(),
        };
        assert_eq!(soon(run.result()).await.unwrap(), expected);
        let sent = record.sent();
        assert!(sent.iter().all(|(_, body)| body.len() <= LIMIT));
        let packets = sent
            .iter()
            .filter(|(queue, _)| queue == "cut--map-0")
            .count();
        assert!(
            (21..=60).contains(&packets),
            "{packets} packets, and 4 without a limit"
        );
        let status = run.status().await.unwrap();
        assert_eq!((status.items, status.items_done), (Some(200), 200));
        assert_eq!(
            (status.packets, status.packets_done),
            (Some(packets as u64), packets as u64)
        );
        drop(worker);
    }
}

/// That the first packet is small says nothing about the others.
#[tokio::test(start_paused = true)]
async fn packets_are_cut_where_only_later_items_are_large() {
    const LIMIT: usize = 2_000;
    let items: Vec<String> = (0..200)
        .map(|n| "x".repeat(if n < 100 { 1 } else { 900 }))
        .collect();
    let expected: u64 = items.iter().map(|item| item.len() as u64).sum();
    let (_, record, backend) = small_queues(LIMIT);
    let deployment = Pipeline::new()
        .then(|text: String| ok(text.len() as u64))
        .with(Stage::new().packet_size(10))
        .reduce(|| 0, |a, b| a + b)
        .deploy("cut", backend)
        .unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(items).await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), expected);
    assert!(record.sent().iter().all(|(_, body)| body.len() <= LIMIT));
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn an_item_that_is_too_large_is_an_error_that_names_its_packet_its_size_and_the_limit() {
    let pipeline = Pipeline::new().then(ok::<String>).count();
    for as_stream in [false, true] {
        let (_, _, backend) = small_queues(2_000);
        let deployment = pipeline.deploy("large", backend).unwrap();
        let worker = deployment.worker().start();
        let items: Vec<String> = (0..20)
            .map(|n| "x".repeat(if n == 13 { 5_000 } else { 3 }))
            .collect();
        let error = match as_stream {
            false => soon(deployment.submit_as("run", items)).await.unwrap_err(),
            true => soon(deployment.submit_stream_as("run", stream::iter(items)))
                .await
                .unwrap_err(),
        };
        let Error::TooLarge {
            what, size, limit, ..
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(what, "packet 13 (item 13)");
        assert!((5_000..5_500).contains(size), "{size}");
        assert_eq!(*limit, 2_000);
        assert!(error.to_string().contains("references"), "{error}");
        assert!(!error.is_retryable());
        // A waiter in another process gets the error.
        let failed = soon(deployment.attach("run").result()).await.unwrap_err();
        assert!(
            failed.to_string().contains("packet 13 (item 13)"),
            "{failed}"
        );
        drop(worker);
    }
}

#[tokio::test(start_paused = true)]
async fn an_output_that_is_too_large_is_a_dead_letter_that_says_so() {
    let (store, _, backend) = small_queues(2_000);
    let deployment = Pipeline::new()
        .then(|n: u64| ok("x".repeat(if n == 3 { 5_000 } else { 3 })))
        .with(Stage::new())
        .then(ok)
        .count()
        .deploy("large", backend)
        .unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(0..10).await.unwrap();
    let error = soon(run.result()).await.unwrap_err();
    let Error::Failed { failure, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(
        (failure.stage.as_str(), failure.message.as_str()),
        ("map-0", "packet 3")
    );
    assert!(failure.error.contains("limit is 2000"), "{}", failure.error);
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!(store.depth(&deployment).await.dead, 1);
    drop(worker);
}

/// Identity stages after the first, with names that are longer and shorter.
fn through(stages: usize, policy: OnFailure) -> Pipeline<String, u64, One> {
    let pass = |text: String| match text.contains('!') {
        true => Err("bad"),
        false => Ok(text),
    };
    let stage = |name| Stage::named(name).attempts(1).on_failure(policy);
    let first = Pipeline::new()
        .try_map(pass)
        .with(stage("a").packet_size(40));
    let long = "a-much-longer-name-than-that-of-the-first-stage";
    match stages {
        1 => first.count(),
        2 => first.try_map(pass).with(stage(long)).count(),
        _ => first
            .try_map(pass)
            .with(stage(long))
            .filter(|text: &String| !text.contains('?'))
            .with(stage("c"))
            .try_map(pass)
            .with(stage("the-last-one"))
            .count(),
    }
}

/// Whatever the limit, messages that fit their first queue fit the others: names are longer there, and items that were left
/// out are counted.
#[tokio::test(start_paused = true)]
async fn what_fits_the_first_queue_fits_the_others() {
    #[cfg(feature = "postcard")]
    const CODECS: [Codec; 2] = [Codec::Json, Codec::Postcard];
    #[cfg(not(feature = "postcard"))]
    const CODECS: [Codec; 1] = [Codec::Json];
    for (codec, stages) in CODECS
        .into_iter()
        .flat_map(|codec| (1..=4).map(move |n| (codec, n)))
    {
        let items = (0..37).map(|n| match n % 5 {
            // One is left out by each kind of stage; the others are one digit, two bytes in a list.
            3 => "!".to_owned(),
            4 => "?".to_owned(),
            _ => "7".repeat(n % 5),
        });
        let items: Vec<String> = items.collect();
        // A message of one item has up to 500 bytes in JSON, and up to 270 in the compact codec.
        let limits = match codec {
            Codec::Json => 500..2_500,
            _ => 270..1_600,
        };
        let mut largest = 0;
        for limit in limits.step_by(37) {
            let (_, record, backend) = small_queues(limit);
            let deployment = through(stages, OnFailure::Skip)
                .codec(codec)
                .deploy("d", backend)
                .unwrap();
            let worker = deployment.worker().start();
            let run = deployment.submit(items.clone()).await.unwrap();
            let outcome = soon(run.outcome()).await;
            let outcome = outcome
                .unwrap_or_else(|error| panic!("{codec:?}, {stages} stages, {limit}: {error}"));
            assert_eq!(outcome.skipped, 7, "{codec:?}, {stages} stages, {limit}");
            let sizes = record.sent().into_iter().map(|(_, body)| body.len());
            largest = largest.max(sizes.max().unwrap());
            assert!(largest <= limit);
            drop(worker);
        }
        assert!(largest > 100, "{codec:?}, {stages} stages: {largest}");
    }
}

/// A single item of any size around the limit is refused where it is submitted, or goes through all stages.
#[tokio::test(start_paused = true)]
async fn an_item_is_refused_at_once_or_goes_through() {
    for stages in 1..=4 {
        let (mut refused, mut done) = (0, 0);
        for size in (600..1_000).step_by(3) {
            let (_, _, backend) = small_queues(1_000);
            let deployment = through(stages, OnFailure::Fail)
                .deploy("d", backend)
                .unwrap();
            let worker = deployment.worker().start();
            match deployment.submit(["x".repeat(size)]).await {
                Ok(run) => {
                    assert_eq!(soon(run.result()).await.unwrap(), 1, "{stages} {size}");
                    done += 1;
                }
                Err(error) => {
                    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
                    refused += 1;
                }
            }
            drop(worker);
        }
        assert!(
            done > 15 && refused > 30,
            "{stages}: {done} done, {refused} refused"
        );
    }
}

/// The usual packet may grow to several times its size between stages.
#[tokio::test(start_paused = true)]
async fn packets_have_head_room_for_the_stages_that_follow() {
    const LIMIT: usize = 100_000;
    let (_, record, backend) = small_queues(LIMIT);
    let deployment = Pipeline::new()
        .map(|text: String| text.repeat(3))
        .with(Stage::named("triple").packet_size(1_000))
        .map(|text: String| text.len() as u64)
        .with(Stage::named("measure"))
        .reduce(|| 0, |a, b| a + b)
        .deploy("room", backend)
        .unwrap();
    let worker = deployment.worker().start();
    let run = deployment
        .submit(vec!["x".repeat(500); 1_000])
        .await
        .unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), 1_500_000);
    let sent = record.sent();
    assert!(sent.iter().all(|(_, body)| body.len() <= LIMIT));
    let packets = sent.iter().filter(|(queue, _)| queue == "room--triple");
    assert!(
        (20..=32).contains(&packets.count()),
        "half a million bytes in quarters of 100,000, halved"
    );
    drop(worker);
}

/// Outputs that are too large for the next queue are one attempt, one dead letter, and done after a fix.
#[tokio::test(start_paused = true)]
async fn outputs_that_are_too_large_are_redriven_after_a_fix() {
    let pipeline = |times: usize| {
        Pipeline::new()
            .map(move |text: String| text.repeat(times))
            .with(Stage::named("grow").packet_size(10))
            .map(|text: String| text.len() as u64)
            .with(Stage::named("measure"))
            .reduce(|| 0, |a, b| a + b)
    };
    let (store, record, backend) = small_queues(2_000);
    let deployment = pipeline(50).deploy("large", backend.clone()).unwrap();
    let worker = deployment.worker().start();
    let items = (0..30).map(|n| "x".repeat(if n == 13 { 40 } else { 1 }));
    let run = deployment.submit(items).await.unwrap();
    let Error::Failed { failure, .. } = soon(run.result()).await.unwrap_err() else {
        panic!("not a failure");
    };
    assert_eq!(
        (failure.stage.as_str(), failure.message.as_str()),
        ("grow", "packet 1")
    );
    let error = &failure.error;
    assert!(
        error.starts_with("packet 1 on its way to stage `measure` has "),
        "{error}"
    );
    for part in [
        "the limit is 2000",
        "references",
        "packet_size",
        "queues that take larger messages",
    ] {
        assert!(error.contains(part), "{error}");
    }
    tokio::time::sleep(std::time::Duration::from_secs(1_800)).await;
    assert_eq!(run.status().await.unwrap().messages_failed, 1);
    assert_eq!(store.depth(&deployment).await.dead, 1);
    let letters = run.dead_letters().await.unwrap();
    assert_eq!(letters[0].attempts.len(), 1, "{letters:?}");
    // The other two packets went on.
    let sent = record.sent().into_iter();
    let fitting = sent.filter(|(queue, body)| queue == "large--measure" && body.len() <= 2_000);
    let fitting: BTreeSet<_> = fitting.map(|(_, body)| body).collect();
    assert_eq!(fitting.len(), 2);
    worker.shutdown().await;

    let fixed = pipeline(2).deploy("large", backend).unwrap();
    let worker = fixed.worker().start();
    fixed.attach(run.id()).redrive().await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), 20 * 50 + 49 * 2);
    drop(worker);
}
