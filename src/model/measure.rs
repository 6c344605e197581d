//! How much is left to do: a number that every step lowers and only a fault raises.
//!
//! With it, "no run ends without its result" implies that every run ends with one. Faults are
//! bounded. After the last of them each step lowers the number, in whatever order steps are taken,
//! so after that many steps nothing is left to be done; the checker has visited every such state
//! and found the result there. A run cannot stay in a cycle, which checks of single states would
//! miss (stateright's own `eventually` misses it too).

use super::nodes::Nodes;
use super::state::{Asks, Program, State, WORKERS, Worker};
use super::steps::{Operation, Step};

/// The cost of a message without the message that it may cause: more than the steps of any program.
const MESSAGE: u32 = 64;
/// A worker that has read a group's state and then finds its values gone reads again. The step that
/// dropped the values pays for that, once per worker.
const READ_AGAIN: u32 = 2;
const TAKE_AWAY: u32 = 1 + READ_AGAIN * WORKERS as u32;

pub(super) struct Measure {
    /// By node: its message, and everything that it may cause.
    messages: Vec<u32>,
    /// By program and position: the steps from there on.
    steps: Vec<Vec<u32>>,
    /// By program and position: how many reductions are still to be asked for.
    asks: Vec<Vec<u32>>,
    /// By program and position: how many packets are still to be sent.
    sends: Vec<Vec<u32>>,
    /// The position at which a reducer reads values.
    read: u8,
    /// By position: the remaining operations of a submitter.
    operations: Vec<u32>,
}

impl Measure {
    pub(super) fn new(nodes: &Nodes, programs: &[Vec<Step>], operations: &[Operation]) -> Self {
        let mut messages = vec![0; nodes.len()];
        for node in (0..nodes.len()).rev() {
            messages[node] = MESSAGE + messages[nodes[node].parent];
        }
        // The most expensive fate of a bundle is to be split.
        for message in nodes.len()..nodes.messages() {
            let packets = nodes[nodes.made_by(message)].members.iter();
            let packets: u32 = packets.map(|packet| messages[*packet]).sum();
            messages.push(MESSAGE + packets);
        }
        let step_cost = |step: &Step| match step {
            Step::Retire | Step::WriteResult => TAKE_AWAY,
            _ => 1,
        };
        let operation_cost = |operation: &Operation| match operation {
            Operation::Ask(node) | Operation::Send(node) => 1 + messages[*node],
            _ => 1,
        };
        let of_programs = |cost: &dyn Fn(&Step) -> u32| -> Vec<Vec<u32>> {
            programs
                .iter()
                .map(|program| costs(program, cost))
                .collect()
        };
        let group = Program::Group.place().map(|group| &programs[group]);
        let read = group.and_then(|group| place(group, Step::ReadValues));
        Self {
            steps: of_programs(&step_cost),
            asks: of_programs(&|step| u32::from(*step == Step::Ask)),
            sends: of_programs(&|step| u32::from(*step == Step::Send)),
            read: read.expect("groups are read"),
            operations: costs(operations, operation_cost),
            messages,
        }
    }

    pub(super) fn of(&self, nodes: &Nodes, state: &State) -> u32 {
        let messages = state.queue.iter();
        let messages = messages.map(|(node, count)| count * self.messages[node]);
        let workers = state.workers.iter().filter(|worker| !worker.is_idle());
        let workers = workers.map(|worker| self.of_worker(nodes, state, worker));
        let submitters = state.submitters.iter();
        let submitters = submitters.map(|at| self.operations[usize::from(*at)]);
        messages.chain(workers).chain(submitters).sum()
    }

    fn of_worker(&self, nodes: &Nodes, state: &State, worker: &Worker) -> u32 {
        let program = worker.program.place().expect("who is busy has a program");
        let at = usize::from(worker.at);
        let message = usize::from(worker.message);
        let node = nodes.made_by(message);
        let above = match worker.program {
            Program::Apart(_) => node,
            _ => nodes[node].parent,
        };
        let mut asks = self.asks[program][at];
        if worker.asks == Asks::Neighbour {
            asks = asks.saturating_sub(1);
        }
        let mut left = self.steps[program][at] + asks * self.messages[above];
        if let Some(packet) = nodes[node].members.first() {
            left += self.sends[program][at] * self.messages[*packet];
        }
        let reads =
            matches!(worker.program, Program::Group | Program::Root) && worker.at == self.read;
        if reads && state.retired.has(message) {
            left += READ_AGAIN;
        }
        left
    }
}

fn place(program: &[Step], step: Step) -> Option<u8> {
    let place = program.iter().position(|other| *other == step);
    place.map(|place| place as u8)
}

/// By position: the cost of everything from there on.
fn costs<T>(list: &[T], cost: impl Fn(&T) -> u32) -> Vec<u32> {
    let from = |at| list[at..].iter().map(&cost).sum();
    (0..=list.len()).map(from).collect()
}
