//! What must hold in every state.

use super::System;
use super::state::{Breaches, State};

type Promise = (&'static str, fn(&System, &State) -> bool);

/// The checker must find an example of this, or the promises could hold because nothing happens.
pub(super) const ENDS: &str = "a run with all its faults comes to an end";

pub(super) const RIGHT: &str = "the result is every leaf once, in order";
pub(super) const IN_ORDER: &str = "a value is its node's leaves once, in order";
pub(super) const ONE_RESULT: &str = "there is at most one result";
pub(super) const DURABLE: &str = "what is acknowledged is durable";
pub(super) const WHOLE: &str = "who sees a slot can read its value";
/// See [`measure`](super::measure).
pub(super) const ONWARD: &str = "every step brings the end closer";
pub(super) const NOT_STUCK: &str = "no run ends without its result";
pub(super) const TIDY: &str = "no run leaves a group behind";

/// Each promise is about the state in which a run ends, or about something that does not change
/// until then.
pub(super) const PROMISES: [Promise; 8] = [
    (RIGHT, |system, state| {
        !state.result.is_some() || state.result == system.nodes[system.nodes.root].value
    }),
    (IN_ORDER, |_, state| {
        !state.breaches.has(Breaches::WRONG_VALUE)
    }),
    (ONE_RESULT, |_, state| {
        !state.breaches.has(Breaches::SECOND_RESULT)
    }),
    (DURABLE, |_, state| {
        !state.breaches.has(Breaches::NOT_DURABLE)
    }),
    (WHOLE, |_, state| !state.breaches.has(Breaches::TORN)),
    (ONWARD, |_, state| !state.breaches.has(Breaches::VAIN)),
    (NOT_STUCK, |system, state| {
        state.result.is_some() || !system.is_quiet(state)
    }),
    (TIDY, |system, state| {
        let mut groups = system.nodes.groups();
        let is_behind = |group| !state.retired.has(group) && !system.may_stay(state, group);
        !system.is_quiet(state) || !groups.any(is_behind)
    }),
];
