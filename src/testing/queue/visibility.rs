//! What becomes of a message that has been received.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Capabilities;
use super::subject::{Subject, bodies};
use crate::queue::Queues;

const SECOND: Duration = Duration::from_secs(1);

/// A message that is received and not acknowledged is hidden for the visibility timeout, and comes
/// back after it with its receive count raised and another receipt.
pub(super) async fn an_unacknowledged_message_comes_back(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    subject.send(&bodies(1)).await;
    let mut previous = subject.receive_one("sent").await;
    for count in 2..=3 {
        let half = subject.visibility_timeout() / 2;
        subject.assert_hidden_for(half, "it is in flight").await;
        sleep(half).await;
        let again = subject.receive_one("its visibility timeout is over").await;
        assert_eq!(again.body, previous.body);
        assert_eq!(again.receive_count, count, "receive count");
        assert_ne!(again.receipt, previous.receipt, "each delivery has its own");
        previous = again;
    }
}

/// Acknowledging removes a message, and doing it again is no error.
pub(super) async fn an_acknowledged_message_never_comes_back(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    subject.send(&bodies(3)).await;
    let deliveries = subject.receive(3, "sent").await;
    subject.acknowledge(&deliveries).await;
    subject.acknowledge(&deliveries).await;
    let long = subject.visibility_timeout() * 2;
    subject.assert_hidden_for(long, "all is acknowledged").await;
}

/// Acknowledging with the receipt of an earlier delivery does not remove the later one.
pub(super) async fn a_stale_acknowledgement_spares_the_later_delivery(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    subject.send(&bodies(1)).await;
    let stale = subject.receive_one("sent").await;
    sleep(subject.visibility_timeout()).await;
    let current = subject.receive_one("its visibility timeout is over").await;
    subject.acknowledge(&[stale]).await;
    if !capabilities.strict_receipts {
        return subject.acknowledge(&[current]).await;
    }
    sleep(subject.visibility_timeout()).await;
    let last = subject.receive_one("the acknowledgement was stale").await;
    assert_eq!(last.receive_count, current.receive_count + 1);
    subject.acknowledge(&[last]).await;
}

/// A heartbeat hides a message for as long as it says, counted from now.
pub(super) async fn extending_keeps_a_message_hidden(queues: Arc<dyn Queues>, capabilities: Capabilities) {
    let subject = Subject::new(&queues, capabilities).await;
    subject.send(&bodies(1)).await;
    let delivery = subject.receive_one("sent").await;
    let timeout = subject.visibility_timeout();
    for _ in 0..3 {
        let receipts = vec![delivery.receipt.clone()];
        let stale = subject.queue.extend(receipts, timeout).await;
        assert_eq!(stale.expect("extend"), [], "it is still ours");
        subject
            .assert_hidden_for(timeout * 3 / 4, "it was extended")
            .await;
    }
    sleep(timeout / 4).await;
    let again = subject.receive_one("its heartbeats have ended").await;
    assert_eq!(again.receive_count, 2, "extending is not receiving");
}

/// A heartbeat may also say less than what is left.
pub(super) async fn extending_by_less_shows_a_message_sooner(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    // A visibility timeout that cannot be what brings it back.
    let long = capabilities.patience * 20;
    let subject = Subject::new(&queues, capabilities.visibility_timeout(long)).await;
    subject.send(&bodies(1)).await;
    let delivery = subject.receive_one("sent").await;
    let began = Instant::now();
    for by in [long, SECOND] {
        let receipts = vec![delivery.receipt.clone()];
        let stale = subject.queue.extend(receipts, by).await;
        assert_eq!(stale.expect("extend"), [], "it is still ours");
    }
    subject.receive_one("the last extension is over").await;
    let waited = began.elapsed();
    assert!(waited <= capabilities.patience, "only after {waited:?}");
}

/// The receipts of messages that are gone or delivered again come back from a heartbeat, and no
/// others.
pub(super) async fn extending_reports_stale_receipts(queues: Arc<dyn Queues>, capabilities: Capabilities) {
    let subject = Subject::new(&queues, capabilities).await;
    subject.send(&bodies(1)).await;
    let first = subject.receive_one("sent").await;
    sleep(subject.visibility_timeout()).await;
    let second = subject.receive_one("its visibility timeout is over").await;
    subject.send(&bodies(2)[1..]).await;
    let done = subject.receive_one("sent").await;
    subject.acknowledge(std::slice::from_ref(&done)).await;

    let mut receipts = vec![done.receipt.clone(), second.receipt.clone()];
    let mut expected = vec![done.receipt];
    if capabilities.strict_receipts {
        receipts.push(first.receipt.clone());
        expected.push(first.receipt);
    }
    let timeout = subject.visibility_timeout();
    let stale = subject.queue.extend(receipts, timeout).await;
    let mut stale = stale.expect("extend");
    stale.sort();
    expected.sort();
    assert_eq!(stale, expected, "the stale receipts");
    subject
        .assert_hidden_for(timeout / 2, "its current receipt was extended")
        .await;
}

/// Released without a delay, a message comes back at once, counted as received.
pub(super) async fn a_released_message_is_visible_at_once(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    // A visibility timeout that cannot be what brings it back.
    let long = capabilities.patience * 20;
    let subject = Subject::new(&queues, capabilities.visibility_timeout(long)).await;
    subject.send(&bodies(1)).await;
    let began = Instant::now();
    for count in 1..=3 {
        let delivery = subject.receive_one("sent or released").await;
        assert_eq!(delivery.receive_count, count, "the receive count stays");
        let released = subject.queue.release(vec![delivery.receipt], Duration::ZERO);
        released.await.expect("release");
    }
    let waited = began.elapsed();
    assert!(waited <= capabilities.patience, "only after {waited:?}");
}

/// Released with a delay, it comes back after that.
pub(super) async fn a_released_message_is_visible_after_its_delay(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    subject.send(&bodies(1)).await;
    let delivery = subject.receive_one("sent").await;
    let delay = subject.visibility_timeout() * 2;
    let released = subject.queue.release(vec![delivery.receipt], delay).await;
    released.expect("release");
    subject
        .assert_hidden_for(delay * 3 / 4, "its delay is not over")
        .await;
    sleep(delay / 4).await;
    let again = subject.receive_one("its delay is over").await;
    assert_eq!(again.receive_count, 2);
}

/// Releasing does not bring back what was acknowledged, nor free a message that another receiver holds.
pub(super) async fn releasing_with_a_stale_receipt_changes_nothing(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    subject.send(&bodies(1)).await;
    let first = subject.receive_one("sent").await;
    sleep(subject.visibility_timeout()).await;
    let second = subject.receive_one("its visibility timeout is over").await;
    if capabilities.strict_receipts {
        let released = subject.queue.release(vec![first.receipt], Duration::ZERO).await;
        released.expect("release");
        let half = subject.visibility_timeout() / 2;
        subject
            .assert_hidden_for(half, "somebody else holds it")
            .await;
    }
    subject.acknowledge(std::slice::from_ref(&second)).await;
    let released = subject.queue.release(vec![second.receipt], Duration::ZERO).await;
    released.expect("release");
    subject
        .assert_hidden_for(SECOND, "it was acknowledged")
        .await;
}
