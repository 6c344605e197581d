//! The rules of the protocol, each broken in turn.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutation {
    /// A message is acknowledged before anything is done.
    AcknowledgeFirst,
    /// It is acknowledged when its value has arrived, before the reduction is asked for.
    AcknowledgeBeforeAsking,
    /// A reduce message is acknowledged before its group retires.
    AcknowledgeBeforeRetiring,
    /// Of neighbours that share a write, the one that does not ask does not wait for the one that
    /// does.
    AcknowledgeBeforeNeighbourAsks,
    /// The packets of a split bundle are sent after the bundle is acknowledged.
    AcknowledgeBeforeSending,
    /// Packets travel as a bundle although their group is not full, but the root.
    TogetherAtTheRoot,
    /// The slot joins the arrived set before its value is stored.
    AddSlotBeforeValue,
    /// A second arrival is added to what is in the slot.
    AddToSlot,
    /// A second arrival replaces the first.
    OverwriteSlot,
    /// A counter instead of a set: a second arrival counts.
    CountInsteadOfSet,
    /// An arrival returns the group's state as it was before its own write.
    ReadStateBeforeAdding,
    /// Only the write that adds the slot asks for the reduction; a worker that finds the slot taken
    /// does not.
    NobodyResendsWhenFull,
    /// Every arrival asks for the reduction, whether the group is complete or not.
    AskEveryTime,
    /// The reducer does not check whether the group is complete.
    ReduceIncomplete,
    /// The reducer makes do with fewer values than there are arrived slots.
    CombineWhatIsThere,
    /// The group retires before its value has arrived at the group above it.
    RetireBeforeParent,
    /// A later result replaces the first.
    ResultOverwritten,
    /// The root is on the lowest level that fits into one group: `<=` instead of `<`.
    RootNotStrict,
    /// Sealing records the root's size, but not that it is the root.
    SealWithoutRoot,
    /// Sealing that completes a group does not ask for its reduction.
    SealDoesNotSend,
    /// A packet is noted as sent before it is.
    NoteBeforeSending,
    /// The run is marked as submitted before it is.
    SubmittedFirst,
    /// An acknowledgement with a stale receipt removes the later delivery.
    StaleAcknowledgementRemoves,
}
