//! Runs a map stage's function over one packet and attributes failures to items.

mod in_turn;
mod side_by_side;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures::FutureExt;

use super::blocking::ready;
use super::pool::{Ended, Job, timed_out};
use super::sink::Sink;
use super::step::{Computed, Input, ItemFailure, Leniency, Limits, Output};
use super::yields::Yields;
use crate::core::error::{BoxError, describe, is_permanent};
use crate::core::panic::panicked;
use crate::packet::codec::{self, Payload};
use crate::packet::unit_of;
use crate::stage::kernel::MapKernel;
use crate::stage::{Execution, Progress};

/// One source item of the packet that failed, or, without a unit, the packet as a whole.
struct Trouble {
    unit: Option<usize>,
    error: String,
    permanent: bool,
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

/// The function's outputs for a packet, before the sink.
struct Mapped<O> {
    outputs: Vec<O>,
    /// Outputs by source item; absent: one each.
    yields: Option<Vec<u32>>,
    failed: Vec<Trouble>,
}

/// The result of a packet.
struct Sunk {
    /// Encoded outputs.
    value: Payload,
    /// Outputs by source item.
    yields: Option<Vec<u32>>,
    /// The items left out.
    failed: Vec<Trouble>,
}

type Passed = Result<Sunk, Vec<Trouble>>;

/// The progress of a round, watched from another thread.
#[derive(Default)]
struct Watch {
    rounds: AtomicUsize,
    mapping: Progress,
    sinking: Progress,
    /// Set once the sink begins: outputs by source item.
    sink_yields: Mutex<Option<Option<Vec<u32>>>>,
}

impl Watch {
    fn sink_yields(&self) -> MutexGuard<'_, Option<Option<Vec<u32>>>> {
        self.sink_yields
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_round(&self) {
        *self.sink_yields() = None;
        self.mapping.reset();
        self.sinking.reset();
        self.rounds.fetch_add(1, Ordering::Relaxed);
    }
}

/// The items that are left out, and why.
#[derive(Clone, Default)]
struct Exclusion {
    lenient: bool,
    units: BTreeSet<usize>,
    skipped: Vec<ItemFailure>,
}

/// The settings of one round over the packet.
struct Round {
    /// Items that fail are left out.
    lenient: bool,
    /// Items that are not begun.
    excluded: BTreeSet<usize>,
}

/// Everything that the work on a packet needs, so that it can move to another thread.
pub(super) struct Pass<M: MapKernel> {
    map: Arc<M>,
    sink: Arc<dyn Sink<M::Output>>,
    input: Input,
    /// The source item of each value; set once the yields are known to fit, and not plain.
    units: OnceLock<Vec<usize>>,
    excluded: Mutex<Exclusion>,
    watch: Watch,
}

impl<M: MapKernel> Job for Pass<M> {
    type Output = Computed;

    fn run(&self) -> Computed {
        loop {
            let round = self.begin_round();
            let passed = self
                .map_in_turn(&round)
                .and_then(|mapped| ready(self.absorb(mapped)));
            if let Some(computed) = self.end_round(&round, passed) {
                return computed;
            }
        }
    }

    fn begun(&self) -> usize {
        let in_sink = usize::from(self.watch.sink_yields().is_some());
        self.watch.rounds.load(Ordering::Relaxed)
            + self.watch.mapping.begun()
            + self.watch.sinking.begun()
            + in_sink
    }

    fn failed(&self, error: String) -> Computed {
        Err(vec![self.named(Trouble::new(self.current_unit(), error))])
    }

    /// The same work without the item that does not end, if items may be left out.
    fn instead(&self, error: &str) -> Option<Arc<dyn Job<Output = Computed>>> {
        let unit = self.current_unit()?;
        let mut excluded = self.excluded().clone();
        if !excluded.lenient || !excluded.units.insert(unit) {
            return None;
        }
        let trouble = Trouble::new(Some(unit), error.to_owned());
        excluded.skipped.push(self.named(trouble));
        let (map, sink) = (Arc::clone(&self.map), Arc::clone(&self.sink));
        Some(Arc::new(Self {
            excluded: Mutex::new(excluded),
            ..Self::new(map, sink, self.input.clone())
        }))
    }
}

/// The sink's work as a job, if it is CPU-bound and follows an asynchronous function.
struct Absorb<M: MapKernel> {
    pass: Arc<Pass<M>>,
    mapped: Mutex<Option<Mapped<M::Output>>>,
}

impl<M: MapKernel> Job for Absorb<M> {
    type Output = Passed;

    fn run(&self) -> Passed {
        let mapped = self
            .mapped
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match mapped {
            Some(mapped) => ready(self.pass.absorb(mapped)),
            None => self.failed("its outputs were taken before".into()),
        }
    }

    fn begun(&self) -> usize {
        self.pass.begun()
    }

    fn failed(&self, error: String) -> Passed {
        Err(vec![Trouble::new(self.pass.current_unit(), error)])
    }
}

impl<M: MapKernel> Pass<M> {
    pub(super) fn new(map: Arc<M>, sink: Arc<dyn Sink<M::Output>>, input: Input) -> Self {
        let lenient = input.leniency == Leniency::Always;
        Self {
            map,
            sink,
            input,
            units: OnceLock::new(),
            excluded: Mutex::new(Exclusion {
                lenient,
                ..Exclusion::default()
            }),
            watch: Watch::default(),
        }
    }

    fn excluded(&self) -> MutexGuard<'_, Exclusion> {
        self.excluded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The work of an asynchronous function.
    pub(super) async fn side_by_side(self: Arc<Self>, limits: &Limits) -> Computed {
        loop {
            let round = self.begin_round();
            let passed = match self.map_side_by_side(limits, &round).await {
                Ok(mapped) => self.absorb_apart(limits, mapped).await,
                Err(troubles) => Err(troubles),
            };
            if let Some(computed) = self.end_round(&round, passed) {
                return computed;
            }
        }
    }

    /// Runs the sink on the threads that suit it.
    async fn absorb_apart(self: &Arc<Self>, limits: &Limits, mapped: Mapped<M::Output>) -> Passed {
        let timeout = limits.timeout;
        match self.sink.execution() {
            Execution::Blocking => {
                let job: Arc<dyn Job<Output = Passed>> = Arc::new(Absorb {
                    pass: Arc::clone(self),
                    mapped: Mutex::new(Some(mapped)),
                });
                let mut running = limits.cpu.finish(limits.stage, Arc::clone(&job), timeout);
                match running.next().await.pop() {
                    Some((_, Ended::Done(passed))) => passed,
                    _ => job.failed("the worker ended".into()),
                }
            }
            Execution::Async => {
                let work = tokio::time::timeout(timeout, self.absorb(mapped)).await;
                work.unwrap_or_else(|_| {
                    Err(vec![Trouble::new(self.current_unit(), timed_out(timeout))])
                })
            }
        }
    }

    fn begin_round(&self) -> Round {
        self.watch.begin_round();
        let excluded = self.excluded();
        Round {
            lenient: excluded.lenient,
            excluded: excluded.units.clone(),
        }
    }

    /// The result of the packet; `None` if another round is needed without the items that failed. Each round leaves out
    /// at least one item more, so there are at most as many rounds as items.
    fn end_round(&self, round: &Round, passed: Passed) -> Option<Computed> {
        let troubles = match passed {
            Ok(Sunk {
                value,
                yields,
                failed,
            }) => {
                let mut skipped = std::mem::take(&mut self.excluded().skipped);
                skipped.extend(failed.into_iter().map(|trouble| self.named(trouble)));
                return Some(Ok(Output {
                    value,
                    yields,
                    skipped,
                }));
            }
            Err(troubles) => troubles,
        };
        let mut excluded = self.excluded();
        if !round.lenient
            && self.input.leniency == Leniency::WhenPermanent
            && troubles.iter().any(|trouble| trouble.permanent)
        {
            excluded.lenient = true;
            return None;
        }
        let named = |trouble| self.named(trouble);
        let failed: Option<Vec<usize>> = troubles.iter().map(|trouble| trouble.unit).collect();
        match failed {
            Some(failed)
                if round.lenient && failed.iter().any(|unit| !round.excluded.contains(unit)) =>
            {
                excluded.units.extend(failed);
                excluded.skipped.extend(troubles.into_iter().map(named));
                None
            }
            _ => Some(Err(troubles.into_iter().map(named).collect())),
        }
    }

    fn named(&self, trouble: Trouble) -> ItemFailure {
        ItemFailure {
            item: trouble.unit.and_then(|unit| self.item(unit)),
            permanent: trouble.permanent,
            ..ItemFailure::whole(trouble.error)
        }
    }

    /// The source item begun last, if known.
    fn current_unit(&self) -> Option<usize> {
        match &*self.watch.sink_yields() {
            None => Some(self.unit(self.watch.mapping.at()?)),
            Some(_) if !self.sink.steps() => None,
            Some(yields) => {
                let position = self.watch.sinking.at()?;
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
        match (self.units.get(), self.yields()) {
            (Some(units), _) => units.get(position).copied().unwrap_or(position),
            (None, Some(yields)) => unit_of(yields, position),
            (None, None) => position,
        }
    }

    /// The index in the array of a source item of this packet.
    fn item(&self, unit: usize) -> Option<u64> {
        let offset = self.input.work().map_or(0, |work| work.offset);
        let item = offset.saturating_add(unit as u64);
        self.input.of_items.then_some(item)
    }

    fn yields(&self) -> Option<&Vec<u32>> {
        self.input.work()?.yields.as_ref()
    }

    /// The packet's values, and how many source items they came from.
    fn decode(&self) -> Result<(Vec<M::Input>, usize), Vec<Trouble>> {
        let values = catch_unwind(AssertUnwindSafe(|| match self.input.work() {
            Some(work) => codec::decode_list::<M::Input>(&work.packet.value, "the packet's value"),
            None => Ok(Vec::new()),
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
        let Some(yields) = self.yields() else {
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

    /// The outputs without those of items that failed in part: an item counts whole or not at all.
    fn settle(
        &self,
        round: &Round,
        mut outputs: Vec<M::Output>,
        mut yields: Yields,
        failed: Vec<Trouble>,
    ) -> Result<Mapped<M::Output>, Vec<Trouble>> {
        if !failed.is_empty() {
            if !round.lenient || failed.iter().any(|trouble| trouble.unit.is_none()) {
                return Err(failed);
            }
            let bad: BTreeSet<usize> = failed.iter().filter_map(|trouble| trouble.unit).collect();
            let mut rest = outputs.into_iter();
            outputs = Vec::with_capacity(rest.len());
            for (unit, count) in yields.counts().iter_mut().enumerate() {
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

    /// Hands the outputs to the sink.
    async fn absorb(&self, mapped: Mapped<M::Output>) -> Passed {
        let Mapped {
            outputs,
            yields,
            mut failed,
        } = mapped;
        *self.watch.sink_yields() = Some(yields.clone());
        let (context, form) = (&self.input.context, self.input.form);
        let work = self.sink.take(outputs, context, form, &self.watch.sinking);
        let trouble = match AssertUnwindSafe(work).catch_unwind().await {
            Ok(Ok(value)) => {
                return Ok(Sunk {
                    value,
                    yields,
                    failed,
                });
            }
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
