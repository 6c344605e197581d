//! Where a packet is worked on: what its pass is told from outside, and what is told of it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::failure::failed_item;
use super::site::Site;
use super::{Owner, Protocol, Task};
use crate::compute::step::{Host, ItemFailure, Limits};
use crate::core::one_of::OneOf;
use crate::packet::Message;
use crate::packet::carrier::Carrier;

/// Packets of one stage that a worker of a deployment keeps while their items wait. In a run inside the process they would
/// lie in its queue instead.
const MOST_KEPT: usize = 256;

/// A packet on its way to its outcome.
pub(super) struct AtWork<'a, O> {
    pub(super) limits: &'a Limits,
    pub(super) owner: &'a O,
    pub(super) place: usize,
    /// Whether its place has been given to others.
    pub(super) has_left: bool,
    /// Whether others may have to wait as long as it is at work.
    pub(super) is_alone: bool,
    pub(super) message: OneOf<Message>,
    protocol: &'a Protocol,
    attempt: u32,
}

impl Protocol {
    pub(super) fn at_work<'a, O: Owner>(
        &'a self,
        task: &Task<'_>,
        limits: &'a Limits,
        owner: &'a O,
        is_alone: bool,
    ) -> AtWork<'a, O> {
        AtWork {
            limits,
            owner,
            place: task.place,
            has_left: false,
            is_alone,
            message: task.message.clone(),
            protocol: self,
            attempt: task.attempt,
        }
    }
}

impl<O: Owner> AtWork<'_, O> {
    fn site(&self) -> &Site {
        &self.protocol.seam.site
    }

    /// Its place is free for others, once.
    pub(super) fn leave(&mut self) {
        if !std::mem::replace(&mut self.has_left, true) {
            self.owner.worked(1, 0);
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.owner.is_lost(self.place)
    }
}

impl<O: Owner> Host for AtWork<'_, O> {
    fn left(&self, items: usize) {
        self.owner.left(items);
    }

    fn closing(&self) -> impl Future<Output = ()> + Send {
        self.owner.closing()
    }

    fn is_closing(&self) -> bool {
        self.owner.is_closing()
    }

    fn may_wait(&self, wait: Duration) -> bool {
        if matches!(self.site().carrier, Carrier::Local(..)) {
            // There is nowhere to go back to.
            return true;
        }
        let has_room = self.limits.kept.load(Ordering::Relaxed) < MOST_KEPT;
        !self.is_alone && has_room && self.owner.may_keep(self.place, wait)
    }

    async fn begin(&self) -> Option<impl Send> {
        if self.is_alone {
            return Some(None);
        }
        tokio::select! {
            biased;
            others = self.protocol.among_others() => Some(others),
            // One that has to be alone may be at work for long.
            () = self.owner.closing() => None,
        }
    }

    fn failed(&self, failures: &[ItemFailure], wait: Duration) {
        if failures.is_empty() {
            return;
        }
        let items = failures.iter();
        let items = items.map(|failure| failed_item(failure, self.attempt, Some(wait)));
        let (run, name) = (self.message.run(), self.message.name());
        let stage = self.limits.stage;
        self.site()
            .attempt_log
            .retried(stage, &run.id, &name, items);
        self.site().counters.retried(stage, failures.len() as u64);
    }

    fn waits(&self, more: isize) {
        let (stage, items) = (self.limits.stage, more.unsigned_abs() as u64);
        match more > 0 {
            true => self.site().counters.waits(stage, items),
            false => self.site().counters.waits_no_longer(stage, items),
        }
    }
}

/// Counts a packet that is kept, and its items that wait.
pub(super) struct Keeping<'a, 'b, O: Owner> {
    at_work: &'b AtWork<'a, O>,
    items: isize,
}

impl<'a, 'b, O: Owner> Keeping<'a, 'b, O> {
    pub(super) fn begin(at_work: &'b AtWork<'a, O>, items: usize) -> Self {
        at_work.limits.kept.fetch_add(1, Ordering::Relaxed);
        at_work.owner.keeps(true);
        let items = isize::try_from(items).unwrap_or(isize::MAX);
        at_work.waits(items);
        Self { at_work, items }
    }
}

impl<O: Owner> Drop for Keeping<'_, '_, O> {
    fn drop(&mut self) {
        self.at_work.limits.kept.fetch_sub(1, Ordering::Relaxed);
        self.at_work.owner.keeps(false);
        self.at_work.waits(-self.items);
    }
}
