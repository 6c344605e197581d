//! Groups of the reduction tree: their ids and their state.

use std::fmt;
use std::sync::Arc;

use super::generation::RunKey;

/// A group of up to `fan_in` neighbouring packets that one reduce call combines.
///
/// Groups that differ in any field are different groups. The text of a group is unique among all
/// groups, so that a backend can use it as a key: `{run}#{stage}#{level}#{index}`, followed by
/// `#p{partition}` unless the partition is 0, where `{run}` is the [key](RunKey) with its generation, which fixes the fan-in
/// as well. A run id contains no `#`; a stage's name may.
///
/// ```
/// use catchment::scratchpad::{GroupId, RunKey};
///
/// let run = RunKey::new("a", "6b1f00c2a47e9020".parse()?);
/// let group = GroupId::new(run, "sum", 1, 11);
/// assert_eq!(group.to_string(), "a#6b1f00c2a47e9020#sum#1#11");
/// assert_eq!(group.in_partition(7).to_string(), "a#6b1f00c2a47e9020#sum#1#11#p7");
/// # Ok::<(), catchment::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct GroupId {
    /// The run.
    pub run: RunKey,
    /// The reducing stage.
    pub stage: Arc<str>,
    /// Which of the stage's independent trees; 0 for a plain reduction, which has one.
    pub partition: u32,
    /// 1 directly above the leaves.
    pub level: u32,
    /// From the left, counted from 0.
    pub index: u64,
}

impl GroupId {
    /// The group at this level and index of partition 0.
    pub fn new(run: impl Into<RunKey>, stage: impl Into<Arc<str>>, level: u32, index: u64) -> Self {
        Self {
            run: run.into(),
            stage: stage.into(),
            partition: 0,
            level,
            index,
        }
    }

    /// The group at the same level and index of another partition.
    #[must_use]
    pub fn in_partition(mut self, partition: u32) -> Self {
        self.partition = partition;
        self
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            run,
            stage,
            partition,
            level,
            index,
        } = self;
        write!(formatter, "{run}#{stage}#{level}#{index}")?;
        // Without a partition the text ends in a number, so no two groups share a text.
        match partition {
            0 => Ok(()),
            partition => write!(formatter, "#p{partition}"),
        }
    }
}

/// The state of a group in a scratchpad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupState {
    /// How many different slots have arrived.
    pub arrived: u32,
    /// How many slots there will be, once sealing has recorded it; the fan-in until then.
    pub expected: Option<u32>,
    /// Whether reducing this group yields the result.
    pub root: bool,
    /// Reduced and passed on: its values may be gone.
    pub retired: bool,
}

impl GroupState {
    /// The state of a group in which `arrived` slots have arrived and nothing else is recorded.
    pub fn new(arrived: u32) -> Self {
        Self {
            arrived,
            ..Self::default()
        }
    }

    /// Whether as many members have arrived as the group has, or more, and it still waits to be reduced.
    ///
    /// ```
    /// use catchment::scratchpad::GroupState;
    /// let mut full = GroupState::new(32);
    /// assert!(full.is_ready(32));
    /// full.retired = true;
    /// assert!(!full.is_ready(32));
    ///
    /// let mut last = GroupState::new(3);
    /// last.expected = Some(3);
    /// assert!(last.is_ready(32));
    /// ```
    pub fn is_ready(&self, fan_in: u32) -> bool {
        // A packet that the run does not have, as a stranger may write one, takes a slot beyond those.
        !self.retired && self.arrived >= self.expected.unwrap_or(fan_in)
    }

    /// The state to report for a group whose run is done, cancelled or unknown: any message about
    /// it is a late duplicate, and nothing is left to do.
    pub fn gone() -> Self {
        Self {
            retired: true,
            ..Self::default()
        }
    }
}
