//! A queue or a store that refuses what a message causes: the message becomes a dead letter with the
//! cause, and a redrive completes the run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use async_trait::async_trait;

use super::*;
use crate::common::*;

/// Refuses the first call of this kind that a message causes, for good.
struct Refuses {
    kind: &'static str,
    refused: AtomicBool,
}

#[async_trait]
impl Hook for Refuses {
    async fn before(&self, call: &Call<'_>) -> Act {
        let kind = match call {
            Call::Send(queue, _) if queue.ends_with("-second") => "send to the next stage",
            Call::Send(queue, _) if queue.ends_with("-sum") => "ask for a reduction",
            Call::Arrive(_) => "arrive",
            Call::Members(_) => "members",
            Call::Complete(_) => "complete",
            Call::Retire(_) => "retire",
            _ => return Act::Go,
        };
        if kind != self.kind || self.refused.swap(true, SeqCst) {
            return Act::Go;
        }
        Act::Fail(Error::refused("the store", kind, "you may not do this"))
    }
}

/// The record says what failed, and that the log has the reason: a service's words are not for whoever asks for a run.
fn is_withheld(failure: &Failure, operation: &str) {
    let word = operation.split(' ').next().unwrap();
    let said = format!(": {word} failed: the log has the reason under id ");
    let error = &failure.error;
    assert!(error.contains(&said), "{operation}: {failure:?}");
    assert!(!error.contains("you may not"), "{failure:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_backend_refuses_is_a_dead_letter_that_can_be_redriven() {
    for kind in [
        "send to the next stage",
        "ask for a reduction",
        "arrive",
        "members",
        "complete",
        "retire",
    ] {
        let store = Store::new();
        let refused = AtomicBool::new(false);
        let backend = store.hooked(Arc::new(Refuses { kind, refused }));
        // One packet, so that each call has one entry: of several that share a call, each is tried again alone.
        let items = Pipeline::new()
            .map(|n: u64| n)
            .with(Stage::named("first").packet_size(20))
            .map(|n| n)
            .with(Stage::named("second"));
        let sum = items.reduce(|| 0, |a, b| a + b).with(Stage::named("sum"));
        let sum = sum.deploy("refused", backend).unwrap();
        let worker = sum.worker().start();
        let run = sum.submit(1..=20).await.unwrap();

        match soon(run.result()).await {
            // The result stands before its group is retired.
            Ok(total) => assert_eq!((kind, total), ("retire", 210)),
            Err(error) => {
                let failure = failure(error);
                is_withheld(&failure, kind);
                assert_eq!(run.redrive().await.unwrap().redriven, 1, "{kind}");
                assert_eq!(soon(run.result()).await.unwrap(), 210, "{kind}");
            }
        }
        worker.shutdown().await;
    }
}

/// Refuses every message for good, and cannot write down failures for a while.
#[derive(Default)]
struct Busy {
    tries: AtomicU32,
}

#[async_trait]
impl Hook for Busy {
    async fn before(&self, call: &Call<'_>) -> Act {
        let error = match call {
            Call::Send(..) => Error::refused("the queue", "send", "you may not do this"),
            Call::RecordFailure(_) if self.tries.fetch_add(1, SeqCst) < 3 => {
                Error::unavailable("the store", "record", "slow down")
            }
            _ => return Act::Go,
        };
        Act::Fail(error)
    }
}

/// Otherwise everybody who waits for the run would wait for ever.
#[tokio::test(start_paused = true)]
async fn the_failure_of_a_submission_is_written_down_although_the_store_is_busy() {
    let backend = Store::new().hooked(Arc::new(Busy::default()));
    let sum = Pipeline::new().reduce(|| 0, |a: u64, b| a + b);
    let sum = sum.deploy("busy", backend).unwrap();
    let error = sum.submit_as("once", 1..=20).await.unwrap_err();
    assert!(error.to_string().contains("send"), "{error}");
    let waiter = sum.attach("once");
    let failure = failure(soon(waiter.result()).await.unwrap_err());
    is_withheld(&failure, "send");
}
