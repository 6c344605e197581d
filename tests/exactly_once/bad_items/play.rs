//! A run with bad items, whose processes die, and what is wrong with its end.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use catchment::queue::Depth;
use catchment::testing::faults::Crash;
use catchment::{Backend, Deployment, Error, Failure, Run, RunState};

use super::super::deaths::{self, Death, look};
use super::super::submit;
use super::plan::{Counted, Nature, Plan, Policy, Seen};
use crate::common::*;

impl deaths::Plan for Plan {
    async fn play(self, deaths: &[Death]) -> bool {
        // Backoffs are drawn from the thread's generator.
        fastrand::seed(self.length() << 8 | u64::from(self.fan_in));
        let seen = Seen::new(self);
        let store = Store::new();
        let mut died = true;
        for (process, death) in deaths.iter().enumerate() {
            let is_mended = self.is_mended_in(process);
            let crash = Crash::new(Some(death.at), death.when);
            let hook = self.counted(&seen, death.at);
            let doomed = self.deploy(store.crashing_hooked(&crash, hook), &seen, is_mended);
            let life = tokio::spawn(self.live(doomed, Arc::clone(&seen), is_mended));
            let watched = async {
                tokio::select! {
                    biased;
                    () = crash.crashed() => true,
                    // Late messages may still be under way, and the process may die at one of them.
                    () = tokio::time::sleep(self.calm()) => crash.has_crashed(),
                }
            };
            died = soon(watched).await;
            life.abort();
            seen.process_ended();
        }
        self.end(&store, &seen, deaths).await;
        died
    }
}

impl Plan {
    /// Longer than any message stays hidden, several times over.
    fn calm(self) -> Duration {
        Duration::from_secs(if self.goes_back { 1_000 } else { 100 })
    }

    fn counted(self, seen: &Arc<Seen>, seed: u64) -> Arc<dyn Hook> {
        Arc::new(Counted {
            yields: Yields::new(seed),
            seen: Arc::clone(seen),
        })
    }

    /// A process that submits, works, and redrives failed messages once the function is fixed. It
    /// ends when the run does, or with the failure if the function is not fixed yet.
    async fn live(
        self,
        deployment: Deployment<u64, String>,
        seen: Arc<Seen>,
        is_mended: bool,
    ) -> Result<(), Error> {
        let _worker = deployment.worker().start();
        let run = submit(&deployment, self.length(), self.input()).await?;
        loop {
            let failure = match run.result().await {
                Err(Error::Failed { failure, .. }) => failure,
                result => return result.map(drop),
            };
            self.blame(&seen, &failure);
            if !is_mended {
                return Ok(());
            }
            seen.redrives.fetch_add(1, SeqCst);
            run.redrive().await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// The run has failed: it has to name a bad item.
    fn blame(self, seen: &Seen, failure: &Failure) {
        if !self.may_fail() || !failure.item.is_some_and(Self::is_bad) {
            seen.problem(format!("the run failed by {failure:?}"));
        }
    }

    /// A healthy process brings the run to its end, which has to be right.
    async fn end(self, store: &Store, seen: &Arc<Seen>, deaths: &[Death]) {
        let what = format!("{self:?}, {deaths:?}");
        let is_mended = self.is_mended_in(deaths.len());
        let queues = store.hooked(self.counted(seen, 0));
        let healthy = self.deploy(queues, seen, is_mended);
        for _ in 0..3 {
            look(store, &healthy).await;
        }
        let life = self.live(healthy.clone(), Arc::clone(seen), is_mended);
        match tokio::time::timeout(Duration::from_secs(12 * 60 * 60), life).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => panic!("{what}: {error}"),
            Err(_) => panic!("{what}: stuck: {:?}", seen.problems),
        }
        seen.process_ended();
        let worker = healthy.worker().start();
        let run = healthy.attach("run");
        tokio::time::sleep(self.calm()).await;
        if self.may_fail() {
            self.clear(store, seen, &healthy, &run).await;
        }
        self.judge(seen, &run, &what).await;
        // Longer than any message stays hidden.
        tokio::time::sleep(self.calm()).await;
        let depth = self.depth(store.backend(), seen, store).await;
        assert_eq!(depth, Depth::default(), "{what}");
        self.judge(seen, &run, &what).await;
        drop(worker);
    }

    async fn depth(self, backend: Backend, seen: &Arc<Seen>, store: &Store) -> Depth {
        store.depth(&self.deploy(backend, seen, true)).await
    }

    /// A process that died between burying and acknowledging may leave copies of a dead letter:
    /// they are redriven as well, and found to be late.
    async fn clear(
        self,
        store: &Store,
        seen: &Seen,
        deployment: &Deployment<u64, String>,
        run: &Run<String>,
    ) {
        while store.depth(deployment).await.dead > 0 {
            seen.redrives.fetch_add(1, SeqCst);
            if soon(run.redrive()).await.unwrap().redriven == 0 {
                // Its record had gone when a process submitted it once more: they are of the run before.
                soon(deployment.redrive()).await.unwrap();
            }
        }
    }

    async fn judge(self, seen: &Seen, run: &Run<String>, what: &str) {
        let outcome = soon(run.outcome()).await.unwrap();
        let listed = run.failures().limit(1_000).await.unwrap();
        // A dead letter whose process died before it buried the message stays on record: the message
        // was delivered again.
        let (listed, dead): (Vec<Failure>, Vec<Failure>) =
            listed.items.into_iter().partition(Failure::is_skipped);
        dead.iter().for_each(|failure| self.blame(seen, failure));
        assert_eq!(*seen.problems.lock().unwrap(), [""; 0], "{what}");
        let is_listed = |one: &Failure| listed.iter().any(|other| other.item == one.item);
        // What another delivery of a packet left out may stay on record. The outcome lists what its value lacks.
        let is_on_record = outcome.failures.iter().all(is_listed);
        assert!(is_on_record, "{what}: {:?}, {listed:?}", outcome.failures);
        let listed = outcome.failures.iter().filter_map(|one| one.item);
        let listed: Vec<u64> = listed.collect();
        let (bad, length) = (self.bad(), self.length());
        let is_right = match self.policy {
            Policy::Skip | Policy::TolerateAll => listed == bad,
            Policy::SkipUntilMended => is_part(&listed, &bad),
            Policy::Fail => listed.is_empty(),
            Policy::TolerateLess => is_part(&listed, &bad) && listed.len() < bad.len(),
        };
        assert!(is_right, "{what}: {listed:?} are left out, of {bad:?}");
        let good = (0..length).filter(|n| !listed.contains(n));
        let value: String = good.map(|n| format!("{n} ")).collect();
        assert_eq!(outcome.value, value, "{what}");
        let skipped = listed.len() as u64;
        let found = (outcome.items, outcome.contains, outcome.skipped);
        assert_eq!(found, (length, length - skipped, skipped), "{what}");
        let status = run.status().await.unwrap();
        assert_eq!(status.state, RunState::Done, "{what}");
        let found = (
            status.items_skipped,
            status.items_failed,
            status.messages_failed,
        );
        assert_eq!(found, (skipped, 0, 0), "{what}");
        self.count(seen, what);
    }

    /// Each packet was delivered as often as the deaths and the hand-backs explain, and each item was called as often as
    /// the deliveries and its failures do.
    fn count(self, seen: &Seen, what: &str) {
        for item in 0..self.length() {
            let (deliveries, explained) = (seen.deliveries(item), seen.explained(item));
            assert!(
                deliveries <= explained,
                "{what}: {deliveries} deliveries of item {item}, at most {explained}"
            );
            let calls = seen.calls(item);
            let most = match Self::nature(item) {
                Nature::Good | Nature::Permanent => deliveries,
                Nature::Once => deliveries + 1,
                Nature::Always => deliveries * self.attempts,
            };
            let least = u32::from(self.policy != Policy::SkipUntilMended);
            assert!(
                (least..=most).contains(&calls),
                "{what}: {calls} calls of item {item}, at most {most}"
            );
        }
    }
}

/// Whether a list without repetitions has items of another one only, in their order.
fn is_part(list: &[u64], of: &[u64]) -> bool {
    let mut of = of.iter();
    list.iter().all(|item| of.any(|other| other == item))
}
