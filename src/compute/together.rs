//! Packets of a full group that travel together inside the process: as long as that takes no time.

use std::time::{Duration, Instant};

use crate::packet::codec::Payload;

/// How long packets stay together: their functions are quick, or others had better take a share of them.
const LONG: Duration = Duration::from_millis(1);
/// Outputs with which packets stay together, where they have fewer items.
const OUTPUTS: usize = 16 * 1024;
/// The clock is looked at behind every so many packets, where all that is done is folding.
const FOLDS_BETWEEN_LOOKS: usize = 4;

/// What comes of packets that travel together.
pub(crate) enum Together {
    /// What their group comes to.
    Whole(Payload),
    /// Partial results of the first so many. The others go on by themselves.
    Apart(Vec<Payload>),
}

/// Says when something takes too long for packets to stay together.
pub(super) struct Patience(Instant);

impl Patience {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.elapsed() > LONG
    }

    /// The same behind the fold of the packet at this place, where looking at the clock may take longer than the fold.
    pub(super) fn is_over_at(&self, place: usize) -> bool {
        place.is_multiple_of(FOLDS_BETWEEN_LOOKS) && self.is_over()
    }
}

/// Where packets that travel together end, as a round goes over their items. Of a packet that travels alone there is none.
pub(super) struct Ends<'a> {
    /// Items of those behind the packet at hand.
    rest: std::slice::Iter<'a, u32>,
    /// Items up to the end of the packet at hand.
    next: Option<usize>,
    /// Outputs up to the end of each packet that the round is through with.
    outputs: Vec<usize>,
    most_outputs: usize,
    patience: Option<Patience>,
}

impl<'a> Ends<'a> {
    /// Given how many items each packet has.
    pub(super) fn new(packets: &'a [u32]) -> Self {
        let items: usize = packets.iter().map(|items| *items as usize).sum();
        let mut rest = packets.iter();
        let next = rest.next().map(|items| *items as usize);
        Self {
            outputs: Vec::with_capacity(packets.len()),
            most_outputs: items.max(OUTPUTS),
            patience: next.map(|_| Patience::new()),
            rest,
            next,
        }
    }

    pub(super) fn next(&self) -> Option<usize> {
        self.next
    }

    /// The packet at hand has ended, with so many outputs of all of them. Returns whether the others had better go on by
    /// themselves.
    pub(super) fn pass(&mut self, outputs: usize) -> bool {
        self.outputs.push(outputs);
        let passed = self.next.unwrap_or_default();
        self.next = self.rest.next().map(|items| passed + *items as usize);
        self.is_slow() || outputs > self.most_outputs
    }

    pub(super) fn is_slow(&self) -> bool {
        self.patience.as_ref().is_some_and(Patience::is_over)
    }

    /// Outputs up to the end of each packet.
    pub(super) fn into_outputs(self) -> Vec<usize> {
        self.outputs
    }
}
