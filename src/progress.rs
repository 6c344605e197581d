//! How far a run is, stage by stage.

mod counters;
mod listener;

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use crate::scratchpad::RunState;

pub(crate) use counters::{Counted, Counters};
pub(crate) use listener::Listener;

/// How far a run is: what [`Pipeline::on_progress`](crate::Pipeline::on_progress) and
/// [`Run::progress`](crate::Run::progress) report. It displays as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// The time since the run began; of a deployed run, since it was first submitted.
    pub elapsed: Duration,
    /// How far the run is.
    pub state: RunState,
    /// Items in the array; `None` while a stream is still open.
    pub items: Option<u64>,
    /// Items that were left out, by all stages together.
    pub left_out: u64,
    /// The stages in order. A pipeline that begins with a reduction has a stage before it that passes items on, and one
    /// without a reduction ends with one that counts.
    pub stages: Vec<StageProgress>,
}

/// What a [`StageProgress`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unit {
    /// A map stage counts items of the array. One after a reduction has a single item: the value of the reduction.
    Items,
    /// A reduction counts groups: the calls that combine up to `fan_in` partial results each.
    Groups,
}

/// How far a stage of a run is: items if it maps, groups if it reduces. A number is `None` if it is not known.
///
/// In a run inside the process all are known but for the total of an input that has not ended. Of a deployed run, the
/// numbers are those that are on record; [`Run::progress`](crate::Run::progress) says which.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StageProgress {
    /// The stage's name.
    pub name: String,
    /// What is counted.
    pub unit: Unit,
    /// All that will come to the stage. Items that an earlier stage left out are not among them. `None` while the input
    /// has not ended.
    pub total: Option<u64>,
    /// Items that have come to the stage's queue; groups that are complete and can be reduced.
    pub received: Option<u64>,
    /// Items that have gone through the stage, each of which counts when its whole packet has; groups that were reduced.
    /// With those [left out](Self::left_out), it is the total at the end.
    pub done: Option<u64>,
    /// Items that the stage has left out. Always zero for a reduction.
    pub left_out: Option<u64>,
    /// Failed attempts that were not the last one of their item or group: each is or will be followed by another.
    pub retried: Option<u64>,
    /// Items or groups that have failed, and wait for their next attempt now.
    pub waiting: Option<u64>,
}

impl Display for Progress {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        for (index, stage) in self.stages.iter().enumerate() {
            if index > 0 {
                formatter.write_str(" · ")?;
            }
            stage.fmt(formatter)?;
        }
        Ok(())
    }
}

impl Display for StageProgress {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ", self.name)?;
        match self.done {
            Some(done) => Grouped(done).fmt(formatter)?,
            None => formatter.write_str("?")?,
        }
        match (self.total, self.received) {
            (Some(total), _) => write!(formatter, " of {}", Grouped(total))?,
            (None, Some(received)) => write!(formatter, " of at least {}", Grouped(received))?,
            (None, None) => {}
        }
        if self.unit == Unit::Groups {
            formatter.write_str(if self.total == Some(1) {
                " group"
            } else {
                " groups"
            })?;
        }
        let details = [
            (self.retried, "retried"),
            (self.waiting, "waiting"),
            (self.left_out, "left out"),
        ];
        let details = details.iter().filter_map(|(number, what)| {
            let number = number.filter(|number| *number > 0)?;
            Some(format!("{} {what}", Grouped(number)))
        });
        let details: Vec<String> = details.collect();
        match details.is_empty() {
            true => Ok(()),
            false => write!(formatter, " ({})", details.join(", ")),
        }
    }
}

/// A number with commas between its thousands.
struct Grouped(u64);

impl Display for Grouped {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            small @ ..1_000 => write!(formatter, "{small}"),
            large => write!(formatter, "{},{:03}", Self(large / 1_000), large % 1_000),
        }
    }
}
