//! Messages that are kept for a person.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::sleep;

use super::Capabilities;
use super::subject::{Subject, bodies};
use crate::core::error::Error;
use crate::queue::{BuriedMessage, Cursor, Depth, PAGE_BYTES, Queues};

/// The largest message that a scenario needs.
const MOST_BYTES: usize = 400 * 1024;

/// Sends `count` messages, receives and buries them.
async fn bury(subject: &Subject, count: usize) -> Vec<Bytes> {
    subject.send(&bodies(count)).await;
    for delivery in subject.receive(count, "sent").await {
        let buried = subject.queue.bury(delivery, "not a number: «x»\nline 2").await;
        buried.expect("bury");
    }
    bodies(count)
}

/// A buried message leaves the queue. It is found with its body unchanged and the reason.
pub(super) async fn a_buried_message_is_a_dead_letter(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    let sent = bury(&subject, 1).await;
    let found = subject.dead_letters(1).await;
    assert_eq!(found[0].body, sent[0]);
    assert_eq!(found[0].reason, "not a number: «x»\nline 2");
    let long = subject.visibility_timeout() * 3 / 2;
    subject.assert_hidden_for(long, "it was buried").await;
}

/// Burying with a stale receipt is no error, and the message is still somewhere.
pub(super) async fn burying_with_a_stale_receipt_loses_nothing(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    subject.send(&bodies(1)).await;
    let first = subject.receive_one("sent").await;
    sleep(subject.visibility_timeout()).await;
    let second = subject.receive_one("its visibility timeout is over").await;
    subject.queue.bury(first, "late").await.expect("bury");
    if capabilities.strict_receipts {
        sleep(subject.visibility_timeout()).await;
        let last = subject.receive_one("the one who buried it had lost it").await;
        assert_eq!(last.body, second.body);
    } else {
        subject.queue.bury(second, "in time").await.expect("bury");
        subject.dead_letters(1).await;
    }
}

/// Looking does not remove, and returns no more than asked for.
pub(super) async fn looking_at_dead_letters_leaves_them_there(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    let sent = bury(&subject, 3).await;
    for _ in 0..2 {
        let found = subject.dead_letters(3).await.into_iter();
        let mut found: Vec<Bytes> = found.map(|dead| dead.body).collect();
        found.sort();
        assert_eq!(found, sent, "all of them, each time");
        sleep(subject.visibility_timeout()).await;
        let one = subject.queue.dead_letters(None, 1).await.expect("dead_letters");
        assert!(one.len() <= 1, "no more than `max` are returned");
        sleep(subject.visibility_timeout()).await;
    }
    let dead = Depth::new().dead(3);
    subject.assert_depth(dead).await;
}

/// Page by page each dead letter is met once, if the queue can go on where it left off. If it cannot, it says so, and has
/// all of them for a caller that asks for enough.
pub(super) async fn pages_of_dead_letters_come_to_an_end(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    let sent = bury(&subject, 5).await;
    let mut found = Vec::new();
    let mut cursor: Option<Cursor> = None;
    let mut is_truncated = false;
    loop {
        let page = subject.queue.dead_letters(cursor.as_ref(), 2).await;
        let page = page.expect("dead_letters");
        assert!(page.len() <= 2, "no more than `max` are returned");
        is_truncated |= page.truncated;
        found.extend(page.items.into_iter().map(|dead| dead.body));
        match page.next {
            // Its text is enough to go on.
            Some(next) => cursor = Some(Cursor::new(next.as_str())),
            None => break,
        }
    }
    if is_truncated {
        found = subject.dead_letters(5).await.into_iter().map(|dead| dead.body).collect();
    }
    found.sort();
    assert_eq!(found, sent, "each of them once");
    let all = subject.queue.dead_letters(None, 100).await.expect("dead_letters");
    assert!(all.next.is_none() && !all.truncated, "there are no more");
}

/// However many are asked for, a page has one message or several of at most `PAGE_BYTES` together, and leads to the rest
/// or says that there is more.
pub(super) async fn a_page_of_dead_letters_is_bounded_in_bytes(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    let size = subject.queue.max_body().map_or(MOST_BYTES, |most| MOST_BYTES.min(most / 2));
    let count = PAGE_BYTES / size + 2;
    let large = |n: usize| Bytes::from(format!("{n:08}{}", "x".repeat(size - 8)));
    for n in 0..count {
        subject.send(&[large(n)]).await;
        let delivery = subject.receive_one("sent").await;
        subject.queue.bury(delivery, "too large to list").await.expect("bury");
    }
    let page = subject.queue.dead_letters(None, 1_000).await.expect("dead_letters");
    let bytes: usize = page.iter().map(BuriedMessage::size).sum();
    assert!(bytes <= PAGE_BYTES, "{} messages of {bytes} bytes", page.len());
    assert!(!page.is_empty(), "at least one is returned");
    assert!(page.next.is_some() || page.truncated, "there are more");
}

/// Those that are wanted are found among others, each once, and no more at once than are asked for.
pub(super) async fn dead_letters_are_found_among_others(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    let sent = bury(&subject, 12).await;
    let is_wanted = |message: &BuriedMessage| message.body.ends_with(b"1");
    let mut found = Vec::new();
    let mut cursor: Option<Cursor> = None;
    let mut is_truncated = false;
    loop {
        let queue = &subject.queue;
        let page = queue.find_dead_letters(cursor.as_ref(), 1, &is_wanted).await;
        let page = page.expect("find_dead_letters");
        assert!(page.len() <= 1, "no more than `max` are returned");
        is_truncated |= page.truncated;
        found.extend(page.items.into_iter().map(|dead| dead.body));
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    if is_truncated {
        let page = subject.queue.find_dead_letters(None, 100, &is_wanted).await;
        found = page.expect("find_dead_letters").into_iter().map(|dead| dead.body).collect();
    }
    found.sort();
    let wanted = [sent[1].clone(), sent[11].clone()];
    assert_eq!(found, wanted, "each of them once");
}

/// A cursor of another list, or text that never was one, is refused.
pub(super) async fn dead_letters_are_not_listed_after_a_foreign_cursor(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    let other = Cursor::encode("another-queue", &(7, "a")).expect("encode");
    for cursor in [other, Cursor::new(""), Cursor::new("0")] {
        let letters = subject.queue.dead_letters(Some(&cursor), 10).await;
        assert!(
            matches!(letters, Err(Error::InvalidArgument { .. })),
            "{cursor:?} is not a cursor of this list: {letters:?}"
        );
    }
}

/// A redriven message is back on the queue as it was, with a fresh receive count, and no dead
/// letter any more.
pub(super) async fn a_redriven_message_begins_anew(queues: Arc<dyn Queues>, capabilities: Capabilities) {
    let subject = Subject::new(&queues, capabilities).await;
    let sent = bury(&subject, 1).await;
    let found = subject.dead_letters(1).await;
    subject.queue.redrive(found).await.expect("redrive");
    let again = subject.receive_one("redriven").await;
    assert_eq!(again.body, sent[0]);
    assert_eq!(again.receive_count, 1, "a fresh receive count");
    subject.assert_no_dead_letters("it was redriven").await;
    subject.acknowledge(&[again]).await;
    let long = subject.visibility_timeout() * 3 / 2;
    subject.assert_hidden_for(long, "it was dealt with").await;
    subject.assert_depth(Depth::default()).await;
}

/// A message that was already redriven or discarded is skipped if the service can detect that. If it
/// cannot, the message is delivered once more, as at-least-once allows.
pub(super) async fn redriving_what_is_gone_is_no_error(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    let sent = bury(&subject, 2).await;
    let found: Vec<BuriedMessage> = subject.dead_letters(2).await;
    let redriven = subject.queue.redrive(found[..1].to_vec()).await;
    redriven.expect("redrive");
    subject.queue.redrive(found).await.expect("redrive again");
    subject.drain(&sent, "redriven").await;
    subject.assert_no_dead_letters("both were redriven").await;
}

/// A discarded message is in neither queue, and discarding it again is no error.
pub(super) async fn a_discarded_message_is_gone(queues: Arc<dyn Queues>, capabilities: Capabilities) {
    let subject = Subject::new(&queues, capabilities).await;
    bury(&subject, 2).await;
    let found = subject.dead_letters(2).await;
    let receipts = || found.iter().map(|dead| dead.receipt.clone());
    // A dead letter is known by its receipt alone.
    let named = receipts().map(|receipt| BuriedMessage::new(Bytes::new(), "", receipt));
    let passed_over = subject.queue.discard(named.collect()).await.expect("discard");
    assert!(passed_over.is_empty(), "both were there: {passed_over:?}");
    let again = subject.queue.discard(found.clone()).await.expect("discard again");
    let foreign = again.iter().find(|receipt| receipts().all(|known| known != **receipt));
    assert_eq!(foreign, None, "only those that were to be discarded are passed over");
    let long = subject.visibility_timeout() * 3 / 2;
    subject.assert_hidden_for(long, "they were discarded").await;
    subject.assert_no_dead_letters("they were discarded").await;
    subject.assert_depth(Depth::default()).await;
}
