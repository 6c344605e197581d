//! Packets whose items are tried again, here: the packet is kept while they wait, and goes back to its queue with their
//! attempts on record if that takes too long.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::beginning::May;
use super::failure::failed_item;
use super::site::Site;
use super::{Outcome, Owner, Protocol, Task, Then, refused};
use crate::compute::pass::Pass;
use crate::compute::pool::Ended;
use crate::compute::step::{Computed, Host, ItemFailure, Limits, Stopped};
use crate::core::clock::after;
use crate::core::one_of::OneOf;
use crate::packet::Message;
use crate::packet::carrier::Carrier;
use crate::stage::Execution;

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
    /// Whether it has the right to be at work while others wait.
    pub(super) is_alone: bool,
    site: &'a Site,
    message: OneOf<Message>,
    attempt: u32,
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
        // In a run inside the process there is nowhere to go back to.
        let has_room = self.limits.kept.load(Ordering::Relaxed) < MOST_KEPT;
        is_local(self.site) || (has_room && self.owner.may_keep(self.place, wait))
    }

    fn failed(&self, failures: &[ItemFailure], wait: Duration) {
        if failures.is_empty() {
            return;
        }
        let items = failures.iter();
        let items = items.map(|failure| failed_item(failure, self.attempt, Some(wait)));
        let (run, name) = (self.message.run(), self.message.name());
        let stage = self.limits.stage;
        self.site.attempt_log.retried(stage, run, &name, items);
        self.site.counters.retried(stage, failures.len() as u64);
    }

    fn waits(&self, more: isize) {
        let (stage, items) = (self.limits.stage, more.unsigned_abs() as u64);
        match more > 0 {
            true => self.site.counters.waits(stage, items),
            false => self.site.counters.waits_no_longer(stage, items),
        }
    }
}

fn is_local(site: &Site) -> bool {
    matches!(site.carrier, Carrier::Local(..))
}

impl<O: Owner> AtWork<'_, O> {
    /// Its place is free for others, once.
    fn leave(&mut self) {
        if !std::mem::replace(&mut self.has_left, true) {
            self.owner.worked(1, 0);
        }
    }
}

/// Counts a packet that is kept, and its items that wait.
struct Keeping<'a, 'b, O: Owner> {
    at_work: &'b AtWork<'a, O>,
    items: isize,
}

impl<'a, 'b, O: Owner> Keeping<'a, 'b, O> {
    fn begin(at_work: &'b AtWork<'a, O>, items: usize) -> Self {
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

/// How a packet's wait ended.
enum Waited {
    /// Its items are due.
    Due,
    /// Nothing more may begin here.
    Closing,
    /// Its run is cancelled, or done.
    Over,
}

impl Then {
    /// The pass whose items may be tried again.
    pub(super) fn pass(&self) -> Option<&Arc<Pass>> {
        match self {
            Self::Map(pass) => Some(pass),
            Self::Bundle(_, pass) => pass.as_ref(),
            Self::Reduce(_) => None,
        }
    }
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
            site: &self.seam.site,
            message: task.message.clone(),
            attempt: task.attempt,
        }
    }

    /// Goes on with a packet of which items have failed, until each of its items is done or has failed for good, and
    /// settles it.
    pub(super) async fn go_on<O: Owner>(
        &self,
        task: Task<'_>,
        then: Then,
        mut at_work: AtWork<'_, O>,
    ) {
        let Some(outcome) = self.outcome_of_next(&task, &then, &mut at_work).await else {
            return;
        };
        at_work.leave();
        let outcome = match outcome {
            Ok(computed) => Outcome::Computed(then, computed),
            Err(outcome) => outcome,
        };
        self.settle(vec![(task, outcome)], at_work.owner).await;
    }

    /// What the packet came to; `None` if it is another worker's by now.
    async fn outcome_of_next<O: Owner>(
        &self,
        task: &Task<'_>,
        then: &Then,
        at_work: &mut AtWork<'_, O>,
    ) -> Option<Result<Computed, Outcome>> {
        let pass = then.pass()?;
        loop {
            at_work.failed(&pass.take_untold(), pass.wait());
            let due = after(Instant::now(), pass.wait());
            let goes_back = || {
                let left = due.saturating_duration_since(Instant::now());
                Some(Err(Outcome::GoesBack(pass.failures(), left)))
            };
            if task.stage.execution == Execution::Async {
                // It has waited as long as it may.
                return goes_back();
            }
            if at_work.is_closing() || !at_work.may_wait(pass.wait()) {
                return goes_back();
            }
            at_work.leave();
            match self.wait_until(due, pass, at_work).await {
                Waited::Due => {}
                Waited::Closing => return goes_back(),
                Waited::Over => return Some(Err(Outcome::Done)),
            }
            if at_work.owner.is_lost(task.place) {
                return None;
            }
            match self.next_round(task, pass, at_work).await {
                Some(Err(Stopped::Again)) => {}
                Some(computed) => return Some(Ok(computed)),
                None => return goes_back(),
            }
        }
    }

    /// Keeps a packet until its items are due.
    async fn wait_until<O: Owner>(
        &self,
        due: Instant,
        pass: &Pass,
        at_work: &AtWork<'_, O>,
    ) -> Waited {
        let _keeping = Keeping::begin(at_work, pass.open().max(1));
        tokio::select! {
            biased;
            () = at_work.owner.closing() => Waited::Closing,
            () = sleep_until(due) => Waited::Due,
            () = self.cancelled.when(at_work.message.run()) => Waited::Over,
        }
    }

    /// The next round of a packet's items; `None` if it could not begin.
    async fn next_round<O: Owner>(
        &self,
        task: &Task<'_>,
        pass: &Arc<Pass>,
        at_work: &AtWork<'_, O>,
    ) -> Option<Computed> {
        let AtWork { limits, owner, .. } = at_work;
        if let Some(pace) = &limits.pace {
            tokio::select! {
                biased;
                () = owner.closing() => return None,
                () = pace.wait(pass.open() as u64) => {}
            }
        }
        let _among_others = match at_work.is_alone {
            true => None,
            false => self.among_others().await,
        };
        let mut running = limits
            .cpu
            .run(limits.stage, vec![pass.round()], limits.timeout);
        let mut noting = FuturesUnordered::new();
        let mut is_closed = false;
        let ended = loop {
            tokio::select! {
                biased;
                mut ended = running.next() => break ended.pop(),
                () = owner.closing(), if !is_closed => {
                    is_closed = true;
                    running.cancel_queued();
                    // It may take longer than there is time.
                    noting.push(self.note(task, pass.take_open()));
                }
                Some(()) = noting.next() => {}
            }
        };
        while noting.next().await.is_some() {}
        match ended {
            Some((_, Ended::Done(computed))) => Some(computed),
            Some((_, Ended::NotBegun)) | None => None,
        }
    }

    /// Works on a packet that has outlived processes: one item after the other, each on record before it begins.
    pub(super) async fn one_by_one<O: Owner>(
        &self,
        mut task: Task<'_>,
        then: Then,
        mut at_work: AtWork<'_, O>,
    ) {
        let run = at_work.message.run().clone();
        let is_async = task.stage.execution == Execution::Async;
        let outcome = tokio::select! {
            biased;
            outcome = self.outcome_apart(&mut task, &then, &mut at_work) => outcome,
            // A CPU-bound function cannot be dropped.
            () = self.cancelled.when(&run), if is_async => Some(Err(Outcome::Done)),
        };
        at_work.leave();
        let Some(outcome) = outcome else {
            return;
        };
        let outcome = match outcome {
            Ok(computed) => Outcome::Computed(then, computed),
            Err(outcome) => outcome,
        };
        self.settle(vec![(task, outcome)], at_work.owner).await;
    }

    async fn outcome_apart<O: Owner>(
        &self,
        task: &mut Task<'_>,
        then: &Then,
        at_work: &mut AtWork<'_, O>,
    ) -> Option<Result<Computed, Outcome>> {
        let Some(pass) = then.pass() else {
            return Some(Err(Outcome::Failed(refused("it has no items"))));
        };
        loop {
            while let Some(item) = pass.next_apart() {
                if at_work.is_closing() {
                    let (failures, wait) = (pass.failures(), Duration::ZERO);
                    return Some(Err(Outcome::GoesBack(failures, wait)));
                }
                if at_work.owner.is_lost(task.place) {
                    return None;
                }
                if let May::NotBegin(outcome) = self.note_beginning(task, item).await {
                    return Some(Err(outcome));
                }
                match self.turn(task, pass, at_work).await {
                    Some(Err(Stopped::Again)) => {}
                    Some(computed) => return Some(Ok(computed)),
                    None => {
                        let (failures, wait) = (pass.failures(), Duration::ZERO);
                        return Some(Err(Outcome::GoesBack(failures, wait)));
                    }
                }
            }
            // What they have become is put together, unless some are to be tried again.
            match self.turn(task, pass, at_work).await {
                Some(Err(Stopped::Again)) => {}
                Some(computed) => return Some(Ok(computed)),
                None => {
                    let (failures, wait) = (pass.failures(), Duration::ZERO);
                    return Some(Err(Outcome::GoesBack(failures, wait)));
                }
            }
            at_work.failed(&pass.take_untold(), pass.wait());
            let due = after(Instant::now(), pass.wait());
            let may_wait = !at_work.is_closing() && at_work.may_wait(pass.wait());
            let waited = match may_wait {
                true => self.wait_until(due, pass, at_work).await,
                false => Waited::Closing,
            };
            match waited {
                Waited::Due => {}
                Waited::Closing => {
                    let left = due.saturating_duration_since(Instant::now());
                    return Some(Err(Outcome::GoesBack(pass.failures(), left)));
                }
                Waited::Over => return Some(Err(Outcome::Done)),
            }
            if at_work.owner.is_lost(task.place) {
                return None;
            }
        }
    }

    /// One turn of those items of a packet whose turn it is; `None` if it could not begin.
    async fn turn<O: Owner>(
        &self,
        task: &Task<'_>,
        pass: &Arc<Pass>,
        at_work: &AtWork<'_, O>,
    ) -> Option<Computed> {
        match task.stage.execution {
            Execution::Async => {
                let note = |failures| self.note(task, failures).boxed();
                Some(pass.side_by_side(at_work.limits, at_work, &note).await)
            }
            Execution::Blocking => self.next_round(task, pass, at_work).await,
        }
    }
}
