//! CPU-bound work off the asynchronous threads, its timeouts and its panics.

use std::any::Any;
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::execute::Limits;

/// Runs work on a thread for blocking work, and gives it up when `steps` has not moved for as long
/// as the timeout. The thread cannot be stopped; what it makes then is dropped.
pub(super) async fn off_thread<T: Send + 'static>(
    limits: &Limits,
    steps: impl Fn() -> usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let timeout = limits.timeout;
    // The semaphore is never closed. Work that is given up gives its place up, too, or a few that never end
    // would stop the worker.
    let _permit = limits.cpu.acquire().await;
    let mut handle = tokio::task::spawn_blocking(work);
    let mut seen = steps();
    let mut since = Instant::now();
    loop {
        tokio::select! {
            biased;
            result = &mut handle => {
                return result.map_err(|error| match error.try_into_panic() {
                    Ok(panic) => panicked(panic.as_ref()),
                    Err(error) => error.to_string(),
                });
            }
            () = tokio::time::sleep(timeout / 4) => {
                let now = steps();
                if now != seen {
                    seen = now;
                    since = Instant::now();
                } else if since.elapsed() >= timeout {
                    return Err(timed_out(timeout));
                }
            }
        }
    }
}

/// Runs a future to its end on this thread, which is one for blocking work. Most are ready at once.
pub(super) fn ready<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = std::task::Context::from_waker(Waker::noop());
    match future.as_mut().poll(&mut context) {
        Poll::Ready(value) => value,
        Poll::Pending => tokio::runtime::Handle::current().block_on(future),
    }
}

pub(super) fn timed_out(timeout: Duration) -> String {
    format!("timed out: no end after {timeout:?}")
}

pub(super) fn panicked(panic: &(dyn Any + Send)) -> String {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", message.unwrap_or("(no message)"))
}
