//! What has arrived at a run's reductions.

use std::sync::Arc;

use crate::core::error::Result;
use crate::core::retry::{Policy, retry};
use crate::core::tree::Tree;
use crate::deployment::run::status::GROUPS_AT_ONCE;
use crate::protocol::site::Site;
use crate::scratchpad::{GroupId, RunSnapshot};

/// The arrived slots of a run's groups, counted.
#[derive(Default)]
pub(super) struct Arrived {
    /// Packets that have arrived at the first reduction, in ascending order.
    pub(super) leaves: Vec<u64>,
    /// Groups of the first reduction that all members have arrived at.
    pub(super) complete: u64,
    /// Groups of the first reduction whose outcomes have arrived at the level above: all but for the root.
    pub(super) reduced: u64,
    /// For each later reduction, whether its only leaf has arrived.
    pub(super) later: Vec<bool>,
}

/// A group whose slots are asked for.
#[derive(Clone, Copy)]
enum Asked {
    /// Of the first reduction. `expected` is its size if it is not the fan-in.
    First {
        level: u32,
        index: u64,
        expected: Option<u32>,
    },
    /// Of a later reduction, by its number.
    Later(usize),
}

impl Arrived {
    /// Counts the slots of all groups of a run, a thousand per call.
    pub(super) async fn read(site: &Site, snapshot: &RunSnapshot) -> Result<Self> {
        let record = &snapshot.record;
        let mut arrived = Self::default();
        let later = site.definition.reductions().skip(1);
        let later = (0..later.count()).map(Asked::Later);
        match record.packets {
            // The whole tree in one list, from the top: the number of calls is that of its lowest level, or one more.
            Some(packets) => {
                let groups = later.chain(groups(packets, record.fan_in, 1));
                arrived.add(site, snapshot, groups).await?;
            }
            // It has no end yet, and the lowest level shows how much of the others there can be.
            None => {
                let lowest = (0..).map(|index| Asked::First {
                    level: 1,
                    index,
                    expected: None,
                });
                arrived.add(site, snapshot, later.chain(lowest)).await?;
                if let Some(last) = arrived.leaves.last() {
                    let others = groups(last + 1, record.fan_in, 2).map(Asked::of_unknown_size);
                    arrived.add(site, snapshot, others).await?;
                }
            }
        }
        Ok(arrived)
    }

    /// Asks for groups until there are none left, or until a stretch of the lowest level has no arrivals: how much of a run
    /// has been sent is unknown while it is being submitted, and may be little of a very long one.
    async fn add(
        &mut self,
        site: &Site,
        snapshot: &RunSnapshot,
        mut groups: impl Iterator<Item = Asked>,
    ) -> Result<()> {
        loop {
            let asked: Vec<Asked> = groups.by_ref().take(GROUPS_AT_ONCE as usize).collect();
            if asked.is_empty() {
                return Ok(());
            }
            let ids: Vec<GroupId> = asked
                .iter()
                .filter_map(|group| group.id(site, snapshot))
                .collect();
            let scratchpad = site.scratchpad();
            let slots = retry("arrived", Policy::FOREVER, || scratchpad.arrived(&ids)).await?;
            let before = self.leaves.len();
            for (group, slots) in asked.iter().zip(slots) {
                self.count(*group, snapshot.record.fan_in, slots);
            }
            let had_lowest = asked.last().is_some_and(Asked::is_lowest);
            if had_lowest && !snapshot.submitted && self.leaves.len() == before {
                return Ok(());
            }
        }
    }

    fn count(&mut self, group: Asked, fan_in: u32, slots: Vec<u32>) {
        let Asked::First {
            level,
            index,
            expected,
        } = group
        else {
            self.later.push(!slots.is_empty());
            return;
        };
        // A stranger may have written packets that the run does not have.
        let size = expected.unwrap_or(fan_in);
        let slots: Vec<u32> = slots.into_iter().filter(|slot| *slot < size).collect();
        if slots.len() as u64 == u64::from(size) {
            self.complete += 1;
        }
        if level > 1 {
            self.reduced += slots.len() as u64;
            return;
        }
        let first = index * u64::from(fan_in);
        let leaves = slots.into_iter().map(|slot| first + u64::from(slot));
        self.leaves.extend(leaves);
    }
}

impl Asked {
    /// `None` never, since what is asked for follows from the definition.
    fn id(&self, site: &Site, snapshot: &RunSnapshot) -> Option<GroupId> {
        let record = &snapshot.record;
        let (stage, level, index) = match *self {
            Self::First { level, index, .. } => (Arc::from(&*record.reduce_stage), level, index),
            Self::Later(number) => {
                let stage = site.definition.reductions().nth(number + 1)?;
                (Arc::clone(&stage.name), 1, 0)
            }
        };
        Some(GroupId::new(record.key(), stage, level, index))
    }

    fn is_lowest(&self) -> bool {
        matches!(self, Self::First { level: 1, .. })
    }

    /// The same group of a tree without an end.
    fn of_unknown_size(self) -> Self {
        match self {
            Self::First { level, index, .. } => Self::First {
                level,
                index,
                expected: None,
            },
            Self::Later(number) => Self::Later(number),
        }
    }
}

/// The groups of the first reduction's tree, from the root down to `lowest`.
fn groups(packets: u64, fan_in: u32, lowest: u32) -> impl Iterator<Item = Asked> {
    let tree = Tree::new(packets, fan_in);
    let edges = tree.edges();
    let levels = (1u32..).zip(tree.levels()).skip(lowest as usize - 1);
    let levels: Vec<(u32, u64)> = levels.collect();
    levels.into_iter().rev().flat_map(move |(level, groups)| {
        let edges = edges.clone();
        (0..groups).map(move |index| {
            let edge = |edge: &&crate::core::tree::Edge| (edge.level, edge.index) == (level, index);
            let expected = edges.iter().find(edge).map(|edge| edge.expected);
            Asked::First {
                level,
                index,
                expected,
            }
        })
    })
}
