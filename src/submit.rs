//! Submitting: an array is cut into packets, the packets are sent to the first stage's queue, and the size of the tree
//! is recorded.
//!
//! An [`Opening`] writes the run's record, or finds the one of an earlier submission. If there is something to send, a
//! [`Submission`](submission::Submission) pulls the items from their [`Source`]; a [`Cutter`](cutter::Cutter) makes
//! packets of them, and messages of those.

mod cancel_check;
mod cutter;
mod failure;
mod linger;
mod opening;
mod progress;
// Only the HTTP API gives up on a submission.
#[cfg_attr(not(feature = "http"), allow(dead_code))]
mod pulse;
mod seal;
mod source;
mod submission;

use std::sync::Arc;

pub(crate) use failure::SUBMISSION;
pub(crate) use opening::{Opening, record_to_be};
#[cfg(feature = "http")]
pub(crate) use pulse::{GivenUp, Limits, Pulse};
pub(crate) use source::{IterSource, Source, StreamSource, TryIterSource, TryStreamSource};

use crate::core::error::Result;
use crate::core::retry::{Policy, retry};
use crate::protocol::site::Site;
use crate::queue::Queue;

/// With the backoff between the attempts about two minutes.
const RETRY: Policy = Policy::times(12);

/// Opens the queue of the stage at this index.
async fn open(site: &Site, stage: usize) -> Result<Arc<dyn Queue>> {
    retry("open", RETRY, || async { site.queue(stage).await.cloned() }).await
}
