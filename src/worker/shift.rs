//! A worker's one loop: what to receive, what to begin, when to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Options;
use super::crew::Crew;
use super::heartbeat::{Heartbeat, Hold};
use super::lane::{Held, Lane};
use crate::compute::pool::Cpu;
use crate::compute::step::Limits;
use crate::core::error::{Result, describe};
use crate::core::one_of::OneOf;
use crate::core::retry::{Policy, retry};
use crate::protocol::requeue::{self, ATTEMPTS, Parting};
use crate::protocol::seam::Seam;
use crate::protocol::site::Site;
use crate::protocol::{Answer, Holder, Protocol};
use crate::queue::{Delivery, Outgoing, Queue, Receipt};

/// How long handing back may take at the end: the visibility timeout does it otherwise.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

struct Shift {
    lanes: Vec<Lane>,
    protocol: Arc<Protocol>,
    cpu: Arc<Cpu>,
    work: Crew,
    /// Whether CPU-bound work is looked after by the worker's own task.
    here: bool,
    /// Where places that have become free are told.
    freed: UnboundedSender<Freed>,
}

/// Places in a lane that have become free.
#[derive(Default)]
struct Freed {
    lane: usize,
    /// Messages that the user's function is done with, and what they weighed: others may be begun while their outcome
    /// is being written.
    worked: usize,
    weight: usize,
    /// Messages that have been put away.
    ended: usize,
}

/// Works until the signal comes. Dropped, it stops on the spot.
pub(super) async fn run(
    shared: Arc<Site>,
    options: Options,
    mut signal: watch::Receiver<bool>,
) -> Result<()> {
    let begin = async {
        let lanes = open_lanes(&shared, &options).await;
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
    let mut beats: FuturesUnordered<_> = beats.collect();
    // First, so that they are heard however much there is to do.
    tokio::select! {
        biased;
        Some(()) = beats.next() => {}
        () = work(shared, options, signal, lanes, cpu) => {}
    }
    Ok(())
}

/// The worker's loop, and its orderly end.
async fn work(
    shared: Arc<Site>,
    options: Options,
    mut signal: watch::Receiver<bool>,
    lanes: Vec<Lane>,
    cpu: Arc<Cpu>,
) {
    let served = Arc::clone(&shared);
    let mut batches = vec![None; shared.definition.stages().len()];
    for lane in &lanes {
        for (stage, queue) in lane.queues() {
            if let Some(batch) = batches.get_mut(stage) {
                *batch = queue.batch();
            }
        }
    }
    let protocol = Protocol::new(Seam::new(shared, &batches), options.cancel_check);
    let (freed, mut places) = unbounded_channel();
    let mut shift = Shift {
        lanes,
        protocol: Arc::new(protocol),
        cpu,
        work: Crew::default(),
        here: options.here,
        freed,
    };
    let mut receives = FuturesUnordered::<BoxFuture<'static, (usize, Vec<Delivery>)>>::new();
    let mut rooms = FuturesUnordered::<BoxFuture<'static, usize>>::new();
    loop {
        shift.begin_work();
        for (index, lane) in shift.lanes.iter_mut().enumerate() {
            if let Some(receive) = lane.receive() {
                receives.push(Box::pin(async move { (index, receive.await) }));
            }
            if let Some(room) = lane.ask_for_room() {
                rooms.push(Box::pin(async move {
                    room.await;
                    index
                }));
            }
        }
        tokio::select! {
            biased;
            _ = signal.wait_for(|stop| *stop) => break,
            Some(freed) = places.recv() => {
                shift.free(freed);
                while let Ok(freed) = places.try_recv() {
                    shift.free(freed);
                }
            }
            Some(()) = shift.work.ended() => {}
            Some(index) = rooms.next() => {
                if let Some(lane) = shift.lanes.get_mut(index) {
                    lane.has_room();
                }
            }
            Some((index, deliveries)) = receives.next() => {
                if let Some(lane) = shift.lanes.get_mut(index) {
                    shift.protocol.expect(lane.stage, deliveries.len());
                    lane.accept(&served, deliveries);
                }
            }
        }
    }
    // Receiving may be given up at any await: it has taken nothing, or what comes back by itself.
    drop(receives);
    shift.end(options.grace_period).await;
}

async fn open_lanes(shared: &Arc<Site>, options: &Options) -> Result<(Vec<Lane>, Arc<Cpu>)> {
    let definition = &shared.definition;
    let served: Vec<usize> = match &options.stages {
        None => (0..definition.stages().len()).collect(),
        Some(names) => {
            let mut places = Vec::new();
            for name in names {
                places.push(shared.position("a worker", name)?);
            }
            places.sort_unstable();
            places.dedup();
            places
        }
    };
    let cpu = definition.cpu(options.concurrency, options.here);
    let mut lanes = Vec::with_capacity(served.len());
    for stage in served {
        let Some(current) = definition.stage(stage) else {
            continue;
        };
        let open = async |stage| {
            retry("open", Policy::FOREVER, async || {
                shared.queue(stage).await.cloned()
            })
            .await
        };
        let queue = open(stage).await?;
        // What a stage sends to a reduction are small messages about groups: no need to wait for those.
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
                let weight = taken.iter().map(|held| held.weight).sum();
                let count = taken.len();
                let (deliveries, holds): (Vec<_>, Vec<_>) = taken
                    .into_iter()
                    .map(|Held { delivery, hold, .. }| (delivery, hold))
                    .unzip();
                // Work that can be stopped is, when its message is lost.
                let stopped = match holds.as_slice() {
                    [only] => Some(only.clone()),
                    _ => None,
                };
                let task = Task {
                    stage: lane.stage,
                    limits: Arc::clone(&lane.limits),
                    protocol: Arc::clone(&self.protocol),
                    hands: Hands {
                        stage: lane.stage,
                        lane: index,
                        queue: Arc::clone(&lane.queue),
                        heartbeat: Arc::clone(&lane.heartbeat),
                        protocol: Arc::clone(&self.protocol),
                        deliveries,
                        holds,
                        weight,
                        working: AtomicUsize::new(count),
                        held: AtomicUsize::new(count),
                        freed: self.freed.clone(),
                    },
                };
                let stop = self.work.begin(task.run(), self.here && lane.cpu_bound);
                if let Some(hold) = stopped {
                    hold.begin(stop);
                }
            }
        }
    }

    fn free(&mut self, freed: Freed) {
        if let Some(lane) = self.lanes.get_mut(freed.lane) {
            lane.worked(freed.worked, freed.weight);
            lane.ended(freed.ended);
        }
    }

    /// Hands back what waits, lets what runs finish within the grace period, hands back the rest.
    async fn end(mut self, grace: Duration) {
        // A period too long for the clock is one without end.
        let deadline = Instant::now().checked_add(grace);
        let mut unbegun = Vec::new();
        for lane in &mut self.lanes {
            let queue = Arc::clone(&lane.queue);
            let heartbeat = Arc::clone(&lane.heartbeat);
            let mut deliveries = Vec::new();
            for held in lane.give_up_waiting() {
                heartbeat.let_go(std::iter::once(&held.delivery.receipt));
                deliveries.push(held.delivery);
            }
            unbegun.push(put_back(queue, deliveries));
        }
        self.cpu.give_back();
        self.protocol.hurry();
        if tokio::time::timeout(RELEASE_TIMEOUT, join_all(unbegun))
            .await
            .is_err()
        {
            tracing::warn!("handing back took too long; the visibility timeout does it");
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
        let mut unfinished = Vec::new();
        for lane in &self.lanes {
            let receipts = lane.heartbeat.receipts().into_iter();
            unfinished.extend(receipts.map(|receipt| (Arc::clone(&lane.queue), receipt)));
        }
        tracing::warn!(
            messages = unfinished.len(),
            "the grace period is over; unfinished messages are handed back"
        );
        self.work.shutdown().await;
        release_all(unfinished).await;
    }
}

impl Drop for Shift {
    /// What has not been begun never is.
    fn drop(&mut self) {
        self.work.stop();
        self.cpu.give_back();
    }
}

/// Puts messages that were not begun back as they were, by fresh copies: their delivery was no attempt at them, and a
/// fleet may be restarted as often as it likes. A crash in between leaves two of a message, which is nothing new.
async fn put_back(queue: Arc<dyn Queue>, deliveries: Vec<Delivery>) {
    if deliveries.is_empty() {
        return;
    }
    let (copies, receipts): (Vec<Outgoing>, Vec<Receipt>) = deliveries
        .into_iter()
        .map(|delivery| (Outgoing::from(&delivery), delivery.receipt))
        .unzip();
    let put_back = match requeue::copies(queue.as_ref(), copies).await {
        Ok(()) => {
            retry("acknowledge", Policy::times(ATTEMPTS), || {
                queue.acknowledge(receipts.clone())
            })
            .await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = put_back {
        tracing::warn!(error = %describe(&error), "messages could not be handed back; their visibility timeout does it");
    }
}

/// Makes messages visible again at once. What cannot be released comes back after its visibility timeout.
async fn release_all(messages: Vec<(Arc<dyn Queue>, Receipt)>) {
    let release = async |(queue, receipt): (Arc<dyn Queue>, Receipt)| {
        let mut call = async || queue.release(receipt.clone(), Duration::ZERO).await;
        if let Err(error) = retry("release", Policy::times(ATTEMPTS), &mut call).await {
            tracing::warn!(error = %describe(&error), "a message could not be handed back");
        }
    };
    let all = futures::stream::iter(messages).for_each_concurrent(16, release);
    if tokio::time::timeout(RELEASE_TIMEOUT, all).await.is_err() {
        tracing::warn!("handing back took too long; the visibility timeout does it");
    }
}

/// Messages of one stage at work.
struct Task {
    stage: usize,
    limits: Arc<Limits>,
    protocol: Arc<Protocol>,
    hands: Hands,
}

impl Task {
    async fn run(self) {
        let Self {
            stage,
            limits,
            protocol,
            hands,
        } = self;
        let deliveries = &hands.deliveries;
        protocol.handle(stage, deliveries, &limits, &hands).await;
    }
}

/// Holds messages while they are worked on: their heartbeats and their places in the lane end with it, however it ends.
struct Hands {
    stage: usize,
    lane: usize,
    queue: Arc<dyn Queue>,
    heartbeat: Arc<Heartbeat>,
    protocol: Arc<Protocol>,
    deliveries: Vec<Delivery>,
    holds: Vec<OneOf<Hold>>,
    /// Of all of them; only one message at a time weighs more than 1.
    weight: usize,
    /// How many the user's function is not done with.
    working: AtomicUsize,
    /// How many have not been put away.
    held: AtomicUsize,
    freed: UnboundedSender<Freed>,
}

impl Hands {
    fn free(&self, worked: usize, ended: usize) {
        let weight = if self.deliveries.len() == 1 {
            self.weight * worked
        } else {
            worked
        };
        // Nobody listens any more once the worker ends.
        drop(self.freed.send(Freed {
            lane: self.lane,
            worked,
            weight,
            ended,
        }));
    }
}

impl Holder for Hands {
    fn worked(&self, messages: usize) {
        self.working.fetch_sub(messages, Ordering::Relaxed);
        self.protocol.expect_no_longer(self.stage, messages);
        self.free(messages, 0);
    }

    fn is_lost(&self, place: usize) -> bool {
        self.holds.get(place).is_some_and(|hold| hold.is_lost())
    }

    async fn put_away(&self, answers: Vec<(usize, Answer)>) {
        let (mut done, mut unbegun, mut others) =
            (Vec::with_capacity(answers.len()), Vec::new(), Vec::new());
        let mut receipts = Vec::with_capacity(answers.len());
        for (place, answer) in answers {
            let Some(delivery) = self.deliveries.get(place) else {
                continue;
            };
            receipts.push(&delivery.receipt);
            match answer {
                Answer::Acknowledge => done.push(delivery.receipt.clone()),
                Answer::PutBack => unbegun.push(delivery.clone()),
                Answer::Release(after) => others.push((delivery, Parting::Release(after))),
                Answer::Bury(reason) => others.push((delivery, Parting::Bury(reason))),
            }
        }
        let count = receipts.len();
        let problem = |problem: String| {
            tracing::error!(
                stage = self.stage,
                problem,
                "a message could not be put away; it comes back"
            );
        };
        for (delivery, parting) in others {
            let outcome = requeue::part(self.queue.as_ref(), delivery, &parting).await;
            outcome.unwrap_or_else(|error| problem(describe(&error)));
        }
        put_back(Arc::clone(&self.queue), unbegun).await;
        if !done.is_empty()
            && let Err(error) = self.protocol.acknowledge(self.stage, done).await
        {
            problem(describe(&error));
        }
        self.heartbeat.let_go(receipts.into_iter());
        self.held.fetch_sub(count, Ordering::Relaxed);
        self.free(0, count);
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        let held = self.held.load(Ordering::Relaxed);
        if held > 0 {
            self.heartbeat
                .let_go(self.deliveries.iter().map(|delivery| &delivery.receipt));
        }
        let working = self.working.load(Ordering::Relaxed);
        self.protocol.expect_no_longer(self.stage, working);
        self.free(working, held);
    }
}
