//! Runs that fail while their input continues.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, mpsc};

use catchment::{Pipeline, Stage, permanent};
use futures::{StreamExt, stream};
use tokio::time::sleep;

use super::*;
use crate::common::*;

/// Items 0, 1, 2, … of which the fourth is bad; how many were pulled is counted.
fn endless(pulled: &Arc<AtomicU64>) -> (Sum, impl Iterator<Item = u64> + use<>) {
    let pulled = Arc::clone(pulled);
    let pipeline = sum(Pipeline::new().try_map(|n: u64| {
        if n == 3 {
            Err(permanent("three"))
        } else {
            Ok(n)
        }
    }));
    (pipeline, (0..).inspect(move |n| pulled.store(*n, SeqCst)))
}

#[tokio::test(start_paused = true)]
async fn a_run_over_endless_input_fails_at_once() {
    let pulled = Arc::default();
    let (pipeline, items) = endless(&pulled);
    assert_eq!(
        failure(soon(pipeline.run(items)).await.unwrap_err()).item,
        Some(3)
    );
    println!("{} items pulled from an iterator", pulled.load(SeqCst));

    // A stream that is always ready, and one that has something every second.
    let (pipeline, items) = endless(&pulled);
    let ready = stream::iter(items);
    assert_eq!(
        failure(soon(pipeline.run_stream(ready)).await.unwrap_err()).item,
        Some(3)
    );
    println!("{} items pulled from a stream", pulled.load(SeqCst));

    let (pipeline, items) = endless(&pulled);
    let slow = stream::iter(items).then(async |n| {
        sleep(SECOND).await;
        n
    });
    assert_eq!(
        failure(soon(pipeline.run_stream(slow)).await.unwrap_err()).item,
        Some(3)
    );
    assert!(pulled.load(SeqCst) < 10, "{}", pulled.load(SeqCst));
}

/// Input that comes more slowly than it is worked on never meets a full queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_over_endless_input_that_is_slow_to_come_fails_at_once() {
    const END: u64 = 20_000;
    let (begun, seen) = mpsc::channel();
    let pulled = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&pulled);
    let pipeline = sum(Pipeline::new()
        .try_map(move |n: u64| {
            // The receiver may have gone at the end.
            let _ = begun.send(n);
            if n == 3 {
                Err(permanent("three"))
            } else {
                Ok(n)
            }
        })
        .with(Stage::new().packet_size(1)));
    let items = (0..END).filter(|_| true).inspect(move |n| {
        // Waits for the item before last ten, which has been sent for sure, to be worked on.
        if *n >= 30 && n % 10 == 0 {
            while seen.recv().unwrap() < *n - 30 {}
        }
        count.store(*n, SeqCst);
    });
    let error = pipeline.run(items).await.unwrap_err();
    assert_eq!(failure(error).item, Some(3));
    let pulled = pulled.load(SeqCst);
    assert!(
        pulled < END / 2,
        "{pulled} items were pulled after the fourth had failed"
    );
}
