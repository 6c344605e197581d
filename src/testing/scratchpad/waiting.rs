//! Waiting for a run to end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::subject::{Subject, attempt};
use crate::scratchpad::{DeadLetterId, RunSnapshot, Scratchpad, Verdict};

const SECOND: Duration = Duration::from_secs(1);
/// Much longer than any store needs to notice.
const LONG: Duration = Duration::from_secs(120);

async fn wait(subject: &Subject, up_to: Duration) -> (Option<RunSnapshot>, Duration) {
    let began = Instant::now();
    let snapshot = subject.scratchpad.wait(&subject.id, up_to).await;
    (snapshot.expect("wait"), began.elapsed())
}

/// Brings a run to its end in one of the three ways.
async fn end(subject: &Subject, way: usize) {
    match way {
        0 => assert!(subject.complete("done").await),
        1 => assert!(subject.cancel().await),
        _ => {
            let dead = Verdict::Dead(DeadLetterId::random());
            let failed = [attempt(1, None, "broken")];
            subject.fail("packet 3", dead, &failed).await;
        }
    }
}

fn assert_ended(snapshot: Option<RunSnapshot>, way: usize) {
    let snapshot = snapshot.expect("the run is known");
    let ends = [
        snapshot.result.is_some(),
        snapshot.cancelled,
        snapshot.failure.is_some(),
    ];
    assert_eq!(ends.iter().position(|ended| *ended), Some(way));
}

/// A run that does not end is waited for as long as was asked, and what is known comes back.
pub(super) async fn waiting_ends_with_its_time(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    for up_to in [Duration::ZERO, SECOND] {
        let (snapshot, waited) = wait(&subject, up_to).await;
        assert_eq!(snapshot, Some(subject.status().await));
        assert!(waited >= up_to * 9 / 10, "returned after {waited:?}");
        assert!(waited < LONG / 4, "returned only after {waited:?}");
    }
}

/// Completion, cancelling and failure each end the waiting of all who wait.
pub(super) async fn waiting_ends_with_the_run(scratchpad: Arc<dyn Scratchpad>) {
    for way in 0..3 {
        let subject = Subject::new(Arc::clone(&scratchpad)).await;
        let waiting = async { tokio::join!(wait(&subject, LONG), wait(&subject, LONG)) };
        let ending = async {
            sleep(SECOND / 2).await;
            end(&subject, way).await;
        };
        let ((first, second), ()) = tokio::join!(waiting, ending);
        for (snapshot, waited) in [first, second] {
            assert!(waited < LONG / 2, "returned only after {waited:?}");
            assert_ended(snapshot, way);
        }
    }
}

/// There is nothing to wait for, and neither is there for an unknown run.
pub(super) async fn waiting_for_a_run_that_has_ended_returns_at_once(scratchpad: Arc<dyn Scratchpad>) {
    for way in 0..3 {
        let subject = Subject::new(Arc::clone(&scratchpad)).await;
        end(&subject, way).await;
        let (snapshot, waited) = wait(&subject, LONG).await;
        assert!(waited < LONG / 4, "returned only after {waited:?}");
        assert_ended(snapshot, way);
    }
    let unknown = Subject::unknown(scratchpad).await;
    let (snapshot, waited) = wait(&unknown, LONG).await;
    assert_eq!(snapshot, None);
    assert!(waited < LONG / 4, "returned only after {waited:?}");
}

/// Progress, retries and skipped items are no end.
pub(super) async fn waiting_outlasts_what_does_not_end_the_run(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let up_to = SECOND * 2;
    let progress = async {
        sleep(SECOND / 2).await;
        subject.arrive(vec![subject.arrival(0, 0, "a")]).await;
        for (number, verdict) in [(1, Verdict::Retry), (2, Verdict::Skip)] {
            let failed = [attempt(number, Some(3), "broken")];
            subject.fail("packet 3", verdict, &failed).await;
        }
        let submitted = subject.scratchpad.submitted(&subject.key).await;
        submitted.expect("submitted");
    };
    let ((snapshot, waited), ()) = tokio::join!(wait(&subject, up_to), progress);
    assert!(waited >= up_to * 9 / 10, "returned after {waited:?}");
    assert!(!snapshot.expect("the run is known").has_ended());
    // On a busy machine, the first wait may have ended before all of that was written.
    let (snapshot, _) = wait(&subject, Duration::ZERO).await;
    let snapshot = snapshot.expect("the run is known");
    assert!(snapshot.submitted && !snapshot.has_ended());
    assert_eq!(snapshot.skipped, 1);
}
