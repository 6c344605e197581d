//! A message of another deployment: it is never worked on, and its owner is told.

use super::failure::shorten;
use super::reason::Reason;
use super::{Answer, Protocol};
use crate::core::clock::now;
use crate::core::error::describe;
use crate::core::name;
use crate::packet::Foreign;
use crate::pipeline::definition::StageDefinition;
use crate::queue::Delivery;
use crate::scratchpad::{Attempt, DeadLetterId, FailureReport, Verdict};

impl Protocol {
    /// Buries a message of another deployment where it landed, after its owner's run has failed with the same error.
    pub(super) async fn foreign(
        &self,
        stage: &StageDefinition,
        delivery: &Delivery,
        foreign: &Foreign,
    ) -> Answer {
        let queue = name::queue(&self.seam.site.name, &stage.name);
        let error = shorten(&format!(
            "the message belongs to stage `{}` of deployment `{}`, but came to queue `{queue}`: send it to queue `{}`",
            foreign.message.stage,
            foreign.deployment,
            name::queue(&foreign.deployment, &foreign.message.stage),
        ));
        let run = foreign.message.run();
        tracing::error!(%run, owner = foreign.deployment, queue, error, "a message of another deployment becomes a dead letter");
        let attempt = Attempt::new(delivery.receive_count.max(1), now(), error.as_str());
        self.tell_owner(foreign, &queue, attempt.clone()).await;
        Answer::Bury(Reason::of(error, attempt).write())
    }

    /// Records the failure with the owner's run, if its scratchpad can be reached from here. It is no reason not to bury the
    /// message if that fails: this process may not be allowed to write there.
    async fn tell_owner(&self, foreign: &Foreign, queue: &str, attempt: Attempt) {
        let (owner, message) = (&foreign.deployment, &foreign.message);
        let run = message.run();
        let Some(scratchpad) = self.seam.site.scratchpad().bind(owner) else {
            tracing::warn!(%run, owner, queue, "this scratchpad has no part for the message's deployment: its run does not learn of the failure");
            return;
        };
        // A name that no message on the owner's queues has. The letter is not in the owner's dead-letter queues, so that a redrive
        // of the run need not wait for it.
        let name = format!("{} on queue {queue}", message.name());
        let verdict = Verdict::Dead(DeadLetterId::UNQUEUED);
        let report = FailureReport::new(run, message.stage.clone(), name, vec![attempt], verdict);
        let recorded = self
            .seam
            .scratchpad("record_failure", || scratchpad.record(&report));
        match recorded.await {
            Ok(log) if log.attempts.is_empty() => {
                tracing::warn!(%run, owner, queue, "the message's deployment does not know its run");
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%run, owner, queue, error = %describe(&error), "the failure could not be recorded with the message's deployment");
            }
        }
    }
}
