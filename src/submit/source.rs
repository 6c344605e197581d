//! Where items come from.

use std::iter::Fuse;
use std::pin::Pin;

use futures::{Stream, StreamExt};

use crate::stage::Data;

/// Where items come from.
pub(crate) trait Source {
    type Item: Data;

    /// The number of items, if it is known beforehand.
    fn length(&self) -> Option<u64>;

    /// Appends items until `items` has `count`; fewer only at the end. Cancel-safe: a dropped call has lost no item.
    async fn fill(&mut self, items: &mut Vec<Self::Item>, count: usize);
}

/// The items of an iterator, whose length is known if its [`size_hint`](Iterator::size_hint) is exact.
pub(crate) struct IterSource<V>(Fuse<V>);

impl<V: Iterator> IterSource<V> {
    pub(crate) fn new(items: impl IntoIterator<IntoIter = V, Item = V::Item>) -> Self {
        Self(items.into_iter().fuse())
    }
}

impl<V: Iterator<Item: Data>> Source for IterSource<V> {
    type Item = V::Item;

    fn length(&self) -> Option<u64> {
        match self.0.size_hint() {
            (low, Some(high)) if low == high => Some(low as u64),
            _ => None,
        }
    }

    async fn fill(&mut self, items: &mut Vec<V::Item>, count: usize) {
        let more = count.saturating_sub(items.len());
        items.extend(self.0.by_ref().take(more));
    }
}

/// The items of a stream.
pub(crate) struct StreamSource<V>(Pin<Box<futures::stream::Fuse<V>>>);

impl<V: Stream> StreamSource<V> {
    pub(crate) fn new(items: V) -> Self {
        Self(Box::pin(items.fuse()))
    }
}

impl<V: Stream<Item: Data>> Source for StreamSource<V> {
    type Item = V::Item;

    fn length(&self) -> Option<u64> {
        None
    }

    async fn fill(&mut self, items: &mut Vec<V::Item>, count: usize) {
        while items.len() < count {
            match self.0.next().await {
                Some(item) => items.push(item),
                None => return,
            }
        }
    }
}
