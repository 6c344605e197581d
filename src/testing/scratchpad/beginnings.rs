//! What is on record of a message's deliveries.

use std::sync::Arc;

use futures::future::join_all;

use super::subject::{Subject, attempt};
use crate::scratchpad::{DeadLetterId, Deliveries, DeliveryId, ItemAttempts, Scratchpad, Verdict};

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

/// A delivery counts once, and for the item that it began last.
pub(super) async fn a_delivery_is_at_one_item(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let [first, second] = [DeliveryId::random(), DeliveryId::random()];
    let one = |item| Deliveries::new(1, 0).items(vec![ItemAttempts::new(item, 0, 1)]);
    assert_eq!(subject.note("packet 3", first).await, Deliveries::new(1, 0));
    for item in [31, 31, 30] {
        assert_eq!(subject.note_at("packet 3", first, item).await, one(item));
    }
    assert_eq!(subject.note("packet 3", first).await, one(30), "it stays there");
    let largest = u64::MAX;
    let deliveries = subject.note_at("packet 3", second, largest).await;
    let items = vec![ItemAttempts::new(30, 0, 1), ItemAttempts::new(largest, 0, 1)];
    assert_eq!(deliveries, Deliveries::new(2, 0).items(items));
    let items = vec![ItemAttempts::new(30, 0, 2)];
    let deliveries = subject.note_at("packet 3", second, 30).await;
    assert_eq!(deliveries, Deliveries::new(2, 0).items(items));
    assert_eq!(subject.note_at("packet 4", second, 40).await, one(40), "another message");
    assert_eq!(subject.failures().await, [], "a beginning is no failure");
}

/// A delivery that was withdrawn, or has failed, is at no item.
pub(super) async fn an_item_is_begun_no_longer_when_its_delivery_ends(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let [first, second, third] = [(); 3].map(|()| DeliveryId::random());
    subject.note_at("packet 3", first, 30).await;
    subject.note_at("packet 3", second, 31).await;
    for _ in 0..2 {
        subject.withdraw("packet 3", first).await;
    }
    let items = vec![ItemAttempts::new(31, 0, 1)];
    assert_eq!(subject.note("packet 3", third).await, Deliveries::new(2, 0).items(items));
    let report = subject.report("packet 3", Verdict::Retry, &[attempt(1, Some(32), "bad")]);
    let report = report.delivery(second);
    let items = vec![ItemAttempts::new(32, 1, 0)];
    for _ in 0..2 {
        subject.record(&report).await;
        let deliveries = subject.note("packet 3", third).await;
        assert_eq!(deliveries, Deliveries::new(1, 0).items(items.clone()));
    }
    let deliveries = subject.note("packet 3", first).await;
    assert_eq!(deliveries, Deliveries::new(2, 0).items(items), "it is at its item no longer");
}

/// An item's attempts are neither its neighbour's nor its message's, whatever the verdict.
pub(super) async fn each_item_has_failed_attempts_of_its_own(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let delivery = DeliveryId::random();
    let failed = [(1, 9), (1, 100), (2, 9), (3, 9)];
    let failed = failed.map(|(number, item)| attempt(number, Some(item), "bad"));
    subject.fail("packet 3", Verdict::Retry, &failed).await;
    let items = vec![ItemAttempts::new(9, 3, 0), ItemAttempts::new(100, 1, 0)];
    let deliveries = Deliveries::new(1, 0).items(items);
    assert_eq!(subject.note("packet 3", delivery).await, deliveries);
    let whole = [attempt(4, None, "cannot be read"), attempt(2, Some(100), "bad")];
    subject.fail("packet 3", Verdict::Skip, &whole).await;
    let items = vec![ItemAttempts::new(9, 3, 1), ItemAttempts::new(100, u32::MAX, 0)];
    let deliveries = Deliveries::new(1, 4).items(items);
    assert_eq!(subject.note_at("packet 3", delivery, 9).await, deliveries, "an item is left out");
    let last = [attempt(5, Some(9), "bad")];
    subject.fail("packet 3", Verdict::Retry, &last).await;
    let items = vec![ItemAttempts::new(9, 5, 1), ItemAttempts::new(100, u32::MAX, 0)];
    let deliveries = Deliveries::new(1, 4).items(items);
    assert_eq!(subject.note("packet 3", delivery).await, deliveries, "it stays so");
    subject.fail("packet 3", Verdict::Dead(DeadLetterId::random()), &whole[..1]).await;
    let items = subject.note("packet 3", delivery).await.items;
    let is_left_out = items.iter().any(|item| item.failed == u32::MAX);
    assert!(!is_left_out, "of a dead letter's items none is left out: {items:?}");
    assert_eq!(subject.note("packet 4", delivery).await, Deliveries::new(1, 0), "another message");
}

/// Copies of one message count one by one, and what they report is merged by its maximum, in any order.
pub(super) async fn of_two_copies_the_higher_number_stands(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let delivery = DeliveryId::random();
    let reports = [[(3, 30), (1, 31)], [(2, 30), (4, 31)], [(10, 30), (1, 32)], [(9, 30), (1, 32)]];
    let expected = [
        vec![(30, 3), (31, 1)],
        vec![(30, 3), (31, 4)],
        vec![(30, 10), (31, 4), (32, 1)],
        vec![(30, 10), (31, 4), (32, 1)],
    ];
    for (report, expected) in reports.into_iter().zip(expected) {
        let failed = report.map(|(number, item)| attempt(number, Some(item), "bad"));
        let items = expected.into_iter().map(|(item, failed)| ItemAttempts::new(item, failed, 0));
        let deliveries = Deliveries::new(1, 0).items(items.collect());
        for _ in 0..2 {
            subject.fail("packet 3", Verdict::Retry, &failed).await;
            assert_eq!(subject.note("packet 3", delivery).await, deliveries);
        }
    }
}

/// No report overwrites what another one counts.
pub(super) async fn reports_at_once_count_for_all_items(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let reports = (0..20).map(|item| {
        let failed = [1, 2, 3].map(|number| attempt(number, Some(item), "bad"));
        let subject = subject.clone();
        tokio::spawn(async move { subject.fail("packet 3", Verdict::Retry, &failed).await })
    });
    for report in join_all(reports).await {
        report.expect("no panic");
    }
    let items = (0..20).map(|item| ItemAttempts::new(item, 3, 0)).collect();
    let deliveries = subject.note("packet 3", DeliveryId::random()).await;
    assert_eq!(deliveries, Deliveries::new(1, 0).items(items));
}

/// A packet has many items, and a backend may count for the thousand with the highest numbers only; never does it count
/// more than there was.
pub(super) async fn the_highest_counts_of_many_items_stand(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let often = |item: u64| item.is_multiple_of(100);
    let number = |round, item| if often(item) { round * 2 } else { round };
    for round in [1, 2] {
        for half in [0..1_500, 1_500..3_000] {
            let failed = half.map(|item| attempt(number(round, item), Some(item), ""));
            let failed: Vec<_> = failed.collect();
            subject.fail("packet 3", Verdict::Retry, &failed).await;
        }
    }
    let deliveries = subject.note("packet 3", DeliveryId::random()).await;
    let items = deliveries.items;
    assert!(items.is_sorted_by_key(|attempts| attempts.item));
    assert!(items.iter().all(|it| it.failed <= number(2, it.item)), "{items:?}");
    let highest = items.iter().filter(|it| it.failed == 4);
    assert_eq!(highest.count(), 30, "{items:?}");
    assert!(items.len() >= 1_000, "{} items", items.len());
}

/// What is redriven has all its attempts again, and so have its items.
pub(super) async fn clearing_forgets_the_items_attempts(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let id = DeadLetterId::random();
    for message in ["packet 3", "packet 4"] {
        subject.note_at(message, DeliveryId::random(), 30).await;
        let failed = [attempt(2, Some(31), "broken")];
        subject.fail(message, Verdict::Retry, &failed).await;
    }
    subject.fail("packet 3", Verdict::Dead(id), &[attempt(3, Some(31), "broken")]).await;
    subject.clear("packet 3", id).await;
    let deliveries = subject.note("packet 3", DeliveryId::random()).await;
    assert_eq!(deliveries, Deliveries::new(1, 0));
    let deliveries = subject.note("packet 4", DeliveryId::random()).await;
    let items = vec![ItemAttempts::new(30, 0, 1), ItemAttempts::new(31, 2, 0)];
    assert_eq!(deliveries, Deliveries::new(2, 0).items(items), "another message");
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
