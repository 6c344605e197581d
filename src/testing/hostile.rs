//! Every decoder of external bytes, for fuzzers: each returns a value or a sentence, whatever the bytes are. None
//! panics, and none allocates more than a small multiple of its input.
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
use crate::packet::carrier::Carrier;
use crate::packet::codec::Codec;
use crate::packet::{Malformed, Message, Packet};
use crate::queue::{BuriedMessage, Receipt};
use crate::scratchpad::RunRecord;

/// Decodes a message from a queue. If it can be read, it is written again and has to come back the same.
///
/// # Errors
/// A sentence that names the problem.
pub fn message(bytes: &[u8]) -> Result<(), String> {
    let (deployment, message) = read(&Bytes::copy_from_slice(bytes))?;
    let again = message.encode(Codec::default(), &deployment);
    let again = again.map_err(|error| describe(&error))?;
    assert_eq!(read(&again)?, (deployment, message), "it comes back");
    Ok(())
}

/// Reads a message of whichever deployment.
fn read(bytes: &Bytes) -> Result<(String, Message), String> {
    const READER: &str = "hostile";
    match Message::decode(bytes, READER) {
        Ok(message) => Ok((READER.to_owned(), message)),
        Err(Malformed::Foreign(foreign)) => Ok((foreign.deployment, foreign.message)),
        Err(malformed) => Err(describe(&malformed)),
    }
}

/// Decodes a partial result from a scratchpad. If it can be read, it is written again and has to come back the same.
///
/// # Errors
/// A sentence that names the problem.
pub fn packet(bytes: &[u8]) -> Result<(), String> {
    let text = |error| describe(&error);
    let packet = Packet::read(&Bytes::copy_from_slice(bytes)).map_err(text)?;
    let again = packet.write(Codec::default()).map_err(text)?;
    assert_eq!(Packet::read(&again).map_err(text)?, packet, "it comes back");
    Ok(())
}

/// Decodes a run's record from a store, and does the arithmetic on it.
///
/// # Errors
/// A sentence that names the problem.
pub fn run_record(bytes: &[u8]) -> Result<(), String> {
    let record = RunRecord::decode(bytes).map_err(|error| describe(&error))?;
    let length = record.array_length.unwrap_or(u64::MAX);
    record.plan.items([0, 1, u64::MAX], length);
    record.plan.packets(length);
    Ok(())
}

/// Decodes a dead letter from a queue, given its reason. There is always something to show.
pub fn dead_letter(body: &[u8], reason: &str) -> DeadLetter {
    let body = Bytes::copy_from_slice(body);
    let buried = BuriedMessage::new(body, reason, Receipt::from(0));
    let carrier = Carrier::wire(Codec::default(), "hostile");
    DeadLetter::read(&carrier, "hostile", "stage", buried)
}
