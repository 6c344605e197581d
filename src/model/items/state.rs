//! What there is: the messages, the record of each, and what the processes hold.

/// Items per packet, packets per run, processes, and copies of a message.
pub(super) const TWO: usize = 2;

/// What the function does with an item, however often and wherever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    Works,
    /// Its first calls fail, this many of them, and the others do not.
    FailsFirst(u8),
    Fails,
    /// Its error is permanent.
    Permanent,
    /// The first call ends the process, and the others do not.
    KillsOnce,
    Kills,
}

impl Behaviour {
    /// Whether the item has to be left out.
    pub(super) fn is_bad(self, attempts: u8) -> bool {
        match self {
            Self::Works => false,
            Self::KillsOnce => attempts == 1,
            Self::FailsFirst(calls) => calls >= attempts,
            Self::Fails | Self::Permanent | Self::Kills => true,
        }
    }
}

/// Where a copy of a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Place {
    /// It was not sent.
    #[default]
    Unsent,
    Waits,
    InFlight,
    /// It is acknowledged, or on the dead-letter queue.
    Gone,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Copy {
    pub(super) place: Place,
    /// How often it was received. Nobody asks whether it was more often than the attempts and once more.
    pub(super) received: u8,
}

/// A packet's value at its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Value {
    /// How often the output of each item is in it.
    pub(super) outputs: [u8; TWO],
    /// Which items it says are left out.
    pub(super) left_out: [bool; TWO],
}

/// Whom a dead letter names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Named {
    Item(u8),
    /// The message as a whole.
    Whole,
}

/// What the record says where an unfinished delivery is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Noted {
    /// Nothing. A first delivery is not on record.
    #[default]
    Nothing,
    Whole,
    Item(u8),
}

/// A packet: its message, what is on record of it, and what is true of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Packet {
    pub(super) copies: [Copy; TWO],
    /// On record: the highest number of a failed attempt of each item.
    pub(super) failed: [u8; TWO],
    /// On record: deliveries that are over and unfinished, at no item and at each. Those that a process still works
    /// on are in its [`Slot`].
    pub(super) unfinished: u8,
    pub(super) deaths: [u8; TWO],
    /// On record: the items that are left out, and the dead letter.
    pub(super) skipped: [bool; TWO],
    pub(super) dead: Option<Named>,
    pub(super) value: Option<Value>,
    /// True, but not on record: how often each item has failed, and ended a process.
    pub(super) failures: [u8; TWO],
    pub(super) kills: [u8; TWO],
    /// True: deliveries that were lost, or under way at the same time as another.
    pub(super) lost: u8,
    /// True: how many faults from outside hit deliveries that were on record at each item, and at none.
    pub(super) faults: [u8; TWO],
    pub(super) faults_of_whole: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Phase {
    #[default]
    Idle,
    /// It has received the message.
    Holds,
    /// Something is final by what is on record: it looks whether the packet is done already.
    Checks,
    /// The functions run.
    Runs,
    /// It writes down which items are left out.
    Records,
    /// It adds the value at its slot.
    Arrives,
    /// It writes down that the message is a dead letter.
    Buries(Named),
    /// It has written down the counts of a delivery that it gives back.
    Returns,
    Acknowledges,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Progress {
    /// It was not called yet, or waits for its next attempt.
    #[default]
    Open,
    Worked,
    Final,
}

/// An item as the process remembers it that holds the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Item {
    pub(super) progress: Progress,
    /// Its failed attempts, those of earlier deliveries included as far as they are on record.
    pub(super) failed: u8,
    /// How often it was called in this delivery, and how many outputs it has in the packet's value.
    pub(super) calls: u8,
    pub(super) outputs: u8,
}

/// A process's delivery of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Slot {
    pub(super) phase: Phase,
    pub(super) copy: u8,
    /// How often the copy had been received by then.
    pub(super) received: u8,
    /// The message is still this process's, although it may be acknowledged.
    pub(super) is_leased: bool,
    pub(super) noted: Noted,
    /// The packet has outlived processes.
    pub(super) is_suspect: bool,
    pub(super) items: [Item; TWO],
}

impl Slot {
    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    pub(super) fn runs(&self) -> bool {
        self.phase == Phase::Runs
    }

    pub(super) fn is_noted_at(&self, item: usize) -> bool {
        self.noted == Noted::Item(item as u8)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) packets: [Packet; TWO],
    /// By process, then by packet.
    pub(super) processes: [[Slot; TWO]; TWO],
    pub(super) faults_left: u8,
    /// A count on record has become smaller.
    pub(super) has_forgotten: bool,
    /// An item was called more often than it has attempts, in one delivery.
    pub(super) is_too_often: bool,
}

/// What a delivery reads: unfinished deliveries other than itself, at no item and at each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub(super) unfinished: u8,
    pub(super) deaths: [u8; TWO],
}

impl State {
    pub(super) fn counts(&self, process: usize, packet: usize) -> Counts {
        let on_record = &self.packets[packet];
        let mut counts = Counts {
            unfinished: on_record.unfinished,
            deaths: on_record.deaths,
        };
        match self.processes[1 - process][packet].noted {
            Noted::Nothing => {}
            Noted::Whole => counts.unfinished += 1,
            Noted::Item(item) => counts.deaths[usize::from(item)] += 1,
        }
        counts
    }

    /// A delivery is over without a word: what is on record of it stays.
    pub(super) fn abandon(&mut self, process: usize, packet: usize) {
        let slot = std::mem::take(&mut self.processes[process][packet]);
        let packet = &mut self.packets[packet];
        match slot.noted {
            Noted::Nothing => {}
            Noted::Whole => packet.unfinished += 1,
            Noted::Item(item) => packet.deaths[usize::from(item)] += 1,
        }
        if slot.is_leased {
            packet.copies[usize::from(slot.copy)].place = Place::Waits;
        }
    }
}
