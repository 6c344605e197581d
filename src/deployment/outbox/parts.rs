//! Items as the parts of a submission.

use std::iter::Fuse;

use uuid::Uuid;

use crate::backends::postgres::{NewPart, OutboxInsert, PostgresOutbox};
use crate::core::error::Result;
use crate::core::id::RunId;
use crate::outbox::Part;
use crate::packet::codec::{self, Codec, Form, Payload};
use crate::stage::Data;

/// A part ends before the item that would make it larger than this.
const PART: usize = 512 * 1024;

/// The statements that write a submission, one for each part: [`Deployment::outbox_parts`](crate::Deployment::outbox_parts)
/// makes it.
#[must_use = "nothing is written before the statements are run"]
pub struct OutboxParts<V> {
    /// `None` after the last part and after an error.
    cutter: Option<Cutter>,
    items: Fuse<V>,
}

impl<V: Iterator> OutboxParts<V> {
    pub(super) fn new(cutter: Cutter, items: V) -> Self {
        Self {
            cutter: Some(cutter),
            items: items.fuse(),
        }
    }
}

impl<V> std::fmt::Debug for OutboxParts<V> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let run = self.cutter.as_ref().map(|cutter| &cutter.run);
        let mut parts = formatter.debug_struct("OutboxParts");
        parts.field("run", &run).finish_non_exhaustive()
    }
}

impl<V: Iterator<Item: Data>> Iterator for OutboxParts<V> {
    type Item = Result<OutboxInsert>;

    fn next(&mut self) -> Option<Self::Item> {
        let cutter = self.cutter.as_mut()?;
        for item in self.items.by_ref() {
            match cutter.add_to_part(&item) {
                Ok(None) => {}
                Ok(Some(part)) => return Some(Ok(part)),
                Err(error) => {
                    self.cutter = None;
                    return Some(Err(error));
                }
            }
        }
        let last = cutter.part(true);
        self.cutter = None;
        Some(Ok(last))
    }
}

/// Collects the items of a part.
pub(super) struct Cutter {
    outbox: PostgresOutbox,
    run: RunId,
    submission: String,
    codec: Codec,
    /// Of the part that comes next.
    number: u32,
    items: Vec<u8>,
    count: usize,
    /// Items of the parts before it.
    before: u64,
}

impl Cutter {
    pub(super) fn new(outbox: &PostgresOutbox, run: RunId, form: Form) -> Self {
        Self {
            outbox: outbox.clone(),
            run,
            submission: Uuid::new_v4().to_string(),
            codec: match form {
                Form::Wire(codec) => codec,
                Form::Local => Codec::default(),
            },
            number: 0,
            items: Vec::new(),
            count: 0,
            before: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.items.len()
    }

    /// Adds an item to the part.
    pub(super) fn add<I: Data>(&mut self, item: &I) -> Result<()> {
        let encoded = self.encode(item)?;
        self.push(&encoded);
        Ok(())
    }

    /// Adds an item, and returns the part before it if that has no room for it.
    pub(super) fn add_to_part<I: Data>(&mut self, item: &I) -> Result<Option<OutboxInsert>> {
        let encoded = self.encode(item)?;
        let is_full = self.count > 0 && self.items.len() + encoded.len() > PART;
        let part = is_full.then(|| self.part(false));
        self.push(&encoded);
        Ok(part)
    }

    /// The item as the only one of a list, without what begins and ends a list. An item is nested as deep there as in a
    /// packet.
    fn encode<I: Data>(&self, item: &I) -> Result<Vec<u8>> {
        let what = || format!("item {}", self.before + self.count as u64);
        let list = codec::write(std::slice::from_ref(item), self.codec, what())?;
        let bytes = match &list {
            Payload::Encoded(_, bytes) => bytes.as_ref(),
            Payload::Local(_) => &[],
        };
        let inner = match self.codec {
            Codec::Json => bytes.get(1..bytes.len().saturating_sub(1)),
            #[cfg(feature = "postcard")]
            Codec::Postcard => bytes.get(1..),
        };
        Ok(inner.unwrap_or_default().to_vec())
    }

    fn push(&mut self, encoded: &[u8]) {
        if self.codec == Codec::Json && self.count > 0 {
            self.items.push(b',');
        }
        self.items.extend_from_slice(encoded);
        self.count += 1;
    }

    /// The statement of the part. What is added after that is in the next one.
    pub(super) fn part(&mut self, is_last: bool) -> OutboxInsert {
        let items = std::mem::take(&mut self.items);
        let items = match self.codec {
            Codec::Json => Part::Json([b"[", &*items, b"]"].concat().into()),
            #[cfg(feature = "postcard")]
            Codec::Postcard => Part::Compact([length(self.count), items].concat().into()),
        };
        let part = self.outbox.insert(NewPart {
            run: self.run.as_str(),
            submission: &self.submission,
            number: self.number,
            is_last,
            items: &items,
            count: self.count,
        });
        self.number += 1;
        self.before += self.count as u64;
        self.count = 0;
        part
    }
}

/// What a list of this length begins with in the compact codec: seven bits per byte, the lowest first.
#[cfg(feature = "postcard")]
fn length(mut count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(count & 0x7f).unwrap_or(0);
        count >>= 7;
        if count == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
