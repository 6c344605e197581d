//! Combining a group: encoded partial results in, one out.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;

use super::blocking::{off_thread, panicked, ready, timed_out};
use super::{Combine, CombineStep, Context, Execution, Fold, ItemFailure, Limits};
use crate::codec;
use crate::error::{BoxError, describe, is_permanent, permanent};

#[async_trait]
impl<C: Combine> CombineStep for Fold<C> {
    async fn combine(
        &self,
        group: Vec<Bytes>,
        context: Context,
        limits: &Limits,
    ) -> Result<Bytes, ItemFailure> {
        if let [only] = group.as_slice() {
            return Ok(only.clone());
        }
        if let Some(pace) = &limits.pace {
            pace.wait(1).await;
        }
        let combine = Arc::clone(&self.0);
        let work = async move {
            let work = AssertUnwindSafe(combine_group(combine.as_ref(), group, &context));
            match work.catch_unwind().await {
                Ok(result) => result.map_err(|error| ItemFailure {
                    permanent: is_permanent(&error),
                    ..ItemFailure::whole(describe(error.as_ref()))
                }),
                Err(panic) => Err(ItemFailure::whole(panicked(panic.as_ref()))),
            }
        };
        let outcome = match self.0.execution() {
            Execution::Blocking => off_thread(limits, || 0, move || ready(work)).await,
            Execution::Async => tokio::time::timeout(limits.timeout, work)
                .await
                .map_err(|_| timed_out(limits.timeout)),
        };
        outcome.unwrap_or_else(|error| Err(ItemFailure::whole(error)))
    }
}

async fn combine_group<C: Combine>(
    combine: &C,
    group: Vec<Bytes>,
    context: &Context,
) -> Result<Bytes, BoxError> {
    let mut partials = Vec::with_capacity(group.len());
    for bytes in &group {
        let partial = codec::decode(bytes, "a partial result");
        // Other bytes will not come: what is stored stays as it is.
        partials.push(partial.map_err(permanent)?);
    }
    let result = match partials.is_empty() {
        true => combine.identity(),
        false => combine.combine(partials, context).await?,
    };
    Ok(codec::encode(&result, "a partial result").map_err(permanent)?)
}
