//! Orders of steps that make no difference, left out: it saves nine states in ten, or more.
//!
//! Why nothing is lost: take any run up to its end. A step that nobody else can see or prevent can be moved to the front,
//! past what the others did meanwhile, and everybody finds and leaves the same. So the same end is reached if such a step is
//! taken as soon as it can be. What is checked shows at the end, or in something that stays until then
//! ([`promises`](super::promises)).
//!
//! What nobody can see depends on two rules: a value comes before its slot, and it stays as it is. Smaller trees
//! are explored without shortcuts, and these rules are broken there. The tests also hold the shortcuts against
//! full explorations: both come to the same scratchpads, and both find every other broken rule.
//!
//! Where packets travel together and writes are shared, there are none: a crash takes two, and of one of them it may undo no more
//! than an acknowledgement. As a rule the message then finds all done. Packets may go apart the second time.

use super::state::{Program, Receipt, State, Worker};
use super::steps::{Operation, Step};
use super::{Action, System};

impl System {
    /// The next step of one who is about to send, and what may go wrong before it; returns whether there is one. A message may
    /// always be delivered later, so others see nothing of it before they receive it.
    pub(super) fn hidden_step(&self, state: &State, actions: &mut Vec<Action>) -> bool {
        for (submitter, at) in state.submitters.iter().enumerate() {
            let hidden = match self.operations.get(usize::from(*at)) {
                Some(Operation::Send(_) | Operation::Ask(_)) => true,
                // Only submitters look at the run's record.
                Some(Operation::Measure | Operation::Submitted) => self.setting.submitters == 1,
                _ => false,
            };
            if hidden {
                actions.push(Action::Submit(submitter));
                self.submitter_faults(state, submitter, actions);
                return true;
            }
        }
        // A crash takes two of those who share a process, so it is not a matter of one alone.
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

    /// Goes on to where the next difference can be made.
    pub(super) fn shorten(&self, state: &mut State) {
        for index in 0..state.workers.len() {
            // A value is not seen before its slot is added, and an acknowledgement is seen by nobody. A crash just before the one
            // is a crash before anything was done; just before the other it does what a duplicate does later.
            while let Some(Step::StoreValue | Step::Acknowledge) =
                self.next_step(&state.workers[index])
            {
                self.step(state, index);
            }
            if self.is_late(state, &state.workers[index]) {
                state.workers[index] = Worker::default();
            }
        }
        // A retired group stays retired: whoever gets such a message, at whatever time, finds nothing to do.
        for (message, count) in state.queue.iter() {
            if self.is_in_vain(state, message) {
                (0..count).for_each(|_| state.queue.remove(message));
            }
        }
        if state.faults_left == 0 {
            self.forget(state);
        }
    }

    /// Whether there is nothing to do at a message.
    fn is_in_vain(&self, state: &State, message: usize) -> bool {
        let node = self.nodes.made_by(message);
        let above = state.retired.has(self.nodes[node].parent);
        let itself = state.retired.has(node);
        match self.nodes[node].is_leaf() {
            true => above,
            // Its packets may go apart, and then stand in the group itself.
            false if self.nodes.is_together(message) => above && itself,
            false => itself,
        }
    }

    /// Whether all that is left for a worker is to find that its group is retired.
    fn is_late(&self, state: &State, worker: &Worker) -> bool {
        let node = self.nodes.made_by(usize::from(worker.message));
        match (worker.program, self.next_step(worker)) {
            (Program::Leaf, Some(Step::AddSlot)) => state.retired.has(self.nodes[node].parent),
            (Program::Apart(_), Some(Step::AddSlot | Step::Send)) => state.retired.has(node),
            (_, Some(Step::ReadState | Step::ReadValues | Step::Retire)) => state.retired.has(node),
            _ => false,
        }
    }

    /// Forgets what is only looked at when something goes wrong.
    fn forget(&self, state: &mut State) {
        // Of packets that went apart it shows whether they are durable.
        state.sent = state.sent.and(self.nodes.travellers());
        for worker in &mut state.workers {
            worker.receipt = Receipt::Valid;
        }
        if state.submitters.iter().all(|at| *at > 0) {
            state.measured = true;
            state.submitted = true;
        }
    }
}
