//! Runs a map stage's functions over one packet and attributes failures to items.

mod in_turn;
mod side_by_side;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures::FutureExt;

use super::list::{List, Supply};
use super::map::MapStep;
use super::pool::{Ended, Job, timed_out};
use super::sink::At;
use super::step::{Computed, Input, ItemFailure, Leniency, Limits, Output};
use super::trail::Trail;
use super::trouble::Trouble;
use super::watch::{Step, Watch};
use crate::core::error::permanent;
use crate::core::panic::{Contained, panicked};
use crate::core::ready::ready;
use crate::packet::codec::Payload;
use crate::packet::unit_of;
use crate::stage::Execution;

/// The functions' outputs for a packet, before the sink.
struct Mapped {
    outputs: List,
    trail: Trail,
    failed: Vec<Trouble>,
}

/// The result of a packet.
struct Sunk {
    /// Encoded outputs.
    value: Payload,
    /// Outputs by source item, if the next stage has to know.
    yields: Option<Vec<u32>>,
    /// The items left out.
    failed: Vec<Trouble>,
}

type Passed = Result<Sunk, Vec<Trouble>>;

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
pub(super) struct Pass {
    stage: Arc<MapStep>,
    input: Input,
    /// The source item of each value, and the number of source items; set once the yields are known to fit, and not plain.
    units: OnceLock<Vec<usize>>,
    excluded: Mutex<Exclusion>,
    watch: Watch,
}

impl Job for Pass {
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
        self.watch.begun()
    }

    fn failed(&self, error: String) -> Computed {
        Err(vec![self.named(self.current_trouble(error))])
    }

    /// The same work without the item that does not end, if items may be left out.
    fn instead(&self, error: &str) -> Option<Arc<dyn Job<Output = Computed>>> {
        let trouble = self.current_trouble(error.to_owned());
        let unit = trouble.unit?;
        let mut excluded = self.excluded().clone();
        if !excluded.lenient || !excluded.units.insert(unit) {
            return None;
        }
        excluded.skipped.push(self.named(trouble));
        Some(Arc::new(Self {
            excluded: Mutex::new(excluded),
            ..Self::new(Arc::clone(&self.stage), self.input.clone())
        }))
    }
}

/// The sink's work as a job, if it is CPU-bound and follows an asynchronous function.
struct Absorb {
    pass: Arc<Pass>,
    mapped: Mutex<Option<Mapped>>,
}

impl Job for Absorb {
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
        Err(vec![self.pass.current_trouble(error)])
    }
}

impl Pass {
    pub(super) fn new(stage: Arc<MapStep>, input: Input) -> Self {
        let lenient = input.leniency == Leniency::Always;
        Self {
            stage,
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

    /// The work of asynchronous functions.
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
    async fn absorb_apart(self: &Arc<Self>, limits: &Limits, mapped: Mapped) -> Passed {
        let timeout = limits.timeout;
        match self.stage.sink.execution() {
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
                work.unwrap_or_else(|_| Err(vec![self.current_trouble(timed_out(timeout))]))
            }
        }
    }

    fn begin_round(&self) -> Round {
        self.watch.begin(Step::Reading);
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
            error: trouble.error,
            permanent: trouble.permanent,
        }
    }

    /// What goes wrong at this moment, with the source item begun last if it is known.
    fn current_trouble(&self, error: String) -> Trouble {
        let trouble = |unit| Trouble::new(unit, error);
        let functions = self.stage.functions();
        match self.watch.current() {
            Step::Reading => trouble(None),
            Step::Function { place, trace } => {
                let position = self.watch.at();
                let unit = position.map(|position| self.unit(trace.source(position)));
                trouble(unit).in_function(functions, place)
            }
            Step::Value { place, position } => {
                trouble(Some(self.unit(position))).in_function(functions, place)
            }
            Step::Sink(trail) => {
                let position = self.watch.at().filter(|_| self.stage.sink.steps());
                let unit = position.map(|position| self.unit(trail.source(position)));
                trouble(unit)
            }
        }
    }

    /// The source item that a value of the packet came from.
    fn unit(&self, position: usize) -> usize {
        let units = self.units.get();
        let unit = units.and_then(|units| units.get(position));
        unit.copied().unwrap_or(position)
    }

    /// The packet's source item, if it has one only.
    fn only_unit(&self) -> Option<usize> {
        let work = self.input.work()?;
        let is_only = match &work.yields {
            Some(yields) => yields.len() == 1,
            None => work.packet.contains.checked_add(work.packet.skipped) == Some(1),
        };
        is_only.then_some(0)
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

    /// The packet's values.
    fn decode(&self) -> Result<Box<dyn Supply>, Vec<Trouble>> {
        let values = catch_unwind(AssertUnwindSafe(|| match self.input.work() {
            Some(work) => self.stage.decode(&work.packet.value),
            None => Ok(List::none().supply()),
        }));
        let values = match values {
            Ok(Ok(values)) => values,
            Ok(Err((error, position))) => {
                let unit = position.map(|at| match self.yields() {
                    Some(yields) => unit_of(yields, at),
                    None => at,
                });
                return Err(vec![Trouble::new(unit, permanent(error))]);
            }
            Err(panic) => return Err(vec![Trouble::new(None, panicked(panic))]),
        };
        let Some(yields) = self.yields() else {
            return Ok(values);
        };
        let sum: u64 = yields.iter().map(|count| u64::from(*count)).sum();
        if sum != values.len() as u64 {
            let error = format!(
                "packetYields adds up to {sum} values, but packetValue has {}",
                values.len()
            );
            return Err(vec![Trouble::new(None, permanent(error))]);
        }
        self.units.get_or_init(|| {
            let counted = yields.iter().enumerate();
            counted
                .flat_map(|(unit, count)| std::iter::repeat_n(unit, *count as usize))
                .collect()
        });
        Ok(values)
    }

    /// The outputs without those of items that failed in part: an item counts whole or not at all.
    fn settle(&self, round: &Round, values: usize, made: Mapped) -> Result<Mapped, Vec<Trouble>> {
        let Mapped {
            mut outputs,
            trail,
            failed,
        } = made;
        if failed.is_empty() {
            return Ok(Mapped {
                outputs,
                trail,
                failed,
            });
        }
        if !round.lenient || failed.iter().any(|trouble| trouble.unit.is_none()) {
            return Err(failed);
        }
        let bad: BTreeSet<usize> = failed.iter().filter_map(|trouble| trouble.unit).collect();
        let mut counts = trail.each().unwrap_or_else(|| vec![1; values]);
        let mut bad_outputs = Vec::with_capacity(outputs.len());
        for (position, count) in counts.iter_mut().enumerate() {
            let is_bad = bad.contains(&self.unit(position));
            bad_outputs.extend(std::iter::repeat_n(is_bad, *count as usize));
            if is_bad {
                *count = 0;
            }
        }
        outputs.retain(|position| bad_outputs.get(position) == Some(&false));
        Ok(Mapped {
            outputs,
            trail: Trail::Counted(counts),
            failed,
        })
    }

    /// The number of outputs of each source item; `None` if one each.
    fn yields_of(&self, trail: &Trail) -> Option<Vec<u32>> {
        let (each, Some(yields)) = (trail.each(), self.yields()) else {
            return trail.each();
        };
        let Some(each) = each else {
            // One of each value, of which the items have as many as before.
            return Some(yields.clone());
        };
        let mut each = each.iter();
        let sums = yields
            .iter()
            .map(|count| each.by_ref().take(*count as usize).sum());
        let sums: Vec<u32> = sums.collect();
        (!sums.iter().all(|count| *count == 1)).then_some(sums)
    }

    /// Hands the outputs to the sink.
    async fn absorb(&self, mapped: Mapped) -> Passed {
        let Mapped {
            outputs,
            trail,
            mut failed,
        } = mapped;
        let sink = &self.stage.sink;
        let yields = match sink.wants_yields() {
            true => self.yields_of(&trail),
            false => None,
        };
        let progress = self.watch.begin(Step::Sink(trail.clone()));
        let (context, form) = (&self.input.context, self.input.form);
        let work = Contained::new(sink.take(outputs, context, form, progress));
        let trouble = match AssertUnwindSafe(work).catch_unwind().await {
            Ok(Ok(value)) => {
                return Ok(Sunk {
                    value,
                    yields,
                    failed,
                });
            }
            Ok(Err(error)) => {
                let position = match error.at {
                    At::Whole => None,
                    At::Last => self.watch.at(),
                    At::Output(position) => Some(position),
                };
                let unit = position.map(|position| self.unit(trail.source(position)));
                Trouble::new(unit.or_else(|| self.only_unit()), error.error)
            }
            Err(panic) => self.current_trouble(panicked(panic)),
        };
        failed.push(trouble);
        Err(failed)
    }
}
