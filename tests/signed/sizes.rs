//! Tags count: what is signed fits the limits that hold for it.

use catchment::Backend;
use catchment::backends::memory::MemoryQueues;

use super::*;

/// The number of bytes that a queue takes is the longest message that there is, with its tag.
#[tokio::test(start_paused = true)]
async fn packets_are_cut_so_that_they_fit_with_their_tags() {
    for codec in CODECS {
        for limit in [340, 341, 390, 440, 1_000] {
            let store = Store::with_queues(MemoryQueues::new().max_body(limit));
            let sum = Pipeline::new()
                .map(|n: u64| n)
                .with(Stage::named("map").packet_size(1_000));
            let sum = sum.reduce(|| 0, |a, b| a + b).codec(*codec);
            let sum = sum.deploy("sum", store.backend()).unwrap().signed(KEY);
            let run = sum.submit(1_000_000..1_000_200).await.unwrap();
            let queue = store.queue("sum--map").await;
            let largest = queue.receive(1_000, Duration::ZERO).await.unwrap();
            let sizes = largest.iter().map(|delivery| delivery.body.len());
            assert!(sizes.max().unwrap() <= limit);
            let receipts = largest.into_iter().map(|delivery| delivery.receipt);
            queue
                .release(receipts.collect(), Duration::ZERO)
                .await
                .unwrap();
            let worker = sum.worker().start();
            assert_eq!(
                soon(run.result()).await.unwrap(),
                200 * 1_000_000 + 199 * 100
            );
            worker.shutdown().await;
        }
    }
}

/// In the process nothing is written, and nothing is signed or refused.
#[tokio::test(start_paused = true)]
async fn what_stays_in_the_process_has_no_tag() {
    let sum = Pipeline::new()
        .map(|n: f64| n)
        .reduce(|| 0.0, |a: f64, b| a + b);
    // JSON has no number for it, so that writing it would be an error.
    assert!(sum.run([f64::INFINITY, 1.0]).await.unwrap().is_infinite());
    let sum = sum.deploy("sum", Backend::memory()).unwrap().signed(KEY);
    assert!(sum.submit([f64::INFINITY]).await.is_err());
}
