//! The items of a submission in the outbox, read part after part.

use std::sync::Arc;
use std::vec;

use serde_json::value::RawValue;

use crate::core::error::{BoxError, Error, Result};
use crate::core::retry::{Policy, retry};
use crate::outbox::{Entry, Outbox, Part};
use crate::packet::codec::{self, Payload};
use crate::stage::Data;
use crate::submit::Source;

/// Has one part in memory.
pub(super) struct OutboxSource<I> {
    outbox: Arc<dyn Outbox>,
    entry: Entry,
    next_part: u32,
    /// Of the part before that.
    items: vec::IntoIter<I>,
    /// Why the item after them cannot be read.
    broken: Option<Error>,
}

impl<I: Data> OutboxSource<I> {
    pub(super) fn new(outbox: Arc<dyn Outbox>, entry: Entry) -> Self {
        Self {
            outbox,
            entry,
            next_part: 0,
            items: Vec::new().into_iter(),
            broken: None,
        }
    }

    async fn read_part(&mut self) -> Result<()> {
        let number = self.next_part;
        let read = retry("read the outbox", Policy::FOREVER, || {
            self.outbox.part(&self.entry, number)
        });
        let Some(part) = read.await? else {
            let problem = format!("part {number} has gone from the outbox");
            return Err(Error::submission(&self.entry.run, problem));
        };
        let payload = match part {
            Part::Json(bytes) => Payload::json(bytes),
            #[cfg(feature = "postcard")]
            Part::Compact(bytes) => Payload::Encoded(codec::Codec::Postcard, bytes),
            #[cfg(not(feature = "postcard"))]
            Part::Compact(_) => {
                let problem = "it is in the compact codec, and this program was built without the feature `postcard` of catchment";
                return Err(Error::submission(&self.entry.run, problem));
            }
        };
        let what = format!("part {number} of the submission");
        let (items, broken) = match codec::decode_list::<I>(&payload, &what) {
            Ok(items) => (items, None),
            Err((error, None)) => return Err(error),
            Err((error, Some(position))) => (first(&payload, position)?, Some(error)),
        };
        self.items = items.into_iter();
        self.broken = broken;
        self.next_part += 1;
        Ok(())
    }
}

/// The values before the one that cannot be read.
fn first<I: Data>(payload: &Payload, count: usize) -> Result<Vec<I>> {
    let Payload::Encoded(_, bytes) = payload else {
        return Ok(Vec::new());
    };
    let what = "an item of the submission";
    let values: Vec<&RawValue> =
        serde_json::from_slice(bytes).map_err(|error| Error::decode(what, error))?;
    let values = values.into_iter().take(count);
    values
        .map(|value| {
            let bytes = value.get().as_bytes().to_vec();
            codec::decode(&Payload::json(bytes.into()), what)
        })
        .collect()
}

impl<I: Data> Source for OutboxSource<I> {
    type Item = I;

    fn length(&self) -> Option<u64> {
        Some(self.entry.items)
    }

    async fn fill(
        &mut self,
        items: &mut Vec<I>,
        count: usize,
    ) -> std::result::Result<(), BoxError> {
        while items.len() < count {
            if let Some(item) = self.items.next() {
                items.push(item);
            } else if let Some(error) = self.broken.take() {
                return Err(error.into());
            } else if self.next_part < self.entry.parts {
                self.read_part().await?;
            } else {
                break;
            }
        }
        Ok(())
    }
}
