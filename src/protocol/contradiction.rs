//! A message that contradicts itself: what it declares does not fit what it carries. It is found out before anything is spent
//! on it, so that it is neither paced nor weighed by what it claims, and becomes a dead letter of its run.

use std::sync::Arc;

use super::failure::shorten;
use super::reason::Reason;
use super::{Answer, Protocol};
use crate::core::clock::now;
use crate::core::error::describe;
use crate::packet::count::count_values;
use crate::packet::{Contradiction, MapWork, Message, Work};
use crate::pipeline::definition::StageDefinition;
use crate::queue::Delivery;
use crate::scratchpad::{Attempt, DeadLetterId, FailureReport, Verdict};
use crate::stage::Execution;

const NO_LIST: &str = "packetValue is not a list of values";

/// What is wrong with the numbers of a message for this stage. The values themselves are counted where the number decides
/// when and beside what the message runs; everywhere else they are when they are read.
pub(super) fn find(stage: &StageDefinition, message: &Message) -> Result<(), String> {
    let is_for_it = *message.stage == *stage.name;
    if !is_for_it || stage.is_reduction() != matches!(message.work, Work::Reduce(_)) {
        // It is refused for that.
        return Ok(());
    }
    match &message.work {
        Work::Map(work) if stage.works_on_items => {
            let is_planned = stage.options.rate_limit.is_some();
            of_items(work, is_planned || stage.execution == Execution::Async)
        }
        Work::Map(work) => of_a_result(work),
        // Nothing but what was read from its run's tree counts of it.
        Work::Reduce(_) => Ok(()),
        // It never left the process.
        Work::Bundle(_) => Ok(()),
    }
}

/// A packet of items of the array.
fn of_items(work: &MapWork, counts: bool) -> Result<(), String> {
    let (contains, skipped) = (work.packet.contains, work.packet.skipped);
    let items = contains.checked_add(skipped);
    let items = items.ok_or_else(|| {
        format!("packetContains {contains} and packetSkipped {skipped} are more than there can be")
    })?;
    let end = work.offset.checked_add(items);
    let end = end.ok_or_else(|| {
        format!(
            "packetOffset {} and {items} items are more than there can be",
            work.offset
        )
    })?;
    if let Some(length) = work.packet.array_length
        && end > length
    {
        return Err(format!(
            "its items end at {end}, but arrayLength is {length}"
        ));
    }
    let values = match &work.yields {
        Some(yields) if yields.len() as u64 != items => {
            return Err(format!(
                "packetYields has {} items, but packetContains and packetSkipped add up to {items}",
                yields.len()
            ));
        }
        // Each is below 2^32, and a message has fewer than 2^32 of them.
        Some(yields) => yields.iter().map(|count| u64::from(*count)).sum(),
        None if skipped > 0 => {
            return Err(format!(
                "packetSkipped is {skipped}, but without packetYields each item has a value"
            ));
        }
        None => contains,
    };
    if !counts {
        return Ok(());
    }
    match count_values(&work.packet.value) {
        Some(carried) if carried != values => Err(match work.yields {
            Some(_) => {
                format!("packetYields adds up to {values} values, but packetValue has {carried}")
            }
            None => format!("packetContains is {contains}, but packetValue has {carried} values"),
        }),
        Some(_) => Ok(()),
        // It could declare any number of values.
        None => Err(NO_LIST.to_owned()),
    }
}

/// The value of a whole reduction: it stands for the whole array, and nothing less goes on.
fn of_a_result(work: &MapWork) -> Result<(), String> {
    let packet = &work.packet;
    if packet.packet_id.index != 0 || work.offset != 0 {
        return Err(format!(
            "packet {} at item {}, but after a reduction there is one packet",
            packet.packet_id, work.offset
        ));
    }
    let items = packet.contains.checked_add(packet.skipped);
    match packet.array_length {
        Some(length) if items == Some(length) => {}
        length => {
            let length = length.map_or("unknown".to_owned(), |length| length.to_string());
            return Err(format!(
                "packetContains {} and packetSkipped {} do not add up to arrayLength, which is {length}",
                packet.contains, packet.skipped
            ));
        }
    }
    let values = match &work.yields {
        None => Some(1),
        Some(yields) => match yields.as_slice() {
            [values] => Some(u64::from(*values)),
            _ => None,
        },
    };
    match (values, count_values(&packet.value)) {
        (Some(values), Some(carried)) if values != carried => Err(format!(
            "packetValue has {carried} values of a reduction that has {values}"
        )),
        (None, _) => Err("packetYields is not of one value, which a reduction has".to_owned()),
        (Some(_), None) => Err(NO_LIST.to_owned()),
        _ => Ok(()),
    }
}

impl Protocol {
    /// Records the failure with the message's run, and buries it. The run goes on: if the message was no work of its own, its
    /// result counts in the end.
    pub(super) async fn contradicts(
        &self,
        stage: &StageDefinition,
        delivery: &Delivery,
        contradiction: &Contradiction,
    ) -> Answer {
        let message = &contradiction.message;
        let (run, name) = (message.run(), message.name_at(&stage.name));
        let error = shorten(&format!(
            "the message contradicts itself: {}",
            contradiction.problem
        ));
        tracing::error!(run = %run.id, stage = %stage.name, work = name, error, "a message becomes a dead letter");
        let attempt = Attempt::new(delivery.receive_count.max(1), now(), error.as_str());
        let id = DeadLetterId::random();
        let attempts = vec![attempt.clone()];
        let stage_name = Arc::clone(&stage.name);
        let report =
            FailureReport::new(run, stage_name, name.as_str(), attempts, Verdict::Dead(id));
        let recorded = match self.record(&report).await {
            Ok(recorded) => recorded,
            Err(refusal) => {
                let wait = self.wait_for_the_record(stage);
                tracing::error!(run = %run.id, work = name, error, refusal = %describe(&refusal), ?wait, "a failure could not be written down: the message comes back");
                return Answer::Nack(wait);
            }
        };
        // Of an unknown run nothing is on record that a redrive could clear.
        let is_known = !recorded.attempts.is_empty();
        let reason = Reason {
            id: is_known.then_some(id),
            ..Reason::of(error, attempt)
        };
        Answer::Bury(reason.write())
    }
}
