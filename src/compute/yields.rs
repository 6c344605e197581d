//! How many outputs each item of a packet has.

/// How many outputs each source item has. As long as it is one for each in turn, they are only counted.
pub(super) struct Yields {
    units: usize,
    /// The first so many items have one output each, and there is nothing in `counts`.
    plain: usize,
    counts: Vec<u32>,
}

impl Yields {
    pub(super) fn new(units: usize) -> Self {
        Self {
            units,
            plain: 0,
            counts: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn add(&mut self, unit: usize, outputs: usize) {
        if self.counts.is_empty() && outputs == 1 && unit == self.plain {
            self.plain += 1;
        } else {
            self.count(unit, outputs);
        }
    }

    /// So many more items have one output each. There were no others.
    pub(super) fn add_each(&mut self, items: usize) {
        self.plain += items;
    }

    #[cold]
    fn count(&mut self, unit: usize, outputs: usize) {
        if let Some(count) = self.counts().get_mut(unit) {
            *count += u32::try_from(outputs).unwrap_or(u32::MAX);
        }
    }

    pub(super) fn counts(&mut self) -> &mut Vec<u32> {
        if self.counts.is_empty() {
            self.counts.resize(self.plain, 1);
            self.counts.resize(self.units.max(self.plain), 0);
        }
        &mut self.counts
    }

    pub(super) fn total(&self) -> usize {
        match self.counts.is_empty() {
            true => self.plain,
            false => self.counts.iter().map(|count| *count as usize).sum(),
        }
    }

    pub(super) fn unless_plain(mut self) -> Option<Vec<u32>> {
        if self.counts.is_empty() && self.plain == self.units {
            return None;
        }
        self.counts();
        (!self.counts.iter().all(|count| *count == 1)).then_some(self.counts)
    }
}
