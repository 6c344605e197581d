//! What is on record of a message's deliveries.

use std::sync::Arc;

use futures::future::join_all;

use super::subject::{Subject, attempt};
use crate::scratchpad::{DeadLetterId, Deliveries, DeliveryId, Scratchpad, Verdict};

/// Each delivery counts once, however often it is written down, and each message by itself.
pub(super) async fn a_delivery_begins_once(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let [first, second] = [DeliveryId::random(), DeliveryId::random()];
    let one = Deliveries::new(1, 0);
    assert_eq!(subject.note("packet 3", first).await, one);
    assert_eq!(subject.note("packet 3", first).await, one, "the same delivery");
    assert_eq!(subject.note("packet 3", second).await, Deliveries::new(2, 0));
    assert_eq!(subject.note("packet 4", second).await, one, "another message");
    let status = subject.status().await;
    assert!(!status.has_ended());
    assert_eq!((status.dead, status.skipped), (0, 0));
    assert_eq!(subject.failures().await, [], "a beginning is no failure");
}

/// Deliveries of one message that begin at once are all counted.
pub(super) async fn deliveries_that_begin_at_once_all_count(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let deliveries = [(); 12].map(|()| DeliveryId::random());
    let notes = deliveries.map(|delivery| subject.note("packet 3", delivery));
    let counts = join_all(notes).await.into_iter();
    let mut counts: Vec<u32> = counts.map(|deliveries| deliveries.unfinished).collect();
    counts.sort_unstable();
    assert_eq!(counts, Vec::from_iter(1..=12), "each sees those before it");
}

/// A delivery that failed is unfinished no longer, and the next one knows which attempt it was.
pub(super) async fn a_failed_delivery_has_finished(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let [second, third, fourth] = [(); 3].map(|()| DeliveryId::random());
    let report = |number| {
        let failed = attempt(number, None, "broken");
        subject.report("packet 3", Verdict::Retry, &[failed])
    };
    subject.record(&report(1)).await;
    assert_eq!(subject.note("packet 3", second).await, Deliveries::new(1, 1));
    assert_eq!(subject.note("packet 3", third).await, Deliveries::new(2, 1));
    for _ in 0..2 {
        subject.record(&report(2).delivery(third)).await;
        assert_eq!(subject.note("packet 3", fourth).await, Deliveries::new(2, 2));
    }
    subject.record(&report(1)).await;
    assert_eq!(subject.note("packet 3", fourth).await, Deliveries::new(2, 2), "the highest");
    assert_eq!(subject.note("packet 4", fourth).await, Deliveries::new(1, 0), "another message");
}

/// A delivery that was given up before it began does not count.
pub(super) async fn a_beginning_can_be_withdrawn(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let [first, second] = [DeliveryId::random(), DeliveryId::random()];
    subject.note("packet 3", first).await;
    for _ in 0..2 {
        subject.withdraw("packet 3", first).await;
    }
    subject.withdraw("packet 4", first).await;
    assert_eq!(subject.note("packet 3", second).await, Deliveries::new(1, 0));
    assert_eq!(subject.note("packet 4", second).await, Deliveries::new(1, 0));
}

/// What is redriven has all its attempts again; its history stays.
pub(super) async fn clearing_forgets_deliveries(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let id = DeadLetterId::random();
    for message in ["packet 3", "packet 4"] {
        subject.note(message, DeliveryId::random()).await;
    }
    let dead = [attempt(2, None, "broken")];
    subject.fail("packet 3", Verdict::Dead(id), &dead).await;
    subject.clear("packet 3", DeadLetterId::random()).await;
    let deliveries = subject.note("packet 3", DeliveryId::random()).await;
    assert_eq!(deliveries, Deliveries::new(2, 2), "that was another id");
    subject.clear("packet 3", id).await;
    let deliveries = subject.note("packet 3", DeliveryId::random()).await;
    assert_eq!(deliveries, Deliveries::new(1, 0));
    let deliveries = subject.note("packet 4", DeliveryId::random()).await;
    assert_eq!(deliveries, Deliveries::new(2, 0), "another message");
    let again = [attempt(1, None, "broken")];
    let again = subject.fail("packet 3", Verdict::Retry, &again).await;
    assert_eq!(again.attempts.len(), 2);
}
