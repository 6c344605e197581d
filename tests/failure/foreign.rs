//! Names that could meet do not, and a message that lands on another's queue is refused towards its owner.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use catchment::queue::Depth;
use catchment::{Backend, Deployment, Fate, Pipeline, RunState, Stage};
use tokio::time::{Instant, sleep};

use super::*;
use crate::common::*;

fn deployed(name: &str, stage: &str, backend: Backend) -> Deployment<u64, u64> {
    let items = Pipeline::new().map(|n: u64| n * 2);
    let items = items.with(Stage::named(stage).packet_size(1));
    sum(items).deploy(name, backend).unwrap()
}

/// The message of a run of one item, taken off its queue.
async fn taken(store: &Store, queue: &str) -> Bytes {
    let queue = store.queue(queue).await;
    let mut deliveries = queue.receive(10, Duration::ZERO).await.unwrap();
    let delivery = deliveries.pop().unwrap();
    assert!(deliveries.is_empty());
    queue.acknowledge(vec![delivery.receipt]).await.unwrap();
    delivery.body
}

async fn put(store: &Store, queue: &str, body: Bytes) {
    let queue = store.queue(queue).await;
    queue.send(vec![body.into()]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn deployments_whose_names_begin_alike_share_no_queue() {
    let pairs = [
        (("orders", "eu-parse"), ("orders-eu", "parse")),
        // This was the dead-letter queue of the second.
        (("x-y", "dead"), ("x", "y")),
        (("x", "y-dead"), ("x", "y")),
        (("a_b", "c"), ("a", "b_c")),
    ];
    for (first, second) in pairs {
        let store = Store::new();
        let both = [first, second].map(|(name, stage)| deployed(name, stage, store.backend()));
        let mut sums = Vec::new();
        for (deployment, id) in both.iter().zip(["first", "second"]) {
            sums.push(deployment.submit_as(id, [1, 2, 3]).await.unwrap());
        }
        // The second one's worker alone does nothing for the first.
        let worker = both[1].worker().start();
        if first.0 != second.0 {
            assert_eq!(soon(sums[1].result()).await.unwrap(), 12);
            sleep(MINUTE).await;
            assert_eq!(
                store.depth(&both[0]).await,
                Depth::new().ready(3),
                "{first:?}"
            );
        }
        let first_worker = both[0].worker().start();
        for run in &sums {
            assert_eq!(soon(run.result()).await.unwrap(), 12, "{first:?}");
        }
        for deployment in &both {
            assert!(deployment.dead_letters().await.unwrap().is_empty());
        }
        drop((worker, first_worker));
    }
}

/// Whichever of a worker and a push handler gets it.
#[tokio::test(start_paused = true)]
async fn a_message_of_another_deployment_fails_its_owners_run() {
    for pushed in [false, true] {
        let store = Store::new();
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        let items = Pipeline::new().map(move |n: u64| {
            counted.fetch_add(1, SeqCst);
            n
        });
        let other = sum(items.with(Stage::named("parse")));
        let other = other.deploy("other", store.backend()).unwrap();
        let owner = deployed("owner", "read", store.backend());
        let run = owner.submit_as("daily", [7]).await.unwrap();
        // The other deployment's own run has the same id, and is none the worse for it.
        let same_id = other.submit_as("daily", [5]).await.unwrap();
        let body = taken(&store, "owner--read").await;
        put(&store, "other--parse", body.clone()).await;

        let worker = match pushed {
            false => Some(other.worker().start()),
            true => {
                let queue = store.queue("other--parse").await;
                let deliveries = queue.receive(10, Duration::ZERO).await.unwrap();
                let handler = other.handler("parse").unwrap();
                let fates = handler.handle(deliveries.clone(), MINUTE).await;
                assert_eq!(fates, [Fate::Acknowledge, Fate::Acknowledge]);
                let receipts = deliveries.into_iter().map(|delivery| delivery.receipt);
                queue.acknowledge(receipts.collect()).await.unwrap();
                None
            }
        };
        let failure = failure(soon(run.result()).await.unwrap_err());
        assert_eq!(
            failure.error,
            "the message belongs to stage `read` of deployment `owner`, but came to queue `other--parse`: send it to queue `owner--read`"
        );
        assert_eq!(failure.stage, "read");
        assert_eq!(failure.message, "packet 0 on queue other--parse");

        let letters = other.dead_letters().await.unwrap();
        let [letter] = letters.as_slice() else {
            panic!("{letters:?}");
        };
        assert_eq!(letter.error, failure.error);
        assert_eq!((&letter.body, &letter.run), (&body, &None));
        assert!(owner.dead_letters().await.unwrap().is_empty());
        let worker = worker.unwrap_or_else(|| other.worker().start());
        assert_eq!(soon(same_id.result()).await.unwrap(), 5);
        assert_eq!(calls.load(SeqCst), 1);
        // Neither run's redrive brings it back, or waits for it.
        let begin = Instant::now();
        assert_eq!(same_id.redrive().await.unwrap().redriven, 0);
        assert_eq!(run.redrive().await.unwrap().redriven, 0);
        assert!(begin.elapsed() < SECOND);

        // Sent where it belongs, it completes the run.
        let owners = owner.worker().start();
        put(&store, "owner--read", body).await;
        sleep(MINUTE).await;
        assert_eq!(soon(run.result()).await.unwrap(), 14);
        assert_eq!(run.status().await.unwrap().state, RunState::Done);
        drop((worker, owners));
    }
}

/// A deployment that has never been heard of, and a run that its deployment does not know.
#[tokio::test(start_paused = true)]
async fn a_message_of_nobody_known_is_buried_all_the_same() {
    let store = Store::new();
    let other = deployed("other", "parse", store.backend());
    let worker = other.worker().start();
    let message = |deployment: &str| {
        format!(
            r#"{{"version":1,"kind":"map","deployment":"{deployment}","stage":"parse","arrayId":"lost","generation":"6b1f00c2a47e9002","fanIn":2,"packetId":"0/0","packetContains":1,"packetValue":[1]}}"#
        )
    };
    deployed("known", "parse", store.backend());
    for deployment in ["known", "unknown"] {
        put(&store, "other--parse", message(deployment).into()).await;
    }
    sleep(MINUTE).await;
    let letters = other.dead_letters().await.unwrap();
    assert_eq!(letters.len(), 2);
    for (letter, owner) in letters.iter().zip(["`known`", "`unknown`"]) {
        assert!(letter.error.contains(owner), "{}", letter.error);
        assert_eq!(letter.attempts.len(), 1);
    }
    drop(worker);
}

/// The right deployment, but another stage's queue.
#[tokio::test(start_paused = true)]
async fn a_message_on_another_stages_queue_fails_its_run() {
    let store = Store::new();
    let stages = Pipeline::new()
        .map(|n: u64| n)
        .with(Stage::named("read").packet_size(1))
        .map(|n| n * 2)
        .with(Stage::named("double"));
    let deployment = sum(stages).deploy("pair", store.backend()).unwrap();
    let run = deployment.submit([1]).await.unwrap();
    let body = taken(&store, "pair--read").await;
    put(&store, "pair--double", body.clone()).await;
    let worker = deployment.worker().start();
    let failure = failure(soon(run.result()).await.unwrap_err());
    assert_eq!(
        failure.error,
        "the message belongs to stage `read`, but came to queue `pair--double`: send it to queue `pair--read`"
    );
    // The stage has a packet 0 of its own, and this is not it.
    let name = "packet 0 of stage read";
    assert_eq!((&*failure.stage, &*failure.message), ("double", name));
    let letters = run.dead_letters().await.unwrap();
    assert_eq!(letters[0].message.as_deref(), Some(name));
    // A redrive brings it back to the same queue, where it is refused once more: one failure, not two.
    assert_eq!(run.redrive().await.unwrap().redriven, 1);
    soon(run.result()).await.unwrap_err();
    assert_eq!(run.failures().await.unwrap().len(), 1);
    put(&store, "pair--read", body).await;
    sleep(MINUTE).await;
    assert_eq!(soon(run.result()).await.unwrap(), 2);
    drop(worker);
}

/// A backend without a part for each deployment: a run's record says whose it is.
#[tokio::test(start_paused = true)]
async fn a_scratchpad_that_serves_all_tells_runs_apart() {
    struct One;
    #[async_trait::async_trait]
    impl Hook for One {
        async fn before(&self, _: &Call<'_>) -> Act {
            Act::Go
        }
        fn serves_all(&self) -> bool {
            true
        }
    }
    let store = Store::new();
    let backend = || store.hooked(Arc::new(One));
    let (owner, other) = (
        deployed("owner", "read", backend()),
        deployed("other", "read", backend()),
    );
    let run = owner.submit_as("theirs", [7]).await.unwrap();
    let body = taken(&store, "owner--read").await;
    let own = other.submit_as("ours", [5]).await.unwrap();
    let refused = other.submit_as("theirs", [7]).await.unwrap_err();
    assert!(
        refused.to_string().contains("run of deployment `owner`"),
        "{refused}"
    );

    // The second claims to be of a run that is not its deployment's.
    let text = String::from_utf8(body.to_vec()).unwrap();
    let claims = text.replace(r#""arrayId":"theirs""#, r#""arrayId":"ours""#);
    assert_ne!(claims, text);
    put(&store, "other--read", body).await;
    put(&store, "other--read", claims.into()).await;
    let worker = other.worker().start();
    let failure = failure(soon(run.result()).await.unwrap_err());
    assert!(failure.error.contains("of deployment `owner`"), "{failure}");
    sleep(MINUTE).await;
    assert_eq!(other.dead_letters().await.unwrap().len(), 2);
    assert_eq!(soon(own.result()).await.unwrap(), 10);
    drop(worker);
}
