//! The state of one queue, and every change to it: plain data, no locks and no waiting.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use tokio::time::Instant;

use super::ready::Ready;
use crate::core::clock::after;
use crate::queue::find::Room;
use crate::queue::{BuriedMessage, Delivery, Depth, Outgoing, Receipt};

/// Outdated deadlines are tolerated up to the number of live ones plus this.
const STALE_DEADLINES: usize = 64;

#[derive(Debug)]
pub(super) struct Message {
    pub(super) sent: Outgoing,
    receives: u32,
}

impl Message {
    pub(super) fn new(sent: Outgoing) -> Self {
        Self { sent, receives: 0 }
    }
}

struct InFlight {
    message: Message,
    visible_at: Instant,
}

/// Hashes consecutive numbers. The queue issues them itself, so they cannot be chosen to collide.
#[derive(Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // The bits of the golden ratio (Knuth, The Art of Computer Programming 3, 6.4).
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

struct Buried {
    sent: Outgoing,
    reason: String,
    buried_at: Instant,
}

/// The messages of a queue. A message is in exactly one of the five collections.
pub(super) struct State {
    ready: Ready,
    delayed: BTreeMap<(Instant, u64), Message>,
    in_flight: HashMap<u64, InFlight, BuildHasherDefault<NumberHasher>>,
    /// Visible again, but not delivered again: the last receipt still removes these.
    lapsed: BTreeMap<u64, Message>,
    /// In the order of their burial, which is the order in which their time is up.
    dead: BTreeMap<u64, Buried>,
    /// How long dead letters are kept.
    retention: Duration,
    /// A message that has been received this often is moved to the dead letters when it would be received once more.
    most_receives: Option<u32>,

    /// Every message in flight has an entry at or before its deadline. Entries of messages that
    /// have left or were extended stay until they are due or outnumber the others.
    deadlines: BinaryHeap<Reverse<(Instant, u64)>>,
    /// The last number issued to a delivery, a delay or a dead letter.
    numbers: u64,
    /// Bytes in the bodies and attributes of all messages except dead letters.
    bytes: usize,
    /// The number of `receive` calls that are waiting.
    pub(super) waiting: usize,
    /// How often the queue was full and then had room.
    pub(super) times_freed: u64,
    /// When the last consumer left; `None` if there has been none.
    pub(super) consumers_left: Option<Instant>,
}

impl State {
    /// An empty queue that keeps its dead letters for this long.
    pub(super) fn new(retention: Duration, most_receives: Option<u32>) -> Self {
        Self {
            ready: Ready::default(),
            delayed: BTreeMap::new(),
            in_flight: HashMap::default(),
            lapsed: BTreeMap::new(),
            dead: BTreeMap::new(),
            retention,
            most_receives,
            deadlines: BinaryHeap::new(),
            // The id of a dead letter of another process must not name one of this process.
            numbers: u64::from(fastrand::u32(..)) << 20,
            bytes: 0,
            waiting: 0,
            times_freed: 0,
            consumers_left: None,
        }
    }

    pub(super) fn push(&mut self, messages: Vec<Outgoing>) {
        self.ready.reserve(messages.len());
        for message in messages {
            self.push_one(message);
        }
    }

    fn push_one(&mut self, sent: Outgoing) {
        self.bytes += sent.size();
        self.ready.push(Message::new(sent));
    }

    /// Makes the messages visible whose time has come, and drops the dead letters whose time is up.
    pub(super) fn sweep(&mut self, now: Instant) {
        while let Some(oldest) = self.dead.first_entry()
            && after(oldest.get().buried_at, self.retention) <= now
        {
            oldest.remove();
        }
        while let Some(first) = self.delayed.first_entry()
            && first.key().0 <= now
        {
            self.ready.push(first.remove());
        }
        while let Some(Reverse((at, number))) = self.deadlines.peek().copied()
            && at <= now
        {
            self.deadlines.pop();
            match self.in_flight.get(&number).map(|held| held.visible_at) {
                Some(visible_at) if visible_at <= now => {
                    if let Some(held) = self.in_flight.remove(&number) {
                        self.lapsed.insert(number, held.message);
                    }
                }
                Some(visible_at) => self.deadlines.push(Reverse((visible_at, number))),
                None => {}
            }
        }
    }

    /// Takes up to `max` messages: redelivered ones first, then those of each run in turn.
    pub(super) fn take(&mut self, max: usize, now: Instant, visible_at: Instant) -> Vec<Delivery> {
        let count = max.min(self.lapsed.len() + self.ready.len());
        let mut deliveries = Vec::with_capacity(count);
        while deliveries.len() < count {
            let lapsed = self.lapsed.pop_first().map(|(_, message)| message);
            let Some(mut message) = lapsed.or_else(|| self.ready.pop()) else {
                break;
            };
            if self
                .most_receives
                .is_some_and(|most| message.receives >= most)
            {
                self.move_away(message, "", now);
                continue;
            }
            message.receives = message.receives.saturating_add(1);
            let number = self.number();
            let receipt = Receipt::from(number);
            let sent = message.sent.clone();
            deliveries.push(Delivery::new(sent, receipt, message.receives));
            self.deadlines.push(Reverse((visible_at, number)));
            self.in_flight.insert(
                number,
                InFlight {
                    message,
                    visible_at,
                },
            );
        }
        deliveries
    }

    pub(super) fn acknowledge(&mut self, receipts: &[Receipt]) {
        for receipt in receipts {
            if let Some(message) = self.remove(receipt) {
                self.bytes -= message.sent.size();
            }
        }
        self.drop_stale_deadlines();
    }

    pub(super) fn release(&mut self, receipts: &[Receipt], now: Instant, after_delay: Duration) {
        for receipt in receipts {
            let number = receipt.as_u64();
            let Some(held) = number.and_then(|number| self.in_flight.remove(&number)) else {
                continue;
            };
            if after_delay.is_zero() {
                self.ready.push(held.message);
            } else {
                let number = self.number();
                self.delayed
                    .insert((after(now, after_delay), number), held.message);
            }
        }
        self.drop_stale_deadlines();
    }

    /// Hides messages until `visible_at`. Returns the receipts of messages that are not in flight.
    pub(super) fn extend(&mut self, receipts: Vec<Receipt>, visible_at: Instant) -> Vec<Receipt> {
        let mut stale = Vec::new();
        for receipt in receipts {
            let held = receipt
                .as_u64()
                .and_then(|number| Some((number, self.in_flight.get_mut(&number)?)));
            match held {
                Some((number, held)) => {
                    // A later deadline needs no entry of its own: the earlier entry leads to it.
                    if visible_at < held.visible_at {
                        self.deadlines.push(Reverse((visible_at, number)));
                    }
                    held.visible_at = visible_at;
                }
                None => stale.push(receipt),
            }
        }
        self.drop_stale_deadlines();
        stale
    }

    pub(super) fn bury(&mut self, receipt: &Receipt, reason: &str, now: Instant) {
        if let Some(message) = self.remove(receipt) {
            self.move_away(message, reason, now);
            self.drop_stale_deadlines();
        }
    }

    fn move_away(&mut self, message: Message, reason: &str, now: Instant) {
        self.bytes -= message.sent.size();
        let number = self.number();
        self.dead.insert(
            number,
            Buried {
                sent: message.sent,
                reason: reason.to_owned(),
                buried_at: now,
            },
        );
    }

    /// The first dead letters with numbers above `after`: at most `max`, and as many as make a page. The number of the
    /// last of them, if there are more.
    pub(super) fn dead_letters(&self, after: u64, max: usize) -> (Vec<BuriedMessage>, Option<u64>) {
        let mut found = Room::new(max);
        let mut last = None;
        for (number, buried) in self.dead.range(after.saturating_add(1)..) {
            if found.is_full() {
                return (found.messages, last);
            }
            let receipt = Receipt::from(*number);
            let message = BuriedMessage::new(buried.sent.clone(), buried.reason.clone(), receipt);
            if !found.fits(&message) {
                return (found.messages, last);
            }
            found.push(message);
            last = Some(*number);
        }
        (found.messages, None)
    }

    /// Returns the receipts of those that are not there.
    pub(super) fn redrive(&mut self, messages: Vec<BuriedMessage>) -> Vec<Receipt> {
        let mut gone = Vec::new();
        for message in messages {
            match self.exhume(&message.receipt) {
                Some(sent) => self.push_one(sent),
                None => gone.push(message.receipt),
            }
        }
        gone
    }

    /// Returns the receipts of those that are not there.
    pub(super) fn discard(&mut self, messages: Vec<BuriedMessage>) -> Vec<Receipt> {
        let receipts = messages.into_iter().map(|message| message.receipt);
        receipts
            .filter(|receipt| self.exhume(receipt).is_none())
            .collect()
    }

    pub(super) fn depth(&self) -> Depth {
        Depth::new()
            .ready((self.ready.len() + self.lapsed.len()) as u64)
            .in_flight(self.in_flight.len() as u64)
            .delayed(self.delayed.len() as u64)
            .dead(self.dead.len() as u64)
    }

    /// The number of ready, delayed and in-flight messages, and the bytes of their bodies and
    /// attributes.
    pub(super) fn load(&self) -> (usize, usize) {
        let messages =
            self.ready.len() + self.lapsed.len() + self.delayed.len() + self.in_flight.len();
        (messages, self.bytes)
    }

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty() || !self.lapsed.is_empty()
    }

    pub(super) fn has_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// The next deadline: no message becomes visible by itself before it.
    pub(super) fn next_change(&self) -> Option<Instant> {
        let lapse = self.deadlines.peek().map(|Reverse((at, _))| *at);
        let delay = self.delayed.first_key_value().map(|((at, _), _)| *at);
        match (lapse, delay) {
            (Some(lapse), Some(delay)) => Some(lapse.min(delay)),
            (lapse, delay) => lapse.or(delay),
        }
    }

    #[cfg(test)]
    pub(super) fn deadlines(&self) -> usize {
        self.deadlines.len()
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Removes a message, given the receipt of its last delivery.
    fn remove(&mut self, receipt: &Receipt) -> Option<Message> {
        let number = receipt.as_u64()?;
        match self.in_flight.remove(&number) {
            Some(held) => Some(held.message),
            None => self.lapsed.remove(&number),
        }
    }

    fn exhume(&mut self, receipt: &Receipt) -> Option<Outgoing> {
        let buried = self.dead.remove(&receipt.as_u64()?)?;
        Some(buried.sent)
    }

    /// Keeps the number of deadlines in proportion to the messages in flight, at a constant cost
    /// per message that left.
    fn drop_stale_deadlines(&mut self) {
        if self.deadlines.len() > 2 * self.in_flight.len() + STALE_DEADLINES {
            self.deadlines.clear();
            let live = self.in_flight.iter();
            self.deadlines
                .extend(live.map(|(number, held)| Reverse((held.visible_at, *number))));
        }
    }
}
