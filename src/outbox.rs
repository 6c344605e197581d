//! The contract of an outbox: a table in the application's own database, into which the application writes submissions
//! inside its own transactions. Workers take them up, and make a run of each.
//!
//! A submission is a list of items in one part or more. It can be taken up once its last part is there. Several submissions
//! may bear one id: they are taken up one after the other, so that the items of two are never sent at the same time.
// Only a backend with a database has one.
#![cfg_attr(not(feature = "postgres"), allow(dead_code))]

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::core::error::Result;
use crate::core::id::RunId;
use crate::core::provision::Change;

/// A submission that waits to become a run.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// As it was written: nothing has checked it yet.
    pub(crate) run: RunId,
    /// Tells the submission from others under the same id.
    pub(crate) submission: String,
    pub(crate) parts: u32,
    /// Parts that are there. Fewer than `parts` if the last one was written without the others.
    pub(crate) present: u32,
    /// The number of items in all parts.
    pub(crate) items: u64,
}

/// The items of a part, as one encoded list.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Json(Bytes),
    /// In the compact codec.
    Compact(Bytes),
}

/// What an outbox knows of a run that the scratchpad does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    Unknown,
    /// It waits to be taken up.
    Waiting {
        items: u64,
    },
    /// It was taken up and cannot become a run, for this reason.
    Refused(String),
}

/// The submissions to one deployment.
///
/// A claim is a lease: it ends after some seconds unless it is [kept](Self::keep), so that what a process held when it was
/// killed is taken up by another one. A lease that was lost does no harm, since submitting the same items twice is one run.
/// Every method may be repeated. A dropped future has happened entirely or not at all.
#[async_trait]
pub(crate) trait Outbox: Send + Sync + Debug {
    /// Another handle on the same outbox, with leases of its own.
    fn handle(&self) -> Arc<dyn Outbox>;

    /// Waits until there may be a submission to claim, at most for `up_to`.
    async fn news(&self, up_to: Duration);

    /// Claims up to `most` submissions, the oldest first, of which no two have the same id.
    async fn claim(&self, most: usize) -> Result<Vec<Entry>>;

    /// How often to call [`keep`](Self::keep).
    fn keep_every(&self) -> Duration;

    /// Extends all leases of this handle.
    async fn keep(&self) -> Result<()>;

    /// Ends all leases of this handle, so that others need not wait for their end.
    async fn release(&self) -> Result<()>;

    /// The items of a part, counted from 0; `None` if it is not there.
    async fn part(&self, entry: &Entry, part: u32) -> Result<Option<Part>>;

    /// Removes a submission that has become a run.
    async fn finish(&self, entry: &Entry) -> Result<()>;

    /// Records why a submission cannot become a run. It stays where it is, for a person to look at.
    async fn refuse(&self, entry: &Entry, problem: &str) -> Result<()>;

    /// Lets nobody take up a submission with this id for some time.
    async fn put_off(&self, entry: &Entry, by: Duration) -> Result<()>;

    /// What is known of the submissions with this id.
    async fn find(&self, run: &RunId) -> Result<Pending>;

    /// Removes all submissions to this deployment.
    async fn deprovision(&self) -> Result<Vec<Change>>;
}
