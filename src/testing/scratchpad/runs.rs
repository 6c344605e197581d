//! The life of a run: begun, measured, submitted, completed or cancelled.

use std::sync::Arc;

use futures::future::join_all;
use uuid::Uuid;

use super::subject::{Subject, attempt, record};
use crate::core::error::{Error, Result};
use crate::core::generation::RunKey;
use crate::core::id::RunId;
use crate::scratchpad::{
    Begun, Checkpoint, DeadLetterId, FailureLog, GroupState, Members, PacketPlan, RunRecord, Scratchpad, Verdict,
};

/// Provisioning is idempotent, and many may do it at once: no run is lost by it.
pub(super) async fn provisioning_again_changes_nothing(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let again = (0..4).map(|_| subject.scratchpad.provision());
    for provisioned in join_all(again).await {
        provisioned.expect("provision");
    }
    subject.status().await;
}

/// Beginning is conditional on the id being new: the second finds what the first wrote.
pub(super) async fn a_run_begins_once(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::unknown(scratchpad).await;
    let first = RunRecord {
        array_length: Some(95),
        packets: Some(10),
        ..record(&subject.key)
    };
    assert_eq!(subject.begin(&first).await, Begun::New);
    let fresh = subject.status().await;
    assert_eq!(fresh.record, first);
    assert!(!fresh.submitted && !fresh.cancelled && !fresh.has_ended());
    assert_eq!((fresh.failure.as_ref(), fresh.result.as_ref()), (None, None));
    assert_eq!((fresh.dead, fresh.skipped), (0, 0));

    let other = RunRecord {
        fan_in: 7,
        plan: PacketPlan::Growing,
        ..record(&subject.key)
    };
    let existing = Begun::Existing(Box::new(fresh));
    assert_eq!(subject.begin(&other).await, existing);
    assert_eq!(subject.status().await.record, first, "nothing was changed");
}

/// Of many who begin a run at once, one begins it.
pub(super) async fn one_of_many_begins_a_run(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::unknown(scratchpad).await;
    let record = record(&subject.key);
    let begun = join_all((0..8).map(|_| subject.begin(&record))).await;
    let new = begun.iter().filter(|begun| **begun == Begun::New).count();
    assert_eq!(new, 1, "{new} of 8 began the run");
}

/// Keys of up to 128 characters, each of the allowed ones, name runs of their own.
pub(super) async fn ids_of_every_allowed_form_are_told_apart(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::unknown(scratchpad).await;
    let unique = Uuid::new_v4().to_string();
    let mut ids: Vec<String> = "-_.:/@=+,aA0"
        .chars()
        .map(|c| format!("{unique}{c}x"))
        .collect();
    ids.push(format!("{unique:a<128}"));
    ids.push(format!("{unique:a<127}b"));
    ids.push(unique);
    for id in &ids {
        let key = RunKey::new(id, subject.key.generation);
        let begun = subject.begin(&record(&key)).await;
        assert_eq!(begun, Begun::New, "{id:?} is another run");
    }
    for id in &ids {
        let status = subject.scratchpad.status(&id.into()).await;
        let status = status.expect("status").expect("the run is known");
        assert_eq!(status.record.run.as_str(), id);
    }
}

/// How far a submission is comes back in the run's status. It is recorded again and again, and does not end the run.
pub(super) async fn the_furthest_checkpoint_stands(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    assert_eq!(subject.status().await.checkpoint, None);
    let steps = [
        (checkpoint(10, 100, 1), checkpoint(10, 100, 1)),
        (checkpoint(10, 100, 1), checkpoint(10, 100, 1)),
        (checkpoint(300, 3_000, u128::MAX), checkpoint(300, 3_000, u128::MAX)),
        // One that is late, as from a slower process, changes nothing.
        (checkpoint(20, 200, 2), checkpoint(300, 3_000, u128::MAX)),
        (checkpoint(1_000, 9_000, 3), checkpoint(1_000, 9_000, 3)),
    ];
    for (reached, stands) in steps {
        let recorded = subject.scratchpad.checkpoint(&subject.key, &reached).await;
        recorded.expect("a checkpoint");
        let status = subject.status().await;
        assert_eq!(status.checkpoint, Some(stands));
        assert_eq!(status.record, record(&subject.key), "no length is known yet");
        assert!(!status.submitted && !status.has_ended());
    }
}

/// A checkpoint with as many packets as the one on record is the same one, or is refused.
pub(super) async fn another_checkpoint_of_as_many_packets_is_refused(
    scratchpad: Arc<dyn Scratchpad>,
) {
    let subject = Subject::new(scratchpad).await;
    let first = checkpoint(10, 100, 1);
    let recorded = subject.scratchpad.checkpoint(&subject.key, &first).await;
    recorded.expect("a checkpoint");
    for other in [checkpoint(10, 100, 2), checkpoint(10, 99, 1)] {
        let recorded = subject.scratchpad.checkpoint(&subject.key, &other).await;
        is_refused(&subject, &recorded);
        let measured = subject.scratchpad.measure(&subject.key, &other).await;
        is_refused(&subject, &measured);
        let status = subject.status().await;
        assert_eq!(status.checkpoint, Some(first));
        assert_eq!(status.record, record(&subject.key), "nothing was changed");
    }
}

/// Of many who record how far they are at once, the furthest stands.
pub(super) async fn of_many_checkpoints_at_once_the_furthest_stands(
    scratchpad: Arc<dyn Scratchpad>,
) {
    let subject = Subject::new(scratchpad).await;
    let reached = (1..=8).map(|n| checkpoint(n, 10 * n, n.into()));
    let recorded = join_all(reached.map(|reached| {
        let subject = subject.clone();
        tokio::spawn(async move { subject.scratchpad.checkpoint(&subject.key, &reached).await })
    }));
    for recorded in recorded.await {
        recorded.expect("no panic").expect("a checkpoint");
    }
    let status = subject.status().await;
    assert_eq!(status.checkpoint, Some(checkpoint(8, 80, 8)));
}

/// The end of an open run is written down once: its lengths, and the checkpoint of all packets.
pub(super) async fn measuring_again_changes_nothing_and_another_end_is_refused(
    scratchpad: Arc<dyn Scratchpad>,
) {
    let subject = Subject::new(scratchpad).await;
    let store = &subject.scratchpad;
    let (early, end) = (checkpoint(9, 90, 1), checkpoint(10, 95, 2));
    store.checkpoint(&subject.key, &early).await.expect("a checkpoint");
    for _ in 0..2 {
        let measured = store.measure(&subject.key, &end).await;
        measured.expect("the same end");
    }
    let others = [
        checkpoint(10, 96, 2),
        checkpoint(11, 95, 2),
        checkpoint(0, 0, 0),
        checkpoint(10, 95, 3),
    ];
    for other in others {
        is_refused(&subject, &store.measure(&subject.key, &other).await);
    }
    let late = store.checkpoint(&subject.key, &early).await;
    late.expect("a late checkpoint is no error");
    let measured = RunRecord {
        array_length: Some(95),
        packets: Some(10),
        ..record(&subject.key)
    };
    let status = subject.status().await;
    assert_eq!(status.record, measured);
    assert_eq!(status.checkpoint, Some(end));
}

/// An array cannot end before packets that are on the queue.
pub(super) async fn an_end_before_the_checkpoint_is_refused(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let store = &subject.scratchpad;
    let sent = checkpoint(10, 100, 1);
    store.checkpoint(&subject.key, &sent).await.expect("a checkpoint");
    is_refused(&subject, &store.measure(&subject.key, &checkpoint(9, 90, 2)).await);
    let status = subject.status().await;
    assert_eq!(status.checkpoint, Some(sent));
    assert_eq!(status.record, record(&subject.key), "nothing was changed");
    store.measure(&subject.key, &sent).await.expect("it may end there");
}

fn checkpoint(packets: u64, items: u64, fingerprint: u128) -> Checkpoint {
    Checkpoint::new(packets, items, fingerprint.into())
}

fn is_refused(subject: &Subject, written: &Result<()>) {
    assert!(
        matches!(written, Err(Error::Submission { run, .. }) if *run == subject.id),
        "something else is on record: {written:?}"
    );
}

/// That every packet is on the queue is noted, and noting it again changes nothing.
pub(super) async fn a_submitted_run_says_so(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    for _ in 0..2 {
        let noted = subject.scratchpad.submitted(&subject.key).await;
        noted.expect("submitted");
        let status = subject.status().await;
        assert!(status.submitted);
        assert!(!status.has_ended());
    }
}

/// The first writer's result stays; later ones are ignored.
pub(super) async fn the_first_result_stands(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    assert!(subject.complete("first").await, "the first writes it");
    assert!(!subject.complete("second").await, "the second does not");
    assert!(!subject.complete("first").await, "nor does the first again");
    let status = subject.status().await;
    assert_eq!(status.result.as_deref(), Some(&b"first"[..]));
    assert!(status.has_ended());
}

/// Of many who complete a run at once one writes the result, and that is the one which stands.
pub(super) async fn one_of_many_completes_a_run(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let writers = (0..8).map(|writer| {
        let subject = subject.clone();
        tokio::spawn(async move { subject.complete(&writer.to_string()).await })
    });
    let wrote = join_all(writers).await;
    let wrote = wrote.into_iter().map(|wrote| wrote.expect("no panic"));
    let winners: Vec<usize> = wrote
        .enumerate()
        .filter_map(|(writer, wrote)| wrote.then_some(writer))
        .collect();
    assert_eq!(winners.len(), 1, "one wrote the result: {winners:?}");
    let result = subject.status().await.result.expect("a result");
    assert_eq!(result, winners[0].to_string());
}

/// Cancelling ends a run for good; cancelling again says the same.
pub(super) async fn a_cancelled_run_takes_no_result(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    assert!(subject.cancel().await);
    assert!(subject.cancel().await, "it is cancelled now");
    assert!(!subject.complete("late").await);
    let status = subject.status().await;
    assert!(status.cancelled && status.has_ended());
    assert_eq!(status.result, None);
}

/// Cancelling a finished run changes nothing.
pub(super) async fn a_finished_run_stays_finished(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    assert!(subject.complete("done").await);
    assert!(!subject.cancel().await);
    let status = subject.status().await;
    assert!(!status.cancelled);
    assert_eq!(status.result.as_deref(), Some(&b"done"[..]));
}

/// A run that was never begun stays unknown whatever is written to it. Its groups are gone, or, in a store whose
/// groups expire by themselves, are like those of any run.
pub(super) async fn an_unknown_run_is_over(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::unknown(scratchpad).await;
    let (store, id, key) = (&subject.scratchpad, &subject.id, &subject.key);
    let reached = store.checkpoint(key, &checkpoint(1, 1, 1)).await;
    reached.expect("nothing to change");
    let measured = store.measure(key, &checkpoint(1, 1, 1)).await;
    assert!(
        matches!(&measured, Err(Error::NoSuchRun { run }) if run == id),
        "{measured:?}"
    );
    store.submitted(key).await.expect("submitted");

    let told = subject.expect(0, 1, true).await;
    let kept = GroupState {
        expected: Some(1),
        root: true,
        ..GroupState::default()
    };
    assert!([GroupState::gone(), kept].contains(&told), "{told:?}");
    let late = vec![subject.arrival(0, 0, "a"), subject.arrival(0, 1, "b")];
    let kept = GroupState { arrived: 2, ..kept };
    let states = subject.arrive(late).await;
    let is_kept = states == [kept; 2];
    assert!(is_kept || states == [GroupState::gone(); 2], "{states:?}");
    subject.retire(0).await;
    assert_eq!(subject.members(0).await, Members::Retired);
    let slots: &[u32] = if is_kept { &[0, 1] } else { &[] };
    assert_eq!(subject.arrived(&[subject.group(1, 0)]).await, [slots]);

    let dead = Verdict::Dead(DeadLetterId::random());
    assert_eq!(subject.fail("packet 1", dead, &[attempt(1, None, "broken")]).await, FailureLog::default());
    subject.clear("packet 1", DeadLetterId::random()).await;
    assert_eq!(subject.failures().await, []);

    assert!(!subject.complete("late").await);
    assert!(!subject.cancel().await);
    store.forget(id).await.expect("forget");
    assert_eq!(store.status(id).await.expect("status"), None);
    let other = RunId::random();
    assert_eq!(store.status(&other).await.expect("status"), None);
}

/// Forgetting is no error at any time, and a run that has not ended goes on.
pub(super) async fn forgetting_is_only_a_hint(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let forget = || subject.scratchpad.forget(&subject.id);
    forget().await.expect("forget");
    assert_eq!(subject.arrive(vec![subject.arrival(0, 0, "a")]).await.len(), 1);
    assert!(subject.complete("done").await, "it went on");
    for _ in 0..2 {
        forget().await.expect("forget");
    }
}
