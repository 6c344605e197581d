//! Sending: what is sent again, and how messages are grouped into requests.

use super::*;

#[tokio::test(start_paused = true)]
async fn only_the_messages_that_failed_are_sent_again() {
    let fake = start().await;
    let queue = open(&fake).await;
    // Throttling is reported as the sender's fault, and is transient.
    for fate in [
        Fate::Failed("InternalError"),
        Fate::Refused("RequestThrottled"),
    ] {
        fake.next(SEND, but(["c", "f", "j"], fate));
        let all = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        queue.send(bodies(all)).await.unwrap();
        assert_eq!(
            batches(&fake.take()),
            [(SEND, strings(all)), (SEND, strings(["c", "f", "j"]))]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_refused_for_good_is_an_error_and_the_others_are_sent() {
    let fake = start().await;
    let queue = open(&fake).await;
    fake.next(SEND, |request| {
        batch(request, |text| match text {
            "bad" => Fate::Refused("InvalidMessageContents"),
            "slow" => Fate::Failed("InternalError"),
            _ => Fate::Done,
        })
    });
    let error = queue.send(bodies(["good", "bad", "slow"])).await;
    let error = error.unwrap_err();
    assert!(!error.is_retryable());
    assert_eq!(
        said(&error),
        "SQS: SendMessageBatch on queue `work` failed: InvalidMessageContents: no"
    );
    assert_eq!(
        batches(&fake.take()),
        [
            (SEND, strings(["good", "bad", "slow"])),
            (SEND, strings(["slow"]))
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_that_the_answer_does_not_mention_is_sent_again() {
    let fake = start().await;
    let queue = open(&fake).await;
    fake.next(SEND, but(["b"], Fate::Unmentioned));
    queue.send(bodies(["a", "b", "c"])).await.unwrap();
    assert_eq!(
        batches(&fake.take()),
        [(SEND, strings(["a", "b", "c"])), (SEND, strings(["b"]))]
    );
}

#[tokio::test(start_paused = true)]
async fn messages_that_fail_again_and_again_are_an_error_that_may_pass() {
    let fake = start().await;
    let queue = open(&fake).await;
    fake.always(SEND, but(["b"], Fate::Failed("InternalError")));
    let error = queue.send(bodies(["a", "b"])).await.unwrap_err();
    assert!(error.is_retryable());
    assert!(said(&error).contains("1 messages failed 5 times: InternalError"));
    let requests = fake.take();
    let (first, rest) = requests.split_first().unwrap();
    assert_eq!(texts(first), ["a", "b"]);
    assert_eq!(batches(rest), vec![(SEND, strings(["b"])); 4]);
}

/// A value in JSON is text that the service takes, whatever characters it has.
#[tokio::test(start_paused = true)]
async fn json_is_sent_as_it_is() {
    let fake = start().await;
    let queue = open(&fake).await;
    let value = [
        "\0\u{1b}\u{7f}",
        "\u{fffe}\u{ffff}",
        "größer \u{1f30a}\u{1ffff}",
    ]
    .map(str::to_owned);
    let body = written(Codec::Json, &value).unwrap();
    let message = [b"{\"packetValue\":".as_slice(), &body, b"}"].concat();
    let more = queue.sent_size(&message.clone().into(), 7);
    assert_eq!(more, message.len() + 7);
    queue
        .send(vec![Outgoing::new(message.clone())])
        .await
        .unwrap();
    let requests = fake.take();
    assert_eq!(texts(&requests[0]), [String::from_utf8(message).unwrap()]);
}

#[tokio::test(start_paused = true)]
async fn small_messages_go_by_ten() {
    let fake = start().await;
    let queue = open(&fake).await;
    let names: Vec<String> = (0..25).map(|n| format!("{n:02}")).collect();
    let bodies = names.iter().cloned().map(Outgoing::new);
    queue.send(bodies.collect()).await.unwrap();
    let requests = fake.take();
    // They are under way concurrently, and may arrive in any order.
    let mut sent: Vec<Vec<String>> = requests.iter().map(texts).collect();
    sent.sort();
    assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5]);
    assert_eq!(sent.concat(), names);
    assert_eq!(operations(&requests), [SEND; 3]);
}

#[tokio::test(start_paused = true)]
async fn large_messages_go_by_the_size_of_a_request() {
    let fake = start().await;
    let usual = SqsQueues::new(&fake.config());
    let small = usual.clone().max_payload(256 * KIB);
    for (queues, size, wanted) in [
        (usual, 300 * KIB, ["abc", "def", "g"].as_slice()),
        (small, 128 * KIB, ["ab", "cd", "ef", "g"].as_slice()),
    ] {
        let queue = queues.open("work", &QueueOptions::default()).await.unwrap();
        fake.take();
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        let large = names.map(|name| Outgoing::new(name.repeat(size)));
        queue.send(large.to_vec()).await.unwrap();
        let mut sent: Vec<String> = Vec::new();
        for request in fake.take() {
            let texts = texts(&request);
            assert!(texts.iter().all(|text| text.len() == size));
            sent.push(texts.iter().map(|text| &text[..1]).collect());
        }
        sent.sort();
        assert_eq!(sent, wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_beyond_the_limit_is_refused_before_anything_is_sent() {
    let fake = start().await;
    let queues = SqsQueues::new(&fake.config()).max_payload(256 * KIB);
    let queue = queues.open("work", &QueueOptions::default()).await.unwrap();
    assert_eq!(queue.max_body(), Some(256 * KIB));
    fake.take();
    let large = Outgoing::new("x".repeat(300 * KIB));
    let error = queue.send(vec!["small".into(), large]).await.unwrap_err();
    assert!(!error.is_retryable());
    let Error::TooLarge {
        what, size, limit, ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(what, "a message for SQS queue `work`");
    assert_eq!((size, limit), (300 * KIB, 256 * KIB));
    assert!(fake.take().is_empty());
}
