//! How far a run is, while it runs: each number is exact when everything stands still.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use catchment::testing::faults::{Copies, Duplicate};
use catchment::{
    Backend, BoxError, Combine, Context, Error, Items, OnFailure, Pipeline, Progress, RunState,
    Stage, StageProgress, Unit, permanent,
};
use common::{Act, Call, Hook, Store, ok, soon};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::Semaphore;

const SECOND: Duration = Duration::from_secs(1);
const HOURS: Duration = Duration::from_secs(10 * 60 * 60);
const TICK: Duration = Duration::from_millis(250);

/// Lets as many through as there are permits.
#[derive(Clone)]
struct Gate(Arc<Semaphore>);

impl Gate {
    fn shut() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    fn open(&self, permits: usize) {
        self.0.add_permits(permits);
    }

    async fn pass<T>(self, value: T) -> Result<T, BoxError> {
        self.0.acquire().await?.forget();
        Ok(value)
    }
}

/// A sum whose groups pass a gate. A group of one is passed on without it.
struct GatedSum(Gate);

impl Combine for GatedSum {
    type Input = u64;
    type Output = u64;

    fn identity(&self) -> u64 {
        0
    }

    async fn fold(&self, items: Items<'_, u64>, _: &Context) -> Result<u64, BoxError> {
        Ok(items.sum())
    }

    async fn combine(&self, group: Vec<u64>, _: &Context) -> Result<u64, BoxError> {
        self.0.clone().pass(group.iter().sum()).await
    }
}

/// `fetch` and `parse`, an item per packet, and `sum` in pairs, each with a gate.
fn gated(gates: &[Gate; 3]) -> Pipeline<u64, u64, catchment::pipeline::One> {
    let [fetch, parse, sum] = gates.clone();
    Pipeline::new()
        .then(move |n: u64| fetch.clone().pass(n))
        .with(Stage::named("fetch").packet_size(1))
        .then(move |n: u64| parse.clone().pass(n))
        .with(Stage::named("parse"))
        .combine(GatedSum(sum))
        .with(Stage::named("sum").fan_in(2))
}

/// What is expected before each of some gates is opened for some more.
type Script<'a> = &'a [(&'a str, usize, usize)];

/// Every progress that was reported.
#[derive(Clone, Default)]
struct Reports(Arc<Mutex<Vec<Progress>>>);

impl Reports {
    fn listener(&self) -> impl Fn(&Progress) + Send + Sync + 'static {
        let reports = self.clone();
        move |progress| reports.0.lock().unwrap().push(progress.clone())
    }

    fn all(&self) -> Vec<Progress> {
        self.0.lock().unwrap().clone()
    }

    fn last(&self) -> Progress {
        self.all().pop().expect("a last call")
    }
}

/// The reports of a run whose gates are opened by the callback, one step of the script per call.
fn following(
    reports: &Reports,
    gates: [Gate; 3],
    script: Script<'static>,
) -> impl Fn(&Progress) + Send + Sync + 'static {
    let reports = reports.clone();
    move |progress| {
        let mut reports = reports.0.lock().unwrap();
        if let Some((_, gate, permits)) = script.get(reports.len()) {
            gates[*gate].open(*permits);
        }
        reports.push(progress.clone());
    }
}

fn assert_follows(reports: &Reports, script: Script<'_>, end: &str) {
    let lines: Vec<String> = reports.all().iter().map(Progress::to_string).collect();
    let mut expected: Vec<&str> = script.iter().map(|(line, ..)| *line).collect();
    expected.push(end);
    assert_eq!(lines, expected);
}

/// Nothing exceeds what there is of it.
fn assert_fits(progress: &Progress) {
    let mut items = progress.items;
    for stage in &progress.stages {
        let total = stage.total.unwrap_or(u64::MAX);
        let (received, done) = (stage.received.unwrap(), stage.done.unwrap());
        let (left_out, waiting) = (stage.left_out.unwrap(), stage.waiting.unwrap());
        assert!(
            done + left_out + waiting <= received && received <= total,
            "{stage:?}"
        );
        if stage.unit == Unit::Items {
            assert_eq!(stage.total.is_none(), items.is_none(), "{stage:?}");
        } else {
            items = Some(1);
        }
    }
}

/// Everything has gone through.
fn assert_done(progress: &Progress) {
    assert_eq!(progress.state, RunState::Done);
    let mut left_out = 0;
    for stage in &progress.stages {
        assert_eq!(stage.received, stage.total, "{stage:?}");
        left_out += stage.left_out.unwrap();
        let ended = stage.done.unwrap() + stage.left_out.unwrap();
        assert_eq!(Some(ended), stage.total, "{stage:?}");
    }
    assert_eq!(progress.left_out, left_out);
}

const FIVE_ITEMS: Script<'static> = &[
    ("fetch 0 of 5 · parse 0 of 5 · sum 0 of 7 groups", 0, 2),
    ("fetch 2 of 5 · parse 0 of 5 · sum 0 of 7 groups", 1, 1),
    ("fetch 2 of 5 · parse 1 of 5 · sum 0 of 7 groups", 1, 5),
    ("fetch 2 of 5 · parse 2 of 5 · sum 0 of 7 groups", 2, 1),
    ("fetch 2 of 5 · parse 2 of 5 · sum 1 of 7 groups", 0, 3),
    // The fifth item is a group by itself, twice: no function is called for those.
    ("fetch 5 of 5 · parse 5 of 5 · sum 3 of 7 groups", 2, 1),
    ("fetch 5 of 5 · parse 5 of 5 · sum 4 of 7 groups", 2, 1),
    ("fetch 5 of 5 · parse 5 of 5 · sum 5 of 7 groups", 2, 1),
];

#[tokio::test(start_paused = true)]
async fn each_stage_moves_and_so_does_the_reduction() {
    let gates = [Gate::shut(), Gate::shut(), Gate::shut()];
    let reports = Reports::default();
    let listener = following(&reports, gates.clone(), FIVE_ITEMS);
    let sum = gated(&gates).on_progress(listener);
    assert_eq!(soon(sum.run(1..=5)).await.unwrap(), 15);
    let end = "fetch 5 of 5 · parse 5 of 5 · sum 7 of 7 groups";
    assert_follows(&reports, FIVE_ITEMS, end);
    let all = reports.all();
    all.iter().for_each(assert_fits);
    let (last, before) = all.split_last().unwrap();
    assert_done(last);
    for (index, progress) in (1u32..).zip(before) {
        assert_eq!(progress.state, RunState::Running);
        let (elapsed, due) = (progress.elapsed, TICK * index);
        assert!((due..due + TICK).contains(&elapsed), "{elapsed:?}");
    }
    // What has come to a stage and is not done.
    let [fetch, parse, sum] = &before[3].stages[..] else {
        panic!("not three stages");
    };
    assert_eq!((fetch.received, fetch.unit), (Some(5), Unit::Items));
    assert_eq!((parse.received, parse.unit), (Some(2), Unit::Items));
    assert_eq!((sum.received, sum.unit), (Some(1), Unit::Groups));
}

#[tokio::test(start_paused = true)]
async fn a_stream_has_no_total_until_it_ends() {
    let gates = [Gate::shut(), Gate::shut(), Gate::shut()];
    gates.iter().for_each(|gate| gate.open(100));
    let (send, items) = futures::channel::mpsc::unbounded();
    let send = Mutex::new(Some(send));
    for n in 1..=3 {
        send.lock()
            .unwrap()
            .as_ref()
            .unwrap()
            .unbounded_send(n)
            .unwrap();
    }
    let reports = Reports::default();
    let listen = reports.listener();
    let sum = gated(&gates).on_progress(move |progress| {
        listen(progress);
        *send.lock().unwrap() = None;
    });
    assert_eq!(soon(sum.run_stream(items)).await.unwrap(), 6);
    let all = reports.all();
    let first = all.first().unwrap();
    assert_eq!((first.state, first.items), (RunState::Open, None));
    let line = "fetch 3 of at least 3 · parse 3 of at least 3 · sum 1 of at least 1 groups";
    assert_eq!(first.to_string(), line);
    all.iter().for_each(assert_fits);
    let last = all.last().unwrap();
    assert_eq!(last.items, Some(3));
    assert_done(last);
}

#[tokio::test(start_paused = true)]
async fn the_interval_can_be_set() {
    for (every, calls) in [(SECOND, 4), (Duration::from_secs(3), 2), (Duration::MAX, 1)] {
        let reports = Reports::default();
        let slow = Pipeline::new()
            .then(|n: u64| async move {
                tokio::time::sleep(Duration::from_millis(3_500)).await;
                ok(n).await
            })
            .reduce(|| 0, |a, b| a + b)
            .on_progress(reports.listener())
            .progress_every(every);
        assert_eq!(soon(slow.run([1])).await.unwrap(), 1);
        assert_eq!(reports.all().len(), calls, "{every:?}");
    }
}

/// The last report of a run of this many items, which must be complete.
async fn last_of<S, O>(pipeline: Pipeline<u64, O, S>, items: u64) -> Progress
where
    O: catchment::Data,
    S: catchment::pipeline::Answer<O>,
{
    let reports = Reports::default();
    let pipeline = pipeline
        .on_progress(reports.listener())
        .progress_every(Duration::from_millis(1));
    pipeline.run(0..items).await.unwrap();
    reports.all().iter().for_each(assert_fits);
    let last = reports.last();
    assert_done(&last);
    assert_eq!(last.items, Some(items));
    last
}

#[tokio::test]
async fn the_last_call_says_that_everything_is_done() {
    let double = || Pipeline::new().map(|n: u64| n * 2);
    // Packets that travel as one message, too.
    for items in [0, 1, 31, 32, 33, 999, 1_000, 1_024, 5_000, 20_000] {
        let last = last_of(double().reduce(|| 0, |a, b| a + b), items).await;
        assert_eq!(last.stages.len(), 2);
        assert_eq!(last.stages[0].total, Some(items));
        last_of(double(), items).await;
        last_of(
            double().with(Stage::new()).filter(|n| n % 3 == 0).count(),
            items,
        )
        .await;
        last_of(Pipeline::new().reduce(|| 0, |a, b| a + b), items).await;
        last_of(double().then(ok).collect(), items).await;
        let last = last_of(
            double()
                .count()
                .flat_map(|n| vec![n; 3])
                .reduce(|| 0, |a, b| a + b)
                .map(|n| n + 1),
            items,
        )
        .await;
        let totals: Vec<_> = last.stages.iter().map(|stage| stage.total).collect();
        assert_eq!(totals[2..], [Some(1), Some(1), Some(1)]);
    }
}

#[tokio::test]
async fn a_group_that_is_taken_apart_is_counted_once() {
    let failed = Arc::new(AtomicBool::new(false));
    let items =
        Pipeline::new().try_map(move |n: u64| match n == 777 && !failed.swap(true, SeqCst) {
            true => Err("once"),
            false => Ok(n),
        });
    let items = items.with(Stage::named("once").backoff(catchment::Backoff::none()));
    last_of(items.reduce(|| 0, |a, b| a + b), 20_000).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_left_out_is_not_awaited_by_later_stages() {
    let reports = Reports::default();
    let odd = Pipeline::new()
        .then(|n: u64| async move {
            match n % 2 {
                0 => Err(permanent("even")),
                _ => Ok(n),
            }
        })
        .with(Stage::named("odd").on_failure(OnFailure::Skip))
        .then(ok)
        .with(Stage::named("same"))
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("sum"))
        .on_progress(reports.listener());
    assert_eq!(soon(odd.run(1..=9)).await.unwrap(), 25);
    let last = reports.last();
    assert_done(&last);
    let line = "odd 5 of 9 (4 left out) · same 5 of 5 · sum 1 of 1 group";
    assert_eq!((last.to_string().as_str(), last.left_out), (line, 4));
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_says_so_in_its_last_call() {
    let reports = Reports::default();
    let bad = Pipeline::new()
        .then(|n: u64| async move {
            match n {
                3 => Err(permanent("three")),
                _ => Ok(n),
            }
        })
        .with(Stage::named("bad").packet_size(1))
        .reduce(|| 0, |a, b| a + b)
        .on_progress(reports.listener());
    let failed = soon(bad.run(1..=3)).await;
    assert!(matches!(failed, Err(Error::Failed { .. })), "{failed:?}");
    let last = reports.last();
    assert_eq!(last.state, RunState::Failed);
    assert_fits(&last);
}

/// What was logged.
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_panics_is_not_called_again_and_the_run_goes_on() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let writer = Arc::clone(&log);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::ERROR)
        .with_writer(move || Log(Arc::clone(&writer)))
        .finish();
    let _logged = tracing::subscriber::set_default(subscriber);
    let errors = || {
        String::from_utf8_lossy(&log.lock().unwrap())
            .matches("ERROR")
            .count()
    };
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let slow = Pipeline::new()
        .then(|n: u64| async move {
            tokio::time::sleep(SECOND).await;
            ok(n).await
        })
        .reduce(|| 0, |a, b| a + b)
        .on_progress(move |_| {
            count.fetch_add(1, SeqCst);
            panic!("the callback's own");
        });
    assert_eq!(soon(slow.run(1..=4)).await.unwrap(), 10);
    assert_eq!((calls.load(SeqCst), errors()), (1, 1));
    // Each run begins anew.
    assert_eq!(soon(slow.run(1..=4)).await.unwrap(), 10);
    assert_eq!((calls.load(SeqCst), errors()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn duplicates_never_exceed_the_total() {
    for copies in [Copies::Early, Copies::Late] {
        let store = Store::new();
        let backend = store.with(|queues| Duplicate::new(copies).queues(queues));
        let reports = Reports::default();
        let sum = Pipeline::new()
            .then(|n: u64| async move {
                tokio::time::sleep(SECOND).await;
                ok(n).await
            })
            .with(Stage::named("slow").packet_size(2).concurrency(4))
            .then(ok)
            .with(Stage::named("quick"))
            .reduce(|| 0, |a, b| a + b)
            .with(Stage::named("sum").fan_in(2))
            .on_progress(reports.listener());
        assert_eq!(soon(sum.run_over(backend, 0..21)).await.unwrap(), 210);
        let all = reports.all();
        assert!(all.len() > 2, "{copies:?}");
        all.iter().for_each(assert_fits);
        assert_done(all.last().unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn items_that_failed_are_counted_while_they_wait_and_after() {
    let reports = Reports::default();
    let failed = Arc::new(AtomicUsize::new(0));
    let once = Pipeline::new()
        .then(move |n: u64| {
            let fails = n < 3 && failed.fetch_add(1, SeqCst) < 3;
            async move {
                match fails {
                    true => Err("once"),
                    false => Ok(n),
                }
            }
        })
        .with(
            Stage::named("once")
                .packet_size(10)
                // A wait is drawn evenly from zero on: the first call all but surely comes before its end.
                .backoff(catchment::Backoff::exponential(HOURS, HOURS)),
        )
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("sum"))
        .on_progress(reports.listener());
    assert_eq!(soon(once.run(0..10)).await.unwrap(), 45);
    let all = reports.all();
    let once = &all[0].stages[0];
    assert_eq!((once.retried, once.waiting), (Some(3), Some(3)));
    let last = all.last().unwrap();
    assert_done(last);
    let line = "once 10 of 10 (3 retried) · sum 1 of 1 group";
    assert_eq!(last.to_string(), line);
}

/// As an application over another process's run: `None` for what nobody can know.
fn numbers(stage: &StageProgress) -> [Option<u64>; 4] {
    [stage.total, stage.received, stage.done, stage.left_out]
}

#[tokio::test(start_paused = true)]
async fn a_deployed_run_is_followed_by_a_stream() {
    let gates = [Gate::shut(), Gate::shut(), Gate::shut()];
    let deployment = gated(&gates)
        .on_progress(|_| panic!("a deployment does not call it"))
        .deploy("gated", Backend::memory())
        .unwrap();
    let run = deployment.submit(1..=5).await.unwrap();
    let worker = deployment.worker().start();
    let mut updates = run.progress().every(SECOND);
    let script: Script<'_> = &[
        ("fetch ? of 5 · parse 0 of 5 · sum 0 of 7 groups", 0, 2),
        ("fetch ? of 5 · parse 0 of 5 · sum 0 of 7 groups", 1, 2),
        ("fetch ? of 5 · parse 2 of 5 · sum 0 of 7 groups", 2, 1),
        ("fetch ? of 5 · parse 2 of 5 · sum 1 of 7 groups", 0, 3),
        ("fetch ? of 5 · parse 2 of 5 · sum 1 of 7 groups", 1, 3),
        ("fetch ? of 5 · parse 5 of 5 · sum 3 of 7 groups", 2, 1),
        ("fetch ? of 5 · parse 5 of 5 · sum 4 of 7 groups", 2, 2),
    ];
    for (line, gate, permits) in script {
        let progress = soon(updates.next()).await.unwrap().unwrap();
        assert_eq!(progress.to_string(), *line);
        assert_eq!(
            (progress.state, progress.items),
            (RunState::Running, Some(5))
        );
        assert_eq!(
            numbers(&progress.stages[0]),
            [Some(5), Some(5), None, Some(0)]
        );
        assert_eq!(progress.stages[1].received, None);
        gates[*gate].open(*permits);
    }
    let last = soon(updates.next()).await.unwrap().unwrap();
    let end = "fetch 5 of 5 · parse 5 of 5 · sum 7 of 7 groups";
    assert_eq!(
        (last.state, last.to_string().as_str()),
        (RunState::Done, end)
    );
    assert_done(&last);
    assert!(soon(updates.next()).await.is_none(), "it ends with the run");
    assert_eq!(run.result().await.unwrap(), 15);
    // Who comes late sees the end.
    let late: Vec<Progress> = run.progress().try_collect().await.unwrap();
    assert_eq!(late.len(), 1);
    assert_eq!(late[0].stages, last.stages);
    worker.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_stream_of_a_stream_and_of_later_reductions() {
    let gate = Gate::shut();
    let last = gate.clone();
    let deployment = Pipeline::new()
        .then(ok::<u64>)
        .with(Stage::named("same").packet_size(1))
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("sum").fan_in(2))
        .flat_map(|n| vec![n; 3])
        .with(Stage::named("thrice"))
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::named("again"))
        .then(move |n| last.clone().pass(n))
        .with(Stage::named("finish"))
        .deploy("later", Backend::memory())
        .unwrap();
    let worker = deployment.worker().start();
    let (send, items) = futures::channel::mpsc::unbounded();
    let submission = tokio::spawn({
        let deployment = deployment.clone();
        async move { deployment.submit_stream_as("run", items).await.map(|_| ()) }
    });
    for n in 1..=3 {
        send.unbounded_send(n).unwrap();
    }
    tokio::time::sleep(SECOND * 5).await;
    let mut updates = deployment.attach("run").progress();
    let mut next = async || soon(updates.next()).await.unwrap().unwrap();
    let progress = next().await;
    assert_eq!((progress.state, progress.items), (RunState::Open, None));
    assert_eq!(
        progress.to_string(),
        "same 3 of at least 3 · sum 1 of at least 1 groups · thrice 0 of 1 · again 0 of 1 group · finish 0 of 1"
    );
    drop(send);
    submission.await.unwrap().unwrap();
    let progress = next().await;
    assert_eq!(
        (progress.state, progress.items),
        (RunState::Running, Some(3))
    );
    assert_eq!(
        progress.to_string(),
        "same 3 of 3 · sum 4 of 4 groups · thrice 1 of 1 · again 0 of 1 group · finish 0 of 1"
    );
    gate.open(1);
    assert_done(&next().await);
    worker.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_stream_says_what_was_left_out_if_the_record_does() {
    let odd = |n: u64| async move {
        match n % 2 {
            0 => Err(permanent("even")),
            _ => Ok(n),
        }
    };
    let skip = |name| Stage::named(name).on_failure(OnFailure::Skip);
    for (both, line) in [
        (
            false,
            "odd 5 of 9 (4 left out) · same 5 of 5 · sum 1 of 1 group",
        ),
        // Which of the two has left them out is not on record as a number.
        (true, "odd ? of 9 · same 5 · sum 1 of 1 group"),
    ] {
        let same = if both {
            skip("same")
        } else {
            Stage::named("same")
        };
        let deployment = Pipeline::new()
            .then(odd)
            .with(skip("odd"))
            .then(ok)
            .with(same)
            .reduce(|| 0, |a, b| a + b)
            .with(Stage::named("sum"))
            .deploy("odd", Backend::memory())
            .unwrap();
        let worker = deployment.worker().start();
        let run = deployment.submit(1..=9).await.unwrap();
        let all: Vec<Progress> = soon(run.progress().try_collect()).await.unwrap();
        let last = all.last().unwrap();
        assert_eq!((last.to_string().as_str(), last.left_out), (line, 4));
        worker.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_stream_ends_with_a_failed_or_cancelled_run_and_without_a_run() {
    let gates = [Gate::shut(), Gate::shut(), Gate::shut()];
    let deployment = gated(&gates).deploy("gated", Backend::memory()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(1..=5).await.unwrap();
    gates[0].open(5);
    gates[1].open(2);
    tokio::time::sleep(SECOND).await;
    let mut updates = run.progress();
    let before = soon(updates.next()).await.unwrap().unwrap();
    let line = "fetch ? of 5 · parse 2 of 5 · sum 0 of 7 groups";
    assert_eq!(before.to_string(), line);
    run.cancel().await.unwrap();
    let rest: Vec<Progress> = soon(updates.try_collect()).await.unwrap();
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].state, RunState::Cancelled);
    assert_eq!(rest[0].stages, before.stages);
    let late: Vec<Progress> = soon(run.progress().try_collect()).await.unwrap();
    assert_eq!(
        late[0].to_string(),
        "fetch ? of 5 · parse ? of 5 · sum ? of 7 groups"
    );

    let unknown = deployment.attach("unknown");
    let mut updates = unknown.progress();
    let error = soon(updates.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::NoSuchRun { .. }), "{error}");
    assert!(updates.next().await.is_none());
    drop(worker);

    let deployment = Pipeline::new()
        .then(|n: u64| async move {
            match n {
                3 => Err(permanent("three")),
                _ => Ok(n),
            }
        })
        .reduce(|| 0, |a, b| a + b)
        .deploy("bad", Backend::memory())
        .unwrap();
    let _worker = deployment.worker().start();
    let run = deployment.submit(1..=3).await.unwrap();
    let all: Vec<Progress> = soon(run.progress().try_collect()).await.unwrap();
    assert_eq!(all.last().unwrap().state, RunState::Failed);
}

/// Counts the calls that ask for the slots of groups.
#[derive(Default)]
struct Asked(AtomicUsize);

#[async_trait::async_trait]
impl Hook for Asked {
    async fn before(&self, call: &Call<'_>) -> Act {
        if matches!(call, Call::Arrived) {
            self.0.fetch_add(1, SeqCst);
        }
        Act::Go
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_of_the_stream_asks_as_often_as_a_status() {
    let asked = Arc::new(Asked::default());
    let deployment = Pipeline::new()
        .then(ok::<u64>)
        .with(Stage::new().packet_size(1))
        .reduce(|| 0, |a, b| a + b)
        .with(Stage::new().fan_in(10))
        .deploy("asked", Store::new().hooked(asked.clone()))
        .unwrap();
    let run = deployment.submit(0..900).await.unwrap();
    run.status().await.unwrap();
    assert_eq!(asked.0.load(SeqCst), 1);
    let progress = run.progress().next().await.unwrap().unwrap();
    assert_eq!(progress.stages[1].total, Some(90 + 9 + 1));
    assert_eq!(asked.0.load(SeqCst), 2);
}
