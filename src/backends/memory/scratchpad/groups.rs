//! The groups of each run.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::MemoryScratchpad;
use super::ranges::Ranges;
use super::runs::Run;
use crate::core::error::Result;
use crate::scratchpad::{Arrival, GroupId, GroupState, Groups, Members};

#[async_trait]
impl Groups for MemoryScratchpad {
    async fn expect(&self, group: &GroupId, expected: u32, root: bool) -> Result<GroupState> {
        Ok(self.write_group(group, |run| run.groups.expect(group, expected, root)))
    }

    async fn arrive(&self, arrivals: Vec<Arrival>) -> Result<Vec<GroupState>> {
        let mut states = Vec::with_capacity(arrivals.len());
        let mut arrivals = arrivals.into_iter().peekable();
        // Neighbours of one run share a look-up. A batch rarely has more than one run.
        while let Some(first) = arrivals.next() {
            let key = first.group.run.clone();
            let mut next = Some(first);
            let mut stretch = |run: &mut Run| {
                while let Some(arrival) = next.take() {
                    let Arrival { group, slot, value } = arrival;
                    states.push(run.groups.arrive(&group, slot, value));
                    next = arrivals.next_if(|next| next.group.run == key);
                }
            };
            let known = self.write_key(&key, |run| (!run.is_over()).then(|| stretch(run)));
            if known.flatten().is_none() {
                states.push(GroupState::gone());
            }
        }
        Ok(states)
    }

    async fn members(&self, group: &GroupId) -> Result<Members> {
        let members = self.read_key(&group.run, |run| {
            (!run.is_over()).then(|| run.groups.members(group))
        });
        Ok(members.flatten().unwrap_or(Members::Retired))
    }

    async fn retire(&self, group: &GroupId) -> Result<()> {
        self.write_group(group, |run| {
            run.groups.retire(group);
            GroupState::gone()
        });
        Ok(())
    }

    async fn arrived(&self, groups: &[GroupId]) -> Result<Vec<Vec<u32>>> {
        let arrived = groups.iter().map(|group| {
            self.read_key(&group.run, |run| run.groups.arrived(group))
                .unwrap_or_default()
        });
        Ok(arrived.collect())
    }
}

/// The groups of one run by reducing stage. Stages are few, so a linear search is enough.
#[derive(Debug, Default)]
pub(super) struct Stages(Vec<(Arc<str>, Stage)>);

impl Stages {
    pub(super) fn expect(&mut self, id: &GroupId, expected: u32, root: bool) -> GroupState {
        let group = self.stage_mut(&id.stage).group_mut(id);
        group.expected = Some(expected);
        group.root = root;
        group.state()
    }

    pub(super) fn arrive(&mut self, id: &GroupId, slot: u32, value: Bytes) -> GroupState {
        self.stage_mut(&id.stage).arrive(id, slot, value)
    }

    pub(super) fn members(&self, id: &GroupId) -> Members {
        self.stage(&id.stage)
            .map_or_else(|| Group::default().members(), |stage| stage.members(id))
    }

    pub(super) fn retire(&mut self, id: &GroupId) {
        self.stage_mut(&id.stage).retire(id);
    }

    pub(super) fn arrived(&self, id: &GroupId) -> Vec<u32> {
        self.stage(&id.stage)
            .map_or_else(Vec::new, |stage| stage.arrived(id))
    }

    fn stage(&self, name: &str) -> Option<&Stage> {
        self.0
            .iter()
            .find_map(|(stage, groups)| (**stage == *name).then_some(groups))
    }

    fn stage_mut(&mut self, name: &Arc<str>) -> &mut Stage {
        let known = self.0.iter().position(|(stage, _)| stage == name);
        let position = known.unwrap_or_else(|| {
            self.0.push((Arc::clone(name), Stage::default()));
            self.0.len() - 1
        });
        #[expect(
            clippy::indexing_slicing,
            reason = "the position was found or made just now"
        )]
        &mut self.0[position].1
    }
}

/// * Partition, level and index of a group.
type Place = (u32, u32, u64);

fn place(id: &GroupId) -> Place {
    (id.partition, id.level, id.index)
}

/// The groups of one stage by partition, level and index.
///
/// Nothing but its retirement is kept of a group that was full when it retired. Such groups are
/// kept as ranges of indices, since nearly all groups of an endless stream end like this, and in
/// order.
#[derive(Debug, Default)]
struct Stage {
    groups: HashMap<Place, Group>,
    /// By partition and level, the indices of the groups that retired with exactly `full` members.
    retired: HashMap<(u32, u32), Ranges>,
    /// The number of members of the groups in `retired`: the fan-in, taken from the first of them.
    full: Option<u32>,
}

impl Stage {
    fn arrive(&mut self, id: &GroupId, slot: u32, value: Bytes) -> GroupState {
        match self.groups.entry(place(id)) {
            Entry::Occupied(mut group) => {
                group.get_mut().arrive(slot, value);
                group.get().state()
            }
            Entry::Vacant(place) => match compacted(&self.retired, self.full, id) {
                Some(full) => GroupState {
                    arrived: full,
                    ..GroupState::gone()
                },
                None => {
                    let group = place.insert(Group::default());
                    group.arrive(slot, value);
                    group.state()
                }
            },
        }
    }

    fn members(&self, id: &GroupId) -> Members {
        match self.groups.get(&place(id)) {
            Some(group) => group.members(),
            None if compacted(&self.retired, self.full, id).is_some() => Members::Retired,
            None => Group::default().members(),
        }
    }

    fn arrived(&self, id: &GroupId) -> Vec<u32> {
        match self.groups.get(&place(id)) {
            Some(group) => group.members.iter().map(|(slot, _)| *slot).collect(),
            None => compacted(&self.retired, self.full, id)
                .map_or_else(Vec::new, |full| (0..full).collect()),
        }
    }

    fn retire(&mut self, id: &GroupId) {
        if compacted(&self.retired, self.full, id).is_some() {
            return;
        }
        let place = place(id);
        let group = self.groups.entry(place).or_default();
        group.retire();
        if let Some(members) = group.is_filled()
            && *self.full.get_or_insert(members) == members
        {
            self.groups.remove(&place);
            self.retired
                .entry((id.partition, id.level))
                .or_default()
                .insert(id.index);
        }
    }

    fn group_mut(&mut self, id: &GroupId) -> &mut Group {
        let full = compacted(&self.retired, self.full, id);
        if full.is_some()
            && let Some(ranges) = self.retired.get_mut(&(id.partition, id.level))
        {
            ranges.remove(id.index);
        }
        self.groups
            .entry(place(id))
            .or_insert_with(|| full.map_or_else(Group::default, Group::retired))
    }
}

/// The number of members of a group that is kept in `retired`; `None` if it is not.
fn compacted(
    retired: &HashMap<(u32, u32), Ranges>,
    full: Option<u32>,
    id: &GroupId,
) -> Option<u32> {
    let ranges = retired.get(&(id.partition, id.level))?;
    ranges.contains(id.index).then_some(full)?
}

#[derive(Debug, Default)]
struct Group {
    /// In slot order. The values of a retired group are empty.
    members: Vec<(u32, Bytes)>,
    expected: Option<u32>,
    root: bool,
    retired: bool,
}

impl Group {
    fn retired(members: u32) -> Self {
        Self {
            members: (0..members).map(|slot| (slot, Bytes::new())).collect(),
            retired: true,
            ..Self::default()
        }
    }

    fn arrive(&mut self, slot: u32, value: Bytes) {
        if self.retired {
            return;
        }
        if let Err(place) = self.members.binary_search_by_key(&slot, |(slot, _)| *slot) {
            self.members.insert(place, (slot, value));
        }
    }

    fn retire(&mut self) {
        self.retired = true;
        for (_, value) in &mut self.members {
            *value = Bytes::new();
        }
    }

    /// The number of members, if they fill the first slots without a gap and nothing else is
    /// recorded of the group.
    fn is_filled(&self) -> Option<u32> {
        let members = self.members.len() as u32;
        let (last, _) = self.members.last()?;
        let is_plain = self.expected.is_none() && !self.root;
        (is_plain && last + 1 == members).then_some(members)
    }

    fn state(&self) -> GroupState {
        GroupState {
            arrived: self.members.len() as u32,
            expected: self.expected,
            root: self.root,
            retired: self.retired,
        }
    }

    fn members(&self) -> Members {
        if self.retired {
            return Members::Retired;
        }
        Members::Present {
            state: self.state(),
            values: self.members.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::generation::{Generation, RunKey};

    fn group(index: u64) -> GroupId {
        GroupId::new(RunKey::new("a", Generation::default()), "sum", 1, index)
    }

    fn full_and_retired(groups: &mut Stages, count: u64) {
        for index in 0..count {
            for slot in 0..4 {
                groups.arrive(&group(index), slot, "value".into());
            }
            groups.retire(&group(index));
        }
    }

    #[test]
    fn retired_groups_take_no_room() {
        let mut groups = Stages::default();
        full_and_retired(&mut groups, 10_000);
        let stage = groups.stage("sum").unwrap();
        assert!(stage.groups.is_empty());
        assert_eq!(
            format!("{:?}", stage.retired),
            "{(0, 1): Ranges({0: 9999})}"
        );
    }

    #[test]
    fn a_retired_group_is_retired_in_its_own_partition_only() {
        let mut groups = Stages::default();
        full_and_retired(&mut groups, 3);
        let other = group(1).in_partition(1);
        assert_eq!(groups.arrived(&other), [0; 0]);
        assert_eq!(groups.arrive(&other, 2, "value".into()).arrived, 1);
        assert_eq!(groups.members(&group(1)), Members::Retired);
    }

    #[test]
    fn a_retired_group_keeps_its_slots() {
        let mut groups = Stages::default();
        full_and_retired(&mut groups, 3);
        let retired = GroupState {
            arrived: 4,
            ..GroupState::gone()
        };
        assert_eq!(groups.arrive(&group(1), 2, "late".into()), retired);
        assert_eq!(groups.members(&group(1)), Members::Retired);
        assert_eq!(groups.arrived(&group(1)), [0, 1, 2, 3]);
        groups.retire(&group(1));
        assert_eq!(groups.arrived(&group(1)), [0, 1, 2, 3]);

        let told = groups.expect(&group(1), 4, false);
        assert_eq!(told.expected, Some(4));
        assert!(told.retired);
        assert_eq!(groups.arrived(&group(1)), [0, 1, 2, 3]);
        assert_eq!(groups.members(&group(0)), Members::Retired);
        assert_eq!(groups.members(&group(2)), Members::Retired);
    }

    #[test]
    fn a_group_that_retired_with_other_members_is_kept_as_it_was() {
        let mut groups = Stages::default();
        full_and_retired(&mut groups, 1);
        groups.arrive(&group(7), 0, "a".into());
        groups.arrive(&group(7), 2, "c".into());
        groups.retire(&group(7));
        assert_eq!(groups.arrived(&group(7)), [0, 2]);
        assert!(groups.arrive(&group(7), 1, "late".into()).retired);
        assert_eq!(groups.arrived(&group(7)), [0, 2]);
    }
}
