//! Dead letters that go back on their queues.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::sweep::{Sweep, by_queue};
use super::{DeadLetter, Queued, Whose};
use crate::core::error::Result;
use crate::core::generation::RunKey;
use crate::protocol::site::Site;
use crate::queue::{Queue, Receipt};
use crate::scratchpad::DeadLetterId;

/// Which message a letter is: a message that fails again while others are still being redriven becomes another letter of
/// the same message, and must not go back a second time.
#[derive(PartialEq, Eq, Hash)]
enum Subject {
    Known(String, RunKey, String),
    Unreadable(String, Bytes),
}

impl Subject {
    fn of(letter: &DeadLetter) -> Self {
        let stage = letter.stage.clone();
        match (letter.key.clone(), letter.message.clone()) {
            (Some(run), Some(message)) => Self::Known(stage, run, message),
            _ => Self::Unreadable(stage, letter.body.clone()),
        }
    }
}

/// What has gone back, and what is still awaited.
pub(crate) struct Redriving {
    /// The ids of dead letters that are on record and have not been seen yet.
    pub(crate) awaited: HashSet<DeadLetterId>,
    subjects: HashSet<Subject>,
    /// Whether only what is awaited goes back.
    only_awaited: bool,
    /// Messages that went back.
    pub(crate) count: usize,
}

impl Redriving {
    pub(crate) fn new(awaited: HashSet<DeadLetterId>) -> Self {
        Self {
            awaited,
            subjects: HashSet::new(),
            only_awaited: false,
            count: 0,
        }
    }

    /// Takes out of a page what does not go back. Copies of a message in one page are no failures of what went back
    /// before, and all go back: the newest one is that on record.
    fn choose(&mut self, page: &mut Vec<Queued>) {
        let subjects: Vec<_> = page.iter().map(|(_, letter)| Subject::of(letter)).collect();
        page.retain(|(_, letter)| {
            let is_new = !self.subjects.contains(&Subject::of(letter));
            let is_awaited = letter.mark.is_some_and(|id| self.awaited.contains(&id));
            is_awaited || (is_new && !self.only_awaited)
        });
        self.subjects.extend(subjects);
    }
}

impl Site {
    /// Puts dead letters back on their queues, those of one run if that is given, page after page. Repeated with the same
    /// `redriving`, only those letters go back that are still awaited: what has failed again meanwhile is another failure.
    pub(crate) async fn redrive(
        &self,
        run: Option<&Whose>,
        redriving: &mut Redriving,
    ) -> Result<()> {
        let mut sweep = Sweep::new(self, run);
        while let Some(mut letters) = sweep.next().await? {
            redriving.choose(&mut letters);
            for (queue, letters) in by_queue(letters) {
                let gone = self.redrive_batch(&queue, letters).await?;
                sweep.note_gone(gone.len());
                redriving.count += gone.len();
                for letter in gone {
                    letter.mark.map(|id| redriving.awaited.remove(&id));
                }
            }
        }
        redriving.only_awaited = true;
        Ok(())
    }

    /// First the messages, then the marks: the other way round, a crash in between would leave a
    /// run that looks healthy and never ends. A mark only goes if it is its letter's, and if the letter went back.
    async fn redrive_batch(
        &self,
        queue: &Arc<dyn Queue>,
        mut letters: Vec<DeadLetter>,
    ) -> Result<Vec<DeadLetter>> {
        let messages = letters.iter().map(|letter| letter.buried.clone());
        let left = queue.redrive(messages.collect()).await?;
        let left: HashSet<Receipt> = left.into_iter().collect();
        letters.retain(|letter| !left.contains(&letter.buried.receipt));
        for letter in &letters {
            if let (Some(run), Some(message), Some(id)) =
                (&letter.key, &letter.message, letter.mark)
            {
                let cleared = self.scratchpad().clear(run, &letter.stage, message, id);
                cleared.await?;
            }
        }
        Ok(letters)
    }
}
