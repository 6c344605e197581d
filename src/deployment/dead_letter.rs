//! Dead letters: messages that used up their attempts, kept with their error for a person.

mod discard;
mod redrive;
mod sweep;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::core::error::{Error, Result};
use crate::core::generation::{Generation, RunKey};
use crate::core::id::RunId;
use crate::core::page::{Cursor, Page};
use crate::core::printable::into_printable;
use crate::core::runtime;
use crate::packet::carrier::Carrier;
use crate::protocol::reason::Reason;
use crate::protocol::site::Site;
use crate::queue::{BuriedMessage, PAGE_BYTES, Queue, Receipt};
use crate::scratchpad::{Attempt, DeadLetterId};

pub use self::discard::Discarded;
pub(crate) use self::redrive::Redriving;

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
    /// The item's label, if its stage has labels.
    pub label: Option<String>,
    /// The last error, with control characters as escapes, such as `\u{1b}` and `\n`.
    pub error: String,
    /// Every failed attempt on record, oldest first.
    pub attempts: Vec<Attempt>,
    /// The message as it was sent.
    pub body: Bytes,
    /// Its run and no other of that id.
    pub(crate) key: Option<RunKey>,
    /// The failure on record that it belongs to.
    pub(crate) mark: Option<DeadLetterId>,
    pub(crate) buried: BuriedMessage,
    /// Whose dead-letter queue it is in.
    deployment: String,
}

impl DeadLetter {
    /// Reads a letter of this deployment's stage. Another deployment's message that landed there is none of its runs'.
    pub(crate) fn read(
        carrier: &Carrier,
        deployment: &str,
        stage: &str,
        buried: BuriedMessage,
    ) -> Self {
        let message = carrier.read_message(stage, &buried.body).ok();
        let reason = match carrier.check_reason(stage, &buried.body, &buried.reason) {
            Ok(()) => Reason::read(&buried.reason),
            Err(_) => Reason::unverified(&buried.reason),
        };
        // Whoever can write to the dead-letter queue can write its reasons.
        let attempts = reason.attempts.into_iter().map(Attempt::printable);
        let attempts: Vec<Attempt> = attempts.collect();
        let mut of_item = attempts.iter().rev();
        let label = of_item
            .find(|attempt| attempt.item == reason.item && attempt.label.is_some())
            .and_then(|attempt| attempt.label.clone());
        Self {
            stage: stage.to_owned(),
            run: message.as_ref().map(|message| message.run().id.clone()),
            key: message.as_ref().map(|message| message.run().clone()),
            message: message.as_ref().map(|message| message.name_at(stage)),
            item: reason.item,
            label,
            error: into_printable(reason.error),
            attempts,
            body: buried.body.clone(),
            mark: reason.id,
            buried,
            deployment: deployment.to_owned(),
        }
    }

    /// Names this letter, also in other processes.
    pub fn id(&self) -> LetterId {
        LetterId {
            deployment: self.deployment.clone(),
            stage: self.stage.clone(),
            run: self.run.clone(),
            receipt: self.buried.receipt.clone(),
        }
    }
}

/// Names a dead letter of a deployment: by its text, any process can [discard](crate::Deployment::discard_these) it.
///
/// ```
/// use catchment::{Backend, LetterId, Pipeline, permanent};
///
/// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
/// let numbers = Pipeline::new()
///     .try_map(|text: String| text.parse::<u64>().map_err(permanent))
///     .reduce(|| 0, |a, b| a + b);
/// let numbers = numbers.deploy("numbers", Backend::memory())?;
/// let worker = numbers.worker().start();
/// assert!(numbers.submit(["two".to_owned()]).await?.result().await.is_err());
/// worker.shutdown().await; // the message has been buried then
/// let letters = numbers.dead_letters().await?;
/// let text = letters[0].id().to_string();
/// assert_eq!(text.parse::<LetterId>()?, letters[0].id());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LetterId {
    deployment: String,
    stage: String,
    run: Option<RunId>,
    receipt: Receipt,
}

/// The text of an id begins with this.
const LETTER: &str = "letter";

/// What the text of an id is made of: deployment, stage, run, and a receipt that is a number or text.
type Parts<'a> = (
    Cow<'a, str>,
    Cow<'a, str>,
    Option<Cow<'a, str>>,
    Option<u64>,
    Option<Cow<'a, str>>,
);

/// Letters, digits, `-` and `.`, so that a URL needs no escapes.
impl fmt::Display for LetterId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.receipt.as_str();
        let number = self.receipt.as_u64().filter(|_| text.is_none());
        let run = self.run.as_ref().map(|run| run.as_str().into());
        let (deployment, stage) = (self.deployment.as_str(), self.stage.as_str());
        let parts: Parts<'_> = (
            deployment.into(),
            stage.into(),
            run,
            number,
            text.map(Cow::from),
        );
        let encoded = Cursor::encode(LETTER, &parts).map_err(|_| fmt::Error)?;
        formatter.write_str(encoded.as_str())
    }
}

impl FromStr for LetterId {
    type Err = Error;

    /// Reads the text of an id.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] (`letter`) if the text is not an id.
    fn from_str(text: &str) -> Result<Self> {
        let parts = Cursor::new(text).decode::<Parts<'_>>(LETTER).ok();
        let id = parts.and_then(|(deployment, stage, run, number, text)| {
            let number = number.map(Receipt::from);
            Some(Self {
                deployment: deployment.into_owned(),
                stage: stage.into_owned(),
                run: run.map(|run| RunId::from(run.into_owned())),
                receipt: number.or_else(|| Some(Receipt::new(text?.as_ref())))?,
            })
        });
        id.ok_or_else(|| {
            let quoted: String = text.chars().take(40).collect();
            let problem = format!("{quoted:?} is not the id of a dead letter");
            Error::invalid_argument("letter", problem)
        })
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

/// Whose dead letters are meant: those of the run that has this id now, and not what is left of one that had it before.
pub(crate) struct Whose {
    id: RunId,
    /// `None` if the run's record has gone: then nothing tells its letters apart from others of that id.
    generation: Option<Generation>,
}

impl Whose {
    fn has(&self, run: &RunKey) -> bool {
        let is_this_one = |generation| generation == run.generation;
        self.id == run.id && self.generation.is_none_or(is_this_one)
    }
}

/// A dead letter, with the queue that redrives it.
pub(crate) type Queued = (Arc<dyn Queue>, DeadLetter);

impl Site {
    /// Looks up whose the dead letters of this id are.
    pub(crate) async fn whose(&self, id: &RunId) -> Result<Whose> {
        let outline = self.scratchpad().outline(id).await?;
        let generation = outline.map(|outline| outline.generation);
        let id = id.clone();
        Ok(Whose { id, generation })
    }

    /// A page of dead letters, stage after stage; of one run, if that is given. Its bodies take less than twice
    /// [`PAGE_BYTES`], unless one alone is larger. It reads no more letters than it has, except those of other runs that a
    /// search for one run's passes over.
    pub(crate) async fn dead_letters(
        &self,
        run: Option<&Whose>,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Page<Queued>> {
        let stages = self.definition.stages();
        let (mut index, mut inner) = match cursor {
            Some(cursor) => self.place(cursor)?,
            None => (0, None),
        };
        let mut letters = Vec::new();
        let (mut bytes, mut truncated) = (0, false);
        while letters.len() < limit && bytes < PAGE_BYTES {
            let Some(stage) = stages.get(index) else {
                return Ok(Page::new(letters, None).truncated(truncated));
            };
            let queue = self.queue(index).await?;
            let left = limit - letters.len();
            let page = match run {
                None => queue.dead_letters(inner.as_ref(), left).await?,
                Some(run) => {
                    let is_own = |message: &BuriedMessage| {
                        let message = self.carrier.read_message(&stage.name, &message.body);
                        message.is_ok_and(|message| run.has(message.run()))
                    };
                    queue
                        .find_dead_letters(inner.as_ref(), left, &is_own)
                        .await?
                }
            };
            truncated |= page.truncated;
            inner = page.next;
            let in_page = page.items.iter().map(BuriedMessage::size).sum();
            bytes += in_page;
            let (deployment, stage) = (self.name.clone(), stage.name.clone());
            let carrier = self.carrier.clone();
            let read = runtime::aside(in_page, move || {
                let messages = page.items.into_iter();
                let letters =
                    messages.map(|one| DeadLetter::read(&carrier, &deployment, &stage, one));
                letters.collect::<Vec<_>>()
            });
            let queue = Arc::clone(queue);
            let read = read.await.into_iter();
            letters.extend(read.map(|letter| (Arc::clone(&queue), letter)));
            if inner.is_some() {
                break;
            }
            index += 1;
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
