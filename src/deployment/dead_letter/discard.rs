//! Dead letters that are removed for good.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::sweep::{Sweep, by_queue};
use super::{LetterId, Whose};
use crate::core::error::{Error, Result};
use crate::core::id::RunId;
use crate::protocol::site::Site;
use crate::queue::{BuriedMessage, Receipt};

/// After this long a call begins no further page: a look at SQS and what it found take about as long again.
const LONGEST: Duration = Duration::from_secs(10);

/// What became of dead letters that were to be discarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Discarded {
    /// Dead letters that are gone.
    pub discarded: usize,
    /// Dead letters that were named or seen, and not removed: another call had removed or redriven them, they belong to
    /// another run, or the service did not find them in the time that a search may take.
    pub passed_over: usize,
    /// Whether there may be more, because the call ended at its time limit or the service could not show all of them:
    /// call again.
    pub more: bool,
}

impl Site {
    /// Removes all dead letters, of one run if that is given, page after page.
    pub(crate) async fn discard(&self, run: Option<&Whose>) -> Result<Discarded> {
        let began = Instant::now();
        let mut outcome = Discarded::default();
        let mut sweep = Sweep::new(self, run);
        while let Some(letters) = sweep.next().await? {
            for (queue, letters) in by_queue(letters) {
                let count = letters.len();
                let messages = letters.into_iter().map(|letter| letter.buried);
                let left = queue.discard(messages.collect()).await?.len();
                outcome.passed_over += left;
                outcome.discarded += count.saturating_sub(left);
                sweep.note_gone(count.saturating_sub(left));
            }
            if began.elapsed() >= LONGEST {
                break;
            }
        }
        outcome.more = sweep.may_have_more();
        Ok(outcome)
    }

    /// Removes these dead letters; those of other runs are passed over, if a run is given.
    pub(crate) async fn discard_these(
        &self,
        run: Option<&RunId>,
        letters: impl IntoIterator<Item = LetterId>,
    ) -> Result<Discarded> {
        let stages = self.definition.stages();
        let mut receipts: Vec<Vec<Receipt>> = stages.iter().map(|_| Vec::new()).collect();
        let mut outcome = Discarded::default();
        // One that is named twice is one.
        let letters: HashSet<LetterId> = letters.into_iter().collect();
        for letter in letters {
            if letter.deployment != self.name {
                return Err(Error::invalid_argument(
                    "letter",
                    format!(
                        "a dead letter of deployment `{}` cannot be discarded by deployment `{}`",
                        letter.deployment, self.name
                    ),
                ));
            }
            let place = self.definition.position(&letter.stage);
            let Some(receipts) = place.and_then(|place| receipts.get_mut(place)) else {
                return Err(Error::invalid_argument(
                    "letter",
                    format!(
                        "a dead letter of stage `{}`, which deployment `{}` does not have",
                        letter.stage, self.name
                    ),
                ));
            };
            match run.is_some() && letter.run.as_ref() != run {
                true => outcome.passed_over += 1,
                false => receipts.push(letter.receipt),
            }
        }
        for (place, receipts) in receipts.into_iter().enumerate() {
            if receipts.is_empty() {
                continue;
            }
            let count = receipts.len();
            // A queue knows a dead letter by its receipt.
            let messages = receipts
                .into_iter()
                .map(|receipt| BuriedMessage::new(Bytes::new(), "", receipt));
            let queue = self.queue(place).await?;
            let left = queue.discard(messages.collect()).await?.len();
            outcome.passed_over += left;
            outcome.discarded += count.saturating_sub(left);
        }
        Ok(outcome)
    }
}
