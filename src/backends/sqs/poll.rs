//! Long polls. Who waits for one may go away at any moment, and its messages may not go with it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, oneshot};
use tokio::time::Instant;

use super::{Named, SERVICE, SqsQueue, attributes};
use crate::backends::aws;
use crate::core::error::Result;
use crate::core::id::RunId;
use crate::queue::hand_back::hand_back;
use crate::queue::{Delivery, Receipt};

/// Messages per request.
const MOST_MESSAGES: usize = 10;
/// For how long, in seconds, a message is hidden that comes for a poll whose process may be gone.
const BRIEF: i32 = 5;

/// Receives messages. Dropped while it waits, the poll goes on by itself until it ends: a request
/// that is cut off could still be answered with messages, which nobody would see before their
/// visibility timeout is over. Messages that arrive for a receiver that has gone are handed back
/// at once.
pub(super) async fn receive(
    queue: &Arc<Named>,
    max: usize,
    wait: Duration,
) -> Result<Vec<Delivery>> {
    let (reply, answer) = oneshot::channel();
    let queue = Arc::clone(queue);
    tokio::spawn(async move {
        let mut reply = reply;
        let polled = queue.poll_for(max, wait, &mut reply).await;
        let answer = polled.map(|deliveries| Unclaimed {
            queue: Arc::clone(&queue),
            deliveries,
        });
        // To one who has gone, it comes back and is dropped here.
        drop(reply.send(answer));
    });
    match answer.await {
        Ok(answer) => answer.map(Unclaimed::claim),
        Err(_) => Err(aws::malformed(SERVICE, "ReceiveMessage", "it was given up")),
    }
}

/// Messages on their way to one who waits for them.
struct Unclaimed {
    queue: Arc<Named>,
    deliveries: Vec<Delivery>,
}

impl Unclaimed {
    fn claim(mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.deliveries)
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        let deliveries = std::mem::take(&mut self.deliveries);
        // Where the runtime is gone as well, the visibility timeout does it.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if deliveries.is_empty() {
            return;
        }
        let queue = Arc::clone(&self.queue);
        runtime.spawn(async move {
            tracing::debug!(
                queue = queue.name,
                messages = deliveries.len(),
                "the receiver of these messages has gone: they are handed back"
            );
            let queue = SqsQueue {
                main: queue,
                dead: OnceCell::new(),
            };
            hand_back(&queue, &deliveries).await;
        });
    }
}

impl Named {
    /// Polls until there are messages, the time is over, or nobody waits any more.
    async fn poll_for<T>(
        self: &Arc<Self>,
        max: usize,
        wait: Duration,
        reply: &mut oneshot::Sender<T>,
    ) -> Result<Vec<Delivery>> {
        let begin = Instant::now();
        loop {
            let left = wait.saturating_sub(begin.elapsed());
            let seconds = left.min(self.service.longest_poll).as_secs() as i32;
            let messages = self
                .poll_or_wait(max, seconds, || reply.is_closed())
                .await?;
            // A poll may end a little early; another one for the rest would cost as much as a whole
            // one.
            let left = wait.saturating_sub(begin.elapsed());
            if !messages.is_empty() || left <= wait / 10 || reply.is_closed() {
                self.learn_policy(&messages);
                let deliveries = messages.into_iter().filter_map(delivery);
                return Ok(deliveries.collect());
            }
            if left < Duration::from_secs(1) {
                tokio::select! {
                    () = tokio::time::sleep(left) => {}
                    () = reply.closed() => return Ok(Vec::new()),
                }
            }
        }
    }

    /// A poll that is likely to wait hides what it brings for a few seconds only, and hides it for
    /// as long as it should be once it is here: a process that ends meanwhile keeps nobody waiting
    /// for the whole visibility timeout. One that is likely to be answered at once does without the
    /// second request.
    async fn poll_or_wait(
        &self,
        max: usize,
        seconds: i32,
        is_unclaimed: impl Fn() -> bool,
    ) -> Result<Vec<Message>> {
        let brief = match self.is_busy.load(Ordering::Relaxed) || seconds == 0 {
            true => self.visibility,
            false => self.visibility.min(BRIEF),
        };
        let mut messages = self.poll(max, seconds, brief).await?;
        let is_full = messages.len() >= max.min(MOST_MESSAGES);
        self.is_busy.store(is_full, Ordering::Relaxed);
        if brief < self.visibility && !messages.is_empty() && !is_unclaimed() {
            let receipts = messages.iter().filter_map(|message| {
                let receipt = message.receipt_handle()?;
                Some(Receipt::new(receipt))
            });
            let hidden = Duration::from_secs(u64::from(self.visibility.unsigned_abs()));
            let lost = self.hide(receipts.collect(), hidden).await?;
            messages.retain(|message| {
                let receipt = message.receipt_handle().unwrap_or_default();
                !lost.iter().any(|lost| lost.as_str() == Some(receipt))
            });
        }
        Ok(messages)
    }

    /// One request.
    pub(super) async fn poll(
        &self,
        max: usize,
        wait: i32,
        visibility: i32,
    ) -> Result<Vec<Message>> {
        let max = max.clamp(1, MOST_MESSAGES) as i32;
        let request = self.service.client.receive_message();
        let request = request
            .queue_url(&self.url)
            .max_number_of_messages(max)
            .wait_time_seconds(wait)
            .visibility_timeout(visibility)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .message_system_attribute_names(MessageSystemAttributeName::MessageGroupId)
            .message_attribute_names("All");
        let received = request.send().await;
        let received = received.map_err(|error| self.failed("ReceiveMessage", error))?;
        Ok(received.messages.unwrap_or_default())
    }
}

fn delivery(message: Message) -> Option<Delivery> {
    let Message {
        message_id,
        receipt_handle,
        body,
        attributes: system,
        message_attributes,
        ..
    } = message;
    let told = |name| Some(system.as_ref()?.get(&name)?.as_str());
    let count = told(MessageSystemAttributeName::ApproximateReceiveCount);
    let sent = told(MessageSystemAttributeName::SentTimestamp);
    let mut delivery = super::delivery(body.unwrap_or_default(), receipt_handle?, count, sent);
    delivery.attributes = attributes::received(message_attributes);
    delivery.run = told(MessageSystemAttributeName::MessageGroupId).map(RunId::from);
    delivery.message_id = message_id;
    Some(delivery)
}
