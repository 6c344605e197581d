//! Attributes beside a message's body.

use std::sync::Arc;

use tokio::time::sleep;

use super::Capabilities;
use super::subject::Subject;
use crate::core::error::Error;
use crate::queue::{Attributes, Delivery, Outgoing, Queues};

/// Two attributes that any service takes.
fn traced() -> Outgoing {
    Outgoing::new("traced")
        .attribute("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .attribute("tenant", "größer <&> 🌊")
}

/// Whether it is the message that [`traced`] made.
fn assert_traced(delivery: &Delivery) {
    let sent = traced();
    assert_eq!(delivery.body, sent.body);
    assert_eq!(delivery.attributes, sent.attributes, "its attributes");
}

/// Names and values may be any text, an empty one included, and there may be dozens. A message
/// without attributes arrives without.
pub(super) async fn attributes_arrive_as_they_were_sent(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    let many: Attributes = (0..40).map(|n| (format!("name-{n}"), n.to_string())).collect();
    let sent = [
        Outgoing::new("without"),
        traced(),
        Outgoing::new("many").attributes(many),
        Outgoing::new("any text")
            .attribute("", "an empty name")
            .attribute("an empty value", "")
            .attribute("AWS.größe 🌊\n", "\0\u{1b}\"\\\u{ffff}"),
        Outgoing::new("a reason").attribute("reason", "of its own"),
    ];
    subject.queue.send(sent.to_vec()).await.expect("send");
    let received = subject.receive(sent.len(), "sent").await;
    for sent in &sent {
        let mut same = received.iter().filter(|delivery| delivery.body == sent.body);
        let same = same.next().expect("each arrives");
        assert_eq!(same.attributes, sent.attributes, "of {:?}", sent.body);
    }
}

/// A message that comes back has its attributes again, and the id and the time of sending that the
/// service told before, if it tells them.
pub(super) async fn attributes_survive_a_redelivery(queues: Arc<dyn Queues>, capabilities: Capabilities) {
    let subject = Subject::new(&queues, capabilities).await;
    subject.queue.send(vec![traced()]).await.expect("send");
    let first = subject.receive_one("sent").await;
    assert_traced(&first);
    sleep(subject.visibility_timeout()).await;
    let again = subject.receive_one("its visibility timeout is over").await;
    assert_traced(&again);
    assert_eq!(again.message_id, first.message_id, "one message, one id");
    assert_eq!(again.sent_at, first.sent_at, "it was sent once");
}

/// A buried message keeps its attributes beside the reason, and is redriven with them.
pub(super) async fn a_buried_message_keeps_its_attributes(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    let own = traced().attribute("reason", "of its own");
    subject.queue.send(vec![own.clone()]).await.expect("send");
    let delivery = subject.receive_one("sent").await;
    let buried = subject.queue.bury(delivery, "no tenant").await;
    buried.expect("bury");
    let found = subject.dead_letters(1).await;
    assert_eq!(found[0].attributes, own.attributes, "in the dead-letter queue");
    assert_eq!(found[0].reason, "no tenant");
    subject.queue.redrive(found).await.expect("redrive");
    let again = subject.receive_one("redriven").await;
    assert_eq!(again.body, own.body);
    assert_eq!(again.attributes, own.attributes, "redriven");
}

/// Attributes count towards [`max_body`](crate::queue::Queue::max_body): a body that leaves no
/// room for them is refused with [`Error::TooLarge`].
pub(super) async fn attributes_count_towards_the_limit(
    queues: Arc<dyn Queues>,
    capabilities: Capabilities,
) {
    let subject = Subject::new(&queues, capabilities).await;
    let Some(limit) = subject.queue.max_body() else {
        return;
    };
    let full = Outgoing::new(vec![b'x'; limit]).attribute("tenant", "9");
    match subject.queue.send(vec![full]).await {
        Err(Error::TooLarge {
            size, limit: said, ..
        }) => assert!(size > said && said == limit, "{size} of {said}"),
        other => panic!("no room for its attribute: {other:?}"),
    }
}
