//! The edges: nothing, one, exactly full, unknown length, too large; and the wire format as it is documented.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use catchment::backends::memory::MemoryQueues;
use catchment::testing::hostile;
use catchment::{
    Backend, BoxError, Combine, Context, Emitter, Error, Execution, Items, Map, OnFailure,
    Pipeline, RunState, Stage, permanent,
};
use common::*;
use futures::stream;
use serde_json::{Value, json};

/// Nothing, one, and every power of the fan-in with its neighbours.
fn lengths(fan_in: u64) -> Vec<u64> {
    let mut lengths = vec![0, 1];
    for power in 1..=4 {
        let exactly = fan_in.pow(power);
        lengths.extend([exactly - 1, exactly, exactly + 1]);
    }
    lengths.retain(|length| *length < 300);
    lengths.sort_unstable();
    lengths.dedup();
    lengths
}

#[tokio::test(start_paused = true)]
async fn empty_one_and_exactly_full_give_a_result() {
    for fan_in in [2, 3, 4, 16] {
        let numbers = || Pipeline::new().then(ok::<u64>);
        let by = || Stage::new().fan_in(fan_in);
        let sum = numbers().reduce(|| 0, |a, b| a + b).with(by());
        let text = numbers()
            .then(|n| ok(format!("{n} ")))
            .combine(Concat)
            .with(by());
        let all = numbers().collect().with(by());
        let count = numbers().count().with(by());
        for length in lengths(u64::from(fan_in)) {
            assert_eq!(
                soon(sum.run(0..length)).await.unwrap(),
                (0..length).sum::<u64>()
            );
            assert_eq!(soon(text.run(0..length)).await.unwrap(), counting(length));
            assert_eq!(
                soon(all.run(0..length)).await.unwrap(),
                Vec::from_iter(0..length)
            );
            assert_eq!(soon(count.run(0..length)).await.unwrap(), length);
            assert_eq!(soon(numbers().run(0..length)).await.unwrap(), length);
            let stream = soon(text.run_stream(stream::iter(0..length))).await;
            assert_eq!(stream.unwrap(), counting(length));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_largest_groups_are_full_or_not() {
    let pipeline = Pipeline::new()
        .then(|n: u64| ok(format!("{n} ")))
        .with(Stage::new().packet_size(1))
        .combine(Concat)
        .with(Stage::new().fan_in(1_000));
    for length in [999, 1_000, 1_001] {
        assert_eq!(
            soon(pipeline.run(0..length)).await.unwrap(),
            counting(length)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn all_filtered_out_gives_the_identity() {
    for length in lengths(2) {
        let nothing = || Pipeline::new().filter(|_: &u64| false);
        let sum = nothing()
            .reduce(|| 0, |a, b| a + b)
            .with(Stage::new().fan_in(2));
        assert_eq!(soon(sum.run(0..length)).await.unwrap(), 0);
        let product = nothing().reduce(|| 1, |a, b| a * b);
        assert_eq!(soon(product.run(0..length)).await.unwrap(), 1);
        let list = nothing().map(|n| n.to_string()).collect();
        assert_eq!(
            soon(list.run(0..length)).await.unwrap(),
            Vec::<String>::new()
        );
        assert_eq!(soon(nothing().count().run(0..length)).await.unwrap(), 0);
        let longest = nothing().fold(|| None, |a, n| a.max(Some(n)), Option::max);
        assert_eq!(soon(longest.run(0..length)).await.unwrap(), None);
        let all_but_one = Pipeline::new()
            .filter(|n: &u64| *n == 3)
            .reduce(|| 0, |a, b| a + b)
            .with(Stage::new().fan_in(2));
        let expected = if length > 3 { 3 } else { 0 };
        assert_eq!(soon(all_but_one.run(0..length)).await.unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_reduction_the_answer_is_how_many_items_went_through() {
    for length in [0, 1, 32, 33, 100, 1_500] {
        let run = async |pipeline: Pipeline<u64>| soon(pipeline.run(0..length)).await.unwrap();
        assert_eq!(run(Pipeline::new()).await, length);
        assert_eq!(run(Pipeline::new().map(|n: u64| n)).await, length);
        assert_eq!(run(Pipeline::new().then(ok::<u64>)).await, length);
        // What an item yields does not matter: it went through.
        assert_eq!(
            run(Pipeline::new().filter(|n: &u64| n.is_multiple_of(2))).await,
            length
        );
        assert_eq!(run(Pipeline::new().filter(|_: &u64| false)).await, length);
        assert_eq!(run(Pipeline::new().flat_map(|n: u64| [n; 3])).await, length);
        let mixed = Pipeline::new()
            .flat_map(|n: u64| vec![n; (n % 4) as usize])
            .filter(|n| n % 3 == 0)
            .filter_map(|n| (n > 5).then_some(n))
            .flat_map(|n| [n, n]);
        assert_eq!(run(mixed).await, length);
    }
}

#[tokio::test(start_paused = true)]
async fn items_that_were_skipped_did_not_go_through() {
    let pipeline = Pipeline::new()
        .try_map(|n: u64| match n % 10 {
            7 => Err(permanent("a seven")),
            _ => Ok(n),
        })
        .with(Stage::new().on_failure(OnFailure::Skip));
    assert_eq!(soon(pipeline.run(0..100)).await.unwrap(), 90);
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_may_begin_with_its_reduction() {
    let sum = Pipeline::new().reduce(|| 0i64, |a, b| a + b);
    assert_eq!(soon(sum.run(1..=5)).await.unwrap(), 15);
    let words = Pipeline::new().combine(Concat);
    let items = ["a", "b", "c"].map(str::to_owned);
    assert_eq!(soon(words.run(items)).await.unwrap(), "abc");
    let deployment = sum.deploy("sum", Backend::memory()).unwrap();
    assert_eq!(
        deployment.stages().collect::<Vec<_>>(),
        ["map-0", "reduce-1"]
    );
}

#[tokio::test(start_paused = true)]
async fn several_maps_are_several_stages_with_a_queue_each() {
    let store = Store::new();
    let record = Arc::new(Record::default());
    let deployment = Pipeline::new()
        .map(|n: u64| n + 1)
        .filter(|n| n % 2 == 0)
        .with(Stage::named("even"))
        .then(ok)
        .flat_map(|n| [n, n])
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::new().fan_in(4))
        .map(|sum| sum * 10)
        .deploy("many", store.hooked(record.clone()))
        .unwrap();
    let stages = ["map-0", "even", "map-2", "map-3", "reduce-4", "map-5"];
    assert_eq!(deployment.stages().collect::<Vec<_>>(), stages);
    let worker = deployment.worker().start();
    let run = deployment.submit(0..10).await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), 600);
    // Ten packets pass each queue before the reduction, filtered out or not; three full or told groups and the
    // root pass its own; the finishing stage gets the one value.
    for (stage, expected) in stages.iter().zip([10, 10, 10, 10, 4, 1]) {
        let queue = format!("many-{stage}");
        let sent = record.sent();
        let sent: Vec<_> = sent.iter().filter(|(name, _)| *name == queue).collect();
        assert_eq!(sent.len(), expected, "{queue}");
        for (_, body) in sent {
            let message: Value = serde_json::from_slice(body).unwrap();
            assert_eq!(message["stage"], *stage);
        }
    }
    assert_eq!(record.queues().len(), stages.len());
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a_map_behind_the_reduction_finishes_the_one_value() {
    let mean = Pipeline::new()
        .map(|n: f64| n)
        .fold(
            || (0.0, 0u64),
            |(sum, count), n| (sum + n, count + 1),
            |(a, n), (b, m)| (a + b, n + m),
        )
        .map(|(sum, count)| {
            if count == 0 {
                None
            } else {
                Some(sum / count as f64)
            }
        })
        .then(|mean| ok(format!("{mean:?}")));
    assert_eq!(soon(mean.run([1.0, 2.0, 6.0])).await.unwrap(), "Some(3.0)");
    assert_eq!(soon(mean.run([])).await.unwrap(), "None");
}

#[tokio::test(start_paused = true)]
async fn what_a_flat_map_makes_of_the_one_value_is_reduced_again() {
    let counted = Pipeline::new()
        .map(|word: String| word)
        .collect()
        .with(Stage::new().fan_in(2))
        .flat_map(|words| words)
        .map(|word| word.len() as u64)
        .filter(|length| *length > 1)
        .reduce(|| 0, |a, b| a + b)
        .map(|sum| -(sum as i64));
    for length in 0..20u64 {
        let words = (0..length).map(|n| "x".repeat(n as usize));
        let expected: u64 = (2..length.max(2)).sum();
        assert_eq!(soon(counted.run(words)).await.unwrap(), -(expected as i64));
    }
    // And once more.
    let thrice = Pipeline::new()
        .reduce(|| 0u64, |a, b| a + b)
        .flat_map(|sum| 0..sum)
        .reduce(|| 0, |a, b| a + b)
        .flat_map(|sum| vec![1u64; sum as usize])
        .count();
    assert_eq!(soon(thrice.run(0..4)).await.unwrap(), 15);
    // Without the second reduction, the answer is how many items went in.
    let open = Pipeline::new()
        .reduce(|| 0u64, |a, b| a + b)
        .flat_map(|sum| 0..sum);
    assert_eq!(soon(open.run(0..4)).await.unwrap(), 4);
}

#[tokio::test(start_paused = true)]
async fn input_of_unknown_length_is_measured_at_its_end() {
    let pipeline = Pipeline::new().then(ok::<u64>).reduce(|| 0, |a, b| a + b);
    for length in [0, 1, 31, 32, 1_000, 1_001, 5_000] {
        let unknown = (0..length * 2).filter(|n| n % 2 == 0);
        assert_eq!(unknown.size_hint().0, 0);
        let expected: u64 = unknown.clone().sum();
        assert_eq!(soon(pipeline.run(unknown.clone())).await.unwrap(), expected);
        let slow = stream::unfold(unknown, async |mut items| {
            tokio::time::sleep(std::time::Duration::from_millis(7)).await;
            Some((items.next()?, items))
        });
        assert_eq!(soon(pipeline.run_stream(slow)).await.unwrap(), expected);
    }
}

/// An iterator whose length is not what it says.
struct Lying {
    says: usize,
    left: u64,
}

impl Iterator for Lying {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        Some(self.left)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.says, Some(self.says))
    }
}

#[tokio::test(start_paused = true)]
async fn an_iterator_whose_length_is_a_lie_is_an_error_and_never_a_hang() {
    let pipeline = Pipeline::new().then(ok::<u64>).reduce(|| 0, |a, b| a + b);
    for (says, left) in [
        (0, 1),
        (1, 0),
        (1, 2),
        (5, 4),
        (5, 6),
        (9, 11),
        (10, 9),
        (10, 11),
        (20, 40),
        (100, 32),
        (2_000, 1_999),
        (2_000, 2_001),
    ] {
        let items = || Lying { says, left };
        let what = format!("says {says}, has {left}");

        let error = soon(pipeline.run(items())).await.unwrap_err();
        assert!(matches!(error, Error::Submission { .. }), "{what}: {error}");
        let came = if left > says as u64 {
            "more".to_owned()
        } else {
            left.to_string()
        };
        let text = error.to_string();
        assert!(
            text.contains(&format!("{says} items")) && text.contains(&came),
            "{what}: {text}"
        );

        // Under an id of the caller's, whoever waits for the run hears of it.
        let deployment = pipeline.deploy("lie", Backend::memory()).unwrap();
        let worker = deployment.worker().start();
        let error = soon(deployment.submit_as("run", items()))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Submission { .. }), "{what}: {error}");
        let run = deployment.attach("run");
        let error = soon(run.result()).await.unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{what}: {error}");
        assert!(
            error.to_string().contains(&format!("{says} items")),
            "{what}: {error}"
        );
        assert_eq!(
            run.status().await.unwrap().state,
            RunState::Failed,
            "{what}"
        );

        // Without one nobody could complete it.
        let error = soon(deployment.submit(items())).await.unwrap_err();
        assert!(matches!(error, Error::Submission { .. }), "{what}: {error}");
        drop(worker);
    }
}

/// A size that is a range is no promise.
#[tokio::test(start_paused = true)]
async fn an_iterator_that_knows_its_length_about_is_no_liar() {
    let pipeline = Pipeline::new().then(ok::<u64>).count();
    let items = (0..100).filter(|_| true).chain(0..50);
    assert_eq!(items.size_hint(), (50, Some(150)));
    assert_eq!(soon(pipeline.run(items)).await.unwrap(), 150);
}

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
            .filter(|(queue, _)| queue == "cut-map-0")
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
            what,
            size,
            limit,
            advice,
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(what, "packet 13 (item 13)");
        assert!((5_000..5_500).contains(size), "{size}");
        assert_eq!(*limit, 2_000);
        assert!(advice.contains("references"), "{advice}");
        assert!(!error.is_retryable());
        // Who waits elsewhere hears of it.
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

/// The messages that a pipeline sends to one of its queues, as JSON.
async fn messages(record: &Record, queue: &str) -> Vec<Value> {
    let sent = record.sent();
    let mine = sent.iter().filter(|(name, _)| name == queue);
    let parse = |body: &Bytes| serde_json::from_slice(body).unwrap();
    mine.map(|(_, body)| parse(body)).collect()
}

#[tokio::test(start_paused = true)]
async fn what_travels_is_what_the_documentation_says() {
    let pipeline = Pipeline::new()
        .flat_map(|n: u64| vec![n * 10; n as usize])
        .with(Stage::named("grow").packet_size(2))
        .then(ok)
        .with(Stage::named("pass"))
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("sum").fan_in(2))
        .map(|sum| sum)
        .with(Stage::named("finish"));
    let store = Store::new();
    let record = Arc::new(Record::default());
    let deployment = pipeline
        .deploy("wire", store.hooked(record.clone()))
        .unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit_as("fives", 0..5).await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), 300);

    let grow = messages(&record, "wire-grow").await;
    let packet = |index: u64, contains: u64, value: Value| {
        json!({
            "version": 1,
            "kind": "map",
            "stage": "grow",
            "arrayId": "fives",
            "fanIn": 2,
            "packetId": format!("0/{index}"),
            "packetOffset": index * 2,
            "arrayLength": 5,
            "packetContains": contains,
            "packetValue": value,
        })
    };
    let expected = [
        packet(0, 2, json!([0, 1])),
        packet(1, 2, json!([2, 3])),
        packet(2, 1, json!([4])),
    ];
    assert_eq!(grow, expected);

    // How many values each source item has become travels along.
    let mut pass = messages(&record, "wire-pass").await;
    pass.sort_by_key(|message| message["packetOffset"].as_u64());
    assert_eq!(pass[0]["packetValue"], json!([10]));
    assert_eq!(pass[0]["packetYields"], json!([0, 1]));
    assert_eq!(pass[1]["packetValue"], json!([20, 20, 30, 30, 30]));
    assert_eq!(pass[1]["packetYields"], json!([2, 3]));
    assert_eq!(pass[1]["packetContains"], 2);
    assert_eq!(pass[1]["stage"], "pass");

    // Three leaves in pairs: a full group, one that was told its size, and two levels above them.
    let reduce = |level: u64, group: u64| {
        json!({
            "version": 1,
            "kind": "reduce",
            "stage": "sum",
            "arrayId": "fives",
            "fanIn": 2,
            "level": level,
            "group": group,
        })
    };
    let mut groups = messages(&record, "wire-sum").await;
    groups.sort_by_key(|message| (message["level"].as_u64(), message["group"].as_u64()));
    assert_eq!(
        groups,
        [reduce(1, 0), reduce(1, 1), reduce(2, 0), reduce(3, 0)]
    );

    let finish = messages(&record, "wire-finish").await;
    assert_eq!(finish.len(), 1);
    assert_eq!(finish[0]["packetValue"], json!([300]));
    assert_eq!(finish[0]["packetContains"], 5);
    assert_eq!(finish[0]["arrayLength"], 5);

    // A stream's length is absent while it is open.
    let run = deployment
        .submit_stream_as("open", stream::iter(0..5))
        .await
        .unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), 300);
    let grow = messages(&record, "wire-grow").await;
    let open: Vec<_> = grow
        .iter()
        .filter(|message| message["arrayId"] == "open")
        .collect();
    assert_eq!(open.len(), 3);
    assert!(
        open.iter()
            .all(|message| message.get("arrayLength").is_none())
    );
    drop(worker);
}

/// What rests in the scratchpad is JSON as well.
#[tokio::test(start_paused = true)]
async fn a_partial_result_is_stored_as_a_packet() {
    let store = Store::new();
    let arrived = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&arrived);
    let hook = On(move |call: &Call<'_>| {
        if let Call::Arrive(arrivals) = call {
            seen.lock()
                .unwrap()
                .extend(arrivals.iter().map(|arrival| arrival.value.clone()));
        }
        Act::Go
    });
    let deployment = Pipeline::new()
        .then(ok::<u64>)
        .with(Stage::new().packet_size(10))
        .reduce(|| 0, |a, b| a + b)
        .deploy("wire", store.hooked(Arc::new(hook)))
        .unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit_as("ten", 1..=10).await.unwrap();
    assert_eq!(soon(run.result()).await.unwrap(), 55);
    let arrived = arrived.lock().unwrap().clone();
    let [stored] = arrived.as_slice() else {
        panic!("{arrived:?}");
    };
    let expected = json!({
        "arrayId": "ten",
        "packetId": "0/0",
        "arrayLength": 10,
        "packetContains": 10,
        "packetValue": 55,
    });
    assert_eq!(serde_json::from_slice::<Value>(stored).unwrap(), expected);
    hostile::packet(stored).expect("it can be read back");
    // The value comes last, as it is.
    assert!(stored.ends_with(br#","packetValue":55}"#), "{stored:?}");
    drop(worker);
}

/// Whoever serves a stage in another language sends what the documentation says, in any order of fields.
#[tokio::test(start_paused = true)]
async fn a_message_written_by_hand_is_as_good() {
    let store = Store::new();
    let deployment = Pipeline::new()
        .then(|n: u64| ok(n * 2))
        .with(Stage::named("double"))
        .reduce(|| 0, |a, b| a + b)
        .deploy("hand", store.backend())
        .unwrap();
    // The submitter's own packets are thrown away, and sent by hand.
    let run = deployment.submit_as("run", [1, 2, 3]).await.unwrap();
    let queue = store.queue("hand-double").await;
    let own = queue.receive(10, std::time::Duration::ZERO).await.unwrap();
    assert_eq!(own.len(), 3);
    queue
        .acknowledge(own.into_iter().map(|own| own.receipt).collect())
        .await
        .unwrap();
    for n in 1..=3 {
        let body = json!({
            "somethingNew": [1, 2],
            "packetValue": [n],
            "packetContains": 1,
            "packetId": format!("0/{}", n - 1),
            "packetOffset": n - 1,
            "fanIn": 32,
            "arrayId": "run",
            "stage": "double",
            "kind": "map",
            "version": 1,
        });
        queue.send(vec![body.to_string().into()]).await.unwrap();
    }
    let worker = deployment.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 12);
    drop(worker);
}

/// An asynchronous stage that asks for a thread: its future may wait all the same.
struct Patient;

impl Map for Patient {
    type Input = u64;
    type Output = u64;

    async fn map(
        &self,
        n: u64,
        _: &Context,
        output: &mut Emitter<'_, u64>,
    ) -> Result<(), BoxError> {
        tokio::task::yield_now().await;
        output.push(n);
        tokio::task::yield_now().await;
        output.extend([n * 10]);
        Ok(())
    }

    fn execution(&self) -> Execution {
        Execution::Blocking
    }
}

impl Combine for Patient {
    type Input = u64;
    type Output = u64;

    fn identity(&self) -> u64 {
        0
    }

    async fn fold(&self, items: Items<'_, u64>, _: &Context) -> Result<u64, BoxError> {
        tokio::task::yield_now().await;
        Ok(items.sum())
    }

    async fn combine(&self, group: Vec<u64>, _: &Context) -> Result<u64, BoxError> {
        tokio::task::yield_now().await;
        Ok(group.into_iter().sum())
    }

    fn execution(&self) -> Execution {
        Execution::Blocking
    }
}

#[tokio::test(start_paused = true)]
async fn a_stage_on_a_thread_may_wait() {
    let pipeline = Pipeline::new()
        .stage(Patient)
        .with(Stage::new().packet_size(3))
        .combine(Patient)
        .with(Stage::new().fan_in(2));
    assert_eq!(soon(pipeline.run(0..10)).await.unwrap(), 45 * 11);
}

/// Functions know which item of which run they work on, for the how-manieth time.
#[tokio::test(start_paused = true)]
async fn a_context_names_the_item() {
    type Seen = (String, Option<u64>, u32);
    fn seen(context: &Context) -> Seen {
        let place = format!("{} of {}", context.stage(), context.array_id());
        (place, context.item(), context.attempt())
    }
    let deployment = Pipeline::new()
        .then_with(|n: u64, context| ok((n, seen(&context))))
        .with(Stage::named("first").packet_size(3))
        // Item n becomes n values.
        .flat_map(|(n, first): (u64, Seen)| vec![first; n as usize])
        .try_map_with(|first, context: &Context| Ok::<_, String>((first, seen(context))))
        .with(Stage::named("last"))
        .collect()
        .try_map_with(|pairs, context: &Context| Ok::<_, String>((pairs, seen(context))))
        .with(Stage::named("finish"))
        .deploy("where", Backend::memory())
        .unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit_as("run", 0..5).await.unwrap();
    let (pairs, finish) = soon(run.result()).await.unwrap();
    let expected = (0..5).flat_map(|n| {
        let pair = (
            ("first of run".to_owned(), Some(n), 1),
            ("last of run".to_owned(), Some(n), 1),
        );
        vec![pair; n as usize]
    });
    assert_eq!(pairs, expected.collect::<Vec<_>>());
    assert_eq!(finish, ("finish of run".to_owned(), None, 1));
    drop(worker);
}
