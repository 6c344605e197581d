//! What is known of each stage from what is on record.

use std::time::Duration;

use super::Arrived;
use crate::core::error::Result;
use crate::core::tree::Tree;
use crate::deployment::run::status::items_of;
use crate::pipeline::definition::StageDefinition;
use crate::progress::{Progress, StageProgress, Unit};
use crate::protocol::site::Site;
use crate::scratchpad::{RunSnapshot, RunState};
use crate::stage::OnFailure;

/// A run as a whole, as it is on record.
struct Whole {
    is_done: bool,
    items: Option<u64>,
    /// Items that are on the first stage's queue, or were.
    submitted: u64,
    left_out: u64,
    /// Items that have arrived at the first reduction, without those that were left out; `None` of a cancelled run, whose
    /// tree is gone.
    mapped: Option<u64>,
    /// Groups of the first reduction, once their number is known.
    groups: Option<u64>,
    /// Those that are complete, and those that were reduced.
    reduction: Option<(u64, u64)>,
    /// For each later reduction, whether its only leaf has arrived.
    later: Vec<bool>,
}

/// The progress of a run. `arrived` is `None` if it is over.
pub(super) fn progress(
    site: &Site,
    snapshot: &RunSnapshot,
    arrived: Option<Arrived>,
    elapsed: Duration,
) -> Result<Progress> {
    let whole = Whole::new(site, snapshot, arrived)?;
    Ok(Progress {
        elapsed,
        state: snapshot.state(),
        items: whole.items,
        left_out: whole.left_out,
        stages: whole.stages(site.definition.stages()),
    })
}

impl Whole {
    fn new(site: &Site, snapshot: &RunSnapshot, arrived: Option<Arrived>) -> Result<Self> {
        let record = &snapshot.record;
        let (mut items, mut left_out) = (record.array_length, snapshot.skipped);
        let groups = record.packets;
        let groups = groups.map(|packets| Tree::new(packets, record.fan_in).groups());
        let is_done = snapshot.state() == RunState::Done;
        let (mut mapped, mut reduction, mut later) = (None, None, Vec::new());
        if let Some(result) = &snapshot.result {
            // What was left out of the result, and not only on the way to it.
            let packet = site.carrier.read_result(&record.key(), result)?;
            left_out = packet.skipped;
            items = items.or(Some(packet.contains + packet.skipped));
            mapped = Some(packet.contains);
            reduction = groups.zip(groups);
        }
        if let Some(arrived) = arrived {
            let items = items_of(record, arrived.leaves);
            mapped = Some(items.saturating_sub(left_out));
            let is_reduced = arrived.later.contains(&true);
            reduction = match groups {
                Some(groups) if is_reduced => Some((groups, groups)),
                _ => Some((arrived.complete, arrived.reduced)),
            };
            later = arrived.later;
        }
        let sent = snapshot.checkpoint.map_or(0, |reached| reached.items);
        Ok(Self {
            is_done,
            items,
            submitted: match snapshot.submitted || is_done {
                true => items.unwrap_or(sent),
                false => sent,
            },
            left_out,
            mapped,
            groups,
            reduction,
            later,
        })
    }

    fn stages(&self, definitions: &[StageDefinition]) -> Vec<StageProgress> {
        let lenient = definitions.iter().filter(|stage| is_lenient(stage)).count();
        // Items that come to the next stage.
        let mut items = self.items;
        let mut reductions = 0;
        let mut stages = Vec::with_capacity(definitions.len());
        for (index, stage) in definitions.iter().enumerate() {
            let next = definitions.get(index + 1);
            let is_last_of_maps = next.is_none_or(StageDefinition::is_reduction);
            let progress = if stage.is_reduction() {
                reductions += 1;
                match reductions {
                    1 => self.first_reduction(stage),
                    number => self.later_reduction(stage, number - 2),
                }
            } else if reductions > 0 {
                self.of_one_value(stage, reductions - 1, is_last_of_maps)
            } else {
                let left_out = match is_lenient(stage) {
                    true if lenient > 1 && self.left_out > 0 => None,
                    true => Some(self.left_out),
                    false => Some(0),
                };
                let mut progress = self.of_items(stage, items, left_out, is_last_of_maps);
                if index == 0 {
                    progress.received = Some(self.submitted);
                }
                let left = items.zip(left_out);
                items = left.map(|(items, left_out)| items.saturating_sub(left_out));
                progress
            };
            stages.push(progress);
        }
        stages
    }

    /// A map stage before the first reduction, which this many items come to.
    fn of_items(
        &self,
        stage: &StageDefinition,
        total: Option<u64>,
        left_out: Option<u64>,
        is_last_of_maps: bool,
    ) -> StageProgress {
        let ended = total.zip(left_out).filter(|_| self.is_done);
        StageProgress {
            total,
            received: total.filter(|_| self.is_done),
            done: match is_last_of_maps {
                true => self.mapped,
                false => ended.map(|(total, left_out)| total.saturating_sub(left_out)),
            },
            left_out,
            ..unknown(stage)
        }
    }

    fn first_reduction(&self, stage: &StageDefinition) -> StageProgress {
        StageProgress {
            total: self.groups,
            received: self.reduction.map(|(complete, _)| complete),
            done: self.reduction.map(|(_, reduced)| reduced),
            left_out: Some(0),
            ..unknown(stage)
        }
    }

    /// A reduction of a single group.
    fn later_reduction(&self, stage: &StageDefinition, number: usize) -> StageProgress {
        let (has_come, is_past) = (self.has_reached(number), self.has_reached(number + 1));
        StageProgress {
            total: Some(1),
            received: has_come.map(u64::from),
            done: is_past.map(u64::from),
            left_out: Some(0),
            ..unknown(stage)
        }
    }

    /// A map stage after a reduction. `next` is the number of the later reduction that follows.
    fn of_one_value(
        &self,
        stage: &StageDefinition,
        next: usize,
        is_last_of_maps: bool,
    ) -> StageProgress {
        let is_past = self.has_reached(next);
        let known = is_past.filter(|is_past| *is_past || is_last_of_maps);
        StageProgress {
            total: Some(1),
            received: is_past.filter(|is_past| *is_past).map(u64::from),
            done: known.map(u64::from),
            left_out: Some(0),
            ..unknown(stage)
        }
    }

    /// Whether the value has come to the later reduction of this number, or past it. `None` of a cancelled run.
    fn has_reached(&self, number: usize) -> Option<bool> {
        let later = self.later.iter().skip(number).any(|arrived| *arrived);
        self.mapped.is_some().then_some(self.is_done || later)
    }
}

fn is_lenient(stage: &StageDefinition) -> bool {
    stage.works_on_items && stage.options.on_failure != OnFailure::Fail
}

fn unknown(stage: &StageDefinition) -> StageProgress {
    StageProgress {
        name: stage.name.to_string(),
        unit: match stage.is_reduction() {
            true => Unit::Groups,
            false => Unit::Items,
        },
        total: None,
        received: None,
        done: None,
        left_out: None,
        retried: None,
        waiting: None,
    }
}
