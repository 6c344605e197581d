//! Threads that are lost in functions that were given up and have not returned.

use tokio::sync::watch;

use crate::core::error::Error;
use crate::protocol::site::Site;

/// Warns of each lost thread, and completes when more than `limit` are lost. `lost_threads` has their number by stage.
pub(super) async fn too_many_lost(
    site: &Site,
    mut lost_threads: watch::Receiver<Vec<usize>>,
    limit: usize,
) -> Error {
    let mut before = Vec::new();
    loop {
        let by_stage = lost_threads.borrow_and_update().clone();
        let lost = by_stage.iter().sum();
        for (index, now) in by_stage.iter().enumerate() {
            let is_more = *now > before.get(index).copied().unwrap_or(0);
            if let Some(stage) = site.definition.stage(index).filter(|_| is_more) {
                tracing::warn!(
                    deployment = %site.name,
                    stage = %stage.name,
                    lost,
                    limit,
                    "a function outlasted its timeout, and its thread is lost until it returns"
                );
            }
        }
        if lost > limit {
            let error = Error::LostThreads {
                stages: stages(site, &by_stage),
                lost,
                limit,
            };
            tracing::error!(deployment = %site.name, %error, "the worker ends");
            return error;
        }
        before = by_stage;
        if lost_threads.changed().await.is_err() {
            // The pool has gone, and the worker with it.
            return std::future::pending().await;
        }
    }
}

/// The names of the stages that have lost a thread.
fn stages(site: &Site, by_stage: &[usize]) -> Vec<String> {
    let stages = site.definition.stages().iter().zip(by_stage);
    let stages = stages.filter(|(_, lost)| **lost > 0);
    stages.map(|(stage, _)| stage.name.to_string()).collect()
}
