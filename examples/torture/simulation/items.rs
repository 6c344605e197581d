//! What the functions do with each item, and what is to come of it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use catchment::{BoxError, Context, Failure, OnFailure, Outcome, permanent};
use tokio::time::sleep;

use super::{Deaths, count};

/// As a number of calls: every one.
const ALWAYS: u32 = u32::MAX;

/// The runs' longest.
const MOST_ITEMS: u64 = 40;

/// The end of a failure that the library ascribes to a process that ended while the item was at work by itself.
const ENDED: &str = "or lost the message to another";

/// What the function does with an item.
#[derive(Clone, Copy, Debug)]
enum Nature {
    Good,
    /// An error, at its first calls in a run.
    Fails(u32),
    /// A panic.
    Panics(u32),
    /// No end within the timeout.
    Hangs(u32),
    /// A permanent error, at every call.
    Permanent,
}

impl Nature {
    /// Of the items that are not good, those that fail for a while do so for fewer calls than they have attempts: they are
    /// never bad, however many copies of their packets there are.
    fn draw(random: &mut fastrand::Rng, attempts: u32) -> Self {
        let mut calls = || match random.u32(0..3) {
            0 => ALWAYS,
            _ => random.u32(1..attempts),
        };
        let calls = calls();
        match random.u32(0..40) {
            0..4 => Self::Fails(calls),
            4 => Self::Panics(calls),
            5 => Self::Hangs(calls),
            6 => Self::Permanent,
            _ => Self::Good,
        }
    }

    fn failing_calls(self) -> u32 {
        match self {
            Self::Good => 0,
            Self::Fails(calls) | Self::Panics(calls) | Self::Hangs(calls) => calls,
            Self::Permanent => ALWAYS,
        }
    }
}

/// The items of all runs of a seed, by their numbers.
#[derive(Debug)]
pub(super) struct Items {
    natures: Vec<Nature>,
    attempts: u32,
    pub(super) policy: OnFailure,
    has_labels: bool,
    /// The functions are fixed: nothing fails any more.
    is_mended: AtomicBool,
    calls: Mutex<BTreeMap<(String, u64), u32>>,
    /// Failed calls by kind, and items that were left out.
    counts: Deaths,
    problems: Mutex<Vec<String>>,
}

/// What is on record of a run that has ended well; `None` once it is forgotten.
pub(super) type Listed = Option<Vec<Failure>>;

impl Items {
    pub(super) fn draw(random: &mut fastrand::Rng, attempts: u32) -> Arc<Self> {
        let all_good = random.u32(0..4) == 0;
        let natures = (0..MOST_ITEMS).map(|_| match all_good {
            true => Nature::Good,
            false => Nature::draw(random, attempts),
        });
        let natures = natures.collect();
        let policy = match random.u32(0..4) {
            0 => OnFailure::Skip,
            1 => OnFailure::Tolerate(random.u64(0..6)),
            _ => OnFailure::Fail,
        };
        Arc::new(Self {
            natures,
            attempts,
            policy,
            has_labels: random.bool(),
            is_mended: AtomicBool::new(false),
            calls: Mutex::default(),
            counts: Deaths::default(),
            problems: Mutex::default(),
        })
    }

    pub(super) fn label(&self, item: u64) -> Option<String> {
        self.has_labels.then(|| format!("item {item}"))
    }

    fn nature(&self, item: u64) -> Nature {
        let nature = usize::try_from(item).ok();
        let nature = nature.and_then(|item| self.natures.get(item));
        nature.copied().unwrap_or(Nature::Good)
    }

    fn is_bad(&self, item: u64) -> bool {
        self.nature(item).failing_calls() == ALWAYS
    }

    fn bad(&self, length: u64) -> BTreeSet<u64> {
        (0..length).filter(|item| self.is_bad(*item)).collect()
    }

    fn problem(&self, problem: String) {
        let problems = self.problems.lock();
        problems
            .unwrap_or_else(PoisonError::into_inner)
            .push(problem);
    }

    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        let counts = self.counts.lock();
        counts.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn take_problems(&self) -> Vec<String> {
        let problems = self.problems.lock();
        std::mem::take(&mut *problems.unwrap_or_else(PoisonError::into_inner))
    }

    /// A call of the function at which the item fails, if it does.
    pub(super) async fn call(&self, item: u64, context: &Context) -> Result<(), BoxError> {
        if context.attempt() > self.attempts || context.item() != Some(item) {
            self.problem(format!("item {item} is called as {context:?}"));
        }
        let earlier = {
            let calls = self.calls.lock();
            let mut calls = calls.unwrap_or_else(PoisonError::into_inner);
            let calls = calls.entry((context.run().to_string(), item)).or_default();
            *calls += 1;
            *calls - 1
        };
        // Each takes its time, so that several are under way.
        sleep(Duration::from_millis(item % 4 * 300)).await;
        let nature = self.nature(item);
        if earlier >= nature.failing_calls() || self.is_mended.load(Ordering::Relaxed) {
            return Ok(());
        }
        let kind = match nature {
            Nature::Permanent => "permanent errors of items",
            Nature::Panics(_) => "panics of items",
            Nature::Hangs(_) => "items that hung",
            Nature::Good | Nature::Fails(_) => "errors of items",
        };
        count(&self.counts, kind);
        match nature {
            Nature::Permanent => Err(permanent(format!("item {item} fails for good")).into()),
            // Without a word on the standard error.
            Nature::Panics(_) => std::panic::resume_unwind(Box::new("it panics")),
            Nature::Hangs(_) => pending().await,
            Nature::Good | Nature::Fails(_) => Err(format!("item {item} fails").into()),
        }
    }

    /// A run has failed. Its operator fixes the functions, unless bad items are left out.
    pub(super) fn failed(&self, run: &str, failure: &Failure) {
        let is_blamed = failure.error.contains(ENDED);
        let is_bad = failure.item.is_some_and(|item| self.is_bad(item));
        let may_fail = self.policy != OnFailure::Skip;
        if !(is_blamed || is_bad && may_fail) {
            self.problem(format!("{run} failed by {failure:?}"));
        }
        self.check_label(failure);
        if may_fail {
            self.is_mended.store(true, Ordering::Relaxed);
        }
    }

    fn check_label(&self, failure: &Failure) {
        let label = failure.item.and_then(|item| self.label(item));
        // Items that ended their process have none.
        if label.is_some() && failure.label.is_some() && failure.label != label {
            self.problem(format!("another label: {failure:?}"));
        }
    }

    /// What is wrong with the outcome of a run, if something is. Counts good items that were left out because processes
    /// ended while they were at work by themselves.
    pub(super) fn judge(
        &self,
        length: u64,
        outcome: &Outcome<String>,
        listed: &Listed,
        blamed: &mut u64,
    ) -> Option<String> {
        let bad = self.bad(length);
        let is_mended = self.is_mended.load(Ordering::Relaxed);
        let words = outcome.value.split_whitespace();
        let kept: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
        let left_out: Vec<u64> = (0..length).filter(|item| !kept.contains(item)).collect();
        let all: Vec<u64> = (0..length)
            .filter(|item| !left_out.contains(item))
            .collect();
        if kept != all {
            return Some("twice, or out of order".to_owned());
        }
        let skipped = left_out.len() as u64;
        if (outcome.items, outcome.contains, outcome.skipped) != (length, length - skipped, skipped)
        {
            return Some(format!("{skipped} are left out"));
        }
        left_out
            .iter()
            .for_each(|_| count(&self.counts, "items that were left out"));
        let is_blamed = |item: &u64| {
            let mut listed = listed.iter().flatten().chain(&outcome.failures);
            listed.any(|one| one.item == Some(*item) && one.error.contains(ENDED))
        };
        let (excused, others): (Vec<u64>, Vec<u64>) = left_out
            .iter()
            .partition(|item| !bad.contains(item) && is_blamed(item));
        *blamed += excused.len() as u64;
        let others: BTreeSet<u64> = others.into_iter().collect();
        let is_right = match self.policy {
            OnFailure::Fail => left_out.is_empty(),
            OnFailure::Tolerate(most) if is_mended => {
                others.is_subset(&bad) && left_out.len() as u64 <= most
            }
            OnFailure::Tolerate(most) => others == bad && left_out.len() as u64 <= most,
            _ => others == bad,
        };
        if !is_right {
            return Some(format!("{left_out:?} are left out, {bad:?} are bad"));
        }
        let failures = &outcome.failures;
        failures
            .iter()
            .for_each(|failure| self.check_label(failure));
        let mut listed: Vec<u64> = failures.iter().filter_map(|failure| failure.item).collect();
        listed.sort_unstable();
        (listed != left_out || outcome.more_failures > 0)
            .then(|| format!("{left_out:?} are left out, {listed:?} are listed"))
    }
}
