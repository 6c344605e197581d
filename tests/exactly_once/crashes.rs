//! Processes that die, at any call and at any poll.

use std::sync::Arc;
use std::time::Duration;

use catchment::testing::faults::{Crash, When};
use catchment::{Backend, Backoff, Pipeline, RunState, Stage};

use super::*;
use crate::common::*;

/// Which process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    /// A process that submits and works.
    Both,
    Worker,
    Submitter,
}

#[derive(Clone, Copy, Debug)]
struct Scenario {
    shape: Shape,
    input: Input,
    victim: Victim,
    length: u64,
    fan_in: u32,
}

impl Scenario {
    /// Runs it with a process that dies at that call, then with healthy ones. Returns whether it
    /// died.
    async fn play(self, at: u64, when: When) -> bool {
        let Self {
            shape,
            input,
            victim,
            length,
            fan_in,
        } = self;
        let what = format!("{self:?}, dies {when:?} call {at}");
        let store = Store::new();
        let crash = Crash::new(Some(at), when);
        let seed = at ^ length << 16 ^ u64::from(fan_in) << 32;
        let doomed = deploy(shape, fan_in, store.crashing(&crash, seed));
        let healthy = deploy(shape, fan_in, store.backend());

        let worker = match victim {
            Victim::Submitter => healthy.worker().start(),
            Victim::Both | Victim::Worker => doomed.worker().start(),
        };
        let submitter = match victim {
            Victim::Worker => healthy.clone(),
            Victim::Both | Victim::Submitter => doomed.clone(),
        };
        let submission = tokio::spawn(async move { submit(&submitter, length, input).await });
        let calm = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            crash.has_crashed()
        };
        let died = tokio::select! {
            biased;
            () = crash.crashed() => true,
            died = calm => died,
        };
        match victim {
            Victim::Worker => drop(soon(submission).await.unwrap().unwrap()),
            Victim::Both | Victim::Submitter if died => submission.abort(),
            Victim::Both | Victim::Submitter => drop(soon(submission).await.unwrap().unwrap()),
        }
        if !died {
            // Now and then it was so all along.
            settles(&store, &healthy, length, &what).await;
            return false;
        }
        let worker = match victim {
            Victim::Submitter => worker,
            Victim::Both | Victim::Worker => {
                drop(worker);
                healthy.worker().start()
            }
        };
        if victim != Victim::Worker {
            soon(submit(&healthy, length, input)).await.unwrap();
        }
        settles(&store, &healthy, length, &what).await;
        drop(worker);
        true
    }
}

/// Runs the scenario with a death at every call to the backend, before and after it took effect.
async fn every_crash(scenario: Scenario) -> u64 {
    let mut schedules = 0;
    for when in [When::Before, When::After] {
        for at in 1.. {
            schedules += 1;
            if !scenario.play(at, when).await {
                break;
            }
        }
    }
    schedules
}

async fn every_length(shape: Shape, input: Input, victim: Victim, lengths: &[u64]) {
    let mut schedules = 0;
    for &length in lengths {
        for fan_in in [2, 3] {
            let scenario = Scenario {
                shape,
                input,
                victim,
                length,
                fan_in,
            };
            schedules += every_crash(scenario).await;
        }
    }
    println!("{shape:?}, {input:?}, {victim:?} dies: {schedules} schedules");
    assert!(schedules > 100);
}

const ALL: [u64; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];

/// Empty, one, an odd one out, and both fan-ins' exact powers.
const SOME: [u64; 4] = [0, 1, 4, 9];

macro_rules! crashes {
    ($($name:ident: $shape:ident, $input:ident, $victim:ident, $lengths:ident;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            every_length(Shape::$shape, Input::$input, Victim::$victim, &$lengths).await;
        }
    )*};
}

crashes! {
    a_list_survives_a_process_that_dies_anywhere: Reduce, List, Both, ALL;
    a_stream_survives_a_process_that_dies_anywhere: Reduce, Stream, Both, ALL;
    a_list_survives_a_worker_that_dies_anywhere: Reduce, List, Worker, SOME;
    a_stream_survives_a_worker_that_dies_anywhere: Reduce, Stream, Worker, SOME;
    a_list_survives_a_submitter_that_dies_anywhere: Reduce, List, Submitter, ALL;
    a_stream_survives_a_submitter_that_dies_anywhere: Reduce, Stream, Submitter, ALL;
    many_stages_survive_a_process_that_dies_anywhere: Finish, List, Both, SOME;
    many_stages_survive_a_worker_that_dies_anywhere: Finish, Stream, Worker, SOME;
    two_reductions_survive_a_process_that_dies_anywhere: Twice, Stream, Both, SOME;
    two_reductions_survive_a_submitter_that_dies_anywhere: Twice, List, Submitter, SOME;
}

/// One process dies, the next does, the third is healthy: every pair of calls, for a small tree of
/// two levels.
#[tokio::test(start_paused = true)]
async fn two_processes_that_die_one_after_the_other_lose_nothing() {
    let mut schedules = 0;
    for (first_when, second_when) in [(When::Before, When::After), (When::After, When::Before)] {
        for first in (1..).step_by(2) {
            let mut first_died = true;
            for second in (1 + first % 3..).step_by(3) {
                let store = Store::new();
                let mut died = Vec::new();
                for (at, when) in [(first, first_when), (second, second_when)] {
                    let crash = Crash::new(Some(at), when);
                    let doomed = deploy(Shape::Reduce, 2, store.crashing(&crash, first));
                    let worker = doomed.worker().start();
                    let submission =
                        tokio::spawn(async move { submit(&doomed, 3, Input::Stream).await });
                    let calm = tokio::time::sleep(Duration::from_secs(40));
                    died.push(tokio::select! {
                        biased;
                        () = crash.crashed() => true,
                        () = calm => false,
                    });
                    submission.abort();
                    drop(worker);
                }
                let healthy = deploy(Shape::Reduce, 2, store.backend());
                let worker = healthy.worker().start();
                soon(submit(&healthy, 3, Input::Stream)).await.unwrap();
                let what = format!("dies {first_when:?} {first}, then {second_when:?} {second}");
                settles(&store, &healthy, 3, &what).await;
                drop(worker);
                schedules += 1;
                first_died = died[0];
                if !died[1] {
                    break;
                }
            }
            if !first_died {
                break;
            }
        }
    }
    println!("{schedules} schedules of two deaths");
    assert!(schedules > 100);
}

/// Like a crash, but at any poll of the worker's task rather than at a call: workers are dropped,
/// one after the other, after the test has yielded a random number of times.
#[tokio::test(start_paused = true)]
async fn workers_dropped_at_any_poll_lose_nothing() {
    let mut dropped = 0;
    for seed in 0..150 {
        let mut random = fastrand::Rng::with_seed(seed);
        let shape = [Shape::Reduce, Shape::Finish, Shape::Twice][random.usize(0..3)];
        let length = random.u64(1..40);
        let store = Store::new();
        let deployment = deploy(
            shape,
            random.u32(2..5),
            store.hooked(Arc::new(Yields::new(seed))),
        );
        submit(&deployment, length, Input::List).await.unwrap();
        let run = deployment.attach("run");
        while run.status().await.unwrap().state == RunState::Running {
            let worker = deployment.worker().start();
            for _ in 0..random.u32(0..60) {
                tokio::task::yield_now().await;
            }
            drop(worker);
            dropped += 1;
            tokio::time::sleep(Duration::from_secs(31)).await;
        }
        let worker = deployment.worker().start();
        settles(&store, &deployment, length, &format!("seed {seed}")).await;
        drop(worker);
    }
    println!("{dropped} workers dropped");
    assert!(dropped > 100);
}

/// Workers that stop without a grace period, on real threads: their work is repeated elsewhere
/// while its own thread may still be running.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_that_stop_without_grace_lose_nothing() {
    let mut shifts = 0;
    for round in 0..20u32 {
        let progress = Arc::new(tokio::sync::Semaphore::new(0));
        let done = Arc::clone(&progress);
        let patient = || Stage::new().attempts(1_000_000).backoff(Backoff::none());
        let deployment = Pipeline::new()
            .map(move |n: u64| {
                done.add_permits(1);
                format!("{n} ")
            })
            .with(patient().packet_size(1 + round % 3))
            .reduce(String::new, |a, b| a + &b)
            .with(patient().fan_in(2 + round % 4))
            .deploy("grace", Backend::memory())
            .unwrap();
        let run = deployment.submit_as("run", 0..300).await.unwrap();
        while run.status().await.unwrap().state == RunState::Running {
            let worker = || {
                deployment
                    .worker()
                    .grace_period(Duration::ZERO)
                    .concurrency(4)
            };
            let workers = [worker().start(), worker().start()];
            // Until some more items were worked on, or there are none left to wait for.
            tokio::select! {
                permits = progress.acquire_many(20) => permits.unwrap().forget(),
                _ = run.result() => {}
            }
            for worker in workers {
                worker.shutdown().await;
            }
            shifts += 1;
        }
        assert_eq!(run.result().await.unwrap(), counting(300), "round {round}");
    }
    println!("{shifts} shifts");
    assert!(shifts > 40);
}
