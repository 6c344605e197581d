//! Turns a deployment's messages and partial results into the bytes that a queue and a scratchpad
//! keep, and back.

use std::sync::Arc;

use bytes::Bytes;

use super::Malformed;
use super::codec::{Codec, Form};
#[cfg(feature = "signed")]
use super::keys::Keys;
#[cfg(feature = "signed")]
use super::seal;
use super::seal::{Place, Seal};
use super::tickets::{MESSAGE_BYTES, Tickets};
use crate::core::error::{Error, Result};
use crate::core::generation::RunKey;
use crate::core::one_of::OneOf;
use crate::packet::{Message, Packet};

/// Writes and reads what travels. Clones share their tickets.
#[derive(Clone)]
pub(crate) enum Carrier {
    /// Values are encoded and can leave the process. Messages bear the deployment that they belong to, and whatever is
    /// written has a tag if the deployment has keys.
    Wire {
        codec: Codec,
        deployment: Arc<str>,
        seal: Seal,
    },
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
            seal: Seal::default(),
        }
    }

    /// The same carrier with keys. What stays in the process is not signed.
    #[cfg(feature = "signed")]
    pub(crate) fn signed(mut self, keys: Keys) -> Self {
        if let Self::Wire { seal, .. } = &mut self {
            *seal = Seal::new(keys);
        }
        self
    }

    /// The form that values take in messages and packets.
    pub(crate) fn form(&self) -> Form {
        match self {
            Self::Wire { codec, .. } => Form::Wire(*codec),
            Self::Local(_) => Form::Local,
        }
    }

    /// Whether what is written has a tag.
    pub(crate) fn signs(&self) -> bool {
        match self {
            #[cfg(feature = "signed")]
            Self::Wire { seal, .. } => seal.keys().is_some(),
            _ => false,
        }
    }

    /// Whether what has no tag is believed.
    pub(super) fn accepts_unsigned(&self) -> bool {
        match self {
            #[cfg(feature = "signed")]
            Self::Wire { seal, .. } => seal.keys().is_none_or(Keys::accepts_unsigned),
            _ => true,
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
            Self::Wire {
                codec,
                deployment,
                seal,
            } => messages
                .iter()
                .map(|message| {
                    let body = message.encode(*codec, deployment)?;
                    Ok(seal.seal(deployment, &Place::Queue(&message.stage), body))
                })
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

    /// Reads the result of a run, which bears the run's generation.
    pub(crate) fn read_result(&self, run: &RunKey, bytes: &Bytes) -> Result<OneOf<Packet>> {
        let packet = self.read_packet(Place::Result(run), bytes)?;
        if packet.run != *run {
            let problem =
                "it is that of another run; whoever writes to the scratchpad has put it there";
            return Err(Error::decode(
                format!("the result of run {}", run.id),
                problem,
            ));
        }
        Ok(packet)
    }

    /// Reads a message that was on the queue of `stage`, or among its dead letters.
    pub(crate) fn read_message(
        &self,
        stage: &str,
        body: &Bytes,
    ) -> Result<OneOf<Message>, Malformed> {
        match self {
            Self::Wire {
                deployment, seal, ..
            } => {
                let opened = seal.open(deployment, &Place::Queue(stage), body);
                let opened = opened.map_err(|malformed| match malformed {
                    #[cfg(feature = "signed")]
                    Malformed::Forged => misplaced(seal, deployment, stage, body),
                    malformed => malformed,
                })?;
                Message::decode(&opened, deployment).map(OneOf::from)
            }
            Self::Local(tickets) => tickets.read_message(body).ok_or(Malformed::UnknownTicket),
        }
    }

    pub(crate) fn write_packet(&self, place: Place<'_>, packet: Packet) -> Result<Bytes> {
        only(self.write_packets([place], vec![packet]))
    }

    /// Returns the bytes to store for each packet, which belongs in the place of the same number.
    pub(crate) fn write_packets<'a>(
        &self,
        places: impl IntoIterator<Item = Place<'a>>,
        packets: Vec<Packet>,
    ) -> Vec<Result<Bytes>> {
        match self {
            Self::Wire {
                codec,
                deployment,
                seal,
            } => packets
                .iter()
                .zip(places)
                .map(|(packet, place)| {
                    let bytes = packet.write(*codec)?;
                    Ok(seal.seal(deployment, &place, bytes))
                })
                .collect(),
            Self::Local(tickets) => blocks(packets, |packet| packet.value.size())
                .flat_map(|(block, _)| tickets.packets(block))
                .map(Ok)
                .collect(),
        }
    }

    /// Reads a packet that was stored in this place.
    pub(crate) fn read_packet(&self, place: Place<'_>, bytes: &Bytes) -> Result<OneOf<Packet>> {
        match self {
            Self::Wire {
                deployment, seal, ..
            } => {
                let opened = seal.open(deployment, &place, bytes);
                let bytes =
                    opened.map_err(|malformed| Error::decode("a stored packet", malformed))?;
                Packet::read(&bytes).map(OneOf::from)
            }
            Self::Local(tickets) => tickets
                .read_packet(bytes)
                .ok_or_else(|| Error::decode("a stored packet", Malformed::UnknownTicket)),
        }
    }

    /// The reason of a dead letter of `stage` as its queue keeps it beside the `body`.
    pub(crate) fn write_reason(&self, stage: &str, body: &[u8], reason: String) -> String {
        let Self::Wire {
            deployment, seal, ..
        } = self
        else {
            return reason;
        };
        let place = Place::Reason(stage, body);
        let sealed = seal.seal(deployment, &place, Bytes::from(reason.into_bytes()));
        // Text and digits.
        String::from_utf8_lossy(&sealed).into_owned()
    }

    /// Whether the reason that was beside the `body` of a dead letter of `stage` may be believed.
    pub(crate) fn check_reason(
        &self,
        stage: &str,
        body: &[u8],
        reason: &str,
    ) -> Result<(), Malformed> {
        let Self::Wire {
            deployment, seal, ..
        } = self
        else {
            return Ok(());
        };
        let place = Place::Reason(stage, body);
        let reason = Bytes::copy_from_slice(reason.as_bytes());
        seal.open(deployment, &place, &reason).map(drop)
    }
}

/// What is wrong with a message whose tag does not verify on the queue of `stage`: for a person, it matters whether the tag
/// is that of the queue that the message itself names.
#[cfg(feature = "signed")]
fn misplaced(seal: &Seal, deployment: &str, stage: &str, body: &Bytes) -> Malformed {
    let named = match Message::decode(&seal::without_tag(body), deployment) {
        Ok(message) => (deployment.to_owned(), message.stage.to_string()),
        Err(Malformed::Foreign(foreign)) => (foreign.deployment, foreign.message.stage.to_string()),
        Err(_) => return Malformed::Forged,
    };
    let is_here = (named.0.as_str(), named.1.as_str()) == (deployment, stage);
    match seal.open(&named.0, &Place::Queue(&named.1), body) {
        Ok(_) if !is_here => Malformed::Misplaced {
            deployment: named.0,
            stage: named.1,
        },
        _ => Malformed::Forged,
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
