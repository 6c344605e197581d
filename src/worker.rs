//! A worker: receive → protocol → acknowledge, with limits, heartbeats and an orderly end.

mod crew;
mod heartbeat;
mod lane;
mod lease;
mod lost;
mod onward;
mod prefetch;
mod push;
mod shift;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::core::cores::cores;
use crate::core::error::{Error, Result};
use crate::core::flag::Flag;
use crate::core::runtime;
use crate::protocol::site::Site;
use crew::Drive;

pub use push::{Fate, Handler};

/// With the time for handing back, less than the 30 s after which ECS and Kubernetes kill a process.
const DEFAULT_GRACE: Duration = Duration::from_secs(20);
const DEFAULT_LOST_THREADS_PER_CORE: usize = 4;
const DEFAULT_CANCEL_CHECK: Duration = Duration::from_secs(2);

/// A worker, not yet started. Every option has a default.
///
/// ```
/// # use std::time::Duration;
/// # use catchment::{Backend, Pipeline};
/// # #[tokio::main] async fn main() -> Result<(), catchment::Error> {
/// # let adder = Pipeline::new().map(|n: i64| n * 2).reduce(|| 0, |a, b| a + b);
/// # let adder = adder.deploy("adder", Backend::memory())?;
/// let worker = adder
///     .worker()
///     .stages(["map-0"])                   // another process serves the rest
///     .concurrency(2)                      // CPU-bound work at once
///     .prefetch(4)                         // messages held in waiting, for each stage
///     .grace_period(Duration::from_secs(5))
///     .max_lost_threads(8)                 // functions that were given up and do not return
///     .start();
/// worker.shutdown().await;
/// # Ok(()) }
/// ```
#[must_use = "a worker does nothing until it is started"]
pub struct Worker {
    site: Arc<Site>,
    options: Options,
    chore: Option<Chore>,
}

/// What a worker does beside its messages. It ends soon after the future that it is given.
pub(crate) type Chore = Arc<dyn Fn(BoxFuture<'static, ()>) -> BoxFuture<'static, ()> + Send + Sync>;

#[derive(Clone, Debug)]
struct Options {
    stages: Option<Vec<String>>,
    concurrency: usize,
    prefetch: Option<usize>,
    grace_period: Duration,
    cancel_check: Duration,
    max_lost_threads: usize,
    /// How CPU-bound work is driven.
    drive: Drive,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Worker")
            .field("deployment", &self.site.name)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Worker {
    pub(crate) fn new(site: Arc<Site>, chore: Option<Chore>) -> Self {
        Self {
            site,
            chore,
            options: Options {
                stages: None,
                concurrency: cores(),
                prefetch: None,
                grace_period: DEFAULT_GRACE,
                cancel_check: DEFAULT_CANCEL_CHECK,
                max_lost_threads: DEFAULT_LOST_THREADS_PER_CORE * cores(),
                drive: Drive::Spawned,
            },
        }
    }

    /// Serves only the stages of these names (default: all).
    pub fn stages<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.options.stages = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// How many CPU-bound packets and groups are worked on at once, over all stages (default: as
    /// many as the machine has cores; at least 1). Where there is a choice, later stages go first,
    /// so that what was begun ends before more is begun. What asynchronous stages do at once is
    /// their own [`concurrency`](crate::Stage::concurrency).
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.options.concurrency = concurrency.max(1);
        self
    }

    /// How many messages to hold per stage beyond those running (at least 1). Higher saves
    /// requests; lower leaves more for other workers.
    ///
    /// By default it follows from how long messages take: as many as are worked off within a second
    /// (a fiftieth of one where receiving costs next to nothing), at most two full requests' (or
    /// 512). Of messages that take longer than that, and of the first ones, a worker takes only
    /// what it begins at once.
    pub fn prefetch(mut self, messages: usize) -> Self {
        self.options.prefetch = Some(messages.max(1));
        self
    }

    /// How long [`shutdown`](RunningWorker::shutdown) lets running work go on (default 20 s). Handing back
    /// what has not ended by then takes 5 s at most, so that it is done before ECS or Kubernetes kills the process, 30 s
    /// after they have asked it to end.
    pub fn grace_period(mut self, period: Duration) -> Self {
        self.options.grace_period = period;
        self
    }

    /// How long a cancellation check is cached (default 2 s). Longer saves requests. Within one and a half times this, the
    /// worker notices that a run was [cancelled](crate::Run::cancel).
    pub fn cancel_check(mut self, interval: Duration) -> Self {
        self.options.cancel_check = interval;
        self
    }

    /// Sets how many threads may be lost (default: four per core). A CPU-bound function cannot be stopped: one that
    /// outlasts its stage's [`timeout`](crate::Stage::timeout) has failed, and its thread is lost until it returns. The
    /// worker warns of each, and works on with another thread. With more than `threads` of them lost, it stops receiving,
    /// hands back the messages that it has not begun, and ends with [`Error::LostThreads`].
    pub fn max_lost_threads(mut self, threads: usize) -> Self {
        self.options.max_lost_threads = threads;
        self
    }

    /// Starts it on the current tokio runtime.
    ///
    /// Outside of a runtime, or in one without timers, the returned worker has ended with [`Error::NoRuntime`], which
    /// [`finished`](RunningWorker::finished) returns and [`shutdown`](RunningWorker::shutdown) logs.
    pub fn start(self) -> RunningWorker {
        let (shutdown, signal) = watch::channel(false);
        let state = match runtime::check() {
            Ok(()) => {
                let shift = shift::run(self.site, self.options, signal.clone());
                State::Started(match self.chore {
                    Some(chore) => tokio::spawn(beside(chore, shift, signal)),
                    None => tokio::spawn(shift),
                })
            }
            Err(error) => State::NotStarted(error),
        };
        RunningWorker { shutdown, state }
    }

    /// Works for as long as it is polled, in the task that polls it. Only asynchronous functions
    /// are tasks of their own, and only CPU-bound ones run on other threads.
    ///
    /// # Errors
    /// As [`run_until`](Self::run_until): it ends only if it cannot begin, or has lost too many threads.
    pub(crate) async fn run_inline(mut self) -> Result<()> {
        self.options.drive = Drive::Inline;
        // It never gets the signal to end.
        let (_shutdown, signal) = watch::channel(false);
        shift::run(self.site, self.options, signal).await
    }

    /// Works until `stop` completes, then shuts down as [`RunningWorker::shutdown`] does: the whole
    /// of a worker process.
    ///
    /// # Errors
    /// As [`RunningWorker::finished`].
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Result<()> {
        let mut worker = self.start();
        tokio::select! {
            biased;
            result = worker.finished() => return result,
            () = stop => {}
        }
        worker.shutdown().await;
        Ok(())
    }
}

/// Works through a shift, with a chore beside it that ends when the shift does or the signal comes.
async fn beside(
    chore: Chore,
    shift: impl Future<Output = Result<()>>,
    mut signal: watch::Receiver<bool>,
) -> Result<()> {
    let is_over = Arc::new(Flag::default());
    let shift = async {
        let ended = shift.await;
        is_over.raise();
        ended
    };
    let is_over = Arc::clone(&is_over);
    let stop = async move {
        tokio::select! {
            _ = signal.wait_for(|stop| *stop) => {}
            () = is_over.raised() => {}
        }
    };
    tokio::join!(shift, chore(stop.boxed())).0
}

/// A worker at work. Dropping it stops it on the spot, like a crash: what it held is delivered
/// again after the visibility timeout. [`shutdown`](Self::shutdown) is the orderly way.
#[derive(Debug)]
#[must_use = "dropping it stops the worker on the spot"]
pub struct RunningWorker {
    shutdown: watch::Sender<bool>,
    state: State,
}

#[derive(Debug)]
enum State {
    Started(JoinHandle<Result<()>>),
    /// There was no runtime to start it on.
    NotStarted(Error),
    /// Its end has been reported.
    Finished,
}

impl RunningWorker {
    /// Stops receiving, requeues at once the messages that have not begun, lets running work finish
    /// within the grace period, and releases the rest.
    pub async fn shutdown(mut self) {
        self.shutdown.send_replace(true);
        if let Err(error) = self.finished().await {
            tracing::error!(%error, "the worker had ended with an error");
        }
    }

    /// Waits until the worker has ended by itself, which it does only when it cannot begin, or has lost too many threads.
    ///
    /// # Errors
    /// The reason, once: [`Error::InvalidArgument`] if a stage that it is to serve does not exist,
    /// [`Error::NotProvisioned`] if a queue has not been provisioned, [`Error::NoRuntime`] if it was started where there
    /// is no runtime that it can use, and [`Error::LostThreads`] if too many functions do not return.
    pub async fn finished(&mut self) -> Result<()> {
        let outcome = match &mut self.state {
            State::Started(task) => Some(task.await),
            State::NotStarted(_) | State::Finished => None,
        };
        match (std::mem::replace(&mut self.state, State::Finished), outcome) {
            (_, Some(Ok(result))) => result,
            (_, Some(Err(error))) => Err(Error::Backend {
                service: "worker",
                operation: "its task".to_owned(),
                retryable: false,
                source: error.into(),
            }),
            (State::NotStarted(error), None) => Err(error),
            (_, None) => Ok(()),
        }
    }
}

impl Drop for RunningWorker {
    fn drop(&mut self) {
        if let State::Started(task) = &self.state {
            task.abort();
        }
    }
}
