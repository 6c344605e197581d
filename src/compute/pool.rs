//! A small thread pool for CPU-bound stages. A runner keeps draining jobs while there are any, so a burst of jobs costs
//! one thread hand-off instead of one per job. `pool/README.md` says which states a thread has and why no wake-up is lost.

mod clock;
mod handle;
mod reports;
#[cfg(test)]
mod tests;
mod threads;
mod watchdog;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;

use clock::Clock;
pub(crate) use handle::{Running, timed_out};
pub(crate) use reports::Ended;
use threads::Threads;

/// How long a runner without a job spins (yielding) before its thread parks, and the task that waits for jobs before it
/// does. Waking a parked thread costs about as much …
const SPIN: Duration = Duration::from_micros(50);
/// … so only a runner that has been busy for less than this spins: others have work worth a wake-up.
const SPIN_IF_BUSY_LESS_THAN: Duration = Duration::from_micros(200);

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

/// The threads that one worker may keep busy at once.
pub(crate) struct Cpu {
    state: Mutex<State>,
    /// How often jobs have been queued. Spinning runners watch it.
    enqueued: AtomicUsize,
    max_runners: usize,
    /// Whether the task waiting for jobs spins briefly before it parks.
    waiter_spins: bool,
    /// Threads that are lost in functions that were given up and have not returned, by stage.
    lost_threads: watch::Sender<Vec<usize>>,
    /// Whether the system gave fewer threads than were asked for.
    lacks_threads: AtomicBool,
    threads: &'static Threads,
    clock: Arc<Clock>,
}

struct State {
    /// Later ones go first, so that what was begun ends.
    stages: Vec<Stage>,
    /// Threads that run jobs or spin; those that are lost are not among them.
    runners: usize,
    /// How many of `runners` are spinning for more work.
    spinning: usize,
}

/// The jobs of one stage.
struct Stage {
    queue: VecDeque<Ticket>,
    running: usize,
    max_running: usize,
}

/// A queued job: its batch, and its index in there.
type Ticket = (Arc<dyn Queued>, usize);

/// A batch of jobs, types erased.
trait Queued: Send + Sync {
    /// Runs a job. Returns false if it was given up meanwhile, and its runner has been replaced.
    fn run(&self, index: usize) -> bool;
    /// Cancels a job that has not begun. Returns false if it is part of something begun, and must be done.
    fn cancel(&self, index: usize) -> bool;
}

impl Stage {
    /// How many more of its jobs may begin.
    fn may_begin(&self) -> usize {
        let free = self.max_running.saturating_sub(self.running);
        self.queue.len().min(free)
    }
}

impl State {
    /// A stage's job has ended, or was given up.
    fn end(&mut self, stage: usize) {
        if let Some(stage) = self.stages.get_mut(stage) {
            stage.running = stage.running.saturating_sub(1);
        }
    }

    /// The next job, with its stage.
    fn next(&mut self) -> Option<(usize, Ticket)> {
        let mut stages = self.stages.iter_mut().enumerate().rev();
        let (index, stage) = stages.find(|(_, stage)| stage.may_begin() > 0)?;
        let ticket = stage.queue.pop_front()?;
        stage.running += 1;
        Some((index, ticket))
    }

    /// Runners to start for what is queued, which spinning ones will not take. They count from here on.
    fn claim_runners(&mut self, max_runners: usize) -> usize {
        let jobs: usize = self.stages.iter().map(Stage::may_begin).sum();
        let wanted = jobs.saturating_sub(self.spinning);
        let more = wanted.min(max_runners.saturating_sub(self.runners));
        self.runners += more;
        more
    }
}

impl Cpu {
    /// A pool of `runners` threads; `stages` gives each stage's limit. With `awaited`, the waiting task spins briefly
    /// before it parks.
    pub(crate) fn new(
        runners: usize,
        stages: impl Iterator<Item = usize>,
        awaited: bool,
    ) -> Arc<Self> {
        let stages = stages.map(|max_running| Stage {
            queue: VecDeque::new(),
            running: 0,
            max_running,
        });
        let stages: Vec<Stage> = stages.collect();
        let lost_threads = vec![0; stages.len()];
        Arc::new(Self {
            state: Mutex::new(State {
                stages,
                runners: 0,
                spinning: 0,
            }),
            enqueued: AtomicUsize::new(0),
            max_runners: runners.max(1),
            waiter_spins: awaited,
            lost_threads: watch::Sender::new(lost_threads),
            lacks_threads: AtomicBool::new(false),
            threads: Threads::shared(),
            clock: Arc::default(),
        })
    }

    /// The number of jobs that run at once.
    pub(crate) fn runners(&self) -> usize {
        self.max_runners
    }

    /// For each stage, how many threads are lost in functions that were given up and have not returned.
    pub(crate) fn lost_threads(&self) -> watch::Receiver<Vec<usize>> {
        self.lost_threads.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs jobs of a stage. If the returned value is dropped, those that have not begun never do.
    pub(crate) fn run<T: Send + 'static>(
        self: &Arc<Self>,
        stage: usize,
        jobs: Vec<Arc<dyn Job<Output = T>>>,
        timeout: Duration,
    ) -> Running<T> {
        Running::begin(self, stage, jobs, timeout, true)
    }

    /// As [`run`](Self::run), for a job that is part of something begun: it is not cancelled.
    pub(crate) fn finish<T: Send + 'static>(
        self: &Arc<Self>,
        stage: usize,
        job: Arc<dyn Job<Output = T>>,
        timeout: Duration,
    ) -> Running<T> {
        Running::begin(self, stage, vec![job], timeout, false)
    }

    /// Cancels every job that has not begun.
    pub(crate) fn cancel_queued(&self) {
        for stage in &mut self.lock().stages {
            stage.queue.retain(|(batch, index)| !batch.cancel(*index));
        }
    }

    /// Queues jobs of a stage. Those that are part of something begun, and so cannot be cancelled, go first.
    fn enqueue(
        self: &Arc<Self>,
        stage: usize,
        tickets: impl Iterator<Item = Ticket>,
        can_be_cancelled: bool,
    ) {
        let mut state = self.lock();
        if let Some(Stage { queue, .. }) = state.stages.get_mut(stage) {
            match can_be_cancelled {
                true => queue.extend(tickets),
                false => tickets.for_each(|ticket| queue.push_front(ticket)),
            }
        }
        self.enqueued.fetch_add(1, Ordering::Relaxed);
        let runners = state.claim_runners(self.max_runners);
        drop(state);
        self.start(runners);
    }

    /// Starts runners that have been claimed. Their jobs find the runtime of the task that waits for them.
    fn start(self: &Arc<Self>, runners: usize) {
        for started in 0..runners {
            let (this, runtime) = (Arc::clone(self), Handle::try_current().ok());
            let run_jobs = move || {
                let _entered = runtime.as_ref().map(Handle::enter);
                this.run_jobs();
            };
            if let Err(error) = self.threads.run(Box::new(run_jobs)) {
                tracing::warn!(%error, "the system gives no thread for CPU-bound work; trying again");
                self.lock().runners -= runners - started;
                self.lacks_threads.store(true, Ordering::Relaxed);
                return;
            }
        }
    }

    fn lacks_threads(&self) -> bool {
        self.lacks_threads.load(Ordering::Relaxed)
    }

    /// Tries once more to start runners, after the system gave no thread.
    fn start_missing(self: &Arc<Self>) {
        self.lacks_threads.store(false, Ordering::Relaxed);
        let runners = self.lock().claim_runners(self.max_runners);
        self.start(runners);
    }

    /// A runner: runs jobs until none has come for a while.
    fn run_jobs(&self) {
        let begin = Instant::now();
        let mut state = self.lock();
        loop {
            let mut next = state.next();
            if next.is_none() && begin.elapsed() < SPIN_IF_BUSY_LESS_THAN {
                state.spinning += 1;
                // Read under the lock: what is queued from here on changes it.
                let enqueued = self.enqueued.load(Ordering::Relaxed);
                drop(state);
                self.spin_while(enqueued);
                state = self.lock();
                state.spinning -= 1;
                next = state.next();
            }
            let Some((stage, (batch, index))) = next else {
                state.runners -= 1;
                return;
            };
            drop(state);
            let in_time = batch.run(index);
            // It may be the last one to hold the batch, and a value of the user's may panic as it is dropped.
            drop(catch_unwind(AssertUnwindSafe(|| drop(batch))));
            if !in_time {
                return self.thread_returned(stage);
            }
            state = self.lock();
            state.end(stage);
        }
    }

    /// Spins for a moment, or until more jobs are queued.
    fn spin_while(&self, enqueued: usize) {
        let begin = Instant::now();
        while self.enqueued.load(Ordering::Relaxed) == enqueued && begin.elapsed() < SPIN {
            std::thread::yield_now();
        }
    }

    /// Gives up a stage's job, whose thread is lost then. Returns whether `give_up` did, since the job may have ended
    /// meanwhile.
    fn lose_thread(self: &Arc<Self>, stage: usize, give_up: impl FnOnce() -> bool) -> bool {
        let mut state = self.lock();
        // Under the lock, so that the thread cannot be counted as returned before it is as lost.
        if !give_up() {
            return false;
        }
        state.runners = state.runners.saturating_sub(1);
        state.end(stage);
        self.count_lost(stage, |lost| lost + 1);
        true
    }

    /// Other threads take the places of those that were lost, or a few jobs that never end would stop the worker.
    fn replace_lost(self: &Arc<Self>) {
        let runners = self.lock().claim_runners(self.max_runners);
        self.start(runners);
    }

    /// A thread has come back from a job that was given up. Its runner was replaced long ago.
    fn thread_returned(&self, stage: usize) {
        let _state = self.lock();
        self.count_lost(stage, |lost| lost.saturating_sub(1));
    }

    fn count_lost(&self, stage: usize, change: impl FnOnce(usize) -> usize) {
        self.lost_threads.send_modify(|lost| {
            if let Some(lost) = lost.get_mut(stage) {
                *lost = change(*lost);
            }
        });
    }
}
