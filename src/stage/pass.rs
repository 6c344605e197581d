//! One pass over a packet: decoding, running the function, and who is to blame for a failure.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};

use super::blocking::{off_thread, panicked, ready, timed_out};
use super::execute::Limits;
use super::{Context, Emitter, Execution, Map, Progress, Sink};
use crate::codec;
use crate::error::{BoxError, describe, is_permanent};
use crate::packet::unit_of;

/// One source item of the packet that failed, or, without a unit, the packet as a whole.
pub(super) struct Trouble {
    pub(super) unit: Option<usize>,
    pub(super) error: String,
    pub(super) permanent: bool,
}

impl Trouble {
    fn new(unit: Option<usize>, error: String) -> Self {
        Self {
            unit,
            error,
            permanent: false,
        }
    }

    fn of(unit: Option<usize>, error: &BoxError) -> Self {
        Self {
            permanent: is_permanent(error),
            ..Self::new(unit, describe(error.as_ref()))
        }
    }
}

/// What the function made of a packet, before the sink.
struct Mapped<O> {
    outputs: Vec<O>,
    /// Outputs by source item; absent: one each.
    yields: Option<Vec<u32>>,
    failed: Vec<Trouble>,
}

/// Encoded outputs, outputs by source item, and the items left out.
pub(super) type Passed = Result<(Bytes, Option<Vec<u32>>, Vec<Trouble>), Vec<Trouble>>;

/// How far a pass has come, for whoever watches it from another thread.
#[derive(Default)]
pub(super) struct Watch {
    mapping: Progress,
    sinking: Progress,
    /// Set once the sink begins: outputs by source item.
    sink_yields: OnceLock<Option<Vec<u32>>>,
}

/// All that one pass over a packet needs, so that it can move to another thread.
pub(super) struct Pass<M: Map> {
    pub(super) map: Arc<M>,
    pub(super) sink: Arc<dyn Sink<M::Output>>,
    pub(super) value: Bytes,
    pub(super) yields: Option<Vec<u32>>,
    /// The source item of each value; set once the yields are known to fit, and not plain.
    pub(super) units: OnceLock<Vec<usize>>,
    pub(super) offset: u64,
    pub(super) excluded: BTreeSet<usize>,
    pub(super) context: Context,
    pub(super) lenient: bool,
    pub(super) of_items: bool,
    pub(super) watch: Watch,
}

impl<M: Map> Pass<M> {
    pub(super) async fn run(self: Arc<Self>, limits: &Limits) -> Passed {
        let this = Arc::clone(&self);
        let work = match self.map.execution() {
            Execution::Blocking => {
                if let Some(pace) = &limits.pace {
                    pace.wait(codec::count(&self.value)).await;
                }
                off_thread(
                    limits,
                    || self.begun(),
                    move || {
                        let mapped = this.map_in_turn()?;
                        ready(this.absorb(mapped))
                    },
                )
                .await
            }
            Execution::Async => {
                let mapped = self.map_side_by_side(limits).await?;
                match self.sink.execution() {
                    Execution::Blocking => {
                        off_thread(limits, || self.begun(), move || ready(this.absorb(mapped)))
                            .await
                    }
                    Execution::Async => tokio::time::timeout(limits.timeout, self.absorb(mapped))
                        .await
                        .map_err(|_| timed_out(limits.timeout)),
                }
            }
        };
        work.unwrap_or_else(|error| Err(vec![Trouble::new(self.current_unit(), error)]))
    }

    /// How many steps have been begun, in the function and in the sink.
    fn begun(&self) -> usize {
        let in_sink = usize::from(self.watch.sink_yields.get().is_some());
        self.watch.mapping.begun() + self.watch.sinking.begun() + in_sink
    }

    /// The source item that was begun last, where that is known.
    fn current_unit(&self) -> Option<usize> {
        match self.watch.sink_yields.get() {
            None => Some(self.unit(self.watch.mapping.begun().checked_sub(1)?)),
            Some(_) if !self.sink.steps() => None,
            Some(yields) => {
                let position = self.watch.sinking.begun().checked_sub(1)?;
                Some(
                    yields
                        .as_ref()
                        .map_or(position, |yields| unit_of(yields, position)),
                )
            }
        }
    }

    /// The source item that a value of the packet came from.
    fn unit(&self, position: usize) -> usize {
        match (self.units.get(), &self.yields) {
            (Some(units), _) => units.get(position).copied().unwrap_or(position),
            (None, Some(yields)) => unit_of(yields, position),
            (None, None) => position,
        }
    }

    /// The array's item behind a source item of this packet.
    fn item(&self, unit: usize) -> Option<u64> {
        let item = self.offset.saturating_add(unit as u64);
        self.of_items.then_some(item)
    }

    /// The packet's values, and how many source items they came from.
    fn decode(&self) -> Result<(Vec<M::Input>, usize), Vec<Trouble>> {
        let values = catch_unwind(AssertUnwindSafe(|| {
            codec::decode_list::<M::Input>(&self.value, "the packet's value")
        }));
        let values = match values {
            Ok(Ok(values)) => values,
            Ok(Err((error, position))) => {
                return Err(vec![Trouble {
                    permanent: true,
                    ..Trouble::new(position.map(|at| self.unit(at)), describe(&error))
                }]);
            }
            Err(panic) => return Err(vec![Trouble::new(None, panicked(panic.as_ref()))]),
        };
        let Some(yields) = &self.yields else {
            let units = values.len();
            return Ok((values, units));
        };
        let sum: u64 = yields.iter().map(|count| u64::from(*count)).sum();
        if sum != values.len() as u64 {
            let error = format!(
                "packetYields adds up to {sum} values, but packetValue has {}",
                values.len()
            );
            return Err(vec![Trouble {
                permanent: true,
                ..Trouble::new(None, error)
            }]);
        }
        self.units.get_or_init(|| {
            let counted = yields.iter().enumerate();
            counted
                .flat_map(|(unit, count)| std::iter::repeat_n(unit, *count as usize))
                .collect()
        });
        Ok((values, yields.len()))
    }

    /// One item after the other, on this thread.
    fn map_in_turn(&self) -> Result<Mapped<M::Output>, Vec<Trouble>> {
        let (values, units) = self.decode()?;
        let mut outputs = Vec::with_capacity(values.len());
        let mut yields = Yields::new(units);
        let mut failed = Vec::new();
        let mut context = self.context.clone();
        let mut values = values.into_iter();
        loop {
            // One guard around many items: a panic ends this round of the loop, not the packet.
            let round = catch_unwind(AssertUnwindSafe(|| {
                for value in values.by_ref() {
                    let position = self.watch.mapping.begun();
                    self.watch.mapping.step();
                    let unit = self.unit(position);
                    if !self.excluded.is_empty() && self.excluded.contains(&unit) {
                        continue;
                    }
                    context.item = self.item(unit);
                    let before = outputs.len();
                    let mut emitter = Emitter {
                        values: &mut outputs,
                    };
                    match ready(self.map.map(value, &context, &mut emitter)) {
                        Ok(()) => yields.add(unit, outputs.len() - before),
                        Err(error) => {
                            outputs.truncate(before);
                            failed.push(Trouble::of(Some(unit), &error));
                            if !self.lenient {
                                break;
                            }
                        }
                    }
                }
            }));
            match round {
                Ok(()) => break,
                Err(panic) => {
                    outputs.truncate(yields.total());
                    failed.push(Trouble::new(self.current_unit(), panicked(panic.as_ref())));
                    if !self.lenient {
                        break;
                    }
                }
            }
        }
        self.settle(outputs, yields, failed)
    }

    /// The items side by side, on the runtime.
    async fn map_side_by_side(&self, limits: &Limits) -> Result<Mapped<M::Output>, Vec<Trouble>> {
        let (values, units) = self.decode()?;
        let mut made: Vec<Option<Vec<M::Output>>> = Vec::new();
        made.resize_with(values.len(), || None);
        let mut failed = Vec::new();
        let mut running = futures::stream::iter(values.into_iter().enumerate())
            .map(|(position, value)| self.map_one(limits, position, value))
            .buffer_unordered(limits.concurrency);
        while let Some((position, result)) = running.next().await {
            match result {
                Ok(outputs) => {
                    if let Some(slot) = made.get_mut(position) {
                        *slot = Some(outputs);
                    }
                }
                Err(trouble) if self.lenient => failed.push(trouble),
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
        self.settle(outputs, yields, failed)
    }

    async fn map_one(
        &self,
        limits: &Limits,
        position: usize,
        value: M::Input,
    ) -> (usize, Result<Vec<M::Output>, Trouble>) {
        let unit = self.unit(position);
        let mut outputs = Vec::new();
        if self.excluded.contains(&unit) {
            return (position, Ok(outputs));
        }
        // The semaphore is never closed.
        let _permit = limits.items.acquire().await;
        if let Some(pace) = &limits.pace {
            pace.wait(1).await;
        }
        let context = self.context.at(self.item(unit));
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

    /// The outputs without those of items that failed in part: an item counts whole or not at all.
    fn settle(
        &self,
        mut outputs: Vec<M::Output>,
        mut yields: Yields,
        failed: Vec<Trouble>,
    ) -> Result<Mapped<M::Output>, Vec<Trouble>> {
        if !failed.is_empty() {
            if !self.lenient || failed.iter().any(|trouble| trouble.unit.is_none()) {
                return Err(failed);
            }
            let bad: BTreeSet<usize> = failed.iter().filter_map(|trouble| trouble.unit).collect();
            let mut rest = outputs.into_iter();
            outputs = Vec::with_capacity(rest.len());
            for (unit, count) in yields.0.iter_mut().enumerate() {
                let kept = rest.by_ref().take(*count as usize);
                if bad.contains(&unit) {
                    kept.for_each(drop);
                    *count = 0;
                } else {
                    outputs.extend(kept);
                }
            }
        }
        Ok(Mapped {
            outputs,
            yields: yields.unless_plain(),
            failed,
        })
    }

    async fn absorb(&self, mapped: Mapped<M::Output>) -> Passed {
        let Mapped {
            outputs,
            yields,
            mut failed,
        } = mapped;
        let yields = self.watch.sink_yields.get_or_init(|| yields);
        let work = self.sink.take(outputs, &self.context, &self.watch.sinking);
        let trouble = match AssertUnwindSafe(work).catch_unwind().await {
            Ok(Ok(bytes)) => return Ok((bytes, yields.clone(), failed)),
            Ok(Err(error)) => {
                let unit = error.at_output.then(|| self.current_unit()).flatten();
                Trouble::of(unit, &error.error)
            }
            Err(panic) => Trouble::new(self.current_unit(), panicked(panic.as_ref())),
        };
        failed.push(trouble);
        Err(failed)
    }
}

/// How many outputs each source item has.
struct Yields(Vec<u32>);

impl Yields {
    fn new(units: usize) -> Self {
        Self(vec![0; units])
    }

    fn add(&mut self, unit: usize, outputs: usize) {
        if let Some(count) = self.0.get_mut(unit) {
            *count += u32::try_from(outputs).unwrap_or(u32::MAX);
        }
    }

    fn total(&self) -> usize {
        self.0.iter().map(|count| *count as usize).sum()
    }

    fn unless_plain(self) -> Option<Vec<u32>> {
        (!self.0.iter().all(|count| *count == 1)).then_some(self.0)
    }
}
