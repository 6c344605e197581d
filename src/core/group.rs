//! Groups of the reduction tree: their ids, and what is known of them.

use std::fmt;
use std::sync::Arc;

use super::id::ArrayId;

/// A group of up to `fan_in` neighbouring packets that one reduce call combines.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId {
    /// The run.
    pub array_id: ArrayId,
    /// The reducing stage.
    pub stage: Arc<str>,
    /// 1 directly above the leaves.
    pub level: u32,
    /// From the left, counted from 0.
    pub index: u64,
}

impl fmt::Display for GroupId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            array_id,
            stage,
            level,
            index,
        } = self;
        write!(formatter, "{array_id}#{stage}#{level}#{index}")
    }
}

/// What a scratchpad knows of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupState {
    /// How many different slots have arrived.
    pub arrived: u32,
    /// How many there will be, where sealing has said so; otherwise the fan-in.
    pub expected: Option<u32>,
    /// Whether reducing this group yields the result.
    pub root: bool,
    /// Reduced and passed on: its values may be gone.
    pub retired: bool,
}

impl GroupState {
    /// Whether every member has arrived and the group still waits to be reduced.
    ///
    /// ```
    /// use catchment::scratchpad::GroupState;
    /// let full = GroupState { arrived: 32, ..GroupState::default() };
    /// assert!(full.is_ready(32));
    /// assert!(!GroupState { retired: true, ..full }.is_ready(32));
    /// assert!(GroupState { arrived: 3, expected: Some(3), ..GroupState::default() }.is_ready(32));
    /// ```
    pub fn is_ready(&self, fan_in: u32) -> bool {
        !self.retired && self.arrived == self.expected.unwrap_or(fan_in)
    }

    /// The state to report for a group whose run is done, cancelled or unknown: whatever comes
    /// for it now is late, and there is nothing left to do.
    pub fn gone() -> Self {
        Self {
            retired: true,
            ..Self::default()
        }
    }
}
