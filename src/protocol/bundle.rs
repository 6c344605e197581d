//! The seam for bundles: messages that carry several packets. The engine sends and receives them; only what is injected
//! here makes them, works on them and takes them apart.

use std::sync::Arc;

use crate::compute::pass::Pass;
use crate::compute::step::{Computation, Failures, Input};
use crate::core::cut::Cut;
use crate::packet::{Message, Packet};
use crate::pipeline::definition::{Definition, StageDefinition};

/// How bundles are made and worked on.
pub(crate) trait Bundling: Send + Sync {
    /// Makes the bundles of one submission; `None` if the pipeline does not allow any. `packets` is the number of packets,
    /// if it is known.
    fn packer(
        self: Arc<Self>,
        definition: &Definition,
        packets: Option<u64>,
    ) -> Option<Box<dyn Packer>>;

    /// The work on a bundle, which the input's message has.
    ///
    /// # Errors
    /// If the stage works on no bundles.
    fn begin(
        self: Arc<Self>,
        definition: &Definition,
        stage: &StageDefinition,
        input: Input,
    ) -> Result<Begun, Failures>;
}

/// Decides which packets of a submission are sent as one message.
pub(crate) trait Packer: Send + Sync {
    /// Whether the packets that wait to be sent are enough for a call on the queue; `is_large` says that their bytes are.
    /// `None` if the last of them is not to be bundled, so that the usual rule holds.
    fn is_full(&self, waiting: &[Cut], is_large: bool, queue_was_full: bool) -> Option<bool>;

    /// How many of the next packets to send make a bundle; `None` if the first of them is a message of its own.
    fn next(&mut self, waiting: &[Cut]) -> Option<usize>;

    /// Makes a bundle of these packets. The message has the items of all of them, as if they were one packet.
    fn pack(&self, message: &mut Message, packets: &[Cut]);
}

/// The work on a bundle.
pub(crate) struct Begun {
    /// The pass of a packet by itself, whose items may be tried again.
    pub(crate) pass: Option<Arc<Pass>>,
    /// Its output is the value of the [node](crate::packet::Bundle::node) that the packets come to.
    pub(crate) job: Arc<Computation>,
    pub(crate) packets: Box<dyn Unpack>,
}

/// Takes a bundle apart if its job ended without a value.
pub(crate) trait Unpack: Send + Sync {
    /// What becomes of the bundle's packets; `None` if the bundle failed as a message does that is a single packet's.
    fn unpack(&self, failures: &Failures) -> Option<Unpacked>;
}

/// A bundle's packets, each by itself.
pub(crate) struct Unpacked {
    /// Partial results of those that are done.
    pub(crate) done: Vec<Packet>,
    /// Messages for the others.
    pub(crate) again: Vec<Message>,
    /// The name of the packet that has failed, if any: its message has one attempt less.
    pub(crate) failed: Option<String>,
}
