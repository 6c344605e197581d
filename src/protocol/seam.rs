//! A worker's backend client: batches concurrent calls and retries transient errors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;

use super::site::Site;
use crate::core::batcher::{Batcher, Linger};
use crate::core::error::{Error, Result};
use crate::core::retry::{Policy, retry};
use crate::packet::Message;
use crate::queue::{Outgoing, Receipt};
use crate::scratchpad::{Arrival, GroupId};

/// How long an acknowledgement waits for others. Heartbeats hold the message meanwhile.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(1);

/// How long writes wait to share a request while other messages are in progress. The worker's slot
/// is already free.
const GOES_ON_WITHIN: Duration = Duration::from_millis(50);
/// Partial results that are worth writing at once: a group of the default size.
const MANY_ARRIVALS: usize = 32;

/// A partial result on its way into its slot at a reducing stage.
#[derive(Clone)]
pub(crate) struct Partial {
    pub(crate) arrival: Arrival,
    /// The stage's place in the pipeline.
    pub(crate) stage: usize,
    pub(crate) fan_in: u32,
}

pub(crate) struct Seam {
    pub(crate) site: Arc<Site>,
    arrivals: Batcher<Partial, ()>,
    /// By stage: messages to its queue.
    sends: Arc<[Batcher<Outgoing, ()>]>,
    /// By stage: receipts of its queue's messages.
    acknowledgements: Vec<Batcher<Receipt, ()>>,
}

impl Seam {
    /// `batches` says for each stage how many messages a request of its queue takes, where there is
    /// a charge for it.
    pub(crate) fn new(site: Arc<Site>, batches: &[Option<usize>]) -> Self {
        let stages = 0..site.definition.stages().len();
        let sends: Arc<[_]> = stages
            .clone()
            .map(|stage| {
                let batch = batches.get(stage).copied().flatten();
                send_to(&site, stage).lingering(batch.map(|full| Linger {
                    full,
                    at_most: GOES_ON_WITHIN,
                    while_expected: true,
                }))
            })
            .collect();
        let is_charged = batches.iter().any(Option::is_some);
        let arrivals = arrive_at(&site, &sends).lingering(is_charged.then_some(Linger {
            full: MANY_ARRIVALS,
            at_most: GOES_ON_WITHIN,
            while_expected: true,
        }));
        let acknowledgements = stages.map(|stage| {
            let linger = batches.get(stage).copied().flatten().map(|full| Linger {
                full,
                at_most: ACKNOWLEDGED_WITHIN,
                while_expected: false,
            });
            acknowledge_on(&site, stage).lingering(linger)
        });
        let acknowledgements = acknowledgements.collect();
        Self {
            site,
            arrivals,
            sends,
            acknowledgements,
        }
    }

    /// Stores partial results in their slots. Where one completes its group, the group's reduction
    /// has been asked for when this returns. One answer for each.
    pub(crate) async fn arrive(&self, partials: Vec<Partial>) -> Vec<Result<()>> {
        self.arrivals.submit(partials).await
    }

    /// Puts messages on a stage's queue. One answer for each.
    pub(crate) async fn send(&self, stage: usize, messages: Vec<Outgoing>) -> Vec<Result<()>> {
        match self.sends.get(stage) {
            Some(batcher) => batcher.submit(messages).await,
            None => messages
                .iter()
                .map(|_| Err(self.site.no_stage(stage)))
                .collect(),
        }
    }

    /// Takes messages off a stage's queue.
    pub(crate) async fn acknowledge(&self, stage: usize, receipts: Vec<Receipt>) -> Result<()> {
        match self.acknowledgements.get(stage) {
            Some(batcher) => batcher.submit(receipts).await.into_iter().collect(),
            None => Err(self.site.no_stage(stage)),
        }
    }

    /// So many of a stage's messages are here, and what they cause may come soon.
    pub(crate) fn expect(&self, stage: usize, messages: usize) {
        match self.sends_on(stage) {
            Some(sends) => sends.expect(messages),
            None => self.arrivals.expect(messages),
        }
    }

    /// So many of those have been worked off, or given up.
    pub(crate) fn expect_no_longer(&self, stage: usize, messages: usize) {
        match self.sends_on(stage) {
            Some(sends) => sends.expect_no_longer(messages),
            None => self.arrivals.expect_no_longer(messages),
        }
    }

    /// Where a stage's packets go on to another map stage, the way to its queue.
    fn sends_on(&self, stage: usize) -> Option<&Batcher<Outgoing, ()>> {
        let definition = &self.site.definition;
        let next = stage + 1;
        let is_map = |stage| definition.stage(stage).is_some_and(|s| !s.is_reduction());
        match is_map(stage) && is_map(next) {
            true => self.sends.get(next),
            false => None,
        }
    }

    /// Nothing waits for others of its kind any longer.
    pub(crate) fn hurry(&self) {
        self.arrivals.hurry();
        for batcher in &*self.sends {
            batcher.hurry();
        }
        for batcher in &self.acknowledgements {
            batcher.hurry();
        }
    }

    /// A call on the scratchpad, repeated while its error may pass.
    pub(crate) async fn scratchpad<T, F>(&self, what: &str, call: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        retry(what, Policy::FOREVER, call).await
    }
}

/// Neighbours that complete a group together ask for its reduction once, and none of them is done
/// before that is durable: whichever of them comes back after a crash finds the group complete, and
/// asks again.
fn arrive_at(site: &Arc<Site>, sends: &Arc<[Batcher<Outgoing, ()>]>) -> Batcher<Partial, ()> {
    let (site, sends) = (Arc::clone(site), Arc::clone(sends));
    Batcher::new(move |partials: Arc<Vec<Partial>>| {
        let (site, sends) = (Arc::clone(&site), Arc::clone(&sends));
        async move {
            let arrivals = || partials.iter().map(|partial| partial.arrival.clone());
            let states = retry("arrive", Policy::FOREVER, || {
                site.scratchpad().arrive(arrivals().collect())
            });
            let states = states.await?;
            if states.len() != partials.len() {
                let problem = format!("{} of {} states", states.len(), partials.len());
                return Err(Error::refused("the scratchpad", "arrive", problem));
            }
            // In an order that is the same each time, as all that happens in a simulation.
            let complete: BTreeMap<&GroupId, &Partial> = partials
                .iter()
                .zip(states)
                .filter(|(partial, state)| state.is_ready(partial.fan_in))
                .map(|(partial, _)| (&partial.arrival.group, partial))
                .collect();
            let asked = complete.into_values().map(|partial| {
                let (site, sends) = (&site, &sends);
                async move { ask_for_reduction(site, sends, partial).await }
            });
            futures::future::try_join_all(asked).await?;
            Ok(vec![(); partials.len()])
        }
        .boxed()
    })
}

async fn ask_for_reduction(
    site: &Site,
    sends: &[Batcher<Outgoing, ()>],
    partial: &Partial,
) -> Result<()> {
    let message = Message::reduce(&partial.arrival.group, partial.fan_in);
    let body = site.carrier.write_message(message)?;
    let Some(batcher) = sends.get(partial.stage) else {
        return Err(site.no_stage(partial.stage));
    };
    let message = Outgoing::new(body).run(&partial.arrival.group.run.id);
    let sent = batcher.submit(vec![message]).await;
    site.counters.completed(partial.stage);
    sent.into_iter().collect()
}

fn send_to(site: &Arc<Site>, stage: usize) -> Batcher<Outgoing, ()> {
    let site = Arc::clone(site);
    Batcher::new(move |messages: Arc<Vec<Outgoing>>| {
        let site = Arc::clone(&site);
        async move {
            retry("send", Policy::FOREVER, || async {
                site.queue(stage).await?.send(messages.to_vec()).await
            })
            .await?;
            Ok(vec![(); messages.len()])
        }
        .boxed()
    })
}

fn acknowledge_on(site: &Arc<Site>, stage: usize) -> Batcher<Receipt, ()> {
    let site = Arc::clone(site);
    Batcher::new(move |receipts: Arc<Vec<Receipt>>| {
        let site = Arc::clone(&site);
        async move {
            retry("acknowledge", Policy::FOREVER, || async {
                let queue = site.queue(stage).await?;
                queue.acknowledge(receipts.to_vec()).await
            })
            .await?;
            Ok(vec![(); receipts.len()])
        }
        .boxed()
    })
}
