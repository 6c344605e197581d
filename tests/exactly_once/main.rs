//! Every item contributes exactly once, whatever is delivered twice, late, out of order, or to a
//! worker that dies at any instruction.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../common/mod.rs"]
mod common;

mod bad_items;
mod crashes;
mod deaths;
mod duplicates;
mod exhaustive;
mod heartbeats;
mod plan;
mod process;
mod same_items;
mod submitting;

use std::time::Duration;

use catchment::queue::Depth;
use catchment::{Backend, Backoff, Deployment, Pipeline, Result, Run, RunState, Stage};

use common::*;

/// Pipelines, by the ways their messages take.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Map, reduce.
    Reduce,
    /// Map, map, reduce, and a map that finishes.
    Finish,
    /// Map, reduce, flat_map, and a second reduce.
    Twice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    List,
    Stream,
}

/// All of them answer with what [`counting`] gives.
fn deploy(shape: Shape, fan_in: u32, backend: Backend) -> Deployment<u64, String> {
    // A worker may die more often than a message usually has attempts.
    let patient = || Stage::new().attempts(1_000).backoff(Backoff::none());
    let fan_in = || patient().fan_in(fan_in);
    let words = Pipeline::new()
        .then(|n: u64| ok(format!("{n} ")))
        .with(patient());
    let pipeline = match shape {
        Shape::Reduce => words.combine(Concat).with(fan_in()),
        Shape::Finish => words
            .then(ok)
            .with(patient())
            .combine(Concat)
            .with(fan_in())
            .then(ok)
            .with(patient()),
        Shape::Twice => words
            .combine(Concat)
            .with(fan_in())
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
    let result = soon(run.result()).await;
    let result = result.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(result, counting(length), "{what}");
    // Longer than any message stays hidden.
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(store.depth(deployment).await, Depth::default(), "{what}");
    let status = run.status().await.unwrap();
    assert_eq!(status.state, RunState::Done, "{what}");
    assert_eq!(status.items_done, length, "{what}");
    assert_eq!(status.messages_failed, 0, "{what}");
    let again = deployment.attach("run").outcome().await.unwrap();
    assert_eq!(
        (again.value, again.contains),
        (counting(length), length),
        "{what}"
    );
}
