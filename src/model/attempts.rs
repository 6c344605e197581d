//! Which attempt a delivery is, checked apart from the tree: one message, two workers, and every order of receiving,
//! giving back, writing down, running and dying.
//!
//! The rule is that of [`crate::protocol`]: a delivery after the first is on record before its function runs, is taken
//! back if the function does not run after all, and is unfinished until it fails. A message with more unfinished
//! deliveries than attempts is a dead letter, and so is one whose last attempt failed.

use stateright::{Checker, Model, Property};

/// The rules, each broken in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutation {
    /// Every receive is an attempt.
    CountReceives,
    /// The beginning is written down after the function has run.
    NoteAfterRunning,
    /// A delivery that is given back stays on record.
    KeepWhatIsHandedBack,
    /// A delivery that has failed stays unfinished.
    KeepWhatFailed,
    /// A beginning that is written again, since the answer was lost, counts again.
    CountNotesTwice,
    /// Failures are not on record.
    ForgetFailures,
    /// Of failures in another order, the last one written stands, not the highest.
    KeepTheLastFailure,
}

/// What the function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Works,
    FailsOnce,
    Fails,
    Kills,
    KillsOnce,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Worker {
    Idle,
    /// It has received the message, and the delivery is this one.
    Holds(u8),
    /// The beginning is on record.
    Noted(u8),
    /// The function was called, at this attempt.
    Runs(u8, u8),
    /// The function has failed at this attempt.
    Failed(u8, u8),
    Worked(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    Waits,
    InFlight(u8),
    Done,
    Dead,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    place: Place,
    receives: u8,
    /// On record: unfinished deliveries, how often the record counts one that was written again, and the last attempt
    /// that failed.
    unfinished: u16,
    repeated: u8,
    failed: u8,
    workers: [Worker; 2],
    /// What truly happened: deliveries whose worker died or lost the message after the beginning was due, calls that
    /// ended their process, and failures that a worker saw.
    lost: u8,
    kills: u8,
    failures: u8,
    calls: u8,
    faults_left: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Receive(usize),
    /// The worker gives the message back before its function begins, as at a shutdown or at a throttle.
    HandBack(usize),
    Step(usize),
    /// A write whose answer is lost, and which will be made again.
    Repeat(usize),
    Crash(usize),
    Lapse,
}

struct System {
    attempts: u8,
    function: Function,
    faults: u8,
    mutation: Option<Mutation>,
}

impl System {
    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn unfinished(state: &State) -> u8 {
        state.unfinished.count_ones() as u8 + state.repeated
    }

    fn attempt(&self, state: &State, delivery: u8) -> u8 {
        match self.has(Mutation::CountReceives) {
            true => delivery,
            false if delivery == 1 => 1,
            false => (state.failed + 1).min(self.attempts),
        }
    }

    fn is_over(&self, state: &State, delivery: u8) -> bool {
        match self.has(Mutation::CountReceives) {
            true => delivery > self.attempts,
            false => Self::unfinished(state) > self.attempts && delivery > self.attempts,
        }
    }

    fn note(&self, state: &mut State, delivery: u8) {
        state.unfinished |= 1 << delivery;
    }

    /// The function is called, and does what it does.
    fn call(&self, state: &mut State, worker: usize, delivery: u8) {
        let attempt = self.attempt(state, delivery);
        state.calls = state.calls.saturating_add(1);
        let is_first = state.calls == 1;
        match self.function {
            Function::Kills => self.kill(state, worker, delivery),
            Function::KillsOnce if is_first => self.kill(state, worker, delivery),
            Function::Fails => state.workers[worker] = Worker::Failed(delivery, attempt),
            Function::FailsOnce if is_first => {
                state.workers[worker] = Worker::Failed(delivery, attempt);
            }
            _ => state.workers[worker] = Worker::Runs(delivery, attempt),
        }
    }

    fn kill(&self, state: &mut State, worker: usize, delivery: u8) {
        state.kills += 1;
        state.lost += 1;
        // Its visibility timeout brings it back.
        self.release(state, worker, delivery);
    }

    fn step(&self, state: &mut State, worker: usize) {
        match state.workers[worker] {
            Worker::Idle => {}
            Worker::Holds(delivery) => {
                // It does not know that it has lost the message, and begins nevertheless.
                state.lost += u8::from(state.place != Place::InFlight(delivery));
                if delivery > 1 && !self.has(Mutation::NoteAfterRunning) {
                    self.note(state, delivery);
                }
                match self.is_over(state, delivery) {
                    true => self.bury(state, worker, delivery),
                    false => state.workers[worker] = Worker::Noted(delivery),
                }
            }
            Worker::Noted(delivery) => self.call(state, worker, delivery),
            Worker::Runs(delivery, _) => {
                if self.has(Mutation::NoteAfterRunning) {
                    self.note(state, delivery);
                }
                state.workers[worker] = Worker::Worked(delivery);
            }
            Worker::Failed(delivery, attempt) => {
                state.failures += 1;
                if !self.has(Mutation::ForgetFailures) {
                    state.failed = match self.has(Mutation::KeepTheLastFailure) {
                        true => attempt,
                        false => state.failed.max(attempt),
                    };
                }
                if !self.has(Mutation::KeepWhatFailed) {
                    state.unfinished &= !(1 << delivery);
                    state.repeated = 0;
                }
                match attempt >= self.attempts {
                    true => self.bury(state, worker, delivery),
                    false => self.release(state, worker, delivery),
                }
            }
            Worker::Worked(delivery) => {
                if state.place == Place::InFlight(delivery) || state.place == Place::Waits {
                    state.place = Place::Done;
                }
                state.workers[worker] = Worker::Idle;
            }
        }
    }

    fn bury(&self, state: &mut State, worker: usize, delivery: u8) {
        if state.place == Place::InFlight(delivery) {
            state.place = Place::Dead;
        }
        state.workers[worker] = Worker::Idle;
    }

    fn release(&self, state: &mut State, worker: usize, delivery: u8) {
        if state.place == Place::InFlight(delivery) {
            state.place = Place::Waits;
        }
        state.workers[worker] = Worker::Idle;
    }
}

impl Model for System {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            place: Place::Waits,
            receives: 0,
            unfinished: 0,
            repeated: 0,
            failed: 0,
            workers: [Worker::Idle; 2],
            lost: 0,
            kills: 0,
            failures: 0,
            calls: 0,
            faults_left: self.faults,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.receives > MOST_RECEIVES {
            return;
        }
        for (index, worker) in state.workers.iter().enumerate() {
            match worker {
                Worker::Idle if state.place == Place::Waits => actions.push(Action::Receive(index)),
                Worker::Idle => continue,
                _ => actions.push(Action::Step(index)),
            }
            if state.faults_left == 0 || *worker == Worker::Idle {
                continue;
            }
            actions.push(Action::Crash(index));
            match worker {
                Worker::Holds(_) => actions.push(Action::HandBack(index)),
                Worker::Noted(_) => {
                    actions.extend([Action::HandBack(index), Action::Repeat(index)]);
                }
                _ => {}
            }
        }
        if state.faults_left > 0 && matches!(state.place, Place::InFlight(_)) {
            actions.push(Action::Lapse);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match action {
            Action::Receive(worker) => {
                state.receives += 1;
                state.place = Place::InFlight(state.receives);
                state.workers[worker] = Worker::Holds(state.receives);
            }
            Action::Step(worker) => self.step(&mut state, worker),
            Action::HandBack(worker) => {
                state.faults_left -= 1;
                let (Worker::Holds(delivery) | Worker::Noted(delivery)) = state.workers[worker]
                else {
                    return None;
                };
                if !self.has(Mutation::KeepWhatIsHandedBack) {
                    state.unfinished &= !(1 << delivery);
                }
                self.release(&mut state, worker, delivery);
            }
            Action::Repeat(_) => {
                state.faults_left -= 1;
                state.repeated += u8::from(self.has(Mutation::CountNotesTwice));
            }
            Action::Crash(worker) => {
                state.faults_left -= 1;
                // One that had only received the message has begun nothing.
                state.lost += u8::from(!matches!(state.workers[worker], Worker::Holds(_)));
                let (Worker::Holds(delivery)
                | Worker::Noted(delivery)
                | Worker::Runs(delivery, _)
                | Worker::Failed(delivery, _)
                | Worker::Worked(delivery)) = state.workers[worker]
                else {
                    return None;
                };
                self.release(&mut state, worker, delivery);
            }
            Action::Lapse => {
                state.faults_left -= 1;
                let Place::InFlight(delivery) = state.place else {
                    return None;
                };
                let has_begun = state.workers.iter().any(|worker| match worker {
                    Worker::Idle | Worker::Holds(_) => false,
                    Worker::Noted(held)
                    | Worker::Runs(held, _)
                    | Worker::Failed(held, _)
                    | Worker::Worked(held) => *held == delivery,
                });
                state.lost += u8::from(has_begun);
                state.place = Place::Waits;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(DESERVED, |system: &Self, state: &State| {
                state.place != Place::Dead
                    || state.lost >= system.attempts
                    || state.failures >= system.attempts
            }),
            Property::always(CAUGHT, |system: &Self, state: &State| {
                state.kills <= system.attempts + 1 + system.faults
            }),
            Property::always(FEW_FAILURES, |system: &Self, state: &State| {
                state.failures <= system.attempts + system.faults
            }),
            Property::always(ENDS, |_: &Self, state: &State| {
                let is_idle = state.workers == [Worker::Idle; 2];
                !is_idle || state.place != Place::InFlight(state.receives)
            }),
            Property::sometimes("it comes to an end", |_: &Self, state: &State| {
                matches!(state.place, Place::Done | Place::Dead)
            }),
        ]
    }
}

/// Where a broken rule lets a message come back for ever, the exploration ends.
const MOST_RECEIVES: u8 = 10;

const DESERVED: &str =
    "a dead letter has failed as often as it may, or was lost as often after it began";
const CAUGHT: &str =
    "a message ends at most one process more than it has attempts and there are faults";
const FEW_FAILURES: &str =
    "a message fails no more often than it has attempts and there are faults";
const ENDS: &str = "a message that nobody has is not in flight";

const FUNCTIONS: [Function; 5] = [
    Function::Works,
    Function::FailsOnce,
    Function::Fails,
    Function::Kills,
    Function::KillsOnce,
];

fn explore(system: System) -> (usize, Vec<&'static str>) {
    let may_go_on = system.mutation.is_some();
    let checker = system.checker().threads(2).spawn_bfs().join();
    let broken = checker.discoveries().into_keys();
    let broken = broken.filter(|promise| *promise != "it comes to an end");
    let broken = broken.collect();
    let ends = checker.discovery("it comes to an end").is_some();
    assert!(ends || may_go_on, "nothing happens");
    (checker.unique_state_count(), broken)
}

#[test]
fn only_what_began_counts_and_what_ends_its_process_is_caught() {
    let mut states = 0;
    for attempts in 1..=3 {
        for function in FUNCTIONS {
            for faults in 0..=4 {
                let system = System {
                    attempts,
                    function,
                    faults,
                    mutation: None,
                };
                let (explored, broken) = explore(system);
                assert!(
                    broken.is_empty(),
                    "{attempts} {function:?} {faults}: {broken:?}"
                );
                states += explored;
            }
        }
    }
    println!("attempts of one message: {states} states");
}

/// Whether some setting breaks this promise.
fn breaks(mutation: Mutation, promise: &str) {
    let found = (1..=3).any(|attempts| {
        FUNCTIONS.iter().any(|function| {
            let (_, broken) = explore(System {
                attempts,
                function: *function,
                faults: 4,
                mutation: Some(mutation),
            });
            broken.contains(&promise)
        })
    });
    assert!(found, "{mutation:?}: the checker finds nothing");
}

#[test]
fn each_rule_of_attempts_is_needed() {
    breaks(Mutation::CountReceives, DESERVED);
    breaks(Mutation::KeepWhatIsHandedBack, DESERVED);
    breaks(Mutation::KeepWhatFailed, DESERVED);
    breaks(Mutation::CountNotesTwice, DESERVED);
    breaks(Mutation::NoteAfterRunning, CAUGHT);
    breaks(Mutation::ForgetFailures, FEW_FAILURES);
    breaks(Mutation::KeepTheLastFailure, FEW_FAILURES);
}
