//! The rules, each broken in turn.

/// A rule that is broken, or another one that was thought of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutation {
    /// A failure of an item counts for all of its packet.
    CountForThePacket,
    /// A permanent error makes its neighbours final that have not worked yet.
    PermanentForThePacket,
    /// A redelivery does not read what has failed.
    ForgetFailures,
    /// Of counts that several deliveries write, the last stands, not the highest.
    KeepTheLastCount,
    /// A delivery that is given back stays unfinished.
    KeepWhatIsHandedBack,
    /// The items of a packet that has outlived processes are not on record.
    SuspectsUnnamed,
    /// Such an item is on record after it was called.
    NameAfterCalling,
    /// An item that is on record does not replace the former one of the same delivery.
    KeepFormerNames,
    /// An item that is on record as left out is not called again, but not counted either.
    DropWhatWasSkipped,
    /// What has worked is called again with what has failed, and its outputs are kept twice.
    RunAllAgain,
    /// What is left out is written down once the value has arrived.
    ArriveFirst,
    /// A second value is added to the first.
    AddToTheValue,
    /// A dead letter names the packet's first item.
    BlameTheFirst,
    /// What is final by its deaths is given up without a look whether it is done.
    DoNotLook,
    /// What ends its process is never final.
    DeathsDoNotCount,
    /// Deaths at no item count for each item that has one of its own: it is final at as many deaths as it has attempts,
    /// less those, and one at least.
    UnnamedDeathsCount,
    /// Deaths at no item count for the failures of each item, too: failures and deaths together may be as many as the
    /// attempts, less those, and one at least.
    UnnamedDeathsAndFailures,
    /// Deaths and failures of an item are added up.
    DeathsAndFailures,
}
