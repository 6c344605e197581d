//! The ways to run a pipeline, and what is seen of a run.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use catchment::pipeline::One;
use catchment::queue::{QueueOptions, Queues};
use catchment::testing::faults::Shuffle;
use catchment::{Backoff, Deployment, Fate, OnFailure, Pipeline, Result, Stage};
use futures::future::join_all;

pub(crate) use crate::plan::{ALWAYS, Nature, Plan};
pub(crate) use crate::store::*;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);

/// The time that each call of a push handler has.
const PUSHED: Duration = Duration::from_secs(15 * 60);

/// A pipeline that answers with what is left of its items, in order: an item that is lost, counted twice or out of place
/// shows.
pub(crate) type Kept = Pipeline<u64, Vec<u64>, One>;

/// Options that leave out what fails, and retry at once.
pub(crate) fn skipping(attempts: u32) -> Stage {
    Stage::named("work")
        .attempts(attempts)
        .backoff(Backoff::none())
        .on_failure(OnFailure::Skip)
}

/// Waits of up to an hour, in a stage that keeps its messages for longer than that.
pub(crate) fn waiting(stage: Stage) -> Stage {
    stage
        .backoff(Backoff::exponential(HOUR, HOUR))
        .visibility_timeout(10 * HOUR)
}

/// What is seen of a run that has ended well.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) value: Vec<u64>,
    /// The items that are listed as left out, in order; each as often as it is listed.
    pub(crate) skipped: Option<Vec<u64>>,
}

/// How a pipeline is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Embedded: by `Pipeline::run`.
    Run,
    /// Deployed in memory, with a worker. Messages are delivered in any order.
    Deployed,
    /// Deployed in memory, with a push handler for each stage.
    Pushed,
}

impl Way {
    /// Runs `pipeline` over the items from 0 to `length`.
    pub(crate) async fn run(self, pipeline: Kept, length: u64) -> Result<Seen> {
        let store = Store::new();
        let shuffled = store.with(|queues| Shuffle::new(Some(19)).queues(queues));
        match self {
            Self::Run => Ok(Seen {
                value: soon(pipeline.run(0..length)).await?,
                skipped: None,
            }),
            Self::Deployed => {
                let deployment = pipeline.deploy("items", shuffled).unwrap();
                let worker = deployment.worker().start();
                let run = deployment.submit(0..length).await.unwrap();
                let seen = seen(&run).await;
                worker.shutdown().await;
                seen
            }
            Self::Pushed => {
                let deployment = pipeline.deploy("items", store.backend()).unwrap();
                let run = deployment.submit(0..length).await.unwrap();
                tokio::select! {
                    seen = seen(&run) => seen,
                    never = push_all(&store, &deployment) => match never {},
                }
            }
        }
    }
}

/// Awaits the outcome of a run.
pub(crate) async fn seen(run: &catchment::Run<Vec<u64>>) -> Result<Seen> {
    let outcome = soon(run.outcome()).await?;
    let skipped = skipped(run).await;
    assert_eq!(outcome.skipped, skipped.len() as u64, "{skipped:?}");
    Ok(Seen {
        value: outcome.value,
        skipped: Some(skipped),
    })
}

/// The items that are listed as left out, in order; each as often as it is listed.
pub(crate) async fn skipped(run: &catchment::Run<Vec<u64>>) -> Vec<u64> {
    let failures = run.failures().limit(100_000).await.unwrap();
    let skipped = failures.iter().filter(|failure| failure.is_skipped());
    let mut items: Vec<u64> = skipped.map(|failure| failure.item.unwrap()).collect();
    items.sort_unstable();
    items
}

/// Plays the service that pushes the messages of all stages.
pub(crate) async fn push_all<R>(store: &Store, deployment: &Deployment<u64, R>) -> Infallible {
    let stages = deployment.stages();
    let pushed = stages.map(|stage| push(store, deployment, stage));
    join_all(pushed).await.pop().expect("there is a stage")
}

/// Plays the service that pushes a stage's messages.
async fn push<R>(store: &Store, deployment: &Deployment<u64, R>, stage: &str) -> Infallible {
    let handler = deployment.handler(stage).unwrap();
    let options = QueueOptions::default().visibility_timeout(2 * PUSHED);
    let queue = store.queues.open(handler.queue_name(), &options).await;
    let queue = queue.unwrap();
    loop {
        let deliveries = queue.receive(10, HOUR).await.unwrap();
        let fates = handler.handle(deliveries.clone(), PUSHED).await;
        for (delivery, fate) in deliveries.into_iter().zip(fates) {
            if fate == Fate::Acknowledge {
                queue.acknowledge(vec![delivery.receipt]).await.unwrap();
            }
        }
    }
}

/// Holds a run against its plan: exactly the bad items are left out, and each item has had the calls that it needed by
/// itself. `kept` gives what is to be left of a good item.
pub(crate) fn assert_exact(
    what: &str,
    plan: &Plan,
    attempts: u32,
    seen: &Seen,
    kept: impl Fn(u64) -> Vec<u64>,
) {
    let mut problems = Vec::new();
    let expected: Vec<u64> = plan.good(attempts).flat_map(kept).collect();
    if seen.value != expected {
        let (left, right) = (seen.value.len(), expected.len());
        problems.push(format!("the result has {left} values, not {right}"));
    }
    if let Some(skipped) = &seen.skipped
        && *skipped != plan.bad(attempts)
    {
        let bad = plan.bad(attempts);
        let good = skipped.iter().filter(|item| !bad.contains(item)).count();
        problems.push(format!(
            "{good} good items are among the {} that were left out; {} are bad",
            skipped.len(),
            bad.len()
        ));
    }
    let needed = |item| plan.nature(item).calls(attempts);
    let (calls, sum) = (0..plan.length()).fold((0, 0), |(calls, sum), item| {
        (calls + plan.calls(item), sum + needed(item))
    });
    let wrong = (0..plan.length()).filter(|item| plan.calls(*item) != needed(*item));
    let wrong: Vec<String> = wrong
        .map(|item| {
            let (nature, calls) = (plan.nature(item), plan.calls(item));
            format!("item {item} ({nature:?}): {calls}, not {}", needed(item))
        })
        .collect();
    if let Some(first) = wrong.first() {
        let count = wrong.len();
        problems.push(format!(
            "{calls} calls, not {sum}; wrong for {count} items, such as {first}"
        ));
    }
    assert!(problems.is_empty(), "{what}: {}", problems.join("; "));
}

/// A good item is kept as it is.
pub(crate) fn as_it_is(item: u64) -> Vec<u64> {
    vec![item]
}

/// The same scenario three times, as a test for each way.
macro_rules! each_way {
    ($($(#[$attribute:meta])* $name:ident = $scenario:expr;)*) => {$(
        $(#[$attribute])*
        mod $name {
            use super::*;

            #[tokio::test(start_paused = true)]
            async fn run() {
                ($scenario)(Way::Run).await;
            }

            #[tokio::test(start_paused = true)]
            async fn deployed() {
                ($scenario)(Way::Deployed).await;
            }

            #[tokio::test(start_paused = true)]
            async fn pushed() {
                ($scenario)(Way::Pushed).await;
            }
        }
    )*};
}

pub(crate) use each_way;

/// A plan that is shared with functions.
pub(crate) type Shared = Arc<Plan>;
