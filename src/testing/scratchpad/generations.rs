//! An id that is used again: what bears another generation than the run's is not the run's, and changes nothing.

use std::sync::Arc;

use bytes::Bytes;

use super::subject::{FAN_IN, Subject, attempt, record};
use crate::core::error::Error;
use crate::core::fingerprint::Fingerprint;
use crate::scratchpad::{
    Begun, Checkpoint, DeadLetterId, Deliveries, DeliveryId, GroupState, RunOutline, RunState, Scratchpad,
    Verdict,
};

/// The record says which generation has the id, and a submission that is repeated finds it: it is the same run.
pub(super) async fn a_run_has_the_generation_of_its_record(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::unknown(scratchpad).await;
    let outline = || subject.scratchpad.outline(&subject.id);
    assert_eq!(outline().await.expect("outline"), None, "an unknown run has none");
    assert_eq!(subject.begin(&record(&subject.key)).await, Begun::New);
    let second = record(&subject.again().key);
    let Begun::Existing(existing) = subject.begin(&second).await else {
        panic!("the id is taken");
    };
    assert_eq!(existing.record.key(), subject.key);
    let found = outline().await.expect("outline").expect("an outline");
    assert_eq!((found.generation, found.array_length), (subject.key.generation, None));
    let end = Checkpoint::new(7, 70, Fingerprint::from(7));
    subject.scratchpad.measure(&subject.key, &end).await.expect("measure");
    let found = outline().await.expect("outline").expect("an outline");
    assert_eq!(found, RunOutline::new(subject.key.generation, Some(70)));
}

/// A result is the run's only if it bears its generation.
pub(super) async fn another_generation_completes_nothing(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let other = subject.again();
    assert!(!other.complete("of another").await);
    let status = subject.status().await;
    assert_eq!((status.state(), status.result), (RunState::Open, None));
    assert!(subject.complete("its own").await);
    assert!(!other.complete("of another").await);
    assert_eq!(subject.status().await.result, Some(Bytes::from("its own")));
}

/// A submission that has outlived its run writes nothing to the record of the next one.
pub(super) async fn another_generation_says_nothing_of_a_submission(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let (store, other) = (&subject.scratchpad, subject.again().key);
    let reached = Checkpoint::new(7, 70, Fingerprint::from(7));
    store.checkpoint(&other, &reached).await.expect("an unknown run changes nothing");
    store.submitted(&other).await.expect("an unknown run changes nothing");
    let measured = store.measure(&other, &reached).await;
    assert!(matches!(measured, Err(Error::NoSuchRun { run }) if run == subject.id));
    let status = subject.status().await;
    assert_eq!(status.record, record(&subject.key), "nothing was changed");
    assert_eq!((status.checkpoint, status.submitted), (None, false));
}

/// Slots that the first run has filled are empty for the second.
pub(super) async fn groups_of_another_generation_are_other_groups(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let other = subject.again();
    let strays = (0..FAN_IN).map(|slot| other.arrival(0, slot, "a stray"));
    let _ = other.arrive(strays.collect()).await;
    let _ = other.expect(0, 1, true).await;
    other.retire(0).await;
    assert_eq!(subject.arrived(&[subject.group(1, 0)]).await, [[0; 0]]);
    let states = subject.arrive(vec![subject.arrival(0, 2, "its own")]).await;
    assert_eq!(states, [GroupState::new(1)]);
    assert_eq!(subject.values(0).await, [(2, Bytes::from("its own"))]);
    // In one batch, too.
    let both = vec![other.arrival(0, 1, "a stray"), subject.arrival(0, 1, "its own")];
    let states = subject.arrive(both).await;
    assert_eq!(states[1].arrived, 2);
    assert_eq!(subject.values(0).await[0].1, "its own");
}

/// A message of the first run that fails is no failure of the second.
pub(super) async fn failures_of_another_generation_are_not_the_runs(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let other = subject.again();
    let attempts = [attempt(1, Some(3), "of another")];
    for verdict in [Verdict::Retry, Verdict::Skip, Verdict::Dead(DeadLetterId::random())] {
        other.fail("packet 3", verdict, &attempts).await;
        let status = subject.status().await;
        assert_eq!((status.state(), status.dead, status.skipped), (RunState::Open, 0, 0));
    }
    assert_eq!(subject.failures().await, []);
    let own = [attempt(1, Some(3), "its own")];
    let log = subject.fail("packet 3", Verdict::Skip, &own).await;
    assert_eq!((log.attempts.as_slice(), log.skipped), (own.as_slice(), 1));
    assert_eq!(subject.failures().await.len(), 1);
}

/// What the first run's message has used up of its attempts, the second run's message of that name has yet.
pub(super) async fn deliveries_of_another_generation_do_not_count(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let other = subject.again();
    for _ in 0..3 {
        other.note("packet 3", DeliveryId::random()).await;
    }
    let failed = [attempt(4, None, "of another"), attempt(4, Some(30), "of another")];
    other.fail("packet 3", Verdict::Retry, &failed).await;
    let begun = subject.note("packet 3", DeliveryId::random()).await;
    assert_eq!(begun, Deliveries::new(1, 0));
}

/// Not even by the id of the dead letter.
pub(super) async fn another_generation_clears_nothing(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let id = DeadLetterId::random();
    let attempts = [attempt(1, None, "broken")];
    subject.fail("packet 3", Verdict::Dead(id), &attempts).await;
    subject.again().clear("packet 3", id).await;
    assert_eq!(subject.status().await.dead, 1);
    subject.clear("packet 3", id).await;
    assert_eq!(subject.status().await.dead, 0);
}

/// Whatever is written for the first run, workers go on with the second.
pub(super) async fn another_generation_does_not_end_the_run(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    assert!(!subject.again().complete("of another").await);
    let is_over = subject.scratchpad.is_over(&subject.key).await;
    assert!(!is_over.expect("is_over"));
}
