//! A shared handle to one element of a vector.

use std::ops::Deref;
use std::sync::Arc;

/// A shared handle to one element of a vector.
pub(crate) struct OneOf<T> {
    all: Arc<Vec<T>>,
    place: usize,
}

impl<T> OneOf<T> {
    /// A handle to each element, in order.
    pub(crate) fn each(all: Vec<T>) -> impl Iterator<Item = Self> {
        let all = Arc::new(all);
        (0..all.len()).map(move |place| Self {
            all: Arc::clone(&all),
            place,
        })
    }

    /// A handle to the element at index `place`, if there is one.
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
