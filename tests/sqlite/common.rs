//! What the tests in memory share, over files.

#[path = "../common/mod.rs"]
mod shared;

use std::sync::Arc;

use catchment::queue::{Depth, Queue, QueueOptions, Queues};
use catchment::scratchpad::Scratchpad;
use catchment::testing::faults::Crash;
use catchment::{Backend, Deployment};

pub(crate) use shared::*;

use crate::files::Folder;

/// A file on a paused clock, which outlives every process. It takes the place of the store in memory.
#[derive(Clone)]
pub(crate) struct Store {
    queues: Arc<dyn Queues>,
    scratchpad: Arc<dyn Scratchpad>,
    // Dropped last.
    _folder: Arc<Folder>,
}

impl Store {
    pub(crate) fn new() -> Self {
        let folder = Folder::new();
        let file = folder.simulated();
        Self {
            queues: Arc::new(file.queues()),
            scratchpad: Arc::new(file.scratchpad()),
            _folder: Arc::new(folder),
        }
    }

    pub(crate) fn backend(&self) -> Backend {
        Backend::new(self.queues.clone(), self.scratchpad.clone())
    }

    /// A backend over the same store, for a process that dies as `crash` says.
    pub(crate) fn crashing(&self, crash: &Crash, seed: u64) -> Backend {
        let hook: Arc<dyn Hook> = Arc::new(Yields::new(seed));
        let queues = crash.queues(self.queues.clone());
        let scratchpad = crash.scratchpad(self.scratchpad.clone());
        Backend::new(
            Arc::new(Hooked::new(queues, Arc::clone(&hook))),
            Arc::new(Hooked::new(scratchpad, hook)),
        )
    }

    pub(crate) async fn queue(&self, name: &str) -> Arc<dyn Queue> {
        let options = QueueOptions::default();
        self.queues.open(name, &options).await.unwrap()
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
