//! Shared by the tests: one store that several processes are deployed over, and a hook on every
//! call between a process and the store.
#![allow(dead_code, reason = "each test uses a part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod faults;
mod hook;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use catchment::backends::memory::{MemoryQueues, MemoryScratchpad};
use catchment::queue::{Depth, Queue, QueueOptions, Queues};
use catchment::scratchpad::{RunSnapshot, Scratchpad};
use catchment::testing::faults::Crash;
use catchment::{Backend, BoxError, Combine, Context, Deployment, Items};

pub(crate) use faults::*;
pub(crate) use hook::*;

/// Longer than any run of these tests may take on the paused clock, retries included.
const STUCK: Duration = Duration::from_secs(12 * 60 * 60);

/// Awaits a future that must not hang: on a paused clock the limit is reached at once when nothing
/// moves.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(STUCK, work).await;
    done.expect("stuck: twelve hours on the paused clock and no end")
}

/// The queues and the scratchpad, which outlive every process.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) queues: Arc<MemoryQueues>,
    pub(crate) scratchpad: Arc<MemoryScratchpad>,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self::with_queues(MemoryQueues::new())
    }

    pub(crate) fn with_queues(queues: MemoryQueues) -> Self {
        Self {
            queues: Arc::new(queues),
            scratchpad: Arc::new(MemoryScratchpad::new()),
        }
    }

    pub(crate) fn backend(&self) -> Backend {
        Backend::new(self.queues.clone(), self.scratchpad.clone())
    }

    /// A backend over the same store, where each call asks the hook first.
    pub(crate) fn hooked(&self, hook: Arc<dyn Hook>) -> Backend {
        hooked(self.queues.clone(), self.scratchpad.clone(), hook)
    }

    /// A backend over the same store, for a process that dies as `crash` says.
    pub(crate) fn crashing(&self, crash: &Crash, seed: u64) -> Backend {
        self.crashing_hooked(crash, Arc::new(Yields::new(seed)))
    }

    /// The same, where each call asks the hook first.
    pub(crate) fn crashing_hooked(&self, crash: &Crash, hook: Arc<dyn Hook>) -> Backend {
        let queues = crash.queues(self.queues.clone());
        let scratchpad = crash.scratchpad(self.scratchpad.clone());
        hooked(queues, scratchpad, hook)
    }

    /// A backend over the same store, with these queues around its own.
    pub(crate) fn with(&self, wrap: impl FnOnce(Arc<dyn Queues>) -> Arc<dyn Queues>) -> Backend {
        Backend::new(wrap(self.queues.clone()), self.scratchpad.clone())
    }

    pub(crate) async fn queue(&self, name: &str) -> Arc<dyn Queue> {
        let options = QueueOptions::default();
        self.queues.open(name, &options).await.unwrap()
    }

    /// What is on record of a deployment's run.
    pub(crate) async fn recorded<I, R>(
        &self,
        deployment: &Deployment<I, R>,
        run: &str,
    ) -> RunSnapshot {
        let bound = self.scratchpad.bind(deployment.name()).unwrap();
        let status = bound.status(&run.into()).await.unwrap();
        status.expect("the run is known")
    }

    /// How many messages all of a deployment's queues hold together.
    pub(crate) async fn depth<I, R>(&self, deployment: &Deployment<I, R>) -> Depth {
        let mut sum = Depth::default();
        for stage in deployment.stages() {
            let queue = self.queue(&format!("{}--{stage}", deployment.name())).await;
            let depth = queue.depth().await.unwrap();
            sum.ready += depth.ready;
            sum.in_flight += depth.in_flight;
            sum.delayed += depth.delayed;
            sum.dead += depth.dead;
        }
        sum
    }
}

fn hooked(
    queues: Arc<dyn Queues>,
    scratchpad: Arc<dyn Scratchpad>,
    hook: Arc<dyn Hook>,
) -> Backend {
    Backend::new(
        Arc::new(Hooked::new(queues, Arc::clone(&hook))),
        Arc::new(Hooked::new(scratchpad, hook)),
    )
}

/// Concatenates: associative, and not commutative, so that items which are lost, counted twice or
/// out of order show. Asynchronous, so that a test on one thread is the same every time.
pub(crate) struct Concat;

impl Combine for Concat {
    type Input = String;
    type Output = String;

    fn identity(&self) -> String {
        String::new()
    }

    async fn fold(&self, items: Items<'_, String>, _: &Context) -> Result<String, BoxError> {
        Ok(items.collect())
    }

    async fn combine(&self, group: Vec<String>, _: &Context) -> Result<String, BoxError> {
        Ok(group.concat())
    }
}

/// `0 1 2 ` for 3.
pub(crate) fn counting(length: u64) -> String {
    (0..length).map(|n| format!("{n} ")).collect()
}

/// An asynchronous function that cannot fail, for `then`.
pub(crate) async fn ok<T>(value: T) -> Result<T, Infallible> {
    Ok(value)
}
