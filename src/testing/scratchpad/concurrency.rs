//! Several workers at one group.

use std::sync::Arc;

use futures::future::join_all;

use super::subject::{FAN_IN, Subject, attempt};
use crate::scratchpad::{GroupState, Members, Scratchpad, Verdict};

const ROUNDS: u64 = 20;

/// Lets every slot of a group arrive from a task of its own.
async fn arrive_at_once(subject: &Subject, index: u64, slots: u32) -> Vec<GroupState> {
    let workers = (0..slots).map(|slot| {
        let subject = subject.clone();
        tokio::spawn(async move {
            let arrival = subject.arrival(index, slot, slot.to_string());
            subject.arrive(vec![arrival]).await[0]
        })
    });
    let states = join_all(workers).await;
    states
        .into_iter()
        .map(|state| state.expect("no panic"))
        .collect()
}

/// The arrival that fills a group has to learn of it, or the group would never be reduced.
pub(super) async fn of_the_arrivals_that_fill_a_group_one_sees_it_full(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    for index in 0..ROUNDS {
        let states = arrive_at_once(&subject, index, FAN_IN).await;
        let is_seen = states.iter().any(|state| state.is_ready(FAN_IN));
        assert!(is_seen, "nobody saw the group full: {states:?}");
        assert_eq!(subject.values(index).await.len(), FAN_IN as usize);
    }
}

/// Sealing may come while the last members arrive: one of them sees the group complete.
pub(super) async fn sealing_or_the_last_arrival_sees_a_group_complete(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    for index in 0..ROUNDS {
        let sealing = subject.clone();
        let sealing = tokio::spawn(async move { sealing.expect(index, 2, true).await });
        let mut states = arrive_at_once(&subject, index, 2).await;
        states.push(sealing.await.expect("no panic"));
        let is_seen = states.iter().any(|state| state.is_ready(FAN_IN));
        assert!(is_seen, "nobody saw the group complete: {states:?}");
    }
}

/// A value is stored before its slot counts.
pub(super) async fn whoever_sees_a_slot_can_read_its_value(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    for index in 0..ROUNDS {
        let reading = subject.clone();
        let reading = tokio::spawn(async move {
            let mut seen = 0;
            while seen < FAN_IN as usize {
                match reading.members(index).await {
                    Members::Present { state, values } => {
                        let arrived = state.arrived as usize;
                        assert!(values.len() >= arrived, "{arrived} slots, {values:?}");
                        seen = arrived;
                    }
                    Members::Retired => panic!("nobody retired it"),
                }
                tokio::task::yield_now().await;
            }
        });
        arrive_at_once(&subject, index, FAN_IN).await;
        reading.await.expect("no panic");
    }
}

/// No report overwrites another.
pub(super) async fn every_failure_reported_at_once_is_kept(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let workers = (0..20).map(|item| {
        let subject = subject.clone();
        tokio::spawn(async move {
            let failed = [attempt(1, Some(item), "broken")];
            subject.fail("packet 0", Verdict::Retry, &failed).await;
            let failed = [attempt(2, Some(item), "broken")];
            subject.fail(&format!("packet {item}"), Verdict::Skip, &failed).await;
        })
    });
    for worker in join_all(workers).await {
        worker.expect("no panic");
    }
    let report = subject.report("packet 0", Verdict::Retry, &[attempt(3, None, "again")]);
    let log = subject.record(&report).await;
    assert_eq!(log.attempts.len(), 22, "20 retries, its own skip, and this");
    assert_eq!(log.skipped, 20);
    assert_eq!(subject.failures().await.len(), 20);
    assert_eq!(subject.status().await.skipped, 20);
}
