//! Sending and receiving.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use super::Capabilities;
use super::subject::{Subject, bodies};
use crate::core::error::Error;
use crate::queue::{Delivery, Depth, Queues};

const SECOND: Duration = Duration::from_secs(1);

/// A message sent by one handle is received by another handle of the same name.
pub(super) async fn two_handles_are_one_queue(queues: Arc<dyn Queues>, capabilities: Capabilities) {
    let subject = Subject::new(&queues, capabilities).await;
    let other = queues.open(&subject.name, &subject.options).await;
    let sent = other.expect("open").send(vec!["message 0".into()]).await;
    sent.expect("send");
    subject
        .receive_one("sent through the other handle")
        .await;
}

/// Provisioning is idempotent, and many may do it at once: no message is lost by it.
pub(super) async fn provisioning_again_changes_nothing(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    subject.send(&bodies(1)).await;
    let again = (0..4).map(|_| queues.provision(&subject.name, &subject.options));
    for provisioned in join_all(again).await {
        provisioned.expect("provision");
    }
    subject.receive_one("sent before provisioning again").await;
}

/// The body is the same, the receive count is 1.
pub(super) async fn a_message_arrives_as_it_was_sent(queues: Arc<dyn Queues>, capabilities: Capabilities) {
    let subject = Subject::new(&queues, capabilities).await;
    let body = Bytes::from("{\"text\":\"größer <&> 🌊\\n\\u0000\"}");
    subject.send(std::slice::from_ref(&body)).await;
    let delivery = subject.receive_one("sent").await;
    assert_eq!(delivery.body, body);
    assert_eq!(delivery.receive_count, 1);
}

/// Every byte arrives, and so does an empty body. If bodies are text, control characters arrive.
pub(super) async fn a_body_may_be_any_bytes(queues: Arc<dyn Queues>, capabilities: Capabilities) {
    let subject = Subject::new(&queues, capabilities).await;
    let sent: Vec<Bytes> = if capabilities.binary_bodies {
        vec![(0..=u8::MAX).collect(), Bytes::new(), vec![0; 3].into()]
    } else {
        vec![Bytes::from("\t \r\n"), Bytes::from("\u{fffd}\u{10000}")]
    };
    subject.send(&sent).await;
    subject.drain(&sent, "any bytes").await;
}

/// A body of [`max_body`](crate::queue::Queue::max_body) bytes is taken, one of a byte more is
/// refused with [`Error::TooLarge`]. Without a limit, a megabyte arrives.
pub(super) async fn the_largest_body_arrives_and_a_larger_one_is_refused(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    let limit = subject.queue.max_body();
    let largest = Bytes::from(vec![b'x'; limit.unwrap_or(1024 * 1024)]);
    subject.send(std::slice::from_ref(&largest)).await;
    let delivery = subject.receive_one("as large as allowed").await;
    assert!(delivery.body == largest, "the body is the same");
    let Some(limit) = limit else { return };
    let refused = subject.queue.send(vec![vec![b'x'; limit + 1].into()]).await;
    match refused {
        Err(Error::TooLarge {
            size, limit: said, ..
        }) => assert_eq!((size, said), (limit + 1, limit)),
        other => panic!("one byte too many: {other:?}"),
    }
}

/// One call sends any number of messages, and all of them arrive.
pub(super) async fn a_thousand_messages_all_arrive(queues: Arc<dyn Queues>, capabilities: Capabilities) {
    let subject = Subject::new(&queues, capabilities).await;
    let sent = bodies(1_000);
    subject.send(&sent).await;
    subject.drain(&sent, "sent in one call").await;
}

/// A receive takes no more than asked for, and leaves the rest for others.
pub(super) async fn receive_takes_at_most_max(queues: Arc<dyn Queues>, capabilities: Capabilities) {
    let subject = Subject::new(&queues, capabilities).await;
    subject.send(&bodies(5)).await;
    let first = subject.receive(2, "the first receiver's").await;
    let others = subject.receive(3, "the others'").await;
    let mut received: Vec<_> = first.iter().chain(&others).map(|d| &d.body).collect();
    received.sort();
    received.dedup();
    assert_eq!(received.len(), 5, "each message was received once");
}

/// A receive on an empty queue lasts for its wait, and returns nothing.
pub(super) async fn an_empty_receive_returns_after_its_wait(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    let began = Instant::now();
    subject.assert_hidden_for(SECOND, "nothing was sent").await;
    let waited = began.elapsed();
    assert!(waited >= SECOND * 9 / 10, "returned after {waited:?}");
    assert!(waited <= SECOND + capabilities.patience, "{waited:?}");

    let began = Instant::now();
    subject
        .assert_hidden_for(Duration::ZERO, "nothing was sent")
        .await;
    let waited = began.elapsed();
    assert!(waited <= capabilities.patience, "no wait, but {waited:?}");
}

/// A receive that waits returns as soon as there is a message, not when its wait is over.
pub(super) async fn a_waiting_receive_returns_when_a_message_comes(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    let wait = capabilities.patience * 2;
    let began = Instant::now();
    let send = async {
        sleep(SECOND / 2).await;
        subject.send(&bodies(1)).await;
    };
    let (received, ()) = tokio::join!(subject.queue.receive(10, wait), send);
    assert_eq!(received.expect("receive").len(), 1);
    let waited = began.elapsed();
    assert!(waited < wait, "returned only after {waited:?}");
}

/// Receivers that wait side by side get all that is sent, and each message goes to one of them.
pub(super) async fn waiting_receivers_share_what_comes(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    let wait = capabilities.patience;
    let receivers = join_all((0..4).map(|_| subject.queue.receive(1, wait)));
    let send = async {
        sleep(SECOND / 10).await;
        subject.send(&bodies(4)).await;
    };
    let (received, ()) = tokio::join!(receivers, send);
    let received = received.into_iter().map(|some| some.expect("receive"));
    let mut received: Vec<_> = received.flatten().map(|delivery| delivery.body).collect();
    received.sort();
    assert_eq!(received, bodies(4));
}

/// However a receive is cancelled, what it may have taken becomes visible again.
pub(super) async fn a_cancelled_receive_loses_nothing(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    let sent = bodies(40);
    let mut delivered: Vec<Delivery> = Vec::new();
    let mut keep = |received: Option<crate::Result<Vec<Delivery>>>| {
        delivered.extend(received.into_iter().flat_map(|some| some.expect("receive")));
    };
    let (before, after) = sent.split_at(20);
    for (round, body) in before.chunks(1).enumerate() {
        // Dropped once begun, with the message there before or only after.
        let mut receive = subject.queue.receive(1, SECOND).fuse();
        if round % 2 == 0 {
            keep((&mut receive).now_or_never());
        }
        subject.send(body).await;
        if round % 4 < 2 {
            keep((&mut receive).now_or_never());
        }
        drop(receive);
    }
    for (round, body) in (0u32..).zip(after.chunks(1)) {
        // Dropped at some time on the way.
        let receive = subject.queue.receive(1, SECOND);
        let cancelled = timeout(SECOND * round / 400, receive);
        let (received, ()) = tokio::join!(cancelled, subject.send(body));
        keep(received.ok());
    }
    let delivered: Vec<Bytes> = delivered.into_iter().map(|d| d.body).collect();
    let missing = sent.into_iter().filter(|body| !delivered.contains(body));
    let missing: Vec<Bytes> = missing.collect();
    sleep(capabilities.visibility_timeout).await;
    let mut seen = Vec::new();
    let until = Instant::now() + capabilities.patience;
    while missing.iter().any(|body| !seen.contains(body)) {
        assert!(Instant::now() < until, "some were lost: of {missing:?}, {seen:?} came");
        let received = subject.queue.receive(10, SECOND).await.expect("receive");
        subject.acknowledge(&received).await;
        seen.extend(received.into_iter().map(|delivery| delivery.body));
    }
}

/// Every call that takes many takes none as well.
pub(super) async fn empty_batches_are_fine(queues: Arc<dyn Queues>, capabilities: Capabilities) {
    let subject = Subject::new(&queues, capabilities).await;
    let queue = &subject.queue;
    queue.send(Vec::new()).await.expect("send");
    queue.acknowledge(Vec::new()).await.expect("acknowledge");
    let stale = queue.extend(Vec::new(), SECOND).await.expect("extend");
    assert!(stale.is_empty());
    queue.redrive(Vec::new()).await.expect("redrive");
    queue.discard(Vec::new()).await.expect("discard");
    subject.assert_depth(Depth::default()).await;
    subject
        .assert_hidden_for(Duration::ZERO, "nothing was sent")
        .await;
}

/// A message is ready, in flight, delayed or dead. If the service only estimates, the call merely succeeds.
pub(super) async fn depth_counts_every_message_once(queues: Arc<dyn Queues>, capabilities: Capabilities) {
    let subject = Subject::new(&queues, capabilities).await;
    subject.assert_depth(Depth::default()).await;
    subject.send(&bodies(10)).await;
    let mut taken = subject.receive(6, "of ten").await;
    let buried = taken.remove(0);
    let buried = subject.queue.bury(buried, "to be counted").await;
    buried.expect("bury");
    for delivery in taken.drain(..2) {
        let delay = SECOND * 60;
        let released = subject.queue.release(vec![delivery.receipt], delay).await;
        released.expect("release");
    }
    let expected = Depth::new().ready(4).in_flight(3).delayed(2).dead(1);
    subject.assert_depth(expected).await;
    subject.acknowledge(&taken).await;
    subject.assert_depth(expected.in_flight(0)).await;
}

/// A program that sends before it consumes is never held up.
pub(super) async fn room_returns_while_nobody_consumes(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    for _ in 0..3 {
        subject.send(&bodies(1_000)).await;
        let room = timeout(capabilities.patience, subject.queue.room()).await;
        room.expect("room returns").expect("room");
    }
}
