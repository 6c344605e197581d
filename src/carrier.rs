//! How a deployment's messages and partial results become what a queue and a scratchpad keep.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{Codec, Form};
use crate::error::{Error, Result};
use crate::local::Locals;
use crate::packet::{Message, Parcel};

/// Writes and reads what travels.
pub(crate) enum Carrier {
    /// In bytes that can leave the process.
    Wire(Codec),
    /// As it is, with tickets in its place: nothing leaves the process.
    Local(Arc<Locals>),
}

impl Carrier {
    /// For a run inside this process.
    pub(crate) fn local() -> Self {
        Self::Local(Arc::default())
    }

    /// What is to be made of values.
    pub(crate) fn form(&self) -> Form {
        match self {
            Self::Wire(codec) => Form::Wire(*codec),
            Self::Local(_) => Form::Local,
        }
    }

    /// Waits until there is room for more messages.
    pub(crate) async fn room(&self) {
        if let Self::Local(locals) = self {
            locals.room().await;
        }
    }

    pub(crate) fn write_message(&self, message: Message) -> Result<Bytes> {
        match self {
            Self::Wire(codec) => message.encode(*codec),
            Self::Local(locals) => Ok(locals.message(message)),
        }
    }

    /// The error is a sentence.
    pub(crate) fn read_message(&self, body: &Bytes) -> Result<Arc<Message>, String> {
        match self {
            Self::Wire(_) => Message::decode(body).map(Arc::new),
            Self::Local(locals) => locals.read_message(body).ok_or_else(unknown),
        }
    }

    pub(crate) fn write_packet(&self, packet: Parcel) -> Result<Bytes> {
        match self {
            Self::Wire(codec) => packet.write(*codec),
            Self::Local(locals) => Ok(locals.packet(packet)),
        }
    }

    pub(crate) fn read_packet(&self, bytes: &Bytes) -> Result<Arc<Parcel>> {
        match self {
            Self::Wire(_) => Parcel::read(bytes).map(Arc::new),
            Self::Local(locals) => locals
                .read_packet(bytes)
                .ok_or_else(|| Error::decode("a stored packet", unknown())),
        }
    }
}

fn unknown() -> String {
    "it is no ticket of this run".to_owned()
}
