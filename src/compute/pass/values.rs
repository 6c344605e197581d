//! A packet's values, and the source items that they come from.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::super::list::{Kept, Supply};
use super::super::map::KeptValues;
use super::super::trail::Trail;
use super::super::trouble::Trouble;
use super::Pass;
use crate::core::error::permanent;
use crate::core::panic::panicked;
use crate::packet::codec::Payload;
use crate::packet::each::Unread;

impl Pass {
    /// The source item that a value of the packet came from.
    pub(super) fn unit(&self, position: usize) -> usize {
        let units = self.units.get();
        let unit = units.and_then(|units| units.get(position));
        unit.copied().unwrap_or(position)
    }

    /// The positions of a source item's values.
    pub(super) fn positions(&self, unit: usize) -> Range<usize> {
        match self.units.get() {
            None => unit..unit + 1,
            Some(units) => {
                let begin = units.partition_point(|other| *other < unit);
                let end = units.partition_point(|other| *other <= unit);
                begin..end
            }
        }
    }

    /// The number of source items, as the message declares it.
    pub(super) fn num_units(&self) -> usize {
        let Some(work) = self.input.work() else {
            return 0;
        };
        match &work.yields {
            Some(yields) => yields.len(),
            None if !self.input.of_items => 1,
            None => {
                let units = work.packet.contains.saturating_add(work.packet.skipped);
                usize::try_from(units).unwrap_or(usize::MAX)
            }
        }
    }

    /// The packet's source item, if it has one only.
    pub(super) fn only_unit(&self) -> Option<usize> {
        (self.num_units() == 1).then_some(0)
    }

    /// The index in the array of a source item of this packet.
    pub(super) fn item(&self, unit: usize) -> Option<u64> {
        let offset = self.input.work().map_or(0, |work| work.offset);
        let item = offset.saturating_add(unit as u64);
        self.input.of_items.then_some(item)
    }

    pub(super) fn yields(&self) -> Option<&Vec<u32>> {
        self.input.work()?.yields.as_ref()
    }

    /// The packet's values, for the first time; `None` if not all of them can be read.
    pub(super) fn decode(&self) -> Result<Option<Box<dyn Supply>>, Trouble> {
        let Some(work) = self.input.work() else {
            return Ok(None);
        };
        let values = AssertUnwindSafe(|| self.stage.decode(&work.packet.value));
        match catch_unwind(values) {
            Ok(Ok(values)) => {
                self.count(values.len())?;
                Ok(Some(values))
            }
            Ok(Err(_)) => Ok(None),
            Err(panic) => Err(Trouble::new(None, panicked(panic))),
        }
    }

    /// Notes how many values there are, and which items they come from.
    pub(super) fn count(&self, values: usize) -> Result<(), Trouble> {
        self.state().count = values;
        let Some(yields) = self.yields() else {
            return self.check_count(values);
        };
        let sum: u64 = yields.iter().map(|count| u64::from(*count)).sum();
        if sum != values as u64 {
            let error =
                format!("packetYields adds up to {sum} values, but packetValue has {values}");
            return Err(Trouble::new(None, permanent(error)));
        }
        self.units.get_or_init(|| {
            let counted = yields.iter().enumerate();
            counted
                .flat_map(|(unit, count)| std::iter::repeat_n(unit, *count as usize))
                .collect()
        });
        Ok(())
    }

    /// Holds the number of values against what the message declares, if that is one value per item.
    fn check_count(&self, values: usize) -> Result<(), Trouble> {
        let contains = self.input.work().map(|work| work.packet.contains);
        match contains.filter(|_| self.input.of_items) {
            Some(contains) if contains != values as u64 => {
                let error =
                    format!("packetContains is {contains}, but packetValue has {values} values");
                Err(Trouble::new(None, permanent(error)))
            }
            _ => Ok(()),
        }
    }

    /// The values once more, for items that are tried again. Those that cannot be read have failed for good.
    pub(super) fn kept(&self) -> Result<&Arc<dyn Kept>, Trouble> {
        if let Some(kept) = self.kept.get() {
            return Ok(kept);
        }
        let null = Payload::null();
        let value = self.input.work().map_or(&null, |work| &work.packet.value);
        let read = catch_unwind(AssertUnwindSafe(|| self.stage.keep(value)));
        let KeptValues {
            values,
            count,
            unread,
        } = match read {
            Ok(Ok(kept)) => kept,
            Ok(Err(error)) => {
                return Err(Trouble::new(self.only_unit(), permanent(error)));
            }
            Err(panic) => return Err(Trouble::new(None, panicked(panic))),
        };
        if self.state().count == 0 {
            self.count(count)?;
        }
        for (position, Unread { error, json }) in unread {
            let mut trouble = Trouble::new(Some(self.unit(position)), permanent(error));
            trouble.label = self.stage.label_of_unread(&json);
            self.state().fail(trouble, self);
        }
        Ok(self.kept.get_or_init(|| values))
    }

    /// The number of outputs of each source item; `None` if one each.
    pub(super) fn yields_of(&self, trail: &Trail) -> Option<Vec<u32>> {
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
}
