//! What must hold in every state.

use super::shape::Place;
use super::state::{Breaches, Partial, State};
use super::{After, Leaves, System};

type Promise = (&'static str, fn(&System, &State) -> bool);

/// The checker must find an example of this, or the promises could hold because nothing happens.
pub(super) const ENDS: &str = "a run with all its faults comes to an end";

pub(super) const RIGHT: &str = "a run that is done has every leaf once, in its partition, in order";
pub(super) const IN_ORDER: &str = "a value is its node's leaves once, in order";
pub(super) const WHOLE_ARRAY: &str = "every root stands for the whole array";
pub(super) const DURABLE: &str = "what is acknowledged is durable";
pub(super) const WHOLE: &str = "a slot that is seen has a value that can be read";
/// See [`measure`](super::measure).
pub(super) const ONWARD: &str = "every step brings the end closer";
pub(super) const NOT_STUCK: &str = "no run ends without its result";
pub(super) const TIDY: &str = "no run leaves a group unreduced";

/// Each promise is about the state in which a run ends, or about something that does not change until then.
pub(super) const PROMISES: [Promise; 8] = [
    (RIGHT, |system, state| {
        !state.done || system.has_result(state)
    }),
    (IN_ORDER, |_, state| {
        !state.breaches.has(Breaches::WRONG_VALUE)
    }),
    (WHOLE_ARRAY, |_, state| {
        !state.breaches.has(Breaches::NOT_WHOLE)
    }),
    (DURABLE, |_, state| {
        !state.breaches.has(Breaches::NOT_DURABLE)
    }),
    (WHOLE, |_, state| !state.breaches.has(Breaches::TORN)),
    (ONWARD, |_, state| !state.breaches.has(Breaches::VAIN)),
    (NOT_STUCK, |system, state| {
        state.done || !system.is_quiet(state)
    }),
    (TIDY, |system, state| {
        let mut groups = system.shape.groups();
        !system.is_quiet(state) || groups.all(|group| state.retired.has(group))
    }),
];

impl System {
    /// Whether a value is what the leaves under a node make: each at most once, in order, and counted. Unless leaves are
    /// fickle, it is known which items these are.
    pub(super) fn is_right(&self, node: usize, value: Partial) -> bool {
        let node = &self.shape[node];
        let is_under = |item: &usize| {
            let (leaf, key) = (item / 2, item % 2);
            node.leaves >> leaf & 1 == 1
                && node.partition().is_none_or(|partition| partition == key)
        };
        let counts = match node.place {
            // Beyond the partitions, the first packet has all counts.
            Place::Packet(0) | Place::After(_, 0) => self.shape.leaves as u32,
            Place::Packet(_) | Place::After(..) => 0,
            _ => node.leaves.count_ones(),
        };
        let in_order = is_in_order(value);
        let all_under = value.items.iter().all(|item| is_under(&item));
        let is_counted = u32::from(value.contains) + u32::from(value.skipped) == counts;
        in_order
            && all_under
            && is_counted
            && (self.is_fickle() || value.items.iter().eq(self.items(is_under)))
    }

    fn is_fickle(&self) -> bool {
        self.setting.makes == Leaves::Fickle
    }

    /// The items of all leaves that meet a condition, by partition and leaf.
    fn items(&self, condition: impl Fn(&usize) -> bool) -> Vec<usize> {
        let leaves = 0..self.shape.leaves;
        let items = leaves.flat_map(|leaf| self.setting.made_of(leaf)[0].items.iter());
        let mut items: Vec<usize> = items.filter(condition).collect();
        items.sort_by_key(|item| (item % 2, *item));
        items
    }

    fn has_result(&self, state: &State) -> bool {
        if self.setting.after == After::Reduction {
            return self.is_whole(state.result, &[state.result]);
        }
        let partitions = 0..self.setting.partitions;
        let parts = partitions.filter_map(|partition| self.shape.find(Place::Result(partition)));
        let parts: Vec<usize> = parts.collect();
        let is_there =
            |part: &usize| state.arrived.has(*part) && self.is_right(*part, state.values[*part]);
        if !parts.iter().all(is_there) {
            return false;
        }
        let parts: Vec<Partial> = parts.iter().map(|part| state.values[*part]).collect();
        let items = parts
            .iter()
            .fold(Partial::EMPTY, |all, part| all.then(*part));
        self.is_whole(items, &parts)
    }

    /// Whether these are the items of all leaves, and each of the parts has counted all leaves alike.
    fn is_whole(&self, all: Partial, parts: &[Partial]) -> bool {
        let counts = |part: &Partial| (part.contains, part.skipped);
        let agree = parts
            .windows(2)
            .all(|two| counts(&two[0]) == counts(&two[1]));
        let (contains, skipped) = parts.first().map_or((0, 0), counts);
        let is_whole = usize::from(contains) + usize::from(skipped) == self.shape.leaves;
        let is_complete = match self.is_fickle() {
            true => {
                let mut leaves: Vec<usize> = all.items.iter().map(|item| item / 2).collect();
                leaves.sort_unstable();
                leaves.dedup();
                leaves.len() == usize::from(contains) && all.items.iter().count() == leaves.len()
            }
            false => skipped == 0 && all.items.iter().eq(self.items(|_| true)),
        };
        agree && is_whole && is_complete && is_in_order(all)
    }
}

/// By partition, and in each by leaf.
fn is_in_order(value: Partial) -> bool {
    let items: Vec<usize> = value.items.iter().collect();
    items
        .windows(2)
        .all(|two| (two[0] % 2, two[0]) < (two[1] % 2, two[1]))
}
