//! Queues over Amazon SQS.

pub(crate) mod attributes;
mod batch;
mod body;
mod dead_letters;
mod limits;
mod named;
mod policy;
mod poll;
pub(crate) mod provision;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_types::retry::ProvideErrorKind;
use aws_types::SdkConfig;
use tokio::sync::OnceCell;

use self::named::Named;
use self::provision::QueueSettings;
use super::aws::{self, CountRequests};
use crate::core::error::{Error, Result};
use crate::core::name::dead_letters as dead_name;
use crate::core::provision::Change;
use crate::core::requests::Requests;
use crate::queue::{
    BuriedMessage, Cursor, Delivery, Depth, Outgoing, Page, Queue, QueueOptions, Queues, Receipt,
    Wanted,
};

const SERVICE: &str = "SQS";
/// The service's limit of a message, and of a request: 1 MiB.
pub(crate) const MAX_PAYLOAD: usize = 1024 * 1024;
/// What every endpoint takes.
const LEAST_PAYLOAD: usize = 256 * 1024;
/// The longest that the service keeps a message hidden, counted from when it was received: 12 hours.
const LONGEST_HIDDEN: i32 = 43_200;
/// The longest wait that the service allows a poll.
const LONGEST_POLL: Duration = Duration::from_secs(20);

/// Queues over Amazon SQS. Cloning it gives another handle on the same client and its connections.
///
/// A stage's queue is `{deployment}--{stage}`, its dead letters are in `{deployment}--{stage}--dead`.
/// Both are standard queues, made by [`Deployment::provision`](crate::Deployment::provision).
///
/// - Bodies are sent as they are if they are text that SQS takes, so that any tool reads them: messages in JSON are. Other
///   bytes are sent as `base64:` followed by their encoding.
/// - Attributes are message attributes of type String if SQS takes every name and value and there are at most ten;
///   otherwise all of them are one attribute, `catchment.attributes`, as a JSON object. They count towards the limit of a
///   message with their names and types.
/// - A message's [run](Outgoing::run) is its `MessageGroupId`. If one run has a backlog, the service delivers the messages of others
///   first ([fair queues](https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html)), once at
///   least 30 of that run's messages are in flight. [`fair`](Self::fair) leaves it out.
/// - Times are whole seconds, rounded up; a message cannot be kept hidden beyond 12 hours after it was received, so a longer
///   visibility timeout is refused.
/// - The queue's redrive policy is a safety net for messages that the library cannot bury itself: it counts 1,000 receives, the
///   most that the service can. A stage over SQS has at most 900 [attempts](crate::Stage::attempts), so that a message may be
///   handed back a hundred times in addition. Of a queue with another policy, the number is read once a message is received for
///   the second time ([`most_receives`](Queue::most_receives)).
/// - [`Depth`] is the service's estimate. A message that was released with a delay counts as in flight.
/// - Dead letters cannot be listed from where an earlier list ended: [`dead_letters`](Queue::dead_letters) receives up
///   to `max` of them, in no particular order, for at most 20 seconds, shows them again, and returns no cursor. If it
///   did not find the queue empty, its page is [truncated](Page::truncated): ask for more at once, or redrive or discard
///   these first. They are hidden from other callers meanwhile.
#[derive(Clone)]
pub struct SqsQueues {
    service: Arc<Service>,
}

/// What all queues of one client share.
#[derive(Clone)]
struct Service {
    client: Client,
    requests: Requests,
    /// Where requests go, for error messages.
    place: String,
    max_payload: usize,
    is_fair: bool,
    longest_poll: Duration,
}

impl std::fmt::Debug for SqsQueues {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SqsQueues")
            .field("place", &self.service.place)
            .field("max_payload", &self.service.max_payload)
            .field("is_fair", &self.service.is_fair)
            .finish_non_exhaustive()
    }
}

impl SqsQueues {
    /// Queues in the account and region of this configuration.
    pub fn new(config: &SdkConfig) -> Self {
        Self::counting(config, Requests::new())
    }

    /// The same, adding to counts that others add to as well.
    pub(crate) fn counting(config: &SdkConfig, requests: Requests) -> Self {
        let timeouts = aws::timeouts(config);
        let limit = timeouts
            .operation_attempt_timeout()
            .into_iter()
            .chain(timeouts.operation_timeout())
            .chain(timeouts.read_timeout())
            .min();
        let settings = aws_sdk_sqs::config::Builder::from(config)
            .timeout_config(timeouts)
            .interceptor(CountRequests(requests.clone()))
            .build();
        Self {
            service: Arc::new(Service {
                client: Client::from_conf(settings),
                requests,
                place: aws::place(config, "SQS"),
                max_payload: MAX_PAYLOAD,
                is_fair: true,
                longest_poll: limit.map_or(LONGEST_POLL, |limit| LONGEST_POLL.min(limit * 2 / 3)),
            }),
        }
    }

    /// The same with another limit of bytes for a message, and for a request of several (default 1 MiB, at least
    /// 256 KiB, at most 1 MiB): some endpoints that speak SQS stop at 256 KiB. Provisioning sets it on the queues. A deployment
    /// over queues with another number is refused.
    #[must_use]
    pub fn max_payload(self, bytes: usize) -> Self {
        self.with(|service| service.max_payload = bytes)
    }

    /// The same, with or without the message groups by which the service delivers the messages of runs in turn (default: with
    /// them). It may charge more for such requests, and endpoints that speak SQS may refuse them.
    #[must_use]
    pub fn fair(self, fair: bool) -> Self {
        self.with(|service| service.is_fair = fair)
    }

    fn with(&self, change: impl FnOnce(&mut Service)) -> Self {
        let mut service = Service::clone(&self.service);
        change(&mut service);
        Self {
            service: Arc::new(service),
        }
    }

    /// The requests made through this client so far.
    pub fn requests(&self) -> Requests {
        self.service.requests.clone()
    }

    /// The settings of a stage's queue, for `provision` and for templates.
    pub(crate) fn settings(&self, options: &QueueOptions) -> QueueSettings {
        QueueSettings::new(self.service.max_payload, options)
    }
}

impl Service {
    /// A message's group: its run's id. Every id that a run can have is one that the service takes.
    fn group(&self, message: &Outgoing) -> Option<String> {
        let run = message.run.as_ref().filter(|_| self.is_fair);
        run.filter(|run| run.validate().is_ok())
            .map(|run| run.as_str().to_owned())
    }

    fn is_missing(code: Option<&str>) -> bool {
        matches!(
            code.map(aws::bare),
            Some("QueueDoesNotExist" | "NonExistentQueue")
        )
    }

    /// What a failed request means for a user.
    fn failed<E>(&self, operation: &str, queue: &str, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + ProvideErrorKind + std::error::Error + Send + Sync + 'static,
    {
        if Self::is_missing(aws::code(&error)) {
            return self.missing(queue);
        }
        let operation = format!("{operation} on queue `{queue}`");
        aws::failed(SERVICE, operation, error, &self.place, &self.requests)
    }

    fn missing(&self, queue: &str) -> Error {
        Error::not_provisioned(format!("SQS queue `{queue}`"), self.place.as_str())
    }

    async fn url(&self, queue: &str) -> Result<String> {
        let found = self.client.get_queue_url().queue_name(queue).send().await;
        let found = found.map_err(|error| self.failed("GetQueueUrl", queue, error))?;
        found.queue_url.ok_or_else(|| self.missing(queue))
    }
}

/// A message from what the service reports about it: `count` is its `ApproximateReceiveCount` (1 if unreadable), `sent` its
/// `SentTimestamp` in milliseconds since 1970.
pub(crate) fn delivery(
    body: String,
    receipt: String,
    count: Option<&str>,
    sent: Option<&str>,
) -> Delivery {
    let count = count.and_then(|count| count.parse().ok()).unwrap_or(1);
    let mut delivery = Delivery::new(body::from_text(body), Receipt::new(receipt), count);
    delivery.sent_at = sent.and_then(|millis| {
        let since = Duration::from_millis(millis.parse().ok()?);
        SystemTime::UNIX_EPOCH.checked_add(since)
    });
    delivery
}

#[async_trait]
impl Queues for SqsQueues {
    fn check(&self, name: &str, options: &QueueOptions) -> Result<()> {
        limits::check(name, self.service.max_payload, options)
    }

    async fn open(&self, name: &str, options: &QueueOptions) -> Result<Arc<dyn Queue>> {
        self.check(name, options)?;
        let url = self.service.url(name).await?;
        Ok(Arc::new(SqsQueue {
            main: Arc::new(Named {
                service: Arc::clone(&self.service),
                name: name.to_owned(),
                url,
                visibility: whole_seconds(options.visibility_timeout),
                is_busy: AtomicBool::new(false),
                policy: policy::Policy::default(),
            }),
            dead: OnceCell::new(),
        }))
    }

    async fn provision(&self, name: &str, options: &QueueOptions) -> Result<Vec<Change>> {
        self.check(name, options)?;
        provision::provision(&self.service, name, self.settings(options)).await
    }

    async fn deprovision(&self, name: &str) -> Result<Vec<Change>> {
        provision::deprovision(&self.service, name).await
    }
}

/// A queue and, once it is needed, its dead-letter queue.
struct SqsQueue {
    main: Arc<Named>,
    dead: OnceCell<Named>,
}

impl SqsQueue {
    async fn dead(&self) -> Result<&Named> {
        let Named {
            service,
            name,
            visibility,
            ..
        } = self.main.as_ref();
        let open = || async {
            let name = dead_name(name);
            let url = service.url(&name).await?;
            Ok(Named {
                service: Arc::clone(service),
                name,
                url,
                visibility: *visibility,
                is_busy: AtomicBool::new(false),
                policy: policy::Policy::default(),
            })
        };
        self.dead.get_or_try_init(open).await
    }
}

impl std::fmt::Debug for SqsQueue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SqsQueue")
            .field("name", &self.main.name)
            .field("url", &self.main.url)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Queue for SqsQueue {
    async fn send(&self, messages: Vec<Outgoing>) -> Result<()> {
        self.main.send(&messages).await
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        poll::receive(&self.main, max, wait).await
    }

    async fn acknowledge(&self, receipts: Vec<Receipt>) -> Result<()> {
        self.main.delete(&receipts).await
    }

    async fn release(&self, receipts: Vec<Receipt>, after: Duration) -> Result<()> {
        self.main.hide(receipts, after).await.map(drop)
    }

    async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Result<Vec<Receipt>> {
        self.main.hide(receipts, by).await
    }

    async fn bury(&self, delivery: Delivery, reason: &str) -> Result<()> {
        let dead = self.dead().await?;
        let receipts = vec![delivery.receipt.clone()];
        // Whoever has it now decides what becomes of it.
        let hidden = Duration::from_secs(u64::from(self.main.visibility.unsigned_abs()));
        if !self.main.hide(receipts.clone(), hidden).await?.is_empty() {
            return Ok(());
        }
        dead.send_with_reason(&Outgoing::from(&delivery), reason)
            .await?;
        self.main.delete(&receipts).await
    }

    async fn dead_letters(
        &self,
        cursor: Option<&Cursor>,
        max: usize,
    ) -> Result<Page<BuriedMessage>> {
        dead_letters::look(self.dead().await?, cursor, max, None).await
    }

    async fn find_dead_letters(
        &self,
        cursor: Option<&Cursor>,
        max: usize,
        wanted: &Wanted<'_>,
    ) -> Result<Page<BuriedMessage>> {
        dead_letters::look(self.dead().await?, cursor, max, Some(wanted)).await
    }

    async fn redrive(&self, messages: Vec<BuriedMessage>) -> Result<Vec<Receipt>> {
        dead_letters::take(self.dead().await?, Some(&self.main), &messages).await
    }

    async fn discard(&self, messages: Vec<BuriedMessage>) -> Result<Vec<Receipt>> {
        dead_letters::take(self.dead().await?, None, &messages).await
    }

    async fn depth(&self) -> Result<Depth> {
        let [ready, in_flight, delayed] = self.main.counts().await?;
        let dead = self.dead().await?.counts().await?;
        Ok(Depth::new()
            .ready(ready)
            .in_flight(in_flight)
            .delayed(delayed)
            .dead(dead.into_iter().sum()))
    }

    fn batch(&self) -> Option<usize> {
        Some(batch::MOST_ENTRIES)
    }

    fn most_receives(&self) -> Option<u32> {
        Some(self.main.policy.most_receives())
    }

    fn max_body(&self) -> Option<usize> {
        Some(self.main.service.max_payload)
    }

    fn sent_size(&self, body: &bytes::Bytes, more: usize) -> usize {
        body::sent_size(body, more)
    }
}

/// Rounded up, and no more than the service takes.
fn whole_seconds(time: Duration) -> i32 {
    let more = u64::from(time.subsec_nanos() > 0);
    let seconds = time.as_secs().saturating_add(more);
    i32::try_from(seconds).map_or(LONGEST_HIDDEN, |seconds| seconds.min(LONGEST_HIDDEN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_up_and_cut_to_what_the_service_takes() {
        let seconds = [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_secs(7), 7),
            (Duration::from_secs(u64::MAX), LONGEST_HIDDEN),
            (Duration::MAX, LONGEST_HIDDEN),
        ];
        for (time, expected) in seconds {
            assert_eq!(whole_seconds(time), expected, "{time:?}");
        }
    }
}
