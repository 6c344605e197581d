//! One stage as a worker serves it: what waits, what runs, and how much of both there may be.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep_until};

use super::heartbeat::Heartbeat;
use super::lease::Lease;
use super::onward::Onward;
use super::prefetch::Prefetch;
use crate::compute::pool::Cpu;
use crate::compute::step::Limits;
use crate::core::backoff::Backoff;
use crate::core::one_of::OneOf;
use crate::core::retry::{Policy, retry};
use crate::pipeline::definition::StageDefinition;
use crate::protocol::Received;
use crate::protocol::site::Site;
use crate::queue::{Delivery, Queue};
use crate::stage::Execution;

/// How long one receive waits for a message: what Amazon SQS allows at most.
const LONG_POLL: Duration = Duration::from_secs(20);
/// The least time from one receive that brought nothing to the next.
const SHORTEST_POLL: Duration = Duration::from_millis(100);
/// Without its queues a worker has nothing to do, so it repeats these calls whatever the error is: a queue that does not exist
/// may be made.
pub(super) const RETRY: Policy =
    Policy::FOREVER
        .whatever_the_error()
        .with_backoff(Backoff::exponential(
            Duration::from_millis(500),
            Duration::from_secs(30),
        ));

/// Messages whose work is done while their outcome is being written and they are acknowledged. Others are worked on
/// meanwhile, and the more outcomes come together, the fewer requests they take.
const SETTLING: usize = 256;

pub(super) struct Lane {
    /// The stage's place in the pipeline.
    pub(super) stage: usize,
    pub(super) queue: Arc<dyn Queue>,
    /// Where this stage's outputs go, if to a queue that can be full: then nothing more is begun.
    next: Option<Onward>,
    pub(super) heartbeat: Arc<Heartbeat>,
    pub(super) limits: Arc<Limits>,
    pub(super) cpu_bound: bool,
    /// Whether everything is worked on together that may begin: the threads take one message after the other, and those of
    /// later stages first. If there is a pace to keep, each message waits for its own start.
    takes_all: bool,
    /// CPU-bound work of its own that runs at once.
    runners: usize,
    concurrency: usize,
    prefetch: Prefetch,
    waiting: VecDeque<Leased>,
    /// Messages whose lease was lost while they waited.
    lost: usize,
    receiving: bool,
    /// Messages that the user's function works on, and the weight they have.
    running: usize,
    weight: usize,
    last_weight: usize,
    /// Messages that have been begun and not answered.
    begun: usize,
    /// Those of them whose items wait for another attempt.
    kept: usize,
    pub(super) visibility_timeout: Duration,
}

/// A received message that has not been begun.
pub(super) struct Leased {
    pub(super) message: Received,
    pub(super) lease: OneOf<Lease>,
    /// What it counts for: its items where an asynchronous function works on those, else 1.
    pub(super) weight: usize,
}

/// What a receive has brought, and how long it took.
pub(super) struct Arrived {
    pub(super) deliveries: Vec<Delivery>,
    took: Duration,
}

impl Lane {
    pub(super) fn new(
        stage: usize,
        definition: &StageDefinition,
        queue: Arc<dyn Queue>,
        next: Option<Arc<dyn Queue>>,
        prefetch: Option<usize>,
        cpu: Arc<Cpu>,
    ) -> Self {
        let options = &definition.options;
        let cpu_bound = definition.execution == Execution::Blocking;
        let runners = match cpu_bound {
            true => cpu.runners().min(options.concurrency),
            false => options.concurrency,
        };
        let limits = Arc::new(Limits::new(stage, options, cpu));
        // Billed requests are filled up best by packets that end one by one.
        let queues = std::iter::once(&queue).chain(&next);
        let is_billed = queues.into_iter().any(|queue| queue.batch().is_some());
        let takes_all = cpu_bound && limits.pace.is_none() && !(next.is_some() && is_billed);
        let next = next.map(|queue| match takes_all {
            true => Onward::together(queue, runners),
            false => Onward::one_by_one(queue),
        });
        Self {
            stage,
            next,
            prefetch: Prefetch::new(prefetch, queue.batch()),
            heartbeat: Heartbeat::new(Arc::clone(&queue), options.queue.visibility_timeout),
            queue,
            limits,
            cpu_bound,
            takes_all,
            runners,
            concurrency: options.concurrency,
            waiting: VecDeque::new(),
            lost: 0,
            receiving: false,
            running: 0,
            weight: 0,
            last_weight: 0,
            begun: 0,
            kept: 0,
            visibility_timeout: options.queue.visibility_timeout,
        }
    }

    /// The queues it receives from and sends packets on to, with their stages.
    pub(super) fn queues(&self) -> impl Iterator<Item = (usize, &dyn Queue)> {
        let own = (self.stage, &*self.queue);
        let next = self.next.as_ref();
        let next = next.map(|next| (self.stage + 1, next.queue()));
        std::iter::once(own).chain(next)
    }

    /// The next messages to work on together, as far as the stage has room for them: all there are for a CPU-bound
    /// function, which takes them one after the other, and one for an asynchronous one.
    pub(super) fn take(&mut self) -> Vec<Leased> {
        let mut taken = Vec::new();
        let most = if self.takes_all { usize::MAX } else { 1 };
        while taken.len() < most && self.has_room_for_more() {
            let Some(next) = self.waiting.pop_front() else {
                break;
            };
            if next.lease.is_lost() {
                self.lost += 1;
            } else {
                if let Some(next) = &mut self.next {
                    next.begin();
                }
                self.running += 1;
                self.begun += 1;
                self.weight += next.weight;
                taken.push(next);
            }
        }
        if !taken.is_empty() {
            self.prefetch.begin();
        }
        taken
    }

    fn has_room_for_more(&self) -> bool {
        let is_busy = match self.cpu_bound {
            true => !self.takes_all && self.running >= self.runners,
            false => self.running > 0 && self.weight >= self.concurrency,
        };
        // A message may be answered before its place is seen to be free.
        let is_settling = self.begun.saturating_sub(self.running + self.kept) >= SETTLING;
        let is_blocked = self.next.as_ref().is_some_and(Onward::is_blocked);
        !is_busy && !is_settling && !is_blocked
    }

    /// The user's function is done with messages, and its outputs have this many `bytes`.
    pub(super) fn worked(&mut self, messages: usize, weight: usize, bytes: usize) {
        if let Some(next) = &mut self.next {
            next.made(messages, bytes);
        }
        self.running -= messages;
        self.weight -= weight;
        self.prefetch.worked(messages, self.running > 0);
    }

    /// So many more messages are kept while their items wait.
    pub(super) fn keeps(&mut self, more: isize) {
        self.kept = self.kept.saturating_add_signed(more);
    }

    /// Messages have been answered, or their work was stopped.
    pub(super) fn ended(&mut self, messages: usize) {
        self.begun -= messages;
    }

    /// Leases and decodes messages that were received; they wait until there is room for them.
    pub(super) fn accept(&mut self, site: &Site, Arrived { deliveries, took }: Arrived) {
        self.receiving = false;
        if !deliveries.is_empty() {
            self.prefetch.received(took);
        }
        let definition = site.definition.stage(self.stage);
        let receipts = deliveries.iter().map(|delivery| &delivery.receipt);
        let leases = self.heartbeat.lease(receipts);
        for (delivery, lease) in deliveries.into_iter().zip(leases) {
            let message = Received::new(site, self.stage, delivery);
            let weight = definition.map_or(1, |stage| message.weight(stage));
            self.last_weight = weight;
            self.waiting.push_back(Leased {
                message,
                lease,
                weight,
            });
        }
    }

    /// How many more messages could run at this moment.
    fn idle(&self) -> usize {
        if self.cpu_bound {
            return self.runners.saturating_sub(self.running);
        }
        if self.running > 0 && self.weight >= self.concurrency {
            return 0;
        }
        // A message of items counts for as many as the last one had; of the first, nobody knows.
        match self.last_weight {
            0 => 1,
            weight => (self.concurrency.saturating_sub(self.weight) / weight).max(1),
        }
    }

    /// How many messages that waited have been lost since this was asked.
    pub(super) fn take_lost(&mut self) -> usize {
        std::mem::take(&mut self.lost)
    }

    /// Takes everything that has not been begun, and ends its leases.
    pub(super) fn take_waiting(&mut self) -> Vec<Delivery> {
        let waiting = self.waiting.drain(..);
        let deliveries: Vec<Delivery> = waiting.map(|leased| leased.message.delivery).collect();
        let receipts = deliveries.iter().map(|delivery| &delivery.receipt);
        self.heartbeat.end(receipts);
        deliveries
    }

    /// A receive to wait for, where one is due: one at a time, and only for what there is room for.
    pub(super) fn receive(&mut self) -> Option<BoxFuture<'static, Arrived>> {
        // Of a CPU-bound stage's messages only so many run; the others wait their turn.
        let unbegun = match self.cpu_bound {
            true => self.running.saturating_sub(self.runners),
            false => 0,
        };
        let waiting = self.waiting.len() + unbegun;
        if self.receiving {
            return None;
        }
        let room = self.prefetch.wanted(waiting, self.idle())?;
        self.receiving = true;
        let queue = Arc::clone(&self.queue);
        let receive = async move {
            let begin = Instant::now();
            let received = retry("receive", RETRY, || queue.receive(room, LONG_POLL)).await;
            // Never an error, under that policy.
            let deliveries = received.unwrap_or_default();
            let took = begin.elapsed();
            if deliveries.is_empty() {
                // A queue that does not wait, although it should, would be asked without end.
                sleep_until(begin + SHORTEST_POLL).await;
            }
            Arrived { deliveries, took }
        };
        Some(receive.boxed())
    }

    /// Something to wait for before more is begun, where the next stage's queue is to be asked for room. What was
    /// received stays held meanwhile, so that those who send to this stage's queue see that it is full, too.
    pub(super) fn ask_for_room(&mut self) -> Option<BoxFuture<'static, bool>> {
        if self.waiting.is_empty() {
            return None;
        }
        let unanswered = match self.takes_all {
            true => self.begun,
            false => 0,
        };
        self.next.as_mut()?.ask(unanswered)
    }

    /// The next stage's queue has room; `at_once` says that it had some when it was asked.
    pub(super) fn has_room(&mut self, at_once: bool) {
        if let Some(next) = &mut self.next {
            next.has_room(at_once);
        }
    }
}
