//! Failures of one kind at one stage: which are logged by themselves, and the sum of the rest.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use tokio::time::Instant;

use super::QUIET;
use super::commonest::Commonest;
use crate::core::id::RunId;

/// Items that are told apart in one sum.
const MOST_ITEMS: usize = 4096;

#[derive(Default)]
pub(super) struct Tally {
    /// When the latest failure came.
    last: Option<Instant>,
    /// Failures that were logged by themselves since it was last quiet.
    singles: u32,
    sum: Option<Sum>,
}

/// Failures that were not logged by themselves.
pub(super) struct Sum {
    since: Instant,
    count: u64,
    items: Items,
    commonest: Commonest,
    run: RunId,
    is_only_run: bool,
}

impl Tally {
    /// A failure comes now. After a quiet time, it is a first one again; returns what was left of those before.
    pub(super) fn end_if_quiet(&mut self, now: Instant) -> Option<Sum> {
        let last = self.last.replace(now)?;
        if now.saturating_duration_since(last) < QUIET {
            return None;
        }
        self.singles = 0;
        self.sum.take()
    }

    /// Whether the failure is logged by itself: one of the first `most`.
    pub(super) fn is_single(&mut self, most: u32) -> bool {
        let is_single = self.singles < most;
        self.singles += u32::from(is_single);
        is_single
    }

    /// Adds a failure to the sum. Returns whether it is the first one.
    pub(super) fn add(
        &mut self,
        now: Instant,
        run: &RunId,
        work: &str,
        item: Option<u64>,
        error: &str,
    ) -> bool {
        let begins = self.sum.is_none();
        let sum = self.sum.get_or_insert_with(|| Sum {
            since: now,
            count: 0,
            items: Items::default(),
            commonest: Commonest::default(),
            run: run.clone(),
            is_only_run: true,
        });
        sum.count += 1;
        sum.commonest.add(error);
        sum.is_only_run &= sum.run == *run;
        match item {
            Some(item) => sum.items.add(&(run, item)),
            None => sum.items.add(&(run, work)),
        }
        begins
    }

    pub(super) fn since(&self) -> Option<Instant> {
        self.sum.as_ref().map(|sum| sum.since)
    }

    /// The sum, if the instant at which it began is `due`. What follows begins another.
    pub(super) fn take_if(&mut self, due: impl Fn(Instant) -> bool) -> Option<Sum> {
        self.sum.take_if(|sum| due(sum.since))
    }
}

impl Sum {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// How many items failed, each counted once.
    pub(super) fn items(&self) -> &impl fmt::Display {
        &self.items
    }

    /// An error that came at least as often as is returned with it.
    pub(super) fn commonest(&self) -> (&str, u64) {
        self.commonest.get()
    }

    /// The run, if all failures are of one.
    pub(super) fn only_run(&self) -> Option<&RunId> {
        self.is_only_run.then_some(&self.run)
    }
}

/// A set of items, by their hashes.
#[derive(Default)]
struct Items {
    seen: HashSet<u64>,
    hasher: RandomState,
    more: bool,
}

impl Items {
    fn add(&mut self, item: &impl std::hash::Hash) {
        let hash = self.hasher.hash_one(item);
        if self.seen.len() < MOST_ITEMS {
            self.seen.insert(hash);
        } else {
            self.more |= !self.seen.contains(&hash);
        }
    }
}

impl fmt::Display for Items {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.more { "more than " } else { "" };
        write!(formatter, "{more}{}", self.seen.len())
    }
}
