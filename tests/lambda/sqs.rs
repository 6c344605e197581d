//! Over the emulators: real receipts, real visibility.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::MessageSystemAttributeName::ApproximateReceiveCount;
use catchment::{Backoff, BoxError, Deployment, Error, OnFailure, Pipeline, Stage, permanent};

use super::*;
use crate::aws::{Tables, config, ministack, unique};
use crate::plan::{ALWAYS, Nature, Plan};

/// Plays the mapping with a client of its own. Returns how many records there were.
async fn invoke(sqs: &Client, function: &LambdaFunction) -> usize {
    invoke_for(sqs, function, MINUTE).await
}

async fn invoke_for(sqs: &Client, function: &LambdaFunction, remaining: Duration) -> usize {
    let name = function.queue_name();
    let url = sqs.get_queue_url().queue_name(name).send().await.unwrap();
    let url = url.queue_url().unwrap().to_owned();
    let received = sqs
        .receive_message()
        .queue_url(&url)
        .max_number_of_messages(10);
    let received = received.message_system_attribute_names(ApproximateReceiveCount);
    let received = received.wait_time_seconds(1).send().await.unwrap();
    let mut event = SqsEvent::default();
    for message in received.messages() {
        let mut record = SqsMessage::default();
        record.message_id = message.message_id.clone();
        record.receipt_handle = message.receipt_handle.clone();
        record.body = message.body.clone();
        let attributes = message.attributes.iter().flatten();
        let attributes = attributes.map(|(name, value)| (name.to_string(), value.clone()));
        record.attributes = attributes.collect();
        record.event_source_arn = Some(format!("arn:aws:sqs:us-east-1:000000000000:{name}"));
        event.records.push(record);
    }
    let response = function.handle(event, remaining).await.unwrap();
    let back = reported(&response);
    for message in received.messages() {
        if !back.contains(message.message_id().unwrap()) {
            let receipt = message.receipt_handle().unwrap();
            let delete = sqs.delete_message().queue_url(&url).receipt_handle(receipt);
            // A buried message is gone already, which the emulator holds against the receipt.
            if let Err(error) = delete.send().await {
                let error = error.into_service_error();
                assert!(error.is_receipt_handle_is_invalid(), "{error}");
            }
        }
    }
    received.messages().len()
}

async fn work_off(sqs: &Client, functions: &[LambdaFunction]) {
    let mut idle = 0;
    while idle < 2 {
        let mut records = 0;
        for function in functions {
            records += invoke(sqs, function).await;
        }
        idle = if records == 0 { idle + 1 } else { 0 };
    }
}

#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn functions_over_sqs_and_dynamodb() {
    let sqs = Client::new(&config(&ministack()));
    let double = |n: i64| {
        n.checked_mul(2)
            .ok_or_else(|| BoxError::from(permanent("too large")))
    };
    let adder = Pipeline::new()
        .try_map(double)
        .with(Stage::named("times_two"));
    let adder = adder.reduce(|| 0, |a, b| a + b).with(Stage::named("sum"));
    let adder: Deployment<i64, i64> = adder
        .deploy(&unique("lambda"), Tables::Ministack.backend())
        .unwrap();
    adder.provision().await.unwrap();
    let functions = ["times_two", "sum"].map(|stage| adder.lambda(stage).unwrap());

    let run = adder.submit([1, 2, 3, 4, 5]).await.unwrap();
    let poisoned = adder.submit([1, i64::MAX]).await.unwrap();
    work_off(&sqs, &functions).await;
    assert_eq!(run.result().await.unwrap(), 30);
    assert!(matches!(poisoned.result().await, Err(Error::Failed { .. })));
    let letters = poisoned.dead_letters().await.unwrap();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(
        (letters[0].item, &*letters[0].error),
        (Some(1), "too large")
    );
    adder.deprovision(adder.name()).await.unwrap();
}

/// Items fail, wait longer than the call lasts, and go on from their counts when their packets come back.
#[tokio::test]
#[ignore = "needs the emulators that scripts/test starts"]
async fn items_go_on_from_their_counts_over_sqs_and_dynamodb() {
    const ATTEMPTS: u32 = 3;
    for (is_async, tables) in [(false, Tables::Ministack), (true, Tables::DynamoDbLocal)] {
        let sqs = Client::new(&config(&ministack()));
        let plan = Plan::new((0..30).map(|item| match item {
            3 | 7 | 13 | 18 | 29 => Nature::Fails(ALWAYS),
            5 | 16 => Nature::Permanent,
            4 | 6 | 14 | 22 => Nature::Fails(1),
            _ => Nature::Good,
        }));
        let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (note, planned) = (Arc::clone(&seen), Arc::clone(&plan));
        let items = Pipeline::new();
        let items = match is_async {
            false => items.try_map_with(move |n: u64, context| {
                note.lock().unwrap().push((n, context.attempt()));
                planned.call(n)
            }),
            true => items.then_with(move |n: u64, context| {
                note.lock().unwrap().push((n, context.attempt()));
                let planned = Arc::clone(&planned);
                async move { planned.called(n, || {}).await }
            }),
        };
        let wait = Duration::from_secs(4);
        let stage = Stage::named("work")
            .packet_size(5)
            .attempts(ATTEMPTS)
            .backoff(Backoff::exponential(wait, wait))
            .on_failure(OnFailure::Skip);
        let items = items.with(stage).collect().with(Stage::named("all"));
        let items: Deployment<u64, Vec<u64>> =
            items.deploy(&unique("items"), tables.backend()).unwrap();
        items.provision().await.unwrap();
        let run = items.submit(0..30).await.unwrap();
        let work = items.lambda("work").unwrap();
        let mut calls = 0;
        let is_done = async || run.status().await.unwrap().packets_done == 6;
        while !is_done().await {
            // A call of which half is kept for its answers.
            let remaining = Duration::from_secs(2);
            calls += usize::from(invoke_for(&sqs, &work, remaining).await > 0);
        }
        assert!(calls > 1, "nothing went back");
        work_off(&sqs, &[items.lambda("all").unwrap()]).await;
        let what = format!("asynchronous: {is_async}");
        let outcome = run.outcome().await.unwrap();
        let good: Vec<u64> = plan.good(ATTEMPTS).collect();
        let bad = plan.bad(ATTEMPTS);
        assert_eq!(outcome.value, good, "{what}");
        assert_eq!(outcome.skipped, bad.len() as u64, "{what}");
        let listed = run.failures().await.unwrap();
        let mut listed: Vec<u64> = listed.iter().filter_map(|one| one.item).collect();
        listed.sort_unstable();
        assert_eq!(listed, bad, "{what}");
        let seen = seen.lock().unwrap().clone();
        for item in bad {
            let of_item = seen.iter().filter(|call| call.0 == item);
            let numbers: Vec<u32> = of_item.map(|call| call.1).collect();
            let needed = plan.nature(item).calls(ATTEMPTS);
            let expected: Vec<u32> = (1..=needed).collect();
            assert_eq!(numbers, expected, "{what}: item {item}");
        }
        items.deprovision(items.name()).await.unwrap();
    }
}
