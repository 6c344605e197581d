//! Groups: the partial results that have arrived, and which group is complete.

use async_trait::async_trait;
use bytes::Bytes;

use crate::core::error::Result;
use crate::core::group::{GroupId, GroupState};

/// The groups of a [`Scratchpad`](super::Scratchpad): for each one the set of slots that have arrived, with their
/// values, its size if known, and whether it has been reduced.
///
/// # Errors
/// [`Error::Backend`](crate::Error::Backend) if the store cannot be reached or refuses the call, with `retryable` set
/// for a transient problem.
#[async_trait]
pub trait Groups: Send + Sync {
    /// Sets a group's size, `expected` members, and whether it is the root. Atomic; the same values again change
    /// nothing. Returns the group's state after the write.
    async fn expect(&self, group: &GroupId, expected: u32, root: bool) -> Result<GroupState>;

    /// Stores each value if its slot is empty, then adds the slot to the group's arrived set, in that order: a reader
    /// that sees the slot can read the value. A slot that is taken keeps its first value. Atomic for each arrival, not
    /// for the batch. Returns the group's state for each arrival, in the order given, as it was at or after that
    /// arrival's own write; of the arrivals that fill a group at least one sees it full.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge), before anything is written, if the store cannot hold a value.
    async fn arrive(&self, arrivals: Vec<Arrival>) -> Result<Vec<GroupState>>;

    /// The members of a group, in slot order. May return fewer values than arrived slots while another worker retires
    /// the group; the reader then reads again.
    async fn members(&self, group: &GroupId) -> Result<Members>;

    /// Marks a group as reduced and passed on. Idempotent. Its values may be dropped; its slots stay taken.
    async fn retire(&self, group: &GroupId) -> Result<()>;

    /// The arrived slots of each group, in the order of `groups`; empty for a group that has not been written to, or
    /// whose run is over.
    async fn arrived(&self, groups: &[GroupId]) -> Result<Vec<Vec<u32>>>;
}

/// A partial result on its way into a slot of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Arrival {
    /// The group.
    pub group: GroupId,
    /// Which member of the group, counted from 0.
    pub slot: u32,
    /// The packet in its wire format.
    pub value: Bytes,
}

impl Arrival {
    /// A value for a slot of a group.
    pub fn new(group: GroupId, slot: u32, value: impl Into<Bytes>) -> Self {
        Self {
            group,
            slot,
            value: value.into(),
        }
    }
}

/// What [`Groups::members`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Members {
    /// The group is still to be reduced.
    #[non_exhaustive]
    Present {
        /// Its state.
        state: GroupState,
        /// The values that have arrived with their slots, in slot order.
        values: Vec<(u32, Bytes)>,
    },
    /// The group has been reduced and passed on, or its run is over or unknown.
    Retired,
}

impl Members {
    /// A group that is still to be reduced: its state, and the values that have arrived with their slots, in slot order.
    pub fn present(state: GroupState, values: Vec<(u32, Bytes)>) -> Self {
        Self::Present { state, values }
    }
}
