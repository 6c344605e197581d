//! A handle on one of several values that share their memory.

use std::ops::Deref;
use std::sync::Arc;

/// One of several that were made together, and go together.
pub(crate) struct OneOf<T> {
    all: Arc<Vec<T>>,
    place: usize,
}

impl<T> OneOf<T> {
    /// All of them, one by one.
    pub(crate) fn each(all: Vec<T>) -> impl Iterator<Item = Self> {
        let all = Arc::new(all);
        (0..all.len()).map(move |place| Self {
            all: Arc::clone(&all),
            place,
        })
    }

    /// The one at this place, if it is there.
    pub(crate) fn at(all: Arc<Vec<T>>, place: usize) -> Option<Self> {
        (place < all.len()).then_some(Self { all, place })
    }
}

impl<T> From<T> for OneOf<T> {
    fn from(only: T) -> Self {
        Self {
            all: Arc::new(vec![only]),
            place: 0,
        }
    }
}

impl<T> Clone for OneOf<T> {
    fn clone(&self) -> Self {
        Self {
            all: Arc::clone(&self.all),
            place: self.place,
        }
    }
}

impl<T> Deref for OneOf<T> {
    type Target = T;

    #[expect(
        clippy::indexing_slicing,
        reason = "it is only made for places that are there"
    )]
    fn deref(&self) -> &T {
        &self.all[self.place]
    }
}
