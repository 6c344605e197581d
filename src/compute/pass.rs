//! Runs a map stage's functions over one packet, and tries the items that fail again.
//!
//! Each source item of the packet, called a unit here, has attempts of its own. What the units have become stays here while
//! those that failed wait for their next attempt; the packet is done once none is left to try.

mod assemble;
mod in_turn;
mod side_by_side;
mod state;
mod values;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures::FutureExt;

use super::function::Function;
use super::list::{Kept, List};
use super::map::MapStep;
use super::pool::{Ended, Job, timed_out};
use super::sink::At;
use super::step::{
    Computation, Computed, Failures, Input, ItemFailure, Limits, Output, Stopped, ended_processes,
};
use super::trail::Trail;
use super::trouble::Trouble;
use super::watch::{Step, Watch};
use crate::core::clock::now;
use crate::core::error::permanent;
use crate::core::panic::{Contained, panicked};
use crate::core::ready::ready;
use crate::packet::codec::Payload;
use crate::stage::Execution;
use assemble::{Piece, assemble};
use state::{Left, State};

/// The functions' outputs for a packet, before the sink.
struct Mapped {
    outputs: List,
    trail: Trail,
}

/// The result of a packet.
struct Sunk {
    /// Encoded outputs.
    value: Payload,
    /// Outputs by source item, if the next stage has to know.
    yields: Option<Vec<u32>>,
}

/// The work on one packet.
pub(crate) struct Pass {
    stage: Arc<MapStep>,
    input: Input,
    /// The source item of each value, and the number of source items; set once the yields are known to fit, and not plain.
    units: OnceLock<Vec<usize>>,
    /// The values, once an item has failed: it needs its own again.
    kept: OnceLock<Arc<dyn Kept>>,
    state: Mutex<State>,
    /// How far the last round is.
    watch: Mutex<Arc<Watch>>,
}

/// What becomes of a packet whose work was stopped.
pub(crate) enum CutOff {
    /// The items that were at work have another attempt.
    GoesBack,
    Failed(Failures),
}

/// One turn of the units that are to be tried, on a thread for CPU-bound work. A round that is stuck is replaced by
/// another one, and what it makes afterwards is dropped.
struct Round {
    pass: Arc<Pass>,
    number: u64,
    watch: Arc<Watch>,
}

impl Job for Round {
    type Output = Computed;

    fn run(&self) -> Computed {
        self.map_in_turn();
        let computed = self.pass.conclude(self.number).and_then(|mapped| {
            let sunk = ready(self.pass.absorb(mapped, &self.watch));
            self.pass.finish(self.number, sunk)
        });
        // No item is at work from here on.
        self.watch.begin(Step::Reading);
        computed
    }

    fn begun(&self) -> usize {
        self.watch.begun()
    }

    fn failed(&self, error: String) -> Computed {
        Err(self.pass.interrupted(self.number, &self.watch, error))
    }

    /// The same work without the item that does not end.
    fn instead(&self, error: &str) -> Option<Arc<dyn Job<Output = Computed>>> {
        if !matches!(
            self.watch.current(),
            Step::Function { .. } | Step::Value { .. }
        ) {
            return None;
        }
        let trouble = self.pass.current_trouble(&self.watch, error.to_owned());
        trouble.unit?;
        let trouble = self.pass.labelled(trouble);
        let number = self
            .pass
            .state()
            .replace(self.number, trouble, &self.pass)?;
        Some(Arc::new(Self {
            pass: Arc::clone(&self.pass),
            number,
            watch: self.pass.new_watch(),
        }))
    }
}

/// The sink's work as a job, if it is CPU-bound and follows an asynchronous function.
struct Absorb {
    pass: Arc<Pass>,
    watch: Watch,
    mapped: Mutex<Option<Mapped>>,
}

impl Job for Absorb {
    type Output = Result<Sunk, Trouble>;

    fn run(&self) -> Self::Output {
        let mapped = self
            .mapped
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match mapped {
            Some(mapped) => ready(self.pass.absorb(mapped, &self.watch)),
            None => self.failed("its outputs were taken before".into()),
        }
    }

    fn begun(&self) -> usize {
        self.watch.begun()
    }

    fn failed(&self, error: String) -> Self::Output {
        Err(self.pass.current_trouble(&self.watch, error))
    }
}

impl Pass {
    pub(super) fn new(stage: Arc<MapStep>, input: Input) -> Arc<Self> {
        let state = State::new(&input);
        let pass = Self {
            stage,
            input,
            units: OnceLock::new(),
            kept: OnceLock::new(),
            state: Mutex::new(state),
            watch: Mutex::default(),
        };
        let before = pass.input.terms.before.iter();
        for (unit, times) in before.filter_map(|before| Some((before.unit, before.ended?))) {
            let error = permanent(ended_processes(times));
            let trouble = pass.labelled(Trouble::new(Some(unit), error));
            pass.state().fail(trouble, &pass);
        }
        Arc::new(pass)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For CPU-bound functions: the next turn of the units that are to be tried.
    pub(crate) fn round(self: &Arc<Self>) -> Arc<Computation> {
        Arc::new(Round {
            number: self.state().begin_round(),
            pass: Arc::clone(self),
            watch: self.new_watch(),
        })
    }

    fn new_watch(&self) -> Arc<Watch> {
        let watch = Arc::<Watch>::default();
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&watch);
        watch
    }

    /// The work was stopped: the items that were at work have failed an attempt. `None` if that is no item of it, since all
    /// of them are done or nothing has begun. What the work makes after that is dropped.
    pub(crate) fn cut_off(&self, problem: &str) -> Option<CutOff> {
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let at_work = match self.stage.functions().first() {
            Some(Function::SideBySide(_)) => self.state().at_work(),
            _ => {
                let trouble = self.current_trouble(&watch, String::new());
                trouble.unit.into_iter().collect()
            }
        };
        drop(watch);
        if at_work.is_empty() {
            // What has failed and waits keeps its count.
            return (self.open() > 0).then_some(CutOff::GoesBack);
        }
        let troubles = at_work
            .into_iter()
            .map(|unit| self.labelled(Trouble::new(Some(unit), problem.to_owned())));
        let troubles: Vec<Trouble> = troubles.collect();
        let mut state = self.state();
        Some(match state.cut_off(troubles, self) {
            Left::Failed(failures) => CutOff::Failed(failures),
            Left::Nothing | Left::Again => CutOff::GoesBack,
        })
    }

    /// How long the items that are to be tried again have to wait.
    pub(crate) fn wait(&self) -> Duration {
        self.state().wait
    }

    /// How many items are to be tried again.
    pub(crate) fn open(&self) -> usize {
        self.state().open()
    }

    /// Whether more items have failed than a record counts: if the packet went back, some would be tried anew.
    pub(crate) fn outgrows_the_record(&self) -> bool {
        self.state().outgrows_the_record()
    }

    /// How many values the next round works on, beyond those of the first round. All of those had their start together.
    pub(crate) fn next_values(&self) -> u64 {
        self.state().next_values(|position| self.unit(position))
    }

    /// The failed attempts that are not on record.
    pub(crate) fn failures(&self) -> Failures {
        self.state().history.clone()
    }

    /// Takes the failed attempts that will be followed by others and have not been told.
    pub(crate) fn take_untold(&self) -> Failures {
        std::mem::take(&mut self.state().untold)
    }

    /// Takes the failed attempts of items that are to be tried again, to be put on record.
    pub(crate) fn take_open(&self) -> Failures {
        self.state().take_open()
    }

    /// From here on each round tries one item only. Returns the index in the array of the one whose turn it is, and `None`
    /// once all have had theirs.
    pub(crate) fn next_apart(&self) -> Option<Option<u64>> {
        let unit = self.state().next_apart(self.num_units())?;
        Some(self.item(unit))
    }

    /// The outputs of all units, once none is left to try.
    fn conclude(&self, number: u64) -> Result<Mapped, Stopped> {
        let mut state = self.state();
        match state.left(number) {
            Left::Nothing => {}
            Left::Failed(failures) => return Err(Stopped::Failed(failures)),
            Left::Again => return Err(Stopped::Again),
        }
        let pieces = match state.only_piece() {
            Some(Piece { outputs, trail, .. }) => return Ok(Mapped { outputs, trail }),
            None => std::mem::take(&mut state.pieces),
        };
        let is_clean = state.is_clean();
        let is_valid = |position, turn| is_clean || state.is_valid(self.unit(position), turn);
        let mapped = assemble(pieces, state.count, is_valid, self.no_outputs());
        mapped.map_err(|error| Stopped::Failed(vec![ItemFailure::permanent(error.permanent())]))
    }

    fn no_outputs(&self) -> List {
        match self.stage.functions().last() {
            Some(Function::SideBySide(last)) => last.outputs(),
            Some(Function::InTurn(last)) => last.outputs(0),
            None => List::none(),
        }
    }

    /// What becomes of the packet, now that the sink has had its outputs.
    fn finish(&self, number: u64, sunk: Result<Sunk, Trouble>) -> Computed {
        let sunk = sunk.map_err(|trouble| self.labelled(trouble));
        let mut state = self.state();
        if !state.is_current(number) {
            // It was given up, and must not touch what is another round's by now.
            return Err(Stopped::Again);
        }
        match sunk {
            Ok(Sunk { value, yields }) => {
                let (skipped, left_out, units_left_out) = state.left_out();
                Ok(Output {
                    value,
                    yields,
                    skipped,
                    left_out,
                    units_left_out,
                })
            }
            Err(trouble) => {
                state.sink_failed(trouble, self);
                Err(match state.left(number) {
                    Left::Failed(failures) => Stopped::Failed(failures),
                    Left::Nothing | Left::Again => Stopped::Again,
                })
            }
        }
    }

    /// A round has ended by a panic of the engine or by a timeout, and nothing replaces it.
    fn interrupted(&self, number: u64, watch: &Watch, error: String) -> Stopped {
        let trouble = self.labelled(self.current_trouble(watch, error));
        let mut state = self.state();
        match watch.current() {
            Step::Sink(_) => state.sink_failed(trouble, self),
            Step::Reading | Step::Function { .. } | Step::Value { .. } => {
                state.broken_off(trouble, self);
            }
        }
        let left = state.left(number);
        // The thread may still be at work.
        state.begin_round();
        match left {
            Left::Failed(failures) => Stopped::Failed(failures),
            Left::Nothing | Left::Again => Stopped::Again,
        }
    }

    /// Runs the sink on the threads that suit it.
    async fn absorb_apart(
        self: &Arc<Self>,
        limits: &Limits,
        mapped: Mapped,
    ) -> Result<Sunk, Trouble> {
        let timeout = limits.timeout;
        match self.stage.sink.execution() {
            Execution::Blocking => {
                let job: Arc<dyn Job<Output = Result<Sunk, Trouble>>> = Arc::new(Absorb {
                    pass: Arc::clone(self),
                    watch: Watch::default(),
                    mapped: Mutex::new(Some(mapped)),
                });
                let mut running = limits.cpu.finish(limits.stage, Arc::clone(&job), timeout);
                match running.next().await.pop() {
                    Some((_, Ended::Done(sunk))) => sunk,
                    _ => job.failed("the worker ended".into()),
                }
            }
            Execution::Async => {
                let watch = Watch::default();
                let work = tokio::time::timeout(timeout, self.absorb(mapped, &watch)).await;
                work.unwrap_or_else(|_| Err(self.current_trouble(&watch, timed_out(timeout))))
            }
        }
    }

    /// The same trouble with what the item is called.
    fn labelled(&self, trouble: Trouble) -> Trouble {
        let unit = trouble.unit.filter(|_| self.input.of_items);
        let label = unit.and_then(|unit| {
            let value = AssertUnwindSafe(|| {
                let kept = self.kept().ok()?;
                Some(kept.one(self.positions(unit).start))
            });
            let value = catch_unwind(value).ok().flatten()?;
            self.stage
                .label(value, &self.input.context, self.input.form)
        });
        Trouble { label, ..trouble }
    }

    /// A failed attempt, as it is recorded.
    fn named(&self, trouble: Trouble, attempt: u32, is_final: bool) -> ItemFailure {
        ItemFailure {
            item: trouble.unit.and_then(|unit| self.item(unit)),
            error: trouble.error,
            permanent: is_final,
            attempt: Some(attempt),
            at: Some(now()),
            label: trouble.label,
        }
    }

    /// What goes wrong at this moment, with the source item begun last if it is known.
    fn current_trouble(&self, watch: &Watch, error: String) -> Trouble {
        let trouble = |unit| Trouble::new(unit, error);
        let functions = self.stage.functions();
        match watch.current() {
            Step::Reading => trouble(None),
            Step::Function { place, trace } => {
                let position = watch.at();
                let unit = position.map(|position| self.unit(trace.source(position)));
                trouble(unit).in_function(functions, place)
            }
            Step::Value { place, position } => {
                trouble(Some(self.unit(position))).in_function(functions, place)
            }
            Step::Sink(trail) => {
                let position = watch.at().filter(|_| self.stage.sink.steps());
                let unit = position.map(|position| self.unit(trail.source(position)));
                trouble(unit)
            }
        }
    }

    /// Hands the outputs to the sink.
    async fn absorb(&self, mapped: Mapped, watch: &Watch) -> Result<Sunk, Trouble> {
        let Mapped { outputs, trail } = mapped;
        let sink = &self.stage.sink;
        let yields = match sink.wants_yields() {
            true => self.yields_of(&trail),
            false => None,
        };
        let progress = watch.begin(Step::Sink(trail.clone()));
        let (context, form) = (&self.input.context, self.input.form);
        let work = Contained::new(sink.take(outputs, context, form, progress));
        match AssertUnwindSafe(work).catch_unwind().await {
            Ok(Ok(value)) => Ok(Sunk { value, yields }),
            Ok(Err(error)) => {
                let position = match error.at {
                    At::Whole | At::Value => None,
                    At::Last => watch.at(),
                    At::Output(position) => Some(position),
                };
                let unit = position.map(|position| self.unit(trail.source(position)));
                let only = self.only_unit().filter(|_| error.at != At::Value);
                Err(Trouble::new(unit.or(only), error.error))
            }
            Err(panic) => Err(self.current_trouble(watch, panicked(panic))),
        }
    }
}
