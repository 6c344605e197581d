//! What becomes of a packet's outputs: values for the next stage, a partial result, or nothing.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Combine, Context, Data, Execution, Items, Progress};
use crate::codec;
use crate::error::BoxError;

/// Takes the outputs of one packet, in item order, and gives bytes.
#[async_trait]
pub(crate) trait Sink<O>: Send + Sync {
    async fn take(
        &self,
        outputs: Vec<O>,
        context: &Context,
        progress: &Progress,
    ) -> Result<Bytes, SinkError>;

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
    async fn take(&self, outputs: Vec<O>, _: &Context, _: &Progress) -> Result<Bytes, SinkError> {
        codec::encode(&outputs, "a packet's outputs").map_err(SinkError::whole)
    }
}

/// The pipeline ends here with its one value.
pub(crate) struct Only;

#[async_trait]
impl<O: Data> Sink<O> for Only {
    async fn take(&self, outputs: Vec<O>, _: &Context, _: &Progress) -> Result<Bytes, SinkError> {
        match outputs.as_slice() {
            [value] => codec::encode(value, "the result").map_err(SinkError::whole),
            other => Err(SinkError::whole(crate::error::permanent(format!(
                "the stage that finishes the result must make one value of it, and made {}",
                other.len()
            )))),
        }
    }
}

/// The pipeline has no reduction: only how many items went through counts.
pub(crate) struct Discard;

#[async_trait]
impl<O: Data> Sink<O> for Discard {
    async fn take(&self, _: Vec<O>, _: &Context, _: &Progress) -> Result<Bytes, SinkError> {
        Ok(Bytes::from_static(b"null"))
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
        progress: &Progress,
    ) -> Result<Bytes, SinkError> {
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
        codec::encode(&partial, "a partial result").map_err(SinkError::whole)
    }

    fn execution(&self) -> Execution {
        self.0.execution()
    }

    fn steps(&self) -> bool {
        self.0.folds_stepwise()
    }
}
