//! A worker's pieces of work: tasks of the runtime, or futures that its own task polls, if a task's
//! wake-ups would cost more than they bring.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use futures::StreamExt;
use futures::future::{AbortHandle, BoxFuture, Future, abortable};
use futures::stream::FuturesUnordered;
use tokio::task::JoinSet;

use crate::core::panic::panicked;

/// What polls a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drive {
    /// A task of its own.
    Spawned,
    /// The worker's own task.
    Inline,
}

#[derive(Default)]
pub(super) struct Crew {
    spawned: JoinSet<()>,
    inline: FuturesUnordered<BoxFuture<'static, Result<(), Panic>>>,
}

type Panic = Box<dyn Any + Send>;

/// Stops a piece of work.
pub(super) enum Stop {
    Spawned(tokio::task::AbortHandle),
    Inline(AbortHandle),
}

impl Stop {
    pub(super) fn stop(&self) {
        match self {
            Self::Spawned(task) => task.abort(),
            Self::Inline(future) => future.abort(),
        }
    }
}

impl Crew {
    /// Begins a piece of work.
    pub(super) fn begin(
        &mut self,
        work: impl Future<Output = ()> + Send + 'static,
        drive: Drive,
    ) -> Stop {
        if drive == Drive::Spawned {
            return Stop::Spawned(self.spawned.spawn(work));
        }
        let (work, stop) = abortable(work);
        let work = AssertUnwindSafe(work).catch_unwind();
        // Work that was stopped has ended, too.
        self.inline.push(work.map(|ended| ended.map(drop)).boxed());
        Stop::Inline(stop)
    }

    /// Waits until a piece of work has ended; `None` if there is none. Cancelled, it has missed
    /// nothing.
    pub(super) async fn ended(&mut self) -> Option<()> {
        let panic = tokio::select! {
            biased;
            Some(ended) = self.inline.next() => ended.err(),
            Some(ended) = self.spawned.join_next() => ended
                .err()
                .and_then(|error| error.try_into_panic().ok()),
            else => return None,
        };
        if let Some(panic) = panic {
            let error = panicked(panic);
            tracing::error!(%error, "the engine panicked; the messages come back: please report this");
        }
        Some(())
    }

    pub(super) fn stop(&mut self) {
        self.spawned.abort_all();
        self.inline.clear();
    }

    /// Stops everything, and waits until nothing runs any more.
    pub(super) async fn shutdown(&mut self) {
        self.inline.clear();
        self.spawned.shutdown().await;
    }
}
