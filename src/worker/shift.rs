//! A worker's one loop: what to receive, what to begin, when to stop.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::Options;
use super::lane::{Held, Lane};
use crate::deployment::Shared;
use crate::error::{Error, Result, describe};
use crate::heartbeat::Heartbeat;
use crate::protocol::{Answer, Protocol};
use crate::queue::{Delivery, Queue, Receipt};
use crate::retry::{persist, retry};
use crate::seam::Seam;
use crate::stage::Limits;

/// How often handing back is tried at the end, and how long it may take: the visibility timeout does it
/// otherwise.
const RELEASE_ATTEMPTS: u32 = 3;
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

struct Shift {
    lanes: Vec<Lane>,
    protocol: Arc<Protocol>,
    work: JoinSet<()>,
    /// Which lane a task belongs to.
    tasks: HashMap<Id, usize>,
    cpu_free: usize,
    /// Where places that have become free are told.
    freed: UnboundedSender<Freed>,
}

/// A place in a lane that has become free: for the next message, while the last one's outcome is being written.
struct Freed {
    lane: usize,
    weight: usize,
}

/// A message's place among those that are worked on. It is free when this is dropped.
struct Place {
    lane: usize,
    weight: usize,
    freed: UnboundedSender<Freed>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Self { lane, weight, .. } = *self;
        // Nobody listens any more once the worker ends.
        drop(self.freed.send(Freed { lane, weight }));
    }
}

/// Works until the signal comes. Dropped, it stops on the spot.
pub(super) async fn run(
    shared: Arc<Shared>,
    options: Options,
    mut signal: watch::Receiver<bool>,
) -> Result<()> {
    let begin = async {
        let lanes = open_lanes(&shared, &options).await;
        lanes.inspect_err(
            |error| tracing::error!(error = %describe(error), "the worker cannot begin"),
        )
    };
    let lanes = tokio::select! {
        biased;
        lanes = begin => lanes?,
        _ = signal.wait_for(|stop| *stop) => return Ok(()),
    };
    let mut heartbeats = JoinSet::new();
    for lane in &lanes {
        heartbeats.spawn(Arc::clone(&lane.heartbeat).beat());
    }
    let protocol = Protocol::new(Seam::new(shared), options.cancel_check);
    let (freed, mut places) = unbounded_channel();
    let mut shift = Shift {
        lanes,
        protocol: Arc::new(protocol),
        work: JoinSet::new(),
        tasks: HashMap::new(),
        cpu_free: options.concurrency,
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
            Some(place) = places.recv() => shift.free(place),
            Some(outcome) = shift.work.join_next_with_id() => shift.ended(outcome),
            Some(index) = rooms.next() => {
                if let Some(lane) = shift.lanes.get_mut(index) {
                    lane.has_room();
                }
            }
            Some((index, deliveries)) = receives.next() => {
                if let Some(lane) = shift.lanes.get_mut(index) {
                    lane.accept(deliveries);
                }
            }
        }
    }
    // Receiving may be given up at any await: it has taken nothing, or what comes back by itself.
    drop(receives);
    shift.end(options.grace_period).await;
    Ok(())
}

async fn open_lanes(shared: &Arc<Shared>, options: &Options) -> Result<Vec<Lane>> {
    let definition = &shared.definition;
    let served: Vec<usize> = match &options.stages {
        None => (0..definition.stages().len()).collect(),
        Some(names) => {
            let mut places = Vec::new();
            for name in names {
                let place = definition.position(name).ok_or_else(|| {
                    let known: Vec<&str> =
                        definition.stages().iter().map(|stage| &*stage.name).collect();
                    Error::InvalidArgument {
                        problem: format!(
                            "a worker is to serve stage `{name}`, but deployment `{}` has the stages {}",
                            shared.name,
                            known.join(", ")
                        ),
                    }
                })?;
                places.push(place);
            }
            places.sort_unstable();
            places.dedup();
            places
        }
    };
    let cpu = Arc::new(Semaphore::new(
        options.concurrency.min(Semaphore::MAX_PERMITS),
    ));
    let mut lanes = Vec::with_capacity(served.len());
    for stage in served {
        let Some(current) = definition.stage(stage) else {
            continue;
        };
        let open = async |stage| persist("open", async || shared.queue(stage).await.cloned()).await;
        let queue = open(stage).await?;
        // What a stage sends to a reduction are small messages about groups: no need to wait for those.
        let next = match definition.stage(stage + 1) {
            Some(next) if !next.is_reduction() => Some(open(stage + 1).await?),
            _ => None,
        };
        let cpu = Arc::clone(&cpu);
        lanes.push(Lane::new(
            stage,
            current,
            queue,
            next,
            options.prefetch,
            cpu,
        ));
    }
    Ok(lanes)
}

impl Shift {
    /// Begins what there is room for: later stages first, so that what was begun ends.
    fn begin_work(&mut self) {
        for (index, lane) in self.lanes.iter_mut().enumerate().rev() {
            while !lane.cpu_bound || self.cpu_free > 0 {
                let Some(held) = lane.take() else { break };
                self.cpu_free -= usize::from(lane.cpu_bound);
                let Held {
                    delivery,
                    hold,
                    weight,
                } = held;
                let task = Task {
                    stage: lane.stage,
                    queue: Arc::clone(&lane.queue),
                    limits: Arc::clone(&lane.limits),
                    heartbeat: Arc::clone(&lane.heartbeat),
                    protocol: Arc::clone(&self.protocol),
                    delivery,
                    place: Place {
                        lane: index,
                        weight,
                        freed: self.freed.clone(),
                    },
                };
                let handle = self.work.spawn(task.run());
                self.tasks.insert(handle.id(), index);
                hold.begin(handle);
            }
        }
    }

    fn ended(&mut self, outcome: Result<(Id, ()), JoinError>) {
        let id = match &outcome {
            Ok((id, ())) => *id,
            Err(error) => {
                if error.is_panic() {
                    tracing::error!(%error, "the engine panicked; the message comes back: please report this");
                }
                error.id()
            }
        };
        if let Some(index) = self.tasks.remove(&id)
            && let Some(lane) = self.lanes.get_mut(index)
        {
            lane.ended();
        }
    }

    fn free(&mut self, Freed { lane, weight }: Freed) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.worked(weight);
            self.cpu_free += usize::from(lane.cpu_bound);
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
                heartbeat.let_go(&held.delivery.receipt);
                deliveries.push(held.delivery);
            }
            unbegun.push(put_back(queue, deliveries));
        }
        if tokio::time::timeout(RELEASE_TIMEOUT, join_all(unbegun))
            .await
            .is_err()
        {
            tracing::warn!("handing back took too long; the visibility timeout does it");
        }
        loop {
            let next = self.work.join_next_with_id();
            let next = match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline, next).await,
                None => Ok(next.await),
            };
            match next {
                Ok(Some(outcome)) => self.ended(outcome),
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

/// Puts messages that were not begun back as they were, by fresh copies: their delivery was no attempt at them, and a
/// fleet may be restarted as often as it likes. A crash in between leaves two of a message, which is nothing new.
async fn put_back(queue: Arc<dyn Queue>, deliveries: Vec<Delivery>) {
    if deliveries.is_empty() {
        return;
    }
    let (bodies, receipts): (Vec<Bytes>, Vec<Receipt>) = deliveries
        .into_iter()
        .map(|delivery| (delivery.body, delivery.receipt))
        .unzip();
    let attempts = Some(RELEASE_ATTEMPTS);
    let sent = retry("send", attempts, || queue.send(bodies.clone())).await;
    let put_back = match sent {
        Ok(()) => {
            retry("acknowledge", attempts, || {
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
        if let Err(error) = retry("release", Some(RELEASE_ATTEMPTS), &mut call).await {
            tracing::warn!(error = %describe(&error), "a message could not be handed back");
        }
    };
    let all = futures::stream::iter(messages).for_each_concurrent(16, release);
    if tokio::time::timeout(RELEASE_TIMEOUT, all).await.is_err() {
        tracing::warn!("handing back took too long; the visibility timeout does it");
    }
}

/// One message at work.
struct Task {
    stage: usize,
    queue: Arc<dyn Queue>,
    limits: Arc<Limits>,
    heartbeat: Arc<Heartbeat>,
    protocol: Arc<Protocol>,
    delivery: Delivery,
    place: Place,
}

impl Task {
    async fn run(self) {
        let Self {
            stage,
            queue,
            limits,
            heartbeat,
            protocol,
            delivery,
            place,
        } = self;
        let receipt = delivery.receipt.clone();
        let _held = LetGo(&heartbeat, &receipt);
        let place = Mutex::new(Some(place));
        let worked = || drop(place.lock().unwrap_or_else(PoisonError::into_inner).take());
        let answer = protocol.handle(stage, &delivery, &limits, &worked).await;
        worked();
        let outcome = match answer {
            Answer::Acknowledge => protocol.acknowledge(stage, receipt.clone()).await,
            Answer::Release(after) => persist("release", || queue.release(receipt.clone(), after))
                .await
                .map_err(|error| describe(&error)),
            Answer::Bury(reason) => persist("bury", || queue.bury(delivery.clone(), &reason))
                .await
                .map_err(|error| describe(&error)),
        };
        if let Err(problem) = outcome {
            tracing::error!(
                stage,
                problem,
                "a message could not be put away; it comes back"
            );
        }
    }
}

/// Ends a message's heartbeats however its task ends.
struct LetGo<'a>(&'a Heartbeat, &'a Receipt);

impl Drop for LetGo<'_> {
    fn drop(&mut self) {
        self.0.let_go(self.1);
    }
}
