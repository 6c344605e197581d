//! Packets that have outlived processes, and what may run beside them.

use super::rules::Mutation;
use super::state::{Counts, Noted, Phase, Slot, State};
use super::{Alone, System};

impl System {
    pub(super) fn would_be_suspect(&self, counts: Counts) -> bool {
        let unfinished = 1 + counts.unfinished + counts.deaths.iter().sum::<u8>();
        unfinished >= self.attempts.min(2)
    }

    /// Whether one more death at the item that this delivery is at would make it final.
    fn is_at_last(&self, state: &State, process: usize, packet: usize, item: usize) -> bool {
        self.alone == Alone::AtLast
            && state.counts(process, packet).deaths[item] + 1 >= self.attempts
    }

    /// Whether what the process holds beside the packet lets its functions begin.
    pub(super) fn may_begin(&self, state: &State, process: usize, packet: usize) -> bool {
        let beside = &state.processes[process][1 - packet];
        let is_suspect = state.processes[process][packet].received > 1
            && self.would_be_suspect(state.counts(process, packet));
        if beside.is_suspect && !matches!(beside.phase, Phase::Idle | Phase::Holds) {
            let is_at_last = match beside.noted {
                Noted::Item(item) => self.is_at_last(state, process, 1 - packet, usize::from(item)),
                _ => false,
            };
            return !is_suspect && self.alone != Alone::Always && !is_at_last;
        }
        !is_suspect || self.alone != Alone::Always || !beside.runs()
    }

    pub(super) fn may_call(&self, slot: &Slot, item: usize) -> bool {
        !slot.is_suspect
            || slot.is_noted_at(item)
            || self.has(Mutation::SuspectsUnnamed)
            || self.has(Mutation::NameAfterCalling)
    }

    pub(super) fn may_name(
        &self,
        state: &State,
        process: usize,
        packet: usize,
        item: usize,
    ) -> bool {
        let beside = &state.processes[process][1 - packet];
        !self.is_at_last(state, process, packet, item) || !beside.runs()
    }
}
