//! What messages cause, made durable before they are acknowledged: it is decided, written, and what it replaces is retired.
//! Each step takes all messages at once, so that they share its calls on the backend, and returns those that go on and
//! those that have failed.

mod decide;
mod retire;
mod write;

use super::{Outcome, Owner, Protocol, Task, Then};
use crate::compute::step::Failures;
use crate::packet::{Message, Packet, Place};
use crate::scratchpad::GroupId;

/// A message on its way from its outcome to its answer.
struct InFlight<'a> {
    task: Task<'a>,
    then: Then,
}

impl<'a> InFlight<'a> {
    fn failed(self, failures: Failures) -> Failed<'a> {
        let task = self.task;
        Failed { task, failures }
    }
}

/// A message that has failed.
struct Failed<'a> {
    task: Task<'a>,
    failures: Failures,
}

/// What a message causes.
enum Effect {
    /// A partial result goes into its slot.
    Arrive(Slot, Packet),
    /// A packet goes on to the next stage.
    Send(Message),
    /// Of a bundle: partial results of some packets, and messages for the others.
    Unpack(Vec<(Slot, Packet)>, Vec<Message>),
    /// The run has its result.
    Complete(Packet),
    /// Nothing: its run is not there any more, and its id is another one's.
    Nothing,
}

/// Where a partial result goes.
struct Slot {
    stage: usize,
    fan_in: u32,
    group: GroupId,
    slot: u32,
}

impl Slot {
    fn place(&self) -> Place<'_> {
        Place::Slot(&self.group, self.slot)
    }
}

impl Protocol {
    /// Makes durable what messages cause, and has their owner answer them.
    pub(super) async fn settle(&self, outcomes: Vec<(Task<'_>, Outcome)>, owner: &impl Owner) {
        let decided = self.decide(outcomes, owner).await;
        let (mut answers, mut failed) = (decided.answers, decided.failed);
        let (written, unwritten) = self.write(decided.causing).await;
        let (done, unretired) = self.retire(written).await;
        answers.extend(done);
        failed.extend(unwritten);
        failed.extend(unretired);
        answers.extend(self.give_up(failed).await);
        owner.answer(answers).await;
    }
}
