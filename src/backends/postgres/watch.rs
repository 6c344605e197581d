//! Waiting for something in the database: one statement asks for all waiting callers of this process.
//!
//! Each poll is later than the one before: an eighth of the time since something last happened, at least five milliseconds
//! and at most a second. So a program that is busy, or has just been, learns of news at once, and an idle one costs a
//! statement a second, however many of its queues and runs are waited for. What happens in this process is told directly.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::core::error::{Result, describe};

const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_secs(1);
/// A poll is at most this part of the time since something last happened.
const PART: u32 = 8;

/// Asks which of these have news.
type Ask<K> = Box<dyn Fn(Vec<K>) -> BoxFuture<'static, Result<Vec<K>>> + Send + Sync>;

/// Whatever is waited for has a key.
pub(super) struct Watch<K>(Arc<Inner<K>>);

struct Inner<K> {
    ask: Ask<K>,
    state: Mutex<State<K>>,
    /// Wakes the poller, since there is another time to poll at.
    hurry: Notify,
}

struct State<K> {
    waiting: HashMap<K, Waiting>,
    is_polling: bool,
    /// When something last happened.
    active: Instant,
}

#[derive(Default)]
struct Waiting {
    interests: usize,
    /// Of these, how many sleep until there is news.
    sleeping: usize,
    news: Arc<Notify>,
}

impl<K: Clone + Eq + Hash + Send + 'static> Watch<K> {
    pub(super) fn new(
        ask: impl Fn(Vec<K>) -> BoxFuture<'static, Result<Vec<K>>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            ask: Box::new(ask),
            state: Mutex::new(State {
                waiting: HashMap::new(),
                is_polling: false,
                active: Instant::now(),
            }),
            hurry: Notify::new(),
        }))
    }

    /// Registers an interest: news that arrive from now on are not missed.
    pub(super) fn interest(&self, key: K) -> Interest<K> {
        let mut state = self.0.lock();
        let waiting = state.waiting.entry(key.clone()).or_default();
        waiting.interests += 1;
        let news = Arc::clone(&waiting.news);
        drop(state);
        Interest {
            inner: Arc::clone(&self.0),
            key,
            news,
        }
    }

    /// There are news of this key: callers that wait for it look at once.
    pub(super) fn tell(&self, key: &K) {
        let mut state = self.0.lock();
        state.active = Instant::now();
        if let Some(waiting) = state.waiting.get(key) {
            waiting.news.notify_waiters();
        }
    }

    /// Something happened: polls are frequent again.
    pub(super) fn is_active(&self) {
        let mut state = self.0.lock();
        let was_idle = state.active.elapsed() > LONGEST;
        state.active = Instant::now();
        drop(state);
        if was_idle {
            self.0.hurry.notify_one();
        }
    }
}

/// Ends with its drop.
pub(super) struct Interest<K: Eq + Hash> {
    inner: Arc<Inner<K>>,
    key: K,
    pub(super) news: Arc<Notify>,
}

impl<K: Clone + Eq + Hash + Send + 'static> Interest<K> {
    /// From now on until the guard is dropped, the database is asked for news of this key.
    pub(super) fn poll(&self) -> Sleeping<'_, K> {
        let mut state = self.inner.lock();
        if let Some(waiting) = state.waiting.get_mut(&self.key) {
            waiting.sleeping += 1;
        }
        if !std::mem::replace(&mut state.is_polling, true) {
            tokio::spawn(Polling(Arc::clone(&self.inner)).run());
        }
        Sleeping(self)
    }
}

impl<K: Eq + Hash> Drop for Interest<K> {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        if let Some(waiting) = state.waiting.get_mut(&self.key) {
            waiting.interests -= 1;
            if waiting.interests == 0 {
                state.waiting.remove(&self.key);
            }
        }
    }
}

pub(super) struct Sleeping<'a, K: Eq + Hash>(&'a Interest<K>);

impl<K: Eq + Hash> Drop for Sleeping<'_, K> {
    fn drop(&mut self) {
        let mut state = self.0.inner.lock();
        if let Some(waiting) = state.waiting.get_mut(&self.0.key) {
            waiting.sleeping -= 1;
        }
    }
}

impl<K> Inner<K> {
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that asks. It ends when nobody waits any more, or with its runtime: the next caller that waits starts another.
struct Polling<K>(Arc<Inner<K>>);

impl<K> Drop for Polling<K> {
    fn drop(&mut self) {
        self.0.lock().is_polling = false;
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> Polling<K> {
    async fn run(self) {
        let mut polled = Instant::now();
        while let Some((keys, wait)) = self.next() {
            // Neither all at once nor all programs at the same moment.
            let wait = wait.mul_f64(0.75 + fastrand::f64() / 2.0);
            let now = Instant::now();
            let at = polled + wait;
            if at > now {
                tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = self.0.hurry.notified() => continue,
                }
            }
            polled = Instant::now();
            match (self.0.ask)(keys).await {
                Ok(found) => self.found(&found),
                // Callers find out by themselves, since they look once more at the end of their time.
                Err(error) => {
                    tracing::debug!(error = %describe(&error), "a poll failed");
                    polled += LONGEST;
                }
            }
        }
    }

    /// What is waited for, and for how long there is no need to ask. `None` if nobody waits; then this is no poller any more.
    fn next(&self) -> Option<(Vec<K>, Duration)> {
        let mut state = self.0.lock();
        let sleeping = state.waiting.iter().filter(|(_, waiting)| waiting.sleeping > 0);
        let keys: Vec<K> = sleeping.map(|(key, _)| key.clone()).collect();
        if keys.is_empty() {
            state.is_polling = false;
            return None;
        }
        let wait = state.active.elapsed() / PART;
        Some((keys, wait.clamp(SHORTEST, LONGEST)))
    }

    fn found(&self, keys: &[K]) {
        if keys.is_empty() {
            return;
        }
        let mut state = self.0.lock();
        state.active = Instant::now();
        for key in keys {
            if let Some(waiting) = state.waiting.get(key) {
                waiting.news.notify_waiters();
            }
        }
    }
}
