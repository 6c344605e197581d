//! The CPU-bound functions of one stage, applied list by list.
//!
//! A list goes through one function as a whole and then through the next, so that each is a tight loop. What can be seen
//! from outside is as if each value went through all functions before the next value began: if one failure ends the work,
//! it is that of the first value; and if functions are slow, each value goes through all of them by itself, under one timeout.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::function::{Applied, Ends, Failed, Function, Scope, Source};
use super::list::{List, Supply};
use super::trail::{Trace, Trail};
use super::trouble::{InFunction, Trouble};
use super::watch::{Step, Watch};
use crate::core::panic::panicked;
use crate::stage::Context;

/// After a list that took longer than this, values go through the functions by themselves.
const SLOW: Duration = Duration::from_millis(1);
/// After a list that took less than this, the next list is longer by the factor `GROWTH`.
const QUICK: Duration = Duration::from_micros(250);
const GROWTH: usize = 8;
/// Up to this length, so that what passes from one function to the next stays in the processor's cache.
pub(super) const LONGEST: usize = 4 * 1024;

/// The functions of a stage at work on one packet.
pub(super) struct Line<'a> {
    pub(super) functions: &'a [Function],
    /// How many of the functions are the stage's own. The others are those of later stages, whose queues are passed by.
    pub(super) own: usize,
    pub(super) watch: &'a Watch,
    pub(super) terms: Terms<'a>,
}

/// What is the same for all values of a packet.
pub(super) struct Terms<'a> {
    /// Each with the place of the first function that it is for, in order.
    pub(super) contexts: &'a [(usize, Context)],
    /// See [`Source`].
    pub(super) units: Option<&'a [usize]>,
    pub(super) offset: Option<u64>,
    pub(super) ends: Ends,
}

/// What the functions have made of the values so far.
pub(super) struct Made {
    pub(super) outputs: List,
    pub(super) trail: Trail,
    pub(super) failed: Vec<Trouble>,
    /// The place of the function that failed last.
    pub(super) failed_at: Option<usize>,
}

impl Line<'_> {
    /// Nothing yet; there may be about `capacity` outputs.
    pub(super) fn nothing(&self, capacity: usize) -> Made {
        let outputs = match self.functions.last() {
            Some(Function::InTurn(last)) => last.outputs(capacity),
            Some(Function::SideBySide(_)) | None => List::new(Vec::<()>::new()),
        };
        Made {
            outputs,
            trail: Trail::Parts(Vec::new()),
            failed: Vec::new(),
            failed_at: None,
        }
    }

    /// Works on the next `count` values, the first of which is at position `begin`. Each part that is done is given to
    /// `keep`, which says whether the work goes on. Returns whether it went to its end.
    pub(super) fn run(
        &self,
        values: &mut dyn Supply,
        begin: usize,
        count: usize,
        mut keep: impl FnMut(usize, usize, Made) -> bool,
    ) -> bool {
        let mut size = 1;
        let mut position = begin;
        let end = begin.saturating_add(count);
        while position < end {
            let since = Instant::now();
            self.watch.begin(Step::Reading);
            let length = size.min(end - position);
            let mut made = self.nothing(length);
            // A clone may panic.
            let next = catch_unwind(AssertUnwindSafe(|| values.next(length)));
            let (taken, goes_on) = match next {
                Ok(list) => (list.len(), self.apply(list, position, &mut made)),
                Err(_) if length > 1 => {
                    // One of these: which one is seen if each comes by itself.
                    size = 1;
                    continue;
                }
                Err(panic) => {
                    values.skip();
                    (1, self.unread(position, panicked(panic), &mut made))
                }
            };
            if taken == 0 {
                break;
            }
            if !keep(position, taken, made) || !goes_on {
                return false;
            }
            position += taken;
            let took = since.elapsed();
            if took > SLOW {
                size = 1;
            } else if took < QUICK {
                size = size.saturating_mul(GROWTH).min(LONGEST);
            }
        }
        true
    }

    /// The value at `position` could not be read. Returns whether the work may go on.
    fn unread(&self, position: usize, error: String, made: &mut Made) -> bool {
        let mut trace = Trace::at(position);
        let source = Source {
            trace: &trace,
            units: self.terms.units,
            offset: self.terms.offset,
        };
        let unit = source.unit(0);
        made.failed.push(Trouble::new(Some(unit), error));
        trace.add(Some(vec![0]));
        made.trail.add(trace, 1, made.outputs.len());
        !self.terms.ends.with(false)
    }

    /// Works on the packet's next values, the first of which is at position `begin`. Returns whether the work may go on.
    pub(super) fn apply(&self, values: List, begin: usize, made: &mut Made) -> bool {
        let count = values.len();
        let is_alone = count == 1 && self.functions.len() > 1;
        let mut trace = Trace::at(begin);
        let mut inputs = values;
        let mut functions = self.functions.iter().enumerate().peekable();
        while let Some((place, function)) = functions.next() {
            let step = match is_alone {
                true => Step::Value {
                    place,
                    position: begin,
                },
                false => Step::Function {
                    place,
                    trace: trace.clone(),
                },
            };
            let source = Source {
                trace: &trace,
                units: self.terms.units,
                offset: self.terms.offset,
            };
            let mut contexts = self.terms.contexts.iter().rev();
            let Some((_, context)) = contexts.find(|(first, _)| *first <= place) else {
                continue;
            };
            let scope = Scope {
                context,
                source,
                ends: self.terms.ends,
                progress: self.watch.begin(step),
            };
            let applied = match function {
                Function::SideBySide(_) => Applied::mixed(),
                Function::InTurn(function) if functions.peek().is_none() => {
                    let inputs = std::mem::replace(&mut inputs, List::none());
                    function.apply(inputs, &mut made.outputs, &scope)
                }
                Function::InTurn(function) => {
                    let mut outputs = function.outputs(inputs.len());
                    let applied = function.apply(inputs, &mut outputs, &scope);
                    inputs = outputs;
                    applied
                }
            };
            if !applied.failed.is_empty() {
                if self.terms.ends == Ends::Always {
                    // This one comes before the value that failed in an earlier function.
                    made.failed.clear();
                }
                made.failed_at = Some(place);
                let failed = applied.failed.into_iter();
                made.failed
                    .extend(failed.map(|failed| self.trouble(place, failed, source)));
            }
            trace.add(applied.counts);
        }
        made.trail.add(trace, count, made.outputs.len());
        let ends = |failed: &Trouble| self.terms.ends.with(failed.permanent);
        !made.failed.iter().any(ends)
    }

    fn trouble(&self, place: usize, failed: Failed, source: Source<'_>) -> Trouble {
        Trouble {
            unit: failed.position.map(|position| source.unit(position)),
            error: failed.error,
            permanent: failed.permanent,
            label: None,
        }
        .in_function(self.functions.get(..self.own).unwrap_or_default(), place)
    }
}

impl Trouble {
    /// Names the function in the error, if the stage has several.
    pub(super) fn in_function(self, functions: &[Function], place: usize) -> Self {
        let Some(function) = functions.get(place).filter(|_| functions.len() > 1) else {
            return self;
        };
        Self {
            error: Arc::new(InFunction {
                number: place + 1,
                count: functions.len(),
                name: function.name(),
                source: self.error,
            }),
            ..self
        }
    }
}
