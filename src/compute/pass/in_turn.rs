//! The items of a packet one after the other, for a CPU-bound function.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::super::blocking::ready;
use super::super::yields::Yields;
use super::{Mapped, Pass, Round, Trouble};
use crate::core::panic::panicked;
use crate::stage::kernel::MapKernel;
use crate::stage::{Emitter, Items};

/// How far a round has come that takes one item after the other.
struct Turn<I, O> {
    values: std::vec::IntoIter<I>,
    /// How many have been taken of them.
    position: usize,
    outputs: Vec<O>,
    yields: Yields,
    failed: Vec<Trouble>,
}

impl<M: MapKernel> Pass<M> {
    /// One item after the other, on this thread.
    pub(super) fn map_in_turn(&self, round: &Round) -> Result<Mapped<M::Output>, Vec<Trouble>> {
        let (values, units) = self.decode()?;
        let mut turn = Turn {
            outputs: Vec::with_capacity(values.len()),
            values: values.into_iter(),
            position: 0,
            yields: Yields::new(units),
            failed: Vec::new(),
        };
        loop {
            // One guard around many items: a panic ends this round of the loop, not the packet.
            let ended = catch_unwind(AssertUnwindSafe(|| self.map_on(round, &mut turn)));
            let Err(panic) = ended else {
                break;
            };
            turn.outputs.truncate(turn.yields.total());
            let trouble = Trouble::new(self.current_unit(), panicked(panic.as_ref()));
            turn.failed.push(trouble);
            if !round.lenient {
                break;
            }
        }
        let Turn {
            outputs,
            yields,
            failed,
            ..
        } = turn;
        self.settle(round, outputs, yields, failed)
    }

    /// Goes on with what is left.
    fn map_on(&self, round: &Round, turn: &mut Turn<M::Input, M::Output>) {
        // One value an item, and all of them: the common case.
        let is_plain = self.yields().is_none() && round.excluded.is_empty();
        if is_plain && !round.lenient && self.map_at_once(turn) {
            return;
        }
        let mut context = self.input.context.clone();
        let of_items = self.input.of_items;
        let offset = self.input.work().map_or(0, |work| work.offset);
        for value in turn.values.by_ref() {
            let position = turn.position;
            let unit = match is_plain {
                true => position,
                false => self.unit(position),
            };
            turn.position += 1;
            self.watch.mapping.set(turn.position);
            if !is_plain && round.excluded.contains(&unit) {
                continue;
            }
            context.item = of_items.then(|| offset.saturating_add(unit as u64));
            let before = turn.outputs.len();
            let mut emitter = Emitter {
                values: &mut turn.outputs,
            };
            match ready(self.map.map(value, &context, &mut emitter)) {
                Ok(()) => turn.yields.add(unit, turn.outputs.len() - before),
                Err(error) => {
                    turn.outputs.truncate(before);
                    turn.failed.push(Trouble::of(Some(unit), &error));
                    if !round.lenient {
                        break;
                    }
                }
            }
        }
    }

    /// Maps all values in bulk, if the function allows that; returns whether it does. Nothing may have been begun.
    fn map_at_once(&self, turn: &mut Turn<M::Input, M::Output>) -> bool {
        let count = turn.values.len();
        let items = Items {
            values: &mut turn.values,
            left: count,
            progress: &self.watch.mapping,
        };
        if !self.map.map_all(items, &mut turn.outputs) {
            return false;
        }
        turn.position += count;
        turn.yields.add_each(count);
        true
    }
}
