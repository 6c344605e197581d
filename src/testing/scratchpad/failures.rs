//! What is on record of failures.

use std::sync::Arc;

use super::subject::{Subject, attempt};
use crate::core::error::Error;
use crate::scratchpad::{Cursor, DeadLetterId, Failure, FailureReport, Scratchpad, Verdict};

/// Every attempt is appended, oldest first, and the run goes on.
pub(super) async fn a_retry_is_on_record_and_the_run_goes_on(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let first = [attempt(1, Some(30), "größer «x»\n"), attempt(1, Some(31), "")];
    let second = [attempt(2, None, "timed out")];
    let log = subject.fail("packet 3", Verdict::Retry, &first).await;
    assert_eq!(log.attempts, first);
    let log = subject.fail("packet 3", Verdict::Retry, &second).await;

    assert_eq!(log.attempts, [&first[..], &second].concat());
    assert_eq!(log.skipped, 0);
    let log = subject.fail("packet 4", Verdict::Retry, &second).await;
    assert_eq!(log.attempts, second, "another message, another log");
    let status = subject.status().await;
    assert!(!status.has_ended());
    assert_eq!((status.dead, status.skipped), (0, 0));
    assert_eq!(subject.failures().await, []);
}

/// The run reads as failed, with the last error and every attempt.
pub(super) async fn a_dead_letter_fails_the_run(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let attempts = [attempt(1, None, "slow"), attempt(2, Some(31), "broken")];
    subject.fail("packet 3", Verdict::Retry, &attempts[..1]).await;
    let verdict = Verdict::Dead(DeadLetterId::random());
    assert_eq!(subject.fail("packet 3", verdict, &attempts[1..]).await.attempts, attempts);
    let failure = Failure {
        stage: "map".into(),
        message: "packet 3".into(),
        item: Some(31),
        label: None,
        error: "broken".into(),
        verdict,
        attempts: attempts.to_vec(),
    };
    let status = subject.status().await;
    assert!(status.has_ended());
    assert_eq!(status.failure.as_ref(), Some(&failure));
    assert_eq!((status.dead, status.dead_items, status.skipped), (1, 1, 0));
    assert_eq!(subject.failures().await, [failure]);
}

/// A message that died again stands as dead once, under its newer id.
pub(super) async fn a_newer_dead_letter_takes_the_place_of_an_older_one(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let [older, newer] = [DeadLetterId::random(), DeadLetterId::random()];
    for (number, id) in [(1, older), (2, newer)] {
        let failed = [attempt(number, None, &format!("error {number}"))];
        subject.fail("packet 3", Verdict::Dead(id), &failed).await;
        assert_eq!(subject.status().await.dead, 1);
    }
    subject.clear("packet 3", older).await;
    let failures = subject.failures().await;
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(failures[0].verdict, Verdict::Dead(newer));
    assert_eq!(failures[0].error, "error 2");
    subject.clear("packet 3", newer).await;
    assert!(!subject.status().await.has_ended());
}

/// Skipped items are a set for each message; the run goes on without them.
pub(super) async fn skipped_items_count_once(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let items = [attempt(1, Some(30), "bad"), attempt(1, Some(32), "worse")];
    let report = subject.report("packet 3", Verdict::Skip, &items);
    assert_eq!(subject.record(&report).await.skipped, 2);
    assert_eq!(subject.record(&report).await.skipped, 2, "a set");
    let more = [attempt(1, Some(40), "bad")];
    assert_eq!(subject.fail("packet 4", Verdict::Skip, &more).await.skipped, 3, "of the whole run");
    let status = subject.status().await;
    assert!(!status.has_ended());
    assert_eq!((status.dead, status.skipped), (0, 3));
    let failures = subject.failures().await;
    let listed: Vec<_> = failures
        .iter()
        .map(|failure| (failure.item, failure.error.as_str(), failure.verdict))
        .collect();
    let expected = [(30, "bad"), (32, "worse"), (40, "bad")];
    assert_eq!(
        listed,
        expected.map(|(item, error)| (Some(item), error, Verdict::Skip))
    );
}

/// Another id, another message or none at all changes nothing.
pub(super) async fn a_failure_is_cleared_by_its_own_id_only(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let id = DeadLetterId::random();
    let failed = [attempt(1, None, "broken")];
    subject.fail("packet 3", Verdict::Dead(id), &failed).await;
    subject.clear("packet 3", DeadLetterId::random()).await;
    subject.clear("packet 4", id).await;
    let status = subject.status().await;
    assert_eq!((status.dead, status.dead_items), (1, 0), "it names no item");
    for item in [3, 4] {
        let failed = [attempt(1, Some(item), "broken")];
        subject.fail("packet 3", Verdict::Dead(id), &failed).await;
        assert_eq!(subject.status().await.dead_items, 1);
    }
    for _ in 0..2 {
        subject.clear("packet 3", id).await;
        let status = subject.status().await;
        assert_eq!(status.dead_items, 0);
        assert_eq!((status.dead, status.failure.as_ref()), (0, None));
        assert!(!status.has_ended(), "the message is on its queue again");
    }
}

/// A message that is on its queue again may yet succeed with the items it had skipped.
pub(super) async fn clearing_takes_skipped_items_back(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    for (message, item) in [("packet 3", 30), ("packet 4", 40)] {
        let failed = [attempt(1, Some(item), "bad")];
        subject.fail(message, Verdict::Skip, &failed).await;
    }
    let id = DeadLetterId::random();
    let failed = [attempt(1, None, "too many are bad")];
    subject.fail("packet 3", Verdict::Dead(id), &failed).await;
    subject.clear("packet 3", id).await;
    let status = subject.status().await;
    assert_eq!((status.dead, status.skipped), (0, 1));
    let failures = subject.failures().await;
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(failures[0].item, Some(40));
    let again = [attempt(1, Some(31), "bad")];
    let again = subject.fail("packet 3", Verdict::Skip, &again).await;
    assert_eq!(again.skipped, 2, "it may leave out items once more");
}

/// A message is listed as its dead letter or by its skipped items: each bad item is listed once. The items stay in the
/// count.
pub(super) async fn a_dead_letter_takes_the_place_of_its_skipped_items(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let bad = [30, 31, 32].map(|item| attempt(1, Some(item), "bad"));
    subject.fail("packet 4", Verdict::Skip, &[attempt(1, Some(40), "bad")]).await;
    assert_eq!(subject.fail("packet 3", Verdict::Skip, &bad).await.skipped, 4);
    let first = subject.page(None, 1).await;
    assert_eq!(first.items[0].item, Some(30));
    let id = DeadLetterId::random();
    let dead = [attempt(1, Some(31), "too many are bad")];
    let report = subject.report("packet 3", Verdict::Dead(id), &dead);
    for _ in 0..2 {
        assert_eq!(subject.record(&report).await.skipped, 4);
        one_of_each(&subject, id).await;
        assert_eq!(subject.status().await.skipped, 1);
    }
    let rest = subject.page(first.next.as_ref(), 10).await;
    assert_eq!(rest.items.last().map(|failure| failure.item), Some(Some(40)));
    assert!(rest.items.iter().all(|failure| failure.item != Some(32)), "{rest:?}");
    subject.clear("packet 3", DeadLetterId::random()).await;
    one_of_each(&subject, id).await;
    subject.clear("packet 3", id).await;
    assert_eq!(subject.status().await.skipped, 1);
}

/// What a copy of a message that stands as a dead letter leaves out is counted, and not listed beside the dead letter.
pub(super) async fn what_a_copy_of_a_dead_letter_skips_is_counted(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    subject.fail("packet 4", Verdict::Skip, &[attempt(1, Some(40), "bad")]).await;
    let id = DeadLetterId::random();
    subject.fail("packet 3", Verdict::Dead(id), &[attempt(1, Some(31), "worse")]).await;
    let bad = [(1, 30), (2, 30), (2, 32)].map(|(number, item)| attempt(number, Some(item), "bad"));
    let report = subject.report("packet 3", Verdict::Skip, &bad);
    for _ in 0..2 {
        let log = subject.record(&report).await;
        assert_eq!(log.skipped, 3);
        assert_eq!(log.attempts.get(1..4), Some(&bad[..]));
        one_of_each(&subject, id).await;
    }
    let more = [attempt(1, Some(41), "bad")];
    assert_eq!(subject.fail("packet 4", Verdict::Skip, &more).await.skipped, 4);
    subject.clear("packet 3", id).await;
    assert_eq!(subject.status().await.skipped, 2);
    assert_eq!(subject.record(&report).await.skipped, 4);
    assert_eq!(subject.status().await.skipped, 4);
}

/// Packet 3 is listed as this dead letter, and item 40 of packet 4 as left out; nothing else is.
async fn one_of_each(subject: &Subject, id: DeadLetterId) {
    for limit in [1, 2, 10] {
        let failures = subject.list(limit).await;
        let listed: Vec<_> = failures.iter().map(|failure| (failure.item, failure.verdict)).collect();
        assert_eq!(listed, [(Some(31), Verdict::Dead(id)), (Some(40), Verdict::Skip)], "{limit} per page");
    }
    assert_eq!(subject.status().await.dead, 1);
}

/// An item is called by its label in every list.
pub(super) async fn a_label_is_kept(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let labelled = |item: u64| attempt(1, Some(item), "bad").label(format!("größer «{item}»\n"));
    let log = subject.fail("packet 3", Verdict::Skip, &[labelled(30)]).await;
    assert_eq!(log.attempts, [labelled(30)]);
    let dead = Verdict::Dead(DeadLetterId::random());
    subject.fail("packet 4", dead, &[labelled(40)]).await;
    subject.fail("packet 5", Verdict::Skip, &[attempt(1, Some(50), "bad")]).await;
    for failure in subject.failures().await {
        let expected = failure.item.filter(|item| *item < 50).map(|item| labelled(item).label);
        assert_eq!(failure.label, expected.flatten(), "{failure}");
        assert_eq!(failure.attempts[0].label, failure.label);
    }
    let first = subject.status().await.failure.expect("a failure stands");
    assert_eq!(first.label, labelled(40).label);
}

/// A log that is too long for its backend loses what an item outlived before any item's last error.
pub(super) async fn one_item_does_not_displace_the_others_last_errors(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let mut last: Vec<_> = (0..20).map(|item| attempt(1, Some(item), "seldom")).collect();
    last.push(attempt(1, None, "as a whole"));
    subject.fail("packet 3", Verdict::Retry, &last).await;
    for from in [1, 41, 81, 121] {
        let often = (from..from + 40).map(|number| attempt(number, Some(99), "often"));
        subject.fail("packet 3", Verdict::Retry, &often.collect::<Vec<_>>()).await;
    }
    last.push(attempt(1, Some(20), "new"));
    let log = subject.fail("packet 3", Verdict::Retry, &last[21..]).await;
    last.insert(21, attempt(160, Some(99), "often"));
    for attempt in &last {
        assert!(log.attempts.contains(attempt), "{attempt:?} is missing: {log:?}");
    }
    let places: Vec<_> = last.iter().map(|last| log.attempts.iter().position(|it| it == last)).collect();
    assert!(places.is_sorted(), "oldest first: {log:?}");
}

/// The run reports the first failure until it is cleared.
pub(super) async fn the_first_failure_is_the_oldest_that_stands(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let dead = [(9, DeadLetterId::random()), (3, DeadLetterId::random()), (5, DeadLetterId::random())];
    for (number, id) in dead {
        let message = format!("packet {number}");
        let failed = [attempt(number, None, "broken")];
        subject.fail(&message, Verdict::Dead(id), &failed).await;
    }
    for (left, (number, id)) in [3, 2, 1].into_iter().zip(dead) {
        let status = subject.status().await;
        assert_eq!(status.dead, left);
        let failure = status.failure.expect("a failure stands");
        assert_eq!(failure.verdict, Verdict::Dead(id), "{}", failure.message);
        subject.clear(&format!("packet {number}"), id).await;
    }
}

/// By stage, message and item, dead letters and skipped items alike, however long the pages are. The numbers in the names
/// of messages compare as numbers.
pub(super) async fn failures_come_in_order(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let dead = || Verdict::Dead(DeadLetterId::random());
    let reports = [
        ("sum", "group 1/10", dead(), vec![None]),
        ("sum", "group 10/0", dead(), vec![None]),
        ("sum", "group 1/9", dead(), vec![None]),
        ("sum", "group 2/1", dead(), vec![None]),
        ("map", "packet 18446744073709551615", dead(), vec![Some(7)]),
        ("map", "packet 4", Verdict::Skip, vec![Some(42), Some(40)]),
        ("map", "packet 40", dead(), vec![None]),
        ("map", "packet 41", Verdict::Skip, vec![Some(410)]),
        ("map", "packet 2", Verdict::Retry, vec![Some(20)]),
        ("map", "packet 3", dead(), vec![Some(32)]),
        ("map", "packet 30", Verdict::Skip, vec![Some(302), Some(300)]),
        ("fetch", "packet 9", dead(), vec![None]),
    ];
    for (stage, message, verdict, items) in reports {
        let failed = items.into_iter().map(|item| attempt(1, item, "bad"));
        let report = FailureReport {
            stage: stage.into(),
            ..subject.report(message, verdict, &failed.collect::<Vec<_>>())
        };
        subject.record(&report).await;
    }
    let expected = [
        ("fetch", "packet 9", None),
        ("map", "packet 3", Some(32)),
        ("map", "packet 4", Some(40)),
        ("map", "packet 4", Some(42)),
        ("map", "packet 30", Some(300)),
        ("map", "packet 30", Some(302)),
        ("map", "packet 40", None),
        ("map", "packet 41", Some(410)),
        ("map", "packet 18446744073709551615", Some(7)),
        ("sum", "group 1/9", None),
        ("sum", "group 1/10", None),
        ("sum", "group 2/1", None),
        ("sum", "group 10/0", None),
    ];
    for limit in [1, 2, 3, 12, 13, 14, 100] {
        let failures = subject.list(limit).await;
        let listed: Vec<_> = failures
            .iter()
            .map(|f| (f.stage.as_str(), f.message.as_str(), f.item))
            .collect();
        assert_eq!(listed, expected, "{limit} per page");
    }
    let status = subject.status().await;
    assert_eq!((status.dead, status.skipped), (8, 5));
}

/// What was there when the first page was read is met once, whatever is recorded and cleared meanwhile.
pub(super) async fn failures_that_stand_are_met_once(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let cleared = DeadLetterId::random();
    for number in 0..6 {
        let message = format!("packet {number}");
        let id = if number == 1 { cleared } else { DeadLetterId::random() };
        let failed = [attempt(1, None, "broken")];
        subject.fail(&message, Verdict::Dead(id), &failed).await;
    }
    let first = subject.page(None, 2).await;
    let failed = [attempt(1, Some(1), "bad")];
    subject.fail("group 1/0", Verdict::Skip, &failed).await;
    subject.fail("packet 9", Verdict::Skip, &failed).await;
    subject.clear("packet 1", cleared).await;
    let mut met: Vec<String> = first.items.into_iter().map(|failure| failure.message).collect();
    let mut cursor = first.next;
    while let Some(next) = cursor {
        let page = subject.page(Some(&next), 2).await;
        met.extend(page.items.into_iter().map(|failure| failure.message));
        cursor = page.next;
    }
    let expected = [0, 1, 2, 3, 4, 5].map(|number| format!("packet {number}"));
    assert_eq!(met.get(..6), Some(&expected[..]), "{met:?}");
    assert!(met.len() <= 7, "{met:?}");
}

/// A cursor of another list, or text that never was one, is refused.
pub(super) async fn failures_are_not_listed_after_a_foreign_cursor(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let other = Cursor::encode("another-store", &(7, "a")).expect("encode");
    for cursor in [other, Cursor::new(""), Cursor::new("0")] {
        let failures = subject.scratchpad.list_failures(&subject.id, Some(&cursor), 10).await;
        assert!(
            matches!(failures, Err(Error::InvalidArgument { .. })),
            "{cursor:?} is not a cursor of this list: {failures:?}"
        );
    }
}

/// A failed run is not over: its other packets go on, and it takes a result, whether or not
/// the failure still stands.
pub(super) async fn a_failed_run_can_be_completed(scratchpad: Arc<dyn Scratchpad>) {
    for is_cleared in [true, false] {
        let subject = Subject::new(Arc::clone(&scratchpad)).await;
        let id = DeadLetterId::random();
        let failed = [attempt(1, None, "broken")];
        subject.fail("packet 3", Verdict::Dead(id), &failed).await;
        let states = subject.arrive(vec![subject.arrival(0, 0, "a")]).await;
        assert!(!states[0].retired);
        assert_eq!(subject.values(0).await.len(), 1);
        if is_cleared {
            subject.clear("packet 3", id).await;
        }
        assert!(subject.complete("done").await, "cleared: {is_cleared}");
        assert_eq!(subject.status().await.result.as_deref(), Some(&b"done"[..]));
    }
}

/// A failure of a message that was only a late duplicate does not touch the result.
pub(super) async fn a_late_failure_leaves_the_result(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    assert!(subject.complete("done").await);
    let failed = [attempt(5, None, "broken")];
    let dead = Verdict::Dead(DeadLetterId::random());
    subject.fail("packet 3", dead, &failed).await;
    assert_eq!(subject.status().await.result.as_deref(), Some(&b"done"[..]));
}
