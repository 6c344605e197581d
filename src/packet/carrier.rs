//! Turns a deployment's messages and partial results into the bytes that a queue and a scratchpad
//! keep, and back.

use std::sync::Arc;

use bytes::Bytes;

use super::Malformed;
use super::codec::{Codec, Form};
use super::tickets::{MESSAGE_BYTES, Tickets};
use crate::core::error::{Error, Result};
use crate::core::one_of::OneOf;
use crate::packet::{Message, Packet};

/// Writes and reads what travels. Clones share their tickets.
#[derive(Clone)]
pub(crate) enum Carrier {
    /// Values are encoded and can leave the process. Messages bear the deployment that they belong to.
    Wire { codec: Codec, deployment: Arc<str> },
    /// Values stay in memory, and tickets for them travel: nothing leaves the process.
    Local(Arc<Tickets>),
}

impl Carrier {
    /// The carrier of a run inside this process.
    pub(crate) fn local() -> Self {
        Self::Local(Arc::default())
    }

    /// The carrier of a deployment.
    pub(crate) fn wire(codec: Codec, deployment: impl Into<Arc<str>>) -> Self {
        Self::Wire {
            codec,
            deployment: deployment.into(),
        }
    }

    /// The form that values take in messages and packets.
    pub(crate) fn form(&self) -> Form {
        match self {
            Self::Wire { codec, .. } => Form::Wire(*codec),
            Self::Local(_) => Form::Local,
        }
    }

    /// Reserves room for `messages` regardless of their size.
    pub(crate) fn have_room_for(&self, messages: usize) {
        if let Self::Local(tickets) = self {
            tickets.have_room_for(messages);
        }
    }

    /// Waits until there is room for more messages.
    pub(crate) async fn room(&self) {
        if let Self::Local(tickets) = self {
            tickets.room().await;
        }
    }

    pub(crate) fn write_message(&self, message: Message) -> Result<Bytes> {
        only(self.write_messages(vec![message]))
    }

    /// Returns one body per message.
    pub(crate) fn write_messages(&self, messages: Vec<Message>) -> Vec<Result<Bytes>> {
        match self {
            Self::Wire { codec, deployment } => messages
                .iter()
                .map(|message| message.encode(*codec, deployment))
                .collect(),
            Self::Local(tickets) => blocks(messages, Message::size)
                .flat_map(|(block, held)| tickets.messages(block, held))
                .map(Ok)
                .collect(),
        }
    }

    /// As [`write_messages`](Self::write_messages), for messages that share their memory inside the process. Their values
    /// take `bytes` there.
    pub(crate) fn write_block(&self, messages: Vec<Message>, bytes: usize) -> Vec<Result<Bytes>> {
        match self {
            Self::Wire { .. } => self.write_messages(messages),
            Self::Local(tickets) => {
                let held = bytes + MESSAGE_BYTES * messages.len();
                tickets.messages(messages, held).map(Ok).collect()
            }
        }
    }

    pub(crate) fn read_message(&self, body: &Bytes) -> Result<OneOf<Message>, Malformed> {
        match self {
            Self::Wire { deployment, .. } => Message::decode(body, deployment).map(OneOf::from),
            Self::Local(tickets) => tickets.read_message(body).ok_or(Malformed::UnknownTicket),
        }
    }

    pub(crate) fn write_packet(&self, packet: Packet) -> Result<Bytes> {
        only(self.write_packets(vec![packet]))
    }

    /// Returns the bytes to store for each packet.
    pub(crate) fn write_packets(&self, packets: Vec<Packet>) -> Vec<Result<Bytes>> {
        match self {
            Self::Wire { codec, .. } => packets.iter().map(|packet| packet.write(*codec)).collect(),
            Self::Local(tickets) => blocks(packets, |packet| packet.value.size())
                .flat_map(|(block, _)| tickets.packets(block))
                .map(Ok)
                .collect(),
        }
    }

    pub(crate) fn read_packet(&self, bytes: &Bytes) -> Result<OneOf<Packet>> {
        match self {
            Self::Wire { .. } => Packet::read(bytes).map(OneOf::from),
            Self::Local(tickets) => tickets
                .read_packet(bytes)
                .ok_or_else(|| Error::decode("a stored packet", Malformed::UnknownTicket)),
        }
    }
}

/// Bytes of values after which an entry is full.
const TOGETHER: usize = 64 * 1024;

/// Splits `all` into the contents of entries, in order, each with its size in bytes.
fn blocks<T>(all: Vec<T>, size: impl Fn(&T) -> usize) -> impl Iterator<Item = (Vec<T>, usize)> {
    let mut rest = all.into_iter();
    std::iter::from_fn(move || {
        let mut block = Vec::with_capacity(rest.len());
        let mut held = 0;
        while held < TOGETHER
            && let Some(next) = rest.next()
        {
            held += size(&next);
            block.push(next);
        }
        (!block.is_empty()).then_some((block, held))
    })
}

/// The only element of `written`.
fn only(written: Vec<Result<Bytes>>) -> Result<Bytes> {
    let nothing = || Error::encode("a packet", "nothing came of it");
    written.into_iter().next().unwrap_or_else(|| Err(nothing()))
}
