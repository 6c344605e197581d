//! The steps of workers, each as atomic as in the library.

use super::rules::Mutation;
use super::shape::{Place, Shape};
use super::state::{Breaches, Partial, Program, State, Worker};
use super::store::send;
use super::{After, Empty, Setting, System};
use crate::model::state::Receipt;

/// Which parts a step is for; the others pass it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Any,
    Filled,
    Empty,
}

/// A step of a worker at its message. The number is the node that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Read the group's state: is it retired, or not complete, or to be reduced?
    ReadState,
    /// Read its values, and combine them in the order of their slots.
    ReadValues,
    /// Store the value in its slot at the group above, or in its place of the result.
    Store(usize, Of),
    /// Add the slot to that group's arrived set, and read its state after it.
    Add(usize, Of),
    /// Store and add all empty parts in one write.
    AddEmpty,
    /// Add all parts in one write, which stores the empty ones as well.
    AddAll,
    /// Read that group's state, or the half of it that the write did not return.
    ReadBack(usize, Of),
    /// Send the message that asks for that group's reduction, if it is complete.
    Ask(usize, Of),
    /// Send a partition's value on as a packet of the next stage.
    Send(usize),
    /// Record that the run is done, if the result has all of its parts.
    Complete(usize),
    /// Write the value of a plain reduction as the result.
    WriteResult,
    Retire,
    Acknowledge,
}

/// By message: the steps of its work, and those of a root.
pub(super) struct Programs {
    work: Vec<Vec<Step>>,
    root: Vec<Vec<Step>>,
}

impl Programs {
    pub(super) fn new(setting: &Setting, shape: &Shape) -> Self {
        let messages = 0..shape.len();
        Self {
            work: messages
                .clone()
                .map(|message| work(setting, shape, message))
                .collect(),
            root: messages
                .map(|message| root(setting, shape, message))
                .collect(),
        }
    }

    pub(super) fn of(&self, program: Program, message: usize) -> &[Step] {
        match program {
            Program::Idle => &[],
            Program::Nothing => &[Step::Acknowledge],
            Program::Work => &self.work[message],
            Program::Root => &self.root[message],
        }
    }
}

/// The steps by which a node reaches its group.
fn arrival(setting: &Setting, node: usize, of: Of) -> Vec<Step> {
    let mut steps = vec![
        Step::Store(node, of),
        Step::Add(node, of),
        Step::Ask(node, of),
    ];
    let reads_one = setting.has(Mutation::WriterOfPartsReadsOne);
    let is_beside = of == Of::Filled && setting.empty == Empty::Beside && !reads_one;
    if setting.reads_back || is_beside {
        let first = is_beside && setting.has(Mutation::ReadTheOtherFirst);
        steps.insert(if first { 1 } else { 2 }, Step::ReadBack(node, of));
    }
    steps
}

fn work(setting: &Setting, shape: &Shape, message: usize) -> Vec<Step> {
    let node = &shape[message];
    let mut steps = Vec::new();
    if node.is_group() {
        steps.extend([Step::ReadState, Step::ReadValues]);
    }
    let arrivals = |of| {
        let made = node.makes.iter();
        made.flat_map(move |node| arrival(setting, *node, of))
    };
    let stays_away = setting.has(Mutation::EmptyPartsStayAway);
    match setting.empty {
        Empty::WithTheOthers if shape.splits(message) => {
            steps.extend(all_parts(setting, &node.makes));
        }
        Empty::Alone if !stays_away => steps.extend(arrivals(Of::Any)),
        _ if shape.splits(message) => {
            steps.extend(arrivals(Of::Filled));
            if !stays_away {
                steps.extend(empty_parts(setting, &node.makes));
            }
        }
        _ => steps.extend(arrivals(Of::Any)),
    }
    let after_first = steps.iter().position(|step| matches!(step, Step::Ask(..)));
    let after_first = after_first.map_or(0, |place| place + 1);
    let mut retire = node.is_group();
    let mut acknowledge = true;
    if shape.splits(message) {
        if setting.has(Mutation::AskForTheFirstOnly) {
            let first = node.makes[0];
            steps.retain(|step| !matches!(step, Step::Ask(node, _) if *node != first));
        }
        if setting.has(Mutation::AcknowledgeAfterFirstPart) {
            steps.insert(after_first, Step::Acknowledge);
            acknowledge = false;
        }
        if setting.has(Mutation::RetireAfterFirstPart) {
            steps.insert(after_first, Step::Retire);
            retire = false;
        }
    }
    steps.extend(retire.then_some(Step::Retire));
    steps.extend(acknowledge.then_some(Step::Acknowledge));
    steps
}

/// The parts that are not empty are stored, and then all of them are added at once.
fn all_parts(setting: &Setting, parts: &[usize]) -> Vec<Step> {
    let store = parts.iter().map(|part| Step::Store(*part, Of::Filled));
    let mut steps: Vec<Step> = store.collect();
    let add_first = setting.has(Mutation::PartsListedBeforeTheyAreStored);
    let place = if add_first { 0 } else { steps.len() };
    steps.insert(place, Step::AddAll);
    if setting.reads_back {
        steps.extend(parts.iter().map(|part| Step::ReadBack(*part, Of::Any)));
    }
    steps.extend(parts.iter().map(|part| Step::Ask(*part, Of::Any)));
    steps
}

/// All empty parts arrive in one write. If it is to a record beside their groups, the groups are read after it.
fn empty_parts(setting: &Setting, parts: &[usize]) -> Vec<Step> {
    let reads_one = setting.has(Mutation::WriterOfEmptyReadsOne);
    let is_beside = setting.empty == Empty::Beside && !reads_one;
    let reads = parts.iter().map(|part| Step::ReadBack(*part, Of::Empty));
    let reads: Vec<Step> = reads.filter(|_| setting.reads_back || is_beside).collect();
    let mut steps = vec![Step::AddEmpty];
    let first = is_beside && setting.has(Mutation::ReadTheOtherFirst);
    let place = if first { 0 } else { 1 };
    steps.splice(place..place, reads);
    steps.extend(parts.iter().map(|part| Step::Ask(*part, Of::Empty)));
    steps
}

fn root(setting: &Setting, shape: &Shape, message: usize) -> Vec<Step> {
    let mut steps = vec![Step::ReadState, Step::ReadValues];
    let made = shape[message].makes_as_root;
    let mut retires_early = false;
    match made {
        Some(part) if setting.after == After::Nothing => {
            steps.extend([Step::Store(part, Of::Any), Step::Add(part, Of::Any)]);
            if setting.has(Mutation::PartListedBeforeItIsStored) {
                steps.swap(2, 3);
            }
            if setting.reads_back {
                steps.push(Step::ReadBack(part, Of::Any));
            }
            steps.push(Step::Complete(part));
            retires_early = setting.has(Mutation::RetireBeforePart);
        }
        Some(packet) => {
            steps.push(Step::Send(packet));
            retires_early = setting.has(Mutation::RetireBeforeSending);
        }
        None => steps.push(Step::WriteResult),
    }
    match retires_early {
        true => steps.insert(2, Step::Retire),
        false => steps.push(Step::Retire),
    }
    steps.push(Step::Acknowledge);
    steps
}

impl System {
    pub(super) fn next_step(&self, worker: &Worker) -> Option<Step> {
        let program = self
            .programs
            .of(worker.program, usize::from(worker.message));
        program.get(usize::from(worker.at)).copied()
    }

    pub(super) fn receive(&self, state: &mut State, worker: usize, message: usize, made: usize) {
        state.queue.remove(message);
        state.workers[worker] = Worker {
            program: Program::Work,
            message: message as u8,
            value: match self.shape[message].place {
                Place::Leaf(leaf) => self.setting.made_of(leaf as usize)[made],
                Place::Packet(partition) => state.carried[partition],
                _ => Partial::NONE,
            },
            ..Worker::default()
        };
        self.pass_over(&mut state.workers[worker]);
    }

    pub(super) fn step(&self, state: &mut State, index: usize) {
        let mut worker = state.workers[index];
        let message = usize::from(worker.message);
        match self.next_step(&worker).expect("who is busy has a step") {
            Step::ReadState => {
                let found = self.group_read(state, message);
                if !self.is_ready(&found) {
                    // The group is retired, or its reduction will be asked for again.
                    state.workers[index] = match worker.receipt {
                        Receipt::Used => Worker::default(),
                        receipt => Worker {
                            program: Program::Nothing,
                            message: worker.message,
                            receipt,
                            ..Worker::default()
                        },
                    };
                    return;
                }
                if found.root {
                    worker.program = Program::Root;
                }
            }
            Step::ReadValues => match self.combine(state, message) {
                Some(value) => worker.value = value,
                None => {
                    // Reads again, beginning with the state.
                    state.workers[index].at -= 1;
                    return;
                }
            },
            Step::Store(node, _) => {
                let value = self.made(index, &worker, node);
                self.store(state, node, value);
            }
            Step::Add(node, _) => self.add(state, &mut worker, node),
            Step::AddEmpty => self.add_parts(state, index, &mut worker, Of::Empty),
            Step::AddAll => self.add_parts(state, index, &mut worker, Of::Any),
            Step::ReadBack(node, _) => self.read_back(state, &mut worker, node),
            Step::Ask(node, _) => {
                send(state, self.shape[node].parent);
                worker.asks.remove(node);
            }
            Step::Send(packet) => self.send_on(state, &worker, packet),
            Step::Complete(part) => {
                state.done = true;
                worker.asks.remove(part);
                self.forget_tree(state);
            }
            Step::WriteResult => {
                if !state.done {
                    state.result = worker.value;
                }
                state.done = true;
                self.forget_tree(state);
            }
            Step::Retire => self.retire(state, message),
            Step::Acknowledge => self.acknowledge(state, &mut worker),
        }
        worker.at += 1;
        self.pass_over(&mut worker);
        state.workers[index] = worker;
    }

    /// The value that a worker makes for a node.
    pub(super) fn made(&self, index: usize, worker: &Worker, node: usize) -> Partial {
        let message = usize::from(worker.message);
        if !self.shape.splits(message) {
            return worker.value;
        }
        let Some(partition) = self.shape[message]
            .makes
            .iter()
            .position(|made| *made == node)
        else {
            return worker.value;
        };
        let swaps = self.setting.has(Mutation::HashOfTheWorker) && index == 1;
        let part = match swaps {
            true => worker.value.part(self.setting.partitions - 1 - partition),
            false => worker.value.part(partition),
        };
        let has_no_counts = self.setting.has(Mutation::EmptyPartsWithoutCounts);
        match part.is_empty() && has_no_counts {
            true => part.without_counts(),
            false => part,
        }
    }

    /// Whether a worker's part is empty.
    fn is_empty(&self, worker: &Worker, node: usize) -> bool {
        let partition = self.shape[node].partition();
        partition.is_none_or(|partition| worker.value.part(partition).is_empty())
    }

    /// Advances to the next step that has something to do.
    fn pass_over(&self, worker: &mut Worker) {
        while let Some(step) = self.next_step(worker) {
            let (of, has_to) = match step {
                Step::Ask(node, of) => (Some((node, of)), worker.asks.has(node)),
                Step::Complete(node) => (None, worker.asks.has(node)),
                Step::Store(node, of) | Step::Add(node, of) | Step::ReadBack(node, of) => {
                    (Some((node, of)), true)
                }
                Step::AddEmpty => {
                    let parts = &self.shape[usize::from(worker.message)].makes;
                    let has_empty = parts.iter().any(|part| self.is_empty(worker, *part));
                    (None, has_empty)
                }
                _ => (None, true),
            };
            let is_of = of.is_none_or(|(node, of)| match of {
                Of::Any => true,
                Of::Filled => !self.is_empty(worker, node),
                Of::Empty => self.is_empty(worker, node),
            });
            if has_to && is_of {
                return;
            }
            worker.at += 1;
        }
        *worker = Worker::default();
    }

    /// Sends a partition's value to the next stage.
    fn send_on(&self, state: &mut State, worker: &Worker, packet: usize) {
        let Place::Packet(partition) = self.shape[packet].place else {
            unreachable!("a packet of the next stage");
        };
        let counts = match (
            self.setting.has(Mutation::AllCarryCountsOn),
            self.setting.has(Mutation::NoneCarriesCountsOn),
        ) {
            (true, _) => true,
            (_, true) => false,
            _ => partition == 0,
        };
        let value = match counts {
            true => worker.value,
            false => worker.value.without_counts(),
        };
        let carried = &mut state.carried[partition];
        if carried.is_some() && *carried != value {
            state.breaches.note(Breaches::WRONG_VALUE);
        }
        *carried = value;
        send(state, packet);
    }
}
