//! The items of a packet side by side, for an asynchronous function.

use std::panic::AssertUnwindSafe;

use futures::{FutureExt, StreamExt};

use super::super::pool::timed_out;
use super::super::step::Limits;
use super::super::yields::Yields;
use super::{Mapped, Pass, Round, Trouble};
use crate::core::panic::panicked;
use crate::stage::Emitter;
use crate::stage::kernel::MapKernel;

impl<M: MapKernel> Pass<M> {
    /// The items side by side, on the runtime.
    pub(super) async fn map_side_by_side(
        &self,
        limits: &Limits,
        round: &Round,
    ) -> Result<Mapped<M::Output>, Vec<Trouble>> {
        let (values, units) = self.decode()?;
        let mut made: Vec<Option<Vec<M::Output>>> = Vec::new();
        made.resize_with(values.len(), || None);
        let mut failed = Vec::new();
        let mut running = futures::stream::iter(values.into_iter().enumerate())
            .map(|(position, value)| self.map_one(limits, round, position, value))
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
        let mut yields = Yields::new(units);
        let mut outputs = Vec::with_capacity(made.len());
        for (position, values) in made.into_iter().enumerate() {
            let values = values.unwrap_or_default();
            yields.add(self.unit(position), values.len());
            outputs.extend(values);
        }
        self.settle(round, outputs, yields, failed)
    }

    async fn map_one(
        &self,
        limits: &Limits,
        round: &Round,
        position: usize,
        value: M::Input,
    ) -> (usize, Result<Vec<M::Output>, Trouble>) {
        let unit = self.unit(position);
        let mut outputs = Vec::new();
        if round.excluded.contains(&unit) {
            return (position, Ok(outputs));
        }
        // The semaphore is never closed.
        let _permit = limits.items.acquire().await;
        if let Some(pace) = &limits.pace {
            pace.wait(1).await;
        }
        let context = self.input.context.at(self.item(unit));
        let mut emitter = Emitter {
            values: &mut outputs,
        };
        let work = async { self.map.map(value, &context, &mut emitter).await };
        let work = AssertUnwindSafe(work).catch_unwind();
        let trouble = match tokio::time::timeout(limits.timeout, work).await {
            Ok(Ok(Ok(()))) => return (position, Ok(outputs)),
            Ok(Ok(Err(error))) => Trouble::of(Some(unit), &error),
            Ok(Err(panic)) => Trouble::new(Some(unit), panicked(panic.as_ref())),
            Err(_) => Trouble::new(Some(unit), timed_out(limits.timeout)),
        };
        (position, Err(trouble))
    }
}
