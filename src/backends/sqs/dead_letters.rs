//! Dead letters: looked at without taking them away, put back or removed by their message id.
//!
//! A queue cannot be read without receiving, so a search hides what it sees for as long as it lasts, and shows it
//! again at the end. A receipt is of no use after that: a dead letter is known by its message id, and received anew when it
//! is redriven or discarded.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use tokio::time::Instant;

use super::{Named, attributes, body};
use crate::core::error::{Error, Result};
use crate::core::id::RunId;
use crate::queue::find::Room;
use crate::queue::{BuriedMessage, Cursor, Outgoing, Page, Receipt, Wanted};

/// How long what was seen stays hidden, in seconds, should the process end while it looks.
const HIDDEN: i32 = 60;
/// How long a poll waits before it is believed that there are no more, in seconds: with any wait the service asks
/// all of its servers.
const LAST_LOOK: i32 = 1;
/// How long a search lasts at most: shorter than what it has seen stays hidden.
const LONGEST_SEARCH: Duration = Duration::from_secs(20);
/// Requests that a search makes at most, which see ten times as many messages.
const MOST_POLLS: usize = 1_000;
/// Polls that bring nothing new, before the missing messages are taken for gone: another caller that looks at them hides
/// them for a moment.
const PATIENCE: usize = 4;

/// What bounds a search, whatever the service returns: another caller may hide what is searched for, and what was seen
/// may come back while the search goes on.
struct Search {
    began: Instant,
    polls: usize,
    /// The message ids that it has seen.
    seen: HashSet<String>,
    misses: usize,
}

impl Search {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            polls: 0,
            seen: HashSet::new(),
            misses: 0,
        }
    }

    fn is_over(&self) -> bool {
        self.misses >= PATIENCE
            || self.polls >= MOST_POLLS
            || self.began.elapsed() >= LONGEST_SEARCH
    }

    /// One request, for at most `max` messages: each with its id, and whether it is seen for the first time.
    async fn poll(&mut self, dead: &Named, max: usize) -> Result<Vec<(bool, String, Message)>> {
        self.polls += 1;
        let messages = dead.poll(max, LAST_LOOK, HIDDEN).await?;
        let seen: Vec<_> = messages
            .into_iter()
            .filter_map(|message| {
                let id = message.message_id.clone()?;
                Some((self.seen.insert(id.clone()), id, message))
            })
            .collect();
        if !seen.iter().any(|(is_new, ..)| *is_new) {
            self.misses += 1;
        }
        Ok(seen)
    }
}

/// Up to `max` dead letters, those that are `wanted` if that is given. There is no going on from where an earlier look ended, since the service
/// gives them in any order: a look ends when it has `max`, or as many as make a page, when there are no more, or when its
/// time or its requests are used up. It keeps only the wanted ones in memory.
pub(super) async fn look(
    dead: &Named,
    cursor: Option<&Cursor>,
    max: usize,
    wanted: Option<&Wanted<'_>>,
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
    let mut found = Room::new(max.max(1));
    let mut receipts = Vec::new();
    let mut search = Search::new();
    let looked = async {
        while !found.is_full() {
            if search.is_over() {
                return Ok(true);
            }
            // Among others, the wanted ones may be anywhere.
            let left = match wanted {
                Some(_) => usize::MAX,
                None => max.max(1).saturating_sub(found.messages.len()),
            };
            let messages = search.poll(dead, left).await?;
            if messages.is_empty() {
                return Ok(false);
            }
            let mut is_full = false;
            for (is_new, _, message) in messages {
                receipts.extend(receipt(&message));
                let is_wanted = |buried: &BuriedMessage| wanted.is_none_or(|wanted| wanted(buried));
                match buried(message).filter(|buried| is_new && is_wanted(buried)) {
                    Some(buried) if found.fits(&buried) => found.push(buried),
                    Some(_) => is_full = true,
                    None => {}
                }
            }
            if is_full {
                return Ok(true);
            }
        }
        Ok(true)
    }
    .await;
    show_again(dead, receipts).await;
    looked.map(|truncated| Page::new(found.messages, None).truncated(truncated))
}

/// Removes these dead letters, once they are on `back` if that is given. Returns the receipts of those that it has not
/// found: they are gone, another caller hides them, or the search was over.
pub(super) async fn take(
    dead: &Named,
    back: Option<&Arc<Named>>,
    messages: &[BuriedMessage],
) -> Result<Vec<Receipt>> {
    let (known, foreign): (Vec<Receipt>, Vec<Receipt>) = messages
        .iter()
        .map(|message| message.receipt.clone())
        .partition(|receipt| receipt.as_str().is_some());
    let mut wanted: HashSet<&str> = known.iter().filter_map(Receipt::as_str).collect();
    let mut others = Vec::new();
    let mut search = Search::new();
    let taken = async {
        while !wanted.is_empty() && !search.is_over() {
            let (mut copies, mut receipts) = (Vec::new(), Vec::new());
            let mut ids = Vec::new();
            for (_, id, message) in search.poll(dead, usize::MAX).await? {
                let Some(receipt) = receipt(&message) else {
                    continue;
                };
                if wanted.contains(id.as_str()) {
                    ids.push(id);
                    receipts.push(receipt);
                    copies.push(outgoing(message));
                } else {
                    others.push(receipt);
                }
            }
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
    taken.map(|()| {
        let missing = known.iter().filter(|receipt| {
            let id = receipt.as_str();
            id.is_some_and(|id| wanted.contains(id))
        });
        missing.cloned().chain(foreign).collect()
    })
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

/// What was sent, of a message that has been received.
fn outgoing(message: Message) -> Outgoing {
    let group = message.attributes.as_ref();
    let group = group.and_then(|told| told.get(&MessageSystemAttributeName::MessageGroupId));
    let run = group.map(|group| RunId::from(group.as_str()));
    let body = body::from_text(message.body.unwrap_or_default());
    let attributes = attributes::received(message.message_attributes);
    let mut outgoing = Outgoing::new(body).attributes(attributes);
    outgoing.run = run;
    outgoing
}

fn buried(mut message: Message) -> Option<BuriedMessage> {
    let received = message.message_attributes.as_mut();
    let reason = received.and_then(|attributes| attributes.remove(body::REASON)?.string_value);
    let receipt = Receipt::new(message.message_id.take()?);
    let reason = reason.unwrap_or_default();
    Some(BuriedMessage::new(outgoing(message), reason, receipt))
}
