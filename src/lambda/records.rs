//! What an event has for this function, and what is reported of it.

use std::collections::HashSet;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};

use super::LambdaFunction;
use crate::backends::sqs;
use crate::core::error::{Error, Result};
use crate::core::id::RunId;
use crate::queue::Delivery;
use crate::worker::Fate;

/// What Lambda passes on with each record.
const RECEIVE_COUNT: &str = "ApproximateReceiveCount";
const SENT_TIMESTAMP: &str = "SentTimestamp";
const MESSAGE_GROUP_ID: &str = "MessageGroupId";

/// An event's records.
pub(super) struct Records {
    /// Those that can be worked on.
    pub(super) deliveries: Vec<Delivery>,
    /// All of them, in their order.
    pub(super) all: Vec<Record>,
}

pub(super) struct Record {
    /// What the mapping knows it by.
    pub(super) id: String,
    /// Its place among those that can be worked on.
    pub(super) place: Option<usize>,
}

impl Records {
    pub(super) fn read(event: SqsEvent, stage: &str) -> Self {
        let mut records = Self {
            deliveries: Vec::with_capacity(event.records.len()),
            all: Vec::with_capacity(event.records.len()),
        };
        for record in event.records {
            let id = record.message_id.clone().unwrap_or_default();
            let place = match delivery(record) {
                Ok(delivery) => {
                    records.deliveries.push(delivery);
                    Some(records.deliveries.len() - 1)
                }
                Err(missing) => {
                    // Without its bytes it must not be buried, and without a receipt it cannot be.
                    tracing::error!(
                        stage,
                        message_id = id,
                        "a record has no {missing}; it comes back"
                    );
                    None
                }
            };
            records.all.push(Record { id, place });
        }
        records
    }
}

fn delivery(record: SqsMessage) -> Result<Delivery, &'static str> {
    let present = |text: Option<String>, what| text.filter(|text| !text.is_empty()).ok_or(what);
    let receipt = present(record.receipt_handle, "receiptHandle")?;
    let body = present(record.body, "body")?;
    let told = |name| record.attributes.get(name).map(String::as_str);
    let mut delivery = sqs::delivery(body, receipt, told(RECEIVE_COUNT), told(SENT_TIMESTAMP));
    let attributes = record.message_attributes.into_iter();
    let attributes = attributes.map(|(name, value)| (name, value.string_value));
    delivery.attributes = sqs::attributes::decode(attributes);
    delivery.run = told(MESSAGE_GROUP_ID).map(RunId::from);
    delivery.message_id = record.message_id;
    Ok(delivery)
}

/// Reports the records that must come back, `fates` being those of the deliveries.
pub(super) fn response(records: &[Record], fates: &[Fate]) -> SqsBatchResponse {
    let is_done = |place: usize| fates.get(place) == Some(&Fate::Acknowledge);
    let mut response = SqsBatchResponse::default();
    let mut reported = HashSet::new();
    for Record { id, place } in records {
        if !place.is_some_and(is_done) && reported.insert(id.as_str()) {
            // One without an id makes the mapping keep the whole batch: doing the others again
            // changes nothing.
            response.add_failure(id.as_str());
        }
    }
    response
}

/// Whether the records come from this function's queue. Another stage's messages would all be
/// buried, one after the other, as none of this stage's.
pub(super) fn check_source(event: &SqsEvent, function: &LambdaFunction) -> Result<()> {
    let (stage, queue_name) = (function.stage(), function.queue_name());
    let sources = event.records.iter();
    let mut sources = sources.filter_map(|record| record.event_source_arn.as_deref());
    // arn:aws:sqs:{region}:{account}:{queue}
    let is_foreign = |arn: &&str| arn.rsplit(':').next() != Some(queue_name);
    let Some(arn) = sources.find(is_foreign) else {
        return Ok(());
    };
    let problem = format!(
        "this function serves stage `{stage}`, whose queue is `{queue_name}`, but its event source mapping reads `{arn}`: give the mapping the queue `{queue_name}`, or set {} to the stage of that queue",
        super::STAGE_VARIABLE
    );
    tracing::error!(
        problem,
        records = event.records.len(),
        "a wrong event source mapping; the records come back"
    );
    Err(Error::invalid_argument("event", problem))
}
