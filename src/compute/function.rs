//! One function of a map stage with its types erased: a list of its inputs in, a list of its outputs out.

use std::error::Error as StdError;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::list::List;
use super::trail::Trace;
use crate::core::error::{BoxError, is_permanent, permanent};
use crate::core::panic::panicked;
use crate::stage::kernel::{AsyncKernel, MapKernel};
use crate::stage::{Context, Emitter, Execution, Items, Progress};

/// A function of a map stage.
#[derive(Clone)]
pub(super) enum Function {
    /// CPU-bound: works on one value after the other, on a thread for CPU-bound work.
    InTurn(Arc<dyn InTurn>),
    /// Asynchronous: the items of a packet go through it side by side.
    SideBySide(Arc<dyn SideBySide>),
}

impl Function {
    /// The method of the builder that added it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::InTurn(function) => function.name(),
            Self::SideBySide(function) => function.name(),
        }
    }

    pub(super) fn may_fail(&self) -> bool {
        match self {
            Self::InTurn(function) => function.may_fail(),
            Self::SideBySide(_) => true,
        }
    }

    pub(super) fn execution(&self) -> Execution {
        match self {
            Self::InTurn(_) => Execution::Blocking,
            Self::SideBySide(_) => Execution::Async,
        }
    }
}

/// A CPU-bound function.
pub(super) trait InTurn: Send + Sync {
    fn name(&self) -> &'static str;

    /// Whether it may fail other than by a panic.
    fn may_fail(&self) -> bool;

    /// An empty list for its outputs.
    fn outputs(&self, capacity: usize) -> List;

    /// Works on one input after the other and appends to `outputs`. An input that fails has no outputs; if the scope's
    /// work ends with it, the outputs are those of the inputs before it.
    fn apply(&self, inputs: List, outputs: &mut List, scope: &Scope<'_>) -> Applied;
}

/// An asynchronous function.
pub(super) trait SideBySide: Send + Sync {
    fn name(&self) -> &'static str;

    /// An empty list for its outputs.
    fn outputs(&self) -> List;

    /// Works on the values made of one item, one after the other, and appends to `outputs`.
    fn call<'a>(
        &'a self,
        inputs: List,
        outputs: &'a mut List,
        context: &'a Context,
    ) -> BoxFuture<'a, Result<(), BoxError>>;
}

/// What a CPU-bound function has to know about its inputs.
pub(super) struct Scope<'a> {
    pub(super) context: &'a Context,
    pub(super) source: Source<'a>,
    pub(super) ends: Ends,
    pub(super) progress: &'a Progress,
}

/// Which failure ends the work on a packet before its other items have had their turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// None: the items that fail are tried again, or left out.
    Never,
    /// One that repeating cannot cure.
    IfPermanent,
    Always,
}

impl Ends {
    pub(super) fn with(self, permanent: bool) -> bool {
        match self {
            Self::Never => false,
            Self::IfPermanent => permanent,
            Self::Always => true,
        }
    }
}

/// Where the inputs of a function come from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) trace: &'a Trace,
    /// The source item of each value of the packet; absent: one value each.
    pub(super) units: Option<&'a [usize]>,
    /// The index in the array of the packet's first item; absent if the values come from no item of it.
    pub(super) offset: Option<u64>,
}

impl Source<'_> {
    /// The source item, by its place in the packet, of the input at `position`.
    pub(super) fn unit(&self, position: usize) -> usize {
        let value = self.trace.source(position);
        let unit = self.units.and_then(|units| units.get(value));
        unit.copied().unwrap_or(value)
    }

    /// The same for the first `count` inputs in order.
    fn each(&self, count: usize) -> impl Iterator<Item = usize> {
        // Walking back takes as long as there are inputs, so that many are resolved at once.
        let known: Option<Vec<usize>> = match self.trace.is_plain() {
            true => None,
            false => Some(self.trace.sources(count)),
        };
        let (begin, units) = (self.trace.source(0), self.units);
        (0..count).map(move |position| {
            let value = match &known {
                None => begin + position,
                Some(known) => known.get(position).copied().unwrap_or(position),
            };
            let unit = units.and_then(|units| units.get(value));
            unit.copied().unwrap_or(value)
        })
    }
}

/// What a function made of a list.
#[derive(Default)]
pub(super) struct Applied {
    /// How many outputs each input has; absent: one each.
    pub(super) counts: Option<Vec<u32>>,
    pub(super) failed: Vec<Failed>,
}

/// An input that failed.
pub(super) struct Failed {
    /// Its position in the list, if it is known.
    pub(super) position: Option<usize>,
    pub(super) error: Arc<dyn StdError + Send + Sync>,
    pub(super) permanent: bool,
}

impl Failed {
    fn new(position: Option<usize>, error: BoxError) -> Self {
        Self {
            position,
            permanent: is_permanent(&error),
            error: error.into(),
        }
    }
}

impl Applied {
    /// A stage has functions of one kind: the builder ends it where another kind begins.
    pub(super) fn mixed() -> Self {
        let problem =
            "an asynchronous function follows a CPU-bound one in one stage: please report this";
        Self::failed(None, permanent(problem))
    }

    fn failed(position: Option<usize>, error: impl Into<BoxError>) -> Self {
        Self {
            counts: None,
            failed: vec![Failed::new(position, error.into())],
        }
    }
}

/// How many outputs each input has. As long as it is one each, they are only counted.
#[derive(Default)]
struct Tally {
    plain: usize,
    counts: Vec<u32>,
}

impl Tally {
    #[inline]
    fn add(&mut self, outputs: usize) {
        if self.counts.is_empty() && outputs == 1 {
            self.plain += 1;
        } else {
            self.push(outputs);
        }
    }

    fn push(&mut self, outputs: usize) {
        if self.counts.is_empty() {
            self.counts.resize(self.plain, 1);
        }
        self.counts.push(u32::try_from(outputs).unwrap_or(u32::MAX));
    }

    /// This many inputs, which have one output each unless there are `counts`.
    fn of(inputs: usize, counts: Vec<u32>) -> Self {
        Self {
            plain: inputs,
            counts,
        }
    }

    fn counts(self) -> Option<Vec<u32>> {
        (!self.counts.is_empty()).then_some(self.counts)
    }
}

/// How far a function has come with a list.
struct Turn<I> {
    values: std::vec::IntoIter<I>,
    /// How many have been taken of them.
    position: usize,
    /// How many outputs belong to inputs that are done.
    kept: usize,
    tally: Tally,
    failed: Vec<Failed>,
}

impl<I> Turn<I> {
    fn applied(self) -> Applied {
        Applied {
            counts: self.tally.counts(),
            failed: self.failed,
        }
    }
}

impl<K: MapKernel> InTurn for K {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn may_fail(&self) -> bool {
        K::MAY_FAIL
    }

    fn outputs(&self, capacity: usize) -> List {
        List::new(Vec::<K::Output>::with_capacity(capacity))
    }

    fn apply(&self, inputs: List, outputs: &mut List, scope: &Scope<'_>) -> Applied {
        let lists = inputs.take::<K::Input>();
        let (values, outputs) = match (lists, outputs.get_mut::<K::Output>()) {
            (Ok(values), Ok(outputs)) => (values.into_iter(), outputs),
            (Err(error), _) | (_, Err(error)) => return Applied::failed(None, error.permanent()),
        };
        let mut turn = Turn {
            values,
            position: 0,
            kept: outputs.len(),
            tally: Tally::default(),
            failed: Vec::new(),
        };
        if let Some(ended) = self.apply_at_once(&mut turn, outputs, scope.progress)
            && (ended || scope.ends == Ends::Always)
        {
            return turn.applied();
        }
        loop {
            // One guard around many inputs: a panic ends this round of the loop, not the list.
            let ended = guarded(&mut || each(self, &mut turn, outputs, scope));
            let Err(panic) = ended else {
                break;
            };
            outputs.truncate(turn.kept);
            turn.tally.add(0);
            let position = turn.position.checked_sub(1);
            turn.failed.push(Failed::new(position, panic.into()));
            if scope.ends == Ends::Always {
                break;
            }
        }
        turn.applied()
    }
}

trait AtOnce: MapKernel {
    /// Works on all values in one loop, if the function allows that; `None` if it does not. Returns whether it came to
    /// their end: a value at which the function panicked has failed, and those after it are left. Nothing may have been
    /// begun.
    fn apply_at_once(
        &self,
        turn: &mut Turn<Self::Input>,
        outputs: &mut Vec<Self::Output>,
        progress: &Progress,
    ) -> Option<bool> {
        let begin = turn.kept;
        let count = turn.values.len();
        let mut counts = Vec::new();
        let mut is_done = true;
        let ended = guarded(&mut || {
            let items = Items {
                left: turn.values.len(),
                values: &mut turn.values,
                progress,
            };
            is_done = self.map_all(items, outputs, &mut counts);
        });
        let Err(panic) = ended else {
            if is_done {
                turn.tally = Tally::of(count, counts);
            }
            return is_done.then_some(true);
        };
        let position = progress.at();
        let done = position.unwrap_or(0);
        counts.truncate(done);
        let kept = match counts.is_empty() {
            true => done,
            false => counts.iter().map(|count| *count as usize).sum(),
        };
        outputs.truncate(begin + kept);
        turn.kept = begin + kept;
        turn.position = count - turn.values.len();
        turn.tally = Tally::of(done, counts);
        turn.tally.add(0);
        turn.failed.push(Failed::new(position, panic.into()));
        Some(false)
    }
}

impl<K: MapKernel> AtOnce for K {}

/// Goes on with the values that are left.
fn each<K: MapKernel>(
    kernel: &K,
    turn: &mut Turn<K::Input>,
    outputs: &mut Vec<K::Output>,
    scope: &Scope<'_>,
) {
    let mut context = scope.context.clone();
    let count = turn.position + turn.values.len();
    let units = scope.source.each(count).skip(turn.position);
    for (value, unit) in turn.values.by_ref().zip(units) {
        let position = turn.position;
        turn.position += 1;
        scope.progress.set(turn.position);
        let item = scope.source.offset;
        context.item = item.map(|offset| offset.saturating_add(unit as u64));
        let mut emitter = Emitter { values: outputs };
        match kernel.map(value, &context, &mut emitter) {
            Ok(()) => {
                turn.tally.add(outputs.len() - turn.kept);
                turn.kept = outputs.len();
            }
            Err(error) => {
                outputs.truncate(turn.kept);
                turn.tally.add(0);
                let failed = Failed::new(Some(position), error);
                let ends = scope.ends.with(failed.permanent);
                turn.failed.push(failed);
                if ends {
                    return;
                }
            }
        }
    }
}

/// Calls a closure that may panic; an error is the panic's message.
fn guarded(work: &mut dyn FnMut()) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(panicked)
}

impl<K: AsyncKernel> SideBySide for K {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn outputs(&self) -> List {
        List::new(Vec::<K::Output>::new())
    }

    fn call<'a>(
        &'a self,
        inputs: List,
        outputs: &'a mut List,
        context: &'a Context,
    ) -> BoxFuture<'a, Result<(), BoxError>> {
        async move {
            let inputs = inputs
                .take::<K::Input>()
                .map_err(|error| error.permanent())?;
            let outputs = outputs.get_mut::<K::Output>();
            let values = outputs.map_err(|error| error.permanent())?;
            for input in inputs {
                let mut emitter = Emitter { values };
                self.map(input, context, &mut emitter).await?;
            }
            Ok(())
        }
        .boxed()
    }
}
