//! The nodes of one run's tree, numbered: the leaves first, then level by level, the root last.
//!
//! A group and the node that reducing it yields are one thing here, and so is the message that asks
//! for it: message `n` makes node `n`, from the items of a packet or from the members of a group.
//! These messages are followed by the bundles, each of which makes the node above its packets from
//! their items.

use std::collections::BTreeMap;

use super::state::{Set, Value};
use crate::core::tree::{self, Edge, Tree};

pub(super) struct Node {
    pub(super) level: u32,
    index: u64,
    /// The group that this node is a member of.
    pub(super) parent: usize,
    /// The nodes of this group, in the order of their slots. A leaf has none.
    pub(super) members: Vec<usize>,
    pub(super) member_set: Set,
    /// What sealing records for this group.
    pub(super) edge: Option<Edge>,
    /// Its correct value: the leaves under it, in order.
    pub(super) value: Value,
}

impl Node {
    pub(super) fn is_leaf(&self) -> bool {
        self.level == 0
    }
}

pub(super) struct Nodes {
    nodes: Vec<Node>,
    pub(super) leaves: usize,
    pub(super) root: usize,
    /// The groups whose packets travel as a bundle, in the order of the bundles.
    together: Vec<usize>,
}

impl std::ops::Index<usize> for Nodes {
    type Output = Node;

    fn index(&self, node: usize) -> &Node {
        &self.nodes[node]
    }
}

impl Nodes {
    /// The nodes by the library's own arithmetic. There is one more group above the root: it must
    /// not be written to, but a root that is treated as an inner node does.
    pub(super) fn new(leaves: u64, fan_in: u32, edges: &[Edge]) -> Self {
        let root = edges.last().expect("a tree has a root");
        let mut places: Vec<(u32, u64)> = (0..leaves).map(|leaf| (0, leaf)).collect();
        for level in 1..=root.level + 1 {
            let below = places.iter().filter(|(below, _)| below + 1 == level);
            let above_members = below.map(|(level, index)| tree::parent(*level, *index, fan_in).1);
            // Without leaves there is nothing below the root.
            let told = edges.iter().filter(|edge| edge.level == level);
            let mut groups: Vec<u64> = above_members.chain(told.map(|edge| edge.index)).collect();
            groups.sort_unstable();
            groups.dedup();
            places.extend(groups.into_iter().map(|index| (level, index)));
        }
        let numbers: BTreeMap<_, _> = places.iter().copied().zip(0..).collect();
        let mut nodes: Vec<Node> = Vec::new();
        for (number, place) in places.iter().enumerate() {
            let (level, index) = *place;
            let (above, group, _) = tree::parent(level, index, fan_in);
            let of_group = |member: &usize| nodes[*member].parent == number;
            let members: Vec<usize> = (0..number).filter(of_group).collect();
            let parts = members.iter().map(|member| nodes[*member].value);
            nodes.push(Node {
                level,
                index,
                parent: numbers.get(&(above, group)).copied().unwrap_or(number),
                value: match level {
                    0 => Value::leaf(number),
                    _ => parts.fold(Value::EMPTY, Value::then),
                },
                member_set: members.iter().copied().collect(),
                members,
                edge: edges
                    .iter()
                    .find(|edge| (edge.level, edge.index) == *place)
                    .copied(),
            });
        }
        Self {
            root: nodes.len() - 2,
            nodes,
            leaves: leaves as usize,
            together: Vec::new(),
        }
    }

    /// Makes bundles of the groups with at least this many packets.
    pub(super) fn put_together(&mut self, packets: u32) {
        let above = self.groups().filter(|group| self[*group].level == 1);
        let full = above.filter(|group| self[*group].members.len() >= packets as usize);
        self.together = full.collect();
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The number of possible messages.
    pub(super) fn messages(&self) -> usize {
        self.len() + self.together.len()
    }

    /// The node that a message makes.
    pub(super) fn made_by(&self, message: usize) -> usize {
        let together = message.checked_sub(self.len());
        together.map_or(message, |place| self.together[place])
    }

    pub(super) fn is_together(&self, message: usize) -> bool {
        message >= self.len()
    }

    /// Whether the packets of a group travel as a bundle.
    pub(super) fn travels(&self, group: usize) -> bool {
        self.together.contains(&group)
    }

    /// The number of packets in a bundle; 0 for any other message.
    pub(super) fn packets(&self, message: usize) -> usize {
        match self.is_together(message) {
            true => self[self.made_by(message)].members.len(),
            false => 0,
        }
    }

    /// The messages that a submitter sends, in the order of their packets.
    pub(super) fn sent(&self) -> Vec<usize> {
        let mut messages: Vec<usize> = (0..self.leaves).collect();
        for (message, group) in (self.len()..).zip(&self.together) {
            let members = &self[*group].members;
            messages.retain(|leaf| !members[1..].contains(leaf));
            let first = messages.iter_mut().find(|leaf| **leaf == members[0]);
            *first.expect("a packet of the group") = message;
        }
        messages
    }

    /// The packets that travel in bundles.
    pub(super) fn travellers(&self) -> Set {
        let members = self.together.iter().flat_map(|group| &self[*group].members);
        members.copied().collect()
    }

    /// The groups that are to be reduced, from level 1 to the root.
    pub(super) fn groups(&self) -> std::ops::RangeInclusive<usize> {
        self.leaves..=self.root
    }

    /// The groups on the right-hand edge, in the order in which they are sealed.
    pub(super) fn edges(&self) -> impl Iterator<Item = usize> + '_ {
        self.groups().filter(|group| self[*group].edge.is_some())
    }

    pub(super) fn name(&self, message: usize) -> String {
        let Node { level, index, .. } = self[self.made_by(message)];
        match level {
            0 => format!("map {index}"),
            _ if self.is_together(message) => format!("maps under {level}/{index}"),
            _ => format!("reduce {level}/{index}"),
        }
    }
}

pub(super) fn edges(leaves: u64, fan_in: u32) -> Vec<Edge> {
    Tree::new(leaves, fan_in).edges()
}

/// What sealing would record if the root were on the lowest level that *fits* into one group, and
/// not on the lowest that does not fill it.
pub(super) fn edges_not_strict(leaves: u64, fan_in: u32) -> Vec<Edge> {
    let fan_in = u64::from(fan_in);
    let mut edges = Vec::new();
    let mut below = leaves;
    for level in 1.. {
        let root = below <= fan_in;
        let last = below.div_ceil(fan_in).saturating_sub(1);
        let members = below - last * fan_in;
        if root || members < fan_in {
            edges.push(Edge {
                level,
                index: last,
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
