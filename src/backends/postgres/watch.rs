//! Waiting for something in the database: one statement asks for all waiting callers of this process.
//!
//! Each poll is later than the one before: an eighth of the time since something last happened, at least five milliseconds
//! and at most a good second. So a program that is busy, or has just been, learns of news at once, and an idle one costs a
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
/// A second and a fifth, so that a program whose receives begin anew now and then is below one statement per second.
pub(super) const LONGEST: Duration = Duration::from_millis(1_200);
/// A poll is at most this part of the time since something last happened.
const PART: u32 = 8;

/// Asks which of these have news.
pub(super) type Word = tokio::sync::watch::Receiver<()>;
/// See [`Watch::new`].
type Ask<K> = Box<dyn Fn(Vec<K>) -> BoxFuture<'static, Result<Vec<K>>> + Send + Sync>;

/// Whatever is waited for has a key.
pub(super) struct Watch<K>(Arc<Inner<K>>);

struct Inner<K> {
    ask: Ask<K>,
    state: Mutex<State<K>>,
    /// Wakes the poller, since there is another time to poll at.
    hurry: Notify,
    /// Another process has sent word that there may be news.
    word: Word,
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
    /// `word` changes when another process has sent word.
    pub(super) fn new(
        word: Word,
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
            word,
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
            let polling = Polling {
                inner: Arc::clone(&self.inner),
                has_ended: false,
            };
            tokio::spawn(polling.run());
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
struct Polling<K> {
    inner: Arc<Inner<K>>,
    /// It has said so: from then on another one may be at work.
    has_ended: bool,
}

impl<K> Drop for Polling<K> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.inner.lock().is_polling = false;
        }
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> Polling<K> {
    async fn run(mut self) {
        let mut polled = Instant::now();
        let mut word = self.inner.word.clone();
        while let Some((keys, wait)) = self.next() {
            // Neither all at once nor all programs at the same moment.
            let wait = wait.mul_f64(0.75 + fastrand::f64() / 2.0);
            let at = polled + wait;
            if at > Instant::now() {
                tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = self.inner.hurry.notified() => continue,
                    // Without a sender there is never any.
                    Ok(()) = word.changed() => self.inner.lock().active = Instant::now(),
                }
            }
            polled = Instant::now();
            match (self.inner.ask)(keys).await {
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
    fn next(&mut self) -> Option<(Vec<K>, Duration)> {
        let mut state = self.inner.lock();
        let sleeping = state
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.sleeping > 0);
        let keys: Vec<K> = sleeping.map(|(key, _)| key.clone()).collect();
        if keys.is_empty() {
            state.is_polling = false;
            self.has_ended = true;
            return None;
        }
        let wait = state.active.elapsed() / PART;
        Some((keys, wait.clamp(SHORTEST, LONGEST)))
    }

    fn found(&self, keys: &[K]) {
        if keys.is_empty() {
            return;
        }
        let mut state = self.inner.lock();
        state.active = Instant::now();
        for key in keys {
            if let Some(waiting) = state.waiting.get(key) {
                waiting.news.notify_waiters();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt;

    use super::*;

    /// A watch whose keys have news if they are even, and how often it asked.
    fn watch() -> (Watch<u32>, Arc<AtomicUsize>) {
        watch_of(tokio::sync::watch::channel(()).1)
    }

    fn watch_of(word: Word) -> (Watch<u32>, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let watch = Watch::new(word, move |keys: Vec<u32>| {
            counted.fetch_add(1, Ordering::Relaxed);
            let found = keys.into_iter().filter(|key| key % 2 == 0).collect();
            async move { Ok(found) }.boxed()
        });
        (watch, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn news_arrive_by_a_poll_or_by_word() {
        let (watch, _) = watch();
        for key in [2, 3] {
            let interest = watch.interest(key);
            let news = interest.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            let _sleeping = interest.poll();
            if key == 3 {
                watch.tell(&3);
            }
            let begin = Instant::now();
            news.await;
            assert!(begin.elapsed() < LONGEST, "{key}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn word_of_another_process_is_followed_by_a_poll_at_once() {
        let (sender, word) = tokio::sync::watch::channel(());
        let (watch, asked) = watch_of(word);
        let interest = watch.interest(3);
        let _sleeping = interest.poll();
        tokio::time::sleep(LONGEST * 20).await;
        for _ in 0..5 {
            let before = asked.load(Ordering::Relaxed);
            sender.send_replace(());
            // Less than the shortest time between two polls.
            tokio::time::sleep(SHORTEST / 5).await;
            assert_eq!(asked.load(Ordering::Relaxed), before + 1);
            tokio::time::sleep(LONGEST * 20).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_program_asks_once_a_second_for_all() {
        let (watch, asked) = watch();
        let interests = [1, 3, 5, 7].map(|key| watch.interest(key));
        let sleeping = interests.each_ref().map(Interest::poll);
        tokio::time::sleep(LONGEST * 20).await;
        let before = asked.load(Ordering::Relaxed);
        tokio::time::sleep(LONGEST * 100).await;
        let idle = asked.load(Ordering::Relaxed) - before;
        assert!((80..=134).contains(&idle), "{idle} in 120 s");
        drop(sleeping);
        tokio::time::sleep(LONGEST * 2).await;
        let before = asked.load(Ordering::Relaxed);
        tokio::time::sleep(LONGEST * 10).await;
        assert_eq!(asked.load(Ordering::Relaxed), before, "nobody waits");
        let _again = interests[0].poll();
        tokio::time::sleep(LONGEST * 10).await;
        assert!(asked.load(Ordering::Relaxed) > before);
    }
}
