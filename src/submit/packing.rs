//! Packing: the next items become a packet that fits its queue.

use std::sync::Arc;

use super::{Source, Submission};
use crate::core::error::{Error, Oversized, Result};
use crate::core::id::PacketId;
use crate::packet::codec::{self, Codec, Form, Payload};
use crate::packet::{MapWork, Message, Packet, Work};
use crate::stage::Data;

impl<S: Source> Submission<S> {
    /// Builds the next packet and advances past it. Halves the packet until the message fits the queue's limit.
    pub(super) fn next_packet(&mut self) -> Result<()> {
        if self.is_local && self.is_kept {
            self.next_cut();
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let codec = match shared.carrier.form() {
            Form::Wire(codec) => codec,
            Form::Local => Codec::default(),
        };
        let limit = self.queue.max_body().unwrap_or(usize::MAX);
        let limit = match codec {
            Codec::Json => limit,
            // A service that takes text makes four characters of three bytes.
            #[cfg(feature = "postcard")]
            Codec::Postcard => limit / 4 * 3 - (limit / 4 * 3).min(16),
        };
        let mut count = self.items.len();
        loop {
            let (items, _) = self.items.split_at(count);
            let value = encode_items(items, codec, self.packets, self.offset)?;
            let size = value.size();
            let message = self.message(value, self.packets, self.offset, count);
            let body = shared.carrier.write_message(message)?;
            if body.len() <= limit {
                self.items.drain(..count);
                self.move_on(count);
                // Inside the process, a body is only a ticket.
                self.batch_bytes += size.max(body.len());
                self.batch.push(body.into());
                return Ok(());
            }
            if count == 1 {
                let what = name_packet(self.packets, self.offset, count);
                return Err(Error::too_large(Oversized::Item, what, body.len(), limit));
            }
            count /= 2;
        }
    }

    pub(super) fn message(
        &self,
        value: Payload,
        packet: u64,
        offset: u64,
        count: usize,
    ) -> Message {
        Message {
            stage: Arc::clone(&self.first_stage),
            fan_in: self.record.fan_in,
            work: Work::Map(MapWork {
                packet: Packet {
                    run: self.record.run.clone(),
                    packet_id: PacketId::leaf(packet),
                    value,
                    array_length: self.record.array_length,
                    contains: count as u64,
                    skipped: 0,
                },
                offset,
                yields: None,
                together: Vec::new(),
                tried: 0,
            }),
        }
    }
}

fn name_packet(packet: u64, offset: u64, count: usize) -> String {
    match count {
        1 => format!("packet {packet} (item {offset})"),
        count => format!(
            "packet {packet} (items {offset} to {})",
            offset + count as u64 - 1
        ),
    }
}

/// Encodes the items of a packet. An error names the item that cannot be encoded.
pub(super) fn encode_items<T: Data>(
    items: &[T],
    codec: Codec,
    packet: u64,
    offset: u64,
) -> Result<Payload> {
    codec::write(items, codec, "").map_err(|error| {
        let bad = items
            .iter()
            .position(|item| codec::write(item, codec, "").is_err());
        let what = match bad {
            Some(position) => format!("packet {packet}, item {}", offset + position as u64),
            None => name_packet(packet, offset, items.len()),
        };
        match error {
            Error::Encode { source, .. } => Error::Encode { what, source },
            other => other,
        }
    })
}
