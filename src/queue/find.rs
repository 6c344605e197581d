//! A search among dead letters, page by page.

use super::{BuriedMessage, Cursor, PAGE_BYTES, Page, Queue, Wanted};
use crate::core::error::Result;

/// Messages that one search reads at most.
const MOST_READ: usize = 1_000;
/// Bytes that one search reads at most, not counting the last call: each message is parsed to see whether it is wanted.
const MOST_BYTES: usize = 16 * PAGE_BYTES;
/// After a page of this many bytes, others run before the next: each message of it was parsed.
const MANY_BYTES: usize = PAGE_BYTES / 16;
/// Messages that are read in one call at most: what is not wanted is let go before the next call.
const MOST_AT_ONCE: usize = 100;

/// The default of [`Queue::find_dead_letters`].
///
/// A page that has more wanted messages than there is room for is read again, up to the last message that fits: only the
/// queue can make the cursor that leads on from there.
pub(super) async fn in_pages<Q: Queue + ?Sized>(
    queue: &Q,
    cursor: Option<&Cursor>,
    max: usize,
    wanted: &Wanted<'_>,
) -> Result<Page<BuriedMessage>> {
    let mut cursor = cursor.cloned();
    let mut found = Room::new(max.max(1));
    let (mut unread, mut unread_bytes) = (MOST_READ, MOST_BYTES);
    // As many as would do if all of them were wanted; more each time, if they were not.
    let mut at_once = max.clamp(1, MOST_AT_ONCE);
    loop {
        // A queue in memory has every page at once, and others must run as well.
        tokio::task::consume_budget().await;
        let page = queue.dead_letters(cursor.as_ref(), at_once).await?;
        // Reading again has no end in a queue that returns more than it is asked for.
        let is_cut_short = (page.truncated && page.next.is_none()) || page.len() > at_once;
        let read = page.len().max(1);
        let fitting = found.fitting(&page, wanted);
        if fitting < page.len() && !is_cut_short {
            if fitting == 0 {
                return Ok(Page::new(found.messages, cursor));
            }
            at_once = fitting;
            continue;
        }
        let truncated = page.truncated || fitting < page.len();
        let bytes: usize = page.iter().map(BuriedMessage::size).sum();
        unread_bytes = unread_bytes.saturating_sub(bytes);
        let taken = page.items.into_iter().take(fitting);
        found.take(taken.filter(|message| wanted(message)));
        unread = unread.saturating_sub(read);
        cursor = page.next;
        if cursor.is_none() || found.is_full() || unread == 0 || unread_bytes == 0 {
            return Ok(Page::new(found.messages, cursor).truncated(truncated));
        }
        at_once = (2 * at_once).min(MOST_AT_ONCE).min(unread);
        if bytes > MANY_BYTES {
            tokio::task::yield_now().await;
        }
    }
}

/// The messages of a page, and how many more it has room for.
pub(crate) struct Room {
    pub(crate) messages: Vec<BuriedMessage>,
    max: usize,
    bytes: usize,
}

impl Room {
    /// Room for `max` messages of [`PAGE_BYTES`] together.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            messages: Vec::new(),
            max,
            bytes: 0,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.messages.len() >= self.max || self.bytes >= PAGE_BYTES
    }

    /// Whether the page has room for this message. The first always fits.
    pub(crate) fn fits(&self, message: &BuriedMessage) -> bool {
        let is_within = self.bytes.saturating_add(message.size()) <= PAGE_BYTES;
        self.messages.is_empty() || (self.messages.len() < self.max && is_within)
    }

    pub(crate) fn push(&mut self, message: BuriedMessage) {
        self.bytes = self.bytes.saturating_add(message.size());
        self.messages.push(message);
    }

    fn take(&mut self, messages: impl Iterator<Item = BuriedMessage>) {
        messages.for_each(|message| self.push(message));
    }

    /// How many messages at the beginning of `page` can be dealt with, if the wanted ones are taken.
    fn fitting(&self, page: &[BuriedMessage], wanted: &Wanted<'_>) -> usize {
        let (mut count, mut bytes) = (self.messages.len(), self.bytes);
        let overflows = page.iter().position(|message| {
            if !wanted(message) {
                return false;
            }
            count += 1;
            bytes = bytes.saturating_add(message.size());
            count > self.max || (count > 1 && bytes > PAGE_BYTES)
        });
        overflows.unwrap_or(page.len())
    }
}
