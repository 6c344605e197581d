//! Items that do something else at each of their calls. Whatever they do, and whatever becomes of processes: an item that
//! never misbehaves is neither left out nor a reason for a dead letter, and nothing is lost or doubled.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use catchment::{Backoff, BoxError, Error, OnFailure, Pipeline, permanent};
use futures::future::join_all;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::store::{Store, soon};
use crate::{HOUR, MINUTE, SECOND, skipping};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Fails,
    Panics,
    Hangs,
    Kills,
    Permanent,
    Good,
}

#[derive(Clone, Debug)]
struct Case {
    /// The deeds of each item, call by call; it is good after that.
    scripts: Vec<Vec<Deed>>,
    /// Outputs that the reduction refuses, once each: by item.
    refused: Vec<bool>,
    attempts: u32,
    packet_size: u32,
    concurrency: usize,
    workers: usize,
    fails: bool,
    waits_long: bool,
    shutdowns: Vec<u64>,
}

fn case(kills: bool) -> impl Strategy<Value = Case> {
    let deed = prop_oneof![
        4 => Just(Deed::Fails),
        1 => Just(Deed::Panics),
        1 => Just(Deed::Hangs),
        if kills { 4 } else { 0 } => Just(Deed::Kills),
        1 => Just(Deed::Permanent),
        2 => Just(Deed::Good),
    ];
    let script = prop_oneof![
        8 => Just(Vec::new()),
        1 => prop::collection::vec(deed, 1..8),
    ];
    let item = (script, prop::bool::weighted(0.03));
    let work = (2..=4u32, 1..=20u32, 1..=20usize, 1..=3usize);
    (
        prop::collection::vec(item, 1..60),
        work,
        any::<bool>(),
        any::<bool>(),
        prop::collection::vec(0..90_000u64, 0..=3),
    )
        .prop_map(|(items, work, fails, waits_long, shutdowns)| {
            let (attempts, packet_size, concurrency, workers) = work;
            let (scripts, refused) = items.into_iter().unzip();
            Case {
                scripts,
                refused,
                attempts,
                packet_size,
                concurrency,
                workers,
                fails,
                waits_long,
                shutdowns,
            }
        })
}

struct Play {
    case: Case,
    calls: Vec<AtomicUsize>,
    folds: Vec<AtomicUsize>,
    store: Store,
}

impl Play {
    fn deed(&self, item: u64) -> Deed {
        let call = self.calls[item as usize].fetch_add(1, SeqCst);
        let script = &self.case.scripts[item as usize];
        script.get(call).copied().unwrap_or(Deed::Good)
    }

    async fn call(&self, item: u64, kill: &Notify) -> Result<Vec<u64>, BoxError> {
        sleep(Duration::from_millis(item % 7 * 100)).await;
        match self.deed(item) {
            Deed::Good => Ok(vec![item]),
            Deed::Fails => Err(format!("item {item} fails").into()),
            Deed::Panics => panic!("item {item} panics"),
            Deed::Hangs => pending().await,
            Deed::Permanent => Err(permanent(format!("item {item} for good")).into()),
            Deed::Kills => {
                kill.notify_one();
                pending().await
            }
        }
    }

    /// Whether an item may be left out, or fail the run.
    fn may_go(&self, item: u64) -> bool {
        let case = &self.case;
        let script = &case.scripts[item as usize];
        let bad = script.iter().filter(|deed| **deed != Deed::Good).count();
        let refused = usize::from(case.refused[item as usize]);
        let is_permanent = script.contains(&Deed::Permanent);
        let kills = script.contains(&Deed::Kills);
        is_permanent || kills || bad + refused >= case.attempts as usize
    }

    fn pipeline(
        self: &Arc<Self>,
        kill: &Arc<Notify>,
    ) -> Pipeline<u64, Vec<u64>, catchment::pipeline::One> {
        let (play, kill) = (Arc::clone(self), Arc::clone(kill));
        let case = &self.case;
        let backoff = match case.waits_long {
            true => Backoff::exponential(MINUTE, HOUR),
            false => Backoff::exponential(SECOND, 10 * SECOND),
        };
        let policy = match case.fails {
            true => OnFailure::Fail,
            false => OnFailure::Skip,
        };
        let options = skipping(case.attempts).on_failure(policy).backoff(backoff);
        let options = options.packet_size(case.packet_size);
        let options = options.concurrency(case.concurrency).timeout(10 * SECOND);
        let folding = Arc::clone(self);
        Pipeline::new()
            .then(move |n: u64| {
                let (play, kill) = (Arc::clone(&play), Arc::clone(&kill));
                async move { play.call(n, &kill).await }
            })
            .with(options)
            .try_reduce(Vec::new, move |mut all, next| {
                if let [item] = next.as_slice() {
                    let place = *item as usize;
                    let is_refused = folding.case.refused[place];
                    if is_refused && folding.folds[place].fetch_add(1, SeqCst) == 0 {
                        return Err("refused once");
                    }
                }
                all.extend(next);
                Ok(all)
            })
    }

    async fn process(self: &Arc<Self>, number: usize) -> Infallible {
        let mine = self.case.shutdowns.iter().enumerate();
        let mine = mine.filter(|(nth, _)| nth % self.case.workers == number);
        let mut shutdowns: Vec<u64> = mine.map(|(_, after)| *after).collect();
        shutdowns.sort_unstable();
        let mut shutdowns = shutdowns.into_iter();
        let begin = Instant::now();
        loop {
            let kill = Arc::new(Notify::new());
            let deployment = self.pipeline(&kill).deploy("scripts", self.store.backend());
            let worker = deployment.unwrap().worker().start();
            let shutdown = async {
                match shutdowns.next() {
                    Some(after) => sleep_until(begin + Duration::from_millis(after)).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = kill.notified() => {}
                () = shutdown => {
                    tokio::select! {
                        () = worker.shutdown() => {}
                        () = kill.notified() => {}
                    }
                    continue;
                }
            }
            drop(worker);
        }
    }

    async fn play(self: &Arc<Self>) -> Result<(), String> {
        let length = self.calls.len() as u64;
        let healthy = self.pipeline(&Arc::default());
        let healthy = healthy.deploy("scripts", self.store.backend()).unwrap();
        let run = healthy.submit(0..length).await.unwrap();
        let processes = (0..self.case.workers).map(|number| self.process(number));
        let ended = tokio::select! {
            ended = soon(run.outcome()) => ended,
            _ = join_all(processes) => panic!("a process is followed by another"),
        };
        let listed = run.failures().limit(10_000).await.unwrap();
        for failure in &listed {
            if !failure.item.is_some_and(|item| self.may_go(item)) {
                return Err(format!("{failure:?}"));
            }
        }
        let outcome = match ended {
            Ok(outcome) => outcome,
            Err(Error::Failed { .. }) if self.case.fails => return Ok(()),
            Err(error) => return Err(format!("{error}: {listed:?}")),
        };
        let skipped: Vec<u64> = listed.iter().filter_map(|failure| failure.item).collect();
        let good = (0..length).filter(|item| !skipped.contains(item));
        let good: Vec<u64> = good.collect();
        if outcome.value != good || outcome.skipped != skipped.len() as u64 {
            return Err(format!("{:?}, left out {skipped:?}", outcome.value));
        }
        let mut kills = self.case.scripts.iter().flatten();
        if kills.any(|deed| *deed == Deed::Kills) {
            // What had failed for good may be lost with a process.
            return Ok(());
        }
        for item in 0..length {
            let script = &self.case.scripts[item as usize];
            let is_lost = script.iter().take(1).any(|deed| *deed == Deed::Permanent);
            if is_lost && !skipped.contains(&item) {
                return Err(format!("item {item} is in the result"));
            }
        }
        Ok(())
    }
}

fn check(kills: bool, rng: TestRng) {
    let cases = std::env::var("CATCHMENT_TEST_CASES");
    let cases = cases
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(150);
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 1_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let checked = runner.run(&case(kills), |case| {
        let count = case.scripts.len();
        let counts = || (0..count).map(|_| AtomicUsize::new(0)).collect();
        let play = Arc::new(Play {
            calls: counts(),
            folds: counts(),
            case,
            store: Store::new(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(play.play()).map_err(TestCaseError::fail)
    });
    if let Err(error) = checked {
        panic!("{error}");
    }
}

fn fixed() -> TestRng {
    TestRng::deterministic_rng(RngAlgorithm::ChaCha)
}

#[test]
fn scripts_without_deaths() {
    check(false, fixed());
}

#[test]
fn scripts_with_deaths() {
    check(true, fixed());
}

#[test]
fn other_scripts_with_deaths() {
    let seed: [u8; 32] = std::array::from_fn(|_| fastrand::u8(..));
    println!("seed {seed:?}");
    check(true, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
}
