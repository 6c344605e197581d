//! Orders of steps that make no difference, left out: a tenth of the states, or fewer, for the larger trees.
//!
//! Why nothing is lost: take any run up to its end. A step that nobody else can see or prevent can be moved to the front,
//! past what the others did meanwhile, and everybody finds and leaves the same. So the same end is reached if such a step is
//! taken as soon as it can be. What is checked shows at the end, or in something that stays until then
//! ([`promises`](super::promises)). The tests hold this against an exploration in full: both see the same
//! scratchpads, and both find the broken rules.

use super::state::{Program, Receipt, State, Worker};
use super::steps::{Operation, Step};
use super::{Action, System};

impl System {
    /// The next step of one who sends, if there is one, and what may go wrong for him first: a message may always be delivered
    /// later, so the others may act before or after.
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
            if self.next_step(worker) == Some(Step::Ask) {
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
            // A value is not seen before its slot is added, and an acknowledgement concerns only its message. A crash just
            // before one of them leaves what there was before the message was received, or what a later duplicate makes.
            while let Some(Step::StoreValue | Step::Acknowledge) =
                self.next_step(&state.workers[index])
            {
                self.step(state, index);
            }
            if self.is_late(state, &state.workers[index]) {
                state.workers[index] = Worker::default();
            }
        }
        // A retired group stays retired: whoever gets such a message finds nothing to do, whenever he does.
        for (message, count) in state.queue.iter() {
            let node = &self.nodes[message];
            let group = if node.is_leaf() { node.parent } else { message };
            if state.retired.has(group) {
                (0..count).for_each(|_| state.queue.remove(message));
            }
        }
        if state.faults_left == 0 {
            self.forget(state);
        }
    }

    /// Whether all that is left for a worker is to find that its group is retired.
    fn is_late(&self, state: &State, worker: &Worker) -> bool {
        let message = usize::from(worker.message);
        match (worker.program, self.next_step(worker)) {
            (Program::Leaf, Some(Step::AddSlot)) => state.retired.has(self.nodes[message].parent),
            (_, Some(Step::ReadState | Step::ReadValues | Step::Retire)) => {
                state.retired.has(message)
            }
            _ => false,
        }
    }

    /// Forgets what is only looked at when something goes wrong.
    fn forget(&self, state: &mut State) {
        state.sent = Default::default();
        for worker in &mut state.workers {
            worker.receipt = Receipt::Valid;
        }
        if state.submitters.iter().all(|at| *at > 0) {
            state.measured = true;
            state.submitted = true;
        }
    }
}
