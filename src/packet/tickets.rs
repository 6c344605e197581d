//! Tickets: bytes that represent, on queues and in a scratchpad, messages and partial results that
//! stay in memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::core::cores::cores;
use crate::core::one_of::OneOf;
use crate::packet::{Message, Packet};

/// Bytes of values in messages under way before the submitter of a run inside one process waits.
const ROOM: usize = 2 * 1024 * 1024;

/// What a message takes beside its items, about.
pub(super) const MESSAGE_BYTES: usize = 512;

/// This many messages are always admitted, so that oversized messages still run in parallel.
fn few() -> usize {
    2 * cores()
}

const SHARDS: usize = 8;

/// The messages and partial results of one run inside a process. Its queues and its scratchpad hold
/// tickets for them. Values that are written together share an entry, which is dropped with the
/// last of its tickets.
#[derive(Default)]
pub(crate) struct Tickets {
    next: AtomicUsize,
    /// Bytes of values in messages.
    held: AtomicUsize,
    /// The number of these messages.
    messages: AtomicUsize,
    /// How many messages beyond [`few`] are always admitted.
    more: AtomicUsize,
    freed: Notify,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
}

#[derive(Clone)]
enum Entry {
    Messages(Arc<Vec<Message>>),
    Packets(Arc<Vec<Packet>>),
}

impl Entry {
    fn len(&self) -> usize {
        match self {
            Self::Messages(messages) => messages.len(),
            Self::Packets(packets) => packets.len(),
        }
    }
}

/// The position of an entry, and the index of one value in it.
#[derive(Clone, Copy)]
struct Ticket {
    shard: u8,
    place: u32,
    index: u32,
}

impl Ticket {
    /// Its size in bytes. Its first byte is 0, with which no message in any codec begins.
    const SIZE: usize = 10;

    fn write(self, bytes: &mut Vec<u8>) {
        bytes.extend([0, self.shard]);
        bytes.extend(self.place.to_le_bytes());
        bytes.extend(self.index.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let [0, shard, place @ .., a, b, c, d] = bytes else {
            return None;
        };
        Some(Self {
            shard: *shard,
            place: u32::from_le_bytes(place.try_into().ok()?),
            index: u32::from_le_bytes([*a, *b, *c, *d]),
        })
    }
}

/// The memory that all tickets for one entry share.
struct Block {
    tickets: Arc<Tickets>,
    shard: u8,
    place: u32,
    held: usize,
    bytes: Vec<u8>,
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // An entry may hold much memory: it is dropped after the lock is released.
        let entry = self.tickets.shard(self.shard).map(|mut shard| {
            let place = self.place as usize;
            shard.free.push(place);
            shard.entries.get_mut(place).and_then(Option::take)
        });
        drop(entry);
        if self.held == 0 {
            return;
        }
        let tickets = &self.tickets;
        let held = tickets.held.fetch_sub(self.held, Ordering::Relaxed);
        let count = self.bytes.len() / Ticket::SIZE;
        tickets.messages.fetch_sub(count, Ordering::Relaxed);
        // There may have been no room before, and there is now.
        if held >= ROOM && !tickets.are_many() {
            tickets.freed.notify_waiters();
        }
    }
}

impl Tickets {
    fn shard(&self, shard: u8) -> Option<MutexGuard<'_, Shard>> {
        let shard = self.shards.get(usize::from(shard))?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns a ticket for each message. Their values take `held` bytes together.
    pub(crate) fn messages(
        self: &Arc<Self>,
        messages: Vec<Message>,
        held: usize,
    ) -> impl Iterator<Item = Bytes> {
        self.insert(Entry::Messages(Arc::new(messages)), held)
    }

    /// Returns a ticket for each packet.
    pub(crate) fn packets(self: &Arc<Self>, packets: Vec<Packet>) -> impl Iterator<Item = Bytes> {
        self.insert(Entry::Packets(Arc::new(packets)), 0)
    }

    /// Waits until there is room for more messages.
    pub(crate) async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            if !self.are_many() {
                return;
            }
            freed.await;
        }
    }

    /// Reserves room for `messages` regardless of their size.
    pub(crate) fn have_room_for(&self, messages: usize) {
        let more = messages.saturating_sub(few());
        self.more.fetch_max(more, Ordering::Relaxed);
    }

    fn are_many(&self) -> bool {
        let few = few() + self.more.load(Ordering::Relaxed);
        self.held.load(Ordering::Relaxed) >= ROOM && self.messages.load(Ordering::Relaxed) > few
    }

    fn insert(self: &Arc<Self>, entry: Entry, held: usize) -> impl Iterator<Item = Bytes> {
        let count = entry.len();
        if held > 0 {
            self.held.fetch_add(held, Ordering::Relaxed);
            self.messages.fetch_add(count, Ordering::Relaxed);
        }
        let shard = (self.next.fetch_add(1, Ordering::Relaxed) % SHARDS) as u8;
        let mut place = 0;
        if let Some(mut shard) = self.shard(shard) {
            match shard.free.pop() {
                Some(free) => {
                    place = free;
                    if let Some(slot) = shard.entries.get_mut(free) {
                        *slot = Some(entry);
                    }
                }
                None => {
                    place = shard.entries.len();
                    shard.entries.push(Some(entry));
                }
            }
        }
        // Four billion entries do not fit into memory.
        let place = place as u32;
        let mut bytes = Vec::with_capacity(Ticket::SIZE * count);
        for index in 0..count as u32 {
            Ticket {
                shard,
                place,
                index,
            }
            .write(&mut bytes);
        }
        let mut all = Bytes::from_owner(Block {
            tickets: Arc::clone(self),
            shard,
            place,
            held,
            bytes,
        });
        (0..count).map(move |_| all.split_to(Ticket::SIZE))
    }

    fn entry(&self, ticket: &[u8]) -> Option<(Entry, usize)> {
        let ticket = Ticket::read(ticket)?;
        let place = ticket.place as usize;
        let entry = self.shard(ticket.shard)?.entries.get(place)?.clone()?;
        let index = ticket.index as usize;
        (index < entry.len()).then_some((entry, index))
    }

    pub(crate) fn read_message(&self, ticket: &[u8]) -> Option<OneOf<Message>> {
        match self.entry(ticket)? {
            (Entry::Messages(all), place) => OneOf::at(all, place),
            (Entry::Packets(_), _) => None,
        }
    }

    pub(crate) fn read_packet(&self, ticket: &[u8]) -> Option<OneOf<Packet>> {
        match self.entry(ticket)? {
            (Entry::Packets(all), place) => OneOf::at(all, place),
            (Entry::Messages(_), _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::PacketId;
    use crate::packet::{LeftOut, ReduceWork, Work};

    fn message() -> Message {
        Message {
            stage: "s".into(),
            fan_in: 2,
            work: Work::Reduce(ReduceWork {
                run: "a".into(),
                level: 1,
                group: 0,
            }),
        }
    }

    #[test]
    fn an_entry_stays_as_long_as_one_of_its_tickets() {
        let tickets = Arc::new(Tickets::default());
        let packet = |index| Packet {
            run: "a".into(),
            packet_id: PacketId::leaf(index),
            value: crate::packet::codec::Payload::null(),
            array_length: None,
            contains: 1,
            skipped: 0,
            left_out: LeftOut::default(),
        };
        let mut two: Vec<Bytes> = tickets.packets(vec![packet(3), packet(4)]).collect();
        let second = two.pop().unwrap();
        let copy = second.clone();
        let index = |ticket: &[u8]| tickets.read_packet(ticket).unwrap().packet_id.index;
        assert_eq!((index(&two[0]), index(&second)), (3, 4));
        let held = || {
            let shards = tickets.shards.iter();
            let entries = shards.map(|shard| {
                let shard = shard.lock().unwrap();
                shard.entries.iter().flatten().count()
            });
            entries.sum::<usize>()
        };
        drop((two, second));
        assert_eq!((index(&copy), held()), (4, 1));
        assert!(tickets.read_message(&copy).is_none());
        let longer = [&copy[..], &[0]].concat();
        let mut beyond = copy.to_vec();
        beyond[6] = 2;
        drop(copy);
        assert_eq!(held(), 0);
        let message = tickets.messages(vec![message()], 0).next().unwrap();
        assert!(tickets.read_message(&message).is_some());
        for other in [&b""[..], b"{}", &[0xff; 10], &[0; 400], &longer, &beyond] {
            assert!(tickets.read_message(other).is_none());
        }
        for _ in 0..100 {
            drop(tickets.packets(vec![packet(0)]));
        }
        let entries = tickets.shards.iter();
        let entries: usize = entries
            .map(|shard| shard.lock().unwrap().entries.len())
            .sum();
        assert!(entries <= 2 * SHARDS, "places are used again: {entries}");
    }

    #[tokio::test]
    async fn room_is_for_so_many_bytes() {
        let tickets = Arc::new(Tickets::default());
        let ticket = |held| tickets.messages(vec![message()], held).next();
        let mut all: Vec<_> = (0..few()).map(|_| ticket(ROOM)).collect();
        tickets.room().await;
        all.push(ticket(1));
        let mut room = std::pin::pin!(tickets.room());
        assert!(futures::poll!(room.as_mut()).is_pending());
        all.pop();
        room.await;
        let small: Vec<_> = (0..few()).map(|_| ticket(1)).collect();
        let mut room = std::pin::pin!(tickets.room());
        assert!(futures::poll!(room.as_mut()).is_pending());
        all.clear();
        room.await;
        drop(small);
    }
}
