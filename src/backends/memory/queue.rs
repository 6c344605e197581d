//! * Queues in this process.

mod ready;
mod state;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use self::state::State;
use super::lock;
use crate::core::clock::after;
use crate::core::cores::cores;
use crate::core::error::{Error, Oversized, Result};
use crate::core::provision::Change;
use crate::queue::{
    BuriedMessage, Cursor, Delivery, Depth, Outgoing, Page, Queue, QueueOptions, Queues, Receipt,
};

const DEFAULT_MESSAGES: usize = 1_024;
const DEFAULT_BYTES: usize = 4 * 1024 * 1024;
const DEFAULT_RETENTION: Duration = Duration::from_secs(60 * 60);
/// The name of the list of dead letters in its cursors.
const DEAD_LETTERS: &str = "memory-dead-letters";

/// How long a queue still counts as consumed after its last message was handled: a worker that
/// takes one message at a time is about to receive again.
const BETWEEN_MESSAGES: Duration = Duration::from_millis(100);

/// Queues in this process, created when they are first opened. A clone is another handle on the
/// same queues.
///
/// They keep the contract of [`Queue`] as a service does, on tokio's clock. In addition:
///
/// - **Order.** None is promised. In practice those of a [run](Outgoing::run) arrive in the order in which they were sent, about
///   4 KiB of each run in turn, and redelivered ones arrive first.
/// - **Receipts.** Each delivery has its own, and only the last one of a message counts. Once its
///   visibility timeout is over, a message is ready for delivery; until that delivery happens, the
///   old receipt still [acknowledges](Queue::acknowledge) and [buries](Queue::bury) it, since the
///   work was done after all, but [`extend`](Queue::extend) and [`release`](Queue::release) treat
///   it as stale. A released message's receipt is stale for every purpose. Burying with a stale
///   receipt changes nothing. A receipt can be round-tripped through its text form, e.g. in a
///   Lambda event.
/// - **Visibility timeout.** Belongs to the handle: each handle applies the one it was opened with.
/// - **Dead letters.** Kept until they are redriven or discarded, and for an hour at most, as long
///   as a [`MemoryScratchpad`](super::MemoryScratchpad) keeps a failed run;
///   [`retention`](MemoryQueues::retention) changes that time. They do not count towards the
///   capacity.
///
/// ```
/// use std::time::Duration;
/// use catchment::backends::memory::MemoryQueues;
/// use catchment::queue::{QueueOptions, Queues};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> catchment::Result<()> {
/// let queue = MemoryQueues::new().open("letters", &QueueOptions::default()).await?;
/// queue.send(vec!["hello".into()]).await?;
/// let received = queue.receive(10, Duration::from_secs(1)).await?;
/// assert_eq!(received[0].body, "hello");
/// queue.acknowledge(vec![received[0].receipt.clone()]).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct MemoryQueues {
    queues: Arc<Mutex<HashMap<String, Arc<Shared>>>>,
    capacity: Capacity,
    max_body: Option<usize>,
    most_receives: Option<u32>,
    retention: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Capacity {
    messages: usize,
    bytes: usize,
    /// This many messages always fit, regardless of their size.
    few: usize,
}

impl Default for MemoryQueues {
    fn default() -> Self {
        let mut queues = Self::with_capacity(DEFAULT_MESSAGES, DEFAULT_BYTES);
        queues.capacity.few = 2 * cores();
        queues
    }
}

impl MemoryQueues {
    /// Queues with room for 1,024 messages and 4 MiB each. Two messages per core of the machine
    /// always fit, so that oversized messages still run in parallel.
    pub fn new() -> Self {
        Self::default()
    }

    /// Queues that each have room for this many messages, and for this many bytes of bodies and
    /// attributes. Ready, delayed and in-flight messages count. A full queue still accepts what is
    /// [sent](Queue::send); only [`room`](Queue::room) waits.
    ///
    /// It returns once there has been room, also if another call was faster, so that the queue may exceed its capacity by a
    /// message for each call that waited. It waits while the queue is being consumed: a [`receive`](Queue::receive) call is waiting,
    /// messages are in flight, or either was true in the last 100 milliseconds. Otherwise it lets
    /// other tasks run once, and returns if that changed nothing.
    pub fn with_capacity(messages: usize, bytes: usize) -> Self {
        Self {
            queues: Arc::default(),
            capacity: Capacity {
                messages,
                bytes,
                few: 0,
            },
            max_body: None,
            most_receives: None,
            retention: DEFAULT_RETENTION,
        }
    }

    /// Sets how long dead letters are kept after their burial, on tokio's clock (default: one hour).
    /// Those whose time is up are dropped at the queue's next call. A queue keeps the retention it
    /// was first opened with.
    ///
    /// A run cannot be redriven once its dead letters are gone. If runs go on for hours after a
    /// failure, set a longer time here and in
    /// [`MemoryScratchpad::retention`](super::MemoryScratchpad::retention).
    ///
    /// ```
    /// use std::time::Duration;
    /// use catchment::Backend;
    /// use catchment::backends::memory::{MemoryQueues, MemoryScratchpad};
    ///
    /// let day = Duration::from_secs(24 * 60 * 60);
    /// let queues = MemoryQueues::new().retention(day);
    /// let backend = Backend::new(queues, MemoryScratchpad::new().retention(day));
    /// # let _ = backend;
    /// ```
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// Sets the largest message in bytes, body and attributes together: larger ones are refused, as
    /// services do. A queue keeps the limit it was first opened with.
    #[must_use]
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = Some(bytes);
        self
    }

    /// Sets the number of receives after which a message is moved to the dead letters without a reason instead of
    /// being received once more, as a queue service's own redrive policy does (default: none). A queue
    /// keeps the number it was first opened with.
    #[must_use]
    pub fn most_receives(mut self, receives: u32) -> Self {
        self.most_receives = Some(receives);
        self
    }

    fn queue(&self, name: &str) -> Arc<Shared> {
        let mut queues = lock(&self.queues);
        if let Some(queue) = queues.get(name) {
            return Arc::clone(queue);
        }
        let queue = Arc::new(Shared {
            name: name.to_owned(),
            capacity: self.capacity,
            max_body: self.max_body,
            most_receives: self.most_receives,
            state: Mutex::new(State::new(self.retention, self.most_receives)),
            arrivals: Notify::new(),
            room: Notify::new(),
        });
        queues.insert(name.to_owned(), Arc::clone(&queue));
        queue
    }
}

impl std::fmt::Debug for MemoryQueues {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("MemoryQueues")
            .field("capacity", &self.capacity)
            .field("max_body", &self.max_body)
            .field("most_receives", &self.most_receives)
            .field("retention", &self.retention)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Queues for MemoryQueues {
    async fn open(&self, name: &str, options: &QueueOptions) -> Result<Arc<dyn Queue>> {
        Ok(Arc::new(MemoryQueue {
            shared: self.queue(name),
            visibility_timeout: options.visibility_timeout,
        }))
    }

    async fn deprovision(&self, name: &str) -> Result<Vec<Change>> {
        let queue = format!("queue {name}");
        Ok(match lock(&self.queues).remove(name) {
            Some(_) => vec![Change::deleted(queue)],
            None => vec![Change::unchanged(queue)],
        })
    }
}

/// A queue, shared by all its handles.
struct Shared {
    name: String,
    capacity: Capacity,
    most_receives: Option<u32>,
    max_body: Option<usize>,
    state: Mutex<State>,
    /// Wakes one receiver per batch of new messages; a receiver that leaves some wakes the next.
    /// Wakes all receivers when the next deadline has moved closer.
    arrivals: Notify,
    /// Wakes all calls of `room` when there is room, and when the last consumer has left.
    room: Notify,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Shared")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The conditions that other calls wait for.
struct Outline {
    full: bool,
    consumed: bool,
    next_change: Option<Instant>,
}

impl Shared {
    /// Applies a change to the state as of now, and wakes the calls that wait for it.
    ///
    /// No wake-up is missed, because a waiting call creates its `Notified` first, then checks the
    /// state under the lock, then awaits.
    fn change<T>(&self, change: impl FnOnce(&mut State, Instant) -> T) -> T {
        let mut state = lock(&self.state);
        let now = Instant::now();
        let before = self.outline(&state);
        state.sweep(now);
        let value = change(&mut state, now);
        let outline = self.outline(&state);

        let deserted = before.consumed && !outline.consumed;
        if deserted {
            state.consumers_left = Some(now);
        }
        let is_freed = before.full && !outline.full;
        if is_freed {
            state.times_freed += 1;
        }
        let room = deserted || is_freed;
        let is_earlier = match (before.next_change, outline.next_change) {
            (Some(before), Some(next)) => next < before,
            (None, next) => next.is_some(),
            (Some(_), None) => false,
        };
        let receivers_wait = state.waiting > 0;
        let has_ready = state.has_ready();
        drop(state);

        if room {
            self.room.notify_waiters();
        }
        if receivers_wait && is_earlier {
            self.arrivals.notify_waiters();
        }
        if receivers_wait && has_ready {
            self.arrivals.notify_one();
        }
        value
    }

    fn outline(&self, state: &State) -> Outline {
        Outline {
            full: self.is_full(state),
            consumed: state.waiting > 0 || state.has_in_flight(),
            next_change: state.next_change(),
        }
    }

    fn is_full(&self, state: &State) -> bool {
        let (messages, bytes) = state.load();
        let Capacity {
            messages: most,
            bytes: most_bytes,
            few,
        } = self.capacity;
        messages >= most || bytes >= most_bytes && messages >= few
    }

    fn outlook(&self, state: &State, now: Instant) -> Outlook {
        if !self.is_full(state) {
            Outlook::Room
        } else if state.has_in_flight() {
            // If their consumer has died, they become visible again, and no consumer is left.
            Outlook::Wait(state.next_change())
        } else if state.waiting > 0 {
            Outlook::Wait(None)
        } else {
            match state.consumers_left.map(|left| left + BETWEEN_MESSAGES) {
                Some(returning) if now < returning => Outlook::Wait(Some(returning)),
                _ => Outlook::Deserted,
            }
        }
    }
}

/// The answer to a call of `room`.
enum Outlook {
    Room,
    /// The queue is full and is being consumed. Check again when notified, or at this time.
    Wait(Option<Instant>),
    Deserted,
}

/// A `receive` call that waits, counted from the beginning of the wait until it is dropped.
struct Waiting<'a>(&'a Shared);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.change(|state, _| state.waiting -= 1);
    }
}

/// A handle on a queue.
#[derive(Debug)]
struct MemoryQueue {
    shared: Arc<Shared>,
    visibility_timeout: Duration,
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn send(&self, messages: Vec<Outgoing>) -> Result<()> {
        if let Some(limit) = self.shared.max_body
            && let Some(large) = messages.iter().find(|message| message.size() > limit)
        {
            let what = format!("a message for queue `{}`", self.shared.name);
            return Err(Error::too_large(
                Oversized::Message,
                what,
                large.size(),
                limit,
            ));
        }
        if !messages.is_empty() {
            self.shared.change(|state, _| state.push(messages));
        }
        Ok(())
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        // A caller that never finds the queue empty must still let other tasks run.
        tokio::task::consume_budget().await;
        let mut until = None;
        let mut waiting = None;
        loop {
            let arrival = self.shared.arrivals.notified();
            let (deliveries, next_change) = self.shared.change(|state, now| {
                let until = *until.get_or_insert_with(|| after(now, wait));
                let deliveries = state.take(max.max(1), now, after(now, self.visibility_timeout));
                if !deliveries.is_empty() || now >= until {
                    return (deliveries, None);
                }
                if waiting.is_none() {
                    state.waiting += 1;
                }
                let next_change = state.next_change().unwrap_or(until);
                (deliveries, Some(next_change.min(until)))
            });
            // Taken and returned in the same poll, so that dropping this future loses nothing.
            let Some(next_change) = next_change else {
                return Ok(deliveries);
            };
            waiting.get_or_insert_with(|| Waiting(&self.shared));
            tokio::select! {
                biased;
                () = arrival => {}
                () = sleep_until(next_change) => {}
            }
        }
    }

    async fn acknowledge(&self, receipts: Vec<Receipt>) -> Result<()> {
        self.shared.change(|state, _| state.acknowledge(&receipts));
        Ok(())
    }

    async fn release(&self, receipts: Vec<Receipt>, after: Duration) -> Result<()> {
        self.shared
            .change(|state, now| state.release(&receipts, now, after));
        Ok(())
    }

    async fn extend(&self, receipts: Vec<Receipt>, by: Duration) -> Result<Vec<Receipt>> {
        Ok(self
            .shared
            .change(|state, now| state.extend(receipts, after(now, by))))
    }

    async fn bury(&self, delivery: Delivery, reason: &str) -> Result<()> {
        self.shared
            .change(|state, now| state.bury(&delivery.receipt, reason, now));
        Ok(())
    }

    async fn dead_letters(
        &self,
        cursor: Option<&Cursor>,
        max: usize,
    ) -> Result<Page<BuriedMessage>> {
        let after = cursor.map(|cursor| cursor.decode(DEAD_LETTERS));
        let after = after.transpose()?.unwrap_or(0);
        let max = max.max(1);
        let (letters, more_after) = self
            .shared
            .change(|state, _| state.dead_letters(after, max));
        let next = more_after.map(|number| Cursor::encode(DEAD_LETTERS, &number));
        Ok(Page::new(letters, next.transpose()?))
    }

    async fn redrive(&self, messages: Vec<BuriedMessage>) -> Result<Vec<Receipt>> {
        Ok(self.shared.change(|state, _| state.redrive(messages)))
    }

    async fn discard(&self, messages: Vec<BuriedMessage>) -> Result<Vec<Receipt>> {
        Ok(self.shared.change(|state, _| state.discard(messages)))
    }

    async fn depth(&self) -> Result<Depth> {
        Ok(self.shared.change(|state, _| state.depth()))
    }

    async fn room(&self) -> Result<()> {
        let mut has_yielded = false;
        let mut times_freed = None;
        loop {
            let changed = self.shared.room.notified();
            let (outlook, times) = self
                .shared
                .change(|state, now| (self.shared.outlook(state, now), state.times_freed));
            if times != *times_freed.get_or_insert(times) {
                // Others were faster. They would be each time, if the one that fills the queue is never far from its next call.
                return Ok(());
            }
            match outlook {
                Outlook::Room => return Ok(()),
                Outlook::Deserted if has_yielded => return Ok(()),
                Outlook::Deserted => {
                    tokio::task::yield_now().await;
                    has_yielded = true;
                }
                Outlook::Wait(None) => changed.await,
                Outlook::Wait(Some(until)) => tokio::select! {
                    biased;
                    () = changed => {}
                    () = sleep_until(until) => {}
                },
            }
        }
    }

    fn most_receives(&self) -> Option<u32> {
        self.shared.most_receives
    }

    fn max_body(&self) -> Option<usize> {
        self.shared.max_body
    }
}
