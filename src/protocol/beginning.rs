//! Which attempt a delivery is. What was received is not counted, but what failed and, apart from that, what began and
//! never finished.
//!
//! A first delivery is the first attempt, and nothing is written for it. From the second one on, the beginning is on
//! record before the function runs. A message that was only looked at, throttled, or given back therefore keeps all its
//! attempts, and one that ends its process each time becomes a dead letter. Whether a first delivery began is not on record,
//! so such a message may end one process more than it has attempts. At which of several items the second delivery ended is not
//! on record either, so an item among others may end two more.

use std::sync::Arc;

use futures::future::join_all;

use super::{Outcome, Protocol, Step, Task, refused};
use crate::compute::step::{Before, Failures, ItemFailure, ended_processes};
use crate::core::error::describe;
use crate::core::retry::{Policy, retry};
use crate::packet::Work;
use crate::packet::carrier::Carrier;
use crate::scratchpad::{Beginning, Deliveries, DeliveryId};
use crate::stage::OnFailure;

/// How often it is tried to take a beginning back. There is little time left then; it counts as begun otherwise.
const WITHDRAWN_WITHIN: Policy = Policy::times(3);

/// Of the receives that a service allows, the engine leaves one in this many unused.
const RECEIVES_LEFT_OVER: u32 = 100;

/// A delivery whose beginning is on record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    pub(crate) delivery: DeliveryId,
    /// Which attempt it is: one more than have failed.
    pub(crate) attempt: u32,
}

/// Whether a redelivery may begin.
pub(super) enum May {
    Begin,
    /// Only while no other such message is at work in this worker. An earlier delivery did not finish: if the process dies
    /// once more, it is known whose fault that is. If it would be given up then, it is exclusive: nothing else at all is at
    /// work.
    BeginAlone {
        is_exclusive: bool,
    },
    NotBegin(Outcome),
}

/// Messages whose function is about to be called, by what is on record of them.
#[derive(Default)]
pub(super) struct Beginnings<'a> {
    pub(super) begun: Vec<(Task<'a>, Step)>,
    /// Those that have to begin alone. Nothing of this delivery is on record.
    /// With each, whether it has to be at work exclusively.
    pub(super) suspects: Vec<(Task<'a>, Step, bool)>,
    pub(super) ended: Vec<(Task<'a>, Outcome)>,
}

impl Protocol {
    /// Whether attempts are counted by what began. Inside one process nobody else receives its messages, and a process
    /// that ends takes them with it, so there the receives are the attempts.
    pub(super) fn notes_beginnings(&self) -> bool {
        matches!(self.seam.site.carrier, Carrier::Wire { .. })
    }

    /// Writes down that redeliveries begin, and sorts them by what is to become of them.
    pub(super) async fn begin_again<'a>(&self, ready: Vec<(Task<'a>, Step)>) -> Beginnings<'a> {
        let mut beginnings = Beginnings::default();
        if !ready.iter().any(|(task, _)| task.is_redelivered()) {
            beginnings.begun = ready;
            return beginnings;
        }
        let each = ready.into_iter().map(|(mut task, step)| async {
            let may = match task.is_redelivered() {
                true => self.note_beginning(&mut task, None).await,
                false => May::Begin,
            };
            (task, step, may)
        });
        for (task, mut step, may) in join_all(each).await {
            step.set_attempt(&task);
            match may {
                May::Begin => beginnings.begun.push((task, step)),
                May::BeginAlone { is_exclusive } => {
                    beginnings.suspects.push((task, step, is_exclusive));
                }
                May::NotBegin(outcome) => beginnings.ended.push((task, outcome)),
            }
        }
        let suspects = beginnings.suspects.iter().map(|(task, ..)| task);
        self.withdraw(suspects).await;
        beginnings
    }

    /// Why a message is given up that the service itself would move away soon, without a word to its run. Such a message
    /// has been received and given back some thousand times.
    pub(super) async fn moved_away_soon(&self, task: &Task<'_>) -> Option<Failures> {
        let most = self.most_receives(task).await?;
        let received = task.received.delivery.receive_count;
        let margin = most / RECEIVES_LEFT_OVER;
        (margin > 0 && received > most - margin).then(|| {
            refused(format!(
                "received {received} times and never finished: the queue's own policy would move it away, unseen, after {most} receives"
            ))
        })
    }

    pub(super) async fn most_receives(&self, task: &Task<'_>) -> Option<u32> {
        // It has been opened, since it has delivered this message.
        let queue = self.seam.site.queue(task.index).await.ok()?;
        queue.most_receives()
    }

    /// Writes down that a redelivery begins, or that it is at this item now.
    pub(super) async fn note_beginning(&self, task: &mut Task<'_>, item: Option<u64>) -> May {
        let known = task.received.begun.get().map(|begun| begun.delivery);
        let mut beginning = task.beginning(known.unwrap_or_else(DeliveryId::random));
        beginning.item = item.or_else(|| task.only_item());
        let scratchpad = self.seam.site.scratchpad();
        let note = self
            .seam
            .scratchpad("note_beginning", || scratchpad.note_beginning(&beginning));
        let deliveries = match note.await {
            Ok(deliveries) => deliveries,
            Err(error) => return May::NotBegin(Outcome::Failed(refused(error))),
        };
        let most = task.stage.options.queue.attempts;
        let failed = deliveries.failed;
        let mut attempt = failed.saturating_add(1).min(most.max(1));
        if self
            .most_receives(task)
            .await
            .is_some_and(|last| task.received.delivery.receive_count >= last)
        {
            // The service does not deliver it once more.
            attempt = most.max(1);
        }
        task.attempt = attempt;
        let delivery = beginning.delivery;
        task.received
            .begun
            .get_or_init(|| Begun { delivery, attempt });
        let standing = Standing::of(&deliveries, beginning.item, task);
        if item.is_some() {
            // It has begun before, and goes from item to item.
            let is_exclusive = standing.is_last_chance;
            return May::BeginAlone { is_exclusive };
        }
        let culprit = standing.before.iter().find(|before| before.ended.is_some());
        if culprit.is_some() || standing.unknown > most {
            match self.is_done(task, &task.message).await {
                // Acknowledgements may have been lost time and again: what is done is no failure.
                Ok(true) => return May::NotBegin(Outcome::Done),
                Ok(false) => {}
                Err(failures) => return May::NotBegin(Outcome::Failed(failures)),
            }
        }
        let culprit = culprit.filter(|_| task.stage.options.on_failure == OnFailure::Fail);
        let dead = match culprit {
            Some(before) => before.ended.map(|times| (times, task.item(before.unit))),
            None => (standing.unknown > most).then(|| (standing.unknown - 1, None)),
        };
        if let Some((times, item)) = dead {
            return May::NotBegin(Outcome::Failed(vec![ItemFailure {
                item,
                ..ItemFailure::permanent(ended_processes(times))
            }]));
        }
        let is_exclusive = standing.is_last_chance;
        task.before = standing.before;
        // Once more, and it may be the last time: its neighbours must not be lost with it again.
        match standing.is_suspect {
            true => May::BeginAlone { is_exclusive },
            false => May::Begin,
        }
    }

    /// Takes beginnings back: the functions were not called after all, or what they made is durable.
    pub(super) async fn withdraw<'a>(&self, tasks: impl Iterator<Item = &'a Task<'a>>) {
        let scratchpad = self.seam.site.scratchpad();
        let begun = tasks.filter_map(|task| {
            let begun = task.received.begun.get()?;
            Some(task.beginning(begun.delivery))
        });
        let withdrawn = begun.map(|beginning| async move {
            let withdraw = || scratchpad.withdraw_beginning(&beginning);
            if let Err(error) = retry("withdraw_beginning", WITHDRAWN_WITHIN, withdraw).await {
                tracing::warn!(run = %beginning.run.id, work = beginning.message, error = %describe(&error), "a message that did not fail counts as begun and unfinished");
            }
        });
        join_all(withdrawn).await;
    }
}

/// What is on record of a message that is delivered again.
struct Standing {
    /// Unfinished deliveries of which nobody knows at which item they ended, this one among them.
    unknown: u32,
    /// Whether it has outlived processes, so that it may be what ended them.
    is_suspect: bool,
    /// Whether it, or an item of it, would be given up if its process ended once more.
    is_last_chance: bool,
    before: Vec<Before>,
}

impl Standing {
    /// `own` is the item that this delivery is at.
    fn of(deliveries: &Deliveries, own: Option<u64>, task: &Task<'_>) -> Self {
        let most = task.stage.options.queue.attempts;
        let known: u32 = deliveries.items.iter().map(|item| item.unfinished).sum();
        let unknown = deliveries.unfinished.saturating_sub(known);
        // A copy of the message that was sent twice has deliveries of its own, under the same name.
        let received = task.received.delivery.receive_count;
        let unknown = unknown.min(received);
        // What ended a process at no item counts for none: another one may have done it.
        let most_ended = most.max(1);
        let is_suspect = deliveries.unfinished.min(received) >= most.min(2);
        let mut is_last_chance = most_ended <= 1 || unknown >= most;
        let mut before = Vec::new();
        for item in &deliveries.items {
            let is_own = own == Some(item.item);
            let ended = item
                .unfinished
                .saturating_sub(u32::from(is_own))
                .min(received);
            let Some(unit) = task.unit(item.item) else {
                continue;
            };
            // Without a value no function ran on it, and it is left out already if it counts for none.
            let is_over = ended >= most_ended && task.has_values(unit);
            is_last_chance |= ended + 1 == most_ended;
            before.push(Before {
                unit,
                failed: item.failed,
                ended: is_over.then_some(ended),
            });
        }
        Self {
            unknown,
            is_suspect,
            is_last_chance,
            before,
        }
    }
}

impl Task<'_> {
    /// The place in its packet of an item of the array.
    fn unit(&self, item: u64) -> Option<usize> {
        let Work::Map(work) = &self.message.work else {
            return None;
        };
        usize::try_from(item.checked_sub(work.offset)?).ok()
    }

    /// Whether the item at a place in its packet has values for the stage's function.
    fn has_values(&self, unit: usize) -> bool {
        let Work::Map(work) = &self.message.work else {
            return true;
        };
        let yields = work.yields.as_deref();
        yields
            .and_then(|yields| yields.get(unit))
            .is_none_or(|values| *values > 0)
    }

    /// The item of the array at a place in its packet.
    pub(super) fn item(&self, unit: usize) -> Option<u64> {
        let Work::Map(work) = &self.message.work else {
            return None;
        };
        Some(work.offset.saturating_add(unit as u64))
    }

    /// Its item, if its packet has no other.
    fn only_item(&self) -> Option<u64> {
        let Work::Map(work) = &self.message.work else {
            return None;
        };
        let is_only = match &work.yields {
            Some(yields) => yields.len() == 1,
            None => work.packet.contains.checked_add(work.packet.skipped) == Some(1),
        };
        (is_only && self.stage.works_on_items).then_some(work.offset)
    }

    /// Whether its beginning has to be on record before its function runs.
    pub(super) fn is_redelivered(&self) -> bool {
        self.notes_beginning && self.received.delivery.receive_count > 1
    }

    fn beginning(&self, delivery: DeliveryId) -> Beginning {
        let stage = Arc::clone(&self.stage.name);
        let (run, name) = (self.message.run(), self.message.name());
        Beginning::new(run, stage, name, delivery)
    }

    /// Its delivery, if its beginning is on record.
    pub(super) fn delivery(&self) -> Option<DeliveryId> {
        self.received.begun.get().map(|begun| begun.delivery)
    }
}
