//! The HTTP API: every endpoint, every status, every bad input. Each answer is checked against the
//! OpenAPI document.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../common/mod.rs"]
mod common;

mod aside;
mod bad;
mod bodies;
mod client;
mod discard;
mod document;
mod ids;
mod mount;
mod outage;
mod progress;
mod runs;
mod schema;
mod submit;
mod tcp;
mod trust;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use catchment::{Backend, Deployment, Pipeline, Stage, permanent};

use client::Client;
use common::*;

type Adder = Deployment<i64, i64>;

/// Doubles numbers and adds them up. Numbers above the limit fail permanently, until the limit is
/// raised.
fn adder(backend: Backend) -> (Adder, Arc<AtomicI64>) {
    adder_with(backend, Stage::named("times_two"))
}

fn adder_with(backend: Backend, stage: Stage) -> (Adder, Arc<AtomicI64>) {
    let limit = Arc::new(AtomicI64::new(100));
    let read = Arc::clone(&limit);
    let pipeline = Pipeline::new()
        .then(move |n: i64| {
            let limit = read.load(SeqCst);
            async move {
                match n > limit {
                    true => Err(permanent(format!("{n} is above {limit}"))),
                    false => Ok(n * 2),
                }
            }
        })
        .with(stage)
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("sum"));
    (pipeline.deploy("adder", backend).unwrap(), limit)
}

/// An adder in memory with its API, and no worker.
fn idle() -> (Client, Adder) {
    let (adder, _) = adder(Backend::memory());
    (Client::new(adder.router()), adder)
}
