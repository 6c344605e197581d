//! A message of another deployment: it is never worked on, and its owner is told.

use std::sync::Arc;

use super::failure::shorten;
use super::reason::Reason;
use super::{Answer, Protocol};
use crate::core::clock::now;
use crate::core::error::{Result, describe};
use crate::core::name;
use crate::packet::Foreign;
use crate::pipeline::definition::StageDefinition;
use crate::queue::Delivery;
use crate::scratchpad::{Attempt, DeadLetterId, FailureReport, Scratchpad, Verdict};

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
        tracing::error!(run = %run.id, owner = foreign.deployment, queue, error, "a message of another deployment becomes a dead letter");
        let attempt = Attempt::new(delivery.receive_count.max(1), now(), error.as_str());
        self.tell_owner(foreign, &queue, attempt.clone()).await;
        self.bury(stage, delivery, &Reason::of(error, attempt))
    }

    /// Records the failure with the owner's run, if its scratchpad can be reached from here. It is no reason not to bury the
    /// message if that fails: this process may not be allowed to write there.
    async fn tell_owner(&self, foreign: &Foreign, queue: &str, attempt: Attempt) {
        let (owner, message) = (&foreign.deployment, &foreign.message);
        let run = message.run();
        let scratchpad = match self.scratchpad_of(foreign).await {
            Ok(Some(scratchpad)) => scratchpad,
            Ok(None) => {
                tracing::warn!(run = %run.id, owner, queue, "the scratchpad does not know the message's run as one of its deployment");
                return;
            }
            Err(error) => {
                tracing::warn!(run = %run.id, owner, queue, error = %describe(&error), "the message's run could not be looked up");
                return;
            }
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
                tracing::warn!(run = %run.id, owner, queue, "the message's deployment does not know its run");
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(run = %run.id, owner, queue, error = %describe(&error), "the failure could not be recorded with the message's deployment");
            }
        }
    }

    /// The scratchpad that has the run of a message of another deployment.
    async fn scratchpad_of(&self, foreign: &Foreign) -> Result<Option<Arc<dyn Scratchpad>>> {
        let own = &self.seam.site.scratchpad;
        if let Some(theirs) = own.bind(&foreign.deployment) {
            return Ok(Some(theirs));
        }
        // It serves every deployment, and a run of this id may be another one's, such as this deployment's own.
        let run = foreign.message.run();
        let found = self
            .seam
            .scratchpad("status", || own.status(&run.id))
            .await?;
        let found = found.filter(|found| found.record.generation == run.generation);
        let owner = found.and_then(|run| run.record.deployment);
        let is_theirs = owner.as_deref() == Some(foreign.deployment.as_str());
        Ok(is_theirs.then(|| Arc::clone(own)))
    }
}
