//! The items of a packet side by side, for asynchronous functions. Each goes through all functions, and waits for its next
//! attempt if it fails, without regard to the others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::super::function::Function;
use super::super::list::List;
use super::super::pool::timed_out;
use super::super::step::{Computed, Failures, Host, Limits, Stopped};
use super::super::trail::Trail;
use super::super::trouble::Trouble;
use super::Pass;
use super::assemble::Piece;
use crate::core::clock::after;
use crate::core::error::{BoxError, permanent};
use crate::core::panic::{Contained, panicked};
use crate::stage::Context;

/// A unit, whether it had its place before, and what an attempt at it came to; `None` if it could not begin.
type Tried = (usize, bool, Option<Result<Piece, Trouble>>);

/// What the values from `begin` on have become: of each, so many outputs.
fn piece(begin: usize, counts: Vec<u32>, outputs: List) -> Piece {
    Piece {
        begin,
        values: counts.len(),
        outputs,
        trail: Trail::Counted(counts),
        turn: 0,
    }
}

/// Lists are at most as long as a packet of 2^32 values.
fn length(values: &List) -> u32 {
    u32::try_from(values.len()).unwrap_or(u32::MAX)
}

/// Counts a packet with items that wait.
struct Kept<'a>(&'a AtomicUsize);

impl<'a> Kept<'a> {
    fn begin(kept: &'a AtomicUsize) -> Self {
        kept.fetch_add(1, Ordering::Relaxed);
        Self(kept)
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An item that waits, as long as it does.
struct Waits<'a, H: Host>(&'a H);

impl<'a, H: Host> Waits<'a, H> {
    fn begin(host: &'a H) -> Self {
        host.waits(1);
        Self(host)
    }
}

impl<H: Host> Drop for Waits<'_, H> {
    fn drop(&mut self) {
        self.0.waits(-1);
    }
}

impl Pass {
    /// The work of asynchronous functions. [`Stopped::Again`] means that the packet is to go back. If it is closed meanwhile,
    /// what has failed so far is given to `note`: the rest may take longer than there is time.
    pub(crate) async fn side_by_side<'a>(
        self: &Arc<Self>,
        limits: &Limits,
        host: &impl Host,
        note: &(impl Fn(Failures) -> BoxFuture<'a, ()> + Sync),
    ) -> Computed {
        let number = self.state().begin_round();
        loop {
            if let Err(trouble) = self.kept() {
                self.state().fail(trouble, self);
            } else if self.map_side_by_side(limits, host, note).await {
                return Err(Stopped::Again);
            }
            let mapped = self.conclude(number)?;
            let sunk = self.absorb_apart(limits, mapped).await;
            match self.finish(number, sunk) {
                Err(Stopped::Again) => {
                    let wait = self.wait();
                    host.failed(&self.take_untold(), wait);
                    if host.is_closing() || !host.may_wait(wait) {
                        return Err(Stopped::Again);
                    }
                    tokio::select! {
                        biased;
                        () = host.closing() => return Err(Stopped::Again),
                        () = tokio::time::sleep(wait) => {}
                    }
                }
                computed => return computed,
            }
        }
    }

    /// Tries all units that are to be tried, each until it is done or has failed for good. Returns whether the packet goes
    /// back, with units that wait for another attempt.
    async fn map_side_by_side<'a>(
        &self,
        limits: &Limits,
        host: &impl Host,
        note: &(impl Fn(Failures) -> BoxFuture<'a, ()> + Sync),
    ) -> bool {
        let units = self.num_units_read();
        let due = self.state().due(units);
        let mut due = due.into_iter();
        let mut running = FuturesUnordered::<BoxFuture<'_, Tried>>::new();
        let mut waiting = FuturesUnordered::<BoxFuture<'_, usize>>::new();
        // Whether what has failed so far is on record, now that nothing more may begin.
        let (mut goes_back, mut is_noted) = (false, false);
        let mut until: Option<Instant> = None;
        let mut kept = None;
        let mut noting = FuturesUnordered::<BoxFuture<'a, ()>>::new();
        loop {
            while running.len() < limits.concurrency
                && let Some(unit) = due.next()
            {
                running.push(self.try_one(limits, host, unit, false).boxed());
            }
            let (unit, is_again, result) = tokio::select! {
                biased;
                Some(tried) = running.next() => tried,
                Some(unit) = waiting.next() => {
                    if waiting.is_empty() {
                        kept = None;
                    }
                    running.push(self.try_one(limits, host, unit, true).boxed());
                    continue;
                }
                () = host.closing(), if !is_noted
                    && (!waiting.is_empty() || (goes_back && !running.is_empty())) =>
                {
                    is_noted = true;
                    goes_back = true;
                    waiting.clear();
                    kept = None;
                    if !running.is_empty() {
                        noting.push(note(self.state().take_open()));
                    }
                    continue;
                }
                Some(()) = noting.next() => continue,
                else => break,
            };
            if !is_again {
                host.left(self.positions(unit).len());
            }
            let Some(result) = result else {
                goes_back = true;
                continue;
            };
            let wait = match result {
                Ok(piece) => {
                    self.state().done(unit, piece);
                    continue;
                }
                Err(trouble) => {
                    let trouble = self.labelled(trouble);
                    self.state().fail_one(trouble, self)
                }
            };
            if self.state().has_failed() {
                return false;
            }
            let Some(wait) = wait else { continue };
            host.failed(&self.take_untold(), wait);
            let due = after(Instant::now(), wait);
            until = Some(until.map_or(due, |until| until.max(due)));
            let stays = kept.is_some() || host.may_wait(wait) || self.outgrows_the_record();
            if goes_back || host.is_closing() || !stays {
                goes_back = true;
                is_noted = false;
            } else {
                kept.get_or_insert_with(|| Kept::begin(&limits.kept));
                let counted = Waits::begin(host);
                waiting.push(Box::pin(async move {
                    sleep_until(due).await;
                    drop(counted);
                    unit
                }));
            }
        }
        if goes_back {
            let until = until.unwrap_or_else(Instant::now);
            self.state().wait = until.saturating_duration_since(Instant::now());
        }
        goes_back
    }

    /// The number of source items, now that the values have been read.
    fn num_units_read(&self) -> usize {
        match self.yields() {
            Some(yields) => yields.len(),
            None => self.state().count,
        }
    }

    async fn try_one(
        &self,
        limits: &Limits,
        host: &impl Host,
        unit: usize,
        is_again: bool,
    ) -> Tried {
        (unit, is_again, self.attempt(limits, host, unit).await)
    }

    /// One attempt at a unit: all of its values, side by side. `None` if it could not begin.
    async fn attempt(
        &self,
        limits: &Limits,
        host: &impl Host,
        unit: usize,
    ) -> Option<Result<Piece, Trouble>> {
        let positions = self.positions(unit);
        let (begin, count) = (positions.start, positions.len());
        let attempt = self.state().attempt_of(unit);
        let context = self.context(attempt).at(self.item(unit));
        if count == 1 {
            let made = self.map_one(limits, host, unit, begin, &context).await?;
            return Some(made.map(|outputs| piece(begin, vec![length(&outputs)], outputs)));
        }
        let each = positions.map(|position| self.map_one(limits, host, unit, position, &context));
        let (mut outputs, mut counts) = (self.no_outputs(), Vec::with_capacity(count));
        for made in join_all(each).await {
            let values = match made? {
                Ok(values) => values,
                Err(trouble) => return Some(Err(trouble)),
            };
            counts.push(length(&values));
            if counts.len() == 1 {
                outputs = values;
            } else if let Err(error) = outputs.append(values) {
                return Some(Err(Trouble::new(Some(unit), error.permanent())));
            }
        }
        Some(Ok(piece(begin, counts, outputs)))
    }

    async fn map_one(
        &self,
        limits: &Limits,
        host: &impl Host,
        unit: usize,
        position: usize,
        context: &Context,
    ) -> Option<Result<List, Trouble>> {
        // Before it takes a place, which whoever has to be alone may need.
        let _begun = host.begin().await?;
        // The semaphore is never closed.
        let _permit = limits.items.acquire().await;
        if let Some(pace) = &limits.pace {
            pace.wait(1).await;
        }
        self.state().begins(unit);
        // A clone may panic.
        let value = catch_unwind(AssertUnwindSafe(|| {
            let kept = self.kept()?;
            Ok::<_, Trouble>(kept.one(position))
        }));
        let value = match value {
            Ok(Ok(value)) => value,
            Ok(Err(trouble)) => return Some(Err(trouble)),
            Err(panic) => return Some(Err(Trouble::new(Some(unit), panicked(panic)))),
        };
        let place = AtomicUsize::new(0);
        let work = self.call_in_a_row(value, context, &place);
        let work = AssertUnwindSafe(work).catch_unwind();
        let error: BoxError = match tokio::time::timeout(limits.timeout, work).await {
            Ok(Ok(Ok(outputs))) => return Some(Ok(outputs)),
            Ok(Ok(Err(error))) => error,
            Ok(Err(panic)) => panicked(panic).into(),
            Err(_) => timed_out(limits.timeout).into(),
        };
        let place = place.load(Ordering::Relaxed);
        let trouble = Trouble::new(Some(unit), error);
        Some(Err(trouble.in_function(self.stage.functions(), place)))
    }

    /// One item through all functions; `place` is that of the current one.
    async fn call_in_a_row(
        &self,
        value: List,
        context: &Context,
        place: &AtomicUsize,
    ) -> Result<List, BoxError> {
        let mut values = value;
        for (index, function) in self.stage.functions().iter().enumerate() {
            place.store(index, Ordering::Relaxed);
            let Function::SideBySide(function) = function else {
                let problem = "a CPU-bound function follows an asynchronous one in one stage: please report this";
                return Err(permanent(problem).into());
            };
            let mut outputs = function.outputs();
            Contained::new(function.call(values, &mut outputs, context)).await?;
            values = outputs;
        }
        Ok(values)
    }
}
