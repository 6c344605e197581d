//! Everything at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::around::{Around, Wrapped};
use super::hooks::{HookedQueue, HookedQueues, Hooks, Named};
use crate::core::error::{Error, Result};
use crate::queue::{Delivery, Outgoing, Queue, Queues, Receipt};
use crate::scratchpad::Scratchpad;

/// Messages that may still be acknowledged, and come back all the same.
const REMEMBERED: usize = 256;

/// How likely each fault of [`Chaos`] is: at each call, or for each message. The default is a bad day.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Rates {
    /// A call fails with a retryable error and has no effect.
    pub throttled: f64,
    /// A call has its effect and fails with a retryable error.
    pub reply_lost: f64,
    /// A call takes up to two seconds longer.
    pub slow: f64,
    /// A call takes 31 to 90 seconds longer, which is past the default visibility timeout.
    pub stalled: f64,
    /// A message is sent twice.
    pub duplicated: f64,
    /// A copy of a message comes after it has been acknowledged.
    pub revived: f64,
    /// Received messages change places.
    pub reordered: f64,
    /// An acknowledgement succeeds without effect: the service has forgotten it.
    pub acknowledgement_lost: f64,
    /// A heartbeat succeeds without effect.
    pub heartbeat_lost: f64,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            throttled: 0.03,
            reply_lost: 0.03,
            slow: 0.1,
            stalled: 0.01,
            duplicated: 0.1,
            revived: 0.05,
            reordered: 0.5,
            acknowledgement_lost: 0.05,
            heartbeat_lost: 0.3,
        }
    }
}

impl Rates {
    /// No fault at all.
    pub fn none() -> Self {
        Self {
            throttled: 0.0,
            reply_lost: 0.0,
            slow: 0.0,
            stalled: 0.0,
            duplicated: 0.0,
            revived: 0.0,
            reordered: 0.0,
            acknowledgement_lost: 0.0,
            heartbeat_lost: 0.0,
        }
    }
}

/// A backend where everything that can go wrong does, by a seed: see [`Rates`]. On tokio's clock, and with one thread, the
/// same seed and the same calls give the same faults. Cloning gives another handle on the same draws and counts.
///
/// ```
/// use std::sync::Arc;
/// use catchment::backends::memory::{MemoryQueues, MemoryScratchpad};
/// use catchment::testing::faults::{Chaos, Rates};
/// use catchment::{Backend, Pipeline};
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true)
/// # .build().unwrap().block_on(async {
/// let chaos = Chaos::new(42, Rates::default());
/// let backend = Backend::new(
///     chaos.queues(Arc::new(MemoryQueues::new())),
///     chaos.scratchpad(Arc::new(MemoryScratchpad::new())),
/// );
/// let sum = Pipeline::new()
///     .then(|n: u64| async move { Ok::<_, std::convert::Infallible>(n * 2) })
///     .reduce(|| 0, |a, b| a + b)
///     .deploy("sum", backend)?;
/// let _worker = sum.worker().start();
/// assert_eq!(sum.submit(1..=100).await?.result().await?, 10_100);
/// assert!(chaos.counts().values().sum::<u64>() > 0);
/// # Ok::<_, catchment::Error>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Chaos {
    rates: Rates,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    random: fastrand::Rng,
    counts: BTreeMap<&'static str, u64>,
    /// Messages of which a copy comes once they are acknowledged.
    to_revive: BTreeMap<(Arc<str>, Receipt), Outgoing>,
}

impl Chaos {
    /// With these rates, drawn from this seed.
    pub fn new(seed: u64, rates: Rates) -> Self {
        Self {
            rates,
            state: Arc::new(Mutex::new(State {
                random: fastrand::Rng::with_seed(seed),
                counts: BTreeMap::new(),
                to_revive: BTreeMap::new(),
            })),
        }
    }

    /// Queues with these faults.
    pub fn queues(&self, inner: Arc<dyn Queues>) -> Arc<dyn Queues> {
        let inner = Arc::new(HookedQueues {
            hooks: self.clone(),
            inner,
        });
        let fault = self.clone();
        Arc::new(Wrapped::<_, dyn Queues> { fault, inner })
    }

    /// A scratchpad with these faults.
    pub fn scratchpad(&self, inner: Arc<dyn Scratchpad>) -> Arc<dyn Scratchpad> {
        let fault = self.clone();
        Arc::new(Wrapped { fault, inner })
    }

    /// One queue with these faults.
    pub fn queue(&self, name: &str, inner: Arc<dyn Queue>) -> Arc<dyn Queue> {
        let inner = Arc::new(HookedQueue {
            hooks: self.clone(),
            queue: Named {
                name: name.into(),
                inner,
            },
        });
        let fault = self.clone();
        Arc::new(Wrapped::<_, dyn Queue> { fault, inner })
    }

    /// A call on something else, under the faults that any call may have.
    ///
    /// # Errors
    /// The call's own, or a retryable one that was made up.
    pub async fn disturb<T: Send>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.around(operation, call).await
    }

    /// How many faults of each kind there were.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counts.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn draw(&mut self, kind: &'static str, probability: f64) -> bool {
        let happens = self.random.f64() < probability;
        if happens {
            *self.counts.entry(kind).or_default() += 1;
        }
        happens
    }

    fn delay(&mut self, rates: &Rates) -> Duration {
        let mut delay = Duration::ZERO;
        if self.draw("slow calls", rates.slow) {
            delay += Duration::from_millis(self.random.u64(0..2_000));
        }
        if self.draw("calls past the visibility timeout", rates.stalled) {
            delay += Duration::from_millis(self.random.u64(31_000..90_000));
        }
        delay
    }
}

impl Around for Chaos {
    async fn around<T: Send>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let error = || Error::Backend {
            service: "chaos",
            operation: operation.to_owned(),
            retryable: true,
            source: "a failure made up for a test".into(),
        };
        let (before, after, throttled, lost) = {
            let mut state = self.lock();
            (
                state.delay(&self.rates),
                state.delay(&self.rates),
                state.draw("throttled calls", self.rates.throttled),
                state.draw("lost replies", self.rates.reply_lost),
            )
        };
        tokio::time::sleep(before).await;
        if throttled {
            return Err(error());
        }
        let result = call.await;
        // What was received waits here as well, while its visibility timeout goes by.
        tokio::time::sleep(after).await;
        if lost {
            return Err(error());
        }
        result
    }
}

#[async_trait]
impl Hooks for Chaos {
    async fn send(&self, queue: &Named, mut messages: Vec<Outgoing>) -> Result<()> {
        let copies: Vec<Outgoing> = {
            let mut state = self.lock();
            let rate = self.rates.duplicated;
            let drawn = messages
                .iter()
                .filter(|_| state.draw("duplicates", rate))
                .cloned();
            drawn.collect()
        };
        messages.extend(copies);
        queue.inner.send(messages).await
    }

    async fn receive(&self, queue: &Named, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let mut received = queue.inner.receive(max, wait).await?;
        let mut state = self.lock();
        for delivery in &received {
            if state.draw("late duplicates", self.rates.revived) {
                let key = (Arc::clone(&queue.name), delivery.receipt.clone());
                state.to_revive.insert(key, Outgoing::from(delivery));
                // Of messages that nobody ever acknowledges, the oldest are forgotten.
                while state.to_revive.len() > REMEMBERED {
                    state.to_revive.pop_first();
                }
            }
        }
        if received.len() > 1 && state.draw("reordered batches", self.rates.reordered) {
            state.random.shuffle(&mut received);
        }
        Ok(received)
    }

    async fn acknowledge(&self, queue: &Named, receipts: Vec<Receipt>) -> Result<()> {
        let (kept, copies): (Vec<Receipt>, Vec<Outgoing>) = {
            let mut state = self.lock();
            let rate = self.rates.acknowledgement_lost;
            let kept: Vec<Receipt> = receipts
                .into_iter()
                .filter(|_| !state.draw("lost acknowledgements", rate))
                .collect();
            let copies = kept.iter().filter_map(|receipt| {
                let key = (Arc::clone(&queue.name), receipt.clone());
                state.to_revive.remove(&key)
            });
            let copies = copies.collect();
            (kept, copies)
        };
        queue.inner.acknowledge(kept).await?;
        if copies.is_empty() {
            return Ok(());
        }
        queue.inner.send(copies).await
    }

    async fn extend(
        &self,
        queue: &Named,
        receipts: Vec<Receipt>,
        by: Duration,
    ) -> Result<Vec<Receipt>> {
        if self
            .lock()
            .draw("lost heartbeats", self.rates.heartbeat_lost)
        {
            return Ok(Vec::new());
        }
        queue.inner.extend(receipts, by).await
    }
}
