//! A round that is stuck is given up. It returns later, and must not change anything then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use catchment::{BoxError, Pipeline, permanent};
use serde::{Deserialize, Serialize};

use crate::gate::{Gate, Opens, pass};
use crate::store::soon;
use crate::{skipping, waiting};

const TIMEOUT: Duration = Duration::from_secs(20);

/// What a fold has made. Says when it is dropped.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Folded {
    items: Vec<u64>,
    #[serde(skip)]
    dropped: Option<Sender<()>>,
}

impl Drop for Folded {
    fn drop(&mut self) {
        if let Some(dropped) = &self.dropped {
            let _ = dropped.send(());
        }
    }
}

/// Once a fault: the late round takes the failures that are to be put on record, so that an item is left out without a word.
#[tokio::test(start_paused = true)]
async fn a_fold_that_returns_late_takes_no_failures_with_it() {
    let (gate, mut holds) = Gate::new();
    let _opens = Opens(gate.clone());
    let (dropped, drops) = channel();
    let (held, folds) = (gate.clone(), AtomicU32::new(0));
    let pipeline = Pipeline::new()
        .try_map(|n: u64| match n {
            0 => Err(permanent("item 0 for good")),
            n => Ok(n),
        })
        .with(waiting(skipping(3)).packet_size(3).timeout(TIMEOUT))
        .fold(
            Folded::default,
            move |mut folded, n| {
                if n == 2 && folds.fetch_add(1, SeqCst) == 0 {
                    folded.dropped = Some(dropped.clone());
                    held.hold();
                }
                folded.items.push(n);
                folded
            },
            |mut a, mut b| {
                a.items.append(&mut b.items);
                a
            },
        );
    let run = tokio::spawn(async move { pipeline.run_outcome(0..3).await });
    holds.recv().await.unwrap();
    pass(TIMEOUT).await;
    gate.open();
    // On purpose this blocks the only thread of the runtime: nothing else goes on until the late fold is over.
    drops.recv().unwrap();
    let outcome = soon(run).await.unwrap().unwrap();
    assert_eq!(outcome.value.items, [1, 2]);
    assert_eq!(outcome.skipped, 1);
    let listed: Vec<_> = outcome.failures.iter().map(|one| one.item).collect();
    assert_eq!(listed, [Some(0)], "left out without a word");
}

/// Once a fault: what the late round fails with counts as another attempt of its item.
#[tokio::test(start_paused = true)]
async fn a_fold_that_fails_late_costs_its_item_no_attempt() {
    let (gate, mut holds) = Gate::new();
    let _opens = Opens(gate.clone());
    let held = gate.clone();
    let folds = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&folds);
    let (labelled, labels) = channel();
    let options = waiting(skipping(3)).packet_size(3).timeout(TIMEOUT);
    let pipeline = Pipeline::new()
        .map(|n: u64| vec![n])
        .with(options.label(move |n: &u64| {
            let _ = labelled.send(*n);
            n.to_string()
        }))
        .try_reduce(Vec::new, move |mut all, next: Vec<u64>| {
            if next == [2] {
                match counted.fetch_add(1, SeqCst) {
                    0 => {
                        held.hold();
                        return Err(BoxError::from("too late"));
                    }
                    1 => return Err("once more".into()),
                    _ => {}
                }
            }
            all.extend(next);
            Ok(all)
        });
    let run = tokio::spawn(async move { pipeline.run_outcome(0..3).await });
    holds.recv().await.unwrap();
    pass(TIMEOUT).await;
    assert_eq!(labels.try_recv(), Ok(2), "it is given up");
    gate.open();
    // If the late failure is looked at, it gets a label before it is counted.
    for _ in 0..200_000 {
        if labels.try_recv().is_ok() {
            break;
        }
        std::thread::yield_now();
    }
    for _ in 0..1_000 {
        std::thread::yield_now();
    }
    let outcome = soon(run).await.unwrap().unwrap();
    assert_eq!(outcome.skipped, 0, "{:?}", outcome.failures);
    assert_eq!(outcome.value, [0, 1, 2]);
    assert_eq!(folds.load(SeqCst), 3);
}
