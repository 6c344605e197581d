//! Where items come from.

use std::iter::Fuse;
use std::pin::Pin;

use futures::{Stream, StreamExt};

use crate::core::error::BoxError;
use crate::stage::Data;

/// Where items come from.
pub(crate) trait Source {
    type Item: Data;

    /// The number of items, if it is known beforehand.
    fn length(&self) -> Option<u64>;

    /// Appends items until `items` has `count`; fewer only at the end. Cancel-safe: a dropped call has lost no item.
    ///
    /// # Errors
    /// The input's own error, once the items before it have been appended. Nothing is to be expected of the source after
    /// that.
    async fn fill(&mut self, items: &mut Vec<Self::Item>, count: usize) -> Result<(), BoxError>;
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
        exact_size(&self.0)
    }

    async fn fill(&mut self, items: &mut Vec<V::Item>, count: usize) -> Result<(), BoxError> {
        let more = count.saturating_sub(items.len());
        items.extend(self.0.by_ref().take(more));
        Ok(())
    }
}

/// The items of an iterator up to its first error.
pub(crate) struct TryIterSource<V>(Fuse<V>);

impl<V: Iterator> TryIterSource<V> {
    pub(crate) fn new(items: impl IntoIterator<IntoIter = V, Item = V::Item>) -> Self {
        Self(items.into_iter().fuse())
    }
}

impl<V, I, E> Source for TryIterSource<V>
where
    V: Iterator<Item = Result<I, E>>,
    I: Data,
    E: Into<BoxError>,
{
    type Item = I;

    fn length(&self) -> Option<u64> {
        exact_size(&self.0)
    }

    async fn fill(&mut self, items: &mut Vec<I>, count: usize) -> Result<(), BoxError> {
        while items.len() < count {
            match self.0.next() {
                Some(item) => items.push(item.map_err(Into::into)?),
                None => break,
            }
        }
        Ok(())
    }
}

fn exact_size(items: &impl Iterator) -> Option<u64> {
    match items.size_hint() {
        (low, Some(high)) if low == high => Some(low as u64),
        _ => None,
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

    async fn fill(&mut self, items: &mut Vec<V::Item>, count: usize) -> Result<(), BoxError> {
        while items.len() < count {
            match self.0.next().await {
                Some(item) => items.push(item),
                None => break,
            }
        }
        Ok(())
    }
}

/// The items of a stream up to its first error.
pub(crate) struct TryStreamSource<V>(Pin<Box<futures::stream::Fuse<V>>>);

impl<V: Stream> TryStreamSource<V> {
    pub(crate) fn new(items: V) -> Self {
        Self(Box::pin(items.fuse()))
    }
}

impl<V, I, E> Source for TryStreamSource<V>
where
    V: Stream<Item = Result<I, E>>,
    I: Data,
    E: Into<BoxError>,
{
    type Item = I;

    fn length(&self) -> Option<u64> {
        None
    }

    async fn fill(&mut self, items: &mut Vec<I>, count: usize) -> Result<(), BoxError> {
        while items.len() < count {
            match self.0.next().await {
                Some(item) => items.push(item.map_err(Into::into)?),
                None => break,
            }
        }
        Ok(())
    }
}
