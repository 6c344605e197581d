//! Burying: a message is sent to the dead letters before it is removed.

use super::*;

#[tokio::test(start_paused = true)]
async fn burying_hides_then_sends_then_removes() {
    let fake = start().await;
    let queue = open(&fake).await;
    queue.bury(delivery("a"), "it is no number").await.unwrap();
    let requests = fake.take();
    assert_eq!(
        operations(&requests),
        ["GetQueueUrl", HIDE, "SendMessage", DELETE]
    );
    let [_, hide, send, delete] = &requests[..] else {
        unreachable!()
    };
    assert_eq!(requests[0].text("QueueName"), "work-dead");
    assert_eq!(hide.text("QueueUrl"), "http://queues/work");
    assert_eq!(texts(hide), ["a"]);
    assert_eq!(hide.body["Entries"][0]["VisibilityTimeout"], 30);
    assert_eq!(send.text("QueueUrl"), "http://queues/work-dead");
    assert_eq!(send.text("MessageBody"), "bad");
    assert_eq!(
        send.body["MessageAttributes"],
        json!({"reason": {"DataType": "String", "StringValue": "it is no number"}})
    );
    assert_eq!(delete.text("QueueUrl"), "http://queues/work");
    assert_eq!(texts(delete), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_somebody_else_s_by_now_is_not_buried() {
    let fake = start().await;
    let queue = open(&fake).await;
    fake.next(HIDE, but(["a"], Fate::Refused("MessageNotInflight")));
    queue.bury(delivery("a"), "it is no number").await.unwrap();
    assert_eq!(operations(&fake.take()), ["GetQueueUrl", HIDE]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_buried_is_not_removed() {
    let fake = start().await;
    let queue = open(&fake).await;
    fake.replies("SendMessage", [denied()]);
    let buried = queue.bury(delivery("a"), "it is no number").await;
    let error = buried.unwrap_err();
    assert!(said(&error).contains("SendMessage on queue `work-dead`"));
    assert_eq!(
        operations(&fake.take()),
        ["GetQueueUrl", HIDE, "SendMessage"]
    );
}
