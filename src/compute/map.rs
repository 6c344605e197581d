//! A map stage with its types erased: a packet in, a packet's value out.

use std::sync::Arc;

use super::function::{Function, InTurn, SideBySide};
use super::group::GroupPass;
use super::label::{Labels, Naming};
use super::list::{List, Shared, Supply};
use super::pass::Pass;
use super::sink::Sink;
use super::step::{Computation, Computed, Input, Limits};
use crate::core::error::Error;
use crate::core::type_name::Short;
use crate::packet::codec::{self, Form, Payload};
use crate::packet::each::{self, Unread};
use crate::stage::kernel::{AsyncKernel, MapKernel};
use crate::stage::{Context, Data, Execution, ItemType, Labeller};

/// Functions in a row, while it is open what becomes of their outputs. It has one function at least.
#[derive(Clone)]
pub(crate) struct Chain {
    decode: Decode,
    decode_each: DecodeEach,
    naming: Naming,
    functions: Vec<Function>,
}

/// Reads a packet's value as the first function's inputs; see [`codec::decode_list`].
type Decode = fn(&Payload) -> Result<Box<dyn Supply>, (Error, Option<usize>)>;

fn decode<T: Data>(payload: &Payload) -> Result<Box<dyn Supply>, (Error, Option<usize>)> {
    if let Payload::Local(handle) = payload
        && let Some((all, part)) = handle.shared::<T>()
    {
        return Ok(Box::new(Shared::new(all, part)));
    }
    let of = Short::<T>::new();
    let values = codec::decode_list::<T>(payload, format_args!("the packet's items (`{of}`)"))?;
    Ok(Box::new(values.into_iter()))
}

/// Reads each value by itself; see [`decode_each`](each::decode_each).
type DecodeEach = fn(&Payload) -> Result<Readable, Error>;

/// The values of a packet that can be read, in order, and those that cannot, each with its position among all of them.
#[allow(dead_code)] // Until the pass leaves out what cannot be read.
pub(super) struct Readable {
    pub(super) values: List,
    pub(super) unread: Vec<(usize, Unread)>,
}

fn decode_each<T: Data>(payload: &Payload) -> Result<Readable, Error> {
    let (mut values, mut unread) = (Vec::new(), Vec::new());
    let of = Short::<T>::new();
    let each = each::decode_each::<T>(payload, format_args!("the item (`{of}`)"))?;
    for (position, value) in each.into_iter().enumerate() {
        match value {
            Ok(value) => values.push(value),
            Err(error) => unread.push((position, error)),
        }
    }
    Ok(Readable {
        values: List::new(values),
        unread,
    })
}

impl Chain {
    pub(crate) fn in_turn<K: MapKernel>(function: Arc<K>) -> Self {
        let function: Arc<dyn InTurn> = function;
        Self {
            decode: decode::<K::Input>,
            decode_each: decode_each::<K::Input>,
            naming: Naming::of::<K::Input>(),
            functions: vec![Function::InTurn(function)],
        }
    }

    pub(crate) fn side_by_side<K: AsyncKernel>(function: Arc<K>) -> Self {
        let function: Arc<dyn SideBySide> = function;
        Self {
            decode: decode::<K::Input>,
            decode_each: decode_each::<K::Input>,
            naming: Naming::of::<K::Input>(),
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

    /// `labeller` is the stage's own, if it has one.
    pub(crate) fn finish(self, sink: Arc<dyn Sink>, labeller: Option<Labeller>) -> MapStep {
        MapStep {
            execution: self.execution(),
            labels: Labels::new(self.naming, labeller),
            chain: self,
            sink,
        }
    }
}

/// A map stage.
#[derive(Clone)]
pub(crate) struct MapStep {
    chain: Chain,
    execution: Execution,
    labels: Labels,
    pub(super) sink: Arc<dyn Sink>,
}

impl MapStep {
    /// The same stage, whose errors name the reduction that follows; `None` if none of them would.
    pub(crate) fn before(&self, reduction: &Arc<str>) -> Option<Self> {
        Some(Self {
            sink: self.sink.before(reduction)?,
            ..self.clone()
        })
    }

    pub(super) fn functions(&self) -> &[Function] {
        &self.chain.functions
    }

    pub(super) fn decode(
        &self,
        payload: &Payload,
    ) -> Result<Box<dyn Supply>, (Error, Option<usize>)> {
        (self.chain.decode)(payload)
    }

    /// Reads what can be read of a packet that [`decode`](Self::decode) cannot read as a whole.
    #[allow(dead_code)] // Until the pass leaves out what cannot be read.
    pub(super) fn decode_each(&self, payload: &Payload) -> Result<Readable, Error> {
        (self.chain.decode_each)(payload)
    }

    /// The type of the values that the first function takes.
    pub(crate) fn item(&self) -> ItemType {
        self.chain.naming.item
    }

    /// What failures call an item, given a list that has the item's value alone. To be called for items that have failed
    /// only: the function is a user's. It never panics.
    #[allow(dead_code)] // Until the pass asks for labels.
    pub(super) fn label(&self, value: List, context: &Context, form: Form) -> Option<String> {
        self.labels.label(value, context, form)
    }

    /// The same for a value that cannot be read, of which `json` is the text.
    #[allow(dead_code)] // Until the pass asks for labels.
    pub(super) fn label_of_unread(&self, json: &[u8]) -> Option<String> {
        self.labels.label_of_unread(json)
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
