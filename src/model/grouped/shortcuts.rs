//! Leaves out orders of steps that make no difference, as in the plain model ([`crate::model::shortcuts`] says why nothing
//! is lost). The tests compare them with full explorations.

use super::shape::Place;
use super::state::{Program, State, Worker};
use super::steps::Step;
use super::submitter::Operation;
use super::{Action, System};
use crate::model::state::Receipt;

impl System {
    /// Adds the next step of a process that is about to send, and the faults before it; returns whether there is such a
    /// process.
    pub(super) fn hidden_step(&self, state: &State, actions: &mut Vec<Action>) -> bool {
        use Operation::{Ask, Measure, Send, Submitted};
        let next = self.operations.get(usize::from(state.submitter));
        if let Some(Send(_) | Ask(_) | Measure | Submitted) = next {
            actions.push(Action::Submit);
            self.submitter_faults(state, actions);
            return true;
        }
        for (index, worker) in state.workers.iter().enumerate() {
            if let Some(Step::Ask(..) | Step::Send(_)) = self.next_step(worker) {
                actions.push(Action::Step(index));
                self.worker_faults(state, index, actions);
                return true;
            }
        }
        false
    }

    /// Advances the state to the next step whose order can make a difference.
    pub(super) fn shorten(&self, state: &mut State) {
        for index in 0..state.workers.len() {
            while let Some(Step::Store(..) | Step::Acknowledge) =
                self.next_step(&state.workers[index])
            {
                self.step(state, index);
            }
            if self.is_late(state, &state.workers[index]) {
                state.workers[index] = Worker::default();
            }
        }
        // A retired group stays retired: such a message needs no work, whenever it is received.
        for (message, count) in state.queue.iter() {
            if self.is_in_vain(state, message) {
                (0..count).for_each(|_| state.queue.remove(message));
            }
        }
        if state.faults_left == 0 {
            forget(state);
        }
    }

    /// Whether a message needs no work.
    fn is_in_vain(&self, state: &State, message: usize) -> bool {
        let node = &self.shape[message];
        let mut made = node.makes.iter();
        match node.is_packet() {
            true => made.all(|made| state.retired.has(self.shape[*made].parent)),
            false => state.retired.has(message),
        }
    }

    /// Whether a worker can only find out that its group is retired.
    fn is_late(&self, state: &State, worker: &Worker) -> bool {
        let message = usize::from(worker.message);
        if worker.program == Program::Nothing {
            return true;
        }
        match self.next_step(worker) {
            Some(Step::Add(node, _))
                if matches!(self.shape[node].place, Place::Leaf(_) | Place::Packet(_)) =>
            {
                state.retired.has(self.shape[node].parent)
            }
            Some(Step::ReadState | Step::ReadValues | Step::Retire) => state.retired.has(message),
            _ => false,
        }
    }
}

/// Forgets what is only read after a fault.
fn forget(state: &mut State) {
    state.sent = Default::default();
    for worker in &mut state.workers {
        worker.receipt = Receipt::Valid;
    }
    if state.submitter > 0 {
        state.measured = true;
        state.submitted = true;
    }
}
