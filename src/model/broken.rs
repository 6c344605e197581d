//! Each rule of the protocol, broken: the checker has to notice.

use super::explore::{explore, shortest};
use super::mutation::Mutation::{self, *};
use super::promises::{DURABLE, IN_ORDER, NOT_STUCK, ONE_RESULT, RIGHT, TIDY, WHOLE};
use super::{Detail, Sealed, Setting};

/// Two leaves in pairs: one group, and the root above it.
fn two_leaves(sealed: Sealed, faults: u8, mutations: &[Mutation]) -> Setting {
    Setting {
        mutations: mutations.to_vec(),
        ..Setting::new(2, 2, sealed, faults, Detail::Numbered)
    }
}

/// The same, sent as a bundle: the group above the leaves is full.
fn two_together(sealed: Sealed, faults: u8, mutations: &[Mutation]) -> Setting {
    Setting {
        together: true,
        ..two_leaves(sealed, faults, mutations)
    }
}

/// The shortest run that breaks the promise.
fn breaks(promise: &'static str, setting: Setting) {
    let mutations = setting.mutations.clone();
    let trace = shortest(&setting, promise);
    let trace = trace.unwrap_or_else(|| panic!("{mutations:?}: the checker finds nothing"));
    println!(
        "{mutations:?}: in {} steps it no longer holds that {promise}:\n    {}",
        trace.len(),
        trace.join("\n    ")
    );
}

/// The same, and the shortcuts must not hide it.
fn breaks_in_short_too(promise: &'static str, setting: Setting) {
    let short = Setting {
        detail: Detail::Short,
        ..setting.clone()
    };
    breaks(promise, setting);
    let mutations = short.mutations.clone();
    assert!(shortest(&short, promise).is_some(), "{mutations:?}");
}

/// No promise depends on this rule alone.
fn holds_without(mutations: &[Mutation]) {
    for sealed in [Sealed::First, Sealed::Last] {
        for faults in 1..=2 {
            explore(Setting {
                detail: Detail::Full,
                ..two_leaves(sealed, faults, mutations)
            });
        }
    }
}

#[test]
fn acknowledging_first_loses_messages() {
    let setting = |faults| two_leaves(Sealed::First, faults, &[AcknowledgeFirst]);
    breaks_in_short_too(DURABLE, setting(0));
    breaks_in_short_too(NOT_STUCK, setting(1));
}

#[test]
fn acknowledging_before_asking_loses_the_reduction() {
    let setting = |faults| two_leaves(Sealed::First, faults, &[AcknowledgeBeforeAsking]);
    breaks_in_short_too(DURABLE, setting(0));
    breaks_in_short_too(NOT_STUCK, setting(1));
}

/// The result is written nevertheless, but the group's values stay forever.
#[test]
fn acknowledging_before_retiring_leaves_groups_behind() {
    let setting = two_leaves(Sealed::First, 1, &[AcknowledgeBeforeRetiring]);
    breaks_in_short_too(TIDY, setting);
}

/// Two workers that share a write may hold the same message: the visibility timeout of the first
/// lapsed, and the second received it then. The first asks, the second acknowledges, and the
/// process dies in between.
#[test]
fn acknowledging_before_the_neighbour_asks_loses_the_reduction() {
    let mut setting = two_leaves(Sealed::First, 2, &[AcknowledgeBeforeNeighbourAsks]);
    setting.shared_writes = true;
    breaks_in_short_too(NOT_STUCK, setting);
}

#[test]
fn packets_that_go_apart_are_sent_before_they_are_acknowledged() {
    let setting = |faults| two_together(Sealed::First, faults, &[AcknowledgeBeforeSending]);
    breaks_in_short_too(DURABLE, setting(0));
    breaks_in_short_too(NOT_STUCK, setting(1));
}

/// The root's value has no slot. A worker that computes it from a bundle passes it on to a group
/// that does not exist.
#[test]
fn packets_of_the_root_do_not_travel_together() {
    let mut setting = two_together(Sealed::First, 0, &[TogetherAtTheRoot]);
    setting.fan_in = 3;
    breaks_in_short_too(NOT_STUCK, setting);
}

/// The node above a bundle is like any other: its slot takes one value, and a worker that finds the
/// slot taken and the group complete asks again.
#[test]
fn what_holds_for_a_slot_holds_where_packets_travel_together() {
    let setting = |mutation| two_together(Sealed::First, 1, &[mutation]);
    breaks_in_short_too(IN_ORDER, setting(AddToSlot));
    breaks_in_short_too(RIGHT, setting(AddToSlot));
    breaks_in_short_too(NOT_STUCK, setting(NobodyResendsWhenFull));
    breaks_in_short_too(NOT_STUCK, setting(AcknowledgeBeforeAsking));
}

/// The shortcuts assume this rule: a value is stored before it is read.
#[test]
fn a_slot_before_its_value_promises_too_much() {
    breaks(WHOLE, two_leaves(Sealed::First, 0, &[AddSlotBeforeValue]));
    let careless = [AddSlotBeforeValue, CombineWhatIsThere];
    breaks(RIGHT, two_leaves(Sealed::First, 0, &careless));
}

#[test]
fn adding_to_a_slot_counts_a_leaf_twice() {
    let setting = || two_leaves(Sealed::First, 1, &[AddToSlot]);
    breaks_in_short_too(IN_ORDER, setting());
    breaks_in_short_too(RIGHT, setting());
}

/// It is not stuck, since a group with more slots than it has is complete too: a stranger's packet may have taken one.
#[test]
fn a_counter_instead_of_a_set_takes_a_duplicate_for_a_neighbour() {
    let setting = || two_leaves(Sealed::First, 1, &[CountInsteadOfSet]);
    breaks_in_short_too(WHOLE, setting());
    let careless = [CountInsteadOfSet, CombineWhatIsThere];
    breaks_in_short_too(RIGHT, two_leaves(Sealed::First, 1, &careless));
}

#[test]
fn the_state_before_the_write_shows_nobody_a_complete_group() {
    let setting = two_leaves(Sealed::First, 0, &[ReadStateBeforeAdding]);
    breaks_in_short_too(NOT_STUCK, setting);
}

#[test]
fn whoever_finds_the_slot_taken_and_the_group_complete_must_ask_again() {
    let setting = two_leaves(Sealed::First, 1, &[NobodyResendsWhenFull]);
    breaks_in_short_too(NOT_STUCK, setting);
}

#[test]
fn retiring_before_the_value_is_passed_on_loses_it() {
    let setting = two_leaves(Sealed::First, 1, &[RetireBeforeParent]);
    breaks_in_short_too(NOT_STUCK, setting);
}

/// The second result equals the first if functions are deterministic.
#[test]
fn a_result_that_may_be_overwritten_is_written_twice() {
    let setting = two_leaves(Sealed::First, 1, &[ResultOverwritten]);
    breaks_in_short_too(ONE_RESULT, setting);
}

/// The only group is full before it is sealed as the root, and passes its value on to a group above
/// it that does not exist.
#[test]
fn a_root_that_can_be_full_is_not_known_as_the_root() {
    let setting = two_leaves(Sealed::Last, 0, &[RootNotStrict]);
    breaks_in_short_too(NOT_STUCK, setting);
    explore(two_leaves(Sealed::First, 1, &[RootNotStrict]));
}

#[test]
fn a_root_must_be_told_that_it_is_the_root() {
    let setting = two_leaves(Sealed::First, 0, &[SealWithoutRoot]);
    breaks_in_short_too(NOT_STUCK, setting);
}

#[test]
fn sealing_that_completes_a_group_must_ask() {
    let setting = two_leaves(Sealed::Last, 0, &[SealDoesNotSend]);
    breaks_in_short_too(NOT_STUCK, setting);
}

#[test]
fn a_run_is_not_submitted_before_everything_is_sent() {
    let setting = two_leaves(Sealed::First, 1, &[SubmittedFirst]);
    breaks_in_short_too(NOT_STUCK, setting);
}

/// The submitter that comes next skips the packet, which was never sent.
#[test]
fn a_packet_is_not_noted_before_it_is_sent() {
    for sealed in [Sealed::First, Sealed::Last] {
        let mut setting = two_leaves(sealed, 1, &[NoteBeforeSending]);
        setting.notes = true;
        breaks_in_short_too(NOT_STUCK, setting.clone());
        setting.together = true;
        breaks_in_short_too(NOT_STUCK, setting);
    }
}

/// Asking too often only costs work, because the reducer checks first. Without both rules, a group
/// is reduced before it is complete.
#[test]
fn either_asking_or_reducing_waits_until_a_group_is_complete() {
    holds_without(&[AskEveryTime]);
    holds_without(&[ReduceIncomplete]);
    let neither = [AskEveryTime, ReduceIncomplete];
    breaks_in_short_too(RIGHT, two_leaves(Sealed::First, 0, &neither));
}

/// If functions are deterministic, a value is the same each time, so a second one may replace it;
/// and a worker that reads a group while it is being retired can fill only slots that are taken.
/// Without both rules, a late reader replaces a good value. (The shortcuts assume that a value
/// stays.)
#[test]
fn either_slots_keep_their_first_value_or_readers_want_them_all() {
    holds_without(&[OverwriteSlot]);
    holds_without(&[CombineWhatIsThere]);
    let neither = [OverwriteSlot, CombineWhatIsThere];
    breaks(RIGHT, two_leaves(Sealed::First, 1, &neither));
}

/// A worker that acknowledges has made everything durable that the message causes, so the later
/// delivery is not needed: a queue may honour stale receipts or not.
#[test]
fn a_stale_receipt_may_acknowledge() {
    holds_without(&[StaleAcknowledgementRemoves]);
}
