//! Combining a group: encoded partial results in, one out.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;

use super::pool::{Job, timed_out};
use super::sink::Fold;
use super::step::{CombineStep, Computation, Computed, ItemFailure, Limits, Output};
use crate::core::error::{BoxError, is_permanent, permanent};
use crate::core::panic::{Contained, panicked};
use crate::core::ready::ready;
use crate::core::type_name::Short;
use crate::packet::codec::{self, Form, Payload};
use crate::stage::Context;
use crate::stage::kernel::CombineKernel;

struct CombineJob<C> {
    combine: Arc<C>,
    group: Vec<Payload>,
    context: Context,
    form: Form,
}

impl<C: CombineKernel> CombineJob<C> {
    async fn work(&self) -> Computed {
        let (group, context) = (&self.group, &self.context);
        let work = combine_group(self.combine.as_ref(), group, context, self.form);
        let failure = match AssertUnwindSafe(work).catch_unwind().await {
            Ok(Ok(value)) => return Ok(Output::plain(value)),
            Ok(Err(error)) => ItemFailure {
                permanent: is_permanent(&error),
                ..ItemFailure::whole(error)
            },
            Err(panic) => ItemFailure::whole(panicked(panic)),
        };
        Err(vec![failure].into())
    }
}

impl<C: CombineKernel> Job for CombineJob<C> {
    type Output = Computed;

    fn run(&self) -> Computed {
        ready(self.work())
    }

    fn begun(&self) -> usize {
        0
    }

    fn failed(&self, error: String) -> Computed {
        Err(vec![ItemFailure::whole(error)].into())
    }
}

#[async_trait]
impl<C: CombineKernel> CombineStep for Fold<C> {
    fn job(&self, group: Vec<Payload>, context: Context, form: Form) -> Arc<Computation> {
        Arc::new(CombineJob {
            combine: Arc::clone(&self.combine),
            group,
            context,
            form,
        })
    }

    async fn run(
        &self,
        group: Vec<Payload>,
        context: Context,
        form: Form,
        limits: &Limits,
    ) -> Computed {
        let job = CombineJob {
            combine: Arc::clone(&self.combine),
            group,
            context,
            form,
        };
        let work = Contained::new(job.work().boxed());
        let work = tokio::time::timeout(limits.timeout, work).await;
        work.unwrap_or_else(|_| job.failed(timed_out(limits.timeout)))
    }
}

async fn combine_group<C: CombineKernel>(
    combine: &C,
    group: &[Payload],
    context: &Context,
    form: Form,
) -> Result<Payload, BoxError> {
    let (stage, of) = (context.stage(), Short::<C::Output>::new());
    let mut partials = Vec::with_capacity(group.len());
    for bytes in group {
        let what = format_args!("a partial result of `{stage}` (`{of}`)");
        let partial = codec::decode(bytes, what);
        // A retry would read the same bytes.
        partials.push(partial.map_err(permanent)?);
    }
    if partials.is_empty() {
        let what =
            format_args!("the identity of `{stage}` (`{of}`), which is the result of no items");
        return Ok(codec::encode(combine.identity(), form, what).map_err(permanent)?);
    }
    let result = combine.combine(partials, context).await?;
    let what = format_args!("a partial result of `{stage}` (`{of}`)");
    Ok(codec::encode(result, form, what).map_err(permanent)?)
}
