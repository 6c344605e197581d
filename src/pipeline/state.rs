//! What a pipeline carries at a point of its chain, and so what it answers with.

use std::hash::Hash;
use std::sync::Arc;

use super::closures::Tally;
use super::definition::{DraftStage, StageKind};
use super::keyed::{Groups, Values};
use super::{Extract, Pipeline};
use crate::compute::sink::{Discard, Fold, Only};
use crate::core::type_name::Short;
use crate::packet::Packet;
use crate::packet::codec;
use crate::stage::{Data, Execution};

/// The state of a [`Pipeline`] that carries items, before a reduction.
#[derive(Debug)]
pub enum Many {}

/// The state of a [`Pipeline`] that carries one value, after a reduction.
#[derive(Debug)]
pub enum One {}

/// The state of a [`Pipeline`] that carries pairs of key and value, after a reduction
/// [by key](Pipeline::group_by).
#[derive(Debug)]
pub enum Keyed {}

/// What a pipeline carries. Sealed.
pub trait State: private::Sealed {
    /// The state after one more function: [`One`] for one value, [`Many`] for items and pairs.
    type Mapped: State;
}
impl State for Many {
    type Mapped = Many;
}
impl State for One {
    type Mapped = One;
}
impl State for Keyed {
    type Mapped = Many;
}

/// A state in which there are items to filter or to reduce: [`Many`] and [`Keyed`]. Sealed.
#[diagnostic::on_unimplemented(
    message = "a reduction has left one value here: there is nothing to filter or to reduce",
    label = "this needs items",
    note = "`map` finishes the one value; `flat_map` makes items of it again"
)]
pub trait Unreduced: State {}
impl Unreduced for Many {}
impl Unreduced for Keyed {}

/// The result type of a pipeline: the value for [`One`], the number of items processed for [`Many`], [`Groups`] for
/// [`Keyed`]. Sealed.
pub trait Answer<O>: private::Sealed {
    /// The answer's type.
    type Value: Send + 'static;
    #[doc(hidden)]
    fn close<I: Data>(pipeline: Pipeline<I, O, Self>) -> private::Closed<Self::Value>
    where
        Self: Sized;
}

mod private {
    use super::{DraftStage, Extract};

    pub trait Sealed {}
    impl Sealed for super::Many {}
    impl Sealed for super::One {}
    impl Sealed for super::Keyed {}

    /// A pipeline with its types erased, and the function that reads its result.
    pub struct Closed<R> {
        pub(crate) stages: Vec<DraftStage>,
        pub(crate) extract: Extract<R>,
    }
}

impl<O: Data> Answer<O> for Many {
    type Value = u64;

    fn close<I: Data>(mut pipeline: Pipeline<I, O, Many>) -> private::Closed<u64> {
        let step = Arc::new(Fold::new(Tally));
        let kind = StageKind::Reduce(Arc::clone(&step) as _);
        pipeline
            .draft
            .reduce(kind, Execution::Async, Arc::new(Discard));
        private::Closed {
            stages: pipeline.draft.stages(|| Arc::new(Discard)),
            extract: |packet: &Packet| Ok(packet.contains),
        }
    }
}

impl<O: Data> Answer<O> for One {
    type Value = O;

    fn close<I: Data>(pipeline: Pipeline<I, O, One>) -> private::Closed<O> {
        private::Closed {
            stages: pipeline.draft.stages(|| Arc::new(Only::<O>::new())),
            extract: |packet: &Packet| {
                let of = Short::<O>::new();
                codec::decode(&packet.value, format_args!("the result (`{of}`)"))
            },
        }
    }
}

impl<K: Data + Ord + Hash, V: Data> Answer<(K, V)> for Keyed {
    type Value = Groups<K, V>;

    fn close<I: Data>(pipeline: Pipeline<I, (K, V), Keyed>) -> private::Closed<Groups<K, V>> {
        private::Closed {
            stages: pipeline.draft.stages(|| Arc::new(Discard)),
            extract: |packet: &Packet| {
                let of = Short::<Groups<K, V>>::new();
                let what = format_args!("the result (`{of}`)");
                let values: Values<K, V> = codec::decode(&packet.value, what)?;
                Ok(Groups::new(values))
            },
        }
    }
}
