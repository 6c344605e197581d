//! Stages as Lambda functions: exactly the records that must be delivered again are reported, and
//! everything else is as with workers.
#![cfg(feature = "lambda")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../../examples/distributed/api.rs"]
mod api;
#[cfg(feature = "aws")]
#[path = "../aws/common.rs"]
#[allow(dead_code, reason = "the tests over AWS use all of it")]
mod aws;
#[path = "../common/mod.rs"]
mod common;

mod deadline;
mod http;
mod items;
mod misconfigured;
#[path = "../items/plan.rs"]
#[allow(dead_code, reason = "the tests in memory use all of it")]
mod plan;
mod records;
mod runs;
#[cfg(feature = "aws")]
mod sqs;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage, SqsMessageAttribute};
use catchment::LambdaFunction;
use catchment::queue::{Delivery, Queue};

use common::*;

const MINUTE: Duration = Duration::from_secs(60);
const NOW: Duration = Duration::ZERO;
/// Longer than any backoff.
const LONG: Duration = Duration::from_secs(15 * 60);

/// Plays the event source mapping of one function's queue, with `ReportBatchItemFailures`.
struct Mapping {
    function: LambdaFunction,
    queue: Arc<dyn Queue>,
}

impl Mapping {
    async fn new(store: &Store, function: LambdaFunction) -> Self {
        Self {
            queue: store.queue(function.queue_name()).await,
            function,
        }
    }

    /// The messages that are there, waiting up to `wait` for the first.
    async fn receive(&self, wait: Duration) -> Vec<Delivery> {
        self.queue.receive(10, wait).await.unwrap()
    }

    fn event(&self, deliveries: &[Delivery]) -> SqsEvent {
        let mut event = SqsEvent::default();
        for delivery in deliveries {
            event
                .records
                .push(record(self.function.queue_name(), delivery));
        }
        event
    }

    /// Invokes the function, and deletes what it does not report. Returns the bodies of what it
    /// does.
    async fn invoke(&self, deliveries: &[Delivery]) -> Vec<String> {
        self.invoke_for(deliveries, MINUTE).await
    }

    async fn invoke_for(&self, deliveries: &[Delivery], remaining: Duration) -> Vec<String> {
        let event = self.event(deliveries);
        let response = self.function.handle(event, remaining).await.unwrap();
        self.delete(deliveries, &response).await
    }

    async fn delete(&self, deliveries: &[Delivery], response: &SqsBatchResponse) -> Vec<String> {
        let failed = reported(response);
        let (back, done): (Vec<_>, Vec<_>) = deliveries
            .iter()
            .partition(|delivery| failed.contains(&id(delivery)));
        assert_eq!(
            back.len(),
            failed.len(),
            "only what was in the event: {failed:?}"
        );
        let done = done.iter().map(|delivery| delivery.receipt.clone());
        self.queue.acknowledge(done.collect()).await.unwrap();
        back.into_iter().map(text).collect()
    }
}

/// Invokes functions until none of their queues has anything left.
async fn work_off(mappings: &[&Mapping]) -> usize {
    let mut invocations = 0;
    loop {
        let mut found = false;
        for mapping in mappings {
            let deliveries = mapping.receive(NOW).await;
            if !deliveries.is_empty() {
                found = true;
                invocations += 1;
                mapping.invoke(&deliveries).await;
            }
        }
        if !found {
            return invocations;
        }
    }
}

/// A record as Lambda passes it on.
fn record(queue: &str, delivery: &Delivery) -> SqsMessage {
    let mut record = SqsMessage::default();
    record.message_id = Some(id(delivery));
    record.receipt_handle = Some(delivery.receipt.to_string());
    record.body = Some(text(delivery));
    let count = delivery.receive_count.to_string();
    record.attributes = [("ApproximateReceiveCount".to_owned(), count)].into();
    let attributes = delivery.attributes.iter();
    let attributes = attributes.map(|(name, value)| {
        let mut attribute = SqsMessageAttribute::default();
        attribute.string_value = Some(value.to_owned());
        attribute.data_type = Some("String".to_owned());
        (name.to_owned(), attribute)
    });
    record.message_attributes = attributes.collect();
    record.event_source_arn = Some(format!("arn:aws:sqs:us-east-1:000000000000:{queue}"));
    record
}

fn id(delivery: &Delivery) -> String {
    format!("message-{}", delivery.receipt)
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.body.to_vec()).unwrap()
}

fn reported(response: &SqsBatchResponse) -> BTreeSet<String> {
    let failures = response.batch_item_failures.iter();
    let ids: Vec<String> = failures
        .map(|failure| failure.item_identifier.clone())
        .collect();
    let distinct: BTreeSet<String> = ids.iter().cloned().collect();
    assert_eq!(ids.len(), distinct.len(), "each once: {ids:?}");
    distinct
}

/// Whether a message of one item has this one.
fn has_item(body: &str, item: u64) -> bool {
    body.contains(&format!("\"packetValue\":[{item}]"))
}
