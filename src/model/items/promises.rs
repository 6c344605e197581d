//! The promises.

use super::state::{Named, Place, State, TWO};
use super::{Policy, System};

pub(super) struct Promise {
    pub(super) name: &'static str,
    pub(super) check: fn(&System, &State) -> bool,
}

impl Promise {
    pub(super) fn holds(&self, system: &System, state: &State) -> bool {
        (self.check)(system, state)
    }
}

pub(super) const ENDS: &str = "it comes to an end";

/// What is left out is bad, or was hit by as many faults as it has attempts.
pub(super) const DESERVED: Promise = Promise {
    name: "an item is final only if it is bad, or faults hit it as often as it has attempts",
    check: |system, state| {
        system.each_item(state, |packet, item| {
            let truth = &state.packets[packet];
            let left_out = truth.value.is_some_and(|value| value.left_out[item]);
            let is_named = truth.dead == Some(Named::Item(item as u8));
            let is_final = truth.skipped[item] || left_out || is_named;
            !is_final || system.may_be_final(state, packet, item)
        })
    },
};

/// One delivery may have been lost to an item that was not on record yet.
pub(super) const WHOLE: Promise = Promise {
    name: "a packet is given up as a whole only after one fault less than it has attempts, or one",
    check: |system, state| {
        let mut packets = state.packets.iter();
        packets.all(|packet| {
            packet.dead != Some(Named::Whole)
                || packet.faults_of_whole >= (system.attempts - 1).max(1)
        })
    },
};

pub(super) const COUNTED: Promise = Promise {
    name: "of each packet that counts, each item counts once, or is left out where items may be",
    check: |system, state| {
        system.each_item(state, |packet, item| {
            state.packets[packet].value.is_none_or(|value| {
                let may_be_left_out =
                    system.policy == Policy::Skip && system.may_be_final(state, packet, item);
                match value.left_out[item] {
                    true => value.outputs[item] == 0 && may_be_left_out,
                    false => value.outputs[item] == 1,
                }
            })
        })
    },
};

pub(super) const LISTED: Promise = Promise {
    name: "what a value leaves out is on record",
    check: |system, state| {
        system.each_item(state, |packet, item| {
            let truth = &state.packets[packet];
            truth.value.is_none_or(|value| !value.left_out[item]) || truth.skipped[item]
        })
    },
};

pub(super) const FEW_CALLS: Promise = Promise {
    name: "an item fails no more often than its attempts in each delivery that was lost, and in one",
    check: |system, state| {
        !state.is_too_often
            && system.each_item(state, |packet, item| {
                let truth = &state.packets[packet];
                truth.failures[item] <= system.attempts * (1 + truth.lost)
            })
    },
};

pub(super) const REMEMBERED: Promise = Promise {
    name: "a failed attempt on record is not forgotten",
    check: |_, state| !state.has_forgotten,
};

/// The first delivery is not on record. The second is at no item, unless the only attempt makes it a suspect.
pub(super) const KILLS: Promise = Promise {
    name: "an item ends as many processes as it has attempts and there are faults, and two more",
    check: |system, state| {
        let most = system.attempts + system.attempts.min(2) + system.faults;
        system.each_item(state, |packet, item| {
            state.packets[packet].kills[item] <= most
        })
    },
};

/// Several processes may be at the same packet, and look whether it is done just before it is. The first delivery of a
/// copy reads nothing, and may succeed with what another delivery has given up.
pub(super) const AGREED: Promise = Promise {
    name: "what is given up does not count if one delivery of a packet follows the other",
    check: |system, state| {
        system.processes > 1
            || system.each_item(state, |packet, item| {
                let truth = &state.packets[packet];
                let is_given_up = truth.skipped[item] || truth.dead.is_some();
                let is_copied = truth.copies[1].place != Place::Unsent;
                is_copied || !is_given_up || truth.value.is_none_or(|value| value.left_out[item])
            })
    },
};

pub(super) const NOT_STUCK: Promise = Promise {
    name: "as long as a packet is neither done nor a dead letter, something happens to it",
    check: |system, state| {
        let mut steps = Vec::new();
        system.steps(state, &mut steps);
        !steps.is_empty() || system.is_over(state)
    },
};

pub(super) const ALL: [&Promise; 9] = [
    &DESERVED,
    &WHOLE,
    &COUNTED,
    &LISTED,
    &FEW_CALLS,
    &REMEMBERED,
    &KILLS,
    &AGREED,
    &NOT_STUCK,
];

impl System {
    /// An item that ends its process once, as if by a fault, has not been hit by as many others.
    fn may_be_final(&self, state: &State, packet: usize, item: usize) -> bool {
        let truth = &state.packets[packet];
        let lost = truth.faults[item] + truth.kills[item];
        self.behaviour(packet, item).is_bad(self.attempts) || lost >= self.attempts
    }

    fn each_item(&self, state: &State, holds: impl Fn(usize, usize) -> bool) -> bool {
        debug_assert_eq!(state.packets.len(), TWO);
        let packets = 0..self.packets.len();
        packets
            .flat_map(|packet| (0..TWO).map(move |item| (packet, item)))
            .all(|(packet, item)| holds(packet, item))
    }
}
