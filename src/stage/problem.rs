//! Why the options of a stage cannot work.

use std::time::Duration;

use super::options::MAX_PACKET_SIZE;
use crate::core::tree::{MAX_FAN_IN, MIN_FAN_IN};

/// A problem with one option. Its text says what to do instead, without the stage's name.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub(crate) enum OptionProblem {
    #[error(
        "{option} is an option of {owner}, and stands at another stage: move it, or leave it out"
    )]
    Misplaced {
        option: &'static str,
        /// The kind of stage that may have it.
        owner: &'static str,
    },
    #[error("{option} is 0: {advice}")]
    Zero {
        option: &'static str,
        advice: &'static str,
    },
    #[error(
        "fan_in is {0}: a group has at least {MIN_FAN_IN} members, or the tree would not shrink, and at most {MAX_FAN_IN}"
    )]
    FanIn(u32),
    #[error("packet_size is {0}: a packet has at least 1 item and at most {MAX_PACKET_SIZE}")]
    PacketSize(u32),
    #[error("on_failure tolerates {0} per cent: use a number from 0 to 100")]
    Share(f64),
    #[error("backoff begins at {base:?} and is capped at {cap:?}: give the shorter wait first")]
    Backoff { base: Duration, cap: Duration },
}
