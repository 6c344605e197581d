//! What goes into a stage's work and what comes out, types erased.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::pool::{Cpu, Job};
use super::rate::Pace;
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
    pub(crate) leniency: Leniency,
    /// Whether the values come from items of the array, and not from one reduced value.
    pub(crate) of_items: bool,
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

/// When the items that fail are left out, instead of failing their packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leniency {
    Never,
    /// Once trying again cannot help: some error is permanent.
    WhenPermanent,
    Always,
}

/// What a map stage made of a packet, or a reduction of a group.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) value: Payload,
    /// How many values each source item has become; absent: one each.
    pub(crate) yields: Option<Vec<u32>>,
    /// The items that were left out.
    pub(crate) skipped: Vec<ItemFailure>,
}

impl Output {
    pub(crate) fn plain(value: Payload) -> Self {
        Self {
            value,
            yields: None,
            skipped: Vec::new(),
        }
    }
}

/// What went wrong: at least one entry.
pub(crate) type Failures = Vec<ItemFailure>;
pub(crate) type Computed = Result<Output, Failures>;

/// One item that failed, or, without an item, a packet or group as a whole.
#[derive(Clone, Debug)]
pub(crate) struct ItemFailure {
    pub(crate) item: Option<u64>,
    /// With its sources. It becomes text when the failure is recorded.
    pub(crate) error: Arc<dyn StdError + Send + Sync>,
    pub(crate) permanent: bool,
}

impl ItemFailure {
    pub(crate) fn whole(error: impl Into<BoxError>) -> Self {
        Self {
            item: None,
            error: error.into().into(),
            permanent: false,
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
