//! Messages that are pushed: the caller learns the fate of each, and everything else is as with workers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use catchment::queue::{Delivery, Depth, Queue};
use catchment::{
    Backoff, BoxError, Deployment, Error, Fate, Handler, OnFailure, Pipeline, Stage, permanent,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, advance, sleep};

use common::*;

const NOW: Duration = Duration::ZERO;
const TEN: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);
/// Longer than any backoff.
const LONG: Duration = Duration::from_secs(15 * 60);

/// Plays the service that pushes one stage's messages.
struct Service {
    handler: Handler,
    queue: Arc<dyn Queue>,
}

impl Service {
    async fn new<I, R>(store: &Store, deployment: &Deployment<I, R>, stage: &str) -> Self {
        let handler = deployment.handler(stage).unwrap();
        assert_eq!(handler.stage(), stage);
        Self {
            queue: store.queue(handler.queue_name()).await,
            handler,
        }
    }

    /// What is there, waiting this long for the first message.
    async fn receive(&self, wait: Duration) -> Vec<Delivery> {
        self.queue.receive(10, wait).await.unwrap()
    }

    /// Pushes deliveries, and does what their fates say.
    async fn push(&self, deliveries: Vec<Delivery>, remaining: Duration) -> Vec<Fate> {
        let fates = self.handler.handle(deliveries.clone(), remaining).await;
        assert_eq!(fates.len(), deliveries.len());
        for (delivery, fate) in deliveries.into_iter().zip(&fates) {
            if *fate == Fate::Acknowledge {
                self.queue
                    .acknowledge(vec![delivery.receipt])
                    .await
                    .unwrap();
            }
        }
        fates
    }

    async fn depth(&self) -> Depth {
        self.queue.depth().await.unwrap()
    }
}

/// Of a hundred thousand waits that are drawn, about one is shorter than a call.
const LONGER_THAN_A_CALL: Backoff = Backoff::exponential(
    Duration::from_secs(100_000 * 60),
    Duration::from_secs(100_000 * 60),
);

/// The position of an item among deliveries of one item each.
fn position(deliveries: &[Delivery], item: u64) -> usize {
    let value = format!("\"packetValue\":[{item}]");
    let is_it = |delivery: &Delivery| {
        std::str::from_utf8(&delivery.body)
            .unwrap()
            .contains(&value)
    };
    deliveries.iter().position(is_it).unwrap()
}

fn is_nacked(fate: &Fate) -> bool {
    matches!(fate, Fate::Leave { delay: Some(delay) } if *delay > NOW)
}

fn is_handed_back(fate: &Fate) -> bool {
    matches!(fate, Fate::Leave { delay: Some(NOW) })
}

#[tokio::test(start_paused = true)]
async fn a_run_is_done_by_handlers_alone() {
    let store = Store::new();
    let double = Stage::named("double").packet_size(1);
    let sum = Pipeline::new().map(|n: u64| n * 2).with(double);
    let sum = sum.reduce(|| 0, |a, b| a + b).with(Stage::named("sum"));
    let sum = sum.deploy("pushed", store.backend()).unwrap();
    let run = sum.submit([1, 2, 3]).await.unwrap();
    let double = Service::new(&store, &sum, "double").await;
    assert_eq!(double.handler.queue_name(), "pushed--double");

    let deliveries = double.receive(NOW).await;
    let fates = double.handler.handle(deliveries.clone(), MINUTE).await;
    assert_eq!(fates, vec![Fate::Acknowledge; 3]);
    // Acknowledging is the caller's, and everything is durable before.
    assert_eq!(double.depth().await, Depth::new().in_flight(3));
    assert_eq!(run.status().await.unwrap().packets_done, 3);
    // The answer got lost: all of it again.
    assert_eq!(double.push(deliveries, MINUTE).await, fates);
    assert_eq!(double.depth().await, Depth::new());

    let sums = Service::new(&store, &sum, "sum").await;
    // The group's reduction was asked for twice, and counts once.
    let fates = sums.push(sums.receive(NOW).await, MINUTE).await;
    assert_eq!(fates, vec![Fate::Acknowledge; 2]);
    assert_eq!(soon(run.result()).await.unwrap(), 12);
    assert!(sums.push(Vec::new(), NOW).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_delivery_has_its_own_fate_in_the_order_given() {
    let store = Store::new();
    let sum = Pipeline::new()
        .try_map(|n: u64| match n {
            13 => Err(BoxError::from(permanent("unlucky"))),
            7 => Err("busy".into()),
            n => Ok(n),
        })
        .with(
            Stage::named("check")
                .packet_size(1)
                .backoff(LONGER_THAN_A_CALL),
        )
        .reduce(|| 0, |a, b| a + b);
    let sum = sum.deploy("mixed", store.backend()).unwrap();
    let run = sum.submit([1, 7, 13, 2]).await.unwrap();
    let check = Service::new(&store, &sum, "check").await;
    let deliveries = check.receive(NOW).await;
    let fates = check.push(deliveries.clone(), MINUTE).await;
    for (item, nacked) in [(1, false), (7, true), (13, false), (2, false)] {
        let fate = &fates[position(&deliveries, item)];
        assert_eq!(is_nacked(fate), nacked, "{item}: {fate:?}");
        assert_eq!(*fate == Fate::Acknowledge, !nacked, "{item}: {fate:?}");
    }
    let expected = Depth::new().delayed(1).dead(1);
    assert_eq!(check.depth().await, expected, "released with its backoff");
    assert_eq!(run.status().await.unwrap().packets_done, 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_comes_back_until_its_last_attempt_is_a_dead_letter() {
    let store = Store::new();
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let fail = move |_: u64| Err::<u64, _>(format!("no {}", count.fetch_add(1, SeqCst)));
    let stage = Stage::named("fail").attempts(3).backoff(LONGER_THAN_A_CALL);
    let sum = Pipeline::new().try_map(fail).with(stage);
    let sum = sum.reduce(|| 0, |a, b| a + b);
    let sum = sum.deploy("failing", store.backend()).unwrap();
    let run = sum.submit([1]).await.unwrap();
    let failing = Service::new(&store, &sum, "fail").await;
    for attempt in 1..=3 {
        let longest = LONGER_THAN_A_CALL.longest(1);
        let deliveries = failing.receive(longest).await;
        assert_eq!(deliveries[0].receive_count, attempt);
        let fates = failing.push(deliveries, MINUTE).await;
        assert_eq!(is_nacked(&fates[0]), attempt < 3, "{attempt}: {fates:?}");
        assert_eq!(fates[0] == Fate::Acknowledge, attempt == 3, "{attempt}");
    }
    assert!(failing.receive(LONG).await.is_empty());
    assert_eq!(calls.load(SeqCst), 3);
    let letters = run.dead_letters().await.unwrap();
    let attempts = letters[0].attempts.iter();
    let attempts: Vec<_> = attempts.map(|one| (one.number, &*one.error)).collect();
    assert_eq!(attempts, [(1, "no 0"), (2, "no 1"), (3, "no 2")]);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_cannot_be_read_is_buried_by_the_handler() {
    let store = Store::new();
    let sum = Pipeline::new().map(|n: u64| n).with(Stage::named("same"));
    let sum = sum.reduce(|| 0, |a, b| a + b);
    let sum = sum.deploy("unread", store.backend()).unwrap();
    let same = Service::new(&store, &sum, "same").await;
    same.queue.send(vec!["not json".into()]).await.unwrap();
    let deliveries = same.receive(NOW).await;
    assert_eq!(same.push(deliveries, MINUTE).await, [Fate::Acknowledge]);
    assert_eq!(same.depth().await, Depth::new().dead(1));
    let letters = sum.dead_letters().await.unwrap();
    let error = &letters[0].error;
    assert!(error.contains("the message cannot be read"), "{error}");
}

/// What ends at the deadline is an attempt at the item that was at work, and at no other item of its packet.
#[tokio::test(start_paused = true)]
async fn at_the_deadline_the_item_at_work_fails_an_attempt() {
    let store = Store::new();
    let calls: Arc<Mutex<Vec<u64>>> = Arc::default();
    let count = Arc::clone(&calls);
    let stage = Stage::named("slow")
        .packet_size(3)
        .attempts(2)
        .on_failure(OnFailure::Skip);
    let sum = Pipeline::new().then(move |n: u64| {
        count.lock().unwrap().push(n);
        async move {
            if n == 2 {
                sleep(LONG).await;
            }
            ok(n).await
        }
    });
    let sum = sum.with(stage).reduce(|| 0, |a, b| a + b);
    let sum = sum.deploy("slow", store.backend()).unwrap();
    let run = sum.submit([1, 2, 3]).await.unwrap();
    let slow = Service::new(&store, &sum, "slow").await;
    for call in 1..=3 {
        let deliveries = slow.receive(LONG).await;
        let fates = slow.push(deliveries, TEN).await;
        assert_eq!(fates == [Fate::Acknowledge], call == 3, "{call}: {fates:?}");
    }
    let worker = sum.worker().start();
    let outcome = soon(run.outcome()).await.unwrap();
    assert_eq!((outcome.value, outcome.skipped), (4, 1));
    let failed = &outcome.failures[0];
    assert_eq!((failed.item, failed.attempts.len()), (Some(1), 2));
    assert!(failed.error.contains("deadline"), "{failed}");
    let calls = calls.lock().unwrap();
    let of = |item| calls.iter().filter(|n| **n == item).count();
    assert_eq!([1, 2, 3].map(of), [3, 2, 3]);
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_begun_work_fails_and_the_rest_is_handed_back() {
    let store = Store::new();
    let stage = Stage::named("slow")
        .packet_size(1)
        .concurrency(1)
        .attempts(2);
    let sum = Pipeline::new().then(|n: u64| async move {
        sleep(LONG).await;
        ok(n).await
    });
    let sum = sum.with(stage).reduce(|| 0, |a, b| a + b);
    let sum = sum.deploy("slow", store.backend()).unwrap();
    let run = sum.submit([1, 2]).await.unwrap();
    let mut slow = Service::new(&store, &sum, "slow").await;
    let deliveries = slow.receive(NOW).await;
    let begin = Instant::now();
    let fates = slow.push(deliveries, TEN).await;
    let took = begin.elapsed();
    assert!(took >= TEN * 9 / 10 && took < TEN, "{took:?}");
    assert!(is_nacked(&fates[0]), "{fates:?}");
    assert!(is_handed_back(&fates[1]), "{fates:?}");
    let depth = slow.depth().await;
    // The one that was released has a random delay.
    assert_eq!((depth.ready + depth.delayed, depth.in_flight), (2, 0));

    // The other one was not begun: it has both of its attempts before it.
    slow.handler = slow.handler.margin(Duration::from_secs(4));
    slow.handler = slow
        .handler
        .deadline_named("the test's deadline", "be patient");
    let mut counts = Vec::new();
    while let [delivery] = slow.queue.receive(1, LONG).await.unwrap().as_slice() {
        counts.push(delivery.receive_count);
        slow.push(vec![delivery.clone()], TEN).await;
    }
    counts.sort_unstable();
    assert_eq!(counts, [2, 2, 3]);
    let letters = run.dead_letters().await.unwrap();
    let errors = letters.iter().flat_map(|letter| &letter.attempts);
    let errors = errors.map(|attempt| &*attempt.error).collect::<Vec<_>>();
    let first = "cut off after 9s by the handler's deadline: give the handler more time, or let each message have less to do (packet_size, fan_in)";
    let later = "cut off after 6s by the test's deadline: be patient, or let each message have less to do (packet_size, fan_in)";
    let count = |error| errors.iter().filter(|other| **other == error).count();
    assert_eq!((count(first), count(later), errors.len()), (1, 3, 4));
}

/// A function that announces the first item it gets and holds it until told to go on. It passes
/// every other item on at once.
fn holding_the_first() -> (
    impl Fn(u64) -> u64 + Send + Sync + 'static,
    UnboundedReceiver<u64>,
    Sender<()>,
) {
    let (begun, begins) = unbounded_channel();
    let (go_on, gate) = channel();
    let gate = Mutex::new(Some(gate));
    let hold_first = move |n| {
        let gate: Option<Receiver<()>> = gate.lock().unwrap().take();
        if let Some(gate) = gate {
            begun.send(n).unwrap();
            gate.recv().unwrap();
        }
        n
    };
    (hold_first, begins, go_on)
}

/// Calls may overlap, and the deadline of one is not the other's.
#[tokio::test(start_paused = true)]
async fn a_deadline_leaves_the_work_of_another_call_alone() {
    let store = Store::new();
    let (hold_first, mut begins, go_on) = holding_the_first();
    let stage = Stage::named("stuck").packet_size(1).concurrency(1);
    let sum = Pipeline::new().map(hold_first);
    let sum = sum.with(stage).reduce(|| 0, |a, b| a + b);
    let sum = sum.deploy("overlap", store.backend()).unwrap();
    let run = sum.submit([1, 2, 3]).await.unwrap();
    let stuck = Service::new(&store, &sum, "stuck").await;
    let mut deliveries = stuck.receive(NOW).await;
    let first = vec![deliveries.remove(0)];
    let handle = |deliveries, remaining| {
        let handler = stuck.handler.clone();
        tokio::spawn(async move { handler.handle(deliveries, remaining).await })
    };
    let short = handle(first, TEN);
    begins.recv().await.unwrap();
    let long = handle(deliveries, LONG);
    while !short.is_finished() {
        advance(Duration::from_millis(250)).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }
    let fates = short.await.unwrap();
    assert!(is_nacked(&fates[0]), "{fates:?}");
    assert!(!long.is_finished());
    go_on.send(()).unwrap();
    assert_eq!(soon(long).await.unwrap(), vec![Fate::Acknowledge; 2]);
    assert_eq!(run.status().await.unwrap().packets_done, 2);
    let depth = stuck.depth().await;
    assert_eq!(depth.ready + depth.delayed, 1, "no copies: {depth:?}");
}

/// CPU-bound messages of the same call wait for the same threads. Those that have not begun by the
/// margin are on the queue again, and their delivery was no attempt.
#[tokio::test(start_paused = true)]
async fn messages_that_wait_for_a_thread_at_the_deadline_are_handed_back() {
    let store = Store::new();
    let (hold_first, mut begins, go_on) = holding_the_first();
    let stage = Stage::named("stuck")
        .packet_size(1)
        .concurrency(1)
        .attempts(2);
    let sum = Pipeline::new().map(hold_first);
    let sum = sum.with(stage).reduce(|| 0, |a, b| a + b);
    let sum = sum.deploy("waiting", store.backend()).unwrap();
    let run = sum.submit([1, 2, 3]).await.unwrap();
    let stuck = Service::new(&store, &sum, "stuck").await;
    let deliveries = stuck.receive(NOW).await;
    let mut push = pin!(stuck.push(deliveries, TEN));
    // A thread has the first one before the clock moves.
    tokio::select! {
        _ = &mut push => panic!("nothing has ended"),
        _ = begins.recv() => {}
    }
    let fates = loop {
        tokio::select! {
            biased;
            fates = &mut push => break fates,
            () = tokio::task::yield_now() => advance(Duration::from_millis(250)).await,
        }
    };
    let nacked = fates.iter().filter(|fate| is_nacked(fate)).count();
    let handed_back = fates.iter().filter(|fate| is_handed_back(fate)).count();
    assert_eq!((nacked, handed_back), (1, 2), "{fates:?}");
    let depth = stuck.depth().await;
    assert_eq!((depth.ready + depth.delayed, depth.in_flight), (3, 0));
    go_on.send(()).unwrap();
    for _ in 0..3 {
        let delivery = stuck.queue.receive(1, LONG).await.unwrap();
        assert_eq!(delivery[0].receive_count, 2);
        assert_eq!(stuck.push(delivery, TEN).await, [Fate::Acknowledge]);
    }
    let worker = sum.worker().start();
    assert_eq!(soon(run.result()).await.unwrap(), 6);
    worker.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn dropped_anywhere_it_loses_nothing() {
    let mut polls = 0;
    loop {
        let store = Store::new();
        let sum = Pipeline::new().then(|n: u64| async move {
            tokio::task::yield_now().await;
            ok(n).await
        });
        let stage = Stage::named("same").packet_size(1);
        let sum = sum.with(stage).reduce(|| 0, |a, b| a + b);
        let sum = sum.deploy("dropped", store.backend()).unwrap();
        let yielding = store.hooked(Arc::new(Yields::new(polls)));
        let run = sum.submit(1..=4).await.unwrap();
        let same = Service::new(&store, &sum, "same").await;
        let pushed = Pipeline::new().then(|n: u64| async move {
            tokio::task::yield_now().await;
            ok(n).await
        });
        let pushed = pushed.with(Stage::named("same").packet_size(1));
        let pushed = pushed.reduce(|| 0, |a, b| a + b);
        let pushed = pushed.deploy("dropped", yielding).unwrap();
        let handler = pushed.handler("same").unwrap();
        let deliveries = same.receive(NOW).await;
        assert_eq!(deliveries.len(), 4);
        let is_done = {
            let mut work = pin!(handler.handle(deliveries, MINUTE));
            let mut is_done = false;
            for _ in 0..polls {
                is_done = is_done || futures::poll!(work.as_mut()).is_ready();
                tokio::task::yield_now().await;
            }
            is_done
        };
        let worker = sum.worker().start();
        assert_eq!(soon(run.result()).await.unwrap(), 10, "after {polls} polls");
        worker.shutdown().await;
        let left = store.depth(&sum).await;
        assert_eq!(left.dead, 0, "after {polls} polls: {left:?}");
        if is_done {
            break;
        }
        polls += 1;
    }
    assert!(polls > 5, "it was done after {polls} polls");
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_does_not_exist_is_named_with_those_that_do() {
    let store = Store::new();
    let sum = Pipeline::new().map(|n: u64| n).with(Stage::named("same"));
    let sum = sum.reduce(|| 0, |a, b| a + b).with(Stage::named("sum"));
    let sum = sum.deploy("unknown", store.backend()).unwrap();
    let error = sum.handler("sums").unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "a handler is to serve stage `sums`, but deployment `unknown` has the stages same, sum"
    );
}

#[tokio::test(start_paused = true)]
async fn without_its_queue_everything_is_left() {
    let store = Store::new();
    let build = |backend| {
        let sum = Pipeline::new().map(|n: u64| n).with(Stage::named("same"));
        let sum = sum.reduce(|| 0, |a, b| a + b);
        sum.deploy("missing", backend).unwrap()
    };
    let missing = On(|call: &Call<'_>| match call {
        Call::Open => Act::Fail(Error::not_provisioned("queue `missing-same`", "the test")),
        _ => Act::Go,
    });
    let sum = build(store.backend());
    let run = sum.submit([1]).await.unwrap();
    let same = Service::new(&store, &sum, "same").await;
    let broken = build(store.hooked(Arc::new(missing)));
    let broken = broken.handler("same").unwrap();
    let deliveries = same.receive(NOW).await;
    let fates = broken.handle(deliveries.clone(), MINUTE).await;
    assert_eq!(fates, [Fate::Leave { delay: None }]);
    let error = broken.try_handle(deliveries, MINUTE).await.unwrap_err();
    assert!(matches!(error, Error::NotProvisioned { .. }), "{error:?}");
    assert_eq!(run.status().await.unwrap().packets_done, 0);
    assert_eq!(same.depth().await, Depth::new().in_flight(1));
}
