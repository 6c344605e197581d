//! The packets of a full group in one pass: maps the items of all of them, folds each packet by itself, and combines the
//! partial results. The result has the same bits as that of one pass per packet and a reduction.
//!
//! This is the one shortcut beside the ordinary [pass](super::pass). A pass per packet needs two lists, a job, the boxed
//! future of its fold and an encoded partial result, each an allocation: five for a packet of one item. Here a whole group
//! needs them once, and `tests/memory.rs` holds the engine to less than two allocations per packet of one item.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::blocking::ready;
use super::pool::Job;
use super::sink::{Fold, Sink, SinkError};
use super::step::{Computed, Input, ItemFailure, Output};
use super::yields::Yields;
use crate::core::error::{BoxError, describe, is_permanent};
use crate::core::panic::panicked;
use crate::packet::codec::{self, Form, Payload};
use crate::packet::unit_of;
use crate::stage::kernel::{CombineKernel, MapKernel};
use crate::stage::{Context, Emitter, Items, Progress};

/// Stop processing the group as one after this long, so that other threads can share its packets.
const LONG: Duration = Duration::from_millis(1);
/// Most outputs of a group that is processed as one, if it has fewer items.
const OUTPUTS: usize = 16 * 1024;
/// While only folding, check the clock once per this many packets: reading it may take longer than a fold.
const FOLDS_PER_CHECK: usize = 4;
/// Items per packet from which on it pays to begin a loop over them.
const MANY: usize = 4;

/// A map stage whose function and reduction can process a whole group in one pass.
pub(crate) trait GroupStep: Send + Sync {
    /// The work on a group's packets. The items of all of them are the input's packet; `sizes` has the number of items of
    /// each.
    fn pass(&self, input: Input, sizes: Arc<[u32]>) -> Arc<dyn GroupPass>;
}

/// The work on a group's packets. Its job's output is the value that the reduction would make of the group.
pub(crate) trait GroupPass: Job<Output = Computed> {
    /// If the job ended without a value though nothing failed (the function or the reduction is slow, or the partial
    /// results could not be combined): partial results of the first packets, in order. Can be taken once.
    fn partials(&self) -> Option<Vec<Payload>>;
}

/// What a reduction made of a group's outputs.
pub(crate) enum Reduced {
    /// The group's value.
    Whole(Payload),
    /// Partial results of the first packets.
    Each(Vec<Payload>),
}

/// A reduction of a whole group's outputs.
pub(crate) trait GroupSink<O>: Send + Sync {
    /// Folds each packet's outputs, which end at `ends`, and combines the partial results if `whole` is set, unless that
    /// turns out to be slow or fails.
    fn reduce(
        &self,
        outputs: Vec<O>,
        ends: &[usize],
        whole: bool,
        context: &Context,
        progress: &Progress,
    ) -> Result<Reduced, SinkError>;
}

impl<C: CombineKernel> GroupSink<C::Input> for Fold<C> {
    fn reduce(
        &self,
        outputs: Vec<C::Input>,
        ends: &[usize],
        whole: bool,
        context: &Context,
        progress: &Progress,
    ) -> Result<Reduced, SinkError> {
        let what = "a partial result";
        let partials = fold_each(self, outputs, ends, whole, context, progress)?;
        if !whole || partials.len() < ends.len() {
            let encode = |partial| codec::encode(partial, Form::Local, what);
            let each: crate::core::error::Result<_> = partials.into_iter().map(encode).collect();
            return each.map(Reduced::Each).map_err(SinkError::whole);
        }
        // A reduction that fails does so at its own stage.
        let combine = AssertUnwindSafe(|| ready(self.0.combine(partials, context)));
        let value = match catch_unwind(combine) {
            Ok(Ok(value)) => codec::encode(value, Form::Local, what).ok(),
            Ok(Err(_)) | Err(_) => None,
        };
        Ok(value.map_or(Reduced::Each(Vec::new()), Reduced::Whole))
    }
}

/// Folds each packet's outputs. If `whole` is set, may stop early when folding is slow.
fn fold_each<C: CombineKernel>(
    sink: &Fold<C>,
    outputs: Vec<C::Input>,
    ends: &[usize],
    whole: bool,
    context: &Context,
    progress: &Progress,
) -> Result<Vec<C::Output>, SinkError> {
    let mut partials = Vec::with_capacity(ends.len());
    let count = outputs.len();
    let mut values = outputs.into_iter();
    let mut begin = 0;
    let since = Instant::now();
    for (place, end) in ends.iter().enumerate() {
        // The start of a fold does not belong to any item.
        progress.pause();
        let partial = ready(sink.fold(&mut values, end - begin, context, progress));
        partials.push(partial?);
        begin = *end;
        // A fold need not have taken all of its items.
        let left = values.len().saturating_sub(count - end);
        values.by_ref().take(left).for_each(drop);
        if whole && place.is_multiple_of(FOLDS_PER_CHECK) && since.elapsed() > LONG {
            break;
        }
    }
    // Nor does the rest.
    progress.pause();
    Ok(partials)
}

/// How far the function has come with the items of all packets.
struct Turn<I, O> {
    values: std::vec::IntoIter<I>,
    position: usize,
    outputs: Vec<O>,
    yields: Yields,
    /// The end of each finished packet's outputs.
    ends: Vec<usize>,
    since: Instant,
}

/// A group's pass with its types.
pub(super) struct TypedPass<M: MapKernel> {
    map: Arc<M>,
    sink: Arc<dyn Sink<M::Output>>,
    input: Input,
    sizes: Arc<[u32]>,
    mapping: Progress,
    folding: Progress,
    /// Set when folding begins: outputs by item; `None` if one each.
    yields: OnceLock<Option<Vec<u32>>>,
    partials: Mutex<Option<Vec<Payload>>>,
}

impl<M: MapKernel> TypedPass<M> {
    pub(super) fn new(
        map: Arc<M>,
        sink: Arc<dyn Sink<M::Output>>,
        input: Input,
        sizes: Arc<[u32]>,
    ) -> Self {
        Self {
            map,
            sink,
            input,
            sizes,
            mapping: Progress::default(),
            folding: Progress::default(),
            yields: OnceLock::new(),
            partials: Mutex::default(),
        }
    }

    fn offset(&self) -> u64 {
        self.input.work().map_or(0, |work| work.offset)
    }

    /// Maps packet after packet, until all are done or they had better be shared with other threads.
    fn map(&self) -> Result<Turn<M::Input, M::Output>, ItemFailure> {
        let values = match self.input.work() {
            Some(work) => codec::decode_list::<M::Input>(&work.packet.value, "the packets' items"),
            None => Ok(Vec::new()),
        };
        let values = values.map_err(|(error, _)| ItemFailure::permanent(describe(&error)))?;
        let most = values.len().max(OUTPUTS);
        let mut turn = Turn {
            outputs: Vec::with_capacity(values.len()),
            yields: Yields::new(values.len()),
            values: values.into_iter(),
            position: 0,
            ends: Vec::with_capacity(self.sizes.len()),
            since: Instant::now(),
        };
        let mut context = self.input.context.clone();
        let mut at_once = turn.values.len() >= MANY * self.sizes.len();
        for size in self.sizes.iter() {
            let size = *size as usize;
            at_once = at_once && self.map_at_once(&mut turn, size);
            if !at_once {
                self.map_in_turn(&mut turn, size, &mut context)?;
            }
            turn.ends.push(turn.outputs.len());
            if turn.since.elapsed() > LONG || turn.outputs.len() > most {
                break;
            }
        }
        Ok(turn)
    }

    /// Maps the next packet in bulk, if the function allows that; returns whether it does.
    fn map_at_once(&self, turn: &mut Turn<M::Input, M::Output>, size: usize) -> bool {
        let items = Items {
            values: &mut turn.values,
            left: size,
            progress: &self.mapping,
        };
        if !self.map.map_all(items, &mut turn.outputs) {
            return false;
        }
        turn.position += size;
        turn.yields.add_each(size);
        true
    }

    /// Maps the next packet item by item.
    fn map_in_turn(
        &self,
        turn: &mut Turn<M::Input, M::Output>,
        size: usize,
        context: &mut Context,
    ) -> Result<(), ItemFailure> {
        let offset = self.offset();
        for value in turn.values.by_ref().take(size) {
            let unit = turn.position;
            turn.position += 1;
            self.mapping.set(turn.position);
            context.item = Some(offset.saturating_add(unit as u64));
            let before = turn.outputs.len();
            let mut emitter = Emitter {
                values: &mut turn.outputs,
            };
            let mapped = ready(self.map.map(value, context, &mut emitter));
            mapped.map_err(|error| self.failure(Some(unit), &error))?;
            turn.yields.add(unit, turn.outputs.len() - before);
        }
        Ok(())
    }

    fn reduce(&self, turn: Turn<M::Input, M::Output>) -> Computed {
        let failed = |failure| Err(vec![failure]);
        let Some(sink) = self.sink.group() else {
            return failed(ItemFailure::permanent(
                "nothing reduces a group in one pass",
            ));
        };
        // Slow work is not repeated.
        let whole = turn.ends.len() == self.sizes.len() && turn.since.elapsed() <= LONG;
        self.yields.get_or_init(|| turn.yields.unless_plain());
        let (context, progress) = (&self.input.context, &self.folding);
        match sink.reduce(turn.outputs, &turn.ends, whole, context, progress) {
            Ok(Reduced::Whole(value)) => Ok(Output::plain(value)),
            Ok(Reduced::Each(partials)) => {
                *self.partials.lock().unwrap_or_else(PoisonError::into_inner) = Some(partials);
                failed(ItemFailure::whole("its packets go on one by one"))
            }
            Err(SinkError { error, at_output }) => {
                let unit = at_output.then(|| self.current_unit()).flatten();
                failed(self.failure(unit, &error))
            }
        }
    }

    /// The position among the items of all packets of the one begun last, if known.
    fn current_unit(&self) -> Option<usize> {
        match self.yields.get() {
            None => self.mapping.at(),
            Some(_) if !self.sink.steps() => None,
            Some(yields) => {
                let position = self.folding.at()?;
                let unit = |yields: &Vec<u32>| unit_of(yields, position);
                Some(yields.as_ref().map_or(position, unit))
            }
        }
    }

    fn failure(&self, unit: Option<usize>, error: &BoxError) -> ItemFailure {
        ItemFailure {
            permanent: is_permanent(error),
            ..self.failure_of(unit, describe(error.as_ref()))
        }
    }

    fn failure_of(&self, unit: Option<usize>, error: String) -> ItemFailure {
        ItemFailure {
            item: unit.map(|unit| self.offset().saturating_add(unit as u64)),
            ..ItemFailure::whole(error)
        }
    }
}

impl<M: MapKernel> Job for TypedPass<M> {
    type Output = Computed;

    fn run(&self) -> Computed {
        let work = || match self.map() {
            Ok(turn) => self.reduce(turn),
            Err(failure) => Err(vec![failure]),
        };
        let ended = catch_unwind(AssertUnwindSafe(work));
        ended.unwrap_or_else(|panic| self.failed(panicked(panic.as_ref())))
    }

    fn begun(&self) -> usize {
        let is_folding = usize::from(self.yields.get().is_some());
        self.mapping.begun() + self.folding.begun() + is_folding
    }

    fn failed(&self, error: String) -> Computed {
        Err(vec![self.failure_of(self.current_unit(), error)])
    }
}

impl<M: MapKernel> GroupPass for TypedPass<M> {
    fn partials(&self) -> Option<Vec<Payload>> {
        let mut partials = self.partials.lock().unwrap_or_else(PoisonError::into_inner);
        partials.take()
    }
}
