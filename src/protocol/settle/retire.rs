//! The end of a message: what it replaces is retired, and it has an answer.

use futures::future::join_all;

use super::{Failed, InFlight};
use crate::compute::step::Failures;
use crate::pipeline::definition::StageKind;
use crate::protocol::{Answer, Protocol, Then, refused};
use crate::scratchpad::GroupId;

impl Protocol {
    /// Retires the groups whose reductions have been written. Returns the answers to messages that are done, and those
    /// messages whose groups could not be retired.
    pub(super) async fn retire<'a>(
        &self,
        written: Vec<InFlight<'a>>,
    ) -> (Vec<(usize, Answer)>, Vec<Failed<'a>>) {
        let mut answers = Vec::with_capacity(written.len());
        let mut retiring = Vec::new();
        // Of what went on to a map stage no tree tells later that it is done: its deliveries must not count as unfinished.
        let sent_on = written.iter().map(|message| &message.task);
        let sent_on =
            sent_on.filter(|task| matches!(self.kind_of(task.index + 1), Some(StageKind::Map(_))));
        self.withdraw(sent_on).await;
        for InFlight { task, then } in written {
            match then {
                Then::Map(_) | Then::Bundle(..) => answers.push((task.place, Answer::Ack)),
                Then::Reduce(reduction) => {
                    retiring.push(async move { (self.retire_group(&reduction.group).await, task) });
                }
            }
        }
        let mut failed = Vec::new();
        for (retired, task) in join_all(retiring).await {
            match retired {
                Ok(()) => answers.push((task.place, Answer::Ack)),
                Err(failures) => failed.push(Failed { task, failures }),
            }
        }
        (answers, failed)
    }

    async fn retire_group(&self, group: &GroupId) -> Result<(), Failures> {
        let scratchpad = self.seam.site.scratchpad();
        self.seam
            .scratchpad("retire", || scratchpad.retire(group))
            .await
            .map_err(refused)
    }

    /// Records the failures. Returns the answers to their messages.
    pub(super) async fn give_up(&self, failed: Vec<Failed<'_>>) -> Vec<(usize, Answer)> {
        let answers = failed
            .into_iter()
            .map(|Failed { task, failures }| async move {
                let answer = self.failed(&task, &task.message, failures).await;
                (task.place, answer)
            });
        join_all(answers).await
    }
}
