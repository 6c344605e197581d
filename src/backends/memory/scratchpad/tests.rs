//! Tests of what the conformance suite cannot require of every scratchpad.

use std::time::UNIX_EPOCH;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::advance;
use uuid::Uuid;

use super::*;
use crate::core::generation::Generation;
use crate::scratchpad::{
    Arrival, Attempt, Begun, DeadLetterId, FailureLog, FailureReport, Failures, Groups, Members,
    PacketPlan, RunRecord, Runs, Verdict,
};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn record(id: &str) -> RunRecord {
    RunRecord {
        run: id.into(),
        generation: Generation::default(),
        created_at: UNIX_EPOCH,
        deployment: None,
        first_stage: "map".into(),
        reduce_stage: "sum".into(),
        fan_in: 2,
        plan: PacketPlan::Fixed(1),
        array_length: None,
        packets: None,
    }
}

fn arrival(id: &str, index: u64, slot: u32) -> Arrival {
    let group = GroupId::new(id, "sum", 1, index);
    let value = format!("{index}/{slot}").into();
    Arrival { group, slot, value }
}

fn dead(id: &str, message: &str) -> FailureReport {
    let attempt = Attempt::new(1, UNIX_EPOCH, "broken").item(3);
    FailureReport {
        run: id.into(),
        stage: "map".into(),
        message: message.into(),
        attempts: vec![attempt],
        verdict: Verdict::Dead(DeadLetterId::random()),
        delivery: None,
    }
}

/// Whether a run is still kept after another one has begun.
async fn is_kept(scratchpad: &MemoryScratchpad, id: &str) -> bool {
    let other = Uuid::new_v4().to_string();
    scratchpad.begin(&record(&other)).await.unwrap();
    scratchpad.status(&id.into()).await.unwrap().is_some()
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_over_has_no_tree() {
    let scratchpad = MemoryScratchpad::new();
    for id in ["done", "cancelled"] {
        scratchpad.begin(&record(id)).await.unwrap();
        scratchpad.arrive(vec![arrival(id, 0, 0)]).await.unwrap();
    }
    let result = Bytes::from_static(b"1");
    assert!(scratchpad.complete(&"done".into(), result).await.unwrap());
    assert!(scratchpad.cancel(&"cancelled".into()).await.unwrap());
    for id in ["done", "cancelled", "unknown"] {
        let late = arrival(id, 0, 1);
        let group = late.group.clone();
        assert_eq!(
            scratchpad.arrive(vec![late.clone(), late]).await.unwrap(),
            [GroupState::gone(); 2]
        );
        assert_eq!(
            scratchpad.expect(&group, 1, true).await.unwrap(),
            GroupState::gone()
        );
        scratchpad.retire(&group).await.unwrap();
        assert_eq!(scratchpad.members(&group).await.unwrap(), Members::Retired);
        assert_eq!(scratchpad.arrived(&[group]).await.unwrap(), [[0; 0]]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_may_be_of_several_runs() {
    let scratchpad = MemoryScratchpad::new();
    for id in ["a", "b"] {
        scratchpad.begin(&record(id)).await.unwrap();
    }
    let batch = vec![
        arrival("a", 0, 0),
        arrival("a", 0, 1),
        arrival("unknown", 0, 0),
        arrival("unknown", 0, 1),
        arrival("b", 0, 0),
        arrival("a", 1, 0),
        arrival("a", 0, 0),
    ];
    let states = scratchpad.arrive(batch).await.unwrap();
    let seen: Vec<_> = states.iter().map(|s| (s.arrived, s.retired)).collect();
    let open = |arrived| (arrived, false);
    let gone = (0, true);
    let expected = [open(1), open(2), gone, gone, open(1), open(1), open(2)];
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn a_finished_run_is_kept_for_its_time() {
    let scratchpad = MemoryScratchpad::new();
    let key = record("a").key();
    scratchpad.begin(&record("a")).await.unwrap();
    scratchpad.complete(&key, "1".into()).await.unwrap();
    advance(59 * MINUTE).await;
    scratchpad.submitted(&key).await.unwrap();
    assert!(is_kept(&scratchpad, "a").await);
    advance(MINUTE).await;
    assert!(!is_kept(&scratchpad, "a").await);
    assert_eq!(scratchpad.begin(&record("a")).await.unwrap(), Begun::New);
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_run_goes_sooner_and_an_open_one_cannot_be_forgotten() {
    let scratchpad = MemoryScratchpad::new();
    for id in ["done", "open"] {
        scratchpad.begin(&record(id)).await.unwrap();
    }
    let result = Bytes::from_static(b"1");
    scratchpad.complete(&"done".into(), result).await.unwrap();
    for id in ["done", "open"] {
        scratchpad.forget(&id.into()).await.unwrap();
    }
    advance(MINUTE / 2).await;
    scratchpad.forget(&"done".into()).await.unwrap();
    assert!(is_kept(&scratchpad, "done").await);
    advance(MINUTE / 2).await;
    assert!(!is_kept(&scratchpad, "done").await);
    assert!(is_kept(&scratchpad, "open").await);
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_is_kept_longer_once_its_failure_is_taken_back() {
    let scratchpad = MemoryScratchpad::new().retention(10 * MINUTE);
    let id = RunId::from("a");
    scratchpad.begin(&record("a")).await.unwrap();
    let report = dead("a", "packet 1");
    scratchpad.record(&report).await.unwrap();
    advance(9 * MINUTE).await;
    let Verdict::Dead(dead_id) = report.verdict else {
        unreachable!()
    };
    scratchpad
        .clear(&record(id.as_str()).key(), "map", "packet 1", dead_id)
        .await
        .unwrap();
    advance(DAY / 2).await;
    assert!(is_kept(&scratchpad, "a").await);
    advance(DAY / 2).await;
    assert!(!is_kept(&scratchpad, "a").await);
}

#[tokio::test(start_paused = true)]
async fn an_open_run_is_kept_while_it_is_written_to() {
    let scratchpad = MemoryScratchpad::new();
    scratchpad.begin(&record("a")).await.unwrap();
    for index in 0..5 {
        advance(DAY - MINUTE).await;
        scratchpad
            .arrive(vec![arrival("a", index, 0)])
            .await
            .unwrap();
        assert!(is_kept(&scratchpad, "a").await);
    }
    advance(DAY).await;
    assert!(!is_kept(&scratchpad, "a").await);
}

#[tokio::test(start_paused = true)]
async fn looking_at_ages_takes_no_more_room_than_runs_do() {
    let scratchpad = MemoryScratchpad::new().retention(MINUTE);
    for round in 0..1_000 {
        let id = format!("{}", round % 3);
        scratchpad.begin(&record(&id)).await.unwrap();
        for message in 0..10 {
            let report = dead(&id, &format!("packet {message}"));
            scratchpad.record(&report).await.unwrap();
        }
        let key = record(&id).key();
        scratchpad.complete(&key, "1".into()).await.unwrap();
        advance(2 * MINUTE).await;
    }
    assert!(lock(&scratchpad.store.due).len() <= 2 * 24 * 30);
    advance(2 * DAY).await;
    scratchpad.begin(&record("last")).await.unwrap();
    assert_eq!(lock(&scratchpad.store.due).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_a_run_that_is_removed_are_told() {
    let scratchpad = MemoryScratchpad::new();
    scratchpad.begin(&record("a")).await.unwrap();
    let waiting = scratchpad.clone();
    let waiting = tokio::spawn(async move { waiting.wait(&"a".into(), 9 * DAY).await });
    tokio::task::yield_now().await;
    advance(DAY).await;
    assert!(!is_kept(&scratchpad, "a").await);
    assert_eq!(waiting.await.unwrap().unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_over_takes_no_failure() {
    let scratchpad = MemoryScratchpad::new();
    let id = RunId::from("a");
    scratchpad.begin(&record("a")).await.unwrap();
    let first = dead("a", "packet 1");
    scratchpad.record(&first).await.unwrap();
    let key = record(id.as_str()).key();
    scratchpad.complete(&key, "1".into()).await.unwrap();
    let log = scratchpad.record(&dead("a", "packet 2")).await.unwrap();
    assert_eq!(log, FailureLog::default());
    let log = scratchpad.record(&first).await.unwrap();
    assert_eq!(log.attempts.len(), 1, "what was on record");
    assert_eq!(
        scratchpad.list_failures(&id, None, 10).await.unwrap().len(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn only_the_newest_hundred_attempts_are_kept() {
    let scratchpad = MemoryScratchpad::new();
    scratchpad.begin(&record("a")).await.unwrap();
    let mut report = dead("a", "packet 1");
    report.verdict = Verdict::Retry;
    for number in 1..=150 {
        report.attempts[0].number = number;
        scratchpad.record(&report).await.unwrap();
    }
    let log = scratchpad.record(&report).await.unwrap();
    let numbers: Vec<_> = log.attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers.len(), 100);
    assert_eq!(numbers[..2], [52, 53]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_thread_sees_each_group_full() {
    let scratchpad = MemoryScratchpad::new();
    scratchpad.begin(&record("a")).await.unwrap();
    let mut workers = JoinSet::new();
    for slot in 0..8 {
        let scratchpad = scratchpad.clone();
        workers.spawn(async move {
            let mut filled = 0;
            for index in 0..2_000 {
                let states = scratchpad.arrive(vec![arrival("a", index, slot)]).await;
                filled += usize::from(states.unwrap()[0].is_ready(8));
            }
            filled
        });
    }
    assert_eq!(workers.join_all().await.into_iter().sum::<usize>(), 2_000);
}
