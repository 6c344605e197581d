//! Calls that belong together, made as one: while a call is under way, what comes in meanwhile
//! waits and goes with the next. Under load batches fill themselves, without a timer and without
//! delay. Where each call is billed, a batch that is not full waits a moment for more: as long as
//! more may come.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use crate::core::error::{Error, Result};
use crate::core::panic::panicked;

/// The most entries that wait for each other. Backends split further to their services' limits.
const MAX_BATCH: usize = 256;

type Call<T, R> = Box<dyn Fn(Arc<Vec<T>>) -> BoxFuture<'static, Result<Vec<R>>> + Send + Sync>;
/// What became of the entries of one submission, in their order.
type Answers<R> = Vec<Result<R>>;

/// Why an entry has no answer, although its call did not report an error.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("the call was given up")]
    GivenUp,
    #[error("the call did not answer")]
    Missing,
    #[error("a call for {entries} entries had {answers} answers")]
    Miscounted { entries: usize, answers: usize },
    #[error("the call {0}")]
    Panicked(String),
}

impl From<Unanswered> for Error {
    /// The entry may have been sent or not: sending it again is allowed.
    fn from(reason: Unanswered) -> Self {
        Self::Backend {
            service: "the backend",
            operation: "a call for several entries".to_owned(),
            retryable: true,
            source: reason.into(),
        }
    }
}

/// How long a batch that is not full waits for more entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Linger {
    /// Entries that make a batch worth sending at once.
    pub(crate) full: usize,
    pub(crate) at_most: Duration,
    /// Only while more entries are [expected](Batcher::expect).
    pub(crate) while_expected: bool,
}

/// Gathers entries for a batched call. Dropping it gives up what has not been answered.
pub(crate) struct Batcher<T, R> {
    inner: Arc<Inner<T, R>>,
    flush: Mutex<Option<AbortHandle>>,
}

struct Inner<T, R> {
    call: Call<T, R>,
    linger: Option<Linger>,
    /// Entries that may come soon.
    expected: AtomicUsize,
    state: Mutex<State<T, R>>,
    /// Tells who lingers that the batch is full, or that nothing more will come.
    enough: Notify,
}

struct State<T, R> {
    waiting: VecDeque<Submission<T, R>>,
    /// Entries in all of those.
    entries: usize,
    flushing: bool,
    /// Nobody lingers any more.
    hurried: bool,
}

struct Submission<T, R> {
    entries: Vec<T>,
    reply: oneshot::Sender<Answers<R>>,
}

impl<T: Clone + Send + Sync + 'static, R: Send + 'static> Batcher<T, R> {
    /// `call` answers with one result for each entry, in their order. It retries by itself what
    /// may work later.
    pub(crate) fn new(
        call: impl Fn(Arc<Vec<T>>) -> BoxFuture<'static, Result<Vec<R>>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                call: Box::new(call),
                linger: None,
                expected: AtomicUsize::new(0),
                state: Mutex::new(State {
                    waiting: VecDeque::new(),
                    entries: 0,
                    flushing: false,
                    hurried: false,
                }),
                enough: Notify::new(),
            }),
            flush: Mutex::new(None),
        }
    }

    /// The same, but a batch that is not full waits a moment.
    pub(crate) fn lingering(mut self, linger: Option<Linger>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.linger = linger;
        }
        self
    }

    /// Lets nothing linger from now on: the worker is about to end.
    pub(crate) fn hurry(&self) {
        self.inner.lock().hurried = true;
        self.inner.enough.notify_one();
    }

    /// Announces `entries` that may be submitted soon.
    pub(crate) fn expect(&self, entries: usize) {
        self.inner.expected.fetch_add(entries, Ordering::Relaxed);
    }

    /// So many of those have come, or will not.
    pub(crate) fn expect_no_longer(&self, entries: usize) {
        let before = self.inner.expected.fetch_sub(entries, Ordering::Relaxed);
        if entries > 0 && before == entries {
            self.inner.enough.notify_one();
        }
    }

    /// Hands in entries and waits for their answers, one for each. Dropped while it waits, the
    /// entries may still be sent.
    pub(crate) async fn submit(&self, entries: Vec<T>) -> Answers<R> {
        let count = entries.len();
        if count == 0 {
            return Vec::new();
        }
        let (reply, answers) = oneshot::channel();
        let begin = {
            let mut state = self.inner.lock();
            state.entries += count;
            state.waiting.push_back(Submission { entries, reply });
            let linger = self.inner.linger;
            if linger.is_some_and(|linger| state.entries >= linger.full) {
                self.inner.enough.notify_one();
            }
            !std::mem::replace(&mut state.flushing, true)
        };
        if begin {
            // A call that does not have to wait, as one in memory, needs no task of its own.
            let mut flush = Arc::clone(&self.inner).flush().boxed();
            let mut context = Context::from_waker(Waker::noop());
            if flush.poll_unpin(&mut context).is_pending() {
                let task = tokio::spawn(flush);
                let mut flush = self.flush.lock().unwrap_or_else(PoisonError::into_inner);
                *flush = Some(task.abort_handle());
            }
        }
        match answers.await {
            Ok(answers) => answers,
            Err(_) => (0..count)
                .map(|_| Err(Unanswered::GivenUp.into()))
                .collect(),
        }
    }
}

impl<T, R> Drop for Batcher<T, R> {
    fn drop(&mut self) {
        let flush = self.flush.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(flush) = flush.take() {
            flush.abort();
        }
    }
}

impl<T, R> Inner<T, R> {
    fn lock(&self) -> std::sync::MutexGuard<'_, State<T, R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the batch is full, or for as long as it may.
    async fn linger(&self, linger: Linger) {
        let is_enough = || {
            let state = self.lock();
            let nothing_comes = linger.while_expected && self.expected.load(Ordering::Relaxed) == 0;
            state.hurried || nothing_comes || state.entries >= linger.full
        };
        let enough = async {
            while !is_enough() {
                self.enough.notified().await;
            }
        };
        drop(tokio::time::timeout(linger.at_most, enough).await);
    }

    /// What goes with the next call; nothing ends the flush.
    fn next(&self) -> Option<Vec<Submission<T, R>>> {
        let mut state = self.lock();
        let mut batch = Vec::new();
        let mut entries = 0;
        while let Some(next) = state.waiting.front()
            && (batch.is_empty() || entries + next.entries.len() <= MAX_BATCH)
        {
            entries += next.entries.len();
            batch.extend(state.waiting.pop_front());
        }
        state.entries -= entries;
        state.flushing = !batch.is_empty();
        state.flushing.then_some(batch)
    }
}

/// A flush under way. Should it end before its time, as it does with the runtime that its task is on, whatever waits is
/// answered as given up, and the next submission begins another flush.
struct Flushing<T, R> {
    inner: Arc<Inner<T, R>>,
    has_ended: bool,
}

impl<T, R> Drop for Flushing<T, R> {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let waiting = {
            let mut state = self.inner.lock();
            state.flushing = false;
            state.entries = 0;
            std::mem::take(&mut state.waiting)
        };
        drop(waiting);
    }
}

impl<T: Clone, R> Inner<T, R> {
    async fn flush(self: Arc<Self>) {
        let mut flushing = Flushing {
            inner: Arc::clone(&self),
            has_ended: false,
        };
        loop {
            if let Some(linger) = self.linger {
                self.linger(linger).await;
            }
            let Some(batch) = self.next() else {
                flushing.has_ended = true;
                return;
            };
            let (entries, replies): (Vec<Vec<T>>, Vec<_>) = batch
                .into_iter()
                .map(|submission| {
                    let count = submission.entries.len();
                    (submission.entries, (submission.reply, count))
                })
                .unzip();
            let answers = self.answers(entries.concat_or_only()).await;
            let mut answers = answers.into_iter();
            for (reply, count) in replies {
                // One who has gone does not mind.
                drop(reply.send(answers.by_ref().take(count).collect()));
            }
        }
    }

    /// Makes the call. A backend that panics fails this call, and not those that come after it.
    async fn make(&self, entries: Arc<Vec<T>>) -> Result<Vec<R>> {
        let count = entries.len();
        let call = async { (self.call)(entries).await };
        let made = AssertUnwindSafe(call).catch_unwind().await;
        let answers =
            made.unwrap_or_else(|panic| Err(Unanswered::Panicked(panicked(panic)).into()))?;
        if answers.len() != count {
            let (entries, answers) = (count, answers.len());
            return Err(Unanswered::Miscounted { entries, answers }.into());
        }
        Ok(answers)
    }

    async fn answers(&self, entries: Vec<T>) -> Answers<R> {
        let entries = Arc::new(entries);
        let error = match self.make(Arc::clone(&entries)).await {
            Ok(answers) => return answers.into_iter().map(Ok).collect(),
            Err(error) => error,
        };
        // A call repeats by itself what may work later, but for one that panicked.
        if entries.len() == 1 && !error.is_retryable() {
            return vec![Err(error)];
        }
        // One bad entry must not take the others with it: each is tried alone.
        let mut answers = Vec::with_capacity(entries.len());
        for entry in entries.iter() {
            answers.push(only(self.make(Arc::new(vec![entry.clone()])).await));
        }
        answers
    }
}

/// Joins lists without a copy where there is only one.
trait ConcatOrOnly<T> {
    fn concat_or_only(self) -> Vec<T>;
}

impl<T> ConcatOrOnly<T> for Vec<Vec<T>> {
    fn concat_or_only(mut self) -> Vec<T> {
        match self.len() {
            1 => self.pop().unwrap_or_default(),
            _ => self.into_iter().flatten().collect(),
        }
    }
}

/// The answer of a call with one entry.
fn only<R>(answer: Result<Vec<R>>) -> Result<R> {
    let first = answer?.into_iter().next();
    first.ok_or_else(|| Unanswered::Missing.into())
}
