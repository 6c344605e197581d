//! Processes that die at every call to their backend, one or two of them in a row, for any kind of
//! run.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use catchment::Deployment;
use catchment::testing::faults::When;

use crate::common::*;

/// Where a process dies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Death {
    pub(super) at: u64,
    pub(super) when: When,
}

impl Death {
    /// The process lives to the end of the run.
    pub(super) const NONE: Self = Self {
        at: u64::MAX,
        when: When::Before,
    };
}

const WHENS: [When; 2] = [When::Before, When::After];

/// A run, in all that may vary.
pub(super) trait Plan: Copy + Debug + Sync {
    /// Runs it with processes that die as given, one after the other, and then with a healthy one.
    /// Returns whether the last of the given processes died, rather than lived to the end of the
    /// run.
    async fn play(self, deaths: &[Death]) -> bool;
}

/// A death at every n-th call, before and after it took effect, until the process survives. It
/// follows the processes of `before`.
pub(super) async fn single(plan: impl Plan, before: &[Death]) -> u64 {
    let mut schedules = 0;
    for when in WHENS {
        for at in 1.. {
            schedules += 1;
            let death = [Death { at, when }];
            if !plan.play(&[before, &death].concat()).await {
                break;
            }
        }
    }
    schedules
}

/// A death at every call of the second process, or at every `stride`-th one, for one death of the
/// first. `None` if the first survives.
pub(super) async fn pairs(plan: impl Plan, first: Death, stride: u64) -> Option<u64> {
    let mut schedules = 0;
    // If the first process survives, the second one has nothing to do: no pair.
    if !plan.play(&[first]).await {
        return None;
    }
    for when in WHENS {
        for at in (1 + first.at % stride..).step_by(stride as usize) {
            schedules += 1;
            if !plan.play(&[first, Death { at, when }]).await {
                break;
            }
        }
    }
    Some(schedules)
}

/// With each plan the first deaths at its first calls, as many as `calls` says.
pub(super) fn first_deaths<P: Plan>(plans: &[P], calls: impl Fn(&P) -> u64) -> Vec<(P, Death)> {
    let deaths = plans.iter().flat_map(|plan| {
        let deaths = (1..=calls(plan)).flat_map(|at| WHENS.map(|when| Death { at, when }));
        deaths.map(|death| (*plan, death))
    });
    deaths.collect()
}

/// Runs tasks on as many threads as there are cores, each on a paused clock of its own, and prints
/// how many schedules each kind of them had.
pub(super) fn on_all_cores<T: Sync, K: Debug + Ord + Send>(
    tasks: &[T],
    play: impl AsyncFn(&T) -> (K, u64) + Sync,
) -> u64 {
    let next = AtomicUsize::new(0);
    let counts: Mutex<BTreeMap<K, u64>> = Mutex::default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_time()
                        .start_paused(true)
                        .build();
                    let (kind, schedules) = runtime.unwrap().block_on(play(task));
                    *counts.lock().unwrap().entry(kind).or_default() += schedules;
                }
            });
        }
    });
    let counts = counts.into_inner().unwrap();
    println!(
        "schedules: {counts:?}, {} in all",
        counts.values().sum::<u64>()
    );
    counts.values().sum()
}

/// Another process receives the messages that wait at the stages, and gives them back: that costs no
/// attempt.
pub(super) async fn look<I, R>(store: &Store, deployment: &Deployment<I, R>) {
    for stage in deployment.stages() {
        let handler = deployment.handler(stage).unwrap();
        let queue = store.queue(handler.queue_name()).await;
        let seen = queue.receive(100, Duration::ZERO).await.unwrap();
        let receipts = seen.into_iter().map(|delivery| delivery.receipt);
        let released = queue.release(receipts.collect(), Duration::ZERO).await;
        released.unwrap();
    }
}

/// The longest runs of the tests that take long.
pub(super) fn longest(default: u64) -> u64 {
    std::env::var("LONGEST").map_or(default, |longest| longest.parse().unwrap())
}
