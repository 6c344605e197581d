//! The steps of workers and submitters, each as atomic as in the library.

use super::mutation::Mutation;
use super::nodes::Nodes;
use super::state::{Asks, Program, Receipt, State, Worker};
use super::store::send;
use super::{Sealed, Setting, System};

/// A step of a worker at its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Read the group's state: is it retired, or not complete, or to be reduced?
    ReadState,
    /// Read its values, and combine them in the order of their slots.
    ReadValues,
    /// Store the value in its slot at the group above.
    StoreValue,
    /// Add the slot to that group's arrived set, and read its state after it.
    AddSlot,
    /// Read that group's state: a step of its own, for a scratchpad whose write does not return it.
    ReadBack,
    /// Send the message that asks for that group's reduction, if it is complete.
    Ask,
    /// Send one of the packets of a split bundle.
    Send,
    WriteResult,
    Retire,
    Acknowledge,
}

/// A step of a submitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Write the run's record, or find an existing one.
    Begin,
    /// Record a group's size, and read its state after the write.
    Seal(usize),
    /// Ask for the group's reduction, if that has completed it.
    Ask(usize),
    /// Send a packet.
    Send(usize),
    /// Record that as many packets as this are on the queue. Another submitter does not send them.
    Note(u8),
    /// Record the number of packets.
    Measure,
    /// Record that everything was sent: the last operation.
    Submitted,
}

/// The programs for the message of a leaf, of a group, of the root, and for one that needs no work;
/// then those that split a bundle, by the number of packets that have their values.
pub(super) fn programs(setting: &Setting) -> Vec<Vec<Step>> {
    use Step::{
        Acknowledge, AddSlot, Ask, ReadBack, ReadState, ReadValues, Retire, StoreValue, WriteResult,
    };
    let mut leaf = vec![StoreValue, AddSlot, Ask, Acknowledge];
    let mut group = vec![
        ReadState,
        ReadValues,
        StoreValue,
        AddSlot,
        Ask,
        Retire,
        Acknowledge,
    ];
    let mut root = vec![ReadState, ReadValues, WriteResult, Retire, Acknowledge];
    for program in [&mut leaf, &mut group] {
        if setting.reads_back {
            put(program, ReadBack, Ask);
        }
        if setting.has(Mutation::AddSlotBeforeValue) {
            put(program, AddSlot, StoreValue);
        }
        if setting.has(Mutation::AcknowledgeBeforeAsking) {
            put(program, Acknowledge, Ask);
        }
    }
    if setting.has(Mutation::RetireBeforeParent) {
        put(&mut group, Retire, StoreValue);
    }
    for program in [&mut group, &mut root] {
        if setting.has(Mutation::AcknowledgeBeforeRetiring) {
            put(program, Acknowledge, Retire);
        }
    }
    for program in [&mut leaf, &mut group, &mut root] {
        if setting.has(Mutation::AcknowledgeFirst) {
            let first = program[0];
            put(program, Acknowledge, first);
        }
    }
    let mut programs = vec![leaf, group, root, vec![Acknowledge]];
    if setting.together {
        programs.extend((0..setting.packets()).map(|first| apart(setting, first)));
    }
    programs
}

/// The program that splits a bundle: its first `first` packets arrive as they would by themselves,
/// and the others are sent.
fn apart(setting: &Setting, first: u32) -> Vec<Step> {
    use Step::{Acknowledge, AddSlot, Ask, ReadBack, Send, StoreValue};
    let arrival = match setting.reads_back {
        true => vec![StoreValue, AddSlot, ReadBack, Ask],
        false => vec![StoreValue, AddSlot, Ask],
    };
    let mut program = arrival.repeat(first as usize);
    program.extend((first..setting.packets()).map(|_| Send));
    program.push(Acknowledge);
    if setting.has(Mutation::AcknowledgeBeforeSending) {
        put(&mut program, Acknowledge, Send);
    }
    program
}

/// Moves or inserts a step before another.
fn put(program: &mut Vec<Step>, step: Step, before: Step) {
    program.retain(|other| *other != step);
    let place = program.iter().position(|other| *other == before);
    program.insert(place.expect("a step of the program"), step);
}

/// The operations of a submitter from the start, and those with which it continues if it finds the
/// packets counted already: a known length is sealed first.
pub(super) fn operations(setting: &Setting, nodes: &Nodes) -> [Vec<Operation>; 2] {
    use Operation::{Ask, Begin, Measure, Note, Seal, Send, Submitted};
    let mut seal = Vec::new();
    for group in nodes.edges() {
        seal.push(Seal(group));
        if !setting.has(Mutation::SealDoesNotSend) {
            seal.push(Ask(group));
        }
    }
    let mut send: Vec<Operation> = nodes.sent().into_iter().map(Send).collect();
    if setting.notes {
        let place = usize::from(!setting.has(Mutation::NoteBeforeSending));
        let sent = send.iter().zip(1..).map(|(packet, count)| {
            let mut operations = vec![*packet];
            operations.insert(place, Note(count));
            operations
        });
        send = sent.flatten().collect();
    }
    let known = [seal.clone(), send.clone(), vec![Submitted]].concat();
    let mut start = match setting.sealed {
        Sealed::First => known.clone(),
        Sealed::Last => [send, vec![Measure], seal, vec![Submitted]].concat(),
    };
    start.insert(0, Begin);
    if setting.has(Mutation::SubmittedFirst) {
        // The submission continues, but a repetition finds it finished.
        start.insert(1, Submitted);
    }
    [start, known]
}

impl System {
    fn program(&self, program: Program) -> &[Step] {
        program.place().map_or(&[], |place| &self.programs[place])
    }

    pub(super) fn next_step(&self, worker: &Worker) -> Option<Step> {
        let program = self.program(worker.program);
        program.get(usize::from(worker.at)).copied()
    }

    /// The node that a worker makes in its current step, or whose message it sends.
    pub(super) fn subject(&self, worker: &Worker) -> usize {
        let node = self.nodes.made_by(usize::from(worker.message));
        if !matches!(worker.program, Program::Apart(_)) {
            return node;
        }
        let done = &self.program(worker.program)[..usize::from(worker.at)];
        let done = done
            .iter()
            .filter(|step| matches!(step, Step::Ask | Step::Send));
        let members = &self.nodes[node].members;
        members.get(done.count()).copied().unwrap_or(node)
    }

    pub(super) fn submit(&self, state: &mut State, submitter: usize) {
        let at = usize::from(state.submitters[submitter]);
        let mut next = at + 1;
        match self.operations[at] {
            Operation::Begin => {
                state.skips[submitter] = state.noted;
                if state.submitted || state.result.is_some() {
                    state.skips[submitter] = 0;
                    next = self.end();
                } else if state.measured {
                    next = self.known;
                }
            }
            Operation::Seal(group) => {
                state.told.insert(group);
                let may_ask = self.operations[next] == Operation::Ask(group);
                if may_ask && !self.is_ready(&self.group(state, group)) {
                    next += 1;
                }
            }
            Operation::Ask(node) | Operation::Send(node) => send(state, node),
            Operation::Note(count) => state.noted = state.noted.max(count),
            Operation::Measure => state.measured = true,
            Operation::Submitted => {
                state.submitted = true;
                if at > 1 {
                    next = self.end();
                }
            }
        }
        // What was noted when it began is not sent again, and what is noted need not be again.
        let skips = &mut state.skips[submitter];
        loop {
            match self.operations.get(next) {
                Some(Operation::Send(_)) if *skips > 0 => *skips -= 1,
                Some(Operation::Note(count)) if *count <= state.noted => {}
                _ => break,
            }
            next += 1;
        }
        state.submitters[submitter] = next as u8;
    }

    pub(super) fn receive(&self, state: &mut State, worker: usize, message: usize) {
        state.queue.remove(message);
        state.workers[worker] = Worker {
            program: match self.nodes.is_together(message) || self.nodes[message].is_leaf() {
                true => Program::Leaf,
                false => Program::Group,
            },
            message: message as u8,
            ..Worker::default()
        };
    }

    /// Receives a bundle and splits it, because functions are slow or their values do not combine:
    /// `first` packets have their values.
    pub(super) fn receive_apart(
        &self,
        state: &mut State,
        worker: usize,
        message: usize,
        first: u8,
    ) {
        self.receive(state, worker, message);
        state.workers[worker].program = Program::Apart(first);
    }

    pub(super) fn step(&self, state: &mut State, index: usize) {
        let mut worker = state.workers[index];
        let node = self.subject(&worker);
        match self.next_step(&worker).expect("who is busy has a step") {
            Step::ReadState => {
                let group = self.group(state, node);
                let is_careless = !group.retired && self.setting.has(Mutation::ReduceIncomplete);
                if !self.is_ready(&group) && !is_careless {
                    // The group is retired, or its reduction will be asked for again.
                    state.workers[index] = match worker.receipt {
                        Receipt::Used => Worker::default(),
                        _ => Worker {
                            program: Program::Nothing,
                            at: 0,
                            ..worker
                        },
                    };
                    return;
                }
                if group.root {
                    worker.program = Program::Root;
                }
            }
            Step::ReadValues => match self.combine(state, node) {
                Some(value) => worker.value = value,
                None => {
                    // Reads again, beginning with the state.
                    state.workers[index].at -= 1;
                    return;
                }
            },
            Step::StoreValue => {
                let value = match worker.program {
                    Program::Leaf | Program::Apart(_) => self.nodes[node].value,
                    _ => std::mem::take(&mut worker.value),
                };
                self.store(state, node, value);
            }
            Step::AddSlot => {
                worker.asks = match self.add_slot(state, node) && !self.setting.reads_back {
                    true => Asks::Yes,
                    false => Asks::No,
                }
            }
            Step::ReadBack => {
                let above = self.group(state, self.nodes[node].parent);
                if self.is_ready(&above) {
                    worker.asks = Asks::Yes;
                }
            }
            Step::Ask => {
                send(state, self.nodes[node].parent);
                worker.asks = Asks::No;
                self.neighbour_has_asked(state, index);
            }
            Step::Send => send(state, node),
            Step::WriteResult => self.write_result(state, std::mem::take(&mut worker.value)),
            Step::Retire => self.retire(state, node),
            Step::Acknowledge => self.acknowledge(state, &mut worker),
        }
        self.advance(&mut worker);
        state.workers[index] = worker;
    }

    /// The first two workers add their slots to one group in one write. If that completes it, one
    /// of them asks.
    pub(super) fn arrive_together(&self, state: &mut State) {
        let [mut asker, mut neighbour, _] = state.workers;
        self.add_slot(state, self.subject(&asker));
        if self.add_slot(state, self.subject(&neighbour)) {
            asker.asks = Asks::Yes;
            neighbour.asks = match self.setting.has(Mutation::AcknowledgeBeforeNeighbourAsks) {
                true => Asks::No,
                false => Asks::Neighbour,
            };
        }
        self.advance(&mut asker);
        self.advance(&mut neighbour);
        state.workers[0] = asker;
        state.workers[1] = neighbour;
    }

    fn neighbour_has_asked(&self, state: &mut State, asker: usize) {
        let [first, second, _] = &mut state.workers;
        let neighbour = match asker {
            0 => second,
            1 => first,
            _ => return,
        };
        if neighbour.asks == Asks::Neighbour {
            neighbour.asks = Asks::No;
            self.advance(neighbour);
        }
    }

    /// Advances to the next step that has something to do.
    fn advance(&self, worker: &mut Worker) {
        worker.at += 1;
        if self.next_step(worker) == Some(Step::Ask) && worker.asks == Asks::No {
            worker.at += 1;
        }
        if self.next_step(worker).is_none() {
            *worker = Worker::default();
        }
    }
}
