//! Dead letters: messages that used up their attempts, kept with their error for a person.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::core::error::{Error, Result};
use crate::core::id::RunId;
use crate::core::page::{Cursor, Page};
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
    /// Its run; `None` where the bytes do not say, and if it is a run of another deployment.
    pub run: Option<RunId>,
    /// The message within the stage: `packet 3`, `group 1/0`; `None` where the bytes do not say, and if it belongs
    /// to another deployment.
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
    /// Reads a letter of this deployment's stage. Another deployment's message that landed there is none of its runs'.
    pub(crate) fn read(deployment: &str, stage: &str, buried: BuriedMessage) -> Self {
        let message = Message::decode(&buried.body, deployment).ok();
        let reason = Reason::read(&buried.reason);
        Self {
            stage: stage.to_owned(),
            run: message.as_ref().map(|message| message.run().clone()),
            message: message.as_ref().map(|message| message.name_at(stage)),
            item: reason.item,
            error: reason.error,
            attempts: reason.attempts,
            body: buried.body.clone(),
            id: reason.id,
            buried,
        }
    }
}

/// Where a list of dead letters goes on.
#[derive(Serialize, Deserialize)]
struct Position {
    stage: String,
    /// In the stage's queue; `None` is at its beginning.
    cursor: Option<Cursor>,
}

/// The name of the list in its cursors.
const LIST: &str = "dead-letters";
/// Dead letters that are read for one page of a run's, however few of them are that run's.
const MOST_READ: usize = 1_000;

/// A dead letter, with the queue that redrives it.
pub(crate) type Queued = (Arc<dyn Queue>, DeadLetter);

impl Site {
    /// A page of dead letters, stage after stage; of one run, if that is given. It reads no more letters than it has, or
    /// than `MOST_READ` to find one run's.
    pub(crate) async fn dead_letters(
        &self,
        run: Option<&RunId>,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<Queued>> {
        let stages = self.definition.stages();
        let (mut index, mut inner) = match cursor {
            Some(cursor) => self.place(cursor)?,
            None => (0, None),
        };
        let mut letters = Vec::new();
        let mut truncated = false;
        let mut unread = run.map_or(limit, |_| limit.max(MOST_READ));
        while letters.len() < limit && unread > 0 {
            let Some(stage) = stages.get(index) else {
                return Ok(Page::new(letters, None).truncated(truncated));
            };
            let queue = self.queue(index).await?;
            let left = (limit - letters.len()).min(unread);
            let mut page = queue.dead_letters(inner.as_ref(), left).await?;
            // What such a queue returns next may be the same: a run's letters are looked for among many.
            let is_last = page.next.is_none() && page.truncated;
            if run.is_some() && is_last && left < unread {
                page = queue.dead_letters(inner.as_ref(), unread).await?;
            }
            unread = unread.saturating_sub(page.len().max(1));
            truncated |= page.truncated;
            let found = page.items.into_iter();
            let found = found.map(|message| DeadLetter::read(&self.name, &stage.name, message));
            let mut found: Vec<DeadLetter> = found
                .filter(|letter| run.is_none_or(|run| letter.run.as_ref() == Some(run)))
                .collect();
            truncated |= found.len() > limit - letters.len();
            found.truncate(limit - letters.len());
            letters.extend(found.into_iter().map(|letter| (Arc::clone(queue), letter)));
            inner = page.next;
            index += usize::from(inner.is_none());
        }
        let position = stages.get(index).map(|stage| Position {
            stage: stage.name.to_string(),
            cursor: inner,
        });
        let next = position.map(|position| Cursor::encode(LIST, &position));
        Ok(Page::new(letters, next.transpose()?).truncated(truncated))
    }

    /// The index of a cursor's stage, and the cursor in its queue.
    fn place(&self, cursor: &Cursor) -> Result<(usize, Option<Cursor>)> {
        let Position { stage, cursor } = cursor.decode(LIST)?;
        let stages = self.definition.stages();
        let index = stages.iter().position(|one| *one.name == *stage);
        let index = index.ok_or_else(|| {
            Error::invalid_argument(
                "cursor",
                format!(
                    "the cursor goes on in stage `{stage}`, which deployment `{}` does not have",
                    self.name
                ),
            )
        })?;
        Ok((index, cursor))
    }
}
