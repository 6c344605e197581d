//! A pipeline while it is being written down, types erased: the stages so far and the one that is still open.

use std::sync::Arc;

use super::definition::{DraftStage, StageKind};
use crate::compute::map::Chain;
use crate::compute::sink::Sink;
use crate::packet::codec::Codec;
use crate::progress::Listener;
use crate::stage::{Execution, Stage};

/// What the builder has been told so far.
#[derive(Clone)]
pub(super) struct Draft {
    stages: Vec<DraftStage>,
    last: Last,
    /// Makes items of what the last stage, a reduction, leaves, for a stage that follows.
    spread: Option<Chain>,
    pub(super) problem: Option<String>,
    pub(super) codec: Codec,
    pub(super) listener: Listener,
}

/// The stage added last, whose outputs have no destination yet.
#[derive(Clone)]
enum Last {
    /// None: items pass on unchanged if a reduction follows.
    Identity(Chain),
    /// Functions in a row. The next function joins them if it is of the same kind.
    Open(Chain),
    /// As `Open`, but `with` has ended the stage.
    Ended(Chain, Stage),
    Reduced(DraftStage),
}

impl Draft {
    /// No stage yet; `identity` is the function that passes items on unchanged.
    pub(super) fn new(identity: Chain) -> Self {
        Self {
            stages: Vec::new(),
            last: Last::Identity(identity),
            spread: None,
            problem: None,
            codec: Codec::default(),
            listener: Listener::default(),
        }
    }

    /// Number of stages that the user has added.
    pub(super) fn len(&self) -> usize {
        self.stages.len() + usize::from(!matches!(self.last, Last::Identity(_)))
    }

    /// Adds a function: to the last stage if that is open and of the same kind, else as a new stage. `encode` is the
    /// destination of the outputs of a stage that ends here.
    pub(super) fn map(&mut self, next: Chain, encode: impl FnOnce() -> Arc<dyn Sink>) {
        self.spread();
        match &mut self.last {
            Last::Open(chain) if chain.execution() == next.execution() => chain.append(next),
            Last::Identity(_) => self.last = Last::Open(next),
            Last::Open(_) | Last::Ended(..) | Last::Reduced(_) => {
                self.end(encode);
                self.last = Last::Open(next);
            }
        }
    }

    /// Adds a reduction, which is the destination of the outputs so far, too.
    pub(super) fn reduce(&mut self, kind: StageKind, execution: Execution, sink: Arc<dyn Sink>) {
        self.spread();
        self.end(|| sink);
        self.last = Last::Reduced(DraftStage {
            options: Stage::new(),
            kind,
            execution,
        });
    }

    /// Sets the function that makes items of what the last stage, a reduction, leaves.
    pub(super) fn spreads_by(&mut self, spread: Chain) {
        self.spread = Some(spread);
    }

    /// Begins a stage with that function, if there is one.
    fn spread(&mut self) {
        if let (Some(chain), Last::Reduced(stage)) = (self.spread.take(), &self.last) {
            self.stages.push(stage.clone());
            self.last = Last::Open(chain);
        }
    }

    /// Gives options to the last stage, and ends it.
    pub(super) fn with(&mut self, options: Stage) {
        match &mut self.last {
            Last::Identity(_) => {
                self.problem = Some("`with` stands before the first stage, so there is no stage that its options could belong to".into());
            }
            Last::Open(chain) => self.last = Last::Ended(chain.clone(), options),
            Last::Ended(_, earlier) => *earlier = options.over(std::mem::take(earlier)),
            Last::Reduced(stage) => {
                stage.options = options.over(std::mem::take(&mut stage.options));
            }
        }
    }

    /// Records the last stage, now that the destination of its outputs is known. A reduction has its own.
    fn end(&mut self, sink: impl FnOnce() -> Arc<dyn Sink>) {
        let (chain, options) = match &self.last {
            Last::Reduced(stage) => {
                self.stages.push(stage.clone());
                return;
            }
            Last::Identity(chain) | Last::Open(chain) => (chain, Stage::new()),
            Last::Ended(chain, options) => (chain, options.clone()),
        };
        let step = chain.clone().finish(sink(), options.labeller().cloned());
        self.stages.push(DraftStage {
            options,
            execution: chain.execution(),
            kind: StageKind::Map(Arc::new(step)),
        });
    }

    /// All stages; `sink` is the destination of the last one's outputs.
    pub(super) fn stages(mut self, sink: impl FnOnce() -> Arc<dyn Sink>) -> Vec<DraftStage> {
        self.end(sink);
        self.stages
    }
}
