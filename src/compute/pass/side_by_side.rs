//! The items of a packet side by side, for asynchronous functions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{FutureExt, StreamExt};

use super::super::function::Function;
use super::super::list::List;
use super::super::pool::timed_out;
use super::super::step::Limits;
use super::super::trail::Trail;
use super::super::trouble::Trouble;
use super::{Mapped, Pass, Round};
use crate::core::error::{BoxError, permanent};
use crate::core::panic::{Contained, panicked};
use crate::stage::Context;

impl Pass {
    /// The items side by side, on the runtime. Each goes through all functions without waiting for the others.
    pub(super) async fn map_side_by_side(
        &self,
        limits: &Limits,
        round: &Round,
    ) -> Result<Mapped, Vec<Trouble>> {
        let mut values = self.decode()?;
        let count = values.len();
        let mut made: Vec<Option<List>> = Vec::new();
        made.resize_with(count, || None);
        let mut failed = Vec::new();
        let mut running = futures::stream::iter(0..count)
            .map(|position| {
                // A clone may panic.
                let value = catch_unwind(AssertUnwindSafe(|| values.next(1)));
                let value = value.map_err(|panic| {
                    values.skip();
                    panicked(panic)
                });
                self.map_one(limits, round, position, value)
            })
            .buffer_unordered(limits.concurrency);
        while let Some((position, result)) = running.next().await {
            match result {
                Ok(outputs) => {
                    if let Some(slot) = made.get_mut(position) {
                        *slot = Some(outputs);
                    }
                }
                Err(trouble) if round.lenient => failed.push(trouble),
                Err(trouble) => return Err(vec![trouble]),
            }
        }
        drop(running);
        let mut outputs = self.no_outputs();
        let mut counts = Vec::with_capacity(count);
        for values in made {
            let values = values.unwrap_or_else(List::none);
            // Lists are at most as long as a packet of 2^32 values.
            counts.push(u32::try_from(values.len()).unwrap_or(u32::MAX));
            if let Err(error) = outputs.append(values) {
                return Err(vec![Trouble::new(None, error.permanent())]);
            }
        }
        let made = Mapped {
            outputs,
            trail: Trail::Counted(counts),
            failed,
        };
        self.settle(round, count, made)
    }

    fn no_outputs(&self) -> List {
        match self.stage.functions().last() {
            Some(Function::SideBySide(last)) => last.outputs(),
            Some(Function::InTurn(_)) | None => List::none(),
        }
    }

    async fn map_one(
        &self,
        limits: &Limits,
        round: &Round,
        position: usize,
        value: Result<List, String>,
    ) -> (usize, Result<List, Trouble>) {
        let unit = self.unit(position);
        let value = match value {
            Ok(value) => value,
            Err(panic) => return (position, Err(Trouble::new(Some(unit), panic))),
        };
        if round.excluded.contains(&unit) {
            return (position, Ok(List::none()));
        }
        // The semaphore is never closed.
        let _permit = limits.items.acquire().await;
        if let Some(pace) = &limits.pace {
            pace.wait(1).await;
        }
        let context = self.input.context.at(self.item(unit));
        let place = AtomicUsize::new(0);
        let work = self.call_in_a_row(value, &context, &place);
        let work = AssertUnwindSafe(work).catch_unwind();
        let error: BoxError = match tokio::time::timeout(limits.timeout, work).await {
            Ok(Ok(Ok(outputs))) => return (position, Ok(outputs)),
            Ok(Ok(Err(error))) => error,
            Ok(Err(panic)) => panicked(panic).into(),
            Err(_) => timed_out(limits.timeout).into(),
        };
        let place = place.load(Ordering::Relaxed);
        let trouble = Trouble::new(Some(unit), error);
        (
            position,
            Err(trouble.in_function(self.stage.functions(), place)),
        )
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
