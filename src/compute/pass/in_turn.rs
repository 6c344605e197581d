//! The items of a packet one after the other, for CPU-bound functions.

use std::sync::Arc;

use super::super::function::Ends;
use super::super::line::{Line, Made, Terms};
use super::super::list::Supply;
use super::super::trouble::Trouble;
use super::super::watch::Step;
use super::assemble::Piece;
use super::state::Part;
use super::{Pass, Round};
use crate::stage::Context;

impl Round {
    /// One item after the other, on this thread: each whose turn it is.
    pub(super) fn map_in_turn(&self) {
        self.watch.begin(Step::Reading);
        if let Err(trouble) = self.map_parts() {
            let mut state = self.pass.state();
            if state.is_current(self.number) {
                state.fail(trouble, &self.pass);
            }
        }
    }

    fn map_parts(&self) -> Result<(), Trouble> {
        let pass = &self.pass;
        let is_first = pass.state().is_first();
        let mut first = match is_first {
            true => pass.decode()?,
            false => None,
        };
        if first.is_none() {
            pass.kept()?;
        }
        let parts = pass.state().parts(|position| pass.unit(position));
        let mut at = 0;
        for part in parts {
            let goes_on = match &mut first {
                Some(values) => {
                    for _ in at..part.begin {
                        values.skip();
                    }
                    at = part.begin + part.values;
                    self.map_part(part, values.as_mut())
                }
                None => {
                    let mut values = pass.kept()?.from(part.begin);
                    self.map_part(part, values.as_mut())
                }
            };
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    fn map_part(&self, part: Part, values: &mut dyn Supply) -> bool {
        let pass = &self.pass;
        let functions = pass.stage.functions();
        let line = Line {
            functions,
            own: functions.len(),
            watch: &self.watch,
            terms: Terms {
                contexts: &[(0, pass.context(part.attempt))],
                units: pass.units.get().map(Vec::as_slice),
                offset: pass.item(0),
                ends: pass.ends(part.attempt),
            },
        };
        line.run(values, part.begin, part.values, |begin, values, made| {
            let Made {
                outputs,
                trail,
                failed,
                ..
            } = made;
            let piece = Piece {
                begin,
                values,
                outputs,
                trail,
                turn: 0,
            };
            let failed = failed.into_iter().map(|trouble| pass.labelled(trouble));
            let failed = failed.collect();
            pass.state().keep(self.number, piece, failed, pass)
        })
    }
}

impl Pass {
    /// What functions are told about an attempt.
    pub(super) fn context(&self, attempt: u32) -> Context {
        let context = &self.input.context;
        match context.attempt() == attempt {
            true => context.clone(),
            false => Context::new(context.run().clone(), Arc::from(context.stage()), attempt),
        }
    }

    fn ends(&self, attempt: u32) -> Ends {
        let terms = &self.input.terms;
        match terms.leaves_out {
            true => Ends::Never,
            false if attempt >= terms.attempts => Ends::Always,
            false => Ends::IfPermanent,
        }
    }
}
