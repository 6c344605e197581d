//! The length of a run under its deployment's tag. Of what a store keeps about a run it is the one number that decides when
//! the result stands for all items, so that a writer to the store cannot end a run early. It is kept in the first slot of a
//! group that no tree has, and written before any tree is told its size.

use std::sync::Arc;

use bytes::Bytes;

use super::carrier::Carrier;
use super::codec::Payload;
use super::{LeftOut, Packet, Place};
use crate::core::error::{Error, Result};
use crate::core::generation::RunKey;
use crate::core::group::GroupId;
use crate::core::id::PacketId;
use crate::scratchpad::{Arrival, Members, RunRecord};

/// The groups of a tree are of level 1 and above.
const LEVEL: u32 = 0;

/// Where the length of a run is kept. `reduction` is its first one.
pub(crate) fn group(run: &RunKey, reduction: &Arc<str>) -> GroupId {
    GroupId::new(run.clone(), Arc::clone(reduction), LEVEL, 0)
}

impl Carrier {
    /// What a run's submitter writes down of its length. `None` if nothing is signed.
    pub(crate) fn write_length(&self, record: &RunRecord, length: u64) -> Option<Result<Arrival>> {
        self.signs().then(|| {
            let packet = Packet {
                run: record.key(),
                packet_id: PacketId::leaf(0),
                value: Payload::null(),
                array_length: Some(length),
                contains: length,
                skipped: 0,
                left_out: LeftOut::default(),
            };
            let group = group(&packet.run, &Arc::from(record.reduce_stage.as_str()));
            let value = self.write_packet(Place::Length(&group.run), packet)?;
            Ok(Arrival::new(group, 0, value))
        })
    }

    /// Holds a run's length against what its submitter has signed.
    ///
    /// # Errors
    /// [`Error::Decode`] if it is another one, or if there is none although everything is to be signed.
    pub(crate) fn check_length(&self, run: &RunKey, length: u64, kept: &Members) -> Result<()> {
        let what = || format!("the signed length of run {}", run.id);
        let values = match kept {
            Members::Present { values, .. } => values.as_slice(),
            Members::Retired => &[],
        };
        let Some(value) = signed(values) else {
            return match self.accepts_unsigned() {
                true => Ok(()),
                false => Err(Error::decode(what(), "there is none")),
            };
        };
        let packet = self.read_packet(Place::Length(run), value)?;
        match packet.array_length {
            Some(signed) if signed == length => Ok(()),
            signed => {
                let signed = signed.unwrap_or_default();
                let problem = format!("it is {signed}, but {length} is on record");
                Err(Error::decode(what(), problem))
            }
        }
    }
}

/// The value in the first slot.
fn signed(values: &[(u32, Bytes)]) -> Option<&Bytes> {
    let first = values.iter().find(|(slot, _)| *slot == 0);
    first.map(|(_, value)| value)
}
