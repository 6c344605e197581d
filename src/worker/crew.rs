//! What a worker has under way: tasks of the runtime, or futures that its own task polls, where a task's wake-ups would
//! cost more than they bring.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use futures::StreamExt;
use futures::future::{AbortHandle, BoxFuture, Future, abortable};
use futures::stream::FuturesUnordered;
use tokio::task::JoinSet;

use crate::core::panic::panicked;

#[derive(Default)]
pub(super) struct Crew {
    spawned: JoinSet<()>,
    here: FuturesUnordered<BoxFuture<'static, Result<(), Panic>>>,
}

type Panic = Box<dyn Any + Send>;

/// Stops a piece of work.
pub(crate) enum Stop {
    Spawned(tokio::task::AbortHandle),
    Here(AbortHandle),
}

impl Stop {
    pub(crate) fn stop(&self) {
        match self {
            Self::Spawned(task) => task.abort(),
            Self::Here(future) => future.abort(),
        }
    }
}

impl Crew {
    /// Begins a piece of work.
    pub(super) fn begin(
        &mut self,
        work: impl Future<Output = ()> + Send + 'static,
        here: bool,
    ) -> Stop {
        if !here {
            return Stop::Spawned(self.spawned.spawn(work));
        }
        let (work, stop) = abortable(work);
        let work = AssertUnwindSafe(work).catch_unwind();
        // One that was stopped has ended.
        self.here.push(work.map(|ended| ended.map(drop)).boxed());
        Stop::Here(stop)
    }

    /// Waits until some work has ended; `None` where nothing is under way. Cancelled, it has missed nothing.
    pub(super) async fn ended(&mut self) -> Option<()> {
        let panic = tokio::select! {
            biased;
            Some(ended) = self.here.next() => ended.err(),
            Some(ended) = self.spawned.join_next() => ended
                .err()
                .and_then(|error| error.try_into_panic().ok()),
            else => return None,
        };
        if let Some(panic) = panic {
            let error = panicked(panic.as_ref());
            tracing::error!(%error, "the engine panicked; the messages come back: please report this");
        }
        Some(())
    }

    pub(super) fn stop(&mut self) {
        self.spawned.abort_all();
        self.here.clear();
    }

    /// Stops everything, and waits until nothing runs any more.
    pub(super) async fn shutdown(&mut self) {
        self.here.clear();
        self.spawned.shutdown().await;
    }
}
