//! Leaves out orders of steps that make no difference, which saves nine states in ten or more.
//!
//! Why nothing is lost: take any run up to its end. A step that no other process can see or prevent
//! can be moved to the front, past the others' steps, and every step still finds and leaves the
//! same state. So the same end is reached if such a step is taken as soon as possible. A broken
//! promise shows at the end, or in something that does not change until then
//! ([`promises`](super::promises)).
//!
//! Which steps are invisible depends on two rules: a value is stored before its slot is added, and
//! it does not change. Smaller trees are explored without shortcuts, and these rules are broken
//! there. The tests also compare the shortcuts with full explorations: both reach the same
//! scratchpads, and both find every other broken rule.
//!
//! With bundles and shared writes together there are no shortcuts: a crash takes two workers, and
//! of one of them it may undo nothing but an acknowledgement. Usually the repetition then finds
//! everything done, but a bundle may be split the second time.

use super::state::{Program, Receipt, State, Worker};
use super::steps::{Operation, Step};
use super::{Action, System};

impl System {
    /// Adds the next step of a process that is about to send, and the faults before it; returns
    /// whether there is such a process. A message may always be delivered later, so other processes
    /// see nothing of it before they receive it.
    pub(super) fn hidden_step(&self, state: &State, actions: &mut Vec<Action>) -> bool {
        for (submitter, at) in state.submitters.iter().enumerate() {
            let hidden = match self.operations.get(usize::from(*at)) {
                Some(Operation::Send(_) | Operation::Ask(_)) => true,
                // Only submitters read the run's record.
                Some(Operation::Note(_) | Operation::Measure | Operation::Submitted) => {
                    self.setting.submitters == 1
                }
                _ => false,
            };
            if hidden {
                actions.push(Action::Submit(submitter));
                self.submitter_faults(state, submitter, actions);
                return true;
            }
        }
        // A crash takes both workers of a process, so their steps are not independent.
        if self.setting.shared_writes {
            return false;
        }
        for (index, worker) in state.workers.iter().enumerate() {
            if let Some(Step::Ask | Step::Send) = self.next_step(worker) {
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
            // A value is not read before its slot is added, and an acknowledgement is never seen. A
            // crash just before the first is a crash before anything was done; just before the
            // second it has the effect of a later duplicate.
            while let Some(Step::StoreValue | Step::Acknowledge) =
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
            self.forget(state);
        }
    }

    /// Whether a message needs no work.
    fn is_in_vain(&self, state: &State, message: usize) -> bool {
        let node = self.nodes.made_by(message);
        let above = state.retired.has(self.nodes[node].parent);
        let itself = state.retired.has(node);
        match self.nodes[node].is_leaf() {
            true => above,
            // The bundle may be split, and its packets then arrive at the group itself.
            false if self.nodes.is_together(message) => above && itself,
            false => itself,
        }
    }

    /// Whether a worker can only find out that its group is retired.
    fn is_late(&self, state: &State, worker: &Worker) -> bool {
        let node = self.nodes.made_by(usize::from(worker.message));
        match (worker.program, self.next_step(worker)) {
            (Program::Leaf, Some(Step::AddSlot)) => state.retired.has(self.nodes[node].parent),
            (Program::Apart(_), Some(Step::AddSlot | Step::Send)) => state.retired.has(node),
            (_, Some(Step::ReadState | Step::ReadValues | Step::Retire)) => state.retired.has(node),
            _ => false,
        }
    }

    /// Forgets what is only read after a fault.
    fn forget(&self, state: &mut State) {
        // For the packets of a split bundle, it shows whether they are durable.
        state.sent = state.sent.and(self.nodes.travellers());
        for worker in &mut state.workers {
            worker.receipt = Receipt::Valid;
        }
        if state.submitters.iter().all(|at| *at > 0) {
            state.measured = true;
            state.submitted = true;
            state.noted = u8::MAX;
        }
    }
}
