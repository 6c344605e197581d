//! The process's threads for CPU-bound work. A thread that has nothing to do stays for a while, because starting one
//! takes longer than a small run. Nothing ever joins them: a thread that never comes back does not keep the process
//! from its end.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::core::panic::panicked;

/// What a thread does until it is idle again.
pub(super) type Work = Box<dyn FnOnce() + Send>;

/// How long an idle thread waits for work before it exits: as long as one of tokio's blocking threads.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The default of tokio's threads and of the standard library's, so that a function that recurses has the same room
/// everywhere.
const STACK_SIZE: usize = 2 * 1024 * 1024;

/// Linux shows the first 15 characters.
const THREAD_NAME: &str = "catchment-cpu";

/// Idle threads, and the way to more.
pub(super) struct Threads {
    /// The thread that became idle last is used first: its stack is still in the cache, and those below it reach their
    /// `keep_alive`.
    idle_threads: Mutex<Vec<Arc<Seat>>>,
    keep_alive: Duration,
}

/// Where an idle thread waits for its work.
#[derive(Default)]
struct Seat {
    work: Mutex<Option<Work>>,
    arrived: Condvar,
}

impl Threads {
    /// The threads that all pools of the process share.
    pub(super) fn shared() -> &'static Self {
        static SHARED: Threads = Threads::new(KEEP_ALIVE);
        &SHARED
    }

    pub(super) const fn new(keep_alive: Duration) -> Self {
        Self {
            idle_threads: Mutex::new(Vec::new()),
            keep_alive,
        }
    }

    fn idle_threads(&self) -> MutexGuard<'_, Vec<Arc<Seat>>> {
        self.idle_threads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Has an idle thread do the work, or else a new one.
    ///
    /// # Errors
    /// If the system gives the process no more threads. The work is dropped then.
    pub(super) fn run(&'static self, work: Work) -> io::Result<()> {
        let idle = self.idle_threads().pop();
        match idle {
            Some(seat) => seat.hand_over(work),
            None => {
                let thread = std::thread::Builder::new()
                    .name(THREAD_NAME.to_owned())
                    .stack_size(STACK_SIZE);
                thread.spawn(move || self.work_from(work))?;
            }
        }
        Ok(())
    }

    /// A thread's life, from its first work on.
    fn work_from(&self, mut work: Work) {
        let seat = Arc::<Seat>::default();
        loop {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
                let error = panicked(panic);
                tracing::error!(%error, "the engine panicked on a thread for CPU-bound work: please report this");
            }
            self.idle_threads().push(Arc::clone(&seat));
            match self.next_work(&seat) {
                Some(next) => work = next,
                None => return,
            }
        }
    }

    /// Waits for work; `None` if none came within `keep_alive`.
    fn next_work(&self, seat: &Arc<Seat>) -> Option<Work> {
        if let Some(work) = seat.wait_for(self.keep_alive) {
            return Some(work);
        }
        let mut idle = self.idle_threads();
        if let Some(place) = idle.iter().position(|other| Arc::ptr_eq(other, seat)) {
            idle.remove(place);
            return None;
        }
        drop(idle);
        // `run` has taken the seat off the list, and so its work is here or about to arrive.
        Some(seat.wait())
    }

    #[cfg(test)]
    pub(super) fn num_idle_threads(&self) -> usize {
        self.idle_threads().len()
    }
}

impl Seat {
    fn work(&self) -> MutexGuard<'_, Option<Work>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hand_over(&self, work: Work) {
        *self.work() = Some(work);
        self.arrived.notify_one();
    }

    fn wait_for(&self, limit: Duration) -> Option<Work> {
        let is_missing = |work: &mut Option<Work>| work.is_none();
        let waited = self
            .arrived
            .wait_timeout_while(self.work(), limit, is_missing);
        let (mut work, _) = waited.unwrap_or_else(PoisonError::into_inner);
        work.take()
    }

    fn wait(&self) -> Work {
        let mut work = self.work();
        loop {
            if let Some(work) = work.take() {
                return work;
            }
            let waited = self.arrived.wait(work);
            work = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}
