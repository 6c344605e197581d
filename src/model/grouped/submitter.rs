//! The operations of the submitter, each as atomic as in the library.

use super::rules::Mutation;
use super::shape::{Place, Shape};
use super::state::State;
use super::store::send;
use super::{After, Empty, Sealed, Setting, System};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Write the run's record, or find an existing one.
    Begin,
    /// Record a group's size, and read its state after the write.
    Seal(usize),
    /// Read the record of empty parts, if that is a read of its own.
    Read(usize),
    /// Ask for the group's reduction, if that has completed it.
    Ask(usize),
    /// Send a packet.
    Send(usize),
    /// Record the number of packets.
    Measure,
    /// Record that everything was sent: the last operation.
    Submitted,
}

/// The operations of a submitter from the start, and those with which it continues if it finds the packets counted already:
/// a known length is sealed first. The reduction that follows has as many leaves as there are partitions, so that it is
/// sealed when the run begins.
pub(super) fn operations(setting: &Setting, shape: &Shape) -> [Vec<Operation>; 2] {
    use Operation::{Ask, Begin, Measure, Read, Seal, Send, Submitted};
    let mut after = vec![Begin];
    let mut seal = Vec::new();
    for group in shape.groups().filter(|group| shape[*group].edge.is_some()) {
        let is_left_out =
            setting.has(Mutation::SealPartitionZero) && shape[group].partition() == Some(1);
        match shape[group].place {
            Place::After(..) => {
                assert_eq!(setting.after, After::Reduction);
                after.push(Seal(group));
            }
            _ if is_left_out => {}
            place => {
                seal.push(Seal(group));
                let reads_one = setting.has(Mutation::SealReadsOne);
                let has_parts = matches!(place, Place::Group(..));
                if has_parts && setting.empty == Empty::Beside && !reads_one {
                    seal.push(Read(group));
                }
                if !setting.has(Mutation::SealDoesNotSend) {
                    seal.push(Ask(group));
                }
            }
        }
    }
    let send: Vec<Operation> = (0..shape.leaves).map(Send).collect();
    let known = [seal.clone(), send.clone(), vec![Submitted]].concat();
    let first = match setting.sealed {
        Sealed::First => known.clone(),
        Sealed::Last => [send, vec![Measure], seal, vec![Submitted]].concat(),
    };
    [[after, first].concat(), known]
}

impl System {
    pub(super) fn submit(&self, state: &mut State) {
        let at = usize::from(state.submitter);
        let mut next = at + 1;
        let skips = |next: usize, is_ready: bool| match self.operations.get(next) {
            Some(Operation::Ask(_)) if !is_ready => next + 1,
            _ => next,
        };
        match self.operations[at] {
            Operation::Begin if state.submitted || state.done => next = self.operations.len(),
            Operation::Begin if state.measured => next = self.known,
            Operation::Begin => {}
            Operation::Seal(group) => {
                state.told.insert(group);
                if self.operations.get(next) != Some(&Operation::Read(group)) {
                    let found = self.group(state, group, state.arrived);
                    next = skips(next, self.is_ready(&found));
                }
            }
            Operation::Read(group) => {
                let found = self.group(state, group, state.arrived.or(state.shared));
                next = skips(next, self.is_ready(&found));
            }
            Operation::Ask(node) | Operation::Send(node) => send(state, node),
            Operation::Measure => state.measured = true,
            Operation::Submitted => {
                state.submitted = true;
                next = self.operations.len();
            }
        }
        state.submitter = next as u8;
    }
}
