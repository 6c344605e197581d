//! How many messages a stage begins while its outputs go to another map stage: as many as that stage's queue has room for.

use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::lane::RETRY;
use crate::core::retry::retry;
use crate::queue::Queue;

/// Messages that are begun at once each time the next queue has room, if each of them waits for its own place.
const ONE_BY_ONE: usize = 10;
/// The same at most, if they are worked on together.
const TOGETHER: usize = 64;
/// Bytes of outputs, about, that are made at once before the next queue is asked again.
const BYTES: usize = 256 * 1024;

/// The way to the next stage's queue. The queue reports whether it has room, but not how much. So messages are begun in
/// turns, and the queue is asked before each: the turns grow while it always has room, and shrink when it is full.
pub(super) struct Onward {
    queue: Arc<dyn Queue>,
    /// Messages that may be begun before the queue is asked again.
    allowed: usize,
    asking: bool,
    /// Messages that the current turn may begin, and the bounds of that number.
    turn: usize,
    turns: RangeInclusive<usize>,
    /// Moving average of the bytes of an output; it rises at once.
    bytes_each: usize,
}

impl Onward {
    pub(super) fn one_by_one(queue: Arc<dyn Queue>) -> Self {
        Self::new(queue, ONE_BY_ONE..=ONE_BY_ONE)
    }

    /// Messages are worked on together by up to `runners` threads. At first, as many begin as run: nobody knows yet how
    /// large their outputs are.
    pub(super) fn together(queue: Arc<dyn Queue>, runners: usize) -> Self {
        Self::new(queue, runners..=TOGETHER.max(runners))
    }

    fn new(queue: Arc<dyn Queue>, turns: RangeInclusive<usize>) -> Self {
        Self {
            queue,
            allowed: 0,
            asking: false,
            turn: 0,
            turns,
            bytes_each: 0,
        }
    }

    pub(super) fn queue(&self) -> &dyn Queue {
        &*self.queue
    }

    /// Whether the queue has to be asked before anything more is begun.
    pub(super) fn is_blocked(&self) -> bool {
        self.allowed == 0
    }

    pub(super) fn begin(&mut self) {
        self.allowed = self.allowed.saturating_sub(1);
    }

    /// `messages` outputs have been made, which have this many `bytes` together; 0 if that is unknown.
    pub(super) fn made(&mut self, messages: usize, bytes: usize) {
        if let Some(each) = bytes.checked_div(messages)
            && bytes > 0
        {
            self.bytes_each = each.max((3 * self.bytes_each + each) / 4);
        }
    }

    /// The question whether the queue has room, if it is due. Resolves when it has room, to whether it had at once. What
    /// the last turn made must be on the queue for the answer to be of use, so at most as many messages may be
    /// `unanswered` as always begin together: those that take long hold up no others.
    pub(super) fn ask(&mut self, unanswered: usize) -> Option<BoxFuture<'static, bool>> {
        if self.asking || self.allowed > 0 || unanswered > *self.turns.start() {
            return None;
        }
        self.asking = true;
        let queue = Arc::clone(&self.queue);
        let ask = async move {
            let mut room = pin!(retry("ask for room", RETRY, || queue.room()));
            // Never an error, under that policy.
            match futures::poll!(room.as_mut()) {
                Poll::Ready(_) => true,
                Poll::Pending => {
                    room.await.unwrap_or_default();
                    false
                }
            }
        };
        Some(ask.boxed())
    }

    /// The queue has room; `at_once` says that it had some when it was asked.
    pub(super) fn has_room(&mut self, at_once: bool) {
        self.asking = false;
        let turn = match at_once {
            true => self.turn.saturating_mul(2),
            false => self.turn / 2,
        };
        let most = BYTES.checked_div(self.bytes_each).unwrap_or(usize::MAX);
        self.turn = turn.min(most).clamp(*self.turns.start(), *self.turns.end());
        self.allowed = self.turn;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use async_trait::async_trait;

    use super::*;
    use crate::core::error::Result;
    use crate::core::page::{Cursor, Page};
    use crate::queue::{BuriedMessage, Delivery, Depth, Outgoing, Receipt};

    /// A queue that has room until something is sent to it. After that, it asks to come again.
    #[derive(Debug, Default)]
    struct Rooms(AtomicBool);

    #[async_trait]
    impl Queue for Rooms {
        async fn send(&self, _: Vec<Outgoing>) -> Result<()> {
            self.0.store(true, Ordering::Relaxed);
            Ok(())
        }

        async fn room(&self) -> Result<()> {
            if self.0.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
            }
            Ok(())
        }

        async fn receive(&self, _: usize, _: Duration) -> Result<Vec<Delivery>> {
            Ok(Vec::new())
        }

        async fn acknowledge(&self, _: Vec<Receipt>) -> Result<()> {
            Ok(())
        }

        async fn release(&self, _: Receipt, _: Duration) -> Result<()> {
            Ok(())
        }

        async fn extend(&self, _: Vec<Receipt>, _: Duration) -> Result<Vec<Receipt>> {
            Ok(Vec::new())
        }

        async fn bury(&self, _: Delivery, _: &str) -> Result<()> {
            Ok(())
        }

        async fn dead_letters(&self, _: Option<&Cursor>, _: usize) -> Result<Page<BuriedMessage>> {
            Ok(Page::new(Vec::new(), None))
        }

        async fn discard(&self, _: Vec<BuriedMessage>) -> Result<()> {
            Ok(())
        }

        async fn depth(&self) -> Result<Depth> {
            Ok(Depth::new())
        }
    }

    fn queue() -> Arc<dyn Queue> {
        Arc::new(Rooms::default())
    }

    /// The messages that may be begun, all of which are.
    async fn turn(onward: &mut Onward) -> usize {
        let room = onward.ask(0).unwrap();
        assert!(onward.ask(0).is_none(), "it is asked once");
        let at_once = room.await;
        onward.has_room(at_once);
        let mut begun = 0;
        while !onward.is_blocked() {
            onward.begin();
            begun += 1;
        }
        begun
    }

    #[tokio::test]
    async fn turns_grow_while_the_next_queue_has_room() {
        let mut onward = Onward::together(queue(), 3);
        for most in [3, 6, 12, 24, 48, TOGETHER, TOGETHER] {
            assert_eq!(turn(&mut onward).await, most);
        }
        let mut onward = Onward::one_by_one(queue());
        for _ in 0..3 {
            assert_eq!(turn(&mut onward).await, ONE_BY_ONE);
        }
    }

    #[tokio::test]
    async fn turns_shrink_when_the_next_queue_is_full() {
        let queue = queue();
        let mut onward = Onward::together(Arc::clone(&queue), 2);
        for most in [2, 4, 8] {
            assert_eq!(turn(&mut onward).await, most);
        }
        // Nobody consumes from it, or the answer would not come.
        queue.send(vec![Outgoing::new("full")]).await.unwrap();
        for most in [4, 2, 2] {
            assert_eq!(turn(&mut onward).await, most);
        }
    }

    #[tokio::test]
    async fn outputs_of_a_turn_are_bounded_in_bytes() {
        let mut onward = Onward::together(queue(), 2);
        assert_eq!(turn(&mut onward).await, 2);
        onward.made(2, BYTES / 2);
        assert_eq!(turn(&mut onward).await, 4);
        onward.made(4, 16 * BYTES);
        assert_eq!(turn(&mut onward).await, 2, "at least as many as run");
        for _ in 0..100 {
            onward.made(2, 2);
            turn(&mut onward).await;
        }
        onward.made(1, 0);
        assert_eq!(turn(&mut onward).await, TOGETHER);
    }

    #[tokio::test]
    async fn the_queue_is_asked_when_it_has_what_the_last_turn_made() {
        let mut onward = Onward::together(queue(), 2);
        turn(&mut onward).await;
        assert_eq!(turn(&mut onward).await, 4);
        assert!(onward.ask(3).is_none());
        assert!(onward.ask(2).is_some(), "both may take long");
    }
}
