//! What the backends make of answers that emulators do not give: half of a batch failed, throttling, lost
//! connections, races. Each test says what comes of it, and which requests were made.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::{Value, json};

use crate::fake::{Fake, Reply, Request, operations, said};

mod sqs {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Wake, Waker};
    use std::time::Duration;

    use bytes::Bytes;
    use catchment::backends::sqs::SqsQueues;
    use catchment::queue::{Delivery, Queue, QueueOptions, Queues, Receipt};
    use catchment::{Action, Error};

    use super::*;

    const SEND: &str = "SendMessageBatch";
    const DELETE: &str = "DeleteMessageBatch";
    const HIDE: &str = "ChangeMessageVisibilityBatch";
    const RECEIVE: &str = "ReceiveMessage";
    const KIB: usize = 1024;
    const MINUTE: Duration = Duration::from_secs(60);

    /// A service where all goes well.
    async fn start() -> Fake {
        Fake::start(|request| match request.operation.as_str() {
            "GetQueueUrl" => url(request.text("QueueName")),
            SEND | DELETE | HIDE => batch(request, |_| Fate::Done),
            "SendMessage" => Reply::ok(json!({"MessageId": "sent"})),
            _ => Reply::ok(json!({})),
        })
        .await
    }

    fn url(queue: &str) -> Reply {
        Reply::ok(json!({"QueueUrl": format!("http://queues/{queue}")}))
    }

    /// The queue `work`, whose opening is not counted.
    async fn open(fake: &Fake) -> Arc<dyn Queue> {
        let queues = SqsQueues::new(&fake.config());
        let queue = queues.open("work", &QueueOptions::default()).await.unwrap();
        assert_eq!(operations(&fake.take()), ["GetQueueUrl"]);
        queue
    }

    /// What becomes of an entry of a batch.
    #[derive(Clone, Copy)]
    enum Fate {
        Done,
        /// With this code, by a fault of the service.
        Failed(&'static str),
        /// With this code, by a fault of the sender.
        Refused(&'static str),
        Unmentioned,
    }

    /// The answer to a batch. The service leaves out lists that are empty.
    fn batch(request: &Request, fate: impl Fn(&str) -> Fate) -> Reply {
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        for entry in request.body["Entries"].as_array().unwrap() {
            let failure = |code: &str, fault: bool| json!({"Id": entry["Id"], "Code": code, "Message": "no", "SenderFault": fault});
            match fate(&text(entry)) {
                Fate::Done => done.push(json!({"Id": entry["Id"], "MessageId": "sent"})),
                Fate::Failed(code) => failed.push(failure(code, false)),
                Fate::Refused(code) => failed.push(failure(code, true)),
                Fate::Unmentioned => {}
            }
        }
        let mut answer = json!({});
        if !done.is_empty() {
            answer["Successful"] = json!(done);
        }
        if !failed.is_empty() {
            answer["Failed"] = json!(failed);
        }
        Reply::ok(answer)
    }

    /// An answer in which these entries have this fate, and the others are done.
    fn but<const N: usize>(
        texts: [&'static str; N],
        fate: Fate,
    ) -> impl Fn(&Request) -> Reply + Send + 'static {
        move |request| {
            batch(request, |text| match texts.contains(&text) {
                true => fate,
                false => Fate::Done,
            })
        }
    }

    /// What an entry is about: a body or a receipt.
    fn text(entry: &Value) -> String {
        let text = entry.get("MessageBody").or(entry.get("ReceiptHandle"));
        text.and_then(Value::as_str).unwrap().to_owned()
    }

    fn texts(request: &Request) -> Vec<String> {
        let entries = request.body["Entries"].as_array().unwrap();
        entries.iter().map(text).collect()
    }

    /// The operations, and what the entries of each request are about.
    fn batches(requests: &[Request]) -> Vec<(&str, Vec<String>)> {
        let requests = requests.iter();
        requests
            .map(|it| (it.operation.as_str(), texts(it)))
            .collect()
    }

    fn bodies<const N: usize>(texts: [&'static str; N]) -> Vec<Bytes> {
        texts.map(Bytes::from).into()
    }

    fn receipt(text: &str) -> Receipt {
        Receipt::Text(text.into())
    }

    fn receipts<const N: usize>(texts: [&str; N]) -> Vec<Receipt> {
        texts.map(receipt).into()
    }

    fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
        texts.map(str::to_owned).into()
    }

    /// A refusal as the service words it: with the code of its older protocol in a header.
    fn refused(status: u16, kind: &str, code: &str) -> Reply {
        Reply::refused(status, &format!("com.amazonaws.sqs#{kind}"), "no")
            .header("x-amzn-query-error", format!("{code};Sender"))
    }

    fn throttled() -> Reply {
        refused(400, "RequestThrottled", "RequestThrottled")
    }

    fn missing() -> Reply {
        refused(
            400,
            "QueueDoesNotExist",
            "AWS.SimpleQueueService.NonExistentQueue",
        )
    }

    fn denied() -> Reply {
        let kind = "com.amazon.coral.service#AccessDeniedException";
        Reply::refused(403, kind, "you are not allowed to do this")
            .header("x-amzn-query-error", "AccessDenied;Sender")
    }

    fn message(id: &str, receipt: &str, count: u32) -> Value {
        json!({
            "MessageId": id,
            "ReceiptHandle": receipt,
            "Body": format!("body of {id}"),
            "Attributes": {"ApproximateReceiveCount": count.to_string()},
        })
    }

    fn messages<const N: usize>(messages: [Value; N]) -> Reply {
        Reply::ok(json!({"Messages": messages.to_vec()}))
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_messages_that_failed_are_sent_again() {
        let fake = start().await;
        let queue = open(&fake).await;
        // Too many requests are the sender's fault, and pass.
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

    #[tokio::test(start_paused = true)]
    async fn small_messages_go_by_ten() {
        let fake = start().await;
        let queue = open(&fake).await;
        let names: Vec<String> = (0..25).map(|n| format!("{n:02}")).collect();
        let bodies = names.iter().cloned().map(Bytes::from);
        queue.send(bodies.collect()).await.unwrap();
        let requests = fake.take();
        // They are under way at once, and may come in any order.
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
            let large = names.map(|name| Bytes::from(name.repeat(size)));
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
        let large = Bytes::from("x".repeat(300 * KIB));
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

    #[tokio::test(start_paused = true)]
    async fn a_receipt_is_once_in_a_request_however_often_it_is_given() {
        let fake = start().await;
        let queue = open(&fake).await;
        queue.acknowledge(receipts(["a", "b", "a"])).await.unwrap();
        let twice = receipts(["b", "a", "b"]);
        let stale = queue.extend(twice, MINUTE).await.unwrap();
        assert_eq!(stale, []);
        assert_eq!(
            batches(&fake.take()),
            [(DELETE, strings(["a", "b"])), (HIDE, strings(["b", "a"]))]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn acknowledging_with_a_stale_receipt_is_no_error() {
        let fake = start().await;
        let queue = open(&fake).await;
        for code in ["ReceiptHandleIsInvalid", "InvalidParameterValue"] {
            fake.next(DELETE, but(["b"], Fate::Refused(code)));
            queue.acknowledge(receipts(["a", "b"])).await.unwrap();
            assert_eq!(batches(&fake.take()), [(DELETE, strings(["a", "b"]))]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_acknowledgement_that_failed_is_repeated() {
        let fake = start().await;
        let queue = open(&fake).await;
        fake.next(DELETE, but(["b"], Fate::Failed("InternalError")));
        queue.acknowledge(receipts(["a", "b", "c"])).await.unwrap();
        assert_eq!(
            batches(&fake.take()),
            [(DELETE, strings(["a", "b", "c"])), (DELETE, strings(["b"]))]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn extending_returns_exactly_the_receipts_that_are_stale() {
        let fake = start().await;
        let queue = open(&fake).await;
        // In the words of each of the service's protocols, and of a message that was acknowledged.
        for code in [
            "MessageNotInflight",
            "AWS.SimpleQueueService.MessageNotInflight",
            "ReceiptHandleIsInvalid",
            "InvalidParameterValue",
        ] {
            fake.next(HIDE, but(["b"], Fate::Refused(code)));
            let stale = queue.extend(receipts(["a", "b", "c"]), MINUTE).await;
            assert_eq!(stale.unwrap(), receipts(["b"]), "{code}");
            let requests = fake.take();
            assert_eq!(batches(&requests), [(HIDE, strings(["a", "b", "c"]))]);
            for entry in requests[0].body["Entries"].as_array().unwrap() {
                assert_eq!(entry["VisibilityTimeout"], 60);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_heartbeat_that_failed_is_repeated() {
        let fake = start().await;
        let queue = open(&fake).await;
        fake.next(HIDE, |request| {
            batch(request, |text| match text {
                "stale" => Fate::Refused("MessageNotInflight"),
                "slow" => Fate::Failed("InternalError"),
                _ => Fate::Done,
            })
        });
        let all = ["a", "stale", "slow"];
        let stale = queue.extend(receipts(all), MINUTE).await.unwrap();
        assert_eq!(stale, receipts(["stale"]));
        assert_eq!(
            batches(&fake.take()),
            [(HIDE, strings(all)), (HIDE, strings(["slow"]))]
        );
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
        let bodies = names.iter().cloned().map(Bytes::from);
        queue.send(bodies.collect()).await.unwrap();
        let requests = fake.take();
        let mut sent: Vec<Vec<String>> = requests.iter().map(texts).collect();
        sent.sort();
        let [first, second, third] = [&names[..10], &names[10..20], &names[20..]];
        assert_eq!(sent, [first, first, first, first, first, second, third]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_delivered_twice_comes_with_each_delivery_s_receipt_and_count() {
        let fake = start().await;
        let queue = open(&fake).await;
        let twice = [message("m", "first", 1), message("m", "second", 2)];
        fake.replies(RECEIVE, [messages(twice)]);
        let received = queue.receive(5, Duration::ZERO).await.unwrap();
        let delivery = |text, receive_count| Delivery {
            body: Bytes::from_static(b"body of m"),
            receipt: receipt(text),
            receive_count,
        };
        assert_eq!(received, [delivery("first", 1), delivery("second", 2)]);
        let requests = fake.take();
        assert_eq!(operations(&requests), [RECEIVE]);
        let asked = &requests[0].body;
        assert_eq!(asked["MaxNumberOfMessages"], 5);
        assert_eq!(asked["VisibilityTimeout"], 30);
        assert_eq!(
            asked["MessageSystemAttributeNames"],
            json!(["ApproximateReceiveCount"])
        );
    }

    #[tokio::test(start_paused = true)]
    async fn messages_for_one_who_has_gone_during_the_poll_are_handed_back() {
        let fake = start().await;
        let queue = open(&fake).await;
        let (give, poll) = Reply::held();
        fake.replies(RECEIVE, [poll]);
        fake.always(RECEIVE, |_| Reply::Closed);
        {
            let mut receive = pin!(queue.receive(10, MINUTE));
            tokio::select! {
                biased;
                received = &mut receive => panic!("{received:?}"),
                () = fake.arrival(RECEIVE) => {}
            }
        }
        let found = [message("m", "a", 1), message("n", "b", 1)];
        give.send(messages(found)).unwrap();
        fake.arrival(DELETE).await;
        // Nothing else is asked in the minute after that. Fresh copies: that delivery was no attempt at them.
        tokio::time::sleep(MINUTE).await;
        let requests = fake.take();
        assert_eq!(operations(&requests), [RECEIVE, SEND, DELETE]);
        assert_eq!(texts(&requests[1]), ["body of m", "body of n"]);
        assert_eq!(texts(&requests[2]), ["a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn messages_for_one_who_goes_before_taking_them_are_handed_back() {
        #[derive(Default)]
        struct Woken(AtomicBool);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }

        let fake = start().await;
        let queue = open(&fake).await;
        fake.replies(RECEIVE, [messages([message("m", "a", 1)])]);
        {
            let woken = Arc::<Woken>::default();
            let waker = Waker::from(Arc::clone(&woken));
            let mut receive = pin!(queue.receive(10, MINUTE));
            let polled = receive.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            // It is woken by the answer, and does not look at it.
            while !woken.0.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
            }
            assert_eq!(operations(&fake.take()), [RECEIVE, HIDE]);
        }
        fake.arrival(DELETE).await;
        tokio::time::sleep(MINUTE).await;
        let requests = fake.take();
        let copied = [(SEND, strings(["body of m"])), (DELETE, strings(["a"]))];
        assert_eq!(batches(&requests), copied);
    }

    /// A process may end while a poll waits: what comes for it then is not hidden for long.
    #[tokio::test(start_paused = true)]
    async fn a_poll_that_is_likely_to_wait_hides_what_it_brings_for_five_seconds() {
        let fake = start().await;
        let queue = open(&fake).await;
        let many = || std::array::from_fn::<_, 10, _>(|n| message("m", &format!("r{n}"), 1));
        fake.replies(
            RECEIVE,
            [
                messages(many()),
                messages(many()),
                messages([message("m", "a", 1)]),
            ],
        );
        // The first poll may wait; it was answered in full, so the next is likely to be, too.
        for (expected, timeout) in [(vec![RECEIVE, HIDE], 5), (vec![RECEIVE], 30)] {
            assert_eq!(queue.receive(10, MINUTE).await.unwrap().len(), 10);
            let requests = fake.take();
            assert_eq!(operations(&requests), expected);
            assert_eq!(requests[0].body["VisibilityTimeout"], timeout);
            if let Some(hide) = requests.get(1) {
                assert_eq!(hide.body["Entries"][0]["VisibilityTimeout"], 30);
            }
        }
        // What is somebody else's by the time it is to be hidden is not ours.
        queue.receive(10, MINUTE).await.unwrap();
        fake.take();
        fake.replies(
            RECEIVE,
            [messages([message("m", "a", 1), message("n", "b", 1)])],
        );
        fake.next(HIDE, but(["b"], Fate::Refused("ReceiptHandleIsInvalid")));
        let received = queue.receive(10, MINUTE).await.unwrap();
        let receipts: Vec<_> = received
            .into_iter()
            .map(|delivery| delivery.receipt)
            .collect();
        assert_eq!(receipts, [receipt("a")]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_polls_on_for_one_who_has_gone() {
        let fake = start().await;
        let queue = open(&fake).await;
        let (give, poll) = Reply::held();
        fake.replies(RECEIVE, [poll]);
        fake.always(RECEIVE, |_| Reply::Closed);
        {
            let mut receive = pin!(queue.receive(10, MINUTE));
            tokio::select! {
                biased;
                received = &mut receive => panic!("{received:?}"),
                () = fake.arrival(RECEIVE) => {}
            }
        }
        give.send(Reply::ok(json!({}))).unwrap();
        tokio::time::sleep(MINUTE).await;
        assert_eq!(operations(&fake.take()), [RECEIVE]);
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
                HIDE => queue.release(receipt("a"), MINUTE).await,
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

    /// What comes of a connection that is lost in this way time after time.
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

    fn delivery(text: &str) -> Delivery {
        Delivery {
            body: Bytes::from_static(b"bad"),
            receipt: receipt(text),
            receive_count: 5,
        }
    }

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

    const ARN: &str = "arn:aws:sqs:here:1:work-dead";

    /// The settings of a queue as provisioning would make it, with its policy in other words.
    fn attributes(request: &Request) -> Value {
        let policy = format!(r#"{{ "maxReceiveCount" : "50", "deadLetterTargetArn":"{ARN}"}}"#);
        let all = json!({
            "QueueArn": ARN,
            "VisibilityTimeout": "30",
            "MessageRetentionPeriod": "1209600",
            "MaximumMessageSize": "1048576",
            "RedrivePolicy": policy,
        });
        let names = request.body["AttributeNames"].as_array().unwrap();
        let asked = names.iter().map(|name| {
            let name = name.as_str().unwrap();
            (name.to_owned(), all[name].clone())
        });
        json!({"Attributes": asked.collect::<serde_json::Map<_, _>>()})
    }

    /// For each request the operation and the queue.
    fn asked(requests: &[Request]) -> Vec<String> {
        let line = |request: &Request| {
            let queue = match request.text("QueueName") {
                "" => request.text("QueueUrl").replace("http://queues/", ""),
                name => name.to_owned(),
            };
            format!("{} {queue}", request.operation)
        };
        requests.iter().map(line).collect()
    }

    async fn provision(fake: &Fake) -> Vec<Action> {
        let queues = SqsQueues::new(&fake.config());
        let options = QueueOptions::default().attempts(5);
        let changes = queues.provision("work", &options).await.unwrap();
        let resources: Vec<&str> = changes.iter().map(|it| it.resource.as_str()).collect();
        assert_eq!(resources, ["SQS queue `work-dead`", "SQS queue `work`"]);
        changes.into_iter().map(|change| change.action).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn queues_that_are_missing_are_made() {
        let fake = start().await;
        fake.always("GetQueueAttributes", |it| Reply::ok(attributes(it)));
        fake.replies("GetQueueUrl", [missing()]);
        fake.next("GetQueueUrl", |it| url(it.text("QueueName")));
        fake.replies("GetQueueUrl", [missing()]);
        assert_eq!(provision(&fake).await, [Action::Created, Action::Created]);
        let requests = fake.take();
        assert_eq!(
            asked(&requests),
            [
                "GetQueueUrl work-dead",
                "CreateQueue work-dead",
                "GetQueueUrl work-dead",
                "GetQueueAttributes work-dead",
                "GetQueueUrl work",
                "CreateQueue work",
            ]
        );
        let policy = requests[5].body["Attributes"]["RedrivePolicy"].as_str();
        let policy: Value = serde_json::from_str(policy.unwrap()).unwrap();
        assert_eq!(
            policy,
            json!({"deadLetterTargetArn": ARN, "maxReceiveCount": 50})
        );
        assert_eq!(
            requests[1].body["Attributes"],
            json!({"VisibilityTimeout": "30", "MessageRetentionPeriod": "1209600", "MaximumMessageSize": "1048576"})
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_in_other_words_is_the_same() {
        let fake = start().await;
        fake.always("GetQueueAttributes", |it| Reply::ok(attributes(it)));
        assert_eq!(
            provision(&fake).await,
            [Action::Unchanged, Action::Unchanged]
        );
        assert_eq!(
            asked(&fake.take()),
            [
                "GetQueueUrl work-dead",
                "GetQueueAttributes work-dead",
                "GetQueueUrl work-dead",
                "GetQueueAttributes work-dead",
                "GetQueueUrl work",
                "GetQueueAttributes work",
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_setting_that_differs_is_set() {
        let fake = start().await;
        fake.always("GetQueueAttributes", |request| {
            let mut answer = attributes(request);
            if request.text("QueueUrl").ends_with("/work") {
                answer["Attributes"]["VisibilityTimeout"] = json!("31");
            }
            Reply::ok(answer)
        });
        assert_eq!(
            provision(&fake).await,
            [
                Action::Unchanged,
                Action::Updated("VisibilityTimeout".into())
            ]
        );
        let requests = fake.take();
        assert_eq!(requests.len(), 7);
        let set = &requests[6];
        assert_eq!(asked(&requests)[6], "SetQueueAttributes work");
        assert_eq!(set.body["Attributes"], json!({"VisibilityTimeout": "30"}));
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_somebody_else_makes_meanwhile_is_taken_as_it_is() {
        let fake = start().await;
        fake.always("GetQueueAttributes", |request| {
            let mut answer = attributes(request);
            if request.text("QueueUrl").ends_with("/work") {
                answer["Attributes"]["MaximumMessageSize"] = json!("262144");
            }
            Reply::ok(answer)
        });
        for name in ["work-dead", "work"] {
            fake.always("CreateQueue", |_| {
                refused(400, "QueueNameExists", "QueueAlreadyExists")
            });
            fake.replies("GetQueueUrl", [missing()]);
            let there = move |request: &Request| {
                assert_eq!(request.text("QueueName"), name);
                url(name)
            };
            fake.next("GetQueueUrl", there);
            if name == "work-dead" {
                fake.next("GetQueueUrl", there);
            }
        }
        assert_eq!(
            provision(&fake).await,
            [
                Action::Unchanged,
                Action::Updated("MaximumMessageSize".into())
            ]
        );
        let requests = fake.take();
        assert_eq!(
            asked(&requests),
            [
                "GetQueueUrl work-dead",
                "CreateQueue work-dead",
                "GetQueueUrl work-dead",
                "GetQueueAttributes work-dead",
                "GetQueueUrl work-dead",
                "GetQueueAttributes work-dead",
                "GetQueueUrl work",
                "CreateQueue work",
                "GetQueueUrl work",
                "GetQueueAttributes work",
                "SetQueueAttributes work",
            ]
        );
        assert_eq!(
            requests[10].body["Attributes"],
            json!({"MaximumMessageSize": "1048576"})
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_was_deleted_a_moment_ago_is_made_when_the_service_lets_it() {
        let fake = start().await;
        fake.always("GetQueueAttributes", |it| Reply::ok(attributes(it)));
        fake.next("GetQueueUrl", |it| url(it.text("QueueName")));
        fake.next("GetQueueUrl", |it| url(it.text("QueueName")));
        fake.replies("GetQueueUrl", [missing()]);
        let recently = || {
            refused(
                400,
                "QueueDeletedRecently",
                "AWS.SimpleQueueService.QueueDeletedRecently",
            )
        };
        let begin = tokio::time::Instant::now();
        // The service asks for a minute.
        fake.always("CreateQueue", move |_| match begin.elapsed() < MINUTE {
            true => recently(),
            false => Reply::ok(json!({"QueueUrl": "http://queues/work"})),
        });
        assert_eq!(provision(&fake).await, [Action::Unchanged, Action::Created]);
        assert!(begin.elapsed() < MINUTE + Duration::from_secs(6));
        let requests = fake.take();
        assert_eq!(operations(&requests[4..5]), ["GetQueueUrl"]);
        assert_eq!(operations(&requests[5..]), ["CreateQueue"; 13]);
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
}

mod dynamodb {
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use bytes::Bytes;
    use catchment::backends::dynamodb::DynamoDbScratchpad;
    use catchment::scratchpad::{
        Arrival, Attempt, Begun, DeadLetterId, FailureReport, Failures, GroupId, GroupState,
        Groups, Members, PacketPlan, RunRecord, Runs, Verdict,
    };
    use catchment::{ArrayId, Error};

    use super::*;

    const UPDATE: &str = "UpdateItem";
    const PUT: &str = "PutItem";
    const GET: &str = "GetItem";
    const QUERY: &str = "Query";
    const GET_MANY: &str = "BatchGetItem";
    const WRITE_MANY: &str = "BatchWriteItem";
    /// The service's limit of an item.
    const ITEM: usize = 400 * 1024;

    /// A service that takes every write, and has nothing.
    async fn start() -> (Fake, DynamoDbScratchpad) {
        let fake = Fake::start(|_| Reply::ok(json!({}))).await;
        let scratchpad = scratchpad(&fake);
        (fake, scratchpad)
    }

    fn scratchpad(fake: &Fake) -> DynamoDbScratchpad {
        DynamoDbScratchpad::new(&fake.config()).tables("pad", "results")
    }

    fn group(index: u64) -> GroupId {
        GroupId::new("run", "sum", 1, index)
    }

    fn arrival(index: u64, slot: u32, value: &str) -> Arrival {
        Arrival::new(group(index), slot, value.to_owned())
    }

    /// The key of a group's own item.
    fn key(index: u64) -> Value {
        json!({"groupId": {"S": format!("run#sum#1#{index}")}, "slot": {"S": "group"}})
    }

    /// The attributes of a group in which these slots have arrived.
    fn attributes(arrived: &[u32]) -> Value {
        let slots: Vec<String> = arrived.iter().map(u32::to_string).collect();
        json!({"arrived": {"NS": slots}, "expected": {"N": "-1"}, "root": {"BOOL": false}})
    }

    fn state(arrived: u32) -> GroupState {
        GroupState::new(arrived)
    }

    const TABLES: &str = "com.amazonaws.dynamodb.v20120810";

    fn refused(code: &str) -> Reply {
        Reply::refused(400, &format!("{TABLES}#{code}"), "no")
    }

    fn failed_condition(fields: Value) -> Reply {
        let kind = format!("{TABLES}#ConditionalCheckFailedException");
        Reply::refused_with(400, &kind, "The conditional request failed", fields)
    }

    fn too_large() -> Reply {
        let kind = "com.amazon.coral.validate#ValidationException";
        let message = "Item size to update has exceeded the maximum allowed size";
        Reply::refused(400, kind, message)
    }

    /// A value of an expression, by what it is assigned to.
    fn assigned<'a>(request: &'a Request, name: &str) -> &'a Value {
        let expression = request.text("UpdateExpression");
        let (_, rest) = expression
            .split_once(&format!("#{name} = "))
            .unwrap_or_else(|| panic!("{name} in {expression}"));
        let rest = rest.split(", #").next().unwrap();
        let (_, value) = rest.rsplit_once(':').unwrap();
        let value: String = value.chars().take_while(char::is_ascii_digit).collect();
        &request.body["ExpressionAttributeValues"][format!(":{value}")]
    }

    #[tokio::test(start_paused = true)]
    async fn siblings_that_arrive_together_are_one_write() {
        let (fake, pad) = start().await;
        fake.replies(
            UPDATE,
            [Reply::ok(json!({"Attributes": attributes(&[0, 1, 2, 3])}))],
        );
        let arrivals = (0..4).map(|slot| arrival(0, slot, "small"));
        let states = pad.arrive(arrivals.collect()).await.unwrap();
        assert_eq!(states, [state(4); 4]);
        let requests = fake.take();
        assert_eq!(operations(&requests), [UPDATE]);
        let update = &requests[0];
        assert_eq!(update.text("TableName"), "pad");
        assert_eq!(update.body["Key"], key(0));
        assert_eq!(update.text("ReturnValues"), "UPDATED_NEW");
        assert!(
            update
                .text("UpdateExpression")
                .starts_with("ADD #arrived :0 SET ")
        );
        assert_eq!(
            update.body["ExpressionAttributeValues"][":0"],
            json!({"NS": ["0", "1", "2", "3"]})
        );
        for slot in 0..4 {
            assert_eq!(
                assigned(update, &format!("s{slot}")),
                &json!({"S": "small"})
            );
        }
        assert_eq!(
            update.text("ConditionExpression"),
            "attribute_not_exists(#retired)"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn arrivals_at_two_groups_are_two_writes() {
        let (fake, pad) = start().await;
        fake.always(UPDATE, |request| {
            let slots: &[u32] = match request.body["Key"] == key(7) {
                true => &[5],
                false => &[1, 2],
            };
            Reply::ok(json!({"Attributes": attributes(slots)}))
        });
        let arrivals = vec![arrival(0, 1, "a"), arrival(7, 5, "b"), arrival(0, 2, "c")];
        let states = pad.arrive(arrivals).await.unwrap();
        assert_eq!(states, [state(2), state(1), state(2)]);
        let requests = fake.take();
        assert_eq!(operations(&requests), [UPDATE; 2]);
        let keys: Vec<&Value> = requests.iter().map(|it| &it.body["Key"]).collect();
        assert!(keys.contains(&&key(0)) && keys.contains(&&key(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_value_is_written_before_its_slot_whoever_was_first() {
        for is_taken in [false, true] {
            let (fake, pad) = start().await;
            if is_taken {
                fake.replies(PUT, [failed_condition(json!({}))]);
            }
            fake.always(UPDATE, |_| {
                Reply::ok(json!({"Attributes": attributes(&[3, 4])}))
            });
            let large = "x".repeat(513);
            let just_small = "y".repeat(512);
            let arrivals = vec![arrival(0, 3, &large), arrival(0, 4, &just_small)];
            assert_eq!(pad.arrive(arrivals).await.unwrap(), [state(2); 2]);
            let requests = fake.take();
            assert_eq!(operations(&requests), [PUT, UPDATE]);
            let [put, update] = &requests[..] else {
                unreachable!()
            };
            assert_eq!(put.body["Item"]["slot"], json!({"S": "slot#0000000003"}));
            assert_eq!(put.body["Item"]["value"], json!({"S": large}));
            assert_eq!(
                put.text("ConditionExpression"),
                "attribute_not_exists(#groupId)"
            );
            assert_eq!(assigned(update, "s3"), &json!({"NULL": true}));
            assert_eq!(assigned(update, "s4"), &json!({"S": just_small}));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_is_not_added_when_its_large_value_could_not_be_written() {
        let (fake, pad) = start().await;
        fake.always(PUT, |_| refused("ThrottlingException"));
        let large = "x".repeat(513);
        let arrived = pad.arrive(vec![arrival(0, 3, &large)]).await;
        assert!(arrived.unwrap_err().is_retryable());
        assert_eq!(operations(&fake.take()), [PUT; 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn arriving_at_a_retired_group_reports_it_as_retired() {
        let (fake, pad) = start().await;
        let mut old = attributes(&[0, 1]);
        old["retired"] = json!({"BOOL": true});
        fake.replies(UPDATE, [failed_condition(json!({"Item": old}))]);
        let states = pad.arrive(vec![arrival(0, 1, "late")]).await.unwrap();
        let mut retired = state(2);
        retired.retired = true;
        assert_eq!(states, [retired]);
        let requests = fake.take();
        assert_eq!(operations(&requests), [UPDATE]);
        assert_eq!(
            requests[0].text("ReturnValuesOnConditionCheckFailure"),
            "ALL_OLD"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_leaves_out_what_did_not_change_is_completed_by_a_look() {
        let mut old = attributes(&[0, 1]);
        old["expected"] = json!({"N": "2"});
        old["root"] = json!({"BOOL": true});
        let mut full = state(2);
        full.expected = Some(2);
        full.root = true;
        let mut retired = full;
        retired.retired = true;
        // A write that changed the time of expiry only, and a refusal without the item.
        let written = Reply::ok(json!({"Attributes": {"expiresAt": {"N": "1"}}}));
        let late = failed_condition(json!({}));
        for (reply, wanted) in [(written, full), (late, retired)] {
            let (fake, pad) = start().await;
            if wanted.retired {
                old["retired"] = json!({"BOOL": true});
            }
            fake.replies(UPDATE, [reply]);
            fake.replies(GET, [Reply::ok(json!({"Item": old}))]);
            let states = pad.arrive(vec![arrival(0, 1, "again")]).await.unwrap();
            assert_eq!(states, [wanted]);
            let requests = fake.take();
            assert_eq!(operations(&requests), [UPDATE, GET]);
            assert_eq!(requests[1].body["Key"], key(0));
            assert_eq!(requests[1].body["ConsistentRead"], true);
        }
    }

    /// Refusals that pass, and how often the client itself tries.
    fn passing() -> Vec<(fn() -> Reply, usize)> {
        vec![
            (|| refused("ProvisionedThroughputExceededException"), 3),
            (|| refused("ThrottlingException"), 3),
            (|| refused("RequestLimitExceeded"), 3),
            (|| refused("TransactionConflictException"), 1),
            (
                || Reply::refused(500, &format!("{TABLES}#InternalServerError"), "no"),
                3,
            ),
            (|| Reply::bare(503), 3),
            (|| Reply::CutOff, 3),
        ]
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_that_passes_is_waited_out_by_the_client_or_told_to_the_caller() {
        for (reply, tries) in passing() {
            let what = format!("{:?}", reply());
            let (fake, pad) = start().await;
            fake.replies(UPDATE, [reply()]);
            fake.always(UPDATE, |_| {
                Reply::ok(json!({"Attributes": attributes(&[0])}))
            });
            let arrived = pad.arrive(vec![arrival(0, 0, "a")]).await;
            match tries {
                1 => assert!(arrived.unwrap_err().is_retryable(), "{what}"),
                _ => assert_eq!(arrived.unwrap(), [state(1)], "{what}"),
            }
            assert_eq!(fake.take().len(), tries.min(2), "{what}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_that_goes_on_is_an_error_that_may_pass_and_never_an_answer() {
        let run = ArrayId::from("run");
        for (reply, tries) in passing() {
            let (fake, pad) = start().await;
            for operation in [UPDATE, PUT, GET, QUERY, GET_MANY, WRITE_MANY] {
                fake.always(operation, move |_| reply());
            }
            let outcomes = [
                (UPDATE, pad.arrive(vec![arrival(0, 0, "a")]).await.err()),
                (UPDATE, pad.expect(&group(0), 2, true).await.err()),
                (UPDATE, pad.retire(&group(0)).await.err()),
                (QUERY, pad.members(&group(0)).await.err()),
                (GET_MANY, pad.arrived(&[group(0)]).await.err()),
                (PUT, pad.begin(&record()).await.err()),
                (UPDATE, pad.measure(&run, 1, 1).await.err()),
                (UPDATE, pad.submitted(&run).await.err()),
                (UPDATE, pad.complete(&run, "1".into()).await.err()),
                (UPDATE, pad.cancel(&run).await.err()),
                (GET, pad.status(&run).await.err()),
                (GET, pad.is_over(&run).await.err()),
                (QUERY, pad.list(&run, 10).await.err()),
                (UPDATE, pad.record(&report(1, Verdict::Skip)).await.err()),
            ];
            let mut made = Vec::new();
            for (operation, error) in outcomes {
                let error = error.unwrap();
                let text = said(&error);
                assert!(error.is_retryable(), "{text}");
                assert!(text.contains(operation), "{text}");
                // Dead letters and skipped items are looked for side by side.
                if operation != QUERY {
                    made.extend(vec![operation; tries]);
                }
            }
            let requests = fake.take();
            let others = operations(&requests);
            let others: Vec<&str> = others.into_iter().filter(|it| *it != QUERY).collect();
            assert_eq!(others, made);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_are_closed_again_and_again_are_an_error_that_may_pass() {
        let (fake, pad) = start().await;
        fake.always(UPDATE, |_| Reply::Closed);
        let error = pad.arrive(vec![arrival(0, 0, "a")]).await.unwrap_err();
        assert_eq!(operations(&fake.take()), [UPDATE; 3]);
        assert!(error.is_retryable(), "{}", said(&error));
    }

    /// The groups that a BatchGetItem asks for.
    fn wanted(request: &Request) -> Vec<u64> {
        let keys = request.body["RequestItems"]["pad"]["Keys"].as_array();
        let index = |key: &Value| {
            let group = key["groupId"]["S"].as_str().unwrap();
            group.rsplit('#').next().unwrap().parse().unwrap()
        };
        keys.unwrap().iter().map(index).collect()
    }

    /// The answer to a BatchGetItem that has these groups, each with the slot of its own number, and not those.
    fn slots(found: &[u64], left: &[u64]) -> Reply {
        let items = found.iter().map(|index| {
            let mut item = key(*index);
            item["arrived"] = json!({"NS": [index.to_string()]});
            item
        });
        let mut answer = json!({"Responses": {"pad": items.collect::<Vec<_>>()}});
        if !left.is_empty() {
            let keys: Vec<Value> = left.iter().map(|index| key(*index)).collect();
            answer["UnprocessedKeys"] = json!({"pad": {"Keys": keys, "ConsistentRead": true}});
        }
        Reply::ok(answer)
    }

    #[tokio::test(start_paused = true)]
    async fn groups_that_a_read_leaves_out_are_asked_for_again_and_come_in_order() {
        let (fake, pad) = start().await;
        fake.replies(
            GET_MANY,
            [
                slots(&[2], &[0, 1, 3]),
                slots(&[], &[0, 1, 3]),
                slots(&[3, 0], &[1]),
                slots(&[1], &[]),
            ],
        );
        let groups = [0, 1, 2, 3, 1].map(group);
        let arrived = pad.arrived(&groups).await.unwrap();
        assert_eq!(arrived, [[0], [1], [2], [3], [1]]);
        let requests = fake.take();
        let asked: Vec<Vec<u64>> = requests.iter().map(wanted).collect();
        let all: &[&[u64]] = &[&[0, 1, 2, 3], &[0, 1, 3], &[0, 1, 3], &[1]];
        assert_eq!(asked, all);
        for request in requests {
            let keys = &request.body["RequestItems"]["pad"];
            assert_eq!(keys["ConsistentRead"], true);
            assert!(keys["ProjectionExpression"].is_string());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_groups_are_read_by_the_hundred() {
        let (fake, pad) = start().await;
        let mut is_first = true;
        fake.always(GET_MANY, move |request| {
            let wanted = wanted(request);
            let found = if is_first { 60 } else { wanted.len() };
            is_first = false;
            slots(&wanted[..found], &wanted[found..])
        });
        let groups: Vec<GroupId> = (0..250).map(group).collect();
        let arrived = pad.arrived(&groups).await.unwrap();
        let all: Vec<Vec<u32>> = (0..250).map(|slot| vec![slot]).collect();
        assert_eq!(arrived, all);
        let counts: Vec<usize> = fake.take().iter().map(|it| wanted(it).len()).collect();
        assert_eq!(counts, [100, 100, 90]);
    }

    fn time() -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(1_700_000_000_000)
    }

    fn attempt(number: u32, item: u64, error: impl Into<String>) -> Attempt {
        let mut attempt = Attempt::new(number, time(), error);
        attempt.item = Some(item);
        attempt
    }

    /// So many items of packet 3 have failed.
    fn report(items: u64, verdict: Verdict) -> FailureReport {
        let attempts = (0..items).map(|item| attempt(5, item, "bad")).collect();
        FailureReport::new("run", "parse", "packet 3", attempts, verdict)
    }

    #[tokio::test(start_paused = true)]
    async fn skipped_items_that_a_write_leaves_out_are_written_again() {
        fn items(request: &Request) -> Vec<u64> {
            let writes = request.body["RequestItems"]["pad"].as_array().unwrap();
            let number = |write: &Value| {
                let item = &write["PutRequest"]["Item"];
                assert_eq!(item["groupId"], json!({"S": "run#skipped"}));
                item["item"]["N"].as_str().unwrap().parse().unwrap()
            };
            writes.iter().map(number).collect()
        }

        let (fake, pad) = start().await;
        let left = |request: &Request, from: usize| {
            let writes = &request.body["RequestItems"]["pad"].as_array().unwrap()[from..];
            Reply::ok(json!({"UnprocessedItems": {"pad": writes}}))
        };
        fake.next(WRITE_MANY, move |it| left(it, 20));
        fake.next(WRITE_MANY, move |it| left(it, 0));
        fake.replies(QUERY, [Reply::ok(json!({"Count": 60, "ScannedCount": 60}))]);
        let log = pad.record(&report(60, Verdict::Skip)).await.unwrap();
        assert_eq!(log.skipped, 60);
        let requests = fake.take();
        assert_eq!(
            operations(&requests),
            [
                UPDATE, UPDATE, WRITE_MANY, WRITE_MANY, WRITE_MANY, WRITE_MANY, QUERY
            ]
        );
        assert_eq!(requests[0].text("TableName"), "results");
        assert_eq!(requests[1].text("TableName"), "pad");
        let written: Vec<Vec<u64>> = requests[2..6].iter().map(items).collect();
        let wanted: [Vec<u64>; 4] = [
            (0..25).collect(),
            (20..45).collect(),
            (20..45).collect(),
            (45..60).collect(),
        ];
        assert_eq!(written, wanted);
        assert_eq!(requests[6].body["ConsistentRead"], true);
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_beyond_the_size_of_an_item_is_refused_before_anything_is_written() {
        let (fake, pad) = start().await;
        let large = "x".repeat(500_000);
        let arrivals = vec![arrival(0, 0, "small"), arrival(0, 1, &large)];
        let arrived = pad.arrive(arrivals).await.unwrap_err();
        let completed = pad.complete(&"run".into(), Bytes::from(large)).await;
        for error in [arrived, completed.unwrap_err()] {
            assert!(!error.is_retryable());
            let Error::TooLarge {
                what, size, limit, ..
            } = error
            else {
                panic!("{error}");
            };
            assert_eq!(size, 500_000);
            assert!(limit < ITEM && limit > ITEM - 8 * 1024, "{limit}");
            assert!(what.contains("run"), "{what}");
        }
        assert!(fake.take().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_history_that_has_become_too_large_is_shortened() {
        let (fake, pad) = start().await;
        let text = |number| serde_json::to_string(&attempt(number, 0, "x".repeat(4_000))).unwrap();
        let old: Vec<Value> = (1..=97).map(|number| json!({"S": text(number)})).collect();
        fake.replies(UPDATE, [too_large()]);
        fake.replies(GET, [Reply::ok(json!({"Item": {"attempts": {"L": old}}}))]);
        let mut report = report(0, Verdict::Retry);
        report.attempts = vec![attempt(98, 0, "y".repeat(4_000))];
        let log = pad.record(&report).await.unwrap();
        assert_eq!(log.attempts.last(), report.attempts.last());
        let numbers: Vec<u32> = log.attempts.iter().map(|it| it.number).collect();
        let first = numbers[0];
        assert!(first > 1 && numbers.iter().copied().eq(first..=98));
        let requests = fake.take();
        assert_eq!(operations(&requests), [UPDATE, GET, UPDATE, QUERY]);
        assert_eq!(requests[1].body["ConsistentRead"], true);
        let update = &requests[2];
        let kept = assigned(update, "attempts")["L"].as_array().unwrap();
        assert_eq!(kept.len(), numbers.len());
        assert!(update.body.to_string().len() < ITEM);
        // Only if nobody has added to it since.
        let values = &update.body["ExpressionAttributeValues"];
        let condition = update.text("ConditionExpression");
        let (size, count) = condition.split_once(" = ").unwrap();
        assert_eq!(
            (size, &values[count]),
            ("size(#attempts)", &json!({"N": "97"}))
        );
    }

    /// Records five attempts at a hundred items that fail with this error, on a service that keeps to its limit.
    async fn fail_again_and_again(error: &str) {
        let (fake, pad) = start().await;
        let history = Arc::<Mutex<Vec<Value>>>::default();
        let old = Arc::clone(&history);
        fake.always(GET, move |_| {
            Reply::ok(json!({"Item": {"attempts": {"L": *old.lock().unwrap()}}}))
        });
        fake.always(UPDATE, move |request| {
            let mut history = history.lock().unwrap();
            let values = &request.body["ExpressionAttributeValues"];
            let condition = request.text("ConditionExpression");
            if let Some((_, most)) = condition.split_once("size(#attempts) <= ") {
                let most: usize = values[most]["N"].as_str().unwrap().parse().unwrap();
                if history.len() > most {
                    return failed_condition(json!({}));
                }
            }
            let is_append = request.text("UpdateExpression").contains("list_append");
            let before = match is_append {
                true => stored(&json!(*history)),
                false => 0,
            };
            if before + stored(values) > ITEM {
                return too_large();
            }
            if is_append {
                let lists = values.as_object().unwrap().values();
                let lists = lists.filter_map(|value| value["L"].as_array());
                history.extend(lists.flatten().cloned());
            } else if condition.contains("size") {
                let list = assigned(request, "attempts")["L"].as_array();
                *history = list.unwrap().clone();
            }
            Reply::ok(json!({"Attributes": {"attempts": {"L": *history}}}))
        });
        for number in 1..=5 {
            let verdict = match number {
                5 => Verdict::Dead(DeadLetterId::random()),
                _ => Verdict::Retry,
            };
            let mut report = report(0, verdict);
            let items = (0..100).map(|item| attempt(number, item, error));
            report.attempts = items.collect();
            let log = pad.record(&report).await.unwrap();
            assert_eq!(log.attempts.last(), report.attempts.last());
        }
    }

    /// The longest error that the library writes down.
    const LONGEST_ERROR: usize = 2_000;

    #[tokio::test(start_paused = true)]
    async fn long_errors_of_many_items_can_be_written_down() {
        for text in ["x", "\"", "\u{1f30a}"] {
            fail_again_and_again(&text.repeat(LONGEST_ERROR)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn long_errors_of_control_characters_can_be_written_down() {
        fail_again_and_again(&"\0".repeat(LONGEST_ERROR)).await;
    }

    /// What a value counts against the limit of an item, at least.
    fn stored(value: &Value) -> usize {
        match value {
            Value::String(text) => text.len(),
            Value::Array(values) => values.iter().map(stored).sum(),
            Value::Object(values) => values.values().map(stored).sum(),
            _ => 0,
        }
    }

    fn record() -> RunRecord {
        let plan = PacketPlan::Fixed(10);
        let mut record = RunRecord::new("run", time(), "parse", "sum", 32, plan);
        record.array_length = Some(100);
        record.packets = Some(10);
        record
    }

    /// A run's item, with further attributes.
    fn run_item(mut attributes: Value) -> Value {
        attributes["arrayId"] = json!({"S": "run"});
        attributes["record"] = json!({"S": serde_json::to_string(&record()).unwrap()});
        attributes
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_have_written_is_read_consistently() {
        let (fake, pad) = start().await;
        let run = ArrayId::from("run");
        let item = run_item(json!({"failures": {"BOOL": true}}));
        fake.always(GET, move |_| Reply::ok(json!({"Item": item})));
        pad.members(&group(0)).await.unwrap();
        pad.arrived(&[group(0)]).await.unwrap();
        pad.status(&run).await.unwrap();
        pad.wait(&run, Duration::ZERO).await.unwrap();
        pad.list(&run, 10).await.unwrap();
        let stage = "parse";
        let cleared = pad.clear(&run, stage, "packet 3", DeadLetterId::random());
        cleared.await.unwrap();
        let requests = fake.take();
        let mut reads = 0;
        for request in &requests {
            let read = match request.operation.as_str() {
                UPDATE => continue,
                GET_MANY => &request.body["RequestItems"]["pad"],
                _ => &request.body,
            };
            assert_eq!(read["ConsistentRead"], true, "{request:?}");
            reads += 1;
        }
        // members, arrived, twice the run with two queries each, list, clear
        assert_eq!(reads, 1 + 1 + 3 + 3 + 2 + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_of_several_pages_is_read_to_its_end() {
        let (fake, pad) = start().await;
        let page = |items: Value, last: Option<&str>| {
            let mut answer = json!({"Items": items});
            if let Some(slot) = last {
                answer["LastEvaluatedKey"] =
                    json!({"groupId": {"S": "run#sum#1#0"}, "slot": {"S": slot}});
            }
            Reply::ok(answer)
        };
        let mut own = attributes(&[2, 10, 0]);
        own["slot"] = json!({"S": "group"});
        own["s0"] = json!({"S": "zero"});
        own["s2"] = json!({"NULL": true});
        own["s10"] = json!({"NULL": true});
        let value = |slot: &str, value: &str| json!({"slot": {"S": slot}, "value": {"S": value}});
        fake.replies(
            QUERY,
            [
                page(json!([own]), Some("group")),
                // A page may be empty, and the next one not.
                page(json!([]), Some("slot#0000000001")),
                page(
                    json!([value("slot#0000000002", "two")]),
                    Some("slot#0000000002"),
                ),
                page(json!([value("slot#0000000010", "ten")]), None),
            ],
        );
        let members = pad.members(&group(0)).await.unwrap();
        let values = vec![
            (0, Bytes::from("zero")),
            (2, Bytes::from("two")),
            (10, Bytes::from("ten")),
        ];
        assert_eq!(members, Members::present(state(3), values));
        let requests = fake.take();
        assert_eq!(operations(&requests), [QUERY; 4]);
        let starts = requests.iter().map(|it| {
            let slot = &it.body["ExclusiveStartKey"]["slot"]["S"];
            slot.as_str().unwrap_or_default()
        });
        assert_eq!(
            starts.collect::<Vec<_>>(),
            ["", "group", "slot#0000000001", "slot#0000000002"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_of_several_pages_is_summed() {
        let (fake, pad) = start().await;
        let item = run_item(json!({"failures": {"BOOL": true}}));
        fake.always(GET, move |_| Reply::ok(json!({"Item": item})));
        let mut pages = 0;
        fake.always(QUERY, move |request| {
            if request.text("Select") != "COUNT" {
                return Reply::ok(json!({"Items": []}));
            }
            pages += 1;
            let mut answer = json!({"Count": pages});
            if pages < 3 {
                answer["LastEvaluatedKey"] = json!({"slot": {"S": "on"}});
            }
            Reply::ok(answer)
        });
        let status = pad.status(&"run".into()).await.unwrap().unwrap();
        assert_eq!(status.skipped, 1 + 2 + 3);
        assert_eq!(fake.take().len(), 1 + 1 + 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_that_is_missing_is_named_with_what_to_do() {
        let run = ArrayId::from("run");
        let (fake, pad) = start().await;
        for operation in [UPDATE, PUT, GET, QUERY, GET_MANY] {
            fake.always(operation, |_| refused("ResourceNotFoundException"));
        }
        let outcomes = [
            ("pad", pad.arrive(vec![arrival(0, 0, "a")]).await.err()),
            ("pad", pad.members(&group(0)).await.err()),
            ("pad", pad.arrived(&[group(0)]).await.err()),
            ("results", pad.begin(&record()).await.err()),
            ("results", pad.status(&run).await.err()),
            ("results", pad.complete(&run, "1".into()).await.err()),
        ];
        for (table, error) in outcomes {
            let error = error.unwrap();
            assert!(matches!(error, Error::NotProvisioned { .. }), "{error:?}");
            assert!(!error.is_retryable());
            let text = said(&error);
            let table = format!("DynamoDB table `{table}`");
            for part in [&table, fake.region(), &fake.endpoint(), "provision"] {
                assert!(text.contains(part), "{text}");
            }
        }
        assert_eq!(
            operations(&fake.take()),
            [UPDATE, QUERY, GET_MANY, PUT, GET, UPDATE]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_allowed_is_named_and_not_tried_again() {
        let (fake, pad) = start().await;
        fake.always(UPDATE, |_| {
            let kind = "com.amazon.coral.service#AccessDeniedException";
            // Here the message's name begins with a capital.
            let body = json!({"__type": kind, "Message": "you are not allowed to do this"});
            Reply::Whole {
                status: 400,
                headers: Vec::new(),
                body: body.to_string(),
            }
        });
        let arrived = pad.arrive(vec![arrival(0, 0, "a")]).await;
        let error = arrived.unwrap_err();
        assert!(!error.is_retryable());
        assert_eq!(
            said(&error),
            "DynamoDB: UpdateItem on table `pad` failed: AccessDeniedException: you are not allowed to do this"
        );
        assert_eq!(operations(&fake.take()), [UPDATE]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_is_taken_once() {
        let (fake, pad) = start().await;
        let run = ArrayId::from("run");
        assert!(pad.complete(&run, "1".into()).await.unwrap());
        let requests = fake.take();
        // Workers are told by a mark in the other table.
        assert_eq!(operations(&requests), [UPDATE, PUT]);
        assert_eq!(requests[0].text("TableName"), "results");
        assert_eq!(assigned(&requests[0], "result"), &json!({"S": "1"}));
        assert_eq!(
            requests[0].text("ConditionExpression"),
            "attribute_exists(#arrayId) AND attribute_not_exists(#result) AND attribute_not_exists(#cancelled)"
        );
        assert_eq!(requests[1].text("TableName"), "pad");

        fake.replies(UPDATE, [failed_condition(json!({}))]);
        assert!(!pad.complete(&run, "2".into()).await.unwrap());
        assert_eq!(operations(&fake.take()), [UPDATE]);
    }

    #[tokio::test(start_paused = true)]
    async fn workers_hear_that_a_run_is_over_though_the_answer_to_its_result_was_lost() {
        let (fake, pad) = start().await;
        // The result was written, and the client's next try finds it there.
        let there = run_item(json!({"result": {"S": "1"}}));
        fake.replies(
            UPDATE,
            [Reply::CutOff, failed_condition(json!({"Item": there}))],
        );
        pad.complete(&"run".into(), "1".into()).await.unwrap();
        let requests = fake.take();
        assert_eq!(operations(&requests), [UPDATE, UPDATE, PUT]);
        assert_eq!(requests[2].text("TableName"), "pad");
    }

    /// The service removes what has expired in no order. If a run's record went before its tree, a run that
    /// is submitted under the same id would find its slots taken, and never end.
    #[tokio::test(start_paused = true)]
    async fn the_record_of_a_run_outlives_its_tree() {
        const DAYS: u64 = 24 * 60 * 60;
        let (fake, pad) = start().await;
        pad.begin(&record()).await.unwrap();
        pad.submitted(&"run".into()).await.unwrap();
        pad.arrive(vec![arrival(0, 0, "a")]).await.unwrap();
        let requests = fake.take();
        let seconds = |value: &Value| value["N"].as_str().unwrap().parse::<u64>().unwrap();
        let begun = seconds(&requests[0].body["Item"]["expiresAt"]);
        let submitted = seconds(assigned(&requests[1], "expiresAt"));
        let arrived = seconds(assigned(&requests[2], "expiresAt"));
        // Duplicates may be written for 14 days after the end, and what has expired may stay for some days.
        assert!(begun >= arrived + 20 * DAYS, "{begun} {arrived}");
        assert!(submitted >= arrived + 20 * DAYS, "{submitted} {arrived}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_is_there_comes_back_as_it_stands() {
        let (fake, pad) = start().await;
        assert_eq!(pad.begin(&record()).await.unwrap(), Begun::New);
        let requests = fake.take();
        assert_eq!(operations(&requests), [PUT]);
        assert_eq!(
            requests[0].text("ConditionExpression"),
            "attribute_not_exists(#arrayId)"
        );
        assert_eq!(
            requests[0].text("ReturnValuesOnConditionCheckFailure"),
            "ALL_OLD"
        );

        let there = run_item(json!({"submitted": {"BOOL": true}, "result": {"S": "7"}}));
        let with_item = failed_condition(json!({"Item": there}));
        let without = failed_condition(json!({}));
        for (reply, made) in [(with_item, vec![PUT]), (without, vec![PUT, GET])] {
            fake.replies(PUT, [reply]);
            fake.replies(GET, [Reply::ok(json!({"Item": there}))]);
            let mut other = record();
            other.created_at += Duration::from_millis(1);
            let Begun::Existing(run) = pad.begin(&other).await.unwrap() else {
                panic!("it was there");
            };
            assert_eq!(run.record, record());
            assert!(run.submitted && !run.cancelled);
            assert_eq!(run.result, Some(Bytes::from("7")));
            assert_eq!(operations(&fake.take()), made);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_attempt_is_counted() {
        let (fake, pad) = start().await;
        let busy = || refused("ProvisionedThroughputExceededException");
        fake.replies(UPDATE, [busy(), busy()]);
        fake.replies(GET, [Reply::Closed, Reply::bare(500)]);
        // It answers with no attributes, so the state is read.
        let states = pad.arrive(vec![arrival(0, 0, "a")]).await.unwrap();
        assert_eq!(states, [state(0)]);
        let counts = pad.requests().by_kind();
        let counts: Vec<(&str, u64)> = counts.iter().map(|(kind, n)| (&**kind, *n)).collect();
        assert_eq!(
            counts,
            [("DynamoDB GetItem", 3), ("DynamoDB UpdateItem", 3)]
        );
        assert_eq!(fake.take().len(), 6);
    }
}
