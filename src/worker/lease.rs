//! Messages that a worker has leased, from their receipt to their answer.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::crew::Stop;
use super::heartbeat::Heartbeat;
use super::lane::{Lane, Leased};
use crate::compute::step::Limits;
use crate::core::error::describe;
use crate::core::flag::Flag;
use crate::core::one_of::OneOf;
use crate::protocol::{Answer, Owner, Protocol, Received, bury, nack};
use crate::queue::Queue;
use crate::queue::hand_back::hand_back;

/// One leased message. Heartbeats extend it until its lease is ended or lost.
#[derive(Default)]
pub(super) struct Lease {
    lost: AtomicBool,
    work: OnceLock<Stop>,
}

impl Lease {
    /// Whether the message now belongs to another worker.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Sets the work to stop when the lease is lost.
    pub(super) fn stop_if_lost(&self, work: Stop) {
        let work = self.work.get_or_init(|| work);
        if self.is_lost() {
            work.stop();
        }
    }

    pub(super) fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
        if let Some(work) = self.work.get() {
            work.stop();
        }
    }
}

/// Places in a lane that have become free.
#[derive(Default)]
pub(super) struct Freed {
    pub(super) lane: usize,
    /// Messages that the user's function is done with, and their weight: others may begin while
    /// their outcome is being written.
    pub(super) worked: usize,
    pub(super) weight: usize,
    /// Bytes of what the function has made of them for another map stage.
    pub(super) bytes: usize,
    /// Messages that have been answered.
    pub(super) ended: usize,
    /// Messages that are kept from now on while their items wait, or less than none if that is over.
    pub(super) kept: isize,
}

/// Messages of one stage that are worked on together. Their leases and their places in the lane end
/// with it, however it ends.
pub(super) struct LeasedBatch {
    stage: usize,
    lane: usize,
    queue: Arc<dyn Queue>,
    heartbeat: Arc<Heartbeat>,
    protocol: Arc<Protocol>,
    limits: Arc<Limits>,
    messages: Vec<Received>,
    leases: Vec<OneOf<Lease>>,
    /// Of those that the user's function is not done with; a message weighs more than 1 only if it is alone.
    weight: AtomicUsize,
    visibility_timeout: Duration,
    /// Messages that the user's function is not done with.
    working: AtomicUsize,
    /// Messages that have not been answered.
    unanswered: AtomicUsize,
    freed: UnboundedSender<Freed>,
    /// Whether the worker is ending.
    closing: Arc<Flag>,
}

impl LeasedBatch {
    /// What was taken from `lane`, which has this `index`. Places that become free are sent to
    /// `freed`. Nothing more begins once `closing` is raised.
    pub(super) fn new(
        lane: &Lane,
        index: usize,
        taken: Vec<Leased>,
        protocol: &Arc<Protocol>,
        freed: &UnboundedSender<Freed>,
        closing: &Arc<Flag>,
    ) -> Self {
        let count = taken.len();
        let weight = taken.iter().map(|leased| leased.weight).sum();
        let (messages, leases) = taken
            .into_iter()
            .map(|Leased { message, lease, .. }| (message, lease))
            .unzip();
        Self {
            stage: lane.stage,
            lane: index,
            queue: Arc::clone(&lane.queue),
            heartbeat: Arc::clone(&lane.heartbeat),
            protocol: Arc::clone(protocol),
            limits: Arc::clone(&lane.limits),
            messages,
            leases,
            weight: AtomicUsize::new(weight),
            visibility_timeout: lane.visibility_timeout,
            working: AtomicUsize::new(count),
            unanswered: AtomicUsize::new(count),
            freed: freed.clone(),
            closing: Arc::clone(closing),
        }
    }

    /// The lease whose loss makes the work useless: that of a message on its own. Of several, the
    /// others go on.
    pub(super) fn only_lease(&self) -> Option<OneOf<Lease>> {
        match self.leases.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        }
    }

    /// Does all the work of the messages.
    pub(super) async fn work(self) {
        let protocol = &self.protocol;
        protocol
            .handle(self.stage, &self.messages, &self.limits, &self)
            .await;
    }

    fn free(&self, worked: usize, bytes: usize, ended: usize) {
        let weight = match self.messages.len() {
            1 if worked == 0 => 0,
            1 => self.weight.swap(0, Ordering::Relaxed),
            _ => worked,
        };
        // The receiver has gone once the worker ends.
        drop(self.freed.send(Freed {
            lane: self.lane,
            worked,
            weight,
            bytes,
            ended,
            kept: 0,
        }));
    }
}

impl Owner for LeasedBatch {
    fn worked(&self, messages: usize, bytes: usize) {
        self.working.fetch_sub(messages, Ordering::Relaxed);
        self.protocol.expect_no_longer(self.stage, messages);
        self.free(messages, bytes, 0);
    }

    /// As long as a message may be gone before it is delivered to another worker.
    fn may_keep(&self, _place: usize, wait: Duration) -> bool {
        wait <= self.visibility_timeout
    }

    fn keeps(&self, is_kept: bool) {
        drop(self.freed.send(Freed {
            lane: self.lane,
            kept: if is_kept { 1 } else { -1 },
            ..Freed::default()
        }));
    }

    fn left(&self, items: usize) {
        let left = self.weight.load(Ordering::Relaxed);
        let items = items.min(left);
        self.weight.store(left - items, Ordering::Relaxed);
        drop(self.freed.send(Freed {
            lane: self.lane,
            weight: items,
            ..Freed::default()
        }));
    }

    fn is_lost(&self, place: usize) -> bool {
        self.leases.get(place).is_some_and(|lease| lease.is_lost())
    }

    async fn closing(&self) {
        self.closing.raised().await;
    }

    fn is_closing(&self) -> bool {
        self.closing.is_raised()
    }

    async fn answer(&self, answers: Vec<(usize, Answer)>) {
        let (mut done, mut unbegun) = (Vec::with_capacity(answers.len()), Vec::new());
        let mut receipts = Vec::with_capacity(answers.len());
        let problem = |problem: String| {
            tracing::error!(
                stage = self.stage,
                problem,
                "a message could not be answered; it comes back"
            );
        };
        for (place, answer) in answers {
            let Some(Received { delivery, .. }) = self.messages.get(place) else {
                continue;
            };
            receipts.push(&delivery.receipt);
            let queue = self.queue.as_ref();
            let answered = match answer {
                Answer::Ack => {
                    done.push(delivery.receipt.clone());
                    continue;
                }
                Answer::HandBack => {
                    unbegun.push(delivery.clone());
                    continue;
                }
                Answer::Nack(delay) => nack(queue, delivery, delay).await,
                Answer::Bury(reason) => bury(queue, delivery, &reason).await,
            };
            answered.unwrap_or_else(|error| problem(describe(&error)));
        }
        hand_back(self.queue.as_ref(), &unbegun).await;
        if !done.is_empty()
            && let Err(error) = self.protocol.acknowledge(self.stage, done).await
        {
            problem(describe(&error));
        }
        let count = receipts.len();
        self.heartbeat.end(receipts.into_iter());
        self.unanswered.fetch_sub(count, Ordering::Relaxed);
        self.free(0, 0, count);
    }
}

impl Drop for LeasedBatch {
    fn drop(&mut self) {
        let unanswered = self.unanswered.load(Ordering::Relaxed);
        if unanswered > 0 {
            let messages = self.messages.iter();
            self.heartbeat
                .end(messages.map(|message| &message.delivery.receipt));
        }
        let working = self.working.load(Ordering::Relaxed);
        self.protocol.expect_no_longer(self.stage, working);
        self.free(working, 0, unanswered);
    }
}
