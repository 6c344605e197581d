//! Throttling, lost connections and refusals.

use super::*;

fn throttled() -> Reply {
    refused(400, "RequestThrottled", "RequestThrottled")
}

#[tokio::test(start_paused = true)]
async fn throttling_that_passes_is_waited_out() {
    let fake = start().await;
    let queue = open(&fake).await;
    for reply in [
        throttled(),
        Reply::refused(400, "com.amazon.coral.availability#ThrottlingException", ""),
        Reply::bare(503),
    ] {
        fake.replies(SEND, [reply]);
        queue.send(bodies(["a"])).await.unwrap();
        assert_eq!(batches(&fake.take()), vec![(SEND, strings(["a"])); 2]);
    }
    fake.replies(RECEIVE, [throttled(), Reply::bare(503)]);
    fake.replies(RECEIVE, [messages([message("m", "r", 1)])]);
    let received = queue.receive(10, Duration::ZERO).await.unwrap();
    assert_eq!(received.len(), 1);
    assert_eq!(operations(&fake.take()), [RECEIVE; 3]);
}

#[tokio::test(start_paused = true)]
async fn throttling_that_goes_on_is_an_error_that_may_pass() {
    for reply in [throttled, || Reply::bare(503)] {
        let fake = start().await;
        let queue = open(&fake).await;
        fake.always(SEND, move |_| reply());
        fake.always(RECEIVE, move |_| reply());
        let error = queue.send(bodies(["a"])).await.unwrap_err();
        assert!(error.is_retryable(), "{}", said(&error));
        // Five rounds, each of which the client tries three times.
        assert_eq!(batches(&fake.take()), vec![(SEND, strings(["a"])); 15]);
        let error = queue.receive(10, Duration::ZERO).await.unwrap_err();
        assert!(error.is_retryable(), "{}", said(&error));
        assert_eq!(operations(&fake.take()), [RECEIVE; 3]);
    }
}

#[tokio::test(start_paused = true)]
async fn throttling_of_one_request_does_not_repeat_the_others() {
    let fake = start().await;
    let queue = open(&fake).await;
    // More often than the client itself tries.
    let mut refusals = 4;
    fake.always(SEND, move |request| {
        if texts(request).contains(&"00".to_owned()) && refusals > 0 {
            refusals -= 1;
            return throttled();
        }
        batch(request, |_| Fate::Done)
    });
    let names: Vec<String> = (0..25).map(|n| format!("{n:02}")).collect();
    let bodies = names.iter().cloned().map(Outgoing::new);
    queue.send(bodies.collect()).await.unwrap();
    let requests = fake.take();
    let mut sent: Vec<Vec<String>> = requests.iter().map(texts).collect();
    sent.sort();
    let [first, second, third] = [&names[..10], &names[10..20], &names[20..]];
    assert_eq!(sent, [first, first, first, first, first, second, third]);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_missing_is_named_with_what_to_do() {
    let fake = start().await;
    let queues = SqsQueues::new(&fake.config());
    let plain = Reply::refused(400, "com.amazonaws.sqs#QueueDoesNotExist", "no");
    for reply in [missing(), plain] {
        fake.replies("GetQueueUrl", [reply]);
        let opened = queues.open("work", &QueueOptions::default()).await;
        let error = opened.err().unwrap();
        assert!(matches!(error, Error::NotProvisioned { .. }), "{error:?}");
        assert!(!error.is_retryable());
        let text = said(&error);
        for part in ["`work`", fake.region(), &fake.endpoint(), "provision"] {
            assert!(text.contains(part), "{text}");
        }
        let requests = fake.take();
        assert_eq!(operations(&requests), ["GetQueueUrl"]);
        assert_eq!(requests[0].text("QueueName"), "work");
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_removed_while_it_is_used_is_named_with_what_to_do() {
    let fake = start().await;
    let queue = open(&fake).await;
    fake.replies(SEND, [missing()]);
    fake.replies(RECEIVE, [missing()]);
    let sent = queue.send(bodies(["a"])).await.unwrap_err();
    let received = queue.receive(10, Duration::ZERO).await.unwrap_err();
    for error in [sent, received] {
        assert!(matches!(error, Error::NotProvisioned { .. }), "{error:?}");
        assert!(error.to_string().contains("`work`"), "{error}");
    }
    assert_eq!(operations(&fake.take()), [SEND, RECEIVE]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_allowed_is_named_and_not_tried_again() {
    let fake = start().await;
    let queue = open(&fake).await;
    for operation in [SEND, DELETE, HIDE, RECEIVE] {
        fake.replies(operation, [denied()]);
        let outcome = match operation {
            SEND => queue.send(bodies(["a"])).await,
            DELETE => queue.acknowledge(receipts(["a"])).await,
            HIDE => queue.release(vec![receipt("a")], MINUTE).await,
            _ => queue.receive(1, Duration::ZERO).await.map(drop),
        };
        let error = outcome.unwrap_err();
        assert!(!error.is_retryable());
        assert_eq!(
            said(&error),
            format!(
                "SQS: {operation} on queue `work` failed: AccessDenied: you are not allowed to do this"
            )
        );
        assert_eq!(operations(&fake.take()), [operation]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_made_anew() {
    let fake = start().await;
    let queue = open(&fake).await;
    for reply in [Reply::Closed, Reply::CutOff] {
        let what = format!("{reply:?}");
        fake.replies(SEND, [reply]);
        queue.send(bodies(["a"])).await.unwrap();
        let requests = fake.take();
        assert_eq!(
            batches(&requests),
            vec![(SEND, strings(["a"])); 2],
            "{what}"
        );
    }
}

/// The outcome of a connection that is lost in this way every time.
async fn lost_again_and_again(reply: fn() -> Reply) {
    let fake = start().await;
    let queue = open(&fake).await;
    fake.always(SEND, move |_| reply());
    fake.always(RECEIVE, move |_| reply());
    let error = queue.receive(10, Duration::ZERO).await.unwrap_err();
    assert!(error.is_retryable(), "{}", said(&error));
    assert!(said(&error).contains("ReceiveMessage on queue `work`"));
    // The client tries three times, and does so in each of five rounds of a batch.
    assert_eq!(operations(&fake.take()), [RECEIVE; 3]);
    let error = queue.send(bodies(["a"])).await.unwrap_err();
    assert!(error.is_retryable(), "{}", said(&error));
    assert_eq!(batches(&fake.take()), vec![(SEND, strings(["a"])); 15]);
}

#[tokio::test(start_paused = true)]
async fn connections_that_are_closed_again_and_again_are_an_error_that_may_pass() {
    lost_again_and_again(|| Reply::Closed).await;
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_cut_off_again_and_again_are_an_error_that_may_pass() {
    lost_again_and_again(|| Reply::CutOff).await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_cannot_be_reached_is_an_error_that_may_pass() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let fake = start().await;
    let config = fake.config().into_builder().endpoint_url(endpoint).build();
    let queues = SqsQueues::new(&config);
    let opened = queues.open("work", &QueueOptions::default()).await;
    let error = opened.err().unwrap();
    assert!(error.is_retryable(), "{}", said(&error));
    assert!(said(&error).contains("GetQueueUrl on queue `work`"));
    assert_eq!(
        queues.requests().to_string(),
        "3 requests: SQS GetQueueUrl 3"
    );
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_counted() {
    let fake = start().await;
    let queues = SqsQueues::new(&fake.config());
    let queue = queues.open("work", &QueueOptions::default()).await.unwrap();
    fake.replies(SEND, [throttled(), Reply::Closed, Reply::bare(500)]);
    queue.send(bodies(["a"])).await.unwrap();
    queue.acknowledge(receipts(["a"])).await.unwrap();
    let counts = queues.requests().by_kind();
    let counts: Vec<(&str, u64)> = counts.iter().map(|(kind, n)| (&**kind, *n)).collect();
    assert_eq!(
        counts,
        [
            ("SQS DeleteMessageBatch", 1),
            ("SQS GetQueueUrl", 1),
            ("SQS SendMessageBatch", 4)
        ]
    );
    assert_eq!(fake.take().len(), 6);
}
