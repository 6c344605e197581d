//! The items of a body as the source of a submission: read piece by piece, off the runtime's threads if the body is large.

use std::vec;

use tokio::task::JoinHandle;

use super::items::Items;
use crate::core::error::BoxError;
use crate::core::runtime::{self, LARGE};
use crate::stage::Data;
use crate::submit::Source;

/// Bytes of a body whose items are read at one time, and the most items of them: in memory, an item may take many times its
/// text. A submission has the items of two pieces in memory, at most.
const PIECE: usize = 64 * 1024;
const ITEMS: usize = 4 * 1024;

/// Reads the next piece while the submission sends the items of the one before, so that it seldom waits.
pub(super) struct Pieces<I> {
    length: usize,
    /// Items that have been read.
    ready: vec::IntoIter<I>,
    rest: Rest<I>,
}

/// The items that have not been read.
enum Rest<I> {
    Waiting(Items<I>),
    Reading(JoinHandle<(Vec<I>, Items<I>)>),
    None,
}

impl<I: Data> Pieces<I> {
    pub(super) fn new(items: Items<I>) -> Self {
        Self {
            length: items.left(),
            ready: Vec::new().into_iter(),
            rest: Rest::Waiting(items),
        }
    }

    /// Waits for the next piece. Returns false if there is none. A dropped call loses nothing.
    async fn read(&mut self) -> bool {
        if let Rest::Waiting(items) = &mut self.rest {
            let items = items.take();
            if items.bytes() <= LARGE {
                self.rest = Rest::None;
                self.ready = items.collect::<Vec<I>>().into_iter();
                return self.ready.len() > 0;
            }
            self.rest = read_aside(items);
        }
        let Rest::Reading(reading) = &mut self.rest else {
            return false;
        };
        let (ready, rest) = runtime::joined(reading).await;
        self.rest = match ready.is_empty() || rest.left() == 0 {
            true => Rest::None,
            false => read_aside(rest),
        };
        self.ready = ready.into_iter();
        self.ready.len() > 0
    }
}

/// Begins to read a piece.
fn read_aside<I: Data>(mut items: Items<I>) -> Rest<I> {
    Rest::Reading(tokio::task::spawn_blocking(move || {
        let end = items.offset() + PIECE;
        let mut piece = Vec::new();
        while items.offset() < end
            && piece.len() < ITEMS
            && let Some(item) = items.next()
        {
            piece.push(item);
        }
        (piece, items)
    }))
}

impl<I: Data> Source for Pieces<I> {
    type Item = I;

    fn length(&self) -> Option<u64> {
        Some(self.length as u64)
    }

    async fn fill(&mut self, items: &mut Vec<I>, count: usize) -> Result<(), BoxError> {
        loop {
            let missing = count.saturating_sub(items.len());
            items.extend(self.ready.by_ref().take(missing));
            if items.len() >= count || !self.read().await {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn pieces(items: u64) -> Pieces<u64> {
        let body = serde_json::to_vec(&(0..items).collect::<Vec<_>>()).unwrap();
        Pieces::new(Items::check(body.into()).unwrap())
    }

    #[tokio::test]
    async fn every_item_comes_once_and_in_order_whatever_the_size() {
        for (length, count) in [(0, 10), (1, 10), (10, 10), (25, 10), (200_000, 999)] {
            let mut pieces = pieces(length);
            assert_eq!(pieces.length(), Some(length));
            let (mut all, mut some) = (Vec::new(), Vec::new());
            loop {
                pieces.fill(&mut some, count).await.unwrap();
                let is_last = some.len() < count;
                all.append(&mut some);
                if is_last {
                    break;
                }
            }
            assert!(all.iter().copied().eq(0..length), "{length}");
        }
    }

    #[tokio::test]
    async fn a_call_that_is_dropped_while_it_waits_loses_nothing() {
        let mut pieces = pieces(100_000);
        let (mut items, mut dropped) = (Vec::new(), 0);
        while items.len() < 100_000 {
            let up_to = (items.len() + 50_000).min(100_000);
            // The first call of each piece has to wait for it.
            match pieces.fill(&mut items, up_to).now_or_never() {
                Some(filled) => filled.unwrap(),
                None => dropped += 1,
            }
            tokio::task::yield_now().await;
        }
        assert!(dropped > 0);
        assert!(items.into_iter().eq(0..100_000));
    }
}
