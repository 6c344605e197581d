//! Queues and scratchpads as a backend keeps them: shared.

use std::sync::Arc;

use crate::queue::Queues;
use crate::scratchpad::Scratchpad;

/// A part of a [`Backend`](crate::Backend), by value or in an [`Arc`] that others hold as well. Sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not `{T}`",
    label = "neither an implementation of the trait nor an `Arc` of one"
)]
pub trait Share<T: ?Sized> {
    #[doc(hidden)]
    fn share(self) -> Arc<T>;
}

impl<Q: Queues> Share<dyn Queues> for Q {
    fn share(self) -> Arc<dyn Queues> {
        Arc::new(self)
    }
}

impl<Q: Queues> Share<dyn Queues> for Arc<Q> {
    fn share(self) -> Arc<dyn Queues> {
        self
    }
}

impl Share<dyn Queues> for Arc<dyn Queues> {
    fn share(self) -> Arc<dyn Queues> {
        self
    }
}

impl<S: Scratchpad> Share<dyn Scratchpad> for S {
    fn share(self) -> Arc<dyn Scratchpad> {
        Arc::new(self)
    }
}

impl<S: Scratchpad> Share<dyn Scratchpad> for Arc<S> {
    fn share(self) -> Arc<dyn Scratchpad> {
        self
    }
}

impl Share<dyn Scratchpad> for Arc<dyn Scratchpad> {
    fn share(self) -> Arc<dyn Scratchpad> {
        self
    }
}
