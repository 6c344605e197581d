//! Whose turn it is.

use super::State;

/// Neighbouring values whose turn it is, with the number of the attempt that it is for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Part {
    pub(in super::super) begin: usize,
    pub(in super::super) values: usize,
    pub(in super::super) attempt: u32,
}

impl State {
    /// Whether it is a unit's turn.
    pub(super) fn is_due(&self, unit: usize) -> bool {
        if self.apart.is_some_and(|apart| apart != unit) {
            return false;
        }
        match self.tried.get(&unit) {
            None => !self.only_failed,
            Some(tried) => {
                !tried.is_final && tried.done_in.is_none() && tried.failed_in != Some(self.turn)
            }
        }
    }

    /// The values whose turn it is.
    pub(in super::super) fn parts(&self, unit: impl Fn(usize) -> usize) -> Vec<Part> {
        if self.tried.is_empty() && self.apart.is_none() && !self.only_failed {
            let part = Part {
                begin: self.frontier,
                values: self.count - self.frontier,
                attempt: 1,
            };
            return vec![part];
        }
        let mut parts: Vec<Part> = Vec::new();
        for position in self.frontier..self.count {
            let unit = unit(position);
            if !self.is_due(unit) {
                continue;
            }
            let attempt = self.attempt_of(unit);
            match parts.last_mut() {
                Some(last) if last.begin + last.values == position && last.attempt == attempt => {
                    last.values += 1;
                }
                _ => parts.push(Part {
                    begin: position,
                    values: 1,
                    attempt,
                }),
            }
        }
        parts
    }

    /// How many values' turn it is, after the first turn.
    pub(in super::super) fn next_values(&self, unit: impl Fn(usize) -> usize) -> u64 {
        if self.turn == 0 {
            return 0;
        }
        let parts = self.parts(unit).into_iter();
        parts.map(|part| part.values as u64).sum()
    }

    /// The units whose turn it is, in order.
    pub(in super::super) fn due(&self, units: usize) -> Vec<usize> {
        (0..units).filter(|unit| self.is_due(*unit)).collect()
    }
}
