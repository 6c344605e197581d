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
mod seal;
mod source;
mod submission;

use std::sync::Arc;

pub(crate) use opening::Opening;
pub(crate) use source::{IterSource, Source, StreamSource};

use crate::core::error::Result;
use crate::core::retry::retry;
use crate::protocol::site::Site;
use crate::queue::Queue;

/// Attempts at a call whose error is transient; with the backoff between them about two minutes.
const ATTEMPTS: u32 = 12;

/// Opens the queue of the stage at this index.
async fn open(site: &Site, stage: usize) -> Result<Arc<dyn Queue>> {
    retrying("open", || async { site.queue(stage).await.cloned() }).await
}

/// Retries a call up to [`ATTEMPTS`] times.
async fn retrying<T, F>(what: &str, call: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    retry(what, Some(ATTEMPTS), call).await
}
