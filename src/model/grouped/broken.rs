//! Each rule that grouping adds, broken: the checker has to notice.

use super::explore::{explore, shortest};
use super::promises::{DURABLE, IN_ORDER, NOT_STUCK, RIGHT, TIDY, WHOLE, WHOLE_ARRAY};
use super::rules::Mutation::{self, *};
use super::tests::setting;
use super::{After, Detail, Empty, Leaves, Sealed, Setting};

/// Two leaves in pairs, whose keys belong to two partitions.
fn two_leaves(sealed: Sealed, faults: u8, mutations: &[Mutation]) -> Setting {
    Setting {
        mutations: mutations.to_vec(),
        ..setting(2, 2, sealed, faults, Detail::Numbered)
    }
}

/// The same, followed by a map stage and a plain reduction.
fn and_a_reduction(setting: Setting) -> Setting {
    Setting {
        after: After::Reduction,
        ..setting
    }
}

/// Four leaves, so that two groups above them have parts; each of these groups has an empty one.
fn four_leaves(empty: Empty, faults: u8, mutations: &[Mutation]) -> Setting {
    Setting {
        makes: Leaves::InHalves,
        empty,
        mutations: mutations.to_vec(),
        ..setting(4, 2, Sealed::First, faults, Detail::Numbered)
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

/// With the same faults, nothing is wrong unless a rule is broken.
fn holds(setting: Setting) {
    explore(Setting {
        detail: Detail::Short,
        mutations: Vec::new(),
        ..setting
    });
}

/// A function or a key that is not the same at the second delivery puts an item into both partitions, or into none. So a
/// leaf arrives whole, and its group is split, whose members are fixed by then.
#[test]
fn a_packet_is_not_split_where_it_is_mapped() {
    let setting = Setting {
        leaves: 1,
        makes: Leaves::Fickle,
        ..two_leaves(Sealed::First, 1, &[SplitAtTheLeaves])
    };
    breaks_in_short_too(RIGHT, setting.clone());
    holds(setting);
}

/// A worker dies when one part is stored, and one with another hash makes the other part.
#[test]
fn all_workers_have_the_same_hash() {
    let setting = || two_leaves(Sealed::First, 1, &[HashOfTheWorker]);
    breaks(IN_ORDER, setting());
    breaks(RIGHT, setting());
}

#[test]
fn each_partition_has_keys_of_its_own() {
    breaks_in_short_too(
        NOT_STUCK,
        two_leaves(Sealed::First, 0, &[KeysWithoutPartition]),
    );
    let setting = and_a_reduction(two_leaves(Sealed::First, 0, &[KeysWithoutPartition]));
    breaks_in_short_too(NOT_STUCK, setting);
}

/// Sealed like a plain reduction of one packet, its group is a root without parts.
#[test]
fn a_group_above_the_leaves_is_never_a_root() {
    let one_leaf = Setting {
        leaves: 1,
        ..two_leaves(Sealed::First, 0, &[RootAboveTheLeaves])
    };
    breaks_in_short_too(RIGHT, one_leaf.clone());
    let followed = and_a_reduction(one_leaf);
    breaks_in_short_too(TIDY, followed);
}

/// Two groups above the leaves fill the partition's first group before it is sealed as the root.
#[test]
fn a_partitions_root_is_strict_too() {
    let setting = Setting {
        leaves: 4,
        partitions: 1,
        ..two_leaves(Sealed::Last, 0, &[RootNotStrict])
    };
    breaks_in_short_too(NOT_STUCK, setting);
}

#[test]
fn every_partition_is_sealed() {
    breaks_in_short_too(
        NOT_STUCK,
        two_leaves(Sealed::First, 0, &[SealPartitionZero]),
    );
}

/// Without leaves each partition's root is complete when it is sealed.
#[test]
fn sealing_that_completes_a_partitions_group_must_ask() {
    let no_leaves = Setting {
        leaves: 0,
        ..two_leaves(Sealed::First, 0, &[SealDoesNotSend])
    };
    breaks_in_short_too(NOT_STUCK, no_leaves);
    breaks_in_short_too(NOT_STUCK, two_leaves(Sealed::Last, 0, &[SealDoesNotSend]));
}

#[test]
fn empty_parts_arrive_and_stand_for_their_group() {
    breaks_in_short_too(
        NOT_STUCK,
        four_leaves(Empty::Alone, 0, &[EmptyPartsStayAway]),
    );
    let setting = |empty| four_leaves(empty, 0, &[EmptyPartsWithoutCounts]);
    breaks_in_short_too(WHOLE_ARRAY, setting(Empty::Alone));
    breaks_in_short_too(WHOLE_ARRAY, setting(Empty::Beside));
}

/// Each leaf would count once for each partition, or not at all.
#[test]
fn one_partition_carries_the_counts_on() {
    let setting = |mutation| and_a_reduction(two_leaves(Sealed::First, 0, &[mutation]));
    breaks_in_short_too(WHOLE_ARRAY, setting(AllCarryCountsOn));
    breaks_in_short_too(WHOLE_ARRAY, setting(NoneCarriesCountsOn));
}

#[test]
fn a_partitions_value_is_the_packet_of_its_number() {
    let setting = and_a_reduction(two_leaves(Sealed::First, 0, &[AllAreFirstPackets]));
    breaks_in_short_too(NOT_STUCK, setting);
}

/// The parts that are missing are lost with the group's values.
#[test]
fn a_group_retires_after_its_last_part() {
    let setting = |faults| two_leaves(Sealed::First, faults, &[RetireAfterFirstPart]);
    breaks_in_short_too(NOT_STUCK, setting(1));
}

#[test]
fn a_message_is_acknowledged_after_the_last_part() {
    let setting = |faults| two_leaves(Sealed::First, faults, &[AcknowledgeAfterFirstPart]);
    breaks_in_short_too(DURABLE, setting(0));
    breaks_in_short_too(NOT_STUCK, setting(1));
}

/// One write may complete a group of each partition.
#[test]
fn every_partition_is_asked_for() {
    let setting = two_leaves(Sealed::First, 0, &[AskForTheFirstOnly]);
    breaks_in_short_too(DURABLE, setting.clone());
    breaks_in_short_too(NOT_STUCK, setting);
}

#[test]
fn whoever_finds_a_part_there_and_its_group_complete_must_ask_again() {
    breaks_in_short_too(NOT_STUCK, two_leaves(Sealed::First, 1, &[NobodyAsksAgain]));
}

#[test]
fn a_part_keeps_its_first_value() {
    let setting = || two_leaves(Sealed::First, 1, &[AddToSlot]);
    breaks_in_short_too(IN_ORDER, setting());
    breaks_in_short_too(RIGHT, setting());
}

/// The empty part of one group and the part of its neighbour are written to two records. Each writer reads the other one
/// after its own write, so that the later of them sees both; if it reads first, or not at all, neither may.
#[test]
fn with_a_record_of_empty_parts_each_writer_reads_the_other_record_after_its_write() {
    let setting = |mutation| four_leaves(Empty::Beside, 0, &[mutation]);
    breaks_in_short_too(NOT_STUCK, setting(ReadTheOtherFirst));
    breaks_in_short_too(NOT_STUCK, setting(WriterOfPartsReadsOne));
    breaks_in_short_too(NOT_STUCK, setting(WriterOfEmptyReadsOne));
    breaks_in_short_too(NOT_STUCK, setting(ReducerReadsOne));
    let sealed_last = Setting {
        sealed: Sealed::Last,
        leaves: 2,
        ..setting(SealReadsOne)
    };
    breaks_in_short_too(
        NOT_STUCK,
        Setting {
            makes: Leaves::WithoutItems,
            ..sealed_last
        },
    );
    holds(setting(ReadTheOtherFirst));
}

/// A reducer that sees the slots would read fewer values.
#[test]
fn parts_that_arrive_in_one_write_are_stored_before() {
    let setting = |mutation| four_leaves(Empty::WithTheOthers, 0, &[mutation]);
    breaks(WHOLE, setting(PartsListedBeforeTheyAreStored));
    holds(setting(PartsListedBeforeTheyAreStored));
}

#[test]
fn the_result_is_done_when_it_has_all_parts() {
    breaks_in_short_too(RIGHT, two_leaves(Sealed::First, 0, &[FirstPartCompletes]));
}

#[test]
fn a_part_of_the_result_is_stored_before_it_is_listed() {
    breaks(
        RIGHT,
        two_leaves(Sealed::First, 0, &[PartListedBeforeItIsStored]),
    );
}

#[test]
fn whoever_finds_all_parts_there_must_complete_again() {
    breaks_in_short_too(
        NOT_STUCK,
        two_leaves(Sealed::First, 1, &[NobodyCompletesAgain]),
    );
}

#[test]
fn a_partitions_root_retires_after_its_value_is_passed_on() {
    breaks_in_short_too(NOT_STUCK, two_leaves(Sealed::First, 1, &[RetireBeforePart]));
    let followed = and_a_reduction(two_leaves(Sealed::First, 1, &[RetireBeforeSending]));
    breaks_in_short_too(NOT_STUCK, followed);
}
