//! A counter-example in words.

use stateright::Path;

use super::shape::Place;
use super::state::State;
use super::steps::Step;
use super::submitter::Operation;
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
        let name = |message| self.shape.name(message);
        let held = |worker: usize| name(usize::from(state.workers[worker].message));
        match action {
            Action::Submit => match self.operations[usize::from(state.submitter)] {
                Operation::Seal(group) => format!("submitter: Seal {}", name(group)),
                Operation::Read(group) => format!("submitter: Read {}", name(group)),
                Operation::Ask(group) => format!("submitter: Ask for {}", name(group)),
                Operation::Send(leaf) => format!("submitter: Send {}", name(leaf)),
                operation => format!("submitter: {operation:?}"),
            },
            Action::Receive(worker, message, made) => match self.shape[message].place {
                Place::Leaf(leaf) => {
                    let made = self.setting.made_of(leaf as usize)[made];
                    format!(
                        "worker {worker}: Receive {}, which makes {made:?}",
                        name(message)
                    )
                }
                _ => format!("worker {worker}: Receive {}", name(message)),
            },
            Action::Step(index) => {
                let worker = &state.workers[index];
                let step = self.next_step(worker).expect("who is busy has a step");
                let what = match step {
                    Step::Store(node, _) => format!("Store {}", name(node)),
                    Step::Add(node, _) => format!("Add {}", name(node)),
                    Step::ReadBack(node, _) => format!("Read the group of {}", name(node)),
                    Step::Ask(node, _) => format!("Ask for {}", name(self.shape[node].parent)),
                    Step::Send(packet) => format!("Send {}", name(packet)),
                    step => format!("{step:?}"),
                };
                format!("worker {index}: {}: {what}", held(index))
            }
            Action::SubmitterCrashes => "submitter: CRASH".to_owned(),
            Action::TimesOut(worker) => {
                format!("worker {worker}: {}: VISIBILITY TIMEOUT", held(worker))
            }
            Action::Crashes(worker) => format!("worker {worker}: {}: CRASH", held(worker)),
            Action::ComesAgain(message) => format!("queue: DUPLICATE of {}", name(message)),
        }
    }
}
