//! How far a submission is, on the run's record.

use crate::core::error::Error;
use crate::core::fingerprint::Fingerprint;
use crate::core::id::RunId;

/// The first packets of a run: how many there are, and what was in them. What is on record as a checkpoint is on the
/// first stage's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// Number of packets.
    pub packets: u64,
    /// Number of items in these packets.
    pub items: u64,
    /// The hash of these packets, by which a repeated submission is compared with the first.
    pub fingerprint: Fingerprint,
}

impl Checkpoint {
    /// A checkpoint after these packets.
    pub fn new(packets: u64, items: u64, fingerprint: Fingerprint) -> Self {
        Self {
            packets,
            items,
            fingerprint,
        }
    }

    /// The error for a submission that has reached this point with other items than another one has.
    ///
    /// ```
    /// use catchment::scratchpad::{Checkpoint, Fingerprint};
    ///
    /// let recorded = Checkpoint::new(13, 1_300, Fingerprint::default());
    /// assert_eq!(
    ///     recorded.differs(&"k".into()).to_string(),
    ///     "cannot submit run k: some of packets 0 to 12 (items 0 to 1299) differ from those submitted under this id before; \
    ///      use another id, or the same items in the same order"
    /// );
    /// ```
    pub fn differs(&self, run: &RunId) -> Error {
        let last = |count: u64| count.saturating_sub(1);
        Error::Submission {
            run: run.clone(),
            problem: format!(
                "some of packets 0 to {} (items 0 to {}) differ from those submitted under this id before; \
                 use another id, or the same items in the same order",
                last(self.packets),
                last(self.items)
            ),
        }
    }
}
