//! Packets whose items are tried again, here: the packet is kept while they wait, and goes back to its queue with their
//! attempts on record if that takes too long.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::at_work::{AtWork, Keeping};
use super::beginning::May;
use super::{Outcome, Owner, Protocol, Task, Then, refused};
use crate::compute::pass::Pass;
use crate::compute::pool::Ended;
use crate::compute::step::{Computed, Host, Stopped};
use crate::core::clock::after;
use crate::stage::Execution;

/// How a packet's work ended here.
enum End {
    Computed(Computed),
    /// It came to no value.
    Without(Outcome),
    /// It is another worker's by now.
    Lost,
}

impl End {
    /// The packet goes back, with its failed attempts on record.
    fn goes_back(pass: &Pass, wait: Duration) -> Self {
        Self::Without(Outcome::GoesBack(pass.failures(), wait))
    }
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
    /// Goes on with a packet of which items have failed, until each of its items is done or has failed for good, and
    /// settles it.
    pub(super) async fn go_on<O: Owner>(
        &self,
        task: Task<'_>,
        then: Then,
        mut at_work: AtWork<'_, O>,
    ) {
        let end = match then.pass() {
            Some(pass) => self.end_of_next(&task, pass, &mut at_work).await,
            None => End::Without(Outcome::Failed(refused("it has no items"))),
        };
        self.settle_end(task, then, end, at_work).await;
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
        let end = match then.pass() {
            Some(pass) => tokio::select! {
                biased;
                end = self.end_of_each(&mut task, pass, &mut at_work) => end,
                // A CPU-bound function cannot be dropped.
                () = self.cancelled.when(&run), if is_async => End::Without(Outcome::Done),
            },
            None => End::Without(Outcome::Failed(refused("it has no items"))),
        };
        self.settle_end(task, then, end, at_work).await;
    }

    async fn settle_end<O: Owner>(
        &self,
        task: Task<'_>,
        then: Then,
        end: End,
        mut at_work: AtWork<'_, O>,
    ) {
        at_work.leave();
        let outcome = match end {
            End::Computed(computed) => Outcome::Computed(then, computed),
            End::Without(outcome) => outcome,
            End::Lost => return,
        };
        self.settle(vec![(task, outcome)], at_work.owner).await;
    }

    async fn end_of_next<O: Owner>(
        &self,
        task: &Task<'_>,
        pass: &Arc<Pass>,
        at_work: &mut AtWork<'_, O>,
    ) -> End {
        loop {
            if task.stage.execution == Execution::Async {
                // It has waited as long as it may.
                return End::goes_back(pass, pass.wait());
            }
            if let Some(end) = self.wait_for_turn(pass, at_work).await {
                return end;
            }
            match self.round(task, pass, at_work).await {
                Some(Err(Stopped::Again)) => {}
                Some(computed) => return End::Computed(computed),
                None => return End::goes_back(pass, Duration::ZERO),
            }
        }
    }

    async fn end_of_each<O: Owner>(
        &self,
        task: &mut Task<'_>,
        pass: &Arc<Pass>,
        at_work: &mut AtWork<'_, O>,
    ) -> End {
        loop {
            while let Some(item) = pass.next_apart() {
                if at_work.is_lost() {
                    return End::Lost;
                }
                if at_work.is_closing() {
                    return End::goes_back(pass, Duration::ZERO);
                }
                if let May::NotBegin(outcome) = self.note_beginning(task, item).await {
                    return End::Without(outcome);
                }
                match self.turn(task, pass, at_work).await {
                    Some(Err(Stopped::Again)) => {}
                    Some(computed) => return End::Computed(computed),
                    None => return End::goes_back(pass, Duration::ZERO),
                }
            }
            // What they have become is put together, unless some are to be tried again.
            match self.turn(task, pass, at_work).await {
                Some(Err(Stopped::Again)) => {}
                Some(computed) => return End::Computed(computed),
                None => return End::goes_back(pass, Duration::ZERO),
            }
            if let Some(end) = self.wait_for_turn(pass, at_work).await {
                return end;
            }
        }
    }

    /// Keeps a packet until its items are due. Returns how its work ends if they are not tried again here.
    async fn wait_for_turn<O: Owner>(
        &self,
        pass: &Pass,
        at_work: &mut AtWork<'_, O>,
    ) -> Option<End> {
        let wait = pass.wait();
        at_work.failed(&pass.take_untold(), wait);
        let stays = at_work.may_wait(wait) || pass.outgrows_the_record();
        if at_work.is_closing() || !stays {
            return Some(End::goes_back(pass, wait));
        }
        at_work.leave();
        let due = after(Instant::now(), wait);
        let keeping = Keeping::begin(at_work, pass.open().max(1));
        tokio::select! {
            biased;
            () = at_work.owner.closing() => {
                let left = due.saturating_duration_since(Instant::now());
                return Some(End::goes_back(pass, left));
            }
            () = sleep_until(due) => {}
            () = self.cancelled.when(at_work.message.run()) => {
                return Some(End::Without(Outcome::Done));
            }
        }
        drop(keeping);
        at_work.is_lost().then_some(End::Lost)
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
            Execution::Blocking => self.round(task, pass, at_work).await,
        }
    }

    /// The same for CPU-bound functions.
    async fn round<O: Owner>(
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
                () = pace.wait(pass.next_values()) => {}
            }
        }
        let _begun = at_work.begin().await?;
        let jobs = vec![pass.round()];
        let mut running = limits.cpu.run(limits.stage, jobs, limits.timeout);
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
}
