//! The destination of a packet's outputs: values for the next stage, a partial result, or nothing.

use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;

use super::group::GroupSink;
use super::list::List;
use crate::core::error::{BoxError, Error, permanent};
use crate::core::type_name::Short;
use crate::packet::codec::{self, Codec, Form, Payload};
use crate::stage::kernel::CombineKernel;
use crate::stage::{Context, Data, Execution, Items, Progress};

/// Turns the outputs of one packet, in item order, into the value that is sent on.
#[async_trait]
pub(crate) trait Sink: Send + Sync {
    async fn take(
        &self,
        outputs: List,
        context: &Context,
        form: Form,
        progress: &Progress,
    ) -> Result<Payload, SinkError>;

    /// Its reduction of a whole group's outputs, if it has one that a CPU-bound function's thread may run.
    fn group(&self) -> Option<&dyn GroupSink> {
        None
    }

    /// Where it runs after an asynchronous stage, which decodes its items on the runtime as well. After a
    /// CPU-bound one it runs on that stage's thread.
    fn execution(&self) -> Execution {
        Execution::Async
    }

    /// The same, which names the reduction that follows in its errors; `None` if it has no such errors.
    fn before(&self, _reduction: &Arc<str>) -> Option<Arc<dyn Sink>> {
        None
    }

    /// Whether a panic can be attributed to the output begun last.
    fn steps(&self) -> bool {
        false
    }

    /// Whether another map stage follows, which has to know how many outputs each item has.
    fn wants_yields(&self) -> bool {
        false
    }
}

pub(crate) struct SinkError {
    pub(crate) error: BoxError,
    pub(crate) at: At,
}

/// The output that an error belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// None in particular. If all of them are of one item, it is at fault.
    Whole,
    /// What was made of all of them, whichever items they are of.
    Value,
    /// The one begun last.
    Last,
    /// The one at this position.
    Output(usize),
}

impl SinkError {
    pub(super) fn whole(error: impl Into<BoxError>) -> Self {
        Self {
            error: error.into(),
            at: At::Whole,
        }
    }

    /// What was made of the outputs cannot be written, however often that is repeated.
    pub(super) fn permanent(error: impl Into<BoxError>) -> Self {
        Self {
            at: At::Value,
            ..Self::whole(permanent(error))
        }
    }
}

/// The output of the wrong type, which the builder never sends here.
fn values<T: 'static>(outputs: List) -> Result<Vec<T>, SinkError> {
    outputs
        .take()
        .map_err(|error| SinkError::whole(error.permanent()))
}

/// Another map stage follows: the values are sent on as a list.
pub(crate) struct Encode<O>(PhantomData<fn(O)>);

impl<O> Encode<O> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

#[async_trait]
impl<O: Data> Sink for Encode<O> {
    async fn take(
        &self,
        outputs: List,
        _: &Context,
        form: Form,
        _: &Progress,
    ) -> Result<Payload, SinkError> {
        let outputs = values::<O>(outputs)?;
        let of = Short::<O>::new();
        let all = format_args!("a packet's outputs (`{of}`)");
        if let Form::Wire(codec) = form {
            let written = codec::write(&outputs, codec, all);
            return written.map_err(|error| first_unwritable(&outputs, codec, error));
        }
        codec::encode(outputs, form, all).map_err(SinkError::permanent)
    }

    fn wants_yields(&self) -> bool {
        true
    }
}

/// Names the output of a list that could not be written; `whole` is the error of the list.
fn first_unwritable<O: Data>(outputs: &[O], codec: Codec, whole: Error) -> SinkError {
    let error = |(position, output)| {
        let of = Short::<O>::new();
        let what = format_args!("an output of the item (`{of}`)");
        let error = codec::write(output, codec, what).err()?;
        Some((position, error))
    };
    match outputs.iter().enumerate().find_map(error) {
        Some((position, error)) => SinkError {
            at: At::Output(position),
            ..SinkError::permanent(error)
        },
        None => SinkError::permanent(whole),
    }
}

/// The pipeline ends here with its one value.
pub(crate) struct Only<O>(PhantomData<fn(O)>);

impl<O> Only<O> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

#[async_trait]
impl<O: Data> Sink for Only<O> {
    async fn take(
        &self,
        outputs: List,
        _: &Context,
        form: Form,
        _: &Progress,
    ) -> Result<Payload, SinkError> {
        let mut outputs = values::<O>(outputs)?;
        match (outputs.len(), outputs.pop()) {
            (1, Some(value)) => {
                let of = Short::<O>::new();
                codec::encode(value, form, format_args!("the result (`{of}`)"))
                    .map_err(SinkError::permanent)
            }
            (count, _) => Err(SinkError::permanent(format!(
                "the stage that finishes the result must make one value of it, and made {count}"
            ))),
        }
    }
}

/// The pipeline has no reduction: only the number of items processed counts.
pub(crate) struct Discard;

#[async_trait]
impl Sink for Discard {
    async fn take(
        &self,
        _: List,
        _: &Context,
        form: Form,
        _: &Progress,
    ) -> Result<Payload, SinkError> {
        codec::encode((), form, "nothing").map_err(SinkError::permanent)
    }
}

/// A reduction follows: the outputs are folded into one partial result right here.
pub(crate) struct Fold<C> {
    pub(super) combine: Arc<C>,
    /// The reduction's name, once it is known.
    name: Option<Arc<str>>,
}

impl<C: CombineKernel> Fold<C> {
    pub(crate) fn new(combine: C) -> Self {
        Self {
            combine: Arc::new(combine),
            name: None,
        }
    }

    /// Folds the next `count` of these values.
    pub(super) fn fold<'a>(
        &'a self,
        values: &'a mut std::vec::IntoIter<C::Input>,
        count: usize,
        context: &'a Context,
        progress: &'a Progress,
    ) -> impl Future<Output = Result<C::Output, BoxError>> + Send {
        let items = Items {
            values,
            left: count,
            progress,
        };
        self.combine.fold(items, context)
    }

    /// What `fold` has failed with.
    #[cold]
    pub(super) fn failed(&self, error: BoxError) -> SinkError {
        let at = match self.combine.folds_stepwise() {
            true => At::Last,
            false => At::Whole,
        };
        SinkError { error, at }
    }
}

#[async_trait]
impl<C: CombineKernel> Sink for Fold<C> {
    async fn take(
        &self,
        outputs: List,
        context: &Context,
        form: Form,
        progress: &Progress,
    ) -> Result<Payload, SinkError> {
        let mut values = values(outputs)?.into_iter();
        let count = values.len();
        let partial = self.fold(&mut values, count, context, progress).await;
        let partial = partial.map_err(|error| self.failed(error))?;
        let (of, name) = (Short::<C::Output>::new(), self.name.as_deref());
        let what = format_args!(
            "a partial result of `{}` (`{of}`)",
            name.unwrap_or("the reduction")
        );
        codec::encode(partial, form, what).map_err(SinkError::permanent)
    }

    fn group(&self) -> Option<&dyn GroupSink> {
        // An async reduction might block here, and one that reads its context would see the map stage.
        let allows =
            self.combine.execution() == Execution::Blocking && !self.combine.looks_at_context();
        allows.then_some(self as &dyn GroupSink)
    }

    fn execution(&self) -> Execution {
        self.combine.execution()
    }

    fn before(&self, reduction: &Arc<str>) -> Option<Arc<dyn Sink>> {
        Some(Arc::new(Self {
            combine: Arc::clone(&self.combine),
            name: Some(Arc::clone(reduction)),
        }))
    }

    fn steps(&self) -> bool {
        self.combine.folds_stepwise()
    }
}
