//! The packets of a full group in one pass: maps the items of all of them, folds each packet by itself, and combines the
//! partial results. The result has the same bits as that of one pass per packet and a reduction.
//!
//! This is the one shortcut beside the ordinary [pass](super::pass). A pass per packet needs two lists, a job, the boxed
//! future of its fold and an encoded partial result, each an allocation: five for a packet of one item. Here a whole group
//! needs them once, and `tests/memory.rs` holds the engine to less than two allocations per packet of one item.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::function::Ends;
use super::line::{LONGEST, Line, Made, Terms};
use super::list::List;
use super::map::Row;
use super::pool::Job;
use super::sink::{At, Fold, SinkError};
use super::step::{Computed, Input, ItemFailure, Output};
use super::trouble::Trouble;
use super::watch::{Step, Watch};
use crate::core::panic::panicked;
use crate::core::ready::ready;
use crate::packet::codec::{self, Form, Payload};
use crate::stage::kernel::CombineKernel;
use crate::stage::{Context, Progress};

/// Stop processing the group as one after this long, so that other threads can share its packets.
const LONG: Duration = Duration::from_millis(1);
/// Most outputs of a group that is processed as one, if it has fewer items.
const OUTPUTS: usize = 16 * 1024;
/// While only folding, check the clock once per this many packets: reading it may take longer than a fold.
const FOLDS_PER_CHECK: usize = 4;
/// Packets go through the functions together, and the clock is looked at in between. As long as the work has taken less
/// than `QUICK`, there are more packets each time by the factor `GROWTH`.
const QUICK: Duration = Duration::from_micros(100);
const GROWTH: usize = 4;

/// What a reduction made of a group's outputs.
pub(crate) enum Reduced {
    /// The group's value.
    Whole(Payload),
    /// Partial results of the first packets.
    Each(Vec<Payload>),
}

/// A reduction of a whole group's outputs.
pub(crate) trait GroupSink: Send + Sync {
    /// Folds each packet's outputs, which end at `ends`, and combines the partial results if `whole` is set, unless that
    /// turns out to be slow or fails.
    fn reduce(
        &self,
        outputs: List,
        ends: &[usize],
        whole: bool,
        context: &Context,
        progress: &Progress,
    ) -> Result<Reduced, SinkError>;
}

impl<C: CombineKernel> GroupSink for Fold<C> {
    fn reduce(
        &self,
        outputs: List,
        ends: &[usize],
        whole: bool,
        context: &Context,
        progress: &Progress,
    ) -> Result<Reduced, SinkError> {
        let what = "a partial result";
        let outputs = outputs.take::<C::Input>();
        let outputs = outputs.map_err(|error| SinkError::whole(error.permanent()))?;
        let partials = fold_each(self, outputs, ends, whole, context, progress)?;
        if !whole || partials.len() < ends.len() {
            let encode = |partial| codec::encode(partial, Form::Local, what);
            let each: crate::core::error::Result<_> = partials.into_iter().map(encode).collect();
            return each.map(Reduced::Each).map_err(SinkError::whole);
        }
        // A reduction that fails does so at its own stage.
        let combine = AssertUnwindSafe(|| ready(self.combine.combine(partials, context)));
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
        partials.push(partial.map_err(|error| sink.failed(error))?);
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

/// The work on a group's packets. Its job's output is the value that the reduction would make of the group.
pub(crate) struct GroupPass {
    row: Arc<Row>,
    input: Input,
    /// Number of items of each packet.
    sizes: Arc<[u32]>,
    watch: Watch,
    /// Set if a function of a later stage has failed.
    failed_later: AtomicBool,
    partials: Mutex<Option<Vec<Payload>>>,
}

/// What has been made of the first packets.
struct Mapped {
    made: Made,
    /// The end of each packet's outputs.
    ends: Vec<usize>,
    since: Instant,
}

impl GroupPass {
    pub(super) fn new(row: Arc<Row>, input: Input, sizes: Arc<[u32]>) -> Self {
        Self {
            row,
            input,
            sizes,
            watch: Watch::default(),
            failed_later: AtomicBool::new(false),
            partials: Mutex::default(),
        }
    }

    /// If the job ended without a value though nothing failed (a function or the reduction is slow, or the partial
    /// results could not be combined): partial results of the first packets, in order. Can be taken once.
    pub(crate) fn partials(&self) -> Option<Vec<Payload>> {
        let mut partials = self.partials.lock().unwrap_or_else(PoisonError::into_inner);
        partials.take()
    }

    /// Whether a function of a later stage has failed. It will again when the packets come to that stage one by one, which
    /// counts the attempt and names itself.
    pub(crate) fn has_failed_later(&self) -> bool {
        self.failed_later.load(Ordering::Relaxed)
    }

    fn note_place(&self, place: Option<usize>) {
        if place >= Some(self.row.own().len()) {
            self.failed_later.store(true, Ordering::Relaxed);
        }
    }

    fn offset(&self) -> u64 {
        self.input.work().map_or(0, |work| work.offset)
    }

    /// Maps packet after packet, until all are done or they had better be shared with other threads.
    fn map(&self) -> Result<Mapped, ItemFailure> {
        let values = match self.input.work() {
            Some(work) => self.row.decode(&work.packet.value),
            None => Ok(List::none().supply()),
        };
        let mut values = values.map_err(|(error, _)| ItemFailure::permanent(error))?;
        let most = values.len().max(OUTPUTS);
        let contexts = self.row.contexts(&self.input.context);
        let line = Line {
            functions: self.row.functions(),
            own: self.row.own().len(),
            watch: &self.watch,
            terms: Terms {
                contexts: &contexts,
                units: None,
                offset: Some(self.offset()),
                ends: Ends::Always,
            },
        };
        let mut mapped = Mapped {
            made: line.nothing(values.len()),
            ends: Vec::with_capacity(self.sizes.len()),
            since: Instant::now(),
        };
        let (mut position, mut count) = (0, 1);
        while let Some(sizes) = next(&self.sizes, mapped.ends.len(), count) {
            let items = sizes.iter().map(|size| *size as usize).sum();
            // A clone that panics belongs to no function.
            self.watch.begin(Step::Reading);
            if !line.apply(values.next(items), position, &mut mapped.made) {
                self.note_place(mapped.made.failed_at);
                return Err(self.failure(mapped.made.failed.pop()));
            }
            mapped.made.trail.ends_of_last(sizes, &mut mapped.ends);
            position += items;
            let took = mapped.since.elapsed();
            if took > LONG || mapped.made.outputs.len() > most {
                break;
            }
            if took < QUICK {
                count *= GROWTH;
            }
        }
        Ok(mapped)
    }

    fn reduce(&self, mapped: Mapped) -> Computed {
        let failed = |failure| Err(vec![failure].into());
        let Some(sink) = self.row.sink.group() else {
            return failed(ItemFailure::permanent(
                "nothing reduces a group in one pass",
            ));
        };
        let Mapped { made, ends, since } = mapped;
        // Slow work is not repeated.
        let whole = ends.len() == self.sizes.len() && since.elapsed() <= LONG;
        let trail = made.trail;
        let progress = self.watch.begin(Step::Sink(trail.clone()));
        let context = &self.input.context;
        match sink.reduce(made.outputs, &ends, whole, context, progress) {
            Ok(Reduced::Whole(value)) => Ok(Output::plain(value)),
            Ok(Reduced::Each(partials)) => {
                *self.partials.lock().unwrap_or_else(PoisonError::into_inner) = Some(partials);
                failed(ItemFailure::whole("its packets go on one by one"))
            }
            Err(SinkError { error, at }) => {
                let position = match at {
                    At::Whole | At::Value => None,
                    At::Last => self.watch.at(),
                    At::Output(position) => Some(position),
                };
                let unit = position.map(|position| trail.source(position));
                failed(self.failure(Some(Trouble::new(unit, error))))
            }
        }
    }

    /// What goes wrong at this moment, with the item begun last if it is known.
    fn current_trouble(&self, error: String) -> Trouble {
        let trouble = |unit| Trouble::new(unit, error);
        let functions = self.row.own();
        let step = self.watch.current();
        self.note_place(step.place());
        match step {
            Step::Reading => trouble(None),
            Step::Function { place, trace } => {
                let unit = self.watch.at().map(|position| trace.source(position));
                trouble(unit).in_function(functions, place)
            }
            Step::Value { place, position } => {
                trouble(Some(position)).in_function(functions, place)
            }
            Step::Sink(trail) => {
                let position = self.watch.at().filter(|_| self.row.sink.steps());
                trouble(position.map(|position| trail.source(position)))
            }
        }
    }

    /// The failure with the item's index in the array. There is always trouble where a function did not go on.
    fn failure(&self, trouble: Option<Trouble>) -> ItemFailure {
        let Some(trouble) = trouble else {
            return ItemFailure::whole("it failed without an error: please report this");
        };
        let item = |unit| self.offset().saturating_add(unit as u64);
        ItemFailure {
            item: trouble.unit.map(item),
            error: trouble.error,
            permanent: trouble.permanent,
            attempt: None,
            at: None,
            label: None,
        }
    }
}

/// The sizes of the next packets: `count` of them, or what is left, but one packet or at most [`LONGEST`] items. `None` if
/// none are left.
fn next(sizes: &[u32], done: usize, count: usize) -> Option<&[u32]> {
    let left = sizes.get(done..)?;
    let mut items = 0;
    let fit = left.iter().take_while(|size| {
        items += **size as usize;
        items <= LONGEST
    });
    let fit = fit.count().clamp(1, count);
    let next = left.get(..fit).unwrap_or(left);
    (!next.is_empty()).then_some(next)
}

impl Job for GroupPass {
    type Output = Computed;

    fn run(&self) -> Computed {
        let work = || match self.map() {
            Ok(mapped) => self.reduce(mapped),
            Err(failure) => Err(vec![failure].into()),
        };
        let ended = catch_unwind(AssertUnwindSafe(work));
        ended.unwrap_or_else(|panic| self.failed(panicked(panic)))
    }

    fn begun(&self) -> usize {
        self.watch.begun()
    }

    fn failed(&self, error: String) -> Computed {
        Err(vec![self.failure(Some(self.current_trouble(error)))].into())
    }
}
