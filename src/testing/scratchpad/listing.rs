//! Runs in a list: newest first, by state and time, page by page.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::subject::{Subject, attempt, record};
use crate::core::error::Error;
use crate::core::id::RunId;
use crate::scratchpad::{
    Begun, Checkpoint, Cursor, DeadLetterId, Fingerprint, Page, RunFilter, RunRecord, RunState, RunSummary, Scratchpad, Verdict,
};

/// How long a run may take to appear in a list that is behind the writes.
const LAG: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_millis(50);
/// Milliseconds of a window.
const WINDOW: u64 = 1_000;

/// A second of the past that no other scenario's runs are created in.
struct Window {
    scratchpad: Arc<dyn Scratchpad>,
    begin: SystemTime,
}

impl Window {
    async fn new(scratchpad: Arc<dyn Scratchpad>) -> Self {
        let Subject { scratchpad, .. } = Subject::unknown(scratchpad).await;
        // 30 years of seconds: two scenarios do not meet.
        let (second, _) = Uuid::new_v4().as_u64_pair();
        Self {
            scratchpad,
            begin: UNIX_EPOCH + Duration::from_secs(second % 1_000_000_000),
        }
    }

    fn at(&self, milliseconds: u64) -> SystemTime {
        self.begin + Duration::from_millis(milliseconds)
    }

    fn filter(&self) -> RunFilter {
        RunFilter::new().since(self.at(0)).until(self.at(WINDOW))
    }

    /// Begins a run that was created at this millisecond of the window.
    async fn begin(&self, milliseconds: u64) -> Subject {
        let subject = Subject::of(Arc::clone(&self.scratchpad));
        let record = RunRecord {
            created_at: self.at(milliseconds),
            ..record(&subject.key)
        };
        assert_eq!(subject.begin(&record).await, Begun::New);
        subject
    }

    async fn page(&self, filter: &RunFilter, cursor: Option<&Cursor>, limit: usize) -> Page<RunSummary> {
        let listed = self.scratchpad.list_runs(filter, cursor, limit).await;
        let page = listed.expect("list_runs");
        assert!(page.len() <= limit, "no more than `limit` are returned");
        page
    }

    /// All pages of a list.
    async fn all(&self, filter: &RunFilter, limit: usize) -> Vec<RunSummary> {
        let mut runs = Vec::new();
        let mut cursor = None;
        loop {
            let page = self.page(filter, cursor.as_ref(), limit).await;
            runs.extend(page.items);
            match page.next {
                // Its text is enough to go on.
                Some(next) => cursor = Some(Cursor::new(next.as_str())),
                None => return runs,
            }
        }
    }

    /// Waits until a list has these runs, in this order.
    async fn expect(&self, filter: &RunFilter, expected: &[&Subject]) -> Vec<RunSummary> {
        let expected: Vec<&RunId> = expected.iter().map(|run| &run.id).collect();
        let begin = Instant::now();
        loop {
            let runs = self.all(filter, 100).await;
            let ids: Vec<&RunId> = runs.iter().map(|run| &run.record.run).collect();
            if ids == expected {
                return runs;
            }
            assert!(begin.elapsed() < LAG, "{filter:?} lists {ids:?}, not {expected:?}");
            sleep(INTERVAL).await;
        }
    }
}

/// Where there are no runs, the list is empty and ends.
pub(super) async fn a_list_without_runs_is_empty(scratchpad: Arc<dyn Scratchpad>) {
    let window = Window::new(scratchpad).await;
    window.expect(&window.filter(), &[]).await;
    let nothing = RunFilter::new().since(window.at(1)).until(window.at(1));
    window.expect(&nothing, &[]).await;
    let backwards = RunFilter::new().since(window.at(2)).until(window.at(1));
    window.expect(&backwards, &[]).await;
}

/// Runs come in the order of their creation, with their records, the newest first; of one millisecond, by id.
pub(super) async fn the_newest_run_comes_first(scratchpad: Arc<dyn Scratchpad>) {
    let window = Window::new(scratchpad).await;
    let mut runs = join_all([5, 9, 1, 5, 7, 5].map(|at| window.begin(at))).await;
    let end = Checkpoint::new(10, 95, Fingerprint::default());
    let measured = window.scratchpad.measure(&runs[0].key, &end).await;
    measured.expect("measure");
    let mut places = Vec::new();
    for run in runs.drain(..) {
        places.push((run.status().await.record, run));
    }
    places.sort_by(|(a, _), (b, _)| (b.created_at, &b.run).cmp(&(a.created_at, &a.run)));
    let (records, runs): (Vec<RunRecord>, Vec<Subject>) = places.into_iter().unzip();
    let expected: Vec<&Subject> = runs.iter().collect();
    let begin = Instant::now();
    loop {
        let listed = window.expect(&window.filter(), &expected).await;
        let listed: Vec<RunRecord> = listed.into_iter().map(|run| run.record).collect();
        if listed == records {
            return;
        }
        assert!(begin.elapsed() < LAG, "{listed:?}, not {records:?}");
        sleep(INTERVAL).await;
    }
}

/// A list has the runs that are in a state now, and says of each which one.
pub(super) async fn runs_are_listed_by_state(scratchpad: Arc<dyn Scratchpad>) {
    let window = Window::new(scratchpad).await;
    let [open, running, done, failed, cancelled, skipping] = [10, 20, 30, 40, 50, 60];
    let open = window.begin(open).await;
    let running = window.begin(running).await;
    let done = window.begin(done).await;
    let failed = window.begin(failed).await;
    let cancelled = window.begin(cancelled).await;
    let skipping = window.begin(skipping).await;
    for run in [&running, &done, &failed, &skipping] {
        window.scratchpad.submitted(&run.key).await.expect("submitted");
    }
    assert!(done.complete("done").await);
    assert!(cancelled.cancel().await);
    let letter = DeadLetterId::random();
    let broken = [attempt(1, Some(3), "broken")];
    failed.fail("packet 0", Verdict::Dead(letter), &broken).await;
    skipping.fail("packet 0", Verdict::Skip, &broken).await;

    let all = [&skipping, &cancelled, &failed, &done, &running, &open];
    let by_state = |state| window.filter().state(state);
    let expected: [(RunState, &[&Subject]); 5] = [
        (RunState::Open, &[&open]),
        (RunState::Running, &[&skipping, &running]),
        (RunState::Done, &[&done]),
        (RunState::Failed, &[&failed]),
        (RunState::Cancelled, &[&cancelled]),
    ];
    for (state, runs) in expected {
        let listed = window.expect(&by_state(state), runs).await;
        assert!(listed.iter().all(|run| run.state == state), "{listed:?}");
    }
    let listed = window.expect(&window.filter(), &all).await;
    for run in listed {
        let status = window.scratchpad.status(&run.record.run).await;
        let status = status.expect("status").expect("the run is known");
        assert_eq!(run.state, status.state(), "{}", run.record.run);
    }

    failed.clear("packet 0", letter).await;
    window.expect(&by_state(RunState::Failed), &[]).await;
    window.expect(&by_state(RunState::Running), &[&skipping, &failed, &running]).await;
    assert!(skipping.complete("done").await);
    window.expect(&by_state(RunState::Done), &[&skipping, &done]).await;
    window.expect(&window.filter(), &all).await;
}

/// `since` includes its own time, `until` does not.
pub(super) async fn runs_are_listed_by_time(scratchpad: Arc<dyn Scratchpad>) {
    let window = Window::new(scratchpad).await;
    let first = window.begin(0).await;
    let second = window.begin(10).await;
    let third = window.begin(999).await;
    window.expect(&window.filter(), &[&third, &second, &first]).await;
    let just_after = Duration::from_micros(1);
    let all: &[&Subject] = &[&third, &second, &first];
    for (since, until, expected) in [
        (window.at(0), window.at(1_000), all),
        (window.at(0) + just_after, window.at(1_000), &[&third, &second]),
        (window.at(10), window.at(999), &[&second]),
        (window.at(10), window.at(999) + just_after, &[&third, &second]),
        (window.at(11), window.at(999), &[]),
        (window.at(0), window.at(10), &[&first]),
    ] {
        let filter = RunFilter::new().since(since).until(until);
        window.expect(&filter, expected).await;
        let open = filter.clone().state(RunState::Open);
        window.expect(&open, expected).await;
        window.expect(&filter.state(RunState::Done), &[]).await;
    }
}

/// Page by page each run is met once, however long the pages are.
pub(super) async fn pages_of_runs_meet_each_run_once(scratchpad: Arc<dyn Scratchpad>) {
    let window = Window::new(scratchpad).await;
    // Several of the same millisecond, so that pages end between them.
    let mut runs = join_all((0..11).map(|number| window.begin(number / 4))).await;
    let (done, cancelled) = (runs[3].clone(), runs[8].clone());
    assert!(done.complete("done").await && cancelled.cancel().await);
    let created: Vec<u64> = (0..11).map(|number| number / 4).collect();
    let mut order: Vec<(u64, Subject)> = created.into_iter().zip(runs.drain(..)).collect();
    order.sort_by(|(a, run), (b, other)| (b, &other.id).cmp(&(a, &run.id)));
    let expected: Vec<&Subject> = order.iter().map(|(_, run)| run).collect();
    let filter = window.filter();
    window.expect(&filter, &expected).await;
    window.expect(&filter.clone().state(RunState::Done), &[&done]).await;
    for limit in [1, 3, 10, 11] {
        let runs = window.all(&filter, limit).await;
        let ids: Vec<&RunId> = runs.iter().map(|run| &run.record.run).collect();
        let expected: Vec<&RunId> = expected.iter().map(|run| &run.id).collect();
        assert_eq!(ids, expected, "{limit} per page");
        let open = filter.clone().state(RunState::Open);
        assert_eq!(window.all(&open, limit).await.len(), 9, "{limit} per page");
    }
}

/// What begins while one pages is newer than the cursor and is not met; what was there is met once all the same.
pub(super) async fn a_run_that_begins_meanwhile_is_no_part_of_the_pages(scratchpad: Arc<dyn Scratchpad>) {
    let window = Window::new(scratchpad).await;
    let runs = join_all((0..4).map(|number| window.begin(number))).await;
    let expected: Vec<&Subject> = runs.iter().rev().collect();
    let filter = window.filter();
    window.expect(&filter, &expected).await;
    let mut met = Vec::new();
    let mut cursor = None;
    let mut begun = 100;
    loop {
        let page = window.page(&filter, cursor.as_ref(), 1).await;
        met.extend(page.items.into_iter().map(|run| run.record.run));
        window.begin(begun).await;
        begun += 1;
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    let expected: Vec<RunId> = expected.iter().map(|run| run.id.clone()).collect();
    assert_eq!(met, expected);
    let later = RunFilter::new().since(window.at(100)).until(window.at(WINDOW));
    let unique: BTreeSet<RunId> = window.all(&later, 2).await.into_iter().map(|run| run.record.run).collect();
    assert!(unique.is_disjoint(&met.into_iter().collect()));
}

/// A cursor of another list, or text that never was one, is refused before anything is read.
pub(super) async fn a_cursor_of_another_list_is_refused(scratchpad: Arc<dyn Scratchpad>) {
    let window = Window::new(scratchpad).await;
    let other = Cursor::encode("another-store", &(7, "a")).expect("encode");
    for cursor in [other, Cursor::new(""), Cursor::new("0")] {
        let runs = window.scratchpad.list_runs(&window.filter(), Some(&cursor), 10).await;
        assert!(
            matches!(runs, Err(Error::InvalidArgument { .. })),
            "{cursor:?} is not a cursor of this list: {runs:?}"
        );
    }
}
