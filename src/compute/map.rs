//! A typed map stage with its types erased: a packet in, a packet's value out.

use std::sync::Arc;

use async_trait::async_trait;

use super::group::{GroupPass, GroupStep, TypedPass};
use super::pass::Pass;
use super::sink::Sink;
use super::step::{Computation, Computed, Input, Limits, MapStep, MapTail};
use crate::stage::Execution;
use crate::stage::kernel::MapKernel;

pub(crate) struct MapHolder<M>(pub(crate) Arc<M>);

impl<M: MapKernel> MapTail<M::Output> for MapHolder<M> {
    fn finish(&self, sink: Arc<dyn Sink<M::Output>>) -> Arc<dyn MapStep> {
        Arc::new(TypedMap {
            map: Arc::clone(&self.0),
            sink,
        })
    }

    fn execution(&self) -> Execution {
        self.0.execution()
    }
}

struct TypedMap<M: MapKernel> {
    map: Arc<M>,
    sink: Arc<dyn Sink<M::Output>>,
}

impl<M: MapKernel> TypedMap<M> {
    fn pass(&self, input: Input) -> Arc<Pass<M>> {
        Arc::new(Pass::new(
            Arc::clone(&self.map),
            Arc::clone(&self.sink),
            input,
        ))
    }
}

#[async_trait]
impl<M: MapKernel> MapStep for TypedMap<M> {
    fn job(&self, input: Input) -> Arc<Computation> {
        self.pass(input)
    }

    async fn run(&self, input: Input, limits: &Limits) -> Computed {
        self.pass(input).side_by_side(limits).await
    }

    fn groups(&self) -> Option<&dyn GroupStep> {
        let allows = self.map.execution() == Execution::Blocking && self.sink.group().is_some();
        allows.then_some(self as &dyn GroupStep)
    }
}

impl<M: MapKernel> GroupStep for TypedMap<M> {
    fn pass(&self, input: Input, sizes: Arc<[u32]>) -> Arc<dyn GroupPass> {
        Arc::new(TypedPass::new(
            Arc::clone(&self.map),
            Arc::clone(&self.sink),
            input,
            sizes,
        ))
    }
}
