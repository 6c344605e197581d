//! Where items come from.

use std::iter::Fuse;
use std::pin::Pin;

use futures::{Stream, StreamExt};

use crate::stage::Data;

/// Where items come from.
pub(crate) trait Source {
    type Item: Data;
    /// Adds items until there are so many; fewer only at the end. Cancelled, it has lost none.
    async fn fill(&mut self, items: &mut Vec<Self::Item>, count: usize);
}

pub(crate) struct FromIterator<V>(pub(crate) Fuse<V>);

impl<V: Iterator<Item: Data>> Source for FromIterator<V> {
    type Item = V::Item;

    async fn fill(&mut self, items: &mut Vec<V::Item>, count: usize) {
        let more = count.saturating_sub(items.len());
        items.extend(self.0.by_ref().take(more));
    }
}

pub(crate) struct FromStream<V>(pub(crate) Pin<Box<futures::stream::Fuse<V>>>);

impl<V: Stream<Item: Data>> Source for FromStream<V> {
    type Item = V::Item;

    async fn fill(&mut self, items: &mut Vec<V::Item>, count: usize) {
        while items.len() < count {
            match self.0.next().await {
                Some(item) => items.push(item),
                None => return,
            }
        }
    }
}
