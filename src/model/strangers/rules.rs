//! The checks, each of which can be left out, and what must hold with all of them.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// What does not say which generation it belongs to is no message.
    MessagesHaveAGeneration,
    /// Slots, sizes and retirements are kept by generation.
    KeysHaveTheGeneration,
    /// Only the generation that has the id writes its result.
    CompletingHasTheGeneration,
    /// A message with another fan-in than its generation's is refused.
    TheFanInIsTheRuns,
    /// A packet that declares another number of items than it carries is refused.
    CountsAreThoseOfTheValues,
    /// A slot beyond a group's size does not keep the group from being complete.
    StraysDoNotFillAGroup,
    /// A reducer takes the slots that the group has, and wants all of them.
    StraysAreNotCombined,
    /// The stage that completes a run holds what its value stands for against the record.
    WhoeverCompletesChecks,
}

pub(super) const ENDS: &str = "a run with all that is written against it comes to an end";
pub(super) const RIGHT: &str = "the result is every leaf of its own run once, in order";
pub(super) const NOT_STUCK: &str = "no run ends without its result";
