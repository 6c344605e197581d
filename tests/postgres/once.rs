//! Every item counts once, whichever call to the database a process dies at, and whatever else goes wrong with calls: the
//! plans and deaths of the tests in memory.
//!
//! There is no paused clock for a server. Where time has to pass, until what a dead process has held is visible again, the
//! test moves the messages' times instead.

#[path = "../exactly_once/deaths.rs"]
#[allow(dead_code, reason = "the tests in memory use all of it")]
mod deaths;
#[path = "../exactly_once/process.rs"]
mod process;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use catchment::queue::Depth;
use catchment::testing::faults::{Chaos, Crash, Rates};
use catchment::{Backoff, Deployment, Pipeline, Result, Run, RunState, Stage};

use crate::common::{Concat, Store, counting, ok};
use deaths::{Death, longest, look};
use process::{Course, Plan, plans};

/// Schedules that are played side by side, each in a schema of its own.
const AT_ONCE: usize = 8;
/// How long anything may take.
const STUCK: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    List,
    Stream,
}

async fn submit(
    deployment: &Deployment<u64, String>,
    length: u64,
    input: Input,
) -> Result<Run<String>> {
    match input {
        Input::List => deployment.submit_as("run", 0..length).await,
        Input::Stream => {
            let items = futures::stream::iter(0..length);
            deployment.submit_stream_as("run", items).await
        }
    }
}

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(STUCK, work).await;
    done.unwrap_or_else(|_| panic!("{what}: stuck"))
}

/// A plan over the tables of a schema.
#[derive(Clone, Copy, Debug)]
struct Stored<'a> {
    plan: Plan,
    store: &'a Store,
}

impl deaths::Plan for Stored<'_> {
    async fn play(self, deaths: &[Death]) -> bool {
        let Self { plan, store } = self;
        let what = format!("{plan:?}, {deaths:?}");
        store.clear().await;
        let mut died = true;
        for (process, death) in deaths.iter().enumerate() {
            let mended = process > 0;
            let crash = Crash::new(Some(death.at), death.when);
            let doomed = plan.deploy(store.crashing(&crash), mended);
            let life = async {
                tokio::select! {
                    biased;
                    () = crash.crashed() => true,
                    _ = plan.live(doomed, mended) => crash.has_crashed(),
                }
            };
            died = soon(&what, life).await;
            store.time_passes().await;
        }
        let healthy = plan.deploy(store.backend(), true);
        look(store, &healthy).await;
        soon(&what, plan.live(healthy.clone(), true))
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        soon(&what, settles(store, &healthy, plan.length, &what)).await;
        died
    }
}

/// The result is right and stays so, and nothing is left over on any queue.
async fn settles(store: &Store, deployment: &Deployment<u64, String>, length: u64, what: &str) {
    store.time_passes().await;
    let run: Run<String> = deployment.attach("run");
    let worker = deployment.worker().start();
    let mut rounds = 0;
    loop {
        let depth = store.depth().await;
        if depth == Depth::default() {
            break;
        }
        if depth == Depth::new().dead(depth.dead) {
            // A process that died between burying and acknowledging leaves copies of a dead letter: they are redriven as
            // well, and found to be late. Or its record had gone when a process submitted it once more: they are of the run
            // before.
            if run.redrive().await.unwrap().redriven == 0 {
                deployment.redrive().await.unwrap();
            }
        }
        rounds += 1;
        if rounds % 200 == 0 {
            // A worker that was stopped still had it.
            store.time_passes().await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let outcome = run.outcome().await;
    let outcome = outcome.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(
        (outcome.value, outcome.contains),
        (counting(length), length),
        "{what}"
    );
    let status = run.status().await.unwrap();
    assert_eq!(status.state, RunState::Done, "{what}");
    assert_eq!(
        (status.items_done, status.messages_failed),
        (length, 0),
        "{what}"
    );
    worker.shutdown().await;
}

/// One death in the run; if the function is fixed on the way, of the process before the fix and of the one after it.
async fn single(plan: Stored<'_>) -> u64 {
    let mut schedules = deaths::single(plan, &[]).await;
    if plan.plan.course == Course::Redrive {
        schedules += deaths::single(plan, &[Death::NONE]).await;
    }
    schedules
}

/// Plays all plans, some at a time, and returns how many schedules that were.
async fn one_death(plans: &[Plan]) -> u64 {
    let next = AtomicUsize::new(0);
    let counts: Mutex<BTreeMap<Course, u64>> = Mutex::default();
    let lanes = (0..AT_ONCE).map(|_| async {
        let store = Store::new().await;
        for course in [Course::Reduce, Course::Twice] {
            let plan = plans.iter().find(|plan| plan.course == course);
            if let Some(plan) = plan {
                let deployment = plan.deploy(store.backend(), true);
                deployment.provision().await.unwrap();
            }
        }
        while let Some(plan) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
            let store = &store;
            let schedules = single(Stored { plan: *plan, store }).await;
            *counts.lock().unwrap().entry(plan.course).or_default() += schedules;
        }
    });
    futures::future::join_all(lanes).await;
    let counts = counts.into_inner().unwrap();
    println!("schedules: {counts:?}");
    counts.values().sum()
}

#[tokio::test]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn one_death_at_any_call_of_a_small_run() {
    let lengths: Vec<u64> = (1..=longest(6)).collect();
    let mut plans = plans(&lengths);
    if std::env::var_os("LONGEST").is_none() {
        // The longer ones in one of the four ways to submit and to reduce them.
        plans.retain(|plan| plan.length <= 2 || (plan.sealed_first && plan.fan_in == 2));
        plans.retain(|plan| plan.length <= 3 || plan.course == Course::Reduce);
    }
    assert!(one_death(&plans).await > 400);
}

/// Calls fail before or after they took effect, messages are delivered twice, late, and while another delivery of them is
/// worked on.
#[tokio::test]
#[ignore = "needs the PostgreSQL that scripts/test starts"]
async fn calls_and_messages_go_astray() {
    const LENGTH: u64 = 40;
    let deploy = |backend| {
        let patient = || Stage::new().attempts(1_000).backoff(Backoff::none());
        let words = Pipeline::new()
            .then(|n: u64| ok(format!("{n} ")))
            .with(patient());
        let words = words.combine(Concat).with(patient().fan_in(3));
        words.deploy("words", backend).unwrap()
    };
    let store = Store::new().await;
    let healthy = deploy(store.backend());
    healthy.provision().await.unwrap();
    // Calls that take long would be waited for.
    let mut rates = Rates::default();
    (rates.slow, rates.stalled) = (0.0, 0.0);
    for seed in 0..8 {
        store.clear().await;
        let what = format!("seed {seed}");
        let chaos = Chaos::new(seed, rates);
        let troubled = store.with(|inner| chaos.queues(inner), |inner| chaos.scratchpad(inner));
        let troubled = deploy(troubled);
        let life = async {
            let _worker = troubled.worker().start();
            let run = submit(&troubled, LENGTH, Input::List).await.unwrap();
            run.result().await.unwrap()
        };
        let lapses = async {
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                store.time_passes().await;
            }
        };
        let result = async {
            tokio::select! {
                result = life => result,
                () = lapses => unreachable!(),
            }
        };
        assert_eq!(soon(&what, result).await, counting(LENGTH), "{what}");
        assert!(chaos.counts().values().sum::<u64>() > 10, "{what}");
        soon(&what, settles(&store, &healthy, LENGTH, &what)).await;
    }
}
