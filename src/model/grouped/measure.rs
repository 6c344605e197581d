//! How much is left to do: a number that every step lowers and only a fault raises, so that "no run ends without its result"
//! implies that every run ends with one ([`crate::model::measure`] says why).

use super::shape::Shape;
use super::state::{Program, State, WORKERS, Worker};
use super::steps::{Programs, Step};
use super::submitter::Operation;

/// The cost of a message without the messages that it may cause: more than the steps of any program.
const MESSAGE: u32 = 64;
/// A worker that has read a group's state and then finds its values gone reads again. The step that dropped the values pays
/// for that, once per worker.
const READ_AGAIN: u32 = 2;
const TAKE_AWAY: u32 = 1 + READ_AGAIN * WORKERS as u32;

pub(super) struct Measure {
    /// By message: its work, and everything that it may cause.
    messages: Vec<u32>,
    /// By message and position: everything from there on.
    work: Vec<Vec<u32>>,
    root: Vec<Vec<u32>>,
    /// By position: the remaining operations of the submitter.
    operations: Vec<u32>,
}

impl Measure {
    pub(super) fn new(shape: &Shape, programs: &Programs, operations: &[Operation]) -> Self {
        let mut measure = Self {
            messages: vec![0; shape.len()],
            work: vec![Vec::new(); shape.len()],
            root: vec![Vec::new(); shape.len()],
            operations: Vec::new(),
        };
        // A message causes only messages of later nodes.
        for message in (0..shape.len()).rev() {
            let cost = |step: &Step| match step {
                Step::Ask(node, _) => 1 + measure.messages[shape[*node].parent],
                Step::Send(packet) => 1 + measure.messages[*packet],
                Step::Retire | Step::Complete(_) | Step::WriteResult => TAKE_AWAY,
                _ => 1,
            };
            let mut work = costs(programs.of(Program::Work, message), cost);
            let root = costs(programs.of(Program::Root, message), cost);
            if shape[message].is_group() {
                // Its first step finds out whether the group is a root.
                work[0] = work[0].max(root[0]);
            }
            measure.messages[message] = MESSAGE + work[0];
            measure.work[message] = work;
            measure.root[message] = root;
        }
        let of_operation = |operation: &Operation| match operation {
            Operation::Ask(node) | Operation::Send(node) => 1 + measure.messages[*node],
            _ => 1,
        };
        measure.operations = costs(operations, of_operation);
        measure
    }

    pub(super) fn of(&self, state: &State) -> u32 {
        let messages = state.queue.iter();
        let messages = messages.map(|(node, count)| count * self.messages[node]);
        let workers = state.workers.iter();
        let workers = workers.map(|worker| self.of_worker(state, worker));
        let submitter = self.operations[usize::from(state.submitter)];
        messages.chain(workers).sum::<u32>() + submitter
    }

    fn of_worker(&self, state: &State, worker: &Worker) -> u32 {
        let (message, at) = (usize::from(worker.message), usize::from(worker.at));
        let left = match worker.program {
            Program::Idle => return 0,
            Program::Nothing => return 1,
            Program::Work => self.work[message][at],
            Program::Root => self.root[message][at],
        };
        // Both programs of a group read its values second.
        let reads_again = at == 1 && state.retired.has(message);
        let read_again = if reads_again { READ_AGAIN } else { 0 };
        left + read_again
    }
}

/// By position: the cost of everything from there on.
fn costs<T>(list: &[T], cost: impl Fn(&T) -> u32) -> Vec<u32> {
    let from = |at| list[at..].iter().map(&cost).sum();
    (0..=list.len()).map(from).collect()
}
