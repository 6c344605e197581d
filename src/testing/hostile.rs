//! Every decoder of what comes from outside, for fuzzers: whatever the bytes, each answers with a value or with a sentence. None
//! panics, and none allocates more than a small multiple of what it is given.
//!
//! ```
//! use catchment::testing::hostile;
//! assert!(hostile::message(b"not json").is_err());
//! assert!(hostile::packet(b"{}").is_err());
//! assert!(hostile::run_record(b"[]").is_err());
//! hostile::dead_letter(b"\xff", "no reason");
//! ```

use bytes::Bytes;

use crate::core::error::describe;
use crate::deployment::dead_letter::DeadLetter;
use crate::packet::codec::Codec;
use crate::packet::{Message, Packet};
use crate::queue::{BuriedMessage, Receipt};
use crate::scratchpad::RunRecord;

/// A message as it comes from a queue. What could be read is written again, and has to come back.
///
/// # Errors
/// What is wrong with it.
pub fn message(bytes: &[u8]) -> Result<(), String> {
    let message = Message::decode(&Bytes::copy_from_slice(bytes))?;
    let codec = Codec::default();
    let again = message.encode(codec).map_err(|error| describe(&error))?;
    assert_eq!(Message::decode(&again)?, message, "it comes back");
    Ok(())
}

/// A partial result as it comes from a scratchpad. What could be read is written again, and has to come back.
///
/// # Errors
/// What is wrong with it.
pub fn packet(bytes: &[u8]) -> Result<(), String> {
    let text = |error| describe(&error);
    let packet = Packet::read(&Bytes::copy_from_slice(bytes)).map_err(text)?;
    let again = packet.write(Codec::default()).map_err(text)?;
    assert_eq!(Packet::read(&again).map_err(text)?, packet, "it comes back");
    Ok(())
}

/// A run's record as it comes from a store, and the arithmetic that is done with it.
///
/// # Errors
/// What is wrong with it.
pub fn run_record(bytes: &[u8]) -> Result<(), String> {
    let record = RunRecord::decode(bytes).map_err(|error| describe(&error))?;
    let length = record.array_length.unwrap_or(u64::MAX);
    record.plan.items([0, 1, u64::MAX], length);
    record.plan.packets(length);
    Ok(())
}

/// A dead letter as it comes from a queue, with the reason beside it. There is always something to show.
pub fn dead_letter(body: &[u8], reason: &str) -> DeadLetter {
    let buried = BuriedMessage {
        body: Bytes::copy_from_slice(body),
        reason: reason.to_owned(),
        receipt: Receipt::Number(0),
    };
    DeadLetter::read("stage", buried)
}
