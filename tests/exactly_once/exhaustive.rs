//! Every schedule of one death, and of two: the process dies at a call, before or after it took
//! effect, the next process dies at another, and a third is healthy. With a list the tree is sealed
//! before the packets are sent, with a stream after them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use catchment::testing::faults::{Crash, When};
use catchment::{Backend, Backoff, Deployment, Error, Pipeline, Run, Stage, permanent};

use super::{Input, settles, submit};
use crate::common::*;

/// The steps of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Course {
    /// Map, reduce.
    Reduce,
    /// Map, reduce, and a second reduction of the result.
    Twice,
    /// An item that fails, a dead letter, a fixed function, a redrive: a process may die before and
    /// after the fix.
    Redrive,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    course: Course,
    sealed_first: bool,
    length: u64,
    fan_in: u32,
}

/// Where a process dies.
#[derive(Clone, Copy, Debug)]
struct Death {
    at: u64,
    when: When,
}

const WHENS: [When; 2] = [When::Before, When::After];

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

    /// Runs the plan with processes that die as given, one after the other, and then with a healthy
    /// one. Returns whether the last of the given processes died, rather than lived to the end of
    /// the run.
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

    /// A process that died between burying and acknowledging may leave copies of a dead letter:
    /// they are redriven as well, and found to be late.
    async fn clear(self, store: &Store, deployment: &Deployment<u64, String>) {
        let run: Run<String> = deployment.attach("run");
        // A message that was being buried when its process died is delivered again after its
        // visibility timeout.
        tokio::time::sleep(Duration::from_secs(100)).await;
        while store.depth(deployment).await.dead > 0 {
            soon(run.redrive()).await.unwrap();
        }
    }
}

/// Somebody receives whatever waits at the stages, and gives it back: that costs no attempt.
async fn look(store: &Store, deployment: &Deployment<u64, String>) {
    for stage in deployment.stages() {
        let handler = deployment.handler(stage).unwrap();
        let queue = store.queue(handler.queue_name()).await;
        let seen = queue.receive(100, Duration::ZERO).await.unwrap();
        let receipts = seen.into_iter().map(|delivery| delivery.receipt);
        let released = queue.release(receipts.collect(), Duration::ZERO).await;
        released.unwrap();
    }
}

/// A death at every n-th call, before and after it took effect, until the process survives; if the
/// function is fixed on the way, of the process before the fix and of the one after it.
async fn single(plan: Plan) -> u64 {
    let none = Death {
        at: u64::MAX,
        when: When::Before,
    };
    let before: &[&[Death]] = match plan.course {
        Course::Redrive => &[&[], &[none]],
        Course::Reduce | Course::Twice => &[&[]],
    };
    let mut schedules = 0;
    for before in before {
        for when in WHENS {
            for at in 1.. {
                schedules += 1;
                if !plan
                    .play(&[before, &[Death { at, when }][..]].concat())
                    .await
                {
                    break;
                }
            }
        }
    }
    schedules
}

/// A death at every call of the second process, for one death of the first. `None` if the first
/// survives.
async fn pairs(plan: Plan, first: Death, stride: u64) -> Option<u64> {
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

fn plans(lengths: &[u64]) -> Vec<Plan> {
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

/// Runs tasks on as many threads as there are cores, each on a paused clock of its own, and prints
/// how many schedules each course had.
fn on_all_cores<T: Sync>(tasks: &[T], play: impl AsyncFn(&T) -> (Course, u64) + Sync) -> u64 {
    let next = AtomicUsize::new(0);
    let counts: Mutex<BTreeMap<Course, u64>> = Mutex::default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_time()
                        .start_paused(true)
                        .build();
                    let (course, schedules) = runtime.unwrap().block_on(play(task));
                    *counts.lock().unwrap().entry(course).or_default() += schedules;
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

#[test]
fn one_death_at_any_call_of_any_small_run() {
    let plans = plans(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let schedules = on_all_cores(&plans, async |plan| (plan.course, single(*plan).await));
    assert!(schedules > 5_000);
}

/// As many first deaths as a run of this plan can have, and then some.
fn first_deaths(plans: &[Plan]) -> Vec<(Plan, Death)> {
    let calls = |plan: &Plan| 40 + 30 * plan.length;
    let deaths = plans.iter().flat_map(|plan| {
        let deaths = (1..=calls(plan)).flat_map(|at| WHENS.map(|when| Death { at, when }));
        deaths.map(|death| (*plan, death))
    });
    deaths.collect()
}

fn two_deaths(lengths: &[u64], stride: u64) -> u64 {
    on_all_cores(&first_deaths(&plans(lengths)), async |(plan, first)| {
        (plan.course, pairs(*plan, *first, stride).await.unwrap_or(0))
    })
}

/// Every eleventh second death, by the first's number.
#[test]
fn two_deaths_at_some_calls_of_a_run_of_three() {
    assert!(two_deaths(&[3], 11) > 3_000);
}

/// `LONGEST=6` leaves out the longer runs, which take most of the time.
#[test]
#[ignore = "takes long: cargo test --release --test exactly_once every_two -- --ignored --nocapture"]
fn every_two_deaths_of_any_small_run() {
    let longest = std::env::var("LONGEST").map_or(9, |longest| longest.parse().unwrap());
    let lengths: Vec<u64> = (1..=longest).collect();
    assert!(two_deaths(&lengths, 1) > 10_000);
}
