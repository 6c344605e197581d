//! Dead letters: messages that used up their attempts, kept with their error for a person.

use std::sync::Arc;

use bytes::Bytes;

use crate::core::error::Result;
use crate::core::id::RunId;
use crate::packet::Message;
use crate::protocol::reason::Reason;
use crate::protocol::site::Site;
use crate::queue::{BuriedMessage, Queue};
use crate::scratchpad::{Attempt, DeadLetterId};

/// A message in a dead-letter queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The stage whose message it is.
    pub stage: String,
    /// Its run; `None` where the bytes do not say.
    pub run: Option<RunId>,
    /// The message within the stage: `packet 3`, `group 1/0`; `None` where the bytes do not say.
    pub message: Option<String>,
    /// Which item of the array failed, where that is known.
    pub item: Option<u64>,
    /// The last error.
    pub error: String,
    /// Every failed attempt on record, oldest first.
    pub attempts: Vec<Attempt>,
    /// The message as it was sent.
    pub body: Bytes,
    pub(crate) id: Option<DeadLetterId>,
    pub(crate) buried: BuriedMessage,
}

impl DeadLetter {
    pub(crate) fn read(stage: &str, buried: BuriedMessage) -> Self {
        let message = Message::decode(&buried.body).ok();
        let reason = Reason::read(&buried.reason);
        Self {
            stage: stage.to_owned(),
            run: message.as_ref().map(|message| message.run().clone()),
            message: message.as_ref().map(Message::name),
            item: reason.item,
            error: reason.error,
            attempts: reason.attempts,
            body: buried.body.clone(),
            id: reason.id,
            buried,
        }
    }
}

impl Site {
    /// Every dead letter of every stage, with the queue that redrives it.
    pub(crate) async fn dead_letters(&self) -> Result<Vec<(Arc<dyn Queue>, DeadLetter)>> {
        const MOST: usize = 100_000;
        let mut letters = Vec::new();
        for (index, stage) in self.definition.stages().iter().enumerate() {
            let queue = self.queue(index).await?;
            for message in queue.dead_letters(MOST).await? {
                letters.push((Arc::clone(queue), DeadLetter::read(&stage.name, message)));
            }
        }
        Ok(letters)
    }
}
