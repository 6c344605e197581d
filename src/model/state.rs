//! What the model remembers: queue, scratchpad, submitters, workers. Small, so that there is room for millions.

/// The most nodes a tree may have here, the group above the root included.
pub(super) const NODES: usize = 16;
pub(super) const WORKERS: usize = 3;
pub(super) const SUBMITTERS: usize = 2;

/// The leaves that a value stands for, in its order, each as often as it is in it: three bits a leaf behind a one.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Value(u32);

impl Value {
    /// No value at all.
    pub(super) const NONE: Self = Self(0);
    /// The value of no leaves.
    pub(super) const EMPTY: Self = Self(1);
    /// More leaves than there is room for, and so in any case too many.
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

    /// Both, one behind the other.
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
        let leaves = (0..self.len()).rev();
        let leaves = leaves.map(|place| self.0 >> (3 * place) & 7);
        formatter.debug_list().entries(leaves).finish()
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

    /// How many are in both.
    pub(super) fn in_common(self, other: Self) -> u32 {
        self.and(other).0.count_ones()
    }

    /// Those that are in both.
    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl FromIterator<usize> for Set {
    fn from_iter<I: IntoIterator<Item = usize>>(nodes: I) -> Self {
        Self(nodes.into_iter().fold(0, |set, node| set | 1 << node))
    }
}

/// A small number for each node: four bits.
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

/// Which list of steps a worker goes through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Program {
    #[default]
    Idle,
    /// At the message of a packet, or of packets that stay together.
    Leaf,
    Group,
    Root,
    /// There is nothing to do: the message is only acknowledged.
    Nothing,
    /// Packets that travelled together go apart, the first so many with their values.
    Apart(u8),
}

impl Program {
    /// Its place among the programs, if there is something to do.
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

/// What a worker has in hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Receipt {
    /// The message is its own: if the worker dies, it comes back.
    #[default]
    Valid,
    /// The visibility timeout is over, and the message is back on the queue. Its old holder does not know.
    Stale,
    /// It has been acknowledged.
    Used,
}

/// Whether a worker has to see to it that the group above is reduced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Asks {
    #[default]
    No,
    Yes,
    /// The neighbour with whom it shared a write does it, and this one waits for that.
    Neighbour,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Worker {
    pub(super) program: Program,
    /// Its place in the program.
    pub(super) at: u8,
    pub(super) message: u8,
    pub(super) receipt: Receipt,
    pub(super) asks: Asks,
    /// What it has combined and not stored yet.
    pub(super) value: Value,
}

impl Worker {
    pub(super) fn is_idle(&self) -> bool {
        self.program == Program::Idle
    }
}

/// What a step found that must not be. Kept for good, so that no later step hides it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Breaches(u8);

impl Breaches {
    /// A message was acknowledged before all that it causes was durable.
    pub(super) const NOT_DURABLE: u8 = 1;
    /// A group had fewer values than arrived slots, and was not retired.
    pub(super) const TORN: u8 = 2;
    /// A result took the place of another.
    pub(super) const SECOND_RESULT: u8 = 4;
    /// A step brought the end no closer.
    pub(super) const VAIN: u8 = 8;
    /// A value was stored that is not its node's leaves once, in order.
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
    /// How many copies of each message are up for delivery.
    pub(super) queue: Counts,
    /// How often somebody arrived at each group. Only a mutation looks.
    pub(super) counted: Counts,
    /// By node: the value in its slot of the group above it.
    pub(super) values: [Value; NODES],
    /// Which nodes are in the arrived set of the group above them.
    pub(super) arrived: Set,
    /// Which groups have been told their size.
    pub(super) told: Set,
    pub(super) retired: Set,
    /// Which messages were ever sent.
    pub(super) sent: Set,
    pub(super) result: Value,
    /// Whether the run's record says how many packets there are.
    pub(super) measured: bool,
    /// Whether it says that every packet was sent.
    pub(super) submitted: bool,
    /// How far each submitter has come.
    pub(super) submitters: [u8; SUBMITTERS],
    pub(super) workers: [Worker; WORKERS],
    pub(super) faults_left: u8,
    pub(super) breaches: Breaches,
}
