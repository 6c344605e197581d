//! Receiving: duplicates, and receivers that leave during a poll.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_message_delivered_twice_comes_with_each_delivery_s_receipt_and_count() {
    let fake = start().await;
    let queue = open(&fake).await;
    let twice = [message("m", "first", 1), message("m", "second", 2)];
    fake.replies(RECEIVE, [messages(twice)]);
    let received = queue.receive(5, Duration::ZERO).await.unwrap();
    let delivery = |text, receive_count| {
        Delivery::new("body of m", receipt(text), receive_count).message_id("m")
    };
    assert_eq!(received, [delivery("first", 1), delivery("second", 2)]);
    let requests = fake.take();
    assert_eq!(operations(&requests), [RECEIVE]);
    let asked = &requests[0].body;
    assert_eq!(asked["MaxNumberOfMessages"], 5);
    assert_eq!(asked["VisibilityTimeout"], 30);
    assert_eq!(
        asked["MessageSystemAttributeNames"],
        json!(["ApproximateReceiveCount", "SentTimestamp", "MessageGroupId"])
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
    fake.arrival(HIDE).await;
    // There are no other requests in the minute after that.
    tokio::time::sleep(MINUTE).await;
    let requests = fake.take();
    assert_eq!(operations(&requests), [RECEIVE, HIDE]);
    assert_eq!(
        hidden(&requests[1]),
        [("a", 0), ("b", 0)].map(|(receipt, by)| (receipt.to_owned(), by))
    );
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
        // It is woken by the answer, and does not read it.
        while !woken.0.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
        assert_eq!(operations(&fake.take()), [RECEIVE, HIDE]);
    }
    fake.arrival(HIDE).await;
    tokio::time::sleep(MINUTE).await;
    let requests = fake.take();
    assert_eq!(operations(&requests), [HIDE]);
    assert_eq!(hidden(&requests[0]), [("a".to_owned(), 0)]);
}

/// A process may end while a poll waits: messages that arrive for it then are not hidden for long.
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
    // The first poll may wait; it returned a full batch, so the next is likely to do the same.
    for (expected, timeout) in [(vec![RECEIVE, HIDE], 5), (vec![RECEIVE], 30)] {
        assert_eq!(queue.receive(10, MINUTE).await.unwrap().len(), 10);
        let requests = fake.take();
        assert_eq!(operations(&requests), expected);
        assert_eq!(requests[0].body["VisibilityTimeout"], timeout);
        if let Some(hide) = requests.get(1) {
            assert_eq!(hide.body["Entries"][0]["VisibilityTimeout"], 30);
        }
    }
    // A message that another worker has received by the time it would be hidden is not returned.
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

/// The receipts of a request, and for how many seconds it hides their messages.
fn hidden(request: &Request) -> Vec<(String, i64)> {
    let entries = request.body["Entries"].as_array().unwrap().iter();
    entries
        .map(|entry| {
            let receipt = entry["ReceiptHandle"].as_str().unwrap();
            (
                receipt.to_owned(),
                entry["VisibilityTimeout"].as_i64().unwrap(),
            )
        })
        .collect()
}
