//! What a pipeline carries at a point of its chain, and so what it answers with.

use std::sync::Arc;

use super::closures::Tally;
use super::definition::{DraftStage, StageKind};
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

/// A state in which there are items to filter or to reduce: [`Many`]. Sealed.
#[diagnostic::on_unimplemented(
    message = "a reduction has left one value here: there is nothing to filter or to reduce",
    label = "this needs items",
    note = "`map` finishes the one value; `flat_map` makes items of it again"
)]
pub trait Unreduced: private::Sealed {}
impl Unreduced for Many {}

/// The result type of a pipeline: the value for [`One`], the number of items processed for [`Many`]. Sealed.
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
