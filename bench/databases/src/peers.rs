//! What is measured. Every peer has its workers in this process, and settings that its own documentation or benchmark gives for
//! throughput.

mod apalis;
mod awa;
mod catchment;
mod graphile;
mod pgmq;

use async_trait::async_trait;

/// Messages that peers with a batch insert send in one call.
pub(crate) const BATCH: u64 = 1_000;

#[async_trait(?Send)]
pub(crate) trait Peer {
    /// With its version.
    fn name(&self) -> String;
    /// Makes the tables in an empty database, and starts the workers.
    async fn start(&self, url: &str) -> anyhow::Result<Box<dyn Running>>;
}

#[async_trait(?Send)]
pub(crate) trait Running {
    /// Sends this many messages, and waits until all have been worked on.
    async fn many(&mut self, messages: u64) -> anyhow::Result<()>;
    /// Sends one message, and waits until it has been worked on.
    async fn one(&mut self) -> anyhow::Result<()> {
        self.many(1).await
    }
    async fn stop(&mut self) -> anyhow::Result<()>;
}

pub(crate) fn all() -> Vec<Box<dyn Peer>> {
    vec![
        Box::new(catchment::Catchment {
            packet_size: Some(1),
        }),
        Box::new(catchment::Catchment { packet_size: None }),
        Box::new(awa::Awa),
        Box::new(pgmq::Pgmq),
        Box::new(graphile::Graphile),
        Box::new(apalis::Apalis),
    ]
}

/// The numbers of the messages, in batches.
pub(crate) fn batches(messages: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    let begins = (0..messages).step_by(BATCH as usize);
    begins.map(move |begin| begin..(begin + BATCH).min(messages))
}
