//! Why bytes cannot be read as a message or as a stored packet.

use super::message::{Message, VERSION};
use crate::core::generation::Generation;
use crate::core::id::PacketId;
use crate::core::name;
use crate::core::tree::{MAX_FAN_IN, MAX_LEVEL, MIN_FAN_IN};

/// What is wrong with bytes from a queue or a scratchpad. Reading them again gives the same answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[cfg(feature = "postcard")]
    #[error(transparent)]
    Postcard(#[from] postcard::Error),
    #[cfg(feature = "postcard")]
    #[error("{0} bytes are left over after it")]
    LeftOver(usize),
    #[cfg(feature = "postcard")]
    #[error("its values are nested too deeply to be read")]
    TooDeep,
    /// The type's own `Deserialize` did.
    #[error("reading it {0}")]
    Panicked(String),
    #[error("the field `{0}` is missing")]
    MissingField(&'static str),
    #[error("version {0} of the wire format, but this library reads version {VERSION}")]
    Version(u32),
    #[error("the field `{0}` is no name: {1}")]
    Name(&'static str, name::Problem),
    #[cfg(feature = "signed")]
    #[error("it has no tag at its beginning, and everything of this deployment is signed")]
    Unsigned,
    #[cfg(feature = "signed")]
    #[error(
        "its tag does not verify: it was altered, belongs elsewhere, or was signed with none of this deployment's keys"
    )]
    Forged,
    /// It is genuine, and was written for another queue. Its run is not told: otherwise a program that repeats a message
    /// elsewhere could make the run fail.
    #[cfg(feature = "signed")]
    #[error(
        "it belongs to stage `{stage}` of deployment `{deployment}`, by its tag, and came to another queue"
    )]
    Misplaced { deployment: String, stage: String },
    /// It can be read, and is not this deployment's.
    #[error("it belongs to stage `{}` of deployment `{}`", .0.message.stage, .0.deployment)]
    Foreign(Box<Foreign>),
    /// It can be read, and what it declares does not fit what it carries.
    #[error("{}", .0.problem)]
    Contradicts(Box<Contradiction>),
    #[error("fanIn {0} is not in {MIN_FAN_IN}..={MAX_FAN_IN}")]
    FanIn(u32),
    #[error("fanIn {0} is not that of generation {1}, which is {own}", own = .1.fan_in())]
    OtherFanIn(u32, Generation),
    #[error("level {0} is not in 1..={MAX_LEVEL}")]
    Level(u32),
    #[error("packetLeftOut lists {0} items, more than a hundred or than packetSkipped says")]
    LeftOut(usize),
    #[error("packetId {0} is not a leaf, as a packet of items must be")]
    NotALeaf(PacketId),
    /// The value was kept in this process, and has another type than the stage that reads it expects.
    #[error("it is of another type")]
    OtherType,
    /// The bytes stand for a message or a packet that this run does not keep.
    #[error("it is no ticket of this run")]
    UnknownTicket,
}

/// A message of another deployment. It is no [`Message`] to the code that works on messages: that can only refuse it.
#[derive(Debug)]
pub(crate) struct Foreign {
    /// The deployment that it belongs to.
    pub(crate) deployment: String,
    pub(crate) message: Message,
}

/// A message that contradicts itself. It is no [`Message`] to the code that works on messages, so that nothing is done by the
/// numbers that it declares.
#[derive(Debug)]
pub(crate) struct Contradiction {
    pub(crate) message: Message,
    /// A sentence without the values that the message carries.
    pub(crate) problem: String,
}
