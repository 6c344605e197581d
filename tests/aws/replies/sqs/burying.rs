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
    assert_eq!(requests[0].text("QueueName"), "work--dead");
    assert_eq!(hide.text("QueueUrl"), "http://queues/work");
    assert_eq!(texts(hide), ["a"]);
    assert_eq!(hide.body["Entries"][0]["VisibilityTimeout"], 30);
    assert_eq!(send.text("QueueUrl"), "http://queues/work--dead");
    assert_eq!(send.text("MessageBody"), "bad");
    assert_eq!(
        send.body["MessageAttributes"],
        json!({"reason": {"DataType": "String", "StringValue": "it is no number"}})
    );
    assert_eq!(delete.text("QueueUrl"), "http://queues/work");
    assert_eq!(texts(delete), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn attributes_are_message_attributes_and_count_towards_the_request() {
    let fake = start().await;
    let queues = SqsQueues::new(&fake.config()).max_payload(256 * KIB);
    let queue = queues.open("work", &QueueOptions::default()).await.unwrap();
    fake.take();
    let attribute = |value: String| Outgoing::new("a").attribute("k", value);
    let large = attribute("v".repeat(200 * KIB));
    let sent = vec![attribute("v".into()), large.clone(), large];
    queue.send(sent).await.unwrap();
    let requests = fake.take();
    assert_eq!(operations(&requests), [SEND; 2], "two do not fit together");
    let mut sizes: Vec<usize> = requests.iter().map(|it| texts(it).len()).collect();
    sizes.sort();
    assert_eq!(sizes, [1, 2]);
    let full = requests.iter().find(|it| texts(it).len() == 2).unwrap();
    assert_eq!(
        full.body["Entries"][0]["MessageAttributes"],
        json!({"k": {"DataType": "String", "StringValue": "v"}})
    );
    // One byte of body, one of the name, six of the type.
    let error = queue.send(vec![attribute("v".repeat(256 * KIB - 7))]).await;
    let Err(Error::TooLarge { size, limit, .. }) = error else {
        panic!("{error:?}");
    };
    assert_eq!((size, limit), (256 * KIB + 1, 256 * KIB));
    let fits = attribute("v".repeat(256 * KIB - 8));
    queue.send(vec![fits]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_without_attributes_is_sent_without_the_field() {
    let fake = start().await;
    let queue = open(&fake).await;
    fake.take();
    queue.send(bodies(["a"])).await.unwrap();
    let entry = &fake.take()[0].body["Entries"][0];
    assert_eq!(entry, &json!({"Id": "0", "MessageBody": "a"}));
}

#[tokio::test(start_paused = true)]
async fn what_the_service_tells_of_a_message_is_received() {
    let fake = start().await;
    let queue = open(&fake).await;
    fake.take();
    let mut told = message("m", "r", 1);
    told["Attributes"]["SentTimestamp"] = json!("1700000000123");
    told["MessageAttributes"] = json!({
        "tenant": {"DataType": "String", "StringValue": "9"},
        "catchment.attributes": {"DataType": "String", "StringValue": "{\"a b\":\"\"}"},
        "reason": {"DataType": "String", "StringValue": "it was redriven by hand"},
    });
    fake.replies(RECEIVE, [messages([told])]);
    let received = queue.receive(5, Duration::ZERO).await.unwrap();
    let sent_at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    let expected = Delivery::new("body of m", receipt("r"), 1)
        .attributes([("tenant", "9"), ("a b", "")].into_iter().collect())
        .message_id("m")
        .sent_at(sent_at);
    assert_eq!(received, [expected]);
    assert_eq!(fake.take()[0].body["MessageAttributeNames"], json!(["All"]));
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_has_room_for_its_reason_beside_ten_attributes() {
    let fake = start().await;
    let queue = open(&fake).await;
    let ten = (0..10).map(|n| (format!("a{n}"), "x"));
    let full = delivery("a").attributes(ten.collect());
    queue.bury(full, "it is no number").await.unwrap();
    let requests = fake.take();
    let send = requests.iter().find(|it| it.operation == "SendMessage");
    let sent = send.unwrap().body["MessageAttributes"].as_object().unwrap();
    let names: Vec<&String> = sent.keys().collect();
    assert_eq!(names, ["catchment.attributes", "reason"]);
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
    assert!(said(&error).contains("SendMessage on queue `work--dead`"));
    assert_eq!(
        operations(&fake.take()),
        ["GetQueueUrl", HIDE, "SendMessage"]
    );
}
