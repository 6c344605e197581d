//! A small run, in all the ways that its messages may take, and a process that lives through it.

use catchment::{Backend, Backoff, Deployment, Error, Pipeline, Stage, permanent};

use super::{Input, submit};
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
    pub(super) fn deploy(self, backend: Backend, mended: bool) -> Deployment<u64, String> {
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
    pub(super) async fn live(
        self,
        deployment: Deployment<u64, String>,
        mended: bool,
    ) -> Result<(), Error> {
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
