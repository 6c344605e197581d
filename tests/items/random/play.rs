//! One random run, on a paused clock, and what is wrong with its end.

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use catchment::testing::faults::{Crash, When};
use catchment::{Backend, Backoff, Error, OnFailure, Pipeline, Run};
use futures::future::join_all;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::case::Case;
use crate::common::*;

/// The ends of processes so far.
#[derive(Default)]
struct Ends {
    deaths: Cell<u32>,
    shutdowns: Cell<u32>,
}

struct Play<'a> {
    case: &'a Case,
    plan: Shared,
    store: Store,
    ends: Ends,
}

pub(super) fn play(case: Case) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let play = Play {
            plan: Plan::new(case.natures.clone()),
            case: &case,
            store: Store::new(),
            ends: Ends::default(),
        };
        let healthy = play.pipeline(&Arc::default());
        let healthy = healthy.deploy("random", play.store.backend()).unwrap();
        let run = healthy.submit(0..play.plan.length()).await.unwrap();
        let processes = (0..case.workers).map(|number| play.process(number));
        let ended = tokio::select! {
            ended = seen(&run) => ended,
            _ = join_all(processes) => panic!("a process is followed by another"),
        };
        play.verdict(&run, ended).await
    })
}

impl Play<'_> {
    /// The pipeline as a process has it whose end is asked for by `kill`.
    fn pipeline(&self, kill: &Arc<Notify>) -> Kept {
        let case = self.case;
        let (plan, kill) = (Shared::clone(&self.plan), Arc::clone(kill));
        let backoff = match case.waits_long {
            true => Backoff::exponential(MINUTE, HOUR),
            false => Backoff::exponential(SECOND, 10 * SECOND),
        };
        let policy = match case.fails {
            true => OnFailure::Fail,
            false => OnFailure::Skip,
        };
        let options = skipping(case.attempts)
            .on_failure(policy)
            .backoff(backoff)
            .packet_size(case.packet_size)
            .concurrency(case.concurrency)
            .timeout(10 * SECOND);
        Pipeline::new()
            .then(move |n: u64| {
                let (plan, kill) = (Shared::clone(&plan), Arc::clone(&kill));
                async move {
                    // Each takes its time, so that several are under way.
                    tokio::time::sleep(Duration::from_millis(n % 7 * 100)).await;
                    plan.called(n, || kill.notify_one()).await
                }
            })
            .with(options)
            .collect()
    }

    /// One process after the other, each until it is shut down or dies.
    async fn process(&self, number: usize) -> Infallible {
        let case = self.case;
        let mine = case.shutdowns.iter().enumerate();
        let mine = mine.filter(|(nth, _)| nth % case.workers == number);
        let mut shutdowns: Vec<u64> = mine.map(|(_, after)| *after).collect();
        shutdowns.sort_unstable();
        let mut shutdowns = shutdowns.into_iter();
        let mut crash = case.crash.filter(|_| number == 0);
        let begin = Instant::now();
        loop {
            let kill = Arc::new(Notify::new());
            let dies = Crash::new(crash.take(), When::After);
            let queues = dies.queues(self.store.queues.clone());
            let backend = Backend::new(queues, dies.scratchpad(self.store.scratchpad.clone()));
            let deployment = self.pipeline(&kill).deploy("random", backend).unwrap();
            let worker = deployment.worker().start();
            let shutdown = async {
                match shutdowns.next() {
                    Some(after) => sleep_until(begin + Duration::from_millis(after)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = dies.crashed() => add(&self.ends.deaths),
                () = kill.notified() => add(&self.ends.deaths),
                () = shutdown => {
                    add(&self.ends.shutdowns);
                    tokio::select! {
                        () = worker.shutdown() => {}
                        () = kill.notified() => add(&self.ends.deaths),
                        () = dies.crashed() => add(&self.ends.deaths),
                    }
                    continue;
                }
            }
            drop(worker);
        }
    }

    /// The bad items that may be in the result nevertheless: they recover some day, and a process that dies takes with it
    /// how often its items have failed.
    fn lucky(&self) -> Vec<u64> {
        let recovers = |item: &u64| match self.plan.nature(*item) {
            Nature::Fails(ALWAYS) | Nature::Panics(ALWAYS) | Nature::Hangs(ALWAYS) => false,
            Nature::Fails(_) | Nature::Panics(_) | Nature::Hangs(_) => self.ends.deaths.get() > 0,
            Nature::Good | Nature::Permanent | Nature::Kills(_) => false,
        };
        let bad = self.plan.bad(self.case.attempts);
        bad.into_iter().filter(recovers).collect()
    }

    /// What is wrong with the end of the run.
    async fn verdict(
        &self,
        run: &Run<Vec<u64>>,
        ended: catchment::Result<Seen>,
    ) -> Result<(), String> {
        let bad = self.plan.bad(self.case.attempts);
        let whole = match ended {
            Ok(seen) => self.done(seen, &bad)?,
            Err(Error::Failed { failure, .. }) => {
                let is_bad = |item| bad.contains(&item) || self.has_killed(item);
                let is_bad = failure.item.is_some_and(is_bad);
                if !self.case.fails || !is_bad {
                    return Err(format!("the run failed by {failure}, and {bad:?} are bad"));
                }
                let listed = run.failures().limit(10_000).await.unwrap();
                let is_bad = |item| bad.contains(&item) || self.has_killed(item);
                let named = |one: &&catchment::Failure| one.item.is_some_and(is_bad);
                if let Some(wrong) = listed.iter().find(|failure| !named(failure)) {
                    return Err(format!("a failure of none of {bad:?}: {wrong}"));
                }
                false
            }
            Err(error) => return Err(format!("no failure of an item: {error}")),
        };
        self.calls(whole)
    }

    /// Whether an item has ended a process. Deaths of others that came before count against it then, so that it may be given
    /// up early.
    fn has_killed(&self, item: u64) -> bool {
        matches!(self.plan.nature(item), Nature::Kills(_))
    }

    /// What is wrong with a run that has ended well.
    fn done(&self, seen: Seen, bad: &[u64]) -> Result<bool, String> {
        let (lucky, skipped) = (self.lucky(), seen.skipped.unwrap());
        let is_missing = |item: &u64| !lucky.contains(item) && !skipped.contains(item);
        let missing: Vec<u64> = bad.iter().copied().filter(is_missing).collect();
        if self.case.fails && !missing.is_empty() {
            return Err(format!("the run is done, and {missing:?} are bad"));
        }
        let is_bad = |item: &u64| bad.contains(item) || self.has_killed(*item);
        if !skipped.iter().all(is_bad) || !missing.is_empty() {
            return Err(format!("left out: {skipped:?}, bad: {bad:?}"));
        }
        let all = 0..self.plan.length();
        let good: Vec<u64> = all.filter(|item| !skipped.contains(item)).collect();
        if seen.value != good {
            return Err(format!("the result is {:?}, not {good:?}", seen.value));
        }
        Ok(true)
    }

    /// Whether the items were called as often as they may be; as they must be, if nothing ended and the `whole` was done.
    fn calls(&self, whole: bool) -> Result<(), String> {
        let (plan, attempts) = (&self.plan, self.case.attempts);
        let (deaths, shutdowns) = (self.ends.deaths.get(), self.ends.shutdowns.get());
        // A packet whose wait outlasts its visibility timeout goes back, and each item of it runs again.
        let back = if self.case.waits_long { attempts } else { 1 };
        for item in 0..plan.length() {
            let (nature, calls) = (plan.nature(item), plan.calls(item));
            let needed = nature.calls(attempts);
            let most = attempts * back * (1 + deaths + shutdowns);
            let is_exact = deaths + shutdowns == 0 && !self.case.waits_long;
            let is_right = match (is_exact, whole) {
                (true, true) => calls == needed,
                (true, false) => calls <= needed,
                (false, true) => calls <= most && calls >= needed.min(1),
                (false, false) => calls <= most,
            };
            if !is_right {
                return Err(format!(
                    "item {item} ({nature:?}) was called {calls} times, not {needed}; at most {most}: {deaths} deaths, {shutdowns} shutdowns"
                ));
            }
        }
        Ok(())
    }
}

fn add(count: &Cell<u32>) {
    count.set(count.get() + 1);
}
