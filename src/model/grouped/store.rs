//! The behaviour of queue and scratchpad.

use super::rules::Mutation;
use super::shape::Place;
use super::state::{Breaches, Partial, Program, Set, State, Worker};
use super::steps::Of;
use super::{Empty, System};
use crate::model::state::Receipt;
use crate::scratchpad::GroupState;

impl System {
    /// A group's state, if these nodes have arrived.
    pub(super) fn group(&self, state: &State, group: usize, arrived: Set) -> GroupState {
        let node = &self.shape[group];
        let told = node.edge.filter(|_| state.told.has(group));
        let expected = match node.place {
            // The run's record has the number of partitions from the start.
            Place::Answer => Some(self.setting.partitions as u32),
            _ => told.map(|edge| edge.expected),
        };
        GroupState {
            arrived: arrived.and(node.member_set).len(),
            expected,
            root: told.is_some_and(|edge| edge.root),
            retired: state.retired.has(group),
        }
    }

    /// A group's state as a reducer reads it.
    pub(super) fn group_read(&self, state: &State, group: usize) -> GroupState {
        self.group(state, group, self.readable(state))
    }

    fn readable(&self, state: &State) -> Set {
        match self.setting.has(Mutation::ReducerReadsOne) {
            true => state.arrived,
            false => state.arrived.or(state.shared),
        }
    }

    pub(super) fn is_ready(&self, group: &GroupState) -> bool {
        group.is_ready(self.setting.fan_in)
    }

    /// The members' values combined; `None` if some of them are gone.
    pub(super) fn combine(&self, state: &mut State, group: usize) -> Option<Partial> {
        let mut combined = Partial::EMPTY;
        let mut found = 0;
        let readable = self.readable(state);
        for member in &self.shape[group].members {
            let value = state.values[*member];
            if readable.has(*member) && value.is_some() {
                combined = combined.then(value);
                found += 1;
            }
        }
        let promised = self.group_read(state, group);
        if found != promised.arrived {
            if !promised.retired {
                state.breaches.note(Breaches::TORN);
            }
            return None;
        }
        let stands_for = usize::from(combined.contains) + usize::from(combined.skipped);
        if promised.root && stands_for != self.shape.leaves {
            state.breaches.note(Breaches::NOT_WHOLE);
        }
        Some(combined)
    }

    pub(super) fn store(&self, state: &mut State, node: usize, value: Partial) {
        if state.retired.has(self.shape[node].parent) {
            return;
        }
        let slot = &mut state.values[node];
        if !slot.is_some() {
            *slot = value;
        } else if self.setting.has(Mutation::AddToSlot) {
            *slot = slot.then(value);
        }
        if !self.is_right(node, state.values[node]) {
            state.breaches.note(Breaches::WRONG_VALUE);
        }
    }

    /// Whether the state of a part's group is in two records.
    fn is_in_two(&self, node: usize) -> bool {
        let is_part = matches!(self.shape[node].place, Place::Part(..));
        is_part && self.setting.empty == Empty::Beside
    }

    pub(super) fn add(&self, state: &mut State, worker: &mut Worker, node: usize) {
        let above = self.shape[node].parent;
        if state.retired.has(above) {
            return;
        }
        let is_new = state.arrived.insert(node);
        let reads_later = self.setting.reads_back
            || self.is_in_two(node) && !self.setting.has(Mutation::WriterOfPartsReadsOne);
        if self.is_in_two(node) && !self.setting.has(Mutation::ReadTheOtherFirst) {
            worker.seen = state.arrived.and(self.shape[above].member_set);
        }
        let is_result = matches!(self.shape[node].place, Place::Result(_));
        let gives_up = match is_result {
            true => self.setting.has(Mutation::NobodyCompletesAgain),
            false => self.setting.has(Mutation::NobodyAsksAgain),
        };
        if reads_later || gives_up && !is_new {
            return;
        }
        let found = self.group(state, above, state.arrived);
        let completes = is_result && self.setting.has(Mutation::FirstPartCompletes);
        if self.is_ready(&found) || completes {
            worker.asks.insert(node);
        }
    }

    /// All empty parts of a worker's value arrive in one write, or all parts, of which the others have been stored.
    pub(super) fn add_parts(&self, state: &mut State, index: usize, worker: &mut Worker, of: Of) {
        let parts = self.shape[usize::from(worker.message)].makes.iter();
        let parts = parts.map(|part| (*part, self.made(index, worker, *part)));
        let of_all = of == Of::Any;
        let parts: Vec<(usize, Partial)> = parts
            .filter(|(_, made)| of_all || made.is_empty())
            .collect();
        for (part, made) in &parts {
            if made.is_empty() {
                self.store(state, *part, *made);
            }
            if !state.retired.has(self.shape[*part].parent) {
                match self.setting.empty {
                    Empty::Beside => state.shared.insert(*part),
                    _ => state.arrived.insert(*part),
                };
            }
        }
        if self.setting.empty == Empty::Beside {
            if !self.setting.has(Mutation::ReadTheOtherFirst) {
                // What the groups have is read next.
                worker.seen = state.shared;
            }
            if !self.setting.has(Mutation::WriterOfEmptyReadsOne) {
                return;
            }
        } else if self.setting.reads_back {
            return;
        }
        let visible = match self.setting.empty {
            Empty::Beside => state.shared,
            _ => state.arrived,
        };
        for (part, _) in parts {
            if self.is_ready(&self.group(state, self.shape[part].parent, visible)) {
                worker.asks.insert(part);
            }
        }
    }

    /// Reads the state of a node's group, or of the record that its last write was not to.
    pub(super) fn read_back(&self, state: &State, worker: &mut Worker, node: usize) {
        let above = self.shape[node].parent;
        let mut visible = state.arrived.or(state.shared);
        if self.is_in_two(node) && self.setting.has(Mutation::ReadTheOtherFirst) {
            // The write comes next.
            visible.insert(node);
        } else if self.is_in_two(node) {
            let is_empty = state.shared.has(node);
            visible = match is_empty {
                true => worker.seen.or(state.arrived),
                false => worker.seen.or(state.shared),
            };
        }
        if self.is_ready(&self.group(state, above, visible)) {
            worker.asks.insert(node);
        }
    }

    /// The store may drop the values, so the model does.
    pub(super) fn retire(&self, state: &mut State, group: usize) {
        state.retired.insert(group);
        for member in &self.shape[group].members {
            state.values[*member] = Partial::NONE;
        }
    }

    /// The run is over. Its groups read as retired, and writes to them change nothing; the result's parts stay.
    pub(super) fn forget_tree(&self, state: &mut State) {
        if !self.setting.forgets {
            return;
        }
        for (number, node) in self.shape.numbered() {
            if !matches!(node.place, Place::Result(_)) {
                state.values[number] = Partial::NONE;
                state.arrived.remove(number);
                state.shared.remove(number);
            }
            if node.place != Place::Answer {
                state.retired.insert(number);
            }
        }
    }

    pub(super) fn acknowledge(&self, state: &mut State, worker: &mut Worker) {
        if worker.receipt != Receipt::Valid {
            return;
        }
        worker.receipt = Receipt::Used;
        let has_effect = worker.program != Program::Nothing;
        let is_durable = self.is_durable(state, usize::from(worker.message), worker.program);
        if has_effect && (!worker.asks.is_empty() || !is_durable) {
            state.breaches.note(Breaches::NOT_DURABLE);
        }
    }

    /// Whether everything that a message causes is in the scratchpad or on the queue.
    fn is_durable(&self, state: &State, message: usize, program: Program) -> bool {
        let node = &self.shape[message];
        let made = match (program, node.makes_as_root) {
            (Program::Root, Some(made)) => &[made][..],
            (Program::Root, None) => &[],
            _ => &node.makes[..],
        };
        let mut made = made.iter();
        let is_there = made.all(|made| match self.shape[*made].place {
            Place::Packet(partition) if program == Program::Root => {
                state.carried[partition].is_some()
            }
            _ => self.has_arrived(state, *made),
        });
        is_there && (node.is_packet() || state.retired.has(message))
    }

    fn has_arrived(&self, state: &State, node: usize) -> bool {
        let is_there = state.arrived.or(state.shared).has(node) && state.values[node].is_some();
        is_there || state.retired.has(self.shape[node].parent)
    }

    /// The visibility timeout of a message lapses while its worker continues.
    pub(super) fn time_out(&self, state: &mut State, worker: usize) {
        let worker = &mut state.workers[worker];
        worker.receipt = Receipt::Stale;
        state.queue.add(usize::from(worker.message));
    }

    /// A process dies, and another replaces it. Its message is ready for delivery at once: any delivery may also happen later.
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
