//! The running hash of what a submission sends, by which a repetition is compared with it.
//!
//! Items are not hashed as they are encoded: a `HashMap` has another order in each process, and a deployment may change
//! its codec while a run is open. Each item is written in a form of its own instead (`writer.rs`), in which the order
//! of a map's entries makes no difference. The form is described in `docs/wire-format.md`, and must not change: a run
//! may be repeated by a later version of the program.

mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use serde::ser::Error;
use twox_hash::xxhash3_128::Hasher;

use self::writer::{Problem, Writer};
use crate::core::fingerprint::Fingerprint;
use crate::core::panic::panicked;

/// Comes before each packet's items.
const PACKET: u8 = 0x10;

/// The form of many items is hashed in pieces of this size, which stay in the processor's cache.
const PIECE: usize = 16 * 1024;

/// Hashes packets, one after the other.
pub(crate) struct Fingerprinter {
    hasher: Hasher,
    writer: Writer,
}

impl Fingerprinter {
    pub(crate) fn new() -> Self {
        Self {
            hasher: Hasher::new(),
            writer: Writer::default(),
        }
    }

    /// Adds the next packet. After an error, the fingerprint means nothing.
    ///
    /// # Errors
    /// That of an item that cannot be serialized, or whose `Serialize` panics.
    pub(crate) fn add<T: Serialize>(&mut self, items: &[T]) -> Result<(), Problem> {
        let added = catch_unwind(AssertUnwindSafe(|| self.add_all(items)));
        added.unwrap_or_else(|panic| Err(Problem::custom(panicked(panic))))
    }

    fn add_all<T: Serialize>(&mut self, items: &[T]) -> Result<(), Problem> {
        self.writer.count(PACKET, items.len());
        for item in items {
            item.serialize(&mut self.writer)?;
            if self.writer.written().len() >= PIECE {
                self.hash();
            }
        }
        self.hash();
        Ok(())
    }

    /// The fingerprint of the packets so far.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.hasher.finish_128().into()
    }

    fn hash(&mut self) {
        self.hasher.write(self.writer.written());
        self.writer.clear();
    }
}

#[cfg(test)]
mod tests;
