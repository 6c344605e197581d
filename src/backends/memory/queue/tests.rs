//! Tests of what the conformance suite cannot require of every queue.

use std::pin::pin;

use bytes::Bytes;
use futures::future::join_all;
use futures::poll;
use tokio::task::JoinSet;
use tokio::time::{advance, sleep};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn queue_of(queues: MemoryQueues) -> Arc<MemoryQueue> {
    let options = QueueOptions::default().visibility_timeout(10 * SECOND);
    Arc::new(MemoryQueue {
        shared: queues.queue("q"),
        visibility_timeout: options.visibility_timeout,
    })
}

fn queue() -> Arc<MemoryQueue> {
    queue_of(MemoryQueues::new())
}

fn bodies(count: usize) -> Vec<Outgoing> {
    (0..count).map(|n| Outgoing::new(n.to_string())).collect()
}

async fn receive_one(queue: &MemoryQueue) -> Delivery {
    queue.receive(1, SECOND).await.unwrap().remove(0)
}

#[tokio::test(start_paused = true)]
async fn a_lapsed_receipt_acknowledges_until_the_message_is_delivered_again() {
    let queue = queue();
    queue.send(bodies(2)).await.unwrap();
    let first = queue.receive(2, SECOND).await.unwrap();
    advance(10 * SECOND).await;

    let stale = queue
        .extend(vec![first[0].receipt.clone()], SECOND)
        .await
        .unwrap();
    assert_eq!(stale, [first[0].receipt.clone()]);
    queue
        .release(vec![first[0].receipt.clone()], 5 * SECOND)
        .await
        .unwrap();
    queue
        .acknowledge(vec![first[1].receipt.clone()])
        .await
        .unwrap();

    let again = queue.receive(10, Duration::ZERO).await.unwrap();
    assert_eq!(again.len(), 1, "one was acknowledged, the other not hidden");
    assert_eq!((&*again[0].body, again[0].receive_count), (&b"0"[..], 2));
    queue
        .acknowledge(vec![first[0].receipt.clone()])
        .await
        .unwrap();
    assert_eq!(queue.depth().await.unwrap().in_flight, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lapsed_message_can_still_be_buried_and_a_stale_one_cannot() {
    let queue = queue();
    queue.send(bodies(1)).await.unwrap();
    let first = receive_one(&queue).await;
    advance(10 * SECOND).await;
    let second = receive_one(&queue).await;
    queue.bury(first, "too late").await.unwrap();
    assert_eq!(queue.depth().await.unwrap().dead, 0);
    advance(10 * SECOND).await;
    queue.bury(second, "in time").await.unwrap();
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.ready, depth.dead), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn receivers_that_wait_get_a_message_each() {
    let queue = queue();
    let mut receivers = JoinSet::new();
    for _ in 0..20 {
        let queue = Arc::clone(&queue);
        receivers.spawn(async move { queue.receive(1, 3600 * SECOND).await.unwrap() });
    }
    tokio::task::yield_now().await;
    let sent_at = Instant::now();
    queue.send(bodies(20)).await.unwrap();
    while let Some(received) = receivers.join_next().await {
        assert_eq!(received.unwrap().len(), 1);
    }
    assert_eq!(Instant::now(), sent_at);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_gives_up_passes_its_wake_up_on() {
    let queue = queue();
    let mut first = Box::pin(queue.receive(1, 3600 * SECOND));
    let mut second = pin!(queue.receive(1, 3600 * SECOND));
    assert!(poll!(&mut first).is_pending());
    assert!(poll!(&mut second).is_pending());
    queue.send(bodies(1)).await.unwrap();
    drop(first);
    let sent_at = Instant::now();
    assert_eq!(second.await.unwrap().len(), 1);
    assert_eq!(Instant::now(), sent_at);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_wakes_when_a_message_becomes_visible() {
    let queue = queue();
    queue.send(bodies(3)).await.unwrap();
    // These deadlines are added only after the receivers have begun to wait.
    let waiting: Vec<_> = (0..3).map(|_| queue.receive(1, 3600 * SECOND)).collect();
    let began = Instant::now();
    let others = async {
        let taken = queue.receive(3, SECOND).await.unwrap();
        tokio::task::yield_now().await;
        queue
            .release(vec![taken[0].receipt.clone()], 4 * SECOND)
            .await
            .unwrap();
        queue
            .extend(vec![taken[1].receipt.clone()], 2 * SECOND)
            .await
            .unwrap();
    };
    let waiting = async {
        tokio::task::yield_now().await;
        let receiving = waiting.into_iter().map(|receive| async {
            let received = receive.await.unwrap().remove(0);
            (began.elapsed().as_secs(), received.body)
        });
        let mut times = join_all(receiving).await;
        times.sort();
        times
    };
    let ((), times) = tokio::join!(others, waiting);
    let expected = [(2, "1"), (4, "0"), (10, "2")].map(|(at, body)| (at, Bytes::from(body)));
    assert_eq!(times, expected);
}

#[tokio::test(start_paused = true)]
async fn deadlines_stay_in_proportion_to_what_is_in_flight() {
    let queue = queue();
    queue.send(bodies(10_001)).await.unwrap();
    let held = receive_one(&queue).await;
    for round in 0..10_000 {
        let taken = receive_one(&queue).await;
        queue.acknowledge(vec![taken.receipt]).await.unwrap();
        let by = SECOND * (round % 7 + 1);
        queue.extend(vec![held.receipt.clone()], by).await.unwrap();
        let state = lock(&queue.shared.state);
        assert!(state.deadlines() <= 100, "{}", state.deadlines());
    }
    advance(7 * SECOND).await;
    assert_eq!(receive_one(&queue).await.receive_count, 2);
}

#[tokio::test(start_paused = true)]
async fn room_waits_for_consumers_and_for_nobody_else() {
    let queue = queue_of(MemoryQueues::with_capacity(4, 1_000));
    queue.room().await.unwrap();
    queue.send(bodies(4)).await.unwrap();
    let full_at = Instant::now();
    queue.room().await.unwrap();
    assert_eq!(Instant::now(), full_at, "nobody consumes");

    let taken = receive_one(&queue).await;
    let mut room = Box::pin(queue.room());
    assert!(poll!(&mut room).is_pending());
    queue.acknowledge(vec![taken.receipt]).await.unwrap();
    room.await.unwrap();
    assert_eq!(Instant::now(), full_at, "there is room again");
}

/// A submitter of a small run is not kept out by one that fills the queue again each time.
#[tokio::test(start_paused = true)]
async fn all_who_wait_for_room_get_it_though_one_was_faster() {
    let queue = queue_of(MemoryQueues::with_capacity(4, 1_000));
    queue.send(bodies(4)).await.unwrap();
    let taken = receive_one(&queue).await;
    let (mut fast, mut slow) = (Box::pin(queue.room()), Box::pin(queue.room()));
    assert!(poll!(&mut fast).is_pending() && poll!(&mut slow).is_pending());
    queue.acknowledge(vec![taken.receipt]).await.unwrap();
    fast.await.unwrap();
    queue.send(bodies(1)).await.unwrap();
    let _in_flight = receive_one(&queue).await;
    let mut next = Box::pin(queue.room());
    assert!(poll!(&mut next).is_pending(), "it is full again");
    assert!(poll!(&mut slow).is_ready());
    queue.send(bodies(1)).await.unwrap();
    assert!(
        poll!(&mut next).is_pending(),
        "nothing has become free since"
    );
}

#[tokio::test(start_paused = true)]
async fn room_counts_bytes() {
    let queue = queue_of(MemoryQueues::with_capacity(100, 10));
    for is_buried in [false, true] {
        queue.send(vec![Outgoing::new(vec![0; 10])]).await.unwrap();
        let taken = receive_one(&queue).await;
        let mut room = Box::pin(queue.room());
        assert!(poll!(&mut room).is_pending());
        if is_buried {
            queue.bury(taken, "done with").await.unwrap();
        } else {
            queue.acknowledge(vec![taken.receipt]).await.unwrap();
        }
        let before = Instant::now();
        room.await.unwrap();
        assert_eq!(Instant::now(), before);
    }
}

#[tokio::test(start_paused = true)]
async fn room_returns_when_the_last_consumer_has_gone() {
    let queue = queue_of(MemoryQueues::with_capacity(1, 1_000));
    // A receiver that waited.
    let mut receive = Box::pin(queue.receive(1, 3600 * SECOND));
    assert!(poll!(&mut receive).is_pending());
    let options = QueueOptions::default();
    // A delayed message fills the queue, but cannot be received.
    queue.send(bodies(1)).await.unwrap();
    let taken = receive.await.unwrap().remove(0);
    queue
        .release(vec![taken.receipt], 3600 * SECOND)
        .await
        .unwrap();
    let mut receive = Box::pin(queue.receive(1, 1800 * SECOND));
    assert!(poll!(&mut receive).is_pending());
    let mut room = Box::pin(queue.room());
    assert!(poll!(&mut room).is_pending());
    sleep(60 * SECOND).await;
    assert!(poll!(&mut room).is_pending());
    drop(receive);
    let gone_at = Instant::now();
    room.await.unwrap();
    assert!(gone_at.elapsed() <= BETWEEN_MESSAGES + SECOND / 100);

    // A receiver that died while it held a message.
    let queues = MemoryQueues::with_capacity(1, 1_000);
    let queue = queues.open("r", &options).await.unwrap();
    queue.send(bodies(1)).await.unwrap();
    drop(queue.receive(1, SECOND).await.unwrap());
    let taken_at = Instant::now();
    queue.room().await.unwrap();
    let waited = taken_at.elapsed();
    let limit = options.visibility_timeout;
    assert!(waited >= limit && waited < limit + SECOND, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_between_two_messages_still_counts_as_a_consumer() {
    let queue = queue_of(MemoryQueues::with_capacity(2, 1_000));
    queue.send(bodies(1_000)).await.unwrap();
    let worker = async {
        for _ in 0..1_000 {
            let taken = receive_one(&queue).await;
            queue.acknowledge(vec![taken.receipt]).await.unwrap();
            sleep(SECOND / 100).await;
        }
    };
    let producer = async {
        tokio::task::yield_now().await;
        queue.room().await.unwrap();
        queue.depth().await.unwrap().ready
    };
    let ((), left) = tokio::join!(worker, producer);
    assert!(left < 2, "{left} messages were left when there was room");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_threads_lose_nothing() {
    let queue = queue();
    let (seen, mut all_seen) = tokio::sync::mpsc::unbounded_channel();
    let mut consumers = JoinSet::new();
    for _ in 0..8 {
        let (queue, seen) = (Arc::clone(&queue), seen.clone());
        consumers.spawn(async move {
            loop {
                for delivery in queue.receive(3, 3600 * SECOND).await.unwrap() {
                    queue.acknowledge(vec![delivery.receipt]).await.unwrap();
                    seen.send(delivery.body).unwrap();
                }
            }
        });
    }
    for chunk in bodies(20_000).chunks(7) {
        queue.send(chunk.to_vec()).await.unwrap();
        queue.room().await.unwrap();
    }
    let mut received = Vec::new();
    while received.len() < 20_000 {
        received.push(all_seen.recv().await.unwrap());
    }
    let sent = bodies(20_000).into_iter();
    let mut sent: Vec<Bytes> = sent.map(|message| message.body).collect();
    sent.sort();
    received.sort();
    assert_eq!(received, sent);
    assert_eq!(queue.depth().await.unwrap(), Depth::default());
}

#[tokio::test(start_paused = true)]
async fn a_body_over_the_limit_is_refused_before_anything_is_sent() {
    let queue = queue_of(MemoryQueues::new().max_body(3));
    let sent = queue.send(vec!["abc".into(), "abcd".into()]).await;
    assert!(matches!(
        sent,
        Err(Error::TooLarge {
            size: 4,
            limit: 3,
            ..
        })
    ));
    assert_eq!(queue.depth().await.unwrap(), Depth::default());
}

/// Buries one message that is sent now.
async fn bury_one(queue: &MemoryQueue, body: Vec<u8>) {
    queue.send(vec![Outgoing::new(body)]).await.unwrap();
    let taken = receive_one(queue).await;
    queue.bury(taken, "bad").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dead_letters_go_when_their_time_is_up() {
    for (queues, minutes) in [
        (MemoryQueues::new(), 60),
        (MemoryQueues::new().retention(120 * SECOND), 2),
    ] {
        let queue = queue_of(queues);
        bury_one(&queue, vec![1]).await;
        advance(60 * SECOND).await;
        bury_one(&queue, vec![2]).await;
        let letters = queue.dead_letters(None, 10).await.unwrap();
        assert_eq!(letters.len(), 2);
        advance(60 * SECOND * (minutes - 1) - SECOND).await;
        assert_eq!(queue.depth().await.unwrap().dead, 2);
        advance(SECOND).await;
        let left = queue.dead_letters(None, 10).await.unwrap();
        assert_eq!((left.len(), &left[0].body[..]), (1, &[2][..]));
        // What is gone is passed over.
        let gone = letters[0].receipt.clone();
        assert_eq!(queue.redrive(letters.items).await.unwrap(), [gone]);
        assert_eq!(queue.depth().await.unwrap(), Depth::new().ready(1));
    }
    let queue = queue_of(MemoryQueues::new().retention(Duration::MAX));
    bury_one(&queue, vec![1]).await;
    advance(100_000 * 60 * SECOND).await;
    assert_eq!(queue.depth().await.unwrap().dead, 1);
}

/// Ten thousand runs with a dead letter each: one a second, none of them looked at.
#[tokio::test(start_paused = true)]
async fn what_dead_letters_take_is_bounded_by_their_retention() {
    let queue = queue();
    for n in 0..10_000_u32 {
        bury_one(&queue, vec![0; 1_000]).await;
        advance(SECOND).await;
        let dead = queue.depth().await.unwrap().dead;
        assert_eq!(dead, u64::from((n + 1).min(3_599)), "after {n} s");
    }
}
