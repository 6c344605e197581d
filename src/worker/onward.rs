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

/// Messages that begin each time the next queue has room, if each of them waits for a free place of its stage as well.
const ONE_BY_ONE: usize = 10;
/// Most messages that begin each time the next queue has room, if they are worked on together.
const TOGETHER: usize = 128;
/// Bytes of outputs, about, that are made before the next queue is asked again.
const BYTES: usize = 256 * 1024;

/// The way to the next stage's queue.
pub(super) struct Onward {
    queue: Arc<dyn Queue>,
    asking: bool,
    turns: Turns,
}

impl Onward {
    /// Messages begin one by one.
    pub(super) fn one_by_one(queue: Arc<dyn Queue>) -> Self {
        Self::new(queue, ONE_BY_ONE..=ONE_BY_ONE)
    }

    /// Messages are worked on together by up to `runners` threads. At first, as many begin as run, because the size of
    /// their outputs is unknown.
    pub(super) fn together(queue: Arc<dyn Queue>, runners: usize) -> Self {
        Self::new(queue, runners..=TOGETHER.max(runners))
    }

    fn new(queue: Arc<dyn Queue>, sizes: RangeInclusive<usize>) -> Self {
        Self {
            queue,
            asking: false,
            turns: Turns::new(sizes),
        }
    }

    pub(super) fn queue(&self) -> &dyn Queue {
        &*self.queue
    }

    /// Whether the queue has to be asked before anything more begins.
    pub(super) fn is_blocked(&self) -> bool {
        self.turns.allowed == 0
    }

    /// A message begins.
    pub(super) fn begin(&mut self) {
        self.turns.allowed = self.turns.allowed.saturating_sub(1);
    }

    /// `messages` have been worked on, and their outputs have this many `bytes` together; 0 if that is unknown.
    pub(super) fn made(&mut self, messages: usize, bytes: usize) {
        self.turns.made(messages, bytes);
    }

    /// Asks whether the queue has room, if that is due while `unanswered` messages have begun and are not answered. Resolves
    /// when the queue has room, to whether it had some at once.
    pub(super) fn ask(&mut self, unanswered: usize) -> Option<BoxFuture<'static, bool>> {
        if self.asking || !self.turns.is_over(unanswered) {
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
        self.turns.begin_next(at_once);
    }
}

/// Messages begin in turns, because a queue reports whether it has room, but not how much. Turns grow while it has room at
/// once, and shrink when it was full.
struct Turns {
    /// Messages of the current turn that have not begun.
    allowed: usize,
    /// Messages in the current turn, and the bounds of that number.
    size: usize,
    sizes: RangeInclusive<usize>,
    /// Moving average of an output's bytes; a larger output raises it at once.
    bytes_each: usize,
}

impl Turns {
    fn new(sizes: RangeInclusive<usize>) -> Self {
        Self {
            allowed: 0,
            size: 0,
            sizes,
            bytes_each: 0,
        }
    }

    /// Whether the next turn may begin. The queue's answer is of use only when the queue has the outputs of the last turn.
    /// A few messages may be missing, which may take long: as many as run.
    fn is_over(&self, unanswered: usize) -> bool {
        self.allowed == 0 && unanswered <= *self.sizes.start()
    }

    fn made(&mut self, messages: usize, bytes: usize) {
        if let Some(each) = bytes.checked_div(messages)
            && bytes > 0
        {
            self.bytes_each = each.max((3 * self.bytes_each + each) / 4);
        }
    }

    fn begin_next(&mut self, at_once: bool) {
        let size = match at_once {
            true => self.size.saturating_mul(2),
            false => self.size / 2,
        };
        let most = BYTES.checked_div(self.bytes_each).unwrap_or(usize::MAX);
        self.size = size.min(most).clamp(*self.sizes.start(), *self.sizes.end());
        self.allowed = self.size;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the next turn, all of whose messages begin.
    fn next(turns: &mut Turns, at_once: bool) -> usize {
        assert!(turns.is_over(0));
        turns.begin_next(at_once);
        std::mem::take(&mut turns.allowed)
    }

    #[test]
    fn turns_grow_while_the_queue_has_room_and_shrink_when_it_is_full() {
        let mut turns = Turns::new(3..=128);
        for size in [3, 6, 12, 24, 48, 96, 128, 128] {
            assert_eq!(next(&mut turns, true), size);
        }
        for size in [64, 32, 16, 8, 4, 3, 3] {
            assert_eq!(next(&mut turns, false), size);
        }
        let mut turns = Turns::new(10..=10);
        for at_once in [true, true, false] {
            assert_eq!(next(&mut turns, at_once), 10);
        }
    }

    #[test]
    fn the_outputs_of_a_turn_are_bounded_in_bytes() {
        let mut turns = Turns::new(2..=128);
        assert_eq!(next(&mut turns, true), 2);
        turns.made(2, BYTES / 2);
        assert_eq!(next(&mut turns, true), 4);
        turns.made(4, 16 * BYTES);
        assert_eq!(next(&mut turns, true), 2, "at least as many as run");
        for _ in 0..100 {
            turns.made(2, 2);
            next(&mut turns, true);
        }
        turns.made(1, 0);
        assert_eq!(next(&mut turns, true), 128);
    }

    #[test]
    fn the_next_turn_begins_when_the_queue_has_what_the_last_one_made() {
        let mut turns = Turns::new(2..=128);
        turns.begin_next(true);
        assert!(!turns.is_over(0), "it has not begun");
        turns.allowed = 0;
        assert!(!turns.is_over(3));
        assert!(turns.is_over(2), "both may take long");
    }
}
