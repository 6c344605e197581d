//! Futures that run to their end on one thread.

use std::pin::pin;
use std::task::{Poll, Waker};

/// Runs a future to its end on this thread, which is one for blocking work. Most are ready at once.
#[inline]
pub(crate) fn ready<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = std::task::Context::from_waker(Waker::noop());
    match future.as_mut().poll(&mut context) {
        Poll::Ready(value) => value,
        Poll::Pending => tokio::runtime::Handle::current().block_on(future),
    }
}
