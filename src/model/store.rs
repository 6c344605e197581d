//! The behaviour of queue and scratchpad.

use super::System;
use super::mutation::Mutation;
use super::state::{Asks, Breaches, Program, Receipt, Set, State, Value, Worker};
use crate::scratchpad::GroupState;

impl System {
    /// A group's state as the scratchpad reports it.
    pub(super) fn group(&self, state: &State, group: usize) -> GroupState {
        let node = &self.nodes[group];
        let told = node.edge.filter(|_| state.told.has(group));
        let root = told.is_some_and(|edge| edge.root);
        GroupState {
            arrived: match self.setting.has(Mutation::CountInsteadOfSet) {
                true => state.counted.get(group),
                false => state.arrived.in_common(node.member_set),
            },
            expected: told.map(|edge| edge.expected),
            root: root && !self.setting.has(Mutation::SealWithoutRoot),
            retired: state.retired.has(group),
        }
    }

    /// Whether a group need not be retired, because its packets travelled as a bundle. Usually they
    /// leave no trace in it. But if a worker dies while it splits the bundle, and the bundle stays
    /// whole the next time, a group is left that never fills: it is kept until the tree is dropped.
    pub(super) fn may_stay(&self, state: &State, group: usize) -> bool {
        let mut members = self.nodes[group].members.iter();
        let is_there =
            |member: &usize| state.arrived.has(*member) || state.values[*member].is_some();
        let went_wrong = state.faults_left < self.setting.faults;
        let may_have_some = went_wrong && !self.is_ready(&self.group(state, group));
        self.nodes.travels(group) && (may_have_some || !members.any(is_there))
    }

    pub(super) fn is_ready(&self, group: &GroupState) -> bool {
        group.is_ready(self.setting.fan_in)
    }

    /// The members' values combined; `None` if some of them are gone.
    pub(super) fn combine(&self, state: &mut State, group: usize) -> Option<Value> {
        let mut combined = Value::EMPTY;
        let mut found = 0;
        for member in &self.nodes[group].members {
            let value = state.values[*member];
            if state.arrived.has(*member) && value.is_some() {
                combined = combined.then(value);
                found += 1;
            }
        }
        let promised = self.group(state, group);
        if found == promised.arrived || self.setting.has(Mutation::CombineWhatIsThere) {
            return Some(combined);
        }
        if !promised.retired {
            state.breaches.note(Breaches::TORN);
        }
        None
    }

    pub(super) fn store(&self, state: &mut State, node: usize, value: Value) {
        if state.retired.has(self.nodes[node].parent) {
            return;
        }
        let slot = &mut state.values[node];
        if !slot.is_some() || self.setting.has(Mutation::OverwriteSlot) {
            *slot = value;
        } else if self.setting.has(Mutation::AddToSlot) {
            *slot = slot.then(value);
        }
        if *slot != self.nodes[node].value {
            state.breaches.note(Breaches::WRONG_VALUE);
        }
    }

    /// Returns whether the group is complete now, so that its reduction has to be asked for.
    pub(super) fn add_slot(&self, state: &mut State, node: usize) -> bool {
        let above = self.nodes[node].parent;
        let before = self.group(state, above);
        if before.retired {
            return false;
        }
        let is_new = state.arrived.insert(node);
        if self.setting.has(Mutation::CountInsteadOfSet) {
            state.counted.add(above);
        }
        if self.setting.has(Mutation::AskEveryTime) {
            return true;
        }
        if self.setting.has(Mutation::NobodyResendsWhenFull) && !is_new {
            return false;
        }
        match self.setting.has(Mutation::ReadStateBeforeAdding) {
            true => self.is_ready(&before),
            false => self.is_ready(&self.group(state, above)),
        }
    }

    /// The store may drop the values, so the model does.
    pub(super) fn retire(&self, state: &mut State, group: usize) {
        state.retired.insert(group);
        for member in &self.nodes[group].members {
            state.values[*member] = Value::NONE;
        }
    }

    pub(super) fn write_result(&self, state: &mut State, value: Value) {
        if !state.result.is_some() {
            state.result = value;
            if self.setting.forgets {
                // The run is over. Its groups read as retired, and writes to them change nothing.
                state.values.fill(Value::NONE);
                state.arrived = Set::default();
                state.retired = Set::ALL;
            }
        } else if self.setting.has(Mutation::ResultOverwritten) {
            state.breaches.note(Breaches::SECOND_RESULT);
            state.result = value;
        }
    }

    pub(super) fn acknowledge(&self, state: &mut State, worker: &mut Worker) {
        let message = usize::from(worker.message);
        match worker.receipt {
            Receipt::Valid => worker.receipt = Receipt::Used,
            _ if self.setting.has(Mutation::StaleAcknowledgementRemoves) => {
                remove_later_delivery(state, message);
            }
            _ => return,
        }
        let has_effect = worker.program != Program::Nothing;
        if has_effect && (worker.asks != Asks::No || !self.is_durable(state, message)) {
            state.breaches.note(Breaches::NOT_DURABLE);
        }
    }

    /// Whether everything that a message causes is in the scratchpad or on the queue.
    fn is_durable(&self, state: &State, message: usize) -> bool {
        if self.nodes.is_together(message) {
            let group = self.nodes.made_by(message);
            let mut members = self.nodes[group].members.iter();
            return self.has_arrived(state, group)
                || members.all(|leaf| self.has_arrived(state, *leaf) || state.sent.has(*leaf));
        }
        match self.nodes[message].is_leaf() {
            true => self.has_arrived(state, message),
            false => state.retired.has(message),
        }
    }

    fn has_arrived(&self, state: &State, node: usize) -> bool {
        let is_there = state.arrived.has(node) && state.values[node].is_some();
        is_there || state.retired.has(self.nodes[node].parent)
    }

    /// The visibility timeout of a message lapses while its worker continues.
    pub(super) fn time_out(&self, state: &mut State, worker: usize) {
        let worker = &mut state.workers[worker];
        worker.receipt = Receipt::Stale;
        state.queue.add(usize::from(worker.message));
    }

    /// A process dies, and another replaces it. Its message is ready for delivery at once: the
    /// model needs no visibility timeout, because any delivery may also happen later.
    pub(super) fn crash(&self, state: &mut State, worker: usize) {
        let worker = std::mem::take(&mut state.workers[worker]);
        if !worker.is_idle() && worker.receipt == Receipt::Valid {
            state.queue.add(usize::from(worker.message));
        }
    }
}

pub(super) fn send(state: &mut State, message: usize) {
    state.queue.add(message);
    state.sent.insert(message);
}

fn remove_later_delivery(state: &mut State, message: usize) {
    if state.queue.get(message) > 0 {
        state.queue.remove(message);
        return;
    }
    let mut busy = state.workers.iter_mut().filter(|worker| !worker.is_idle());
    let holder = busy
        .find(|worker| usize::from(worker.message) == message && worker.receipt == Receipt::Valid);
    if let Some(holder) = holder {
        holder.receipt = Receipt::Used;
    }
}
