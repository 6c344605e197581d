//! The failure of a submission, on the run's record.

use super::RETRY;
use crate::core::clock::now;
use crate::core::error::{Error, Result, describe, text_for_strangers};
use crate::core::retry::retry;
use crate::protocol::site::Site;
use crate::scratchpad::{Attempt, DeadLetterId, FailureReport, RunRecord, RunSnapshot, Verdict};

/// Recorded in place of a message's name if the submission itself failed.
pub(crate) const SUBMISSION: &str = "submission";

/// Whether the failure on record is that of a submission.
pub(super) fn is_recorded(snapshot: &RunSnapshot) -> bool {
    let failure = snapshot.failure.as_ref();
    failure.is_some_and(|failure| failure.message == SUBMISSION)
}

/// Records that the rest of a run's items will not be sent, so that a waiter for the result learns of it. If the store
/// refuses that too, or is away for longer than a submitter waits, only the submitter has the error.
pub(super) async fn record(site: &Site, record: &RunRecord, error: &Error) {
    let report = FailureReport::new(
        record.key(),
        record.first_stage.as_str(),
        SUBMISSION,
        // Whoever may ask for the run's state reads it.
        vec![Attempt::new(1, now(), text_for_strangers(error))],
        Verdict::Dead(DeadLetterId::UNQUEUED),
    );
    let scratchpad = site.scratchpad();
    let recorded = retry("record_failure", RETRY, || scratchpad.record(&report)).await;
    if let Err(problem) = recorded {
        let problem = describe(&problem);
        tracing::error!(run = %record.run, problem, "a failed submission could not be recorded");
    }
}

/// Clears the failure of an earlier submission, which a later one has completed.
pub(super) async fn clear(site: &Site, record: &RunRecord) -> Result<()> {
    let scratchpad = site.scratchpad();
    let (run, stage) = (record.key(), &record.first_stage);
    retry("clear_failure", RETRY, || {
        scratchpad.clear(&run, stage, SUBMISSION, DeadLetterId::UNQUEUED)
    })
    .await
}
