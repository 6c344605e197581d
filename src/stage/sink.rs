//! What becomes of a packet's outputs: values for the next stage, a partial result, or nothing.

use std::sync::Arc;

use super::{Combine, Context, Data, Execution, Items, Progress};
use crate::codec::{self, Form, Payload};
use crate::error::BoxError;
use async_trait::async_trait;

/// Takes the outputs of one packet, in item order, and gives what travels on.
#[async_trait]
pub(crate) trait Sink<O>: Send + Sync {
    async fn take(
        &self,
        outputs: Vec<O>,
        context: &Context,
        form: Form,
        progress: &Progress,
    ) -> Result<Payload, SinkError>;

    /// Where it runs behind an asynchronous stage, which has decoded its items on the runtime as well. Behind a
    /// CPU-bound one it runs on that stage's thread.
    fn execution(&self) -> Execution {
        Execution::Async
    }

    /// Whether a panic belongs to the output that was begun last.
    fn steps(&self) -> bool {
        false
    }
}

pub(crate) struct SinkError {
    pub(crate) error: BoxError,
    /// Whether it belongs to the output that was begun last.
    pub(crate) at_output: bool,
}

impl SinkError {
    fn whole(error: impl Into<BoxError>) -> Self {
        Self {
            error: error.into(),
            at_output: false,
        }
    }
}

/// Another map stage follows: the values travel on as a list.
pub(crate) struct Encode;

#[async_trait]
impl<O: Data> Sink<O> for Encode {
    async fn take(
        &self,
        outputs: Vec<O>,
        _: &Context,
        form: Form,
        _: &Progress,
    ) -> Result<Payload, SinkError> {
        codec::encode(outputs, form, "a packet's outputs").map_err(SinkError::whole)
    }
}

/// The pipeline ends here with its one value.
pub(crate) struct Only;

#[async_trait]
impl<O: Data> Sink<O> for Only {
    async fn take(
        &self,
        mut outputs: Vec<O>,
        _: &Context,
        form: Form,
        _: &Progress,
    ) -> Result<Payload, SinkError> {
        match (outputs.len(), outputs.pop()) {
            (1, Some(value)) => codec::encode(value, form, "the result").map_err(SinkError::whole),
            (count, _) => Err(SinkError::whole(crate::error::permanent(format!(
                "the stage that finishes the result must make one value of it, and made {count}"
            )))),
        }
    }
}

/// The pipeline has no reduction: only how many items went through counts.
pub(crate) struct Discard;

#[async_trait]
impl<O: Data> Sink<O> for Discard {
    async fn take(
        &self,
        _: Vec<O>,
        _: &Context,
        form: Form,
        _: &Progress,
    ) -> Result<Payload, SinkError> {
        codec::encode((), form, "nothing").map_err(SinkError::whole)
    }
}

/// A reduction follows: the outputs become one partial result here already.
pub(crate) struct Fold<C>(pub(crate) Arc<C>);

#[async_trait]
impl<C: Combine> Sink<C::Input> for Fold<C> {
    async fn take(
        &self,
        outputs: Vec<C::Input>,
        context: &Context,
        form: Form,
        progress: &Progress,
    ) -> Result<Payload, SinkError> {
        let mut values = outputs.into_iter();
        let items = Items {
            values: &mut values,
            progress,
        };
        let partial = self.0.fold(items, context).await;
        let partial = partial.map_err(|error| SinkError {
            error,
            at_output: self.0.folds_stepwise(),
        })?;
        codec::encode(partial, form, "a partial result").map_err(SinkError::whole)
    }

    fn execution(&self) -> Execution {
        self.0.execution()
    }

    fn steps(&self) -> bool {
        self.0.folds_stepwise()
    }
}
