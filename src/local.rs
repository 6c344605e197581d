//! Values that never leave the process need not be encoded: a run inside one process keeps them as they are.
//!
//! A function takes its items by value, and a message may be delivered again, so what is kept must be something a
//! copy can be made of. `Clone` is not asked of users' types: only well-known ones are kept, and all others are encoded.
//! A float that JSON cannot write is not kept either, so that a run fails here as it would over a service.

use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::packet::{Message, Parcel, Work};

macro_rules! kept {
    ($with:ident!) => {
        $with!(
            (),
            bool,
            char,
            i8,
            i16,
            i32,
            i64,
            i128,
            isize,
            u8,
            u16,
            u32,
            u64,
            u128,
            usize,
            String,
            Vec<()>,
            Vec<bool>,
            Vec<char>,
            Vec<i8>,
            Vec<i16>,
            Vec<i32>,
            Vec<i64>,
            Vec<i128>,
            Vec<isize>,
            Vec<u8>,
            Vec<u16>,
            Vec<u32>,
            Vec<u64>,
            Vec<u128>,
            Vec<usize>,
            Vec<String>,
            Vec<Vec<u8>>,
            Vec<Vec<i64>>,
            Vec<Vec<u64>>,
            Vec<Vec<f64>>,
            Vec<Vec<String>>
        )
    };
}

/// Keeps a value as it is, or gives it back.
pub(crate) fn keep<T: Send + 'static>(value: T) -> Result<Arc<dyn Any + Send + Sync>, T> {
    let mut value = Some(value);
    macro_rules! keep {
        ($($kind:ty),*) => {$(
            if let Some(kept) = (&mut value as &mut dyn Any).downcast_mut::<Option<$kind>>()
                && let Some(kept) = kept.take()
            {
                return Ok(Arc::new(kept));
            }
        )*};
    }
    macro_rules! keep_finite {
        ($($kind:ty, $is_finite:expr);*) => {$(
            if let Some(kept) = (&mut value as &mut dyn Any).downcast_mut::<Option<$kind>>()
                && let Some(float) = kept.take()
            {
                let is_finite: fn(&$kind) -> bool = $is_finite;
                match is_finite(&float) {
                    true => return Ok(Arc::new(float)),
                    false => *kept = Some(float),
                }
            }
        )*};
    }
    kept!(keep!);
    keep_finite!(
        f32, |float| float.is_finite();
        f64, |float| float.is_finite();
        Vec<f32>, |floats| floats.iter().all(|float| float.is_finite());
        Vec<f64>, |floats| floats.iter().all(|float| float.is_finite())
    );
    match value {
        Some(value) => Err(value),
        // Every branch that takes the value returns it.
        None => unreachable!("a kept value is returned"),
    }
}

/// A copy of a kept value; `None` where it is of another type.
pub(crate) fn copy<T: 'static>(value: &(dyn Any + Send + Sync)) -> Option<T> {
    let mut copy: Option<T> = None;
    macro_rules! copy {
        ($($kind:ty),*) => {$(
            if let Some(copy) = (&mut copy as &mut dyn Any).downcast_mut::<Option<$kind>>() {
                *copy = value.downcast_ref::<$kind>().cloned();
            }
        )*};
    }
    kept!(copy!);
    copy!(f32, f64, Vec<f32>, Vec<f64>);
    copy
}

/// Bytes that a kept value takes, roughly.
pub(crate) fn size(value: &(dyn Any + Send + Sync)) -> usize {
    const TEXT: usize = size_of::<String>();
    macro_rules! size {
        ($($item:ty: $size:expr),*) => {$(
            if let Some(items) = value.downcast_ref::<Vec<$item>>() {
                let size: fn(&$item) -> usize = $size;
                return items.iter().map(size).sum();
            }
        )*};
    }
    macro_rules! plain {
        ($($item:ty),*) => {$(
            if let Some(items) = value.downcast_ref::<Vec<$item>>() {
                return size_of::<$item>() * items.len();
            }
        )*};
    }
    plain!(
        i64, u64, f64, i32, u32, f32, u8, i8, i16, u16, i128, u128, isize, usize, bool, char
    );
    size!(
        String: |text| TEXT + text.len(),
        Vec<u8>: |bytes| TEXT + bytes.len(),
        Vec<i64>: |numbers| TEXT + 8 * numbers.len(),
        Vec<u64>: |numbers| TEXT + 8 * numbers.len(),
        Vec<f64>: |numbers| TEXT + 8 * numbers.len(),
        Vec<String>: |texts| TEXT + texts.iter().map(|text| TEXT + text.len()).sum::<usize>()
    );
    match value.downcast_ref::<String>() {
        Some(text) => TEXT + text.len(),
        None => TEXT,
    }
}

/// Bytes of messages' values in a run inside a process, before its submitter waits: as much as a queue in memory has
/// room for.
const ROOM: usize = 4 * 1024 * 1024;

const SHARDS: usize = 8;

/// The messages and partial results of one run inside a process. What goes on its queues and into its scratchpad are
/// tickets for them: as long as somebody holds a ticket, its entry stays.
#[derive(Default)]
pub(crate) struct Locals {
    next: AtomicUsize,
    /// Bytes of values in messages.
    held: AtomicUsize,
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
    Message(Arc<Message>),
    Packet(Arc<Parcel>),
}

/// The bytes of a ticket.
const TICKET: usize = 17;

struct Ticket {
    locals: Arc<Locals>,
    shard: usize,
    place: usize,
    held: usize,
    bytes: [u8; TICKET],
}

impl AsRef<[u8]> for Ticket {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // An entry may hold a lot: it goes when the lock is free.
        let entry = self.locals.shard(self.shard).map(|mut shard| {
            shard.free.push(self.place);
            shard.entries.get_mut(self.place).and_then(Option::take)
        });
        drop(entry);
        let before = self.locals.held.fetch_sub(self.held, Ordering::Relaxed);
        if before >= ROOM && before - self.held < ROOM {
            self.locals.freed.notify_waiters();
        }
    }
}

impl Locals {
    fn shard(&self, shard: usize) -> Option<MutexGuard<'_, Shard>> {
        let shard = self.shards.get(shard)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn message(self: &Arc<Self>, message: Message) -> Bytes {
        let held = match &message.work {
            Work::Map(work) => work.packet.value.size(),
            Work::Reduce(_) => 0,
        };
        self.insert(Entry::Message(Arc::new(message)), held)
    }

    /// Waits until messages that are under way have left room for more.
    pub(crate) async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            if self.held.load(Ordering::Relaxed) < ROOM {
                return;
            }
            freed.await;
        }
    }

    pub(crate) fn packet(self: &Arc<Self>, packet: Parcel) -> Bytes {
        self.insert(Entry::Packet(Arc::new(packet)), 0)
    }

    fn insert(self: &Arc<Self>, entry: Entry, held: usize) -> Bytes {
        self.held.fetch_add(held, Ordering::Relaxed);
        let shard = self.next.fetch_add(1, Ordering::Relaxed) % SHARDS;
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
        let mut bytes = [0; TICKET];
        let (_, numbers) = bytes.split_at_mut(1);
        let (first, second) = numbers.split_at_mut(8);
        first.copy_from_slice(&(shard as u64).to_le_bytes());
        second.copy_from_slice(&(place as u64).to_le_bytes());
        Bytes::from_owner(Ticket {
            locals: Arc::clone(self),
            shard,
            place,
            held,
            bytes,
        })
    }

    fn entry(&self, ticket: &[u8]) -> Option<Entry> {
        let (_, numbers) = ticket.split_at_checked(1)?;
        let (shard, place) = numbers.split_at_checked(8)?;
        let shard = u64::from_le_bytes(shard.try_into().ok()?) as usize;
        let place = u64::from_le_bytes(place.try_into().ok()?) as usize;
        self.shard(shard)?.entries.get(place)?.clone()
    }

    pub(crate) fn read_message(&self, ticket: &[u8]) -> Option<Arc<Message>> {
        match self.entry(ticket)? {
            Entry::Message(message) => Some(message),
            Entry::Packet(_) => None,
        }
    }

    pub(crate) fn read_packet(&self, ticket: &[u8]) -> Option<Arc<Parcel>> {
        match self.entry(ticket)? {
            Entry::Packet(packet) => Some(packet),
            Entry::Message(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::PacketId;

    #[test]
    fn well_known_values_are_kept_and_others_come_back() {
        #[derive(Debug, PartialEq)]
        struct Own(i64);
        let kept = keep(vec![1i64, 2]).unwrap();
        assert_eq!(copy::<Vec<i64>>(kept.as_ref()), Some(vec![1, 2]));
        assert_eq!(
            copy::<Vec<i64>>(kept.as_ref()),
            Some(vec![1, 2]),
            "as often as it takes"
        );
        assert_eq!(copy::<Vec<u64>>(kept.as_ref()), None);
        assert_eq!(keep(Own(3)).unwrap_err(), Own(3));
        assert_eq!(keep(vec![Own(3)]).unwrap_err(), [Own(3)]);
        let kept = keep("rain".to_owned()).unwrap();
        assert_eq!(copy::<String>(kept.as_ref()).as_deref(), Some("rain"));
    }

    #[test]
    fn a_float_that_json_cannot_write_is_not_kept() {
        assert!(keep(0.5f64).is_ok() && keep(vec![0.5f32, 1.0]).is_ok());
        assert!(keep(f64::NAN).unwrap_err().is_nan());
        assert_eq!(keep(vec![1.0, f64::INFINITY]).unwrap_err().len(), 2);
    }

    #[test]
    fn an_entry_stays_as_long_as_a_ticket_for_it() {
        let locals = Arc::new(Locals::default());
        let packet = Parcel {
            array_id: "a".into(),
            packet_id: PacketId::leaf(3),
            value: crate::codec::Payload::null(),
            array_length: None,
            contains: 1,
            skipped: 0,
        };
        let ticket = locals.packet(packet.clone());
        let copy = ticket.clone();
        drop(ticket);
        assert_eq!(locals.read_packet(&copy).unwrap().packet_id.index, 3);
        assert!(locals.read_message(&copy).is_none());
        drop(copy);
        let message = locals.message(Message {
            stage: "s".into(),
            fan_in: 2,
            work: Work::Reduce(crate::packet::ReduceWork {
                array_id: "a".into(),
                level: 1,
                group: 0,
            }),
        });
        assert!(locals.read_message(&message).is_some());
        for other in [&b""[..], b"{}", &[0xff; 17], &[0; 400]] {
            assert!(locals.read_message(other).is_none());
        }
        for _ in 0..100 {
            drop(locals.packet(packet.clone()));
        }
        let entries = locals.shards.iter();
        let entries: usize = entries
            .map(|shard| shard.lock().unwrap().entries.len())
            .sum();
        assert!(entries <= 2 * SHARDS, "places are used again: {entries}");
    }
}
