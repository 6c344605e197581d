//! Typed functions made into bytes → bytes: what a worker calls.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;

use super::pass::{Pass, Trouble, Watch};
use super::{Context, Execution, Map, Sink};
use crate::packet::MapWork;
use crate::rate::Pace;

/// What one worker allows one stage.
#[derive(Debug)]
pub(crate) struct Limits {
    /// How long the function may take for an item or a group.
    pub(crate) timeout: Duration,
    /// Items in flight, over all packets of an asynchronous stage.
    pub(crate) items: Semaphore,
    /// The most items of one packet that are begun side by side.
    pub(crate) concurrency: usize,
    pub(crate) pace: Option<Pace>,
    /// CPU-bound work at once, over all of the worker's stages.
    pub(crate) cpu: Arc<Semaphore>,
}

/// A packet for a map stage, and how to treat it.
pub(crate) struct Input<'a> {
    pub(crate) work: &'a MapWork,
    pub(crate) context: Context,
    pub(crate) limits: &'a Limits,
    /// Leave out the items that fail, instead of failing the packet.
    pub(crate) lenient: bool,
    /// Whether the values come from items of the array, and not from one reduced value.
    pub(crate) of_items: bool,
}

/// What a map stage made of a packet.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) value: Bytes,
    /// How many values each source item has become; absent: one each.
    pub(crate) yields: Option<Vec<u32>>,
    /// The items that were left out.
    pub(crate) skipped: Vec<ItemFailure>,
}

/// One item that failed, or, without an item, a packet or group as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ItemFailure {
    pub(crate) item: Option<u64>,
    pub(crate) error: String,
    pub(crate) permanent: bool,
}

impl ItemFailure {
    pub(crate) fn whole(error: impl Into<String>) -> Self {
        Self {
            item: None,
            error: error.into(),
            permanent: false,
        }
    }

    pub(crate) fn permanent(error: impl Into<String>) -> Self {
        Self {
            permanent: true,
            ..Self::whole(error)
        }
    }
}

/// A map stage with its types erased.
#[async_trait]
pub(crate) trait MapStep: Send + Sync {
    async fn run(&self, input: Input<'_>) -> Result<Output, Vec<ItemFailure>>;
}

/// A reduction with its types erased.
#[async_trait]
pub(crate) trait CombineStep: Send + Sync {
    /// Combines encoded partial results, of which there may be none.
    async fn combine(
        &self,
        group: Vec<Bytes>,
        context: Context,
        limits: &Limits,
    ) -> Result<Bytes, ItemFailure>;
}

/// A map stage that does not know yet what becomes of its outputs.
pub(crate) trait MapTail<O>: Send + Sync {
    fn finish(&self, sink: Arc<dyn Sink<O>>) -> Arc<dyn MapStep>;
    fn execution(&self) -> Execution;
}

pub(crate) struct MapHolder<M>(pub(crate) Arc<M>);

impl<M: Map> MapTail<M::Output> for MapHolder<M> {
    fn finish(&self, sink: Arc<dyn Sink<M::Output>>) -> Arc<dyn MapStep> {
        Arc::new(TypedMap {
            map: Arc::clone(&self.0),
            sink,
        })
    }

    fn execution(&self) -> Execution {
        self.0.execution()
    }
}

struct TypedMap<M: Map> {
    map: Arc<M>,
    sink: Arc<dyn Sink<M::Output>>,
}

#[async_trait]
impl<M: Map> MapStep for TypedMap<M> {
    async fn run(&self, input: Input<'_>) -> Result<Output, Vec<ItemFailure>> {
        let work = input.work;
        let named = |trouble: Trouble| ItemFailure {
            item: trouble
                .unit
                .filter(|_| input.of_items)
                .map(|unit| work.offset.saturating_add(unit as u64)),
            error: trouble.error,
            permanent: trouble.permanent,
        };
        let mut excluded = BTreeSet::new();
        let mut skipped = Vec::new();
        // Each round leaves out at least one item more, so there are at most as many as items.
        loop {
            let pass = Arc::new(Pass {
                map: Arc::clone(&self.map),
                sink: Arc::clone(&self.sink),
                value: work.packet.value.clone(),
                yields: work.yields.clone(),
                units: OnceLock::new(),
                offset: work.offset,
                excluded: excluded.clone(),
                context: input.context.clone(),
                lenient: input.lenient,
                of_items: input.of_items,
                watch: Watch::default(),
            });
            match pass.run(input.limits).await {
                Ok((value, yields, failed)) => {
                    skipped.extend(failed.into_iter().map(named));
                    return Ok(Output {
                        value,
                        yields,
                        skipped,
                    });
                }
                Err(troubles) => {
                    let units: Option<Vec<usize>> =
                        troubles.iter().map(|trouble| trouble.unit).collect();
                    match units {
                        Some(units)
                            if input.lenient && units.iter().any(|u| !excluded.contains(u)) =>
                        {
                            excluded.extend(units);
                            skipped.extend(troubles.into_iter().map(named));
                        }
                        _ => return Err(troubles.into_iter().map(named).collect()),
                    }
                }
            }
        }
    }
}
