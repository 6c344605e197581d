//! Dead letters: looked at without taking them away, put back or removed by their message id.
//!
//! A queue cannot be read without receiving, so those who look hide what they see for as long as they look, and
//! show it again at the end. A receipt is of no use after that: a dead letter is known by its message id, and
//! received anew by whoever redrives or discards it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::types::Message;
use tokio::time::Instant;

use super::{Named, attributes, body};
use crate::core::error::{Error, Result};
use crate::queue::{BuriedMessage, Cursor, Outgoing, Page, Receipt};

/// How long what was seen stays hidden, in seconds, should the process end while it looks.
const HIDDEN: i32 = 60;
/// How long a poll waits before it is believed that there are no more, in seconds: with any wait the service asks
/// all of its servers.
const LAST_LOOK: i32 = 1;
/// How long a look lasts at most: shorter than what it has seen stays hidden.
const LONGEST_LOOK: Duration = Duration::from_secs(20);
/// Polls that bring nothing new, before the missing messages are taken for gone: another caller that looks at them hides
/// them for a moment.
const PATIENCE: usize = 4;

/// Up to `max` dead letters. There is no going on from where an earlier look ended, since the service gives them in any
/// order: a look ends when it has `max`, when there are no more, or when it has lasted for its time.
pub(super) async fn look(
    dead: &Named,
    cursor: Option<&Cursor>,
    max: usize,
) -> Result<Page<BuriedMessage>> {
    if cursor.is_some() {
        return Err(Error::invalid_argument(
            "cursor",
            format!(
                "queue `{}` has no cursors: SQS cannot list dead letters from where another list ended",
                dead.name
            ),
        ));
    }
    let begin = Instant::now();
    let mut found = Vec::new();
    let mut known = HashSet::new();
    let mut receipts = Vec::new();
    let mut misses = 0;
    let looked = async {
        while found.len() < max.max(1) {
            if begin.elapsed() >= LONGEST_LOOK || misses >= PATIENCE {
                return Ok(true);
            }
            let messages = dead.poll(max - found.len(), LAST_LOOK, HIDDEN).await?;
            if messages.is_empty() {
                return Ok(false);
            }
            let before = found.len();
            for message in messages {
                receipts.extend(receipt(&message));
                if let Some(buried) = buried(message)
                    && known.insert(buried.receipt.clone())
                {
                    found.push(buried);
                }
            }
            misses += usize::from(found.len() == before);
        }
        Ok(true)
    }
    .await;
    show_again(dead, receipts).await;
    looked.map(|truncated| Page::new(found, None).truncated(truncated))
}

/// Removes these dead letters, once they are on `back` if that is given. Those that are gone are passed over.
pub(super) async fn take(
    dead: &Named,
    back: Option<&Arc<Named>>,
    messages: &[BuriedMessage],
) -> Result<()> {
    let mut wanted: HashSet<&str> = messages
        .iter()
        .filter_map(|message| message.receipt.as_str())
        .collect();
    let mut others = Vec::new();
    // What is not looked for comes back once its time is over, and must not keep the search going for ever.
    let mut known = HashSet::new();
    let taken = async {
        let mut misses = 0;
        while !wanted.is_empty() && misses < PATIENCE {
            let received = dead.poll(usize::MAX, LAST_LOOK, HIDDEN).await?;
            let (mut copies, mut receipts) = (Vec::new(), Vec::new());
            let mut ids = Vec::new();
            let mut is_new = false;
            for message in received {
                let Some(receipt) = receipt(&message) else {
                    continue;
                };
                match message.message_id.as_deref() {
                    Some(id) if wanted.contains(id) => {
                        ids.push(id.to_owned());
                        receipts.push(receipt);
                        let body = body::from_text(message.body.unwrap_or_default());
                        let attributes = attributes::received(message.message_attributes);
                        copies.push(Outgoing::new(body).attributes(attributes));
                    }
                    id => {
                        is_new |= id.is_some_and(|id| known.insert(id.to_owned()));
                        others.push(receipt);
                    }
                }
            }
            misses += usize::from(ids.is_empty() && !is_new);
            if let Some(back) = back {
                back.send(&copies).await?;
            }
            dead.delete(&receipts).await?;
            for id in ids {
                wanted.remove(id.as_str());
            }
        }
        Ok(())
    }
    .await;
    show_again(dead, others).await;
    taken
}

/// Shows messages again. Where that fails, their time does it.
async fn show_again(dead: &Named, receipts: Vec<Receipt>) {
    if let Err(error) = dead.hide(receipts, Duration::ZERO).await {
        tracing::debug!(%error, queue = dead.name, "dead letters stay hidden for {HIDDEN} s");
    }
}

fn receipt(message: &Message) -> Option<Receipt> {
    let handle = message.receipt_handle()?;
    Some(Receipt::new(handle))
}

fn buried(message: Message) -> Option<BuriedMessage> {
    let mut received = message.message_attributes;
    let reason = received
        .as_mut()
        .and_then(|attributes| attributes.remove(body::REASON)?.string_value);
    let buried = BuriedMessage::new(
        body::from_text(message.body.unwrap_or_default()),
        reason.unwrap_or_default(),
        Receipt::new(message.message_id?),
    );
    Some(buried.attributes(attributes::received(received)))
}
