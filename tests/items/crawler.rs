//! A crawler: packets of fifty pages do as well as packets of one.

use std::time::Duration;

use catchment::{Backoff, OnFailure, Pipeline, Stage};
use tokio::time::{Instant, sleep};

use crate::common::*;

const LENGTH: u64 = 2_000;
const ATTEMPTS: u32 = 3;

fn pages() -> Shared {
    Plan::new((0..LENGTH).map(|page| match page * 7919 % 2_000 {
        0..28 => Nature::Fails(ALWAYS),
        28..38 => Nature::Permanent,
        38..138 => Nature::Fails(1),
        138..148 => Nature::Hangs(1),
        _ => Nature::Good,
    }))
}

/// Between 10 ms and a second, and five seconds for one page in a hundred.
fn answers_after(page: u64) -> Duration {
    match page * 6007 % 100 {
        0 => 5 * SECOND,
        other => Duration::from_millis(10 * other),
    }
}

fn crawler(plan: &Shared, packet_size: u32) -> Kept {
    let plan = Shared::clone(plan);
    Pipeline::new()
        .then(move |page: u64| {
            let plan = Shared::clone(&plan);
            async move {
                sleep(answers_after(page)).await;
                plan.called(page, || {}).await
            }
        })
        .with(
            Stage::named("fetch")
                .packet_size(packet_size)
                .concurrency(50)
                .timeout(10 * SECOND)
                .attempts(ATTEMPTS)
                .backoff(Backoff::exponential(SECOND / 4, 2 * SECOND))
                .on_failure(OnFailure::Skip),
        )
        .collect()
}

async fn crawl(way: Way) {
    let mut took = Vec::new();
    for packet_size in [1, 50] {
        let plan = pages();
        let begin = Instant::now();
        let pipeline = crawler(&plan, packet_size);
        let seen = way.run(pipeline, LENGTH).await.unwrap();
        took.push(begin.elapsed());
        let what = format!("{way:?}, packets of {packet_size}");
        assert_exact(&what, &plan, ATTEMPTS, &seen, as_it_is);
    }
    // On the paused clock: of what is to be done at once, the half is.
    assert!(took[1] < took[0] * 3 / 2, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn packets_of_fifty_pages_do_as_well_as_packets_of_one_in_run() {
    crawl(Way::Run).await;
}

#[tokio::test(start_paused = true)]
async fn packets_of_fifty_pages_do_as_well_as_packets_of_one_when_deployed() {
    crawl(Way::Deployed).await;
}
