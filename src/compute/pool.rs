//! A small thread pool for CPU-bound stages. A runner keeps draining jobs while there are any, so a burst of jobs costs
//! one thread hand-off instead of one per job.

mod reports;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::core::clock::after;
use crate::core::panic::panicked;
pub(crate) use reports::Ended;
use reports::{EndedJobs, Reports};

/// A piece of work that runs to its end on one thread.
pub(crate) trait Job: Send + Sync {
    type Output: Send;

    fn run(&self) -> Self::Output;

    /// How many steps have been begun: it is stuck when this does not move.
    fn begun(&self) -> usize;

    /// What comes of it when it is given up, or when it panicked outside of what it guards itself.
    fn failed(&self, error: String) -> Self::Output;

    /// What to do instead when it is given up, where there is something.
    fn instead(&self, _error: &str) -> Option<Arc<dyn Job<Output = Self::Output>>> {
        None
    }
}

/// Longest wait for a report after a bulk of them, so that one slow job does not hold up the quick ones before it.
const LATER: Duration = Duration::from_millis(10);

/// How long an idle runner spins (yielding) before it parks. Waking a parked thread costs about as much, so only runners
/// that found less than `LITTLE` of work spin.
const LOOK_OUT: Duration = Duration::from_micros(50);
const LITTLE: Duration = Duration::from_micros(200);

/// The threads that one worker may keep busy at once.
pub(crate) struct Cpu {
    state: Mutex<State>,
    /// How often jobs have been queued.
    queued: AtomicUsize,
    runners: usize,
    /// Whether the task waiting for jobs spins briefly before it parks.
    awaited: bool,
}

struct State {
    /// Later ones go first, so that what was begun ends.
    stages: Vec<Stage>,
    running: usize,
    /// How many of `running` are spinning for more work.
    idle: usize,
}

impl State {
    /// A job of this stage has ended.
    fn end(&mut self, stage: Option<usize>) {
        if let Some(stage) = stage.and_then(|stage| self.stages.get_mut(stage)) {
            stage.running -= 1;
        }
    }

    /// The next job, with its stage.
    fn next(&mut self) -> Option<(usize, Ticket)> {
        let mut stages = self.stages.iter_mut().enumerate().rev();
        let (place, stage) = stages.find(|(_, stage)| stage.may_begin() > 0)?;
        let ticket = stage.queued.pop_front()?;
        stage.running += 1;
        Some((place, ticket))
    }
}

/// The jobs of one stage.
struct Stage {
    queued: VecDeque<Ticket>,
    running: usize,
    most: usize,
}

impl Stage {
    /// How many more of its jobs may begin.
    fn may_begin(&self) -> usize {
        self.queued
            .len()
            .min(self.most.saturating_sub(self.running))
    }
}

/// A job that waits its turn: the place of one in its batch.
type Ticket = (Arc<dyn Runs>, usize);

trait Runs: Send + Sync {
    /// Runs a job. Returns false where it was given up meanwhile, and its runner has been replaced.
    fn run(&self, place: usize) -> bool;
    /// Cancels a job that has not begun. Returns false if it is part of something begun, and must be done.
    fn cancel(&self, place: usize) -> bool;
}

impl Cpu {
    /// A pool of `runners` threads; `stages` gives each stage's limit. With `awaited`, the waiting task spins briefly
    /// before it parks.
    pub(crate) fn new(
        runners: usize,
        stages: impl Iterator<Item = usize>,
        awaited: bool,
    ) -> Arc<Self> {
        let stages = stages.map(|most| Stage {
            queued: VecDeque::new(),
            running: 0,
            most,
        });
        Arc::new(Self {
            state: Mutex::new(State {
                stages: stages.collect(),
                running: 0,
                idle: 0,
            }),
            queued: AtomicUsize::new(0),
            runners: runners.max(1),
            awaited,
        })
    }

    pub(crate) fn runners(&self) -> usize {
        self.runners
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs jobs of a stage. Dropped, those that have not been begun never are.
    pub(crate) fn run<T: Send + 'static>(
        self: &Arc<Self>,
        stage: usize,
        jobs: Vec<Arc<dyn Job<Output = T>>>,
        timeout: Duration,
    ) -> Running<T> {
        self.begin(stage, jobs, timeout, false)
    }

    /// As [`run`](Self::run), for a job that is part of something begun: it is not cancelled.
    pub(crate) fn finish<T: Send + 'static>(
        self: &Arc<Self>,
        stage: usize,
        job: Arc<dyn Job<Output = T>>,
        timeout: Duration,
    ) -> Running<T> {
        self.begin(stage, vec![job], timeout, true)
    }

    fn begin<T: Send + 'static>(
        self: &Arc<Self>,
        stage: usize,
        jobs: Vec<Arc<dyn Job<Output = T>>>,
        timeout: Duration,
        kept: bool,
    ) -> Running<T> {
        let left = jobs.len();
        let slots = jobs.into_iter().enumerate().map(Slot::new).collect();
        let reports = Arc::new(Reports {
            ended: Mutex::new(EndedJobs {
                untaken: Vec::new(),
                left,
                told_at: std::time::Instant::now(),
            }),
            told: Notify::new(),
            abandoned: AtomicBool::new(false),
        });
        let mut running = Running {
            cpu: Arc::clone(self),
            reports,
            batches: Vec::new(),
            stage,
            kept,
            left,
            timeout,
            seen: Vec::new(),
            in_bulk: left > 1,
            look_at: None,
        };
        running.enqueue(slots);
        running
    }

    fn enqueue(self: &Arc<Self>, stage: usize, tickets: impl Iterator<Item = Ticket>) {
        let more = {
            let mut state = self.lock();
            if let Some(stage) = state.stages.get_mut(stage) {
                stage.queued.extend(tickets);
            }
            self.queued.fetch_add(1, Ordering::Relaxed);
            self.missing(&mut state)
        };
        self.start(more);
    }

    /// Runners to start for what is queued. They count as running from here on.
    fn missing(&self, state: &mut State) -> usize {
        let wanted: usize = state.stages.iter().map(Stage::may_begin).sum();
        let wanted = wanted.saturating_sub(state.idle);
        let more = wanted.min(self.runners.saturating_sub(state.running));
        state.running += more;
        more
    }

    fn start(self: &Arc<Self>, runners: usize) {
        for _ in 0..runners {
            let this = Arc::clone(self);
            tokio::task::spawn_blocking(move || this.run_all());
        }
    }

    fn run_all(&self) {
        let since = std::time::Instant::now();
        let mut last = None;
        loop {
            let mut state = self.lock();
            state.end(last.take());
            let mut next = state.next();
            if next.is_none() && since.elapsed() < LITTLE {
                state.idle += 1;
                let queued = self.queued.load(Ordering::Relaxed);
                drop(state);
                self.look_out(queued);
                state = self.lock();
                state.idle -= 1;
                next = state.next();
            }
            let Some((stage, (batch, place))) = next else {
                state.running -= 1;
                return;
            };
            drop(state);
            if !batch.run(place) {
                // Replaced.
                return;
            }
            last = Some(stage);
        }
    }

    /// Waits a moment for jobs, until more have been queued than so many.
    fn look_out(&self, queued: usize) {
        let since = std::time::Instant::now();
        while self.queued.load(Ordering::Relaxed) == queued && since.elapsed() < LOOK_OUT {
            std::thread::yield_now();
        }
    }

    /// A runner is stuck in a job that was given up: another takes its place, or a few that never end would stop the
    /// worker.
    fn replace(self: &Arc<Self>, stage: usize) {
        let more = {
            let mut state = self.lock();
            state.running = state.running.saturating_sub(1);
            if let Some(stage) = state.stages.get_mut(stage) {
                stage.running = stage.running.saturating_sub(1);
            }
            self.missing(&mut state)
        };
        self.start(more);
    }

    /// Cancels every job that has not begun.
    pub(crate) fn cancel_queued(&self) {
        for stage in &mut self.lock().stages {
            stage.queued.retain(|(batch, place)| !batch.cancel(*place));
        }
    }
}

const QUEUED: u8 = 0;
const RUNNING: u8 = 1;
const ENDED: u8 = 2;

struct Slot<T> {
    place: usize,
    phase: AtomicU8,
    job: Arc<dyn Job<Output = T>>,
}

impl<T> Slot<T> {
    fn new((place, job): (usize, Arc<dyn Job<Output = T>>)) -> Self {
        Self {
            place,
            phase: AtomicU8::new(QUEUED),
            job,
        }
    }

    fn turn(&self, from: u8, to: u8) -> bool {
        self.phase
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

struct Batch<T> {
    slots: Vec<Slot<T>>,
    reports: Arc<Reports<T>>,
    /// Its jobs are not cancelled when the worker is about to end.
    kept: bool,
}

impl<T: Send> Runs for Batch<T> {
    fn run(&self, index: usize) -> bool {
        let Some(slot) = self.slots.get(index) else {
            return true;
        };
        if self.reports.abandoned.load(Ordering::Relaxed) || !slot.turn(QUEUED, RUNNING) {
            return true;
        }
        let output = catch_unwind(AssertUnwindSafe(|| slot.job.run()));
        let output = output.unwrap_or_else(|panic| slot.job.failed(panicked(panic.as_ref())));
        let ours = slot.turn(RUNNING, ENDED);
        if ours {
            self.reports.end(slot.place, Ended::Done(output));
        }
        ours
    }

    fn cancel(&self, index: usize) -> bool {
        if self.kept {
            return false;
        }
        if let Some(slot) = self.slots.get(index)
            && slot.turn(QUEUED, ENDED)
        {
            self.reports.end(slot.place, Ended::NotBegun);
        }
        true
    }
}

/// Jobs under way. Dropping it lets those that run end unheard, and the others never begin.
pub(crate) struct Running<T> {
    cpu: Arc<Cpu>,
    reports: Arc<Reports<T>>,
    /// The first has all the jobs, the others have what is done instead of some.
    batches: Vec<Arc<Batch<T>>>,
    stage: usize,
    kept: bool,
    left: usize,
    timeout: Duration,
    /// How far each job was when last looked at, and since when it has not moved.
    seen: Vec<Option<(usize, Instant)>>,
    /// Some have ended lately, and others may have since.
    in_bulk: bool,
    look_at: Option<Instant>,
}

impl<T: Send + 'static> Running<T> {
    fn enqueue(&mut self, slots: Vec<Slot<T>>) {
        let count = slots.len();
        if count == 0 {
            return;
        }
        let reports = Arc::clone(&self.reports);
        let batch = Arc::new(Batch {
            slots,
            reports,
            kept: self.kept,
        });
        self.batches.push(Arc::clone(&batch));
        let batch: Arc<dyn Runs> = batch;
        let tickets = (0..count).map(|index| (Arc::clone(&batch), index));
        self.cpu.enqueue(self.stage, tickets);
    }

    /// Cancels the jobs that have not begun, of these alone. [`next`](Self::next) reports them as not begun.
    pub(crate) fn cancel_queued(&self) {
        for batch in &self.batches {
            for index in 0..batch.slots.len() {
                batch.cancel(index);
            }
        }
    }

    /// The jobs that have ended since the last call, by their places: at least one, or none when all have been told.
    /// A job that does not move for as long as the timeout is given up. Its thread cannot be stopped; what it makes
    /// then is dropped. Cancelled, it has taken nothing.
    pub(crate) async fn next(&mut self) -> Vec<(usize, Ended<T>)> {
        let since = std::time::Instant::now();
        while self.left > 0 {
            // Short jobs can finish before a parked thread wakes, so spin first; wait for all of them to avoid reporting them one by one.
            let looks_out = self.cpu.awaited && since.elapsed() < LOOK_OUT;
            let ended = self.reports.take(looks_out);
            if !ended.is_empty() {
                self.left -= ended.len();
                self.in_bulk = self.left > 0;
                return ended;
            }
            if looks_out {
                std::thread::yield_now();
                tokio::task::yield_now().await;
                continue;
            }
            let quarter = self.timeout / 4;
            let look_at = *self
                .look_at
                .get_or_insert_with(|| after(Instant::now(), quarter));
            tokio::select! {
                biased;
                () = self.reports.told.notified() => {}
                // Should one of many quick jobs not be quick, those before it do not wait for it.
                () = tokio::time::sleep(LATER), if self.in_bulk => self.in_bulk = false,
                () = tokio::time::sleep_until(look_at) => {
                    self.look();
                    self.look_at = Some(after(Instant::now(), quarter));
                }
            }
        }
        Vec::new()
    }

    /// Gives up what is stuck.
    fn look(&mut self) {
        let now = Instant::now();
        let mut instead = Vec::new();
        let slots = self.batches.iter().flat_map(|batch| &batch.slots);
        for (index, slot) in slots.enumerate() {
            if self.seen.len() <= index {
                self.seen.push(None);
            }
            let Some(seen) = self.seen.get_mut(index) else {
                continue;
            };
            if slot.phase.load(Ordering::Acquire) != RUNNING {
                continue;
            }
            let begun = slot.job.begun();
            match seen {
                Some((steps, since)) if *steps == begun => {
                    if now.duration_since(*since) >= self.timeout && slot.turn(RUNNING, ENDED) {
                        let error = timed_out(self.timeout);
                        match slot.job.instead(&error) {
                            Some(job) => instead.push(Slot::new((slot.place, job))),
                            None => {
                                let output = slot.job.failed(error);
                                self.reports.end(slot.place, Ended::Done(output));
                            }
                        }
                        self.cpu.replace(self.stage);
                    }
                }
                _ => *seen = Some((begun, now)),
            }
        }
        self.enqueue(instead);
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        if self.left > 0 {
            self.reports.abandoned.store(true, Ordering::Relaxed);
        }
    }
}

pub(crate) fn timed_out(timeout: Duration) -> String {
    format!("timed out: no end after {timeout:?}")
}
