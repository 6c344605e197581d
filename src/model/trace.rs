//! A counter-example in words.

use stateright::Path;

use super::state::{Program, State};
use super::steps::{Operation, Step};
use super::{Action, System};

impl System {
    /// What happened, one sentence per action.
    pub(super) fn trace(&self, path: Path<State, Action>) -> Vec<String> {
        let path = path.into_vec();
        let actions = path.iter();
        let actions = actions.filter_map(|(state, action)| Some(self.tell(state, (*action)?)));
        actions.collect()
    }

    fn tell(&self, state: &State, action: Action) -> String {
        let name = |message| self.nodes.name(message);
        let held = |worker: usize| name(usize::from(state.workers[worker].message));
        match action {
            Action::Submit(submitter) => {
                let at = usize::from(state.submitters[submitter]);
                let what = match self.operations[at] {
                    Operation::Seal(group) => format!("Seal {}", name(group)),
                    Operation::Send(node) => format!("Send {}", name(node)),
                    Operation::Ask(node) => format!("Ask for {}", name(node)),
                    Operation::Note(count) => format!("Note that {count} were sent"),
                    operation => format!("{operation:?}"),
                };
                format!("submitter {submitter}: {what}")
            }
            Action::Receive(worker, message) => {
                format!("worker {worker}: Receive {}", name(message))
            }
            Action::ReceiveApart(worker, message, first) => {
                let name = name(message);
                format!("worker {worker}: Receive {name}, which go apart, {first} with values")
            }
            Action::Step(index) => {
                let worker = &state.workers[index];
                let step = self.next_step(worker).expect("who is busy has a step");
                match (worker.program, step) {
                    (Program::Apart(_), Step::StoreValue | Step::AddSlot | Step::Send) => {
                        let packet = name(self.subject(worker));
                        format!("worker {index}: {}: {step:?} of {packet}", held(index))
                    }
                    _ => format!("worker {index}: {}: {step:?}", held(index)),
                }
            }
            Action::ArriveTogether => "workers 0 and 1: AddSlot in one write".to_owned(),
            Action::SubmitterCrashes(submitter) => format!("submitter {submitter}: CRASH"),
            Action::TimesOut(worker) => {
                format!("worker {worker}: {}: VISIBILITY TIMEOUT", held(worker))
            }
            Action::Crashes(worker) => format!("worker {worker}: {}: CRASH", held(worker)),
            Action::ComesAgain(message) => format!("queue: DUPLICATE of {}", name(message)),
        }
    }
}
