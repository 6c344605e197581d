//! A small run, played with processes that die.

use std::time::Duration;

use catchment::testing::faults::Crash;
use catchment::{Deployment, Run};

use super::deaths::{self, Death, look};
pub(super) use super::process::{Course, Plan, plans};
use super::settles;
use crate::common::*;

impl Plan {
    /// A process that died between burying and acknowledging may leave copies of a dead letter:
    /// they are redriven as well, and found to be late.
    async fn clear(self, store: &Store, deployment: &Deployment<u64, String>) {
        let run: Run<String> = deployment.attach("run");
        // A message that was being buried when its process died is delivered again after its
        // visibility timeout.
        tokio::time::sleep(Duration::from_secs(100)).await;
        while store.depth(deployment).await.dead > 0 {
            if soon(run.redrive()).await.unwrap().redriven == 0 {
                // Its record had gone when a process submitted it once more: they are of the run before.
                soon(deployment.redrive()).await.unwrap();
            }
        }
    }
}

impl deaths::Plan for Plan {
    async fn play(self, deaths: &[Death]) -> bool {
        let what = format!("{self:?}, {deaths:?}");
        let store = Store::new();
        let mut died = true;
        for (process, death) in deaths.iter().enumerate() {
            let mended = process > 0;
            let crash = Crash::new(Some(death.at), death.when);
            let doomed = self.deploy(store.crashing(&crash, death.at), mended);
            let life = tokio::spawn(self.live(doomed, mended));
            let watched = async {
                tokio::select! {
                    biased;
                    () = crash.crashed() => true,
                    // Late messages may still be under way, and the process may die at one of them.
                    () = tokio::time::sleep(Duration::from_secs(100)) => crash.has_crashed(),
                }
            };
            died = soon(watched).await;
            life.abort();
        }
        let healthy = self.deploy(store.backend(), true);
        for _ in 0..3 {
            look(&store, &healthy).await;
        }
        soon(self.live(healthy.clone(), true))
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let worker = healthy.worker().start();
        if self.course == Course::Redrive {
            self.clear(&store, &healthy).await;
        }
        settles(&store, &healthy, self.length, &what).await;
        drop(worker);
        died
    }
}

/// One death in the run; if the function is fixed on the way, of the process before the fix and of
/// the one after it.
pub(super) async fn single(plan: Plan) -> u64 {
    let mut schedules = deaths::single(plan, &[]).await;
    if plan.course == Course::Redrive {
        schedules += deaths::single(plan, &[Death::NONE]).await;
    }
    schedules
}
