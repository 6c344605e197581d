//! The state of the model: queue, scratchpad, one submitter, two workers.

use super::shape::PARTITIONS;
use crate::model::state::{Receipt, Value};

/// The largest number of nodes, the groups above the roots included.
pub(super) const NODES: usize = 24;
pub(super) const WORKERS: usize = 2;

/// A packet's or a group's outputs by key, or one partition's part of them.
///
/// Each leaf has one item at most, and of its key only the partition matters: an item is the number `2 * leaf + partition`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Partial {
    pub(super) items: Value,
    /// How many leaves it stands for, and how many more were left out.
    pub(super) contains: u8,
    pub(super) skipped: u8,
}

impl Partial {
    pub(super) const NONE: Self = Self {
        items: Value::NONE,
        contains: 0,
        skipped: 0,
    };
    /// The value of no leaves.
    pub(super) const EMPTY: Self = Self {
        items: Value::EMPTY,
        ..Self::NONE
    };

    /// The value of one leaf, whose item's key belongs to a partition.
    pub(super) fn of(leaf: usize, partition: usize) -> Self {
        Self {
            items: Value::leaf(2 * leaf + partition),
            contains: 1,
            skipped: 0,
        }
    }

    /// The value of one leaf whose item is left out.
    pub(super) const SKIPPED: Self = Self {
        skipped: 1,
        ..Self::EMPTY
    };

    pub(super) fn is_some(self) -> bool {
        self.items.is_some()
    }

    pub(super) fn is_empty(self) -> bool {
        self.items == Value::EMPTY
    }

    /// Both values, in this order.
    pub(super) fn then(self, next: Self) -> Self {
        Self {
            items: self.items.then(next.items),
            contains: self.contains.saturating_add(next.contains),
            skipped: self.skipped.saturating_add(next.skipped),
        }
    }

    /// The items whose keys belong to a partition, with the counts of all.
    pub(super) fn part(self, partition: usize) -> Self {
        let items = self.items.iter().filter(|item| item % 2 == partition);
        let items = items.map(Value::leaf).fold(Value::EMPTY, Value::then);
        Self { items, ..self }
    }

    pub(super) fn without_counts(self) -> Self {
        Self {
            items: self.items,
            ..Self::NONE
        }
    }
}

/// A set of nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Set(u32);

impl Set {
    pub(super) fn has(self, node: usize) -> bool {
        self.0 >> node & 1 == 1
    }

    /// Adds a node, and returns whether it is new.
    pub(super) fn insert(&mut self, node: usize) -> bool {
        let is_new = !self.has(node);
        self.0 |= 1 << node;
        is_new
    }

    pub(super) fn remove(&mut self, node: usize) {
        self.0 &= !(1 << node);
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn len(self) -> u32 {
        self.0.count_ones()
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        (0..NODES).filter(move |node| self.has(*node))
    }
}

impl FromIterator<usize> for Set {
    fn from_iter<I: IntoIterator<Item = usize>>(nodes: I) -> Self {
        Self(nodes.into_iter().fold(0, |set, node| set | 1 << node))
    }
}

/// A small number per node: four bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Counts(u128);

impl Counts {
    pub(super) fn get(self, node: usize) -> u32 {
        (self.0 >> (4 * node) & 15) as u32
    }

    pub(super) fn add(&mut self, node: usize) {
        assert!(self.get(node) < 15, "a count does not fit into its bits");
        self.0 += 1 << (4 * node);
    }

    pub(super) fn remove(&mut self, node: usize) {
        assert!(self.get(node) > 0, "there is nothing to remove");
        self.0 -= 1 << (4 * node);
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The nodes that have more than zero, with their numbers.
    pub(super) fn iter(self) -> impl Iterator<Item = (usize, u32)> {
        let counts = (0..NODES).map(move |node| (node, self.get(node)));
        counts.filter(|(_, count)| *count > 0)
    }
}

/// The list of steps that a worker executes; each message has its own lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Program {
    #[default]
    Idle,
    Work,
    /// The group turned out to be a root.
    Root,
    /// There is nothing to do: only acknowledges the message.
    Nothing,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Worker {
    pub(super) program: Program,
    /// Its position in the program.
    pub(super) at: u8,
    pub(super) message: u8,
    pub(super) receipt: Receipt,
    /// The nodes whose groups are complete, so that the worker has to ask for their reductions.
    pub(super) asks: Set,
    /// What its last write has returned of the record that it wrote to.
    pub(super) seen: Set,
    /// The value that it has computed and not stored everywhere yet.
    pub(super) value: Partial,
}

impl Worker {
    pub(super) fn is_idle(&self) -> bool {
        self.program == Program::Idle
    }
}

/// Violations found by a step. They are kept, so that no later step hides them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Breaches(u8);

impl Breaches {
    /// A message was acknowledged before all that it causes was durable.
    pub(super) const NOT_DURABLE: u8 = 1;
    /// A group had fewer values than arrived slots, and was not retired.
    pub(super) const TORN: u8 = 2;
    /// A root does not stand for the whole array, so the run fails.
    pub(super) const NOT_WHOLE: u8 = 4;
    /// A step did not lower what is left to do.
    pub(super) const VAIN: u8 = 8;
    /// A stored value is not what its node's leaves make, each once, in order.
    pub(super) const WRONG_VALUE: u8 = 16;

    pub(super) fn note(&mut self, breach: u8) {
        self.0 |= breach;
    }

    pub(super) fn has(self, breach: u8) -> bool {
        self.0 & breach != 0
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct State {
    /// How many copies of each message are ready for delivery.
    pub(super) queue: Counts,
    /// By node: the value in its slot of the group above it, or in its place of the result.
    pub(super) values: [Partial; NODES],
    /// The values that the messages of the next stage's packets carry.
    pub(super) carried: [Partial; PARTITIONS],
    /// Which nodes are in the arrived set of the group above them.
    pub(super) arrived: Set,
    /// Which parts are on the record that the empty parts of neighbours share.
    pub(super) shared: Set,
    /// Which groups have been sealed.
    pub(super) told: Set,
    pub(super) retired: Set,
    /// Which messages have ever been sent.
    pub(super) sent: Set,
    /// Whether the run is recorded as done.
    pub(super) done: bool,
    /// The value that a plain reduction ends with.
    pub(super) result: Partial,
    /// Whether the run's record has the number of packets.
    pub(super) measured: bool,
    /// Whether the run's record has the mark that every packet was sent.
    pub(super) submitted: bool,
    /// The position of the submitter.
    pub(super) submitter: u8,
    pub(super) workers: [Worker; WORKERS],
    pub(super) faults_left: u8,
    pub(super) breaches: Breaches,
}
