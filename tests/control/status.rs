//! How far a run is.

use catchment::testing::faults::{Copies, Duplicate};
use catchment::{Backend, Deployment, Pipeline, RunState, Stage};
use tokio::sync::watch;
use tokio::time::sleep;

use super::*;
use crate::common::*;

/// A stage whose items pass one gate, which admits a given number of them.
fn gated(backend: Backend) -> (Deployment<u64, u64>, watch::Sender<u64>) {
    let (open, gate) = watch::channel(0);
    let pipeline = Pipeline::new()
        .then(move |n: u64| {
            let mut gate = gate.clone();
            async move {
                gate.wait_for(|open| n < *open).await.unwrap();
                ok(n).await
            }
        })
        .with(Stage::new().packet_size(2))
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::new().fan_in(2));
    (pipeline.deploy("gate", backend).unwrap(), open)
}

#[tokio::test(start_paused = true)]
async fn status_tells_how_far_a_run_is_and_counts_no_duplicate() {
    for copies in [Copies::None, Copies::Early, Copies::Late] {
        let store = Store::new();
        let backend = store.with(|queues| Duplicate::new(copies).queues(queues));
        let (deployment, gate) = gated(backend);
        let run = deployment.submit(0..11).await.unwrap();
        let numbers = async || {
            sleep(SECOND).await;
            let status = run.status().await.unwrap();
            assert_eq!(
                (status.items, status.packets),
                (Some(11), Some(6)),
                "{copies:?}"
            );
            assert_eq!((status.items_skipped, status.messages_failed), (0, 0));
            (status.state, status.items_done, status.packets_done)
        };
        assert_eq!(numbers().await, (RunState::Running, 0, 0));
        let workers = [deployment.worker().start(), deployment.worker().start()];
        assert_eq!(numbers().await, (RunState::Running, 0, 0));
        for (open, items, packets) in [(1, 0, 0), (2, 2, 1), (4, 4, 2), (7, 6, 3), (10, 10, 5)] {
            gate.send_replace(open);
            assert_eq!(
                numbers().await,
                (RunState::Running, items, packets),
                "{copies:?}"
            );
        }
        gate.send_replace(11);
        assert_eq!(numbers().await, (RunState::Done, 11, 6));
        assert_eq!(run.result().await.unwrap(), 55);
        sleep(MINUTE).await;
        assert_eq!(numbers().await, (RunState::Done, 11, 6));
        drop(workers);
    }
}

#[tokio::test(start_paused = true)]
async fn status_of_a_stream_is_open_until_it_has_ended() {
    let (deployment, gate) = gated(Backend::memory());
    let worker = deployment.worker().start();
    let (send, items) = futures::channel::mpsc::unbounded();
    let submission = tokio::spawn({
        let deployment = deployment.clone();
        async move { deployment.submit_stream_as("run", items).await.map(|_| ()) }
    });
    let run = deployment.attach("run");
    let numbers = async || {
        sleep(SECOND).await;
        let status = run.status().await.unwrap();
        (
            status.state,
            status.items,
            status.items_done,
            status.packets,
            status.packets_done,
        )
    };
    assert_eq!(numbers().await, (RunState::Open, None, 0, None, 0));
    gate.send_replace(6);
    for n in 0..7 {
        send.unbounded_send(n).unwrap();
    }
    assert_eq!(numbers().await, (RunState::Open, None, 6, None, 3));
    drop(send);
    assert_eq!(numbers().await, (RunState::Running, Some(7), 6, Some(4), 3));
    submission.await.unwrap().unwrap();
    gate.send_replace(7);
    assert_eq!(numbers().await, (RunState::Done, Some(7), 7, Some(4), 4));
    assert_eq!(run.result().await.unwrap(), 21);
    drop(worker);
}

#[test]
fn states_read_as_words() {
    let states = [
        (RunState::Open, "open"),
        (RunState::Running, "running"),
        (RunState::Done, "done"),
        (RunState::Failed, "failed"),
        (RunState::Cancelled, "cancelled"),
    ];
    for (state, word) in states {
        assert_eq!(state.to_string(), word);
        assert_eq!(format!("[{state:>10}]"), format!("[{word:>10}]"));
    }
}
