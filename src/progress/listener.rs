//! The callback of a run inside the process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "sqlite")]
use futures::{Stream, StreamExt};
use tokio::time::{Instant, MissedTickBehavior};

use super::{Counters, Progress};
#[cfg(feature = "sqlite")]
use crate::core::error::Error;
use crate::core::error::Result;
use crate::scratchpad::RunState;

/// Between two calls, unless set otherwise.
const EVERY: Duration = Duration::from_millis(250);
/// The shortest time between two calls.
const LEAST: Duration = Duration::from_millis(1);

type Callback = Arc<dyn Fn(&Progress) + Send + Sync>;

/// What is called with a run's progress, and how often.
#[derive(Clone)]
pub(crate) struct Listener {
    callback: Option<Callback>,
    every: Duration,
}

impl Default for Listener {
    /// Nothing is called.
    fn default() -> Self {
        Self {
            callback: None,
            every: EVERY,
        }
    }
}

impl Listener {
    pub(crate) fn set_callback(&mut self, callback: impl Fn(&Progress) + Send + Sync + 'static) {
        self.callback = Some(Arc::new(callback));
    }

    pub(crate) fn set_interval(&mut self, every: Duration) {
        self.every = every.max(LEAST);
    }

    /// Whether there is anything to call.
    pub(crate) fn is_listening(&self) -> bool {
        self.callback.is_some()
    }

    /// Waits for the end of a run, and reports what its `counters` say meanwhile and at the end.
    pub(crate) async fn watch<T>(
        &self,
        counters: &Counters,
        mut run: Pin<&mut (impl Future<Output = Result<T>> + ?Sized)>,
    ) -> Result<T> {
        let Some(callback) = &self.callback else {
            return run.await;
        };
        let begin = Instant::now();
        let mut calls = Calls {
            callback: Some(callback),
            counters,
            begin,
        };
        // A time too far for the clock never comes.
        let first = begin.checked_add(self.every);
        let mut ticks = first.map(|first| tokio::time::interval_at(first, self.every));
        if let Some(ticks) = &mut ticks {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let result = loop {
            let tick = async {
                match &mut ticks {
                    Some(ticks) => ticks.tick().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                result = run.as_mut() => break result,
                _ = tick => {}
            }
            calls.call(match counters.is_submitted() {
                true => RunState::Running,
                false => RunState::Open,
            });
        };
        calls.call(match &result {
            Ok(_) => RunState::Done,
            Err(_) => RunState::Failed,
        });
        result
    }
}

#[cfg(feature = "sqlite")]
impl Listener {
    /// The time between two calls.
    pub(crate) fn interval(&self) -> Duration {
        self.every
    }

    /// Waits for the end of a run, and reports the `updates` that come meanwhile; if the run is done or has failed, also
    /// those that are left, which end with it.
    pub(crate) async fn follow<T>(
        &self,
        updates: impl Stream<Item = Result<Progress>> + Unpin,
        mut run: Pin<&mut (impl Future<Output = Result<T>> + ?Sized)>,
    ) -> Result<T> {
        let Some(callback) = &self.callback else {
            return run.await;
        };
        let mut callback = Some(callback);
        let mut updates = updates.fuse();
        let result = loop {
            tokio::select! {
                biased;
                result = run.as_mut() => break result,
                Some(update) = updates.next() => match update {
                    Ok(progress) => call(&mut callback, &progress),
                    Err(error) => tracing::warn!(%error, "the progress of a run could not be read"),
                },
            }
        };
        if matches!(result, Ok(_) | Err(Error::Failed { .. })) {
            while let Some(Ok(progress)) = updates.next().await {
                call(&mut callback, &progress);
            }
        }
        result
    }
}

/// Calls back, unless that has panicked before.
fn call(callback: &mut Option<&Callback>, progress: &Progress) {
    let Some(call) = callback else { return };
    if catch_unwind(AssertUnwindSafe(|| call(progress))).is_err() {
        tracing::error!(
            "the callback of `on_progress` panicked: the run goes on, and the callback is not called again"
        );
        *callback = None;
    }
}

/// The calls of one run.
struct Calls<'a> {
    /// `None` once it has panicked.
    callback: Option<&'a Callback>,
    counters: &'a Counters,
    begin: Instant,
}

impl Calls<'_> {
    fn call(&mut self, state: RunState) {
        if self.callback.is_none() {
            return;
        }
        let stages = self.counters.stages();
        let progress = Progress {
            elapsed: self.begin.elapsed(),
            state,
            items: self.counters.items(),
            left_out: stages.iter().filter_map(|stage| stage.left_out).sum(),
            stages,
        };
        call(&mut self.callback, &progress);
    }
}
