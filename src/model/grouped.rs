//! Grouped reductions: every interleaving of the steps of a run whose level 1 is split into partitions, with crashes and
//! duplicate deliveries anywhere.
//!
//! A leaf arrives at its group above the leaves, as in a plain reduction. Reducing such a group, which is never a root,
//! makes a *part* for each partition; partition p has a tree of its own over its parts, in the arithmetic of
//! [`crate::core::tree`], and from there every rule of the plain protocol holds for the partition by itself. Each part
//! stands for all leaves of its group, if it has items of them or none, so that each partition's root must stand for the
//! whole array.
//!
//! What follows is either nothing (the partitions' values are the result, which is done when it has all of them) or a map
//! stage and a plain reduction, whose leaf p is the value of partition p. Only partition 0 carries the counts on.
//!
//! What the plain model checks already is left out here: bundles, submitters that note, shared writes of neighbours. What a
//! leaf makes may vary from one delivery to the next ([`Leaves::Fickle`]): its key changes, or it is skipped.

mod broken;
mod explore;
mod measure;
mod promises;
mod rules;
mod shape;
mod shortcuts;
mod state;
mod steps;
mod store;
mod submitter;
mod tests;
mod trace;

use stateright::{Model, Property};

use self::measure::Measure;
use self::promises::{ENDS, PROMISES};
use self::rules::Mutation;
use self::shape::{Place, Shape};
use self::state::{Breaches, Partial, State, WORKERS};
use self::steps::Programs;
use self::submitter::Operation;
use super::state::Receipt;
use super::{Detail, Sealed};

/// What follows the grouped reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Nothing,
    /// A map stage, and a plain reduction.
    Reduction,
}

/// How the parts of a group arrive that are empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Empty {
    /// As the others do: each by a write of its own.
    Alone,
    /// In one write to all of their groups, as a transaction does it.
    AtOnce,
    /// In one write to a record beside their groups, which neighbours share.
    Beside,
    /// With the others: the first groups of all partitions share one set of slots, to which a split adds itself once, after
    /// it has stored its parts that are not empty.
    WithTheOthers,
}

/// What a leaf makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaves {
    /// Neighbours have keys of different partitions.
    InTurn,
    /// The second half of the leaves has keys of partition 1, so that groups have an empty part.
    InHalves,
    /// None: all parts are empty.
    WithoutItems,
    /// Each delivery may make another key, or leave the item out.
    Fickle,
}

/// The setting of an exploration.
#[derive(Clone, Debug)]
struct Setting {
    leaves: u64,
    fan_in: u32,
    partitions: usize,
    sealed: Sealed,
    makes: Leaves,
    after: After,
    empty: Empty,
    /// An arrival reads its group's state some time after its write, not with it.
    reads_back: bool,
    /// Once the run is done, the scratchpad drops its tree.
    forgets: bool,
    /// The maximum number of crashes, lapsed visibility timeouts and duplicate deliveries, in total.
    faults: u8,
    detail: Detail,
    mutations: Vec<Mutation>,
}

impl Setting {
    fn has(&self, mutation: Mutation) -> bool {
        self.mutations.contains(&mutation)
    }

    /// What a delivery of a leaf may make.
    fn made_of(&self, leaf: usize) -> Vec<Partial> {
        let last = self.partitions - 1;
        match self.makes {
            Leaves::InTurn => vec![Partial::of(leaf, leaf % self.partitions)],
            Leaves::InHalves if 2 * leaf as u64 >= self.leaves => vec![Partial::of(leaf, last)],
            Leaves::InHalves => vec![Partial::of(leaf, 0)],
            Leaves::WithoutItems => vec![Partial {
                contains: 1,
                ..Partial::EMPTY
            }],
            Leaves::Fickle => {
                let keys = 0..self.partitions;
                let made = keys.map(|partition| Partial::of(leaf, partition));
                made.chain([Partial::SKIPPED]).collect()
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// The submitter's next operation.
    Submit,
    /// A worker takes a message from the queue; of what a leaf may make, it makes this.
    Receive(usize, usize, usize),
    /// A worker's next step.
    Step(usize),
    /// The submitter dies, and another submits again from the start.
    SubmitterCrashes,
    TimesOut(usize),
    Crashes(usize),
    /// The queue delivers a message once more, whether it is waiting, in flight or acknowledged long ago.
    ComesAgain(usize),
}

impl Action {
    fn is_fault(self) -> bool {
        use Action::{ComesAgain, Crashes, SubmitterCrashes, TimesOut};
        matches!(
            self,
            SubmitterCrashes | TimesOut(_) | Crashes(_) | ComesAgain(_)
        )
    }
}

/// One run: its trees, and the programs of its messages and of its submitter.
struct System {
    setting: Setting,
    shape: Shape,
    programs: Programs,
    operations: Vec<Operation>,
    /// The operation with which a submitter continues if the packets have been counted already.
    known: usize,
    measure: Measure,
}

impl System {
    fn new(setting: Setting) -> Self {
        let shape = Shape::new(&setting);
        let programs = Programs::new(&setting, &shape);
        let [start, known] = submitter::operations(&setting, &shape);
        let operations = [start.as_slice(), &known].concat();
        Self {
            measure: Measure::new(&shape, &programs, &operations),
            known: start.len(),
            setting,
            shape,
            programs,
            operations,
        }
    }

    fn has_submitted(&self, state: &State) -> bool {
        usize::from(state.submitter) == self.operations.len()
    }

    /// Whether no process has anything left to do, unless there is another fault.
    fn is_quiet(&self, state: &State) -> bool {
        state.queue.is_empty()
            && state.workers.iter().all(|worker| worker.is_idle())
            && self.has_submitted(state)
    }

    fn steps(&self, state: &State, actions: &mut Vec<Action>) {
        if !self.has_submitted(state) {
            actions.push(Action::Submit);
        }
        let mut has_idle = false;
        for (index, worker) in state.workers.iter().enumerate() {
            if !worker.is_idle() {
                actions.push(Action::Step(index));
            } else if !has_idle || self.setting.has(Mutation::HashOfTheWorker) {
                // One of several interchangeable idle workers is enough.
                has_idle = true;
                for (message, _) in state.queue.iter() {
                    let made = match self.shape[message].place {
                        Place::Leaf(leaf) => self.setting.made_of(leaf as usize).len(),
                        _ => 1,
                    };
                    actions.extend((0..made).map(|made| Action::Receive(index, message, made)));
                }
            }
        }
    }

    fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        self.submitter_faults(state, actions);
        for worker in 0..WORKERS {
            self.worker_faults(state, worker, actions);
        }
        actions.extend(state.sent.iter().map(Action::ComesAgain));
    }

    fn submitter_faults(&self, state: &State, actions: &mut Vec<Action>) {
        if state.faults_left > 0 && state.submitter > 0 && !self.has_submitted(state) {
            actions.push(Action::SubmitterCrashes);
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
}

impl Model for System {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            faults_left: self.setting.faults,
            ..State::default()
        }]
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
            Action::Submit => self.submit(&mut state),
            Action::Receive(worker, message, made) => {
                self.receive(&mut state, worker, message, made);
            }
            Action::Step(worker) => self.step(&mut state, worker),
            Action::SubmitterCrashes => state.submitter = 0,
            Action::TimesOut(worker) => self.time_out(&mut state, worker),
            Action::Crashes(worker) => self.crash(&mut state, worker),
            Action::ComesAgain(message) => state.queue.add(message),
        }
        let left = |state| self.measure.of(state);
        if action.is_fault() {
            state.faults_left -= 1;
        } else if left(&state) >= left(before) {
            state.breaches.note(Breaches::VAIN);
        }
        if self.setting.detail == Detail::Short {
            self.shorten(&mut state);
        }
        let are_alike = !self.setting.has(Mutation::HashOfTheWorker);
        if self.setting.detail != Detail::Numbered && are_alike {
            // Of the states that differ only in their workers' order, one is explored.
            state.workers.sort_unstable();
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
