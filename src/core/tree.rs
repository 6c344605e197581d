//! The arithmetic of the reduction tree: pure, no I/O.
//!
//! A run of `L` leaves is level 0. A group `(level, g)`, level ≥ 1, holds the nodes `g*F .. g*F+F`
//! of the level below, `F = fan_in ≥ 2`, and reducing it yields node `(level, g)`. The root level
//! is the lowest `l ≥ 1` whose level below has *fewer* than `F` nodes: strictly, so that the root
//! group never becomes complete by being full, only by being sealed. A worker that fills a group of
//! `F` members therefore never needs to know whether the input has ended.

use std::ops::Range;

/// The fewest members a group can have: with one, a level would not shrink.
pub(crate) const MIN_FAN_IN: u32 = 2;
/// The most members a group can have, so that a group's state stays a small record in any store.
pub(crate) const MAX_FAN_IN: u32 = 1_000;

/// The highest level a tree can have: that of 2^64 leaves in pairs.
pub(crate) const MAX_LEVEL: u32 = 66;

/// The shape of one run's tree: the number of leaves, and of members per group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    leaves: u64,
    fan_in: u32,
}

/// A group on the right-hand edge, whose size sealing records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) level: u32,
    pub(crate) index: u64,
    pub(crate) expected: u32,
    pub(crate) root: bool,
}

/// The parent of a node: the group's level and index, and the node's slot in it.
pub(crate) fn parent(level: u32, index: u64, fan_in: u32) -> (u32, u64, u32) {
    let fan_in = u64::from(fan_in.max(MIN_FAN_IN));
    // The remainder is below `fan_in`, which is a u32.
    (
        level.saturating_add(1),
        index / fan_in,
        (index % fan_in) as u32,
    )
}

impl Tree {
    /// A tree over `leaves` leaves. A `fan_in` below two, which no caller lets through, counts as
    /// two.
    pub(crate) fn new(leaves: u64, fan_in: u32) -> Self {
        Self {
            leaves,
            fan_in: fan_in.max(MIN_FAN_IN),
        }
    }

    /// The groups whose size sealing records, from level 1 up to the root: at most one per level.
    pub(crate) fn edges(&self) -> Vec<Edge> {
        let fan_in = u64::from(self.fan_in);
        let mut edges = Vec::new();
        let mut below = self.leaves;
        for level in 1.. {
            let root = below < fan_in;
            let last = below.div_ceil(fan_in).saturating_sub(1);
            let members = below - last * fan_in;
            if root || members < fan_in {
                edges.push(Edge {
                    level,
                    index: last,
                    // At most `fan_in`, which is a u32.
                    expected: members as u32,
                    root,
                });
            }
            if root {
                break;
            }
            below = below.div_ceil(fan_in);
        }
        edges
    }

    /// The level of the root group.
    pub(crate) fn root_level(&self) -> u32 {
        let mut below = self.leaves;
        let mut level = 1;
        while below >= u64::from(self.fan_in) {
            below = below.div_ceil(u64::from(self.fan_in));
            level += 1;
        }
        level
    }

    /// The nodes of the level below that belong to a group; none for a group that the tree does not have.
    pub(crate) fn members(&self, level: u32, index: u64) -> Range<u64> {
        let fan_in = u64::from(self.fan_in);
        let below = (1..level).fold(self.leaves, |nodes, _| nodes.div_ceil(fan_in));
        let first = index.saturating_mul(fan_in).min(below);
        first..first.saturating_add(fan_in).min(below)
    }

    /// The number of groups on each level, from level 1 up to the root.
    pub(crate) fn levels(&self) -> Vec<u64> {
        let fan_in = u64::from(self.fan_in);
        let (mut below, mut levels) = (self.leaves, Vec::new());
        while below >= fan_in {
            below = below.div_ceil(fan_in);
            levels.push(below);
        }
        levels.push(1);
        levels
    }

    /// The number of groups on all levels.
    pub(crate) fn groups(&self) -> u64 {
        let groups = self.levels().into_iter();
        groups.fold(0, u64::saturating_add)
    }

    /// The number of groups on level 1.
    pub(crate) fn first_level_groups(&self) -> u64 {
        self.leaves.div_ceil(u64::from(self.fan_in))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Simulates a whole run on a map: every leaf arrives, every complete group is reduced. Returns
    /// the leaves under the root, in order.
    fn reduce(leaves: u64, fan_in: u32) -> Vec<u64> {
        let tree = Tree::new(leaves, fan_in);
        let edges = tree.edges();
        assert_eq!(edges.iter().filter(|edge| edge.root).count(), 1);
        let mut nodes: BTreeMap<(u32, u64), Vec<u64>> =
            (0..leaves).map(|leaf| ((0, leaf), vec![leaf])).collect();
        let root = *edges.last().expect("a root");
        assert_eq!(tree.levels().len(), root.level as usize);
        for level in 1..=root.level {
            let mut groups: BTreeMap<u64, BTreeMap<u32, Vec<u64>>> = BTreeMap::new();
            for ((_, index), values) in nodes.range((level - 1, 0)..(level, 0)) {
                let (above, group, slot) = parent(level - 1, *index, fan_in);
                assert_eq!(above, level);
                groups
                    .entry(group)
                    .or_default()
                    .insert(slot, values.clone());
            }
            if leaves == 0 {
                groups.insert(0, BTreeMap::new());
            }
            let on_this_level = tree.levels()[level as usize - 1];
            assert_eq!(groups.len() as u64, on_this_level, "L={leaves} F={fan_in}");
            for (group, members) in groups {
                let edge = edges.iter().find(|e| e.level == level && e.index == group);
                let expected = edge.map_or(fan_in, |edge| edge.expected);
                assert_eq!(members.len() as u32, expected, "L={leaves} F={fan_in}");
                assert_eq!(edge.is_some_and(|e| e.root), level == root.level);
                nodes.insert((level, group), members.into_values().flatten().collect());
            }
        }
        nodes.remove(&(root.level, root.index)).expect("the root")
    }

    #[test]
    fn every_leaf_reaches_the_root_once_and_in_order() {
        for fan_in in [2, 3, 4, 5, 32] {
            for leaves in 0..=300 {
                assert_eq!(
                    reduce(leaves, fan_in),
                    (0..leaves).collect::<Vec<_>>(),
                    "L={leaves} F={fan_in}"
                );
            }
        }
    }

    #[test]
    fn the_root_is_strict_so_exact_powers_get_a_level_more() {
        // Eight leaves in pairs: 8, 4, 2, 1 nodes. Two nodes would fill the group above them, so
        // the root is one level higher.
        let edges = Tree::new(8, 2).edges();
        assert_eq!(
            edges,
            [Edge {
                level: 4,
                index: 0,
                expected: 1,
                root: true
            }]
        );
    }

    #[test]
    fn groups_know_their_members_and_where_the_root_is() {
        for fan_in in [2, 3, 32] {
            for leaves in 0..=300 {
                let tree = Tree::new(leaves, fan_in);
                let edges = tree.edges();
                assert_eq!(edges.last().map(|edge| edge.level), Some(tree.root_level()));
                for edge in edges {
                    let members = tree.members(edge.level, edge.index);
                    assert_eq!(members.end - members.start, u64::from(edge.expected));
                    assert_eq!(members.start, edge.index * u64::from(fan_in));
                }
                assert!(tree.members(1, tree.first_level_groups()).is_empty());
            }
        }
        let largest = Tree::new(u64::MAX, 2);
        assert!(largest.root_level() <= MAX_LEVEL);
        assert_eq!(largest.members(1, u64::MAX / 2), u64::MAX - 1..u64::MAX);
    }

    #[test]
    fn a_billion_leaves_need_a_handful_of_writes() {
        assert!(Tree::new(1_000_000_007, 32).edges().len() <= 7);
        assert_eq!(
            Tree::new(1_000_000_007, 32).first_level_groups(),
            31_250_001
        );
    }

    #[test]
    fn the_largest_counts_do_not_overflow() {
        assert!(
            Tree::new(u64::MAX, 2)
                .edges()
                .last()
                .is_some_and(|e| e.root && e.level <= MAX_LEVEL)
        );
    }
}
