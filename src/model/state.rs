//! The state of the model: queue, scratchpad, submitters, workers. It is small, so that memory
//! holds millions of states.

/// The largest number of nodes of a tree in the model, the group above the root included.
pub(super) const NODES: usize = 16;
pub(super) const WORKERS: usize = 3;
pub(super) const SUBMITTERS: usize = 2;

/// The leaves that a value stands for, in its order, each as often as the value contains it: three
/// bits per leaf, after a leading one.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Value(u32);

impl Value {
    /// No value at all.
    pub(super) const NONE: Self = Self(0);
    /// The value of no leaves.
    pub(super) const EMPTY: Self = Self(1);
    /// More leaves than fit, and so in any case too many.
    const TOO_MANY: Self = Self(u32::MAX);
    const ROOM: u32 = 10;

    pub(super) fn leaf(leaf: usize) -> Self {
        Self(0b1000 | leaf as u32)
    }

    pub(super) fn is_some(self) -> bool {
        self != Self::NONE
    }

    fn len(self) -> u32 {
        self.0.max(1).ilog2() / 3
    }

    /// Its leaves, in order.
    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        let places = (0..self.len()).rev();
        places.map(move |place| (self.0 >> (3 * place) & 7) as usize)
    }

    /// Both values, in this order.
    pub(super) fn then(self, next: Self) -> Self {
        let is_too_long = self.len() + next.len() > Self::ROOM;
        if is_too_long || self == Self::TOO_MANY || next == Self::TOO_MANY {
            return Self::TOO_MANY;
        }
        let bits = 3 * next.len();
        Self(self.0 << bits | next.0 & ((1 << bits) - 1))
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.is_some() {
            return write!(formatter, "none");
        }
        formatter.debug_list().entries(self.iter()).finish()
    }
}

/// A set of nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Set(u16);

impl Set {
    pub(super) const ALL: Self = Self(u16::MAX);

    pub(super) fn has(self, node: usize) -> bool {
        self.0 >> node & 1 == 1
    }

    /// Adds a node, and returns whether it is new.
    pub(super) fn insert(&mut self, node: usize) -> bool {
        let before = *self;
        self.0 |= 1 << node;
        *self != before
    }

    /// The number of nodes in both sets.
    pub(super) fn in_common(self, other: Self) -> u32 {
        self.and(other).0.count_ones()
    }

    /// The nodes in both sets.
    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl FromIterator<usize> for Set {
    fn from_iter<I: IntoIterator<Item = usize>>(nodes: I) -> Self {
        Self(nodes.into_iter().fold(0, |set, node| set | 1 << node))
    }
}

/// A small number per node: four bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Counts(u64);

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
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let node = (rest != 0).then(|| rest.trailing_zeros() as usize / 4)?;
            rest &= !(15 << (4 * node));
            Some((node, self.get(node)))
        })
    }
}

/// The list of steps that a worker executes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Program {
    #[default]
    Idle,
    /// Works on a packet, or on a bundle that stays whole.
    Leaf,
    Group,
    Root,
    /// There is nothing to do: only acknowledges the message.
    Nothing,
    /// Splits a bundle: this many packets, from the first on, have their values.
    Apart(u8),
}

impl Program {
    /// Its index among the programs, if there is something to do.
    pub(super) fn place(self) -> Option<usize> {
        match self {
            Self::Idle => None,
            Self::Leaf => Some(0),
            Self::Group => Some(1),
            Self::Root => Some(2),
            Self::Nothing => Some(3),
            Self::Apart(first) => Some(4 + usize::from(first)),
        }
    }
}

/// The state of a worker's receipt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Receipt {
    /// The worker holds the message: if it dies, the message is delivered again.
    #[default]
    Valid,
    /// The visibility timeout is over, and the message is back on the queue. The worker does not
    /// know.
    Stale,
    /// The message has been acknowledged.
    Used,
}

/// Whether a worker has to ask for the reduction of the group above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Asks {
    #[default]
    No,
    Yes,
    /// The neighbour with which it shared a write asks, and this worker waits for that.
    Neighbour,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Worker {
    pub(super) program: Program,
    /// Its position in the program.
    pub(super) at: u8,
    pub(super) message: u8,
    pub(super) receipt: Receipt,
    pub(super) asks: Asks,
    /// The value that it has combined and not stored yet.
    pub(super) value: Value,
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
    /// A result replaced another.
    pub(super) const SECOND_RESULT: u8 = 4;
    /// A step did not lower what is left to do.
    pub(super) const VAIN: u8 = 8;
    /// A stored value is not its node's leaves, each once, in order.
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
    /// The number of arrivals at each group. Only read by a mutation.
    pub(super) counted: Counts,
    /// By node: the value in its slot of the group above it.
    pub(super) values: [Value; NODES],
    /// Which nodes are in the arrived set of the group above them.
    pub(super) arrived: Set,
    /// Which groups have been sealed.
    pub(super) told: Set,
    pub(super) retired: Set,
    /// Which messages have ever been sent.
    pub(super) sent: Set,
    pub(super) result: Value,
    /// Whether the run's record has the number of packets.
    pub(super) measured: bool,
    /// Whether the run's record has the mark that every packet was sent.
    pub(super) submitted: bool,
    /// How many packets are noted as sent.
    pub(super) noted: u8,
    /// The position of each submitter.
    pub(super) submitters: [u8; SUBMITTERS],
    /// How many packets each submitter has still to skip, because they were noted when it began.
    pub(super) skips: [u8; SUBMITTERS],
    pub(super) workers: [Worker; WORKERS],
    pub(super) faults_left: u8,
    pub(super) breaches: Breaches,
}
