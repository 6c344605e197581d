//! A small run, in all the ways that its messages may take, played with processes that die.

use std::time::Duration;

use catchment::testing::faults::Crash;
use catchment::{Backend, Backoff, Deployment, Error, Pipeline, Run, Stage, permanent};

use super::deaths::{self, Death, look};
use super::{Input, settles, submit};
use crate::common::*;

/// The steps of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Course {
    /// Map, reduce.
    Reduce,
    /// Map, reduce, and a second reduction of the result.
    Twice,
    /// An item that fails, a dead letter, a fixed function, a redrive: a process may die before and
    /// after the fix.
    Redrive,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) course: Course,
    pub(super) sealed_first: bool,
    pub(super) length: u64,
    pub(super) fan_in: u32,
}

impl Plan {
    fn input(self) -> Input {
        match self.sealed_first {
            true => Input::List,
            false => Input::Stream,
        }
    }

    /// All courses answer with what [`counting`] gives.
    fn deploy(self, backend: Backend, mended: bool) -> Deployment<u64, String> {
        // A message may be lost by each process that dies, and is delivered once more to the healthy one.
        let patient = || Stage::new().attempts(2).backoff(Backoff::none());
        let fan_in = || patient().fan_in(self.fan_in);
        let poison = match self.course {
            Course::Redrive if !mended => Some(self.length / 2),
            _ => None,
        };
        let words = Pipeline::new()
            .then(move |n: u64| async move {
                match poison {
                    Some(bad) if bad == n => Err(permanent("poison")),
                    _ => Ok(format!("{n} ")),
                }
            })
            .with(patient())
            .combine(Concat)
            .with(fan_in());
        let pipeline = match self.course {
            Course::Reduce | Course::Redrive => words,
            Course::Twice => words
                .flat_map(|all: String| {
                    let words = all.split_inclusive(' ').map(str::to_owned);
                    words.collect::<Vec<_>>()
                })
                .with(patient())
                .combine(Concat)
                .with(fan_in()),
        };
        pipeline.deploy("words", backend).unwrap()
    }

    /// A process that submits, works, and redrives failed messages once the function is fixed. It
    /// ends when the run does, or with the failure if the function is not fixed yet.
    async fn live(self, deployment: Deployment<u64, String>, mended: bool) -> Result<(), Error> {
        let _worker = deployment.worker().start();
        let run = submit(&deployment, self.length, self.input()).await?;
        loop {
            match run.result().await {
                Err(Error::Failed { .. }) if mended => drop(run.redrive().await?),
                Err(Error::Failed { .. }) => return Ok(()),
                result => return result.map(drop),
            }
        }
    }

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

pub(super) fn plans(lengths: &[u64]) -> Vec<Plan> {
    let mut plans = Vec::new();
    for course in [Course::Reduce, Course::Twice, Course::Redrive] {
        for sealed_first in [true, false] {
            for fan_in in [2, 3] {
                plans.extend(lengths.iter().map(|&length| Plan {
                    course,
                    sealed_first,
                    length,
                    fan_in,
                }));
            }
        }
    }
    plans
}
