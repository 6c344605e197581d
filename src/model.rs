//! The protocol, checked: every interleaving of its steps, with crashes and duplicate deliveries
//! anywhere.
//!
//! The model uses the library's own tree arithmetic ([`crate::core::tree`]) and its own rule for
//! when a group is ready ([`GroupState::is_ready`](crate::scratchpad::GroupState::is_ready)). The
//! rest is the protocol of ARCHITECTURE.md written down once more, in steps as atomic as those of
//! the code: queue and scratchpad are a few bits ([`state`], [`store`]), workers and submitters
//! execute lists of steps ([`steps`]).
//!
//! The promises to check are in [`promises`]. Then the rules of the protocol are broken one by one
//! ([`mutation`]), to prove that the checker notices.
//!
//! The model leaves out what has no effect on the tree: items, failures of user functions,
//! cancelling. A *bundle* is the one message in which the packets of a full group travel; a worker
//! that *splits* it stores the values of some packets and sends the others by themselves.
//!
//! `cargo test --lib model -- --nocapture` prints the number of states, and the shortest way to
//! break each rule.

mod attempts;
mod broken;
mod explore;
mod grouped;
mod items;
mod measure;
mod mutation;
mod nodes;
mod promises;
mod shortcuts;
mod state;
mod steps;
mod store;
mod strangers;
mod tests;
mod trace;

use stateright::{Model, Property};

use self::measure::Measure;
use self::mutation::Mutation;
use self::nodes::Nodes;
use self::promises::{ENDS, PROMISES};
use self::state::{Asks, Breaches, NODES, Receipt, State};
use self::steps::{Operation, Step};

/// When the submitter seals the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sealed {
    /// Before it sends, since it knows the length.
    First,
    /// After everything is sent, as for a stream.
    Last,
}

/// Which states and orders are distinguished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    /// All of them. Workers keep their numbers, so that a trace can be followed.
    Numbered,
    /// Every order of steps, but not which worker takes a step.
    Full,
    /// Only orders that can make a difference: see [`shortcuts`].
    Short,
}

/// The setting of an exploration.
#[derive(Clone, Debug)]
struct Setting {
    leaves: u64,
    fan_in: u32,
    sealed: Sealed,
    /// The maximum number of crashes, lapsed visibility timeouts and duplicate deliveries, in
    /// total.
    faults: u8,
    detail: Detail,
    workers: usize,
    /// The number of processes that submit the same run concurrently.
    submitters: usize,
    /// The first two workers are tasks of one process: neighbours may share a write, and a crash
    /// takes both.
    shared_writes: bool,
    /// An arrival reads its group's state some time after its write, not with it.
    reads_back: bool,
    /// Once there is a result, the scratchpad drops the run's tree.
    forgets: bool,
    /// The packets of a full group travel as a bundle.
    together: bool,
    /// Submitters note after each packet how far they are.
    notes: bool,
    mutations: Vec<Mutation>,
}

impl Setting {
    fn new(leaves: u64, fan_in: u32, sealed: Sealed, faults: u8, detail: Detail) -> Self {
        Self {
            leaves,
            fan_in,
            sealed,
            faults,
            detail,
            workers: 2,
            submitters: 1,
            shared_writes: false,
            reads_back: false,
            forgets: false,
            together: false,
            notes: false,
            mutations: Vec::new(),
        }
    }

    /// The number of packets in the first group.
    fn packets(&self) -> u32 {
        u64::from(self.fan_in).min(self.leaves) as u32
    }

    fn has(&self, mutation: Mutation) -> bool {
        self.mutations.contains(&mutation)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// A submitter's next operation.
    Submit(usize),
    /// A worker takes a message from the queue.
    Receive(usize, usize),
    /// A worker takes a bundle and splits it: this many packets, from the first on, have their
    /// values.
    ReceiveApart(usize, usize, u8),
    /// A worker's next step.
    Step(usize),
    /// The first two workers add their slots in one write.
    ArriveTogether,
    /// A submitter dies, and another submits again from the start.
    SubmitterCrashes(usize),
    TimesOut(usize),
    Crashes(usize),
    /// The queue delivers a message once more, whether it is waiting, in flight or acknowledged
    /// long ago.
    ComesAgain(usize),
}

impl Action {
    fn is_fault(self) -> bool {
        use Action::{ComesAgain, Crashes, SubmitterCrashes, TimesOut};
        matches!(
            self,
            SubmitterCrashes(_) | TimesOut(_) | Crashes(_) | ComesAgain(_)
        )
    }
}

/// One run: its tree, and the programs of its workers and submitters.
struct System {
    setting: Setting,
    nodes: Nodes,
    programs: Vec<Vec<Step>>,
    operations: Vec<Operation>,
    /// The operation with which a submitter continues if the packets have been counted already.
    known: usize,
    measure: Measure,
}

impl System {
    fn new(setting: Setting) -> Self {
        let Setting { leaves, fan_in, .. } = setting;
        let edges = match setting.has(Mutation::RootNotStrict) {
            true => nodes::edges_not_strict(leaves, fan_in),
            false => nodes::edges(leaves, fan_in),
        };
        let is_exact = !setting.shared_writes || !setting.together;
        assert!(is_exact || setting.detail != Detail::Short, "no shortcuts");
        let mut nodes = Nodes::new(leaves, fan_in, &edges);
        if setting.together {
            nodes.put_together(match setting.has(Mutation::TogetherAtTheRoot) {
                true => setting.packets(),
                false => fan_in,
            });
        }
        assert!(nodes.messages() <= NODES, "a tree too large for the model");
        let programs = steps::programs(&setting);
        let [start, known] = steps::operations(&setting, &nodes);
        let operations = [start.as_slice(), &known].concat();
        Self {
            measure: Measure::new(&nodes, &programs, &operations),
            known: start.len(),
            setting,
            nodes,
            programs,
            operations,
        }
    }

    /// The position of a submitter that has finished.
    fn end(&self) -> usize {
        self.operations.len()
    }

    fn has_submitted(&self, at: u8) -> bool {
        usize::from(at) == self.end()
    }

    /// Whether no process has anything left to do, unless there is another fault.
    fn is_quiet(&self, state: &State) -> bool {
        state.queue.is_empty()
            && state.workers.iter().all(|worker| worker.is_idle())
            && state.submitters.iter().all(|at| self.has_submitted(*at))
    }

    fn steps(&self, state: &State, actions: &mut Vec<Action>) {
        for (submitter, at) in state.submitters.iter().enumerate() {
            if !self.has_submitted(*at) {
                actions.push(Action::Submit(submitter));
            }
        }
        let mut has_idle = [false; 2];
        for (index, worker) in state.workers[..self.setting.workers].iter().enumerate() {
            if !worker.is_idle() {
                if worker.asks != Asks::Neighbour {
                    actions.push(Action::Step(index));
                }
                continue;
            }
            // One of several interchangeable idle workers is enough.
            let kind = usize::from(self.setting.shared_writes && index >= 2);
            if !std::mem::replace(&mut has_idle[kind], true) {
                for (message, _) in state.queue.iter() {
                    actions.push(Action::Receive(index, message));
                    let apart = 0..self.nodes.packets(message) as u8;
                    let apart = apart.map(|first| Action::ReceiveApart(index, message, first));
                    actions.extend(apart);
                }
            }
        }
        if self.setting.shared_writes {
            let [first, second, _] = &state.workers;
            let arrives = |worker| self.next_step(worker) == Some(Step::AddSlot);
            let above = |worker| self.nodes[self.subject(worker)].parent;
            if arrives(first) && arrives(second) && above(first) == above(second) {
                actions.push(Action::ArriveTogether);
            }
        }
    }

    fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        for submitter in 0..self.setting.submitters {
            self.submitter_faults(state, submitter, actions);
        }
        for worker in 0..self.setting.workers {
            self.worker_faults(state, worker, actions);
        }
        let sent = (0..self.nodes.messages()).filter(|message| state.sent.has(*message));
        actions.extend(sent.map(Action::ComesAgain));
    }

    fn submitter_faults(&self, state: &State, submitter: usize, actions: &mut Vec<Action>) {
        let at = state.submitters[submitter];
        if state.faults_left > 0 && at > 0 && !self.has_submitted(at) {
            actions.push(Action::SubmitterCrashes(submitter));
        }
    }

    fn worker_faults(&self, state: &State, index: usize, actions: &mut Vec<Action>) {
        let worker = &state.workers[index];
        if state.faults_left == 0 || worker.is_idle() {
            return;
        }
        if worker.receipt == Receipt::Valid {
            actions.push(Action::TimesOut(index));
        }
        actions.push(Action::Crashes(index));
    }

    /// Sorts interchangeable processes: of the states that differ only in their order, one is
    /// explored.
    fn sort(&self, state: &mut State) {
        let alike = match self.setting.shared_writes {
            true => 2,
            false => self.setting.workers,
        };
        state.workers[..alike].sort_unstable();
        let [first, second] = [0, 1].map(|place| (state.submitters[place], state.skips[place]));
        if first > second {
            state.submitters.swap(0, 1);
            state.skips.swap(0, 1);
        }
    }
}

impl Model for System {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            faults_left: self.setting.faults,
            ..State::default()
        };
        state.submitters[self.setting.submitters..].fill(self.end() as u8);
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if self.setting.detail == Detail::Short && self.hidden_step(state, actions) {
            return;
        }
        self.steps(state, actions);
        if state.faults_left > 0 {
            self.faults(state, actions);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Submit(submitter) => self.submit(&mut state, submitter),
            Action::Receive(worker, message) => self.receive(&mut state, worker, message),
            Action::ReceiveApart(worker, message, first) => {
                self.receive_apart(&mut state, worker, message, first);
            }
            Action::Step(worker) => self.step(&mut state, worker),
            Action::ArriveTogether => self.arrive_together(&mut state),
            Action::SubmitterCrashes(submitter) => {
                state.submitters[submitter] = 0;
                state.skips[submitter] = 0;
            }
            Action::TimesOut(worker) => self.time_out(&mut state, worker),
            Action::Crashes(worker) if self.setting.shared_writes && worker < 2 => {
                self.crash(&mut state, 0);
                self.crash(&mut state, 1);
            }
            Action::Crashes(worker) => self.crash(&mut state, worker),
            Action::ComesAgain(message) => state.queue.add(message),
        }
        let left = |state| self.measure.of(&self.nodes, state);
        if action.is_fault() {
            state.faults_left -= 1;
        } else if left(&state) >= left(before) {
            state.breaches.note(Breaches::VAIN);
        }
        if self.setting.detail == Detail::Short {
            self.shorten(&mut state);
        }
        if self.setting.detail != Detail::Numbered {
            self.sort(&mut state);
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let ends = Property::sometimes(ENDS, |system: &Self, state| {
            state.faults_left == 0 && system.is_quiet(state)
        });
        let promises = PROMISES.map(|(name, holds)| Property::always(name, holds));
        std::iter::once(ends).chain(promises).collect()
    }
}
