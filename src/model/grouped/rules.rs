//! The rules that grouping adds to the protocol, each broken in turn.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutation {
    /// A packet is split where it is mapped, so that each of its parts arrives by itself.
    SplitAtTheLeaves,
    /// Workers do not agree which partition a key belongs to: the second worker has another hash.
    HashOfTheWorker,
    /// The groups of all partitions have the same keys.
    KeysWithoutPartition,
    /// The group above the leaves is sealed as the root if there is only one, as in a plain reduction.
    RootAboveTheLeaves,
    /// A partition's root is on the lowest level that fits into one group: `<=` instead of `<`.
    RootNotStrict,
    /// Only the tree of partition 0 is sealed.
    SealPartitionZero,
    /// Sealing that completes a partition's group does not ask for its reduction.
    SealDoesNotSend,
    /// Partitions whose part is empty get none.
    EmptyPartsStayAway,
    /// An empty part does not say which leaves it stands for.
    EmptyPartsWithoutCounts,
    /// Each partition carries the counts on, and not only partition 0.
    AllCarryCountsOn,
    /// No partition carries the counts on.
    NoneCarriesCountsOn,
    /// Each partition's value is packet 0 of the next stage.
    AllAreFirstPackets,
    /// The group above the leaves retires when its first part has arrived.
    RetireAfterFirstPart,
    /// Its message is acknowledged then.
    AcknowledgeAfterFirstPart,
    /// Only the first part's group is asked for.
    AskForTheFirstOnly,
    /// Only the write that adds a part asks for the reduction; a worker that finds the part there does not.
    NobodyAsksAgain,
    /// A second part is added to what is in the slot.
    AddToSlot,
    /// The record of empty parts, or a group's own, is read before the write instead of after it.
    ReadTheOtherFirst,
    /// A worker that writes to a group does not read the record of empty parts.
    WriterOfPartsReadsOne,
    /// A worker that writes to the record of empty parts does not read the groups.
    WriterOfEmptyReadsOne,
    /// All parts join the set of slots that their groups share before those that are not empty are stored.
    PartsListedBeforeTheyAreStored,
    /// Sealing does not read the record of empty parts.
    SealReadsOne,
    /// A reducer does not read the record of empty parts.
    ReducerReadsOne,
    /// The run is done when the first partition has its part of the result.
    FirstPartCompletes,
    /// A part joins the set of the result's parts before it is stored.
    PartListedBeforeItIsStored,
    /// Only the write that adds the last part records that the run is done.
    NobodyCompletesAgain,
    /// A partition's root retires before its part of the result is on record.
    RetireBeforePart,
    /// A partition's root retires before the next stage has its value.
    RetireBeforeSending,
}
