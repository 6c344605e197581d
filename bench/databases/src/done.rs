//! Counts what handlers have worked on, for one peer at a time.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

static DONE: AtomicU64 = AtomicU64::new(0);
static WANTED: AtomicU64 = AtomicU64::new(u64::MAX);
static REACHED: Notify = Notify::const_new();

/// A handler has worked on this many messages.
pub(crate) fn add(messages: u64) {
    let done = DONE.fetch_add(messages, Ordering::AcqRel) + messages;
    if done >= WANTED.load(Ordering::Acquire) {
        REACHED.notify_one();
    }
}

/// From now on, this many messages are wanted.
pub(crate) fn expect(messages: u64) {
    // A permit that is left of an earlier count would end the next wait.
    WANTED.store(u64::MAX, Ordering::Release);
    let _ = futures::FutureExt::now_or_never(REACHED.notified());
    DONE.store(0, Ordering::Release);
    WANTED.store(messages, Ordering::Release);
}

/// Waits until as many have been worked on.
pub(crate) async fn reached() {
    while DONE.load(Ordering::Acquire) < WANTED.load(Ordering::Acquire) {
        REACHED.notified().await;
    }
}
