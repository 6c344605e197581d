//! Counting what a run does, while it does it.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::{StageProgress, Unit};
use crate::core::tree::Tree;

/// The length of an input that has not ended.
const UNKNOWN: u64 = u64::MAX;

/// A stage whose work is counted.
pub(crate) struct Counted {
    pub(crate) name: Arc<str>,
    pub(crate) is_reduction: bool,
    /// It works on the array's items. A map stage after a reduction works on the one value of it.
    pub(crate) works_on_items: bool,
}

/// The counters of one run's stages. Map stages count the items of the array, reductions count groups; the value of a
/// reduction counts as one item of the map stages that follow.
///
/// Without a listener there is nothing to add to, and a call costs one comparison. With one, it costs an atomic addition:
/// call it for a packet or a batch, never for each item. What is delivered twice may be counted twice;
/// [`stages`](Self::stages) returns no more than there is.
#[derive(Clone, Default)]
pub(crate) struct Counters {
    numbers: Option<Arc<Numbers>>,
}

struct Numbers {
    fan_in: u32,
    items: AtomicU64,
    packets: AtomicU64,
    /// Items that are on the first stage's queue, or were.
    submitted: AtomicU64,
    has_ended: AtomicBool,
    stages: Box<[Stage]>,
}

struct Stage {
    definition: Counted,
    received: AtomicU64,
    done: AtomicU64,
    left_out: AtomicU64,
    retried: AtomicU64,
    /// How often items have begun to wait, and how often one has ceased to: the second may be counted first.
    waits: AtomicU64,
    waited: AtomicU64,
}

impl Counters {
    /// Counters for a run with a listener; `fan_in` is that of its first reduction. [`Default`] makes those of a run without
    /// one.
    pub(crate) fn new(stages: impl Iterator<Item = Counted>, fan_in: u32) -> Self {
        let stage = |definition| Stage {
            definition,
            received: AtomicU64::new(0),
            done: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
            retried: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            waited: AtomicU64::new(0),
        };
        let numbers = Numbers {
            fan_in,
            items: AtomicU64::new(UNKNOWN),
            packets: AtomicU64::new(UNKNOWN),
            submitted: AtomicU64::new(0),
            has_ended: AtomicBool::new(false),
            stages: stages.map(stage).collect(),
        };
        Self {
            numbers: Some(Arc::new(numbers)),
        }
    }

    /// The array has this many `items`, which make this many `packets`, as far as that is known.
    pub(crate) fn measured(&self, items: Option<u64>, packets: Option<u64>) {
        if let Some(numbers) = &self.numbers {
            numbers.items.store(items.unwrap_or(UNKNOWN), Relaxed);
            numbers.packets.store(packets.unwrap_or(UNKNOWN), Relaxed);
        }
    }

    /// The first `items` of the array have been sent.
    pub(crate) fn submitted(&self, items: u64) {
        if let Some(numbers) = &self.numbers {
            numbers.submitted.store(items, Relaxed);
        }
    }

    /// All of the array has been sent: `items` in `packets`.
    pub(crate) fn has_submitted(&self, items: u64, packets: u64) {
        self.measured(Some(items), Some(packets));
        if let Some(numbers) = &self.numbers {
            numbers.has_ended.store(true, Relaxed);
        }
    }

    /// A packet has gone through a map stage with this many `items` of the array. Items that were left out are not among
    /// them.
    pub(crate) fn mapped(&self, stage: usize, items: u64) {
        if let Some(numbers) = &self.numbers
            && let Some(stage) = numbers.stages.get(stage)
        {
            let items = match stage.definition.works_on_items {
                true => items,
                false => 1,
            };
            stage.done.fetch_add(items, Relaxed);
        }
    }

    /// Packets have gone through all of these map stages in one pass.
    pub(crate) fn mapped_by_all(&self, stages: Range<usize>, items: u64) {
        if self.numbers.is_some() {
            stages.for_each(|stage| self.mapped(stage, items));
        }
    }

    /// A group is complete, and its reduction has been asked for. What map stages receive follows from what was sent to
    /// them.
    pub(crate) fn completed(&self, stage: usize) {
        self.add(stage, 1, |stage| &stage.received);
    }

    /// A group was reduced.
    pub(crate) fn reduced(&self, stage: usize) {
        self.add(stage, 1, |stage| &stage.done);
    }

    /// A group was reduced that has never been asked for, because its packets came as one message.
    pub(crate) fn reduced_unasked(&self, stage: usize) {
        self.completed(stage);
        self.reduced(stage);
    }

    /// Items were left out by a map stage, for good.
    pub(crate) fn left_out(&self, stage: usize, items: u64) {
        self.add(stage, items, |stage| &stage.left_out);
    }

    /// Items or groups have failed an attempt that is not their last one.
    pub(crate) fn retried(&self, stage: usize, items: u64) {
        self.add(stage, items, |stage| &stage.retried);
    }

    /// Items or groups begin to wait for their next attempt.
    pub(crate) fn waits(&self, stage: usize, items: u64) {
        self.add(stage, items, |stage| &stage.waits);
    }

    /// Items or groups that waited for their next attempt do not wait any longer: it begins, or there is none.
    pub(crate) fn waits_no_longer(&self, stage: usize, items: u64) {
        self.add(stage, items, |stage| &stage.waited);
    }

    fn add(&self, stage: usize, items: u64, number: impl FnOnce(&Stage) -> &AtomicU64) {
        if let Some(numbers) = &self.numbers
            && let Some(stage) = numbers.stages.get(stage)
        {
            number(stage).fetch_add(items, Relaxed);
        }
    }

    /// Whether all of the array has been sent.
    pub(super) fn is_submitted(&self) -> bool {
        let numbers = self.numbers.as_ref();
        numbers.is_some_and(|numbers| numbers.has_ended.load(Relaxed))
    }

    /// Items of the array, if known.
    pub(super) fn items(&self) -> Option<u64> {
        known(&self.numbers.as_ref()?.items)
    }

    /// The numbers of each stage. They are read one after the other while work goes on, and fit each other all the same:
    /// what is done has been received, and no number exceeds the total.
    pub(super) fn stages(&self) -> Vec<StageProgress> {
        let Some(numbers) = &self.numbers else {
            return Vec::new();
        };
        let groups = known(&numbers.packets);
        let mut groups = groups.map(|packets| Tree::new(packets, numbers.fan_in).groups());
        let mut items = known(&numbers.items);
        let mut reached = numbers.submitted.load(Relaxed);
        let mut stages = Vec::with_capacity(numbers.stages.len());
        for stage in &numbers.stages {
            let progress = match stage.definition.is_reduction {
                true => stage.progress(groups, stage.received.load(Relaxed)),
                false => stage.progress(items, reached),
            };
            let done = progress.done.unwrap_or(0);
            if stage.definition.is_reduction {
                // What follows has its value, and a tree of a single group.
                reached = u64::from(progress.total == Some(done));
                (items, groups) = (Some(1), Some(1));
            } else {
                reached = done;
                items = items.map(|items| items - progress.left_out.unwrap_or(0));
            }
            stages.push(progress);
        }
        stages
    }
}

impl Stage {
    fn progress(&self, total: Option<u64>, received: u64) -> StageProgress {
        let most = total.unwrap_or(u64::MAX);
        // Read before what it is a part of.
        let waited = self.waited.load(Relaxed);
        let waits = self.waits.load(Relaxed);
        let left_out = self.left_out.load(Relaxed).min(most);
        let done = self.done.load(Relaxed).min(most - left_out);
        let ended = done.saturating_add(left_out);
        let received = received.max(ended).min(most);
        StageProgress {
            name: self.definition.name.to_string(),
            unit: match self.definition.is_reduction {
                true => Unit::Groups,
                false => Unit::Items,
            },
            total,
            received: Some(received),
            done: Some(done),
            left_out: Some(left_out),
            retried: Some(self.retried.load(Relaxed)),
            waiting: Some(waits.saturating_sub(waited).min(received - ended)),
        }
    }
}

fn known(number: &AtomicU64) -> Option<u64> {
    Some(number.load(Relaxed)).filter(|number| *number != UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters() -> Counters {
        let stages = [("parse", false), ("clean", false), ("sum", true)];
        let stages = stages.map(|(name, is_reduction)| Counted {
            name: name.into(),
            is_reduction,
            works_on_items: !is_reduction,
        });
        let counters = Counters::new(stages.into_iter(), 2);
        counters.measured(Some(20_000), Some(20));
        counters
    }

    fn lines(counters: &Counters) -> Vec<String> {
        let stages = counters.stages();
        stages.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn waiting_ends_and_attempts_stay_counted() {
        let counters = counters();
        counters.submitted(15_000);
        counters.mapped(0, 12_000);
        counters.left_out(0, 2);
        counters.retried(0, 3);
        counters.waits(0, 3);
        counters.waits_no_longer(0, 2);
        let parse = "parse 12,000 of 20,000 (3 retried, 1 waiting, 2 left out)";
        assert_eq!(lines(&counters)[..2], [parse, "clean 0 of 19,998"]);
        counters.waits_no_longer(0, 1);
        let parse = "parse 12,000 of 20,000 (3 retried, 2 left out)";
        assert_eq!(lines(&counters)[0], parse);
        let received = counters
            .stages()
            .iter()
            .map(|stage| stage.received)
            .collect::<Vec<_>>();
        assert_eq!(received, [Some(15_000), Some(12_000), Some(0)]);
    }

    #[test]
    fn what_is_counted_twice_is_shown_once() {
        let counters = counters();
        counters.submitted(20_000);
        counters.left_out(0, 2);
        counters.mapped(0, 30_000);
        counters.waits_no_longer(0, 1);
        counters.mapped(1, 19_000);
        counters.waits(1, 5_000);
        (0..50).for_each(|_| counters.completed(2));
        (0..49).for_each(|_| counters.reduced(2));
        let shown = [
            "parse 19,998 of 20,000 (2 left out)",
            "clean 19,000 of 19,998 (998 waiting)",
            "sum 22 of 22 groups",
        ];
        assert_eq!(lines(&counters), shown);
    }

    #[test]
    fn without_a_listener_nothing_is_counted() {
        let counters = Counters::default();
        counters.mapped(0, 1);
        counters.has_submitted(1, 1);
        assert!(counters.stages().is_empty() && !counters.is_submitted());
    }
}
