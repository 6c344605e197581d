//! Attempts of items, checked apart from the tree: packets of two items, the processes that hold them, and every order of
//! receiving, calling, failing, writing down, giving back, losing and dying.
//!
//! An item has attempts of its own, which the process that holds its packet makes one after the other. Only a packet
//! that is given back has them on record, so that the next delivery goes on from there. A packet that has outlived
//! processes is a *suspect*: its items are called one at a time, each is on record first, and nothing else runs in the
//! process meanwhile.
//!
//! An item is final if its error is permanent, if its failed attempts are as many as its attempts, or if as many
//! deliveries ended while they were on record at it. Failures and deaths are counted apart. Deaths at no item count for
//! the packet only, which is given up as a whole at as many. Before anything is given up because of deaths, the process
//! looks whether the packet is done. In [`rules`] each of these rules is broken in turn.
//!
//! A *fault* comes from outside: a crash, a lapsed visibility timeout, a second copy of the message, a return. An item
//! that neither fails nor kills can still be final, if at least as many faults hit its packet while it was on record
//! as it has attempts: nobody can tell these deaths from those that an item causes.

mod promises;
mod rules;
mod state;
mod steps;
mod suspects;
mod tests;

use stateright::{Model, Property};

use self::rules::Mutation;
use self::state::{Behaviour, Phase, Place, Progress, State, TWO};

/// What becomes of a packet with an item that is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    /// It is a dead letter.
    Fail,
    /// It counts without the item.
    Skip,
}

/// Beside what a suspect may run in its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Alone {
    /// Beside what is not suspect.
    AmongSuspects,
    /// Beside that, unless one more death at an item would make it final.
    AtLast,
    /// Beside nothing.
    Always,
}

/// One exploration: what the items do, how many processes there are, and how many faults.
#[derive(Clone, Copy, Debug)]
struct System {
    packets: &'static [[Behaviour; TWO]],
    processes: usize,
    attempts: u8,
    policy: Policy,
    alone: Alone,
    /// The maximum number of crashes, lapsed visibility timeouts, copies and returns, in total.
    faults: u8,
    mutation: Option<Mutation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// A process receives a copy of a packet's message.
    Receive(usize, usize, usize),
    /// It does what is next with a packet.
    Step(usize, usize),
    /// It writes down that it is at this item.
    Name(usize, usize, usize),
    Call(usize, usize, usize),
    /// It stops, since it has noticed that the message is no longer its own.
    Stop(usize, usize),
    /// It gives the message back, as at a shutdown or before a long wait.
    Return(usize, usize),
    /// A process dies.
    Crash(usize),
    /// Its visibility timeout lapses, and it does not notice.
    Lapse(usize, usize),
    /// The queue holds the message twice.
    Copy(usize),
}

impl System {
    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn behaviour(&self, packet: usize, item: usize) -> Behaviour {
        self.packets[packet][item]
    }

    /// What processes do by themselves.
    fn steps(&self, state: &State, actions: &mut Vec<Action>) {
        for process in 0..self.processes {
            for packet in 0..self.packets.len() {
                self.steps_of(state, process, packet, actions);
            }
        }
    }

    fn steps_of(&self, state: &State, process: usize, packet: usize, actions: &mut Vec<Action>) {
        let slot = &state.processes[process][packet];
        match slot.phase {
            Phase::Idle => {
                let copies = state.packets[packet].copies.iter().enumerate();
                let waiting = copies.filter(|(_, copy)| copy.place == Place::Waits);
                actions.extend(waiting.map(|(copy, _)| Action::Receive(process, packet, copy)));
                return;
            }
            Phase::Holds if !self.may_begin(state, process, packet) => {}
            Phase::Runs => {
                for item in 0..TWO {
                    if slot.items[item].progress != Progress::Open {
                        continue;
                    }
                    if self.may_call(slot, item) {
                        actions.push(Action::Call(process, packet, item));
                    } else if self.may_name(state, process, packet, item) {
                        actions.push(Action::Name(process, packet, item));
                    }
                }
            }
            _ => actions.push(Action::Step(process, packet)),
        }
        if !slot.is_leased {
            actions.push(Action::Stop(process, packet));
        }
    }

    fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        for process in 0..self.processes {
            let slots = state.processes[process].iter().enumerate();
            let mut holds = false;
            for (packet, slot) in slots.filter(|(_, slot)| !slot.is_idle()) {
                holds = true;
                if matches!(slot.phase, Phase::Holds | Phase::Runs) {
                    actions.push(Action::Return(process, packet));
                }
                if slot.is_leased {
                    actions.push(Action::Lapse(process, packet));
                }
            }
            if holds {
                actions.push(Action::Crash(process));
            }
        }
        for packet in 0..self.packets.len() {
            if state.packets[packet].copies[1].place == Place::Unsent {
                actions.push(Action::Copy(packet));
            }
        }
    }
}

impl Model for System {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            faults_left: self.faults,
            ..State::default()
        };
        for packet in &mut state.packets[..self.packets.len()] {
            packet.copies[0].place = Place::Waits;
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        // A broken rule may let a message come back for ever.
        if !promises::KILLS.holds(self, state) {
            return;
        }
        self.steps(state, actions);
        if state.faults_left > 0 {
            self.faults(state, actions);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = *before;
        match action {
            Action::Receive(process, packet, copy) => {
                self.receive(&mut state, process, packet, copy);
            }
            Action::Step(process, packet) => self.step(&mut state, process, packet),
            Action::Name(process, packet, item) => self.name(&mut state, process, packet, item),
            Action::Call(process, packet, item) => self.call(&mut state, process, packet, item),
            Action::Stop(process, packet) => state.abandon(process, packet),
            Action::Return(process, packet) => self.give_back(&mut state, process, packet),
            Action::Crash(process) => self.crash(&mut state, process),
            Action::Lapse(process, packet) => self.lapse(&mut state, process, packet),
            Action::Copy(packet) => self.copy(&mut state, packet),
        }
        self.forget_what_is_over(&mut state);
        state.processes[..self.processes].sort_unstable();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let ends = Property::sometimes(promises::ENDS, |system: &Self, state: &State| {
            system.is_over(state)
        });
        let promises = promises::ALL.iter();
        let promises = promises.map(|promise| Property::always(promise.name, promise.check));
        std::iter::once(ends).chain(promises).collect()
    }
}
