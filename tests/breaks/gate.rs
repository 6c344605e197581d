//! Threads that are held until the test lets them go on.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::advance;

use crate::SECOND;

#[derive(Clone)]
pub(crate) struct Gate {
    held: UnboundedSender<()>,
    is_open: Arc<(Mutex<bool>, Condvar)>,
}

impl Gate {
    /// A gate, and what is told each time it holds a thread.
    pub(crate) fn new() -> (Self, UnboundedReceiver<()>) {
        let (held, holds) = unbounded_channel();
        let is_open = Arc::default();
        (Self { held, is_open }, holds)
    }

    pub(crate) fn hold(&self) {
        let _ = self.held.send(());
        let (is_open, opened) = &*self.is_open;
        drop(opened.wait_while(is_open.lock().unwrap(), |is_open| !*is_open));
    }

    pub(crate) fn open(&self) {
        *self.is_open.0.lock().unwrap() = true;
        self.is_open.1.notify_all();
    }
}

/// Lets all threads go on when it is dropped, so that a test that fails ends.
pub(crate) struct Opens(pub(crate) Gate);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Moves the clock past a timeout. It does not move by itself while a thread is busy. A timeout is noticed up to a
/// quarter late.
pub(crate) async fn pass(timeout: Duration) {
    for _ in 0..timeout.as_secs() * 5 / 4 + 1 {
        advance(SECOND).await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}
