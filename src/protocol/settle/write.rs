//! Writing what messages cause: one call on the scratchpad or a queue for all that goes there.

use bytes::Bytes;

use super::decide::Caused;
use super::{Effect, Failed, InFlight, Slot};
use crate::compute::step::Failures;
use crate::core::error::Result as OurResult;
use crate::core::id::RunId;
use crate::packet::{Message, Packet, Place};
use crate::protocol::seam::Partial;
use crate::protocol::{Protocol, refused};
use crate::queue::Outgoing;
use crate::scratchpad::Arrival;

/// A message and whether what it causes is durable.
type Written<'a> = (InFlight<'a>, Result<(), Failures>);

impl Slot {
    fn filled(self, value: Bytes) -> Partial {
        let Self {
            stage,
            fan_in,
            group,
            slot,
        } = self;
        Partial {
            arrival: Arrival { group, slot, value },
            stage,
            fan_in,
        }
    }
}

impl Protocol {
    /// Makes durable what messages cause. Returns the messages for which that is done, and those for which it failed.
    pub(super) async fn write<'a>(
        &self,
        causing: Vec<Caused<'a>>,
    ) -> (Vec<InFlight<'a>>, Vec<Failed<'a>>) {
        let mut written = Vec::with_capacity(causing.len());
        let mut arriving = Vec::with_capacity(causing.len());
        let mut sending = Vec::new();
        for Caused { message, effect } in causing {
            match effect {
                Effect::Arrive(slot, packet) => arriving.push((message, slot, packet)),
                Effect::Send(packet) => sending.push((message, packet)),
                Effect::Unpack(done, again) => {
                    let result = self.write_unpacked(message.task.index, done, again).await;
                    written.push((message, result));
                }
                Effect::Nothing => written.push((message, Ok(()))),
                Effect::Complete(packet) => {
                    let result = self.complete(&packet).await;
                    written.push((message, result));
                }
            }
        }
        written.extend(self.arrive(arriving).await);
        written.extend(self.send(sending).await);
        let (mut living, mut failed) = (Vec::with_capacity(written.len()), Vec::new());
        for (message, result) in written {
            match result {
                Ok(()) => living.push(message),
                Err(failures) => failed.push(message.failed(failures)),
            }
        }
        (living, failed)
    }

    /// Stores partial results in their slots.
    async fn arrive<'a>(&self, arriving: Vec<(InFlight<'a>, Slot, Packet)>) -> Vec<Written<'a>> {
        let split = |(message, slot, packet)| ((message, slot), packet);
        let (arriving, packets): (Vec<_>, Vec<_>) = arriving.into_iter().map(split).unzip();
        let places = arriving.iter().map(|(_, slot)| slot.place());
        let values = self.seam.site.carrier.write_packets(places, packets);
        let mut written = Vec::with_capacity(arriving.len());
        let mut living = Vec::with_capacity(arriving.len());
        let mut partials = Vec::with_capacity(arriving.len());
        for ((message, slot), value) in arriving.into_iter().zip(values) {
            match value {
                Ok(value) => {
                    living.push(message);
                    partials.push(slot.filled(value));
                }
                Err(error) => written.push((message, Err(refused(error)))),
            }
        }
        if !partials.is_empty() {
            let arrived = self.seam.arrive(partials).await.into_iter();
            let arrived = arrived.map(|result| result.map_err(refused));
            written.extend(living.into_iter().zip(arrived));
        }
        written
    }

    /// Sends packets to the next stage.
    async fn send<'a>(&self, sending: Vec<(InFlight<'a>, Message)>) -> Vec<Written<'a>> {
        let Some(next) = sending.first().map(|(message, _)| message.task.index + 1) else {
            return Vec::new();
        };
        let (sending, messages): (Vec<_>, Vec<Message>) = sending.into_iter().unzip();
        let runs: Vec<RunId> = messages.iter().map(|one| one.run().id.clone()).collect();
        let bodies = self.seam.site.carrier.write_messages(messages);
        let mut written = Vec::with_capacity(sending.len());
        let mut living = Vec::with_capacity(sending.len());
        let mut outgoing = Vec::with_capacity(sending.len());
        for ((message, body), run) in sending.into_iter().zip(bodies).zip(runs) {
            match body {
                Ok(body) => {
                    living.push(message);
                    outgoing.push(Outgoing::new(body).run(run));
                }
                Err(error) => written.push((message, Err(refused(error)))),
            }
        }
        if !outgoing.is_empty() {
            let sent = self.seam.send(next, outgoing).await;
            written.extend(living.into_iter().zip(sent).map(|(message, sent)| {
                let sent = sent.map_err(|error| {
                    refused(error.of_oversized(|| self.on_its_way(&message, next)))
                });
                (message, sent)
            }));
        }
        written
    }

    /// The name in an error of what a message sends to the next stage. Its queue knows neither packets nor stages.
    fn on_its_way(&self, message: &InFlight<'_>, next: usize) -> String {
        let stage = self.seam.site.definition.stage(next);
        let stage = stage.map_or("?", |stage| &stage.name);
        let name = message.task.message.name();
        format!("{name} on its way to stage `{stage}`")
    }

    /// Stores the partial results of a bundle's packets that are done, and sends messages for the others to the stage that
    /// the bundle came to.
    async fn write_unpacked(
        &self,
        stage: usize,
        done: Vec<(Slot, Packet)>,
        again: Vec<Message>,
    ) -> Result<(), Failures> {
        let carrier = &self.seam.site.carrier;
        let (slots, packets): (Vec<Slot>, Vec<_>) = done.into_iter().unzip();
        let values = carrier.write_packets(slots.iter().map(Slot::place), packets);
        let values: OurResult<Vec<Bytes>> = values.into_iter().collect();
        let partials = slots.into_iter().zip(values.map_err(refused)?);
        let partials = partials.map(|(slot, value)| slot.filled(value)).collect();
        let bodies: OurResult<Vec<Bytes>> = carrier.write_block(again, 0).into_iter().collect();
        let bodies = bodies.map_err(refused)?.into_iter();
        let bodies = bodies.map(Outgoing::new).collect();
        let mut written = self.seam.arrive(partials).await;
        written.extend(self.seam.send(stage, bodies).await);
        let written: OurResult<()> = written.into_iter().collect();
        written.map_err(refused)
    }

    async fn complete(&self, packet: &Packet) -> Result<(), Failures> {
        let (carrier, place) = (&self.seam.site.carrier, Place::Result(&packet.run));
        let result = carrier.write_packet(place, packet.clone());
        let result = result.map_err(refused)?;
        let scratchpad = self.seam.site.scratchpad();
        let complete = self.seam.scratchpad("complete", || {
            scratchpad.complete(&packet.run, result.clone())
        });
        if complete.await.map_err(refused)? {
            tracing::debug!(run = %packet.run.id, items = packet.contains, "run is done");
        }
        Ok(())
    }
}
