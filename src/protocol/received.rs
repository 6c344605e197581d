//! A delivery together with the message that was decoded from it.

use std::sync::{Arc, OnceLock};

use super::beginning::Begun;
use super::contradiction;
use super::site::Site;
use crate::compute::pass::Pass;
use crate::core::one_of::OneOf;
use crate::packet::codec::Form;
use crate::packet::{Contradiction, Malformed, Message};
use crate::pipeline::definition::StageDefinition;
use crate::queue::Delivery;

/// A received message. It is decoded once, when it is accepted: its weight is needed before it
/// begins, and its content when it does.
pub(crate) struct Received {
    pub(crate) delivery: Delivery,
    /// The decoded message, or why the bytes are not one.
    pub(crate) message: Result<OneOf<Message>, Malformed>,
    /// Set once the beginning of this delivery is on record.
    pub(super) begun: OnceLock<Begun>,
    /// Set once its packet is worked on.
    pub(super) pass: OnceLock<Arc<Pass>>,
}

impl Received {
    /// Reads what came to the queue of the stage at this place. This is the only place where a message is read to be worked
    /// on; what it declares has been checked from here on.
    pub(crate) fn new(site: &Site, stage: usize, delivery: Delivery) -> Self {
        Self {
            message: read(site, stage, &delivery),
            delivery,
            begun: OnceLock::new(),
            pass: OnceLock::new(),
        }
    }

    /// What it counts for in the concurrency of its stage. One that cannot be read fails soon
    /// enough.
    pub(crate) fn weight(&self, stage: &StageDefinition) -> usize {
        let message = self.message.as_ref();
        message.map_or(1, |message| stage.weight(message))
    }
}

fn read(site: &Site, stage: usize, delivery: &Delivery) -> Result<OneOf<Message>, Malformed> {
    let stage = site.definition.stage(stage);
    let name = stage.map_or("", |stage| &stage.name);
    let message = site.carrier.read_message(name, &delivery.body)?;
    let (Form::Wire(_), Some(stage)) = (site.carrier.form(), stage) else {
        return Ok(message);
    };
    match contradiction::find(stage, &message) {
        Ok(()) => Ok(message),
        Err(problem) => Err(Malformed::Contradicts(Box::new(Contradiction {
            message: (*message).clone(),
            problem,
        }))),
    }
}
