//! Calls that belong together, made as one: while a call is under way, what comes in meanwhile waits
//! and goes with the next. Under load batches fill themselves, without a timer and without delay.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::error::Result;

/// The most entries one call takes. Backends split further to their services' limits.
const MAX_BATCH: usize = 256;

type Call<T, R> = Box<dyn Fn(Vec<T>) -> BoxFuture<'static, Result<Vec<R>>> + Send + Sync>;
type Reply<R> = oneshot::Sender<Result<R, String>>;

/// Gathers entries for a batched call. Dropping it gives up what has not been answered.
pub(crate) struct Batcher<T, R> {
    inner: Arc<Inner<T, R>>,
    flush: Mutex<Option<AbortHandle>>,
}

struct Inner<T, R> {
    call: Call<T, R>,
    state: Mutex<State<T, R>>,
}

struct State<T, R> {
    waiting: VecDeque<(T, Reply<R>)>,
    flushing: bool,
}

impl<T: Clone + Send + 'static, R: Send + 'static> Batcher<T, R> {
    /// `call` answers with one result for each entry, in their order. It retries by itself what
    /// may work later.
    pub(crate) fn new(
        call: impl Fn(Vec<T>) -> BoxFuture<'static, Result<Vec<R>>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                call: Box::new(call),
                state: Mutex::new(State {
                    waiting: VecDeque::new(),
                    flushing: false,
                }),
            }),
            flush: Mutex::new(None),
        }
    }

    /// Hands in an entry and waits for its answer. The error is a sentence. Dropped while it waits,
    /// the entry may still be sent.
    pub(crate) async fn submit(&self, entry: T) -> Result<R, String> {
        let (reply, answer) = oneshot::channel();
        let begin = {
            let mut state = self.inner.lock();
            state.waiting.push_back((entry, reply));
            !std::mem::replace(&mut state.flushing, true)
        };
        if begin {
            let task = tokio::spawn(Arc::clone(&self.inner).flush());
            let mut flush = self.flush.lock().unwrap_or_else(PoisonError::into_inner);
            *flush = Some(task.abort_handle());
        }
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err("the call was given up".into()),
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
}

impl<T: Clone, R> Inner<T, R> {
    async fn flush(self: Arc<Self>) {
        loop {
            let (entries, replies): (Vec<T>, Vec<Reply<R>>) = {
                let mut state = self.lock();
                if state.waiting.is_empty() {
                    state.flushing = false;
                    return;
                }
                let take = state.waiting.len().min(MAX_BATCH);
                state.waiting.drain(..take).unzip()
            };
            if let [_] = replies.as_slice() {
                let answer = (self.call)(entries).await;
                give(replies, answer);
                continue;
            }
            match (self.call)(entries.clone()).await {
                Ok(answers) => give(replies, Ok(answers)),
                // One bad entry must not take the others with it: each is tried alone.
                Err(_) => {
                    for (entry, reply) in entries.into_iter().zip(replies) {
                        let answer = (self.call)(vec![entry]).await;
                        give(vec![reply], answer);
                    }
                }
            }
        }
    }
}

/// Answers those who wait. One who has gone does not mind.
fn give<R>(replies: Vec<Reply<R>>, answers: Result<Vec<R>>) {
    match answers {
        Ok(answers) => {
            for (reply, answer) in replies.into_iter().zip(answers) {
                drop(reply.send(Ok(answer)));
            }
        }
        Err(error) => {
            let error = crate::error::describe(&error);
            for reply in replies {
                drop(reply.send(Err(error.clone())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use futures::FutureExt;

    #[tokio::test(start_paused = true)]
    async fn what_comes_during_a_call_goes_with_the_next() {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&sizes);
        let batcher = Batcher::new(move |entries: Vec<u32>| {
            seen.lock().unwrap().push(entries.len());
            async move {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                Ok(entries.into_iter().map(|n| n * 2).collect())
            }
            .boxed()
        });
        let first = batcher.submit(0);
        let rest = async {
            tokio::task::yield_now().await;
            futures::future::join_all((1..300).map(|n| batcher.submit(n))).await
        };
        let (first, rest) = futures::join!(first, rest);
        assert_eq!(first, Ok(0));
        assert_eq!(rest, (1..300).map(|n| Ok(n * 2)).collect::<Vec<_>>());
        assert_eq!(*sizes.lock().unwrap(), [1, 256, 43]);
    }

    #[tokio::test]
    async fn a_bad_entry_fails_alone() {
        let batcher = Batcher::new(|entries: Vec<u32>| {
            let bad = entries.contains(&3);
            async move {
                match bad {
                    true => Err(Error::encode("three", "too odd")),
                    false => Ok(entries),
                }
            }
            .boxed()
        });
        let answers = futures::future::join_all((0..6).map(|n| batcher.submit(n))).await;
        for (n, answer) in answers.into_iter().enumerate() {
            match n {
                3 => assert!(answer.unwrap_err().contains("too odd")),
                n => assert_eq!(answer, Ok(n as u32)),
            }
        }
    }
}
