//! The redrive policy that a queue really has.

use super::*;

/// Receives a message for the first time, and then for the second.
async fn received_twice(fake: &Fake) -> Arc<dyn Queue> {
    let queue = open(fake).await;
    let once = |count| messages([message("m", "r", count)]);
    fake.replies(RECEIVE, [once(1), once(2), once(3)]);
    queue.receive(1, Duration::ZERO).await.unwrap();
    assert_eq!(operations(&fake.take()), [RECEIVE]);
    assert_eq!(queue.most_receives(), Some(1_000));
    queue.receive(1, Duration::ZERO).await.unwrap();
    fake.arrival("GetQueueAttributes").await;
    queue
}

async fn becomes(queue: &Arc<dyn Queue>, most: u32) {
    while queue.most_receives() != Some(most) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_s_own_policy_is_read_once_when_a_message_comes_back() {
    for (policy, most) in [
        (r#"{"maxReceiveCount":"3","deadLetterTargetArn":"arn"}"#, 3),
        (r#"{"maxReceiveCount":50}"#, 50),
    ] {
        let fake = start().await;
        fake.always("GetQueueAttributes", move |_| {
            Reply::ok(json!({"Attributes": {"RedrivePolicy": policy}}))
        });
        let queue = received_twice(&fake).await;
        becomes(&queue, most).await;
        queue.receive(1, Duration::ZERO).await.unwrap();
        let requests = fake.take();
        let read = requests
            .iter()
            .filter(|it| it.operation == "GetQueueAttributes");
        let names: Vec<&Value> = read.map(|it| &it.body["AttributeNames"]).collect();
        assert_eq!(names, [&json!(["RedrivePolicy"])]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_without_a_policy_moves_nothing_away() {
    let fake = start().await;
    let queue = received_twice(&fake).await;
    becomes(&queue, u32::MAX).await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_may_not_be_read_is_taken_for_the_provisioned_one() {
    let fake = start().await;
    fake.always("GetQueueAttributes", |_| denied());
    let queue = received_twice(&fake).await;
    queue.receive(1, Duration::ZERO).await.unwrap();
    tokio::time::sleep(MINUTE).await;
    assert_eq!(queue.most_receives(), Some(1_000));
    let asked = fake.take();
    let asked = operations(&asked).into_iter();
    assert_eq!(asked.filter(|it| *it == "GetQueueAttributes").count(), 1);
}
