//! A worker's one loop: what to receive, what to begin, when to stop.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Options;
use super::crew::{Crew, Drive};
use super::lane::{Arrived, Lane};
use super::lease::{Freed, LeasedBatch};
use super::lost::too_many_lost;
use crate::compute::pool::Cpu;
use crate::core::error::{Result, describe};
use crate::core::flag::Flag;
use crate::core::retry::{Policy, retry};
use crate::protocol::Protocol;
use crate::protocol::seam::Seam;
use crate::protocol::site::Site;
use crate::queue::hand_back::{hand_back, release_all};
use crate::queue::{Queue, Receipt};

/// The most time for handing back what has not begun, and for releasing what has not ended, at the end: whatever takes
/// longer comes back after its visibility timeout.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

struct Shift {
    lanes: Vec<Lane>,
    protocol: Arc<Protocol>,
    cpu: Arc<Cpu>,
    work: Crew,
    /// How CPU-bound work is driven.
    drive: Drive,
    /// Gets the places that have become free.
    freed: UnboundedSender<Freed>,
    /// Tells what is under way that nothing more may begin.
    closing: Arc<Flag>,
}

/// Works until the signal comes. Dropped, it stops on the spot.
pub(super) async fn run(
    site: Arc<Site>,
    options: Options,
    mut signal: watch::Receiver<bool>,
) -> Result<()> {
    let begin = async {
        let lanes = open_lanes(&site, &options).await;
        lanes.inspect_err(
            |error| tracing::error!(error = %describe(error), "the worker cannot begin"),
        )
    };
    let (lanes, cpu) = tokio::select! {
        biased;
        begun = begin => begun?,
        _ = signal.wait_for(|stop| *stop) => return Ok(()),
    };
    let beats = lanes.iter().map(|lane| Arc::clone(&lane.heartbeat).beat());
    let mut beats: FuturesUnordered<BoxFuture<'_, ()>> = beats.map(|beat| beat.boxed()).collect();
    let log_site = Arc::clone(&site);
    beats.push(Box::pin(
        async move { log_site.attempt_log.log_sums().await },
    ));
    // Polled first, so that load cannot starve heartbeats.
    tokio::select! {
        biased;
        Some(()) = beats.next() => Ok(()),
        ended = work(site, options, signal, lanes, cpu) => ended,
    }
}

/// The worker's loop, and its orderly end.
///
/// # Errors
/// [`Error::LostThreads`](crate::core::error::Error::LostThreads) if too many functions do not return.
async fn work(
    site: Arc<Site>,
    options: Options,
    mut signal: watch::Receiver<bool>,
    lanes: Vec<Lane>,
    cpu: Arc<Cpu>,
) -> Result<()> {
    let mut too_many_lost = pin!(too_many_lost(
        &site,
        cpu.lost_threads(),
        options.max_lost_threads
    ));
    let seam = Seam::new(Arc::clone(&site), &batches(&site, &lanes));
    let protocol = Protocol::new(seam, options.cancel_check);
    let (freed, mut places) = unbounded_channel();
    let mut shift = Shift {
        lanes,
        protocol: Arc::new(protocol),
        cpu,
        work: Crew::default(),
        drive: options.drive,
        freed,
        closing: Arc::default(),
    };
    let mut receives = FuturesUnordered::<BoxFuture<'static, (usize, Arrived)>>::new();
    let mut rooms = FuturesUnordered::<BoxFuture<'static, (usize, bool)>>::new();
    let ended = loop {
        shift.begin_work();
        for (index, lane) in shift.lanes.iter_mut().enumerate() {
            if let Some(receive) = lane.receive() {
                receives.push(Box::pin(async move { (index, receive.await) }));
            }
            if let Some(room) = lane.ask_for_room() {
                rooms.push(Box::pin(async move { (index, room.await) }));
            }
        }
        tokio::select! {
            biased;
            _ = signal.wait_for(|stop| *stop) => break Ok(()),
            Some(freed) = places.recv() => {
                shift.free(freed);
                while let Ok(freed) = places.try_recv() {
                    shift.free(freed);
                }
            }
            Some(()) = shift.work.ended() => {}
            Some((index, at_once)) = rooms.next() => {
                if let Some(lane) = shift.lanes.get_mut(index) {
                    lane.has_room(at_once);
                }
            }
            Some((index, arrived)) = receives.next() => {
                if let Some(lane) = shift.lanes.get_mut(index) {
                    shift.protocol.expect(lane.stage, arrived.deliveries.len());
                    lane.accept(&site, arrived);
                }
            }
            error = &mut too_many_lost => break Err(error),
        }
    };
    // Receiving may be given up at any await: it has taken nothing, or what comes back by itself.
    drop(receives);
    shift.end(options.grace_period).await;
    ended
}

/// For each stage, how many messages a request of its queue takes, as far as the lanes know its
/// queue.
fn batches(site: &Site, lanes: &[Lane]) -> Vec<Option<usize>> {
    let mut batches = vec![None; site.definition.stages().len()];
    for (stage, queue) in lanes.iter().flat_map(Lane::queues) {
        if let Some(batch) = batches.get_mut(stage) {
            *batch = queue.batch();
        }
    }
    batches
}

/// Opens a lane for each stage that is served, and the threads that their CPU-bound work shares.
async fn open_lanes(site: &Arc<Site>, options: &Options) -> Result<(Vec<Lane>, Arc<Cpu>)> {
    let definition = &site.definition;
    let served: Vec<usize> = match &options.stages {
        None => (0..definition.stages().len()).collect(),
        Some(names) => {
            let mut places = Vec::new();
            for name in names {
                places.push(site.position("a worker", name)?);
            }
            places.sort_unstable();
            places.dedup();
            places
        }
    };
    let cpu = definition.cpu(options.concurrency, options.drive == Drive::Inline);
    let mut lanes = Vec::with_capacity(served.len());
    for stage in served {
        let Some(current) = definition.stage(stage) else {
            continue;
        };
        let open = async |stage| {
            retry("open", Policy::FOREVER, async || {
                site.queue(stage).await.cloned()
            })
            .await
        };
        let queue = open(stage).await?;
        // What a stage sends to a reduction are small messages about groups: no need to wait for
        // those.
        let next = match definition.stage(stage + 1) {
            Some(next) if !next.is_reduction() => Some(open(stage + 1).await?),
            _ => None,
        };
        lanes.push(Lane::new(
            stage,
            current,
            queue,
            next,
            options.prefetch,
            Arc::clone(&cpu),
        ));
    }
    Ok((lanes, cpu))
}

impl Shift {
    /// Begins what there is room for: later stages first, so that what was begun ends.
    fn begin_work(&mut self) {
        for (index, lane) in self.lanes.iter_mut().enumerate().rev() {
            loop {
                let taken = lane.take();
                self.protocol.expect_no_longer(lane.stage, lane.take_lost());
                if taken.is_empty() {
                    break;
                }
                let batch = LeasedBatch::new(
                    lane,
                    index,
                    taken,
                    &self.protocol,
                    &self.freed,
                    &self.closing,
                );
                let lease = batch.only_lease();
                let drive = if lane.cpu_bound {
                    self.drive
                } else {
                    Drive::Spawned
                };
                let stop = self.work.begin(batch.work(), drive);
                if let Some(lease) = lease {
                    lease.stop_if_lost(stop);
                }
            }
        }
    }

    fn free(&mut self, freed: Freed) {
        if let Some(lane) = self.lanes.get_mut(freed.lane) {
            lane.worked(freed.worked, freed.weight, freed.bytes);
            lane.ended(freed.ended);
            lane.keeps(freed.kept);
        }
    }

    /// Hands back the messages that wait, lets those that run finish within the grace period, and
    /// releases the rest.
    async fn end(mut self, grace: Duration) {
        // A period too long for the clock is one without end.
        let deadline = Instant::now().checked_add(grace);
        // What waits inside of a batch would begin one after the other, until the period is over.
        self.closing.raise();
        let mut unbegun = Vec::new();
        for lane in &mut self.lanes {
            let queue = Arc::clone(&lane.queue);
            let deliveries = lane.take_waiting();
            unbegun.push(async move { hand_back(queue.as_ref(), &deliveries).await });
        }
        self.cpu.cancel_queued();
        self.protocol.hurry();
        if tokio::time::timeout(RELEASE_TIMEOUT, join_all(unbegun))
            .await
            .is_err()
        {
            tracing::warn!(
                "handing back took too long; the rest comes back after its visibility timeout"
            );
        }
        loop {
            let next = self.work.ended();
            let next = match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline, next).await,
                None => Ok(next.await),
            };
            match next {
                Ok(Some(())) => {}
                Ok(None) => return,
                Err(_) => break,
            }
        }
        let lanes = self.lanes.iter();
        let unfinished = lanes.map(|lane| (Arc::clone(&lane.queue), lane.heartbeat.receipts()));
        let unfinished: Vec<_> = unfinished.collect();
        tracing::warn!(
            messages = unfinished
                .iter()
                .map(|(_, receipts)| receipts.len())
                .sum::<usize>(),
            "the grace period is over; unfinished messages are released"
        );
        self.work.shutdown().await;
        release_unfinished(unfinished).await;
    }
}

impl Drop for Shift {
    /// Work that has not begun never does.
    fn drop(&mut self) {
        self.work.stop();
        self.cpu.cancel_queued();
    }
}

/// Makes messages visible again at once. Those that cannot be released come back after their
/// visibility timeout.
async fn release_unfinished(messages: Vec<(Arc<dyn Queue>, Vec<Receipt>)>) {
    let release = async |(queue, receipts): (Arc<dyn Queue>, Vec<Receipt>)| {
        if let Err(error) = release_all(queue.as_ref(), receipts).await {
            tracing::warn!(?queue, error = %describe(&error), "messages could not be released; they come back after their visibility timeout");
        }
    };
    let all = join_all(messages.into_iter().map(release));
    if tokio::time::timeout(RELEASE_TIMEOUT, all).await.is_err() {
        tracing::warn!("releasing took too long; the rest comes back after its visibility timeout");
    }
}
