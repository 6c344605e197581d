//! The callback of a run inside the process.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::{Counters, Progress};
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

/// The calls of one run.
struct Calls<'a> {
    /// `None` once it has panicked.
    callback: Option<&'a Callback>,
    counters: &'a Counters,
    begin: Instant,
}

impl Calls<'_> {
    fn call(&mut self, state: RunState) {
        let Some(callback) = self.callback else {
            return;
        };
        let stages = self.counters.stages();
        let progress = Progress {
            elapsed: self.begin.elapsed(),
            state,
            items: self.counters.items(),
            left_out: stages.iter().filter_map(|stage| stage.left_out).sum(),
            stages,
        };
        if catch_unwind(AssertUnwindSafe(|| callback(&progress))).is_err() {
            tracing::error!(
                "the callback of `on_progress` panicked: the run goes on, and the callback is not called again"
            );
            self.callback = None;
        }
    }
}
