//! A map stage with its types erased: a packet in, a packet's value out.

use std::sync::Arc;

use super::function::{Function, InTurn, SideBySide};
use super::group::GroupPass;
use super::list::List;
use super::pass::Pass;
use super::sink::Sink;
use super::step::{Computation, Computed, Input, Limits};
use crate::core::error::Error;
use crate::packet::codec::{self, Payload};
use crate::stage::kernel::{AsyncKernel, MapKernel};
use crate::stage::{Data, Execution};

/// Functions in a row, while it is open what becomes of their outputs. It has one function at least.
#[derive(Clone)]
pub(crate) struct Chain {
    decode: Decode,
    functions: Vec<Function>,
}

/// Reads a packet's value as a list of the first function's inputs; see [`codec::decode_list`].
type Decode = fn(&Payload) -> Result<List, (Error, Option<usize>)>;

fn decode<T: Data>(payload: &Payload) -> Result<List, (Error, Option<usize>)> {
    codec::decode_list::<T>(payload, "the packet's value").map(List::new)
}

impl Chain {
    pub(crate) fn in_turn<K: MapKernel>(function: Arc<K>) -> Self {
        let function: Arc<dyn InTurn> = function;
        Self {
            decode: decode::<K::Input>,
            functions: vec![Function::InTurn(function)],
        }
    }

    pub(crate) fn side_by_side<K: AsyncKernel>(function: Arc<K>) -> Self {
        let function: Arc<dyn SideBySide> = function;
        Self {
            decode: decode::<K::Input>,
            functions: vec![Function::SideBySide(function)],
        }
    }

    pub(crate) fn execution(&self) -> Execution {
        let first = self.functions.first();
        first.map_or(Execution::Blocking, Function::execution)
    }

    /// Appends the functions of a chain of the same kind, whose inputs are this one's outputs.
    pub(crate) fn append(&mut self, next: Self) {
        self.functions.extend(next.functions);
    }

    pub(crate) fn finish(self, sink: Arc<dyn Sink>) -> MapStep {
        MapStep {
            execution: self.execution(),
            chain: self,
            sink,
        }
    }
}

/// A map stage.
pub(crate) struct MapStep {
    chain: Chain,
    execution: Execution,
    pub(super) sink: Arc<dyn Sink>,
}

impl MapStep {
    pub(super) fn functions(&self) -> &[Function] {
        &self.chain.functions
    }

    pub(super) fn decode(&self, payload: &Payload) -> Result<List, (Error, Option<usize>)> {
        (self.chain.decode)(payload)
    }

    /// For CPU-bound functions: their work on a packet.
    pub(crate) fn job(self: &Arc<Self>, input: Input) -> Arc<Computation> {
        Arc::new(Pass::new(Arc::clone(self), input))
    }

    /// For asynchronous functions: works on a packet.
    pub(crate) async fn run(self: &Arc<Self>, input: Input, limits: &Limits) -> Computed {
        let pass = Arc::new(Pass::new(Arc::clone(self), input));
        pass.side_by_side(limits).await
    }

    /// Whether one pass may work on all packets of a group: its functions and its reduction are CPU-bound, so that
    /// nothing would have to wait, and neither could tell the difference.
    pub(crate) fn works_on_groups(&self) -> bool {
        self.execution == Execution::Blocking && self.sink.group().is_some()
    }

    /// The work on a group's packets, if the stage [works on groups](Self::works_on_groups). The items of all packets
    /// are the input's packet; `sizes` has the number of items of each.
    pub(crate) fn group(self: &Arc<Self>, input: Input, sizes: Arc<[u32]>) -> Arc<GroupPass> {
        Arc::new(GroupPass::new(Arc::clone(self), input, sizes))
    }
}
