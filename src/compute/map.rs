//! A map stage with its types erased: a packet in, a packet's value out.

use std::sync::Arc;

use super::function::{Function, InTurn, SideBySide};
use super::group::GroupPass;
use super::label::{Labels, Naming};
use super::list::{Kept, List, Shared, Supply};
use super::pass::Pass;
use super::sink::Sink;
use super::step::Input;
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
    keep: Keep,
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

/// Reads a packet's value as [`Decode`] does, to be had more than once, and value by value where it cannot be read at once.
type Keep = fn(&Payload) -> Result<KeptValues, Error>;

/// The values of a packet.
pub(super) struct KeptValues {
    pub(super) values: Arc<dyn Kept>,
    pub(super) count: usize,
    /// Those that cannot be read, with their positions. Other values stand in their places, if any can be read.
    pub(super) unread: Vec<(usize, Unread)>,
}

fn keep<T: Data>(payload: &Payload) -> Result<KeptValues, Error> {
    if let Payload::Local(handle) = payload
        && let Some((all, part)) = handle.shared::<T>()
    {
        return Ok(kept(Shared::new(all, part), Vec::new()));
    }
    let of = Short::<T>::new();
    let what = format_args!("the packet's items (`{of}`)");
    let error = match codec::decode_list::<T>(payload, what) {
        Ok(values) => return Ok(kept(Shared::of(values), Vec::new())),
        Err((error, _)) => error,
    };
    let Ok(each) = each::decode_each::<T>(payload, format_args!("the item (`{of}`)")) else {
        return Err(error);
    };
    let stand_in = each.iter().find_map(|value| value.as_ref().ok()).cloned();
    let (mut values, mut unread) = (Vec::with_capacity(each.len()), Vec::new());
    for (position, value) in each.into_iter().enumerate() {
        match value {
            Ok(value) => values.push(value),
            Err(error) => {
                unread.push((position, error));
                values.extend(stand_in.clone());
            }
        }
    }
    match unread.is_empty() {
        true => Err(error),
        false => Ok(kept(Shared::of(values), unread)),
    }
}

fn kept<T: Data>(values: Shared<T>, unread: Vec<(usize, Unread)>) -> KeptValues {
    KeptValues {
        count: Kept::len(&values).max(unread.len()),
        values: Arc::new(values),
        unread,
    }
}

impl Chain {
    pub(crate) fn in_turn<K: MapKernel>(function: Arc<K>) -> Self {
        let function: Arc<dyn InTurn> = function;
        Self {
            decode: decode::<K::Input>,
            keep: keep::<K::Input>,
            naming: Naming::of::<K::Input>(),
            functions: vec![Function::InTurn(function)],
        }
    }

    pub(crate) fn side_by_side<K: AsyncKernel>(function: Arc<K>) -> Self {
        let function: Arc<dyn SideBySide> = function;
        Self {
            decode: decode::<K::Input>,
            keep: keep::<K::Input>,
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

    /// Reads a packet's values to be had more than once, as far as they can be read.
    pub(super) fn keep(&self, payload: &Payload) -> Result<KeptValues, Error> {
        (self.chain.keep)(payload)
    }

    /// The type of the values that the first function takes.
    pub(crate) fn item(&self) -> ItemType {
        self.chain.naming.item
    }

    /// What failures call an item, given a list that has the item's value alone. To be called for items that have failed
    /// only: the function is a user's. It never panics.
    pub(super) fn label(&self, value: List, context: &Context, form: Form) -> Option<String> {
        self.labels.label(value, context, form)
    }

    /// The same for a value that cannot be read, of which `json` is the text.
    pub(super) fn label_of_unread(&self, json: &[u8]) -> Option<String> {
        self.labels.label_of_unread(json)
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
    /// could tell the difference. The functions fail by panics only. `stages` are the map stages with their names.
    pub(crate) fn new(stages: &[(Arc<str>, Arc<MapStep>)]) -> Option<Self> {
        let ((_, first), (_, last)) = stages.first().zip(stages.last())?;
        let blocking = |(_, step): &(_, Arc<MapStep>)| step.execution == Execution::Blocking;
        // What a group's other items have become would be lost with one that fails.
        let may_fail =
            |(_, step): &(_, Arc<MapStep>)| step.functions().iter().any(Function::may_fail);
        if stages.iter().any(may_fail)
            || !stages.iter().all(blocking)
            || last.sink.group().is_none()
        {
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
