//! Jobs under way, for the task that waits for them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::clock::AwaitedBatch;
use super::reports::{Ended, Reports};
use super::watchdog::Watchdog;
use super::{Cpu, Job, Queued, SPIN, Ticket};
use crate::core::panic::panicked;

/// The longest wait for a report after one in bulk, so that one slow job does not hold up the quick ones before it.
const WAIT_AFTER_BULK: Duration = Duration::from_millis(10);

/// How soon to try again to start threads, after the system gave none.
const RETRY_THREADS: Duration = Duration::from_millis(100);

/// How far a job has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    Queued,
    Running,
    /// It has returned, or was cancelled while it was queued.
    Ended,
    /// It timed out. Its thread is lost until it returns, and what it makes then is dropped.
    GivenUp,
}

/// A job's phase. Each change is made by whichever side comes first: the runner, the watchdog, or a cancellation.
struct AtomicPhase(AtomicU8);

impl AtomicPhase {
    fn new(phase: Phase) -> Self {
        Self(AtomicU8::new(phase as u8))
    }

    fn is(&self, phase: Phase) -> bool {
        self.0.load(Ordering::Acquire) == phase as u8
    }

    /// Changes the phase, unless it is not `from` any more. Returns whether this call did.
    fn change(&self, from: Phase, to: Phase) -> bool {
        self.0
            .compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

struct Slot<T> {
    /// The job's position among those that [`Cpu::run`] was given.
    position: usize,
    phase: AtomicPhase,
    job: Arc<dyn Job<Output = T>>,
}

impl<T> Slot<T> {
    fn new((position, job): (usize, Arc<dyn Job<Output = T>>)) -> Self {
        Self {
            position,
            phase: AtomicPhase::new(Phase::Queued),
            job,
        }
    }
}

struct Batch<T> {
    slots: Vec<Slot<T>>,
    reports: Arc<Reports<T>>,
    /// Whether jobs that have not begun are cancelled when the worker is about to end.
    can_be_cancelled: bool,
}

impl<T: Send> Queued for Batch<T> {
    fn run(&self, index: usize) -> bool {
        let Some(slot) = self.slots.get(index) else {
            return true;
        };
        if self.reports.is_abandoned() || !slot.phase.change(Phase::Queued, Phase::Running) {
            return true;
        }
        let output = catch_unwind(AssertUnwindSafe(|| slot.job.run()));
        let output = output.unwrap_or_else(|panic| slot.job.failed(panicked(panic)));
        let in_time = slot.phase.change(Phase::Running, Phase::Ended);
        if in_time {
            self.reports.add(slot.position, Ended::Done(output));
        }
        in_time
    }

    fn cancel(&self, index: usize) -> bool {
        if !self.can_be_cancelled {
            return false;
        }
        if let Some(slot) = self.slots.get(index)
            && slot.phase.change(Phase::Queued, Phase::Ended)
        {
            self.reports.add(slot.position, Ended::NotBegun);
        }
        true
    }
}

/// Jobs under way. Dropping it abandons them: those that run continue, and what they make is dropped; the others never
/// begin.
pub(crate) struct Running<T> {
    cpu: Arc<Cpu>,
    reports: Arc<Reports<T>>,
    /// The first has all the jobs, the others have replacements of jobs that were given up.
    batches: Vec<Arc<Batch<T>>>,
    stage: usize,
    /// Jobs whose end has not been returned by [`next`](Self::next).
    unreported: usize,
    watchdog: Watchdog,
    /// Whether jobs have been reported in bulk lately, so that others may have ended since.
    after_bulk: bool,
    /// As long as any job is unreported.
    awaited: Option<AwaitedBatch>,
}

impl<T: Send + 'static> Running<T> {
    pub(super) fn begin(
        cpu: &Arc<Cpu>,
        stage: usize,
        jobs: Vec<Arc<dyn Job<Output = T>>>,
        timeout: Duration,
        can_be_cancelled: bool,
    ) -> Self {
        let unreported = jobs.len();
        // A waiter that spins takes all of them together.
        let few = match cpu.waiter_spins {
            true => 0,
            false => cpu.max_runners,
        };
        let mut running = Self {
            cpu: Arc::clone(cpu),
            reports: Arc::new(Reports::new(unreported, few)),
            batches: Vec::new(),
            stage,
            unreported,
            watchdog: Watchdog::new(timeout),
            after_bulk: unreported > 1,
            awaited: (unreported > 0).then(|| cpu.clock.hold()),
        };
        let slots = jobs.into_iter().enumerate().map(Slot::new);
        running.enqueue(slots.collect(), can_be_cancelled);
        running
    }

    fn enqueue(&mut self, slots: Vec<Slot<T>>, can_be_cancelled: bool) {
        let count = slots.len();
        if count == 0 {
            return;
        }
        let batch = Arc::new(Batch {
            slots,
            reports: Arc::clone(&self.reports),
            can_be_cancelled,
        });
        self.batches.push(Arc::clone(&batch));
        let batch: Arc<dyn Queued> = batch;
        let tickets = (0..count).map(|index| -> Ticket { (Arc::clone(&batch), index) });
        self.cpu.enqueue(self.stage, tickets, can_be_cancelled);
    }

    /// Cancels the jobs that have not begun, of these alone. [`next`](Self::next) reports them as not begun.
    pub(crate) fn cancel_queued(&self) {
        for batch in &self.batches {
            for index in 0..batch.slots.len() {
                batch.cancel(index);
            }
        }
    }

    /// The jobs that have ended since the last call, by their positions: at least one, or none when all have been
    /// reported. A job that begins nothing new for as long as the timeout is given up. Its thread cannot be stopped: it
    /// is lost until the function returns, and what the job makes then is dropped. Cancelled, this call has taken
    /// nothing.
    pub(crate) async fn next(&mut self) -> Vec<(usize, Ended<T>)> {
        let begin = std::time::Instant::now();
        while self.unreported > 0 {
            // Short jobs can finish before a parked thread wakes, so spin first; wait for all of them to avoid
            // reporting them one by one.
            let spins = self.cpu.waiter_spins && begin.elapsed() < SPIN;
            let ended = self.reports.take(spins);
            if !ended.is_empty() {
                self.unreported -= ended.len();
                self.after_bulk = self.unreported > 0;
                if self.unreported == 0 {
                    self.awaited = None;
                }
                return ended;
            }
            if spins {
                std::thread::yield_now();
                tokio::task::yield_now().await;
                continue;
            }
            let next_check = self.watchdog.next_check();
            // Timers are made when they are polled: a report that is there needs none.
            tokio::select! {
                biased;
                () = self.reports.due() => {}
                () = async { sleep(WAIT_AFTER_BULK).await }, if self.after_bulk => {
                    self.after_bulk = false;
                }
                () = async { sleep_until(next_check).await } => self.give_up_stuck(),
                () = async { sleep(RETRY_THREADS).await }, if self.cpu.lacks_threads() => {
                    self.cpu.start_missing();
                }
            }
        }
        Vec::new()
    }

    /// Gives up jobs that are stuck, and begins their replacements.
    fn give_up_stuck(&mut self) {
        let now = Instant::now();
        let timeout = self.watchdog.timeout();
        let mut replacements = Vec::new();
        let slots = self.batches.iter().flat_map(|batch| &batch.slots);
        for (index, slot) in slots.enumerate() {
            if !slot.phase.is(Phase::Running)
                || !self.watchdog.is_stuck(index, slot.job.begun(), now)
            {
                continue;
            }
            let give_up = || slot.phase.change(Phase::Running, Phase::GivenUp);
            if !self.cpu.lose_thread(self.stage, give_up) {
                continue;
            }
            let error = timed_out(timeout);
            match slot.job.instead(&error) {
                Some(job) => replacements.push(Slot::new((slot.position, job))),
                None => {
                    let output = slot.job.failed(error);
                    self.reports.add(slot.position, Ended::Done(output));
                }
            }
        }
        self.watchdog.checked(now);
        // Their work has begun: if they were cancelled, the message would come back as if it had not, and its function would
        // cost the next worker a thread, too.
        self.enqueue(replacements, false);
        // Only now: the replacements go first.
        self.cpu.replace_lost();
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        if self.unreported > 0 {
            self.reports.abandon();
        }
    }
}

pub(crate) fn timed_out(timeout: Duration) -> String {
    format!("timed out: no end after {timeout:?}")
}
