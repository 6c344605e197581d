//! Items that fail in a batch of records: their packets are kept while they wait, and go back with their counts on record
//! if there is no time for that.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use catchment::{Backoff, BoxError, Deployment, OnFailure, Pipeline, Run, Stage};
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::advance;

use super::*;
use crate::plan::{ALWAYS, Nature, Plan};

const TEN: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(60 * 60);
const LENGTH: u64 = 50;
const ATTEMPTS: u32 = 3;

type Kept = Deployment<u64, Vec<u64>>;
/// Item and attempt number of each call.
type Calls = Arc<Mutex<Vec<(u64, u32)>>>;

fn stage() -> Stage {
    Stage::named("work")
        .packet_size(5)
        .attempts(ATTEMPTS)
        .on_failure(OnFailure::Skip)
        .visibility_timeout(10 * HOUR)
        .label(|n: &u64| format!("page {n}"))
}

fn deploy(store: &Store, is_async: bool, plan: &Arc<Plan>, calls: &Calls, stage: Stage) -> Kept {
    let (plan, calls) = (Arc::clone(plan), Arc::clone(calls));
    let items = Pipeline::new();
    let items = match is_async {
        false => items.try_map_with(move |n, context| {
            calls.lock().unwrap().push((n, context.attempt()));
            plan.call(n)
        }),
        true => items.then_with(move |n, context| {
            calls.lock().unwrap().push((n, context.attempt()));
            let plan = Arc::clone(&plan);
            async move { plan.called(n, || {}).await }
        }),
    };
    let items = items.with(stage).collect().with(Stage::named("all"));
    items.deploy("items", store.backend()).unwrap()
}

fn attempts_of(calls: &Calls, item: u64) -> Vec<u32> {
    let calls = calls.lock().unwrap();
    let of_item = calls.iter().filter(|call| call.0 == item);
    of_item.map(|call| call.1).collect()
}

/// Reduces what is left, and holds it against the plan: each bad item is listed once, with its label and its own attempts.
async fn check(what: &str, store: &Store, deployment: &Kept, run: &Run<Vec<u64>>, plan: &Plan) {
    let all = Mapping::new(store, deployment.lambda("all").unwrap()).await;
    work_off(&[&all]).await;
    let outcome = soon(run.outcome()).await.unwrap();
    let most = ATTEMPTS;
    assert_eq!(outcome.value, plan.good(most).collect::<Vec<_>>(), "{what}");
    let bad = plan.bad(most);
    assert_eq!(outcome.skipped, bad.len() as u64, "{what}");
    let mut listed = run.failures().await.unwrap().to_vec();
    listed.sort_unstable_by_key(|failure| failure.item);
    let items: Vec<u64> = listed.iter().filter_map(|failure| failure.item).collect();
    assert_eq!(items, bad, "{what}");
    for failure in &listed {
        assert!(failure.is_skipped(), "{what}: {failure}");
        let item = failure.item.unwrap();
        assert_eq!(failure.label, Some(format!("page {item}")), "{what}");
        let own = failure.attempts.iter().map(|one| (one.number, one.item));
        let needed = plan.nature(item).calls(most);
        let expected: Vec<_> = (1..=needed).map(|number| (number, Some(item))).collect();
        assert_eq!(own.collect::<Vec<_>>(), expected, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_in_a_batch_is_tried_again_in_the_same_call() {
    for is_async in [false, true] {
        let what = format!("asynchronous: {is_async}");
        let plan = Plan::new((0..LENGTH).map(|item| match item % 25 {
            3 | 10 => Nature::Fails(ALWAYS),
            4 => Nature::Permanent,
            11 => Nature::Panics(ALWAYS),
            0 | 12 | 20 => Nature::Fails(1),
            13 => Nature::Fails(2),
            _ => Nature::Good,
        }));
        let (store, calls) = (Store::new(), Calls::default());
        let deployment = deploy(&store, is_async, &plan, &calls, stage());
        let run = deployment.submit(0..LENGTH).await.unwrap();
        let work = Mapping::new(&store, deployment.lambda("work").unwrap()).await;
        let deliveries = work.receive(NOW).await;
        assert_eq!(deliveries.len(), 10);
        let back = work.invoke(&deliveries).await;
        assert!(back.is_empty(), "{what}: {back:?}");
        check(&what, &store, &deployment, &run, &plan).await;
        for item in 0..LENGTH {
            let expected: Vec<u32> = (1..=plan.nature(item).calls(ATTEMPTS)).collect();
            assert_eq!(attempts_of(&calls, item), expected, "{what}: item {item}");
        }
    }
}

/// Packets with a bad item, one that recovers, and others.
fn one_in_five() -> Arc<Plan> {
    Plan::new((0..LENGTH).map(|item| match item % 5 {
        3 => Nature::Fails(ALWAYS),
        4 => Nature::Fails(1),
        _ => Nature::Good,
    }))
}

#[tokio::test(start_paused = true)]
async fn what_waits_longer_than_the_deadline_comes_back_with_its_counts() {
    for is_async in [false, true] {
        let what = format!("asynchronous: {is_async}");
        let plan = one_in_five();
        let (store, calls) = (Store::new(), Calls::default());
        // Waits of up to an hour.
        let stage = stage().backoff(Backoff::exponential(HOUR, HOUR));
        let deployment = deploy(&store, is_async, &plan, &calls, stage);
        let run = deployment.submit(0..LENGTH).await.unwrap();
        let work = Mapping::new(&store, deployment.lambda("work").unwrap()).await;
        let mut went_back = 0;
        loop {
            let deliveries = work.receive(2 * HOUR).await;
            if deliveries.is_empty() {
                break;
            }
            let begin = tokio::time::Instant::now();
            went_back += work.invoke_for(&deliveries, TEN).await.len();
            assert!(begin.elapsed() <= TEN, "{what}: {:?}", begin.elapsed());
        }
        assert!(went_back > 0, "{what}");
        check(&what, &store, &deployment, &run, &plan).await;
        for item in 0..LENGTH {
            let seen = attempts_of(&calls, item);
            match item % 5 {
                3 => assert_eq!(seen, [1, 2, 3], "{what}: item {item}"),
                // What has succeeded in a packet that goes back runs again, as the attempt that it was.
                4 => assert!(seen.starts_with(&[1, 2]) && seen[2..] == vec![2; seen.len() - 2]),
                _ => assert_eq!(seen, vec![1; seen.len()], "{what}: item {item}"),
            }
            assert!(seen.len() <= 4, "{what}: item {item}: {seen:?}");
        }
    }
}

/// The item that hangs, in the first of two packets.
const HANGS: u64 = 3;
const RECOVERS: u64 = 4;

/// After its second attempt it is left out.
fn assert_only_its_own(what: &str, calls: &Calls, run: &[catchment::scratchpad::Failure]) {
    assert_eq!(attempts_of(calls, HANGS), [1, 2, 3], "{what}");
    let recovers = attempts_of(calls, RECOVERS);
    assert_eq!(recovers[..2], [1, 2], "{what}: {recovers:?}");
    for item in (0..10).filter(|item| ![HANGS, RECOVERS].contains(item)) {
        let seen = attempts_of(calls, item);
        assert_eq!(seen, vec![1; seen.len()], "{what}: item {item}");
        assert!(item < 5 || seen.len() == 1, "{what}: item {item}: {seen:?}");
    }
    for failure in run {
        let problem = "cut off after 9s by the Lambda function's deadline";
        assert!(failure.error.contains(problem), "{what}: {failure}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_that_outlasts_the_deadline_fails_its_own_attempt() {
    let hangs = [(HANGS, Nature::Hangs(ALWAYS)), (RECOVERS, Nature::Fails(1))];
    let plan = Plan::with(10, hangs);
    let (store, calls) = (Store::new(), Calls::default());
    let deployment = deploy(&store, true, &plan, &calls, stage().timeout(HOUR));
    let run = deployment.submit(0..10).await.unwrap();
    let work = Mapping::new(&store, deployment.lambda("work").unwrap()).await;
    let mut calls_that_were_cut_off = 0;
    loop {
        let deliveries = work.receive(HOUR).await;
        if deliveries.is_empty() {
            break;
        }
        let back = work.invoke_for(&deliveries, TEN).await;
        calls_that_were_cut_off += back.len();
        assert!(back.len() <= 1, "the other packet is done: {back:?}");
    }
    assert_eq!(calls_that_were_cut_off, 3);
    check("asynchronous", &store, &deployment, &run, &plan).await;
    let failures = run.failures().await.unwrap();
    assert_only_its_own("asynchronous", &calls, &failures);
}

/// Threads that are held until the test has ended.
#[derive(Clone)]
struct Gate(Arc<Mutex<Receiver<()>>>);

impl Gate {
    fn new() -> (Self, Sender<()>) {
        let (opens, gate) = channel();
        (Self(Arc::new(Mutex::new(gate))), opens)
    }

    fn hold(&self) {
        // It ends with an error once the other end is gone.
        let _ = self.0.lock().unwrap().recv();
    }
}

/// A CPU-bound function cannot be stopped: the item that it is at has failed all the same.
#[tokio::test(start_paused = true)]
async fn an_item_that_blocks_past_the_deadline_fails_its_own_attempt() {
    let (gate, _opens) = Gate::new();
    let (held, mut holds) = unbounded_channel();
    let (store, calls) = (Store::new(), Calls::default());
    let hangs = [(HANGS, Nature::Hangs(ALWAYS)), (RECOVERS, Nature::Fails(1))];
    let plan = Plan::with(10, hangs);
    let (planned, note) = (Arc::clone(&plan), Arc::clone(&calls));
    let items = Pipeline::new().try_map_with(move |n: u64, context| {
        note.lock().unwrap().push((n, context.attempt()));
        if n == HANGS {
            held.send(()).unwrap();
            gate.hold();
            return Ok::<_, BoxError>(n);
        }
        planned.call(n)
    });
    let items = items.with(stage().timeout(HOUR)).collect();
    let items = items.with(Stage::named("all"));
    let deployment: Kept = items.deploy("blocks", store.backend()).unwrap();
    let run = deployment.submit(0..10).await.unwrap();
    let work = Mapping::new(&store, deployment.lambda("work").unwrap()).await;
    loop {
        let deliveries = work.receive(HOUR).await;
        if deliveries.is_empty() {
            break;
        }
        let (event, function) = (work.event(&deliveries), work.function.clone());
        let mut answer = tokio::spawn(async move { function.handle(event, TEN).await.unwrap() });
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut answer => break answer.unwrap(),
                Some(()) = holds.recv() => {}
            }
            // Nothing moves the clock while a thread is held.
            while !answer.is_finished() {
                advance(Duration::from_millis(250)).await;
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
            }
        };
        work.delete(&deliveries, &answer).await;
    }
    check("blocking", &store, &deployment, &run, &plan).await;
    let failures = run.failures().await.unwrap();
    assert_only_its_own("blocking", &calls, &failures);
}
