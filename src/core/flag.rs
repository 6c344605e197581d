//! A flag that is raised once, and tasks that wait for it.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// A flag that is raised once. Its waiters wake in the order in which they began to wait, so that a simulation with a seed
/// is one run exactly: those of tokio's `watch` channel wake in a random order.
#[derive(Debug, Default)]
pub(crate) struct Flag {
    is_raised: AtomicBool,
    raised: Notify,
}

impl Flag {
    /// Raises it, for good.
    pub(crate) fn raise(&self) {
        self.is_raised.store(true, Ordering::Release);
        self.raised.notify_waiters();
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.is_raised.load(Ordering::Acquire)
    }

    /// Completes once it is raised. Cancelling leaves nothing behind.
    pub(crate) async fn raised(&self) {
        // Notified from here on, also before it is polled: a flag that is raised after the look at it is not missed.
        let raised = self.raised.notified();
        if !self.is_raised() {
            raised.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::task::{JoinSet, yield_now};

    use super::*;

    #[tokio::test]
    async fn waiters_wake_in_the_order_in_which_they_began_to_wait() {
        let (flag, woken) = (Arc::new(Flag::default()), Arc::new(Mutex::new(Vec::new())));
        let mut waiters = JoinSet::new();
        for number in 0..20 {
            let (flag, woken) = (Arc::clone(&flag), Arc::clone(&woken));
            waiters.spawn(async move {
                flag.raised().await;
                woken.lock().unwrap().push(number);
            });
        }
        yield_now().await;
        assert!(!flag.is_raised());
        flag.raise();
        waiters.join_all().await;
        assert_eq!(*woken.lock().unwrap(), Vec::from_iter(0..20));
        flag.raised().await;
        assert!(flag.is_raised());
    }
}
