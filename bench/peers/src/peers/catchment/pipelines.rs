//! The pipeline of each job.

use std::convert::Infallible;

use catchment::pipeline::One;
use catchment::{Pipeline, Stage};

use crate::peers::IN_FLIGHT;
use crate::task::{Chain, Double, Fetch, Nap, Records, Task, Words, Work, nap};

/// A task as a pipeline. Most are one map and one reduction.
pub(super) trait Pipelined: Task {
    /// The pipeline, whose first stage has these options.
    fn pipeline(self, options: Stage) -> Pipeline<Self::Item, i64, One> {
        Pipeline::new()
            .map(move |item: Self::Item| self.apply(item))
            .with(options)
            .reduce(|| 0, i64::wrapping_add)
    }
}

impl Pipelined for Double {}
impl Pipelined for Work {}
impl Pipelined for Words {}

impl Pipelined for Nap {
    fn pipeline(self, options: Stage) -> Pipeline<i64, i64, One> {
        Pipeline::new()
            .then(|n: i64| async move { Ok::<_, Infallible>(nap(n).await) })
            .with(options.concurrency(IN_FLIGHT))
            .reduce(|| 0, i64::wrapping_add)
    }
}

impl Pipelined for Fetch {
    fn pipeline(self, options: Stage) -> Pipeline<i64, i64, One> {
        Pipeline::new()
            .then(|n: i64| async move { Ok::<_, Infallible>(nap(n).await) })
            .with(options.concurrency(IN_FLIGHT))
            .map(Self::then)
            .reduce(|| 0, i64::wrapping_add)
    }
}

impl Pipelined for Records {
    fn pipeline(self, options: Stage) -> Pipeline<Self::Item, i64, One> {
        Pipeline::new()
            .map(Self::scale)
            .with(options)
            .fold(|| 0, Self::add, i64::wrapping_add)
    }
}

impl Pipelined for Chain {
    /// Options would end the stage, so they follow the last function.
    fn pipeline(self, options: Stage) -> Pipeline<i64, i64, One> {
        Pipeline::new()
            .map(Self::first)
            .filter(Self::keeps)
            .map(Self::last)
            .with(options)
            .reduce(|| 0, i64::wrapping_add)
    }
}

/// [`Double`] in two stages: a queue between them is asked for, by a name for the first.
pub(super) fn apart() -> Pipeline<i64, i64, One> {
    Pipeline::new()
        .map(|n| Double.apply(n))
        .with(Stage::named("a"))
        .map(std::hint::black_box)
        .with(Stage::named("b"))
        .reduce(|| 0, i64::wrapping_add)
}
