//! The nodes of one grouped run, numbered from the leaves to the result.
//!
//! As in the plain model, a group and the node that reducing it yields are one thing here, and so is the message that asks
//! for it. A group directly above the leaves makes a node for each partition, its *parts*; these have no message.

use super::rules::Mutation;
use super::state::{NODES, Set};
use super::{After, Setting};
use crate::core::tree::{self, Edge, Tree};
use crate::model::nodes::edges_not_strict;

pub(super) const PARTITIONS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Leaf(u64),
    /// A group above the leaves, whose members all partitions share.
    Split(u64),
    /// What a partition gets of a split.
    Part(u64, usize),
    /// A group of a partition's own tree.
    Group(usize, u32, u64),
    /// A partition's part of the result.
    Result(usize),
    /// The result's parts.
    Answer,
    /// A partition's value as a packet of the next stage.
    Packet(usize),
    /// A group of the reduction that follows.
    After(u32, u64),
}

pub(super) struct Node {
    pub(super) place: Place,
    /// The group that this node is a member of.
    pub(super) parent: usize,
    /// The nodes of this group, in the order of their slots.
    pub(super) members: Vec<usize>,
    pub(super) member_set: Set,
    /// What sealing records for this group.
    pub(super) edge: Option<Edge>,
    /// The nodes that this one's message makes, in the order of the partitions.
    pub(super) makes: Vec<usize>,
    /// The node that its message makes if the group is a root.
    pub(super) makes_as_root: Option<usize>,
    /// The leaves under it.
    pub(super) leaves: u8,
}

impl Node {
    /// Whether this node is worked on without reading a group.
    pub(super) fn is_packet(&self) -> bool {
        matches!(self.place, Place::Leaf(_) | Place::Packet(_))
    }

    pub(super) fn is_group(&self) -> bool {
        matches!(
            self.place,
            Place::Split(_) | Place::Group(..) | Place::After(..)
        )
    }

    /// The partition that its value belongs to.
    pub(super) fn partition(&self) -> Option<usize> {
        match self.place {
            Place::Part(_, partition)
            | Place::Group(partition, ..)
            | Place::Result(partition)
            | Place::Packet(partition) => Some(partition),
            _ => None,
        }
    }
}

pub(super) struct Shape {
    nodes: Vec<Node>,
    pub(super) leaves: usize,
    /// The groups that no run has: a root that is treated as an inner node writes there.
    above: Set,
}

impl std::ops::Index<usize> for Shape {
    type Output = Node;

    fn index(&self, node: usize) -> &Node {
        &self.nodes[node]
    }
}

impl Shape {
    pub(super) fn new(setting: &Setting) -> Self {
        let mut shape = Self {
            nodes: Vec::new(),
            leaves: setting.leaves as usize,
            above: Set::default(),
        };
        let leaves = (0..setting.leaves).map(|leaf| shape.add(Place::Leaf(leaf), &[]));
        let leaves: Vec<usize> = leaves.collect();
        for leaf in &leaves {
            shape.nodes[*leaf].leaves = 1 << leaf;
        }
        let (sources, level) = match setting.has(Mutation::SplitAtTheLeaves) {
            true => (leaves, 0),
            false => (shape.add_splits(setting, &leaves), 1),
        };
        let partitions = 0..setting.partitions;
        let roots: Vec<usize> = partitions
            .map(|partition| shape.add_partition(setting, &sources, level, partition))
            .collect();
        match setting.after {
            After::Nothing => shape.add_result(&roots),
            After::Reduction => shape.add_reduction(setting, &roots),
        }
        assert!(shape.nodes.len() <= NODES, "a tree too large for the model");
        shape
    }

    fn add(&mut self, place: Place, members: &[usize]) -> usize {
        let number = self.nodes.len();
        for member in members {
            self.nodes[*member].parent = number;
        }
        let leaves = members.iter().map(|member| self.nodes[*member].leaves);
        self.nodes.push(Node {
            place,
            parent: number,
            members: members.to_vec(),
            member_set: members.iter().copied().collect(),
            edge: None,
            makes: vec![number],
            makes_as_root: None,
            leaves: leaves.fold(0, |all, some| all | some),
        });
        number
    }

    /// The groups directly above the leaves. None of them is ever a root.
    fn add_splits(&mut self, setting: &Setting, leaves: &[usize]) -> Vec<usize> {
        let mut splits = Vec::new();
        for (index, members) in (0..).zip(leaves.chunks(setting.fan_in as usize)) {
            let split = self.add(Place::Split(index), members);
            let edges = Tree::new(setting.leaves, setting.fan_in).edges();
            let mut edges = edges.into_iter();
            let edge = edges.find(|edge| (edge.level, edge.index) == (1, index));
            self.nodes[split].edge = edge.map(|edge| Edge {
                root: edge.root && setting.has(Mutation::RootAboveTheLeaves),
                ..edge
            });
            self.nodes[split].makes.clear();
            splits.push(split);
        }
        splits
    }

    /// A partition's tree, whose leaves are its parts of the splits; returns its root. Its levels go on from those of the
    /// splits.
    fn add_partition(
        &mut self,
        setting: &Setting,
        sources: &[usize],
        level: u32,
        partition: usize,
    ) -> usize {
        let shares_keys = partition > 0 && setting.has(Mutation::KeysWithoutPartition);
        if shares_keys {
            // Its slots are those of partition 0, and so are its groups.
            for source in sources {
                let part = self.nodes[*source].makes[0];
                self.nodes[*source].makes.push(part);
            }
        }
        let mut parts = Vec::new();
        for (index, source) in (0..).zip(sources) {
            let part = self.add(Place::Part(index, partition), &[]);
            self.nodes[part].leaves = self.nodes[*source].leaves;
            if setting.has(Mutation::SplitAtTheLeaves) && partition == 0 {
                self.nodes[*source].makes.clear();
            }
            if !shares_keys {
                self.nodes[*source].makes.push(part);
            }
            parts.push(part);
        }
        let leaves = sources.len() as u64;
        let edges = match setting.has(Mutation::RootNotStrict) {
            true => edges_not_strict(leaves, setting.fan_in),
            false => Tree::new(leaves, setting.fan_in).edges(),
        };
        let place = |own, index| Place::Group(partition, own + level, index);
        self.add_tree(setting, parts, &edges, place)
    }

    /// The groups of a tree over these nodes, by the library's own arithmetic, and one more above its root.
    fn add_tree(
        &mut self,
        setting: &Setting,
        mut below: Vec<usize>,
        edges: &[Edge],
        place: impl Fn(u32, u64) -> Place,
    ) -> usize {
        let root = *edges.last().expect("a tree has a root");
        for level in 1..=root.level {
            let mut groups = Vec::new();
            let count = below.len().div_ceil(setting.fan_in as usize).max(1);
            for index in 0..count as u64 {
                let members = (0..).zip(&below).filter(|(number, _)| {
                    let (_, above, _) = tree::parent(level - 1, *number, setting.fan_in);
                    above == index
                });
                let members: Vec<usize> = members.map(|(_, node)| *node).collect();
                let group = self.add(place(level, index), &members);
                let mut edges = edges.iter();
                let edge = edges.find(|edge| (edge.level, edge.index) == (level, index));
                self.nodes[group].edge = edge.copied();
                groups.push(group);
            }
            below = groups;
        }
        let above = self.add(place(root.level + 1, 0), &below);
        self.above.insert(above);
        below[0]
    }

    fn add_result(&mut self, roots: &[usize]) {
        let mut parts = Vec::new();
        for (partition, root) in roots.iter().enumerate() {
            let part = self.add(Place::Result(partition), &[]);
            self.nodes[part].leaves = self.nodes[*root].leaves;
            self.nodes[*root].makes_as_root = Some(part);
            parts.push(part);
        }
        self.add(Place::Answer, &parts);
    }

    /// Each partition's value is a packet of the next stage, which a plain reduction follows.
    fn add_reduction(&mut self, setting: &Setting, roots: &[usize]) {
        let mut packets = Vec::new();
        for (partition, root) in roots.iter().enumerate() {
            let packet = self.add(Place::Packet(partition), &[]);
            self.nodes[packet].leaves = self.nodes[*root].leaves;
            self.nodes[*root].makes_as_root = Some(packet);
            packets.push(packet);
        }
        if setting.has(Mutation::AllAreFirstPackets) {
            for packet in &packets {
                self.nodes[*packet].makes = vec![packets[0]];
            }
        }
        let edges = Tree::new(packets.len() as u64, setting.fan_in).edges();
        self.add_tree(setting, packets, &edges, Place::After);
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn numbered(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate()
    }

    /// The groups that are to be reduced.
    pub(super) fn groups(&self) -> impl Iterator<Item = usize> + '_ {
        let groups = self.numbered().filter(|(_, node)| node.is_group());
        groups
            .map(|(number, _)| number)
            .filter(|group| !self.above.has(*group))
    }

    /// The node with this place.
    pub(super) fn find(&self, place: Place) -> Option<usize> {
        self.nodes.iter().position(|node| node.place == place)
    }

    /// Whether a message makes a part for each partition.
    pub(super) fn splits(&self, message: usize) -> bool {
        let first = self[message].makes.first();
        first.is_some_and(|node| matches!(self[*node].place, Place::Part(..)))
    }

    pub(super) fn name(&self, node: usize) -> String {
        match self[node].place {
            Place::Leaf(leaf) => format!("map {leaf}"),
            Place::Split(group) => format!("reduce 1/{group}"),
            Place::Part(group, partition) => format!("part {partition} of 1/{group}"),
            Place::Group(partition, level, index) => {
                format!("reduce {level}/{index} of partition {partition}")
            }
            Place::Result(partition) => format!("result {partition}"),
            Place::Answer => "the result".to_owned(),
            Place::Packet(partition) => format!("next map {partition}"),
            Place::After(level, index) => format!("next reduce {level}/{index}"),
        }
    }
}
