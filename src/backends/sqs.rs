//! Queues over Amazon SQS.

pub(crate) mod attributes;
mod batch;
mod body;
mod dead_letters;
mod named;
mod poll;
pub(crate) mod provision;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::SdkError;
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
/// - Bodies are sent as they are where they are text that SQS takes, so that any tool reads them; other bytes go
///   as `base64:` and their encoding.
/// - Attributes are message attributes of type String if SQS takes every name and value and there are at most ten;
///   otherwise all of them are one attribute, `catchment.attributes`, as a JSON object. They count towards the limit of a
///   message with their names and types.
/// - Times are whole seconds, rounded up; a message cannot be kept hidden beyond 12 hours after it was received.
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
struct Service {
    client: Client,
    requests: Requests,
    /// Where requests go, for error messages.
    place: String,
    max_payload: usize,
    longest_poll: Duration,
}

impl std::fmt::Debug for SqsQueues {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SqsQueues")
            .field("place", &self.service.place)
            .field("max_payload", &self.service.max_payload)
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
                longest_poll: limit.map_or(LONGEST_POLL, |limit| LONGEST_POLL.min(limit * 2 / 3)),
            }),
        }
    }

    /// The same with another limit of bytes for a message, and for a request of several (default 1 MiB, at least
    /// 256 KiB, at most 1 MiB): some endpoints that speak SQS stop at 256 KiB. Provisioning sets it on the queues.
    #[must_use]
    pub fn max_payload(self, bytes: usize) -> Self {
        let Service {
            client,
            requests,
            place,
            longest_poll,
            ..
        } = self.service.as_ref();
        Self {
            service: Arc::new(Service {
                client: client.clone(),
                requests: requests.clone(),
                place: place.clone(),
                max_payload: bytes.clamp(LEAST_PAYLOAD, MAX_PAYLOAD),
                longest_poll: *longest_poll,
            }),
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
    fn is_missing(code: Option<&str>) -> bool {
        matches!(
            code,
            Some("QueueDoesNotExist" | "AWS.SimpleQueueService.NonExistentQueue")
        )
    }

    /// What a failed request means for a user.
    fn failed<E>(
        &self,
        operation: &str,
        queue: &str,
        error: SdkError<E, aws_smithy_runtime_api::client::orchestrator::HttpResponse>,
    ) -> Error
    where
        E: aws_sdk_sqs::error::ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        if Self::is_missing(aws::code(&error)) {
            return Error::NotProvisioned {
                resource: format!("SQS queue `{queue}`"),
                place: self.place.clone(),
            };
        }
        let operation = format!("{operation} on queue `{queue}`");
        aws::failed(SERVICE, operation, error, &self.place)
    }

    async fn url(&self, queue: &str) -> Result<String> {
        let found = self.client.get_queue_url().queue_name(queue).send().await;
        let found = found.map_err(|error| self.failed("GetQueueUrl", queue, error))?;
        found.queue_url.ok_or_else(|| Error::NotProvisioned {
            resource: format!("SQS queue `{queue}`"),
            place: self.place.clone(),
        })
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
    async fn open(&self, name: &str, options: &QueueOptions) -> Result<Arc<dyn Queue>> {
        let url = self.service.url(name).await?;
        Ok(Arc::new(SqsQueue {
            main: Arc::new(Named {
                service: Arc::clone(&self.service),
                name: name.to_owned(),
                url,
                visibility: whole_seconds(options.visibility_timeout),
                is_busy: AtomicBool::new(false),
            }),
            dead: OnceCell::new(),
        }))
    }

    async fn provision(&self, name: &str, options: &QueueOptions) -> Result<Vec<Change>> {
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
        dead_letters::look(self.dead().await?, cursor, max).await
    }

    async fn redrive(&self, messages: Vec<BuriedMessage>) -> Result<()> {
        dead_letters::take(self.dead().await?, Some(&self.main), &messages).await
    }

    async fn discard(&self, messages: Vec<BuriedMessage>) -> Result<()> {
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

    fn max_body(&self) -> Option<usize> {
        Some(self.main.service.max_payload)
    }

    fn sent_size(&self, body: &bytes::Bytes, more: usize) -> usize {
        body::sent_size(body, more)
    }
}

/// Rounded up, and no more than the service takes.
fn whole_seconds(time: Duration) -> i32 {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    i32::try_from(seconds).map_or(LONGEST_HIDDEN, |seconds| seconds.min(LONGEST_HIDDEN))
}
