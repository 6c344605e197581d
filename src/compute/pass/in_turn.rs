//! The items of a packet one after the other, for CPU-bound functions.

use super::super::line::{Line, Made, Terms};
use super::{Mapped, Pass, Round, Trouble};

impl Pass {
    /// One item after the other, on this thread.
    pub(super) fn map_in_turn(&self, round: &Round) -> Result<Mapped, Vec<Trouble>> {
        let values = self.decode()?;
        let count = values.len();
        let line = Line {
            functions: self.stage.functions(),
            own: self.stage.functions().len(),
            watch: &self.watch,
            terms: Terms {
                contexts: &[(0, self.input.context.clone())],
                units: self.units.get().map(Vec::as_slice),
                offset: self.item(0),
                excluded: &round.excluded,
                lenient: round.lenient,
            },
        };
        let Made {
            outputs,
            trail,
            failed,
            ..
        } = line.run(values);
        let made = Mapped {
            outputs,
            trail,
            failed,
        };
        self.settle(round, count, made)
    }
}
