//! Panics of users' code, in every place where it can panic.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;

/// The message of a panic. What it was thrown with is dropped here.
pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> String {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = format!("panicked: {}", message.unwrap_or("(no message)"));
    drop_contained(panic);
    text
}

/// Drops a value whose own drop may panic.
pub(crate) fn drop_contained<T>(value: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // It might go on like this for ever.
        std::mem::forget(panic);
    }
}

/// A future of a user's. Where it is dropped before its end, what it holds may panic, and the panic ends here: others that
/// are in the hands of the same task must not fall with it.
pub(crate) struct Contained<'a, T>(Option<BoxFuture<'a, T>>);

impl<'a, T> Contained<'a, T> {
    pub(crate) fn new(future: BoxFuture<'a, T>) -> Self {
        Self(Some(future))
    }
}

impl<T> Future for Contained<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match &mut self.0 {
            Some(future) => future.as_mut().poll(context),
            // Only a drop takes it.
            None => Poll::Pending,
        }
    }
}

impl<T> Drop for Contained<'_, T> {
    fn drop(&mut self) {
        drop_contained(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// Panics each time it is dropped.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(Bomb);
        }
    }

    #[test]
    fn a_panic_whose_payload_panics_is_a_message() {
        let panic = catch_unwind(|| std::panic::panic_any(Bomb)).unwrap_err();
        assert_eq!(panicked(panic), "panicked: (no message)");
    }

    #[test]
    fn a_future_that_panics_as_it_is_dropped_is_dropped() {
        let future = async {
            let _bomb = Bomb;
            std::future::pending::<()>().await;
        };
        let mut future = Contained::new(future.boxed());
        assert!(
            future
                .poll_unpin(&mut Context::from_waker(std::task::Waker::noop()))
                .is_pending()
        );
        drop(future);
    }
}
