//! Every item counts once, whichever call to the file a process dies at: the plans and deaths of the tests in memory.

#[path = "../exactly_once/deaths.rs"]
#[allow(dead_code, reason = "the tests in memory use all of it")]
mod deaths;
#[path = "../exactly_once/plan.rs"]
mod plan;
#[path = "../exactly_once/process.rs"]
mod process;

use std::time::Duration;

use catchment::queue::Depth;
use catchment::{Deployment, Result, Run, RunState};

use crate::common::*;
use deaths::{longest, on_all_cores};
use plan::{Plan, plans, single};

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

/// The result is right and stays so, and nothing is left over on any queue.
async fn settles(store: &Store, deployment: &Deployment<u64, String>, length: u64, what: &str) {
    let run = deployment.attach("run");
    let outcome = soon(run.outcome()).await;
    let outcome = outcome.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(
        (outcome.value, outcome.contains),
        (counting(length), length),
        "{what}"
    );
    // Longer than any message stays hidden.
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(store.depth(deployment).await, Depth::default(), "{what}");
    let status = run.status().await.unwrap();
    assert_eq!(status.state, RunState::Done, "{what}");
    assert_eq!(
        (status.items_done, status.messages_failed),
        (length, 0),
        "{what}"
    );
}

fn one_death(plans: &[Plan]) -> u64 {
    on_all_cores(plans, async |plan| (plan.course, single(*plan).await))
}

#[test]
fn one_death_at_any_call_of_a_run_of_two() {
    let mut plans = plans(&[2]);
    plans.retain(|plan| plan.sealed_first && plan.fan_in == 2);
    assert!(one_death(&plans) > 100);
}

#[test]
#[ignore = "takes long: cargo test --features sqlite --test sqlite any_small_run -- --ignored --nocapture"]
fn one_death_at_any_call_of_any_small_run() {
    let lengths: Vec<u64> = (1..=longest(6)).collect();
    assert!(one_death(&plans(&lengths)) > 2_000);
}
