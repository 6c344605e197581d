//! What arrives in the groups of a run.

use std::sync::Arc;

use bytes::Bytes;

use super::subject::{FAN_IN, Subject, record};
use crate::core::generation::RunKey;
use crate::scratchpad::{Arrival, Begun, GroupId, GroupState, Members, Scratchpad};

/// Each arrival is answered with its group's state as it was at or after its own write.
pub(super) async fn arrivals_are_counted_in_the_order_given(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    for (number, slot) in (1..).zip([2, 0, 3, 1]) {
        let states = subject.arrive(vec![subject.arrival(0, slot, "a")]).await;
        let expected = GroupState {
            arrived: number,
            ..GroupState::default()
        };
        assert_eq!(states, [expected]);
        assert_eq!(states[0].is_ready(FAN_IN), number == FAN_IN);
    }
    let batch = vec![
        subject.arrival(2, 0, "a"),
        subject.arrival(1, 0, "b"),
        subject.arrival(0, 1, "duplicate"),
    ];
    let arrived: Vec<u32> = subject
        .arrive(batch)
        .await
        .iter()
        .map(|state| state.arrived)
        .collect();
    assert_eq!(arrived, [1, 1, 4]);
}

/// The second value for a slot is ignored, and the slot counts once.
pub(super) async fn a_slot_keeps_its_first_value(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    for value in ["first", "second", "third"] {
        let states = subject.arrive(vec![subject.arrival(0, 1, value)]).await;
        assert_eq!(states[0].arrived, 1);
    }
    assert_eq!(subject.values(0).await, [(1, Bytes::from("first"))]);
}

/// A batch may contain one slot twice: the first value is the one that stays.
pub(super) async fn duplicates_in_one_batch_count_once(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let batch = vec![
        subject.arrival(0, 1, "first"),
        subject.arrival(0, 0, "other"),
        subject.arrival(0, 1, "second"),
    ];
    let states = subject.arrive(batch).await;
    assert_eq!(states[2].arrived, 2);
    let expected = [(0, Bytes::from("other")), (1, Bytes::from("first"))];
    assert_eq!(subject.values(0).await, expected);
    assert_eq!(subject.arrive(Vec::new()).await, [], "or nothing at all");
}

/// One call takes whatever its caller has gathered.
pub(super) async fn a_batch_may_be_large_and_of_many_groups(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let groups = 64;
    let batch = (0..FAN_IN)
        .flat_map(|slot| (0..groups).map(move |group| (group, slot)))
        .map(|(group, slot)| subject.arrival(group, slot, format!("{group}/{slot}")))
        .collect();
    let states = subject.arrive(batch).await;
    let full = states.iter().filter(|state| state.is_ready(FAN_IN)).count();
    assert!(full >= groups as usize, "every group is seen full: {full}");
    for group in 0..groups {
        let expected = (0..FAN_IN).map(|slot| (slot, Bytes::from(format!("{group}/{slot}"))));
        assert!(subject.values(group).await.into_iter().eq(expected));
    }
}

/// In the order of the numbers, not of their digits or of their arrival.
pub(super) async fn members_come_in_slot_order(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    for slot in [100, 9, 10, 0, 999, 1] {
        let value = slot.to_string();
        subject.arrive(vec![subject.arrival(0, slot, value)]).await;
    }
    let expected = [0, 1, 9, 10, 100, 999].map(|slot| (slot, Bytes::from(slot.to_string())));
    assert_eq!(subject.values(0).await, expected);
    let slots = subject.arrived(&[subject.group(1, 0)]).await;
    let mut slots = slots.concat();
    slots.sort();
    assert_eq!(slots, [0, 1, 9, 10, 100, 999]);
}

/// Values are bytes: none, any, or a hundred thousand of them.
pub(super) async fn a_value_may_be_any_bytes(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let values: [Bytes; 3] = [
        Bytes::new(),
        (0..=u8::MAX).collect(),
        vec![0xff; 100_000].into(),
    ];
    for (slot, value) in (0..).zip(&values) {
        let arrival = subject.arrival(0, slot, value.clone());
        subject.arrive(vec![arrival]).await;
    }
    let found = subject.values(0).await;
    assert!(found.into_iter().map(|(_, value)| value).eq(values));
    let binary = Bytes::from_static(b"\0\xff\xfe");
    let completed = subject.scratchpad.complete(&subject.key, binary.clone());
    assert!(completed.await.expect("complete"));
    assert_eq!(subject.status().await.result, Some(binary));
}

/// It is there, without members.
pub(super) async fn a_group_nobody_has_written_to_is_empty(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let empty = Members::Present {
        state: GroupState::default(),
        values: Vec::new(),
    };
    assert_eq!(subject.members(3).await, empty);
    assert_eq!(subject.arrived(&[]).await, [[0; 0]; 0]);
    assert_eq!(subject.arrived(&[subject.group(1, 3)]).await, [[0; 0]]);
}

/// By run, stage, level and index; by partition in the next scenario.
pub(super) async fn groups_are_told_apart(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let group = |stage: &str, level, index| GroupId::new(&subject.key, stage, level, index);
    let other = format!("{}1", subject.id);
    let other = RunKey::new(other, subject.key.generation);
    let begun = subject.begin(&record(&other)).await;
    assert_eq!(begun, Begun::New);
    let mut groups = vec![
        group("sum", 1, 11),
        group("sum", 11, 1),
        group("sum", 111, 0),
        group("sum", 1, 1),
        group("sum", 1, u64::MAX),
        group("sum#1", 1, 11),
        group("max", 1, 11),
    ];
    groups.push(GroupId {
        run: other,
        ..groups[0].clone()
    });
    for (slot, group) in (0..).zip(&groups) {
        let arrival = Arrival {
            group: group.clone(),
            slot,
            value: slot.to_string().into(),
        };
        let states = subject.arrive(vec![arrival]).await;
        assert_eq!(states[0].arrived, 1, "{group} is another group");
    }
    let slots: Vec<Vec<u32>> = (0..8).map(|slot| vec![slot]).collect();
    assert_eq!(subject.arrived(&groups).await, slots);
    subject.scratchpad.retire(&groups[0]).await.expect("retire");
    for group in &groups[1..] {
        let members = subject.scratchpad.members(group).await;
        let members = members.expect("members");
        assert!(
            matches!(&members, Members::Present { values, .. } if values.len() == 1),
            "{group} has not retired: {members:?}"
        );
    }
}

/// Groups that differ only in their partition share neither slots, values, sizes nor retirement.
pub(super) async fn groups_of_different_partitions_do_not_meet(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    // The last two: a stage whose name looks like part of another group's key.
    let mut groups = [0, 1, 11, u32::MAX].map(|n| subject.group(1, 1).in_partition(n)).to_vec();
    groups.push(GroupId::new(&subject.key, "sum#1", 1, 11));
    groups.push(GroupId::new(&subject.key, "sum#1#1", 1, 1));
    for (slot, group) in (0..).zip(&groups) {
        let arrival = Arrival {
            group: group.clone(),
            slot,
            value: slot.to_string().into(),
        };
        let states = subject.arrive(vec![arrival]).await;
        assert_eq!(states[0].arrived, 1, "{group} is another group");
    }
    let slots: Vec<Vec<u32>> = (0..6).map(|slot| vec![slot]).collect();
    assert_eq!(subject.arrived(&groups).await, slots);

    let store = &subject.scratchpad;
    let told = store.expect(&groups[1], 1, true).await.expect("expect");
    assert!(told.is_ready(FAN_IN), "{told:?}");
    store.retire(&groups[1]).await.expect("retire");
    for (slot, group) in (0..).zip(&groups) {
        let members = store.members(group).await.expect("members");
        let expected = match slot {
            1 => Members::Retired,
            _ => Members::Present {
                state: GroupState {
                    arrived: 1,
                    ..GroupState::default()
                },
                values: vec![(slot, slot.to_string().into())],
            },
        };
        assert_eq!(members, expected, "{group}");
    }
}

/// Recording a group's size returns the state after it, and later arrivals see the size.
pub(super) async fn a_group_is_told_its_size(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    subject.arrive(vec![subject.arrival(0, 0, "a")]).await;
    let told = GroupState {
        arrived: 1,
        expected: Some(2),
        root: false,
        retired: false,
    };
    for _ in 0..2 {
        assert_eq!(subject.expect(0, 2, false).await, told);
    }
    let full = GroupState { arrived: 2, ..told };
    let states = subject.arrive(vec![subject.arrival(0, 1, "b")]).await;
    assert_eq!(states, [full]);
    assert!(full.is_ready(FAN_IN));
    assert_eq!(subject.expect(0, 2, false).await, full);

    // Told before anything arrives.
    let told = GroupState {
        arrived: 0,
        expected: Some(1),
        root: true,
        retired: false,
    };
    assert_eq!(subject.expect(1, 1, true).await, told);
    let state = GroupState { arrived: 1, ..told };
    let states = subject.arrive(vec![subject.arrival(1, 0, "c")]).await;
    assert_eq!(states, [state]);
    let values = vec![(0, Bytes::from("c"))];
    assert_eq!(subject.members(1).await, Members::Present { state, values });
}

/// A run without packets has a root that expects none.
pub(super) async fn an_empty_root_is_complete(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    let state = subject.expect(0, 0, true).await;
    assert!(state.is_ready(FAN_IN), "{state:?}");
    let values = Vec::new();
    assert_eq!(subject.members(0).await, Members::Present { state, values });
}

/// A retired group says so to all who come late; its slots stay taken.
pub(super) async fn a_retired_group_keeps_its_slots(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    for slot in 0..FAN_IN {
        subject.arrive(vec![subject.arrival(0, slot, "a")]).await;
    }
    subject.arrive(vec![subject.arrival(1, 0, "b")]).await;
    subject.expect(1, 1, true).await;
    for index in [0, 1, 0, 1] {
        subject.retire(index).await;
        assert_eq!(subject.members(index).await, Members::Retired);
        let late = subject.arrival(index, 0, "late");
        let state = subject.arrive(vec![late]).await[0];
        assert!(state.retired && !state.is_ready(FAN_IN), "{state:?}");
    }
    let groups = [subject.group(1, 0), subject.group(1, 1)];
    let mut slots = subject.arrived(&groups).await;
    slots.iter_mut().for_each(|slots| slots.sort());
    assert_eq!(slots, [vec![0, 1, 2, 3], vec![0]]);
    assert!(subject.expect(1, 1, true).await.retired, "sealed again");
}

/// Whatever is late for a finished run, its result stays, and what was reduced stays so.
pub(super) async fn arrivals_at_a_finished_run_change_nothing(scratchpad: Arc<dyn Scratchpad>) {
    let subject = Subject::new(scratchpad).await;
    subject.arrive(vec![subject.arrival(0, 0, "a")]).await;
    subject.expect(0, 1, true).await;
    assert!(subject.complete("done").await);
    subject.retire(0).await;
    for _ in 0..2 {
        let late = vec![subject.arrival(0, 0, "late"), subject.arrival(5, 0, "b")];
        assert!(subject.arrive(late).await[0].retired);
        assert!(subject.expect(0, 1, true).await.retired);
        assert_eq!(subject.members(0).await, Members::Retired);
        subject.retire(0).await;
    }
    let status = subject.status().await;
    assert_eq!(status.result.as_deref(), Some(&b"done"[..]));
}
