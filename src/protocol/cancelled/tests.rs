//! Waiting for a run to be cancelled, on a paused clock: when it ends, and what it costs.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::PoisonError;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt, poll};
use tokio::time::{advance, timeout};

use super::*;
use crate::core::error::{Error, Result};
use crate::core::generation::Generation;
use crate::core::group::{GroupId, GroupState};
use crate::core::id::RunId;
use crate::core::page::{Cursor, Page};
use crate::scratchpad::RunOutline;
use crate::scratchpad::{
    Arrival, Beginning, Begun, Checkpoint, DeadLetterId, Deliveries, Failure, FailureLog,
    FailureReport, Failures, Groups, Members, RunRecord, RunSnapshot, Runs as StoredRuns,
};

const INTERVAL: Duration = Duration::from_secs(2);

/// A store of which only one question is asked: which runs are over. It counts how often.
#[derive(Debug, Default)]
struct Store(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    over: BTreeSet<RunKey>,
    /// The runs that are on record.
    begun: BTreeSet<RunKey>,
    /// How often it was asked which generation an id has.
    reads: usize,
    is_away: bool,
    looks: BTreeMap<RunKey, usize>,
    /// Each question, in their order.
    order: Vec<RunKey>,
}

impl Store {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancel(&self, run: &str) {
        self.state().over.insert(run.into());
    }

    fn looks(&self, run: &str) -> usize {
        self.state().looks.get(&run.into()).copied().unwrap_or(0)
    }
}

impl Scratchpad for Store {}

#[async_trait]
#[rustfmt::skip]
impl StoredRuns for Store {
    async fn is_over(&self, run: &RunKey) -> Result<bool> {
        self.state().order.push(run.clone());
        // An answer takes a while.
        tokio::time::sleep(Duration::from_millis(10)).await;
        let mut state = self.state();
        *state.looks.entry(run.clone()).or_default() += 1;
        match state.is_away {
            true => Err(Error::NoSuchRun { run: run.id.clone() }),
            false => Ok(state.over.contains(run)),
        }
    }
    async fn outline(&self, run: &RunId) -> Result<Option<RunOutline>> {
        self.state().reads += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
        let state = self.state();
        let begun = state.begun.iter().find(|begun| begun.id == *run);
        match state.is_away {
            true => Err(Error::NoSuchRun { run: run.clone() }),
            false => Ok(begun.map(|begun| RunOutline::new(begun.generation, Some(5)))),
        }
    }
    async fn begin(&self, _: &RunRecord) -> Result<Begun> { unreachable!() }
    async fn checkpoint(&self, _: &RunKey, _: &Checkpoint) -> Result<()> { unreachable!() }
    async fn measure(&self, _: &RunKey, _: &Checkpoint) -> Result<()> { unreachable!() }
    async fn submitted(&self, _: &RunKey) -> Result<()> { unreachable!() }
    async fn complete(&self, _: &RunKey, _: Bytes) -> Result<bool> { unreachable!() }
    async fn cancel(&self, _: &RunId) -> Result<bool> { unreachable!() }
    async fn status(&self, _: &RunId) -> Result<Option<RunSnapshot>> { unreachable!() }
    async fn wait(&self, _: &RunId, _: Duration) -> Result<Option<RunSnapshot>> { unreachable!() }
}

#[async_trait]
#[rustfmt::skip]
impl Groups for Store {
    async fn expect(&self, _: &GroupId, _: u32, _: bool) -> Result<GroupState> { unreachable!() }
    async fn arrive(&self, _: Vec<Arrival>) -> Result<Vec<GroupState>> { unreachable!() }
    async fn members(&self, _: &GroupId) -> Result<Members> { unreachable!() }
    async fn retire(&self, _: &GroupId) -> Result<()> { unreachable!() }
    async fn arrived(&self, _: &[GroupId]) -> Result<Vec<Vec<u32>>> { unreachable!() }
}

#[async_trait]
#[rustfmt::skip]
impl Failures for Store {
    async fn note_beginning(&self, _: &Beginning) -> Result<Deliveries> { unreachable!() }
    async fn withdraw_beginning(&self, _: &Beginning) -> Result<()> { unreachable!() }
    async fn record(&self, _: &FailureReport) -> Result<FailureLog> { unreachable!() }
    async fn clear(&self, _: &RunKey, _: &str, _: &str, _: DeadLetterId) -> Result<()> { unreachable!() }
    async fn list_failures(&self, _: &RunId, _: Option<&Cursor>, _: usize) -> Result<Page<Failure>> { unreachable!() }
}

fn cancelled() -> (Arc<Store>, Cancelled) {
    let store = Arc::new(Store::default());
    let cancelled = Cancelled::new(INTERVAL, false, store.clone());
    (store, cancelled)
}

/// The same for runs whose messages leave the process.
fn reading() -> (Arc<Store>, Cancelled) {
    let store = Arc::new(Store::default());
    let cancelled = Cancelled::new(INTERVAL, true, store.clone());
    (store, cancelled)
}

/// Whether `wait` ends within this many intervals.
async fn ends(wait: impl Future<Output = ()>, intervals: u32) -> bool {
    timeout(INTERVAL * intervals, wait).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_waiter_learns_of_the_end_within_two_intervals_and_looks_once_per_interval() {
    let (store, cancelled) = cancelled();
    let run = RunKey::from("run");
    let begin = Instant::now();
    assert!(!ends(cancelled.when(&run), 10).await);
    assert_eq!(begin.elapsed(), INTERVAL * 10);
    assert!(
        (8..=10).contains(&store.looks("run")),
        "{}",
        store.looks("run")
    );
    store.cancel("run");
    assert!(ends(cancelled.when(&run), 2).await);
    // What one has seen, all know.
    assert_eq!(cancelled.known(&run), Some(Standing::Over));
    let looks = store.looks("run");
    assert!(ends(cancelled.when(&run), 0).await);
    assert_eq!(store.looks("run"), looks);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_looked_up_while_nobody_waits_or_for_a_short_run() {
    let (store, cancelled) = cancelled();
    for number in 0..100 {
        let run = RunKey::from(&*number.to_string());
        let short = timeout(INTERVAL / 4, cancelled.when(&run)).await;
        assert!(short.is_err());
        assert_eq!(store.looks(run.id.as_str()), 0);
    }
    advance(INTERVAL * 1_000).await;
    assert!(store.state().looks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn all_waiters_share_the_looks_at_all_runs() {
    let (store, cancelled) = cancelled();
    let ids: Vec<RunKey> = (0..300)
        .map(|n| RunKey::from(&*(n % 3).to_string()))
        .collect();
    let mut waits: Vec<_> = ids
        .iter()
        .map(|run| Box::pin(cancelled.when(run)))
        .collect();
    for wait in &mut waits {
        assert!(poll!(wait.as_mut()).is_pending());
    }
    store.cancel("1");
    let mut ended = Vec::new();
    let all = async {
        let indexed = waits.iter_mut().enumerate();
        let indexed = indexed.map(|(index, wait)| async move {
            wait.as_mut().await;
            index
        });
        let mut all = indexed.collect::<futures::stream::FuturesUnordered<_>>();
        use futures::StreamExt;
        while let Some(index) = all.next().await {
            ended.push(index);
        }
    };
    assert!(!ends(all, 10).await);
    ended.sort_unstable();
    let expected: Vec<usize> = (0..300).filter(|index| index % 3 == 1).collect();
    assert_eq!(ended, expected);
    assert!((8..=10).contains(&store.looks("0")), "{}", store.looks("0"));
    assert_eq!(store.looks("1"), 1, "it is known to be over");
    assert!((8..=10).contains(&store.looks("2")), "{}", store.looks("2"));
}

/// A simulation is the same every time only if the store is asked in the same order.
#[tokio::test(start_paused = true)]
async fn runs_are_looked_up_in_the_order_of_their_ids() {
    let (store, cancelled) = cancelled();
    let ids: Vec<RunKey> = (10..30).map(|n| RunKey::from(&*n.to_string())).collect();
    let waits = ids.iter().rev().map(|run| cancelled.when(run));
    assert!(!ends(join_all(waits).map(drop), 2).await);
    assert_eq!(store.state().order, [ids.clone(), ids].concat());
}

/// The first waiter looks for the others. It may be dropped at any time, in the middle of a look too.
#[tokio::test(start_paused = true)]
async fn another_waiter_goes_on_when_the_one_that_looks_is_dropped() {
    for dropped_at in [0, 1, 1_999, 2_000, 2_005, 2_011, 3_000] {
        let (store, cancelled) = cancelled();
        let run = RunKey::from("run");
        store.cancel("run");
        let mut second = Box::pin(cancelled.when(&run));
        {
            let mut first = Box::pin(cancelled.when(&run));
            assert!(poll!(first.as_mut()).is_pending());
            assert!(poll!(second.as_mut()).is_pending());
            let at = Duration::from_millis(dropped_at);
            drop(timeout(at, first).await);
        }
        assert!(ends(second, 2).await, "dropped at {dropped_at} ms");
        assert!(store.looks("run") <= 2);
    }
}

/// Items of 3 ms: each one that looks is dropped before its answer is there.
#[tokio::test(start_paused = true)]
async fn short_waiters_do_not_look_again_and_again() {
    let (store, cancelled) = cancelled();
    let run = RunKey::from("run");
    let begin = Instant::now();
    while begin.elapsed() < INTERVAL * 10 {
        drop(timeout(Duration::from_millis(3), cancelled.when(&run)).await);
    }
    assert!(store.looks("run") <= 10);
    // Beside them, one that hangs comes to its turn.
    let mut hangs = Box::pin(cancelled.when(&run));
    store.cancel("run");
    let begin = Instant::now();
    loop {
        assert!(begin.elapsed() < INTERVAL * 4, "it was not told");
        let short = timeout(Duration::from_millis(3), cancelled.when(&run));
        tokio::select! {
            biased;
            () = &mut hangs => break,
            _ = short => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_means_not_yet_known() {
    let (store, cancelled) = cancelled();
    let run = RunKey::from("run");
    store.cancel("run");
    store.state().is_away = true;
    assert!(!ends(cancelled.when(&run), 10).await);
    assert!(
        (8..=10).contains(&store.looks("run")),
        "no more often than else"
    );
    assert_eq!(cancelled.check(&run).await, Standing::UnderWay(None));
    store.state().is_away = false;
    assert!(ends(cancelled.when(&run), 3).await);
}

/// A look of the messages counts as one of the waiters, and wakes them.
#[tokio::test(start_paused = true)]
async fn a_check_of_a_message_is_a_look_for_the_waiters_too() {
    let (store, cancelled) = cancelled();
    let run = RunKey::from("run");
    let mut wait = Box::pin(cancelled.when(&run));
    assert!(poll!(wait.as_mut()).is_pending());
    advance(INTERVAL - Duration::from_millis(20)).await;
    assert_eq!(
        cancelled.check(&run).await,
        Standing::UnderWay(None),
        "known since less than an interval"
    );
    assert_eq!(store.looks("run"), 0);
    store.cancel("run");
    let check = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        cancelled.check(&run).await
    };
    let _ = tokio::join!(ends(wait, 1), check);
    assert_eq!(store.looks("run"), 1);
    assert_eq!(cancelled.check(&run).await, Standing::Over);
}

#[tokio::test(start_paused = true)]
async fn many_runs_at_once_are_not_gone_through_for_each_new_one() {
    let (_, cancelled) = cancelled();
    let waiter = RunKey::from("waiter");
    let mut wait = Box::pin(cancelled.when(&waiter));
    assert!(poll!(wait.as_mut()).is_pending());
    // All of them are recent, so that none can be dropped: the limit grows.
    let mut limits = BTreeSet::new();
    for number in 0..10_000 {
        cancelled.check(&RunKey::from(&*number.to_string())).await;
        limits.insert(cancelled.runs().most);
    }
    assert!(limits.len() <= 5, "gone through {} times", limits.len());
    assert_eq!(cancelled.runs().known.len(), 10_001);
    // Once they are old, they go, but for one that is waited for.
    advance(INTERVAL * 2).await;
    for number in 10_000..30_000 {
        cancelled.check(&RunKey::from(&*number.to_string())).await;
        advance(Duration::from_millis(4)).await;
    }
    let runs = cancelled.runs();
    assert!(runs.known.len() <= 2 * REMEMBERED, "{}", runs.known.len());
    assert!(runs.known.contains_key(&waiter));
}

#[tokio::test(start_paused = true)]
async fn a_record_is_read_once_by_all_that_come_together_and_later() {
    let (store, cancelled) = reading();
    let run = RunKey::from("run");
    store.state().begun.insert(run.clone());
    assert_eq!(cancelled.known(&run), None);
    let checks = join_all((0..100).map(|_| cancelled.check(&run))).await;
    assert_eq!(checks, [Standing::UnderWay(Some(5)); 100]);
    assert_eq!(cancelled.known(&run), Some(Standing::UnderWay(Some(5))));
    advance(INTERVAL * 10).await;
    assert_eq!(cancelled.check(&run).await, Standing::UnderWay(Some(5)));
    store.cancel("run");
    advance(INTERVAL * 10).await;
    assert_eq!(cancelled.check(&run).await, Standing::Over);
    assert_eq!(store.looks("run"), 2);
    assert_eq!(store.state().reads, 1);
}

#[tokio::test(start_paused = true)]
async fn a_generation_that_is_not_on_record_is_read_once_per_interval() {
    let (store, cancelled) = reading();
    let (run, other) = (
        RunKey::from("run"),
        RunKey::new("run", Generation::random(2)),
    );
    store.state().begun.insert(other.clone());
    for reads in 1..=3 {
        for _ in 0..100 {
            assert_eq!(cancelled.check(&run).await, Standing::Unknown);
            assert_eq!(cancelled.known(&run), Some(Standing::Unknown));
        }
        assert_eq!(store.state().reads, reads);
        advance(INTERVAL).await;
    }
    assert_eq!(cancelled.check(&other).await, Standing::UnderWay(Some(5)));
    let unknown = RunKey::from("unknown");
    assert_eq!(cancelled.check(&unknown).await, Standing::Unknown);
    assert_eq!(store.looks("run") + store.looks("unknown"), 0);
}

/// The one that reads may be dropped at any time.
#[tokio::test(start_paused = true)]
async fn another_message_goes_on_when_the_one_that_reads_is_dropped() {
    let (store, cancelled) = reading();
    let run = RunKey::from("run");
    store.state().begun.insert(run.clone());
    let mut second = Box::pin(cancelled.check(&run));
    {
        let mut first = Box::pin(cancelled.check(&run));
        assert!(poll!(first.as_mut()).is_pending());
        assert!(poll!(second.as_mut()).is_pending());
        drop(timeout(Duration::from_millis(5), first).await);
    }
    assert_eq!(second.await, Standing::UnderWay(Some(5)));
    assert_eq!(store.state().reads, 2);
}

#[tokio::test(start_paused = true)]
async fn a_run_counts_as_known_while_its_record_cannot_be_read() {
    let (store, cancelled) = reading();
    let run = RunKey::from("run");
    store.state().is_away = true;
    for reads in 1..=3 {
        for _ in 0..100 {
            assert_eq!(cancelled.check(&run).await, Standing::UnderWay(None));
        }
        assert_eq!(store.state().reads, reads, "no more often than else");
        advance(INTERVAL).await;
    }
    store.state().is_away = false;
    assert_eq!(cancelled.check(&run).await, Standing::Unknown);
}
