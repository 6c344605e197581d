//! Input that waits for the work on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::Stream;

/// Items whenever fewer than `most` are on their way, by how many are `done`; so many come `together`, so that batches are
/// as full as without.
pub(crate) fn pace<V: Iterator>(
    items: V,
    done: Arc<AtomicU64>,
    most: u64,
    together: u64,
) -> impl Stream<Item = V::Item> {
    futures::stream::unfold((items, 0_u64), move |(mut items, given)| {
        let done = Arc::clone(&done);
        async move {
            let is_full = || given >= done.load(Ordering::Relaxed) + most;
            while given.is_multiple_of(together) && is_full() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let item = items.next()?;
            Some((item, (items, given + 1)))
        }
    })
}
