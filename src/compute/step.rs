//! What goes into a stage's work and what comes out, types erased.

use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::pool::{Cpu, Job};
use super::rate::Pace;
use crate::core::backoff::Backoff;
use crate::core::error::BoxError;
use crate::core::one_of::OneOf;
use crate::packet::codec::{Form, Payload};
use crate::packet::{MapWork, Message, Work};
use crate::stage::{Context, StageOptions};

/// What one worker allows one stage.
pub(crate) struct Limits {
    /// How long the function may take for an item or a group.
    pub(crate) timeout: Duration,
    /// Items in flight, over all packets of an asynchronous stage.
    pub(crate) items: Semaphore,
    /// The most items of one packet that are begun side by side.
    pub(crate) concurrency: usize,
    /// Packets that are kept while their items wait for another attempt.
    pub(crate) kept: AtomicUsize,
    pub(crate) pace: Option<Pace>,
    /// The threads for CPU-bound work, of all the worker's stages.
    pub(crate) cpu: Arc<Cpu>,
    /// The stage's place in the pipeline.
    pub(crate) stage: usize,
}

impl Limits {
    /// What the options of the stage at this place say.
    pub(crate) fn new(stage: usize, options: &StageOptions, cpu: Arc<Cpu>) -> Self {
        Self {
            timeout: options.timeout(),
            items: Semaphore::new(options.concurrency.min(Semaphore::MAX_PERMITS)),
            concurrency: options.concurrency,
            kept: AtomicUsize::new(0),
            pace: options.rate_limit.map(Pace::new),
            cpu,
            stage,
        }
    }
}

/// A packet for a map stage, and how to treat it.
#[derive(Clone)]
pub(crate) struct Input {
    /// The message it comes from.
    pub(crate) message: OneOf<Message>,
    /// What is made of outputs.
    pub(crate) form: Form,
    pub(crate) context: Context,
    pub(crate) terms: Terms,
    /// Whether the values come from items of the array, and not from one reduced value.
    pub(crate) of_items: bool,
}

/// What becomes of a packet's items that fail.
#[derive(Clone)]
pub(crate) struct Terms {
    /// Attempts that each item has.
    pub(crate) attempts: u32,
    /// Whether items that have failed for good are left out, instead of failing their packet.
    pub(crate) leaves_out: bool,
    pub(crate) backoff: Backoff,
    /// What is on record of items from earlier deliveries.
    pub(crate) before: Vec<Before>,
    /// Failed attempts at the packet as a whole, in earlier deliveries.
    pub(crate) whole_failed: u32,
}

/// An item, by its place in the packet, that failed in earlier deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Before {
    pub(crate) unit: usize,
    pub(crate) failed: u32,
    /// If it has failed for good because it ended its process: how many times it did.
    pub(crate) ended: Option<u32>,
}

/// Why an item is given up on which several deliveries have ended.
pub(crate) fn ended_processes(times: u32) -> String {
    format!(
        "begun {times} times and never finished: each time its worker died, or lost the message to another"
    )
}

impl Input {
    /// The packet, or the items of all packets of a bundle; `None` if the message has none, which is found out before.
    pub(crate) fn work(&self) -> Option<&MapWork> {
        match &self.message.work {
            Work::Map(work) => Some(work),
            Work::Bundle(bundle) => Some(&bundle.whole),
            Work::Reduce(_) => None,
        }
    }
}

/// Where an asynchronous stage's packet is worked on.
pub(crate) trait Host: Sync {
    /// This many of the packet's items are done, or wait for another attempt: others may take their places.
    fn left(&self, items: usize);

    /// Completes once no more attempts may begin: items that wait go back with their packet.
    fn closing(&self) -> impl Future<Output = ()> + Send;

    fn is_closing(&self) -> bool;

    /// Whether a packet may be kept while its items wait for this long.
    fn may_wait(&self, wait: Duration) -> bool;

    /// What is held while an item is at work; `None` if no more may begin.
    fn begin(&self) -> impl Future<Output = Option<impl Send>> + Send;

    /// Attempts have failed that will be followed by others, after this wait.
    fn failed(&self, failures: &[ItemFailure], wait: Duration);

    /// This many more items wait for their next attempt, or fewer.
    fn waits(&self, more: isize);
}

/// What a map stage made of a packet, or a reduction of a group.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) value: Payload,
    /// How many values each source item has become; absent: one each.
    pub(crate) yields: Option<Vec<u32>>,
    /// The attempts at items that were left out, as far as they are not on record.
    pub(crate) skipped: Vec<ItemFailure>,
    /// How many items were left out.
    pub(crate) left_out: u64,
    /// The first of them.
    pub(crate) units_left_out: Vec<usize>,
}

impl Output {
    pub(crate) fn plain(value: Payload) -> Self {
        Self {
            value,
            yields: None,
            skipped: Vec::new(),
            left_out: 0,
            units_left_out: Vec::new(),
        }
    }
}

/// What went wrong: at least one entry.
pub(crate) type Failures = Vec<ItemFailure>;
pub(crate) type Computed = Result<Output, Stopped>;

/// Why a message's work came to no output.
#[derive(Debug)]
pub(crate) enum Stopped {
    Failed(Failures),
    /// Items of its packet are to be tried again. Whoever has the packet's [`Pass`](super::pass::Pass) knows which, and when.
    Again,
}

impl From<Failures> for Stopped {
    fn from(failures: Failures) -> Self {
        Self::Failed(failures)
    }
}

/// One item that failed, or, without an item, a packet or group as a whole.
#[derive(Clone, Debug)]
pub(crate) struct ItemFailure {
    pub(crate) item: Option<u64>,
    /// With its sources. It becomes text when the failure is recorded.
    pub(crate) error: Arc<dyn StdError + Send + Sync>,
    /// Whether there is no other attempt.
    pub(crate) permanent: bool,
    /// Which attempt it was, if not the message's.
    pub(crate) attempt: Option<u32>,
    /// When it failed, if not now.
    pub(crate) at: Option<SystemTime>,
    /// What the item is called.
    pub(crate) label: Option<String>,
}

impl ItemFailure {
    pub(crate) fn whole(error: impl Into<BoxError>) -> Self {
        Self {
            item: None,
            error: error.into().into(),
            permanent: false,
            attempt: None,
            at: None,
            label: None,
        }
    }

    pub(crate) fn permanent(error: impl Into<BoxError>) -> Self {
        Self {
            permanent: true,
            ..Self::whole(error)
        }
    }
}

/// Work on one message that runs on a thread for CPU-bound work.
pub(crate) type Computation = dyn Job<Output = Computed>;

/// A reduction with its types erased.
#[async_trait]
pub(crate) trait CombineStep: Send + Sync {
    /// For a CPU-bound function: combining encoded partial results, of which there may be none.
    fn job(&self, group: Vec<Payload>, context: Context, form: Form) -> Arc<Computation>;

    /// For an asynchronous function: the same.
    async fn run(
        &self,
        group: Vec<Payload>,
        context: Context,
        form: Form,
        limits: &Limits,
    ) -> Computed;
}
