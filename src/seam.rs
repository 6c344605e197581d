//! One worker's way to its backend: calls that come together go together, and what may pass is retried.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;

use crate::batch::Batcher;
use crate::deployment::Shared;
use crate::error::{Result, describe};
use crate::queue::Receipt;
use crate::retry::persist;
use crate::scratchpad::{Arrival, GroupState};

pub(crate) struct Seam {
    pub(crate) shared: Arc<Shared>,
    arrivals: Batcher<Arrival, GroupState>,
    /// By stage: messages to its queue.
    sends: Vec<Batcher<Bytes, ()>>,
    /// By stage: receipts of its queue's messages.
    acknowledgements: Vec<Batcher<Receipt, ()>>,
}

impl Seam {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let scratchpad = Arc::clone(&shared.backend.scratchpad);
        let arrivals = Batcher::new(move |arrivals: Vec<Arrival>| {
            let scratchpad = Arc::clone(&scratchpad);
            async move { persist("arrive", || scratchpad.arrive(arrivals.clone())).await }.boxed()
        });
        let stages = 0..shared.definition.stages().len();
        let sends = stages.clone().map(|stage| send_to(&shared, stage));
        let sends = sends.collect();
        let acknowledgements = stages.map(|stage| acknowledge_on(&shared, stage));
        let acknowledgements = acknowledgements.collect();
        Self {
            shared,
            arrivals,
            sends,
            acknowledgements,
        }
    }

    pub(crate) async fn arrive(&self, arrival: Arrival) -> Result<GroupState, String> {
        self.arrivals.submit(arrival).await
    }

    pub(crate) async fn send(&self, stage: usize, body: Bytes) -> Result<(), String> {
        match self.sends.get(stage) {
            Some(batcher) => batcher.submit(body).await,
            None => Err(format!("there is no stage {stage}")),
        }
    }

    pub(crate) async fn acknowledge(&self, stage: usize, receipt: Receipt) -> Result<(), String> {
        match self.acknowledgements.get(stage) {
            Some(batcher) => batcher.submit(receipt).await,
            None => Err(format!("there is no stage {stage}")),
        }
    }

    /// A call on the scratchpad, repeated while its error may pass.
    pub(crate) async fn scratchpad<T, F>(
        &self,
        what: &str,
        call: impl FnMut() -> F,
    ) -> Result<T, String>
    where
        F: Future<Output = Result<T>>,
    {
        persist(what, call).await.map_err(|error| describe(&error))
    }
}

fn send_to(shared: &Arc<Shared>, stage: usize) -> Batcher<Bytes, ()> {
    let shared = Arc::clone(shared);
    Batcher::new(move |bodies: Vec<Bytes>| {
        let shared = Arc::clone(&shared);
        async move {
            persist("send", || async {
                shared.queue(stage).await?.send(bodies.clone()).await
            })
            .await?;
            Ok(vec![(); bodies.len()])
        }
        .boxed()
    })
}

fn acknowledge_on(shared: &Arc<Shared>, stage: usize) -> Batcher<Receipt, ()> {
    let shared = Arc::clone(shared);
    Batcher::new(move |receipts: Vec<Receipt>| {
        let shared = Arc::clone(&shared);
        async move {
            persist("acknowledge", || async {
                let queue = shared.queue(stage).await?;
                queue.acknowledge(receipts.clone()).await
            })
            .await?;
            Ok(vec![(); receipts.len()])
        }
        .boxed()
    })
}
