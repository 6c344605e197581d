//! Hooks that `catchment::testing::faults` has no wrapper for.

use std::collections::HashSet;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use catchment::Error;

use super::{Act, Call, Hook};

/// Every call yields to others a few times first, by the seed, so that schedules differ: calls to a
/// backend in memory are ready at once otherwise, and a whole submission would be one step.
pub(crate) struct Yields(Mutex<fastrand::Rng>);

impl Yields {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(fastrand::Rng::with_seed(seed)))
    }
}

#[async_trait]
impl Hook for Yields {
    async fn before(&self, _: &Call<'_>) -> Act {
        let yields = self.0.lock().unwrap().u32(0..3);
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        Act::Go
    }
}

/// Keeps every message that was sent: the queue's name and the body.
#[derive(Default)]
pub(crate) struct Record(Mutex<Vec<(String, Bytes)>>);

impl Record {
    pub(crate) fn sent(&self) -> Vec<(String, Bytes)> {
        self.0.lock().unwrap().clone()
    }

    /// The names of the queues that messages were sent to.
    pub(crate) fn queues(&self) -> HashSet<String> {
        self.sent().into_iter().map(|(queue, _)| queue).collect()
    }
}

#[async_trait]
impl Hook for Record {
    async fn before(&self, call: &Call<'_>) -> Act {
        if let Call::Send(queue, messages) = call {
            let sent = messages.iter();
            let sent = sent.map(|message| (queue.to_string(), message.body.clone()));
            self.0.lock().unwrap().extend(sent);
        }
        Act::Go
    }
}

/// An outage: a retryable error.
pub(crate) fn outage() -> Error {
    Error::unavailable("test", "an outage", "unplugged")
}

/// A hook that is a function of the call.
pub(crate) struct On<F>(pub(crate) F);

#[async_trait]
impl<F> Hook for On<F>
where
    F: Fn(&Call<'_>) -> Act + Send + Sync + 'static,
{
    async fn before(&self, call: &Call<'_>) -> Act {
        (self.0)(call)
    }
}
