//! A map stage with its types erased: a packet in, a packet's value out.

use std::sync::Arc;

use super::function::{Function, InTurn, SideBySide};
use super::group::GroupPass;
use super::list::{Kept, Shared, Supply};
use super::pass::Pass;
use super::sink::Sink;
use super::step::Input;
use crate::core::error::Error;
use crate::packet::codec::{self, Payload};
use crate::stage::kernel::{AsyncKernel, MapKernel};
use crate::stage::{Context, Data, Execution};

/// Functions in a row, while it is open what becomes of their outputs. It has one function at least.
#[derive(Clone)]
pub(crate) struct Chain {
    decode: Decode,
    keep: Keep,
    functions: Vec<Function>,
}

/// Reads a packet's value as [`Decode`] does, to be had more than once.
type Keep = fn(&Payload) -> Result<Arc<dyn Kept>, (Error, Option<usize>)>;

fn keep<T: Data>(payload: &Payload) -> Result<Arc<dyn Kept>, (Error, Option<usize>)> {
    if let Payload::Local(handle) = payload
        && let Some((all, part)) = handle.shared::<T>()
    {
        return Ok(Arc::new(Shared::new(all, part)));
    }
    let values = codec::decode_list::<T>(payload, "the packet's value")?;
    let all = 0..values.len();
    Ok(Arc::new(Shared::new(Arc::new(values), all)))
}

/// Reads a packet's value as the first function's inputs; see [`codec::decode_list`].
type Decode = fn(&Payload) -> Result<Box<dyn Supply>, (Error, Option<usize>)>;

fn decode<T: Data>(payload: &Payload) -> Result<Box<dyn Supply>, (Error, Option<usize>)> {
    if let Payload::Local(handle) = payload
        && let Some((all, part)) = handle.shared::<T>()
    {
        return Ok(Box::new(Shared::new(all, part)));
    }
    let values = codec::decode_list::<T>(payload, "the packet's value")?;
    Ok(Box::new(values.into_iter()))
}

impl Chain {
    pub(crate) fn in_turn<K: MapKernel>(function: Arc<K>) -> Self {
        let function: Arc<dyn InTurn> = function;
        Self {
            decode: decode::<K::Input>,
            keep: keep::<K::Input>,
            functions: vec![Function::InTurn(function)],
        }
    }

    pub(crate) fn side_by_side<K: AsyncKernel>(function: Arc<K>) -> Self {
        let function: Arc<dyn SideBySide> = function;
        Self {
            decode: decode::<K::Input>,
            keep: keep::<K::Input>,
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

    pub(super) fn decode(
        &self,
        payload: &Payload,
    ) -> Result<Box<dyn Supply>, (Error, Option<usize>)> {
        (self.chain.decode)(payload)
    }

    pub(super) fn keep(
        &self,
        payload: &Payload,
    ) -> Result<Arc<dyn Kept>, (Error, Option<usize>)> {
        (self.chain.keep)(payload)
    }

    /// The work on a packet.
    pub(crate) fn pass(self: &Arc<Self>, input: Input) -> Arc<Pass> {
        Pass::new(Arc::clone(self), input)
    }
}

/// The map stages before a reduction as one, for the packets of a group that go through all of them in one pass.
pub(crate) struct Row {
    first: Arc<MapStep>,
    functions: Vec<Function>,
    /// The later stages' names, each with the place of its first function.
    later: Vec<(usize, Arc<str>)>,
    pub(super) sink: Arc<dyn Sink>,
}

impl Row {
    /// `None` unless all functions and the reduction are CPU-bound, so that nothing would have to wait, and none of them
    /// could tell the difference. `stages` are the map stages with their names.
    pub(crate) fn new(stages: &[(Arc<str>, Arc<MapStep>)]) -> Option<Self> {
        let ((_, first), (_, last)) = stages.first().zip(stages.last())?;
        let blocking = |(_, step): &(_, Arc<MapStep>)| step.execution == Execution::Blocking;
        if !stages.iter().all(blocking) || last.sink.group().is_none() {
            return None;
        }
        let (mut functions, mut later) = (Vec::new(), Vec::new());
        for (name, step) in stages {
            later.push((functions.len(), Arc::clone(name)));
            functions.extend_from_slice(step.functions());
        }
        later.remove(0);
        Some(Self {
            first: Arc::clone(first),
            functions,
            later,
            sink: Arc::clone(&last.sink),
        })
    }

    pub(super) fn decode(
        &self,
        payload: &Payload,
    ) -> Result<Box<dyn Supply>, (Error, Option<usize>)> {
        self.first.decode(payload)
    }

    /// The functions of all stages.
    pub(super) fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// The functions of the first stage.
    pub(super) fn own(&self) -> &[Function] {
        self.first.functions()
    }

    /// What the functions are told, given the context of a packet at the first stage.
    pub(super) fn contexts(&self, first: &Context) -> Vec<(usize, Context)> {
        let later = self.later.iter().map(|(place, name)| {
            let context = Context::new(first.run().clone(), Arc::clone(name), 1);
            (*place, context)
        });
        std::iter::once((0, first.clone())).chain(later).collect()
    }

    /// The work on a group's packets. The items of all packets are the input's packet; `sizes` has the number of items of
    /// each.
    pub(crate) fn group(self: &Arc<Self>, input: Input, sizes: Arc<[u32]>) -> Arc<GroupPass> {
        Arc::new(GroupPass::new(Arc::clone(self), input, sizes))
    }
}
