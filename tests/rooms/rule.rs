//! The table: which room may know which.

use std::collections::BTreeSet;

/// Each room and the rooms it may know, from the bottom of the house to its top: a room knows rooms
/// of earlier rows only.
pub(crate) const RULE: &[(&str, &str)] = &[
    ("core", "nobody"),
    // The contracts and their implementations.
    ("queue", "core"),
    ("scratchpad", "core"),
    ("outbox", "core"),
    ("progress", "core, the contracts"),
    ("backends", "core, the contracts"),
    // Building a pipeline, and running its functions.
    ("packet", "core, the contracts"),
    ("stage", "core, the contracts"),
    ("compute", "core, the contracts, progress, packet, stage"),
    (
        "pipeline",
        "core, the contracts, progress, packet, stage, compute",
    ),
    // The engine: from a submission to its result.
    ("protocol", "core, the contracts, the builders"),
    ("submit", "core, the contracts, the builders, protocol"),
    ("worker", "core, the contracts, the builders, protocol"),
    (
        "deployment",
        "core, the contracts, the builders, protocol, submit, worker, backends",
    ),
    ("embedded", "all of these"),
    // The faces, of which none knows another.
    ("http", "the house"),
    ("lambda", "the house"),
    ("template", "the house"),
    // The suites.
    ("model", "core, the contracts"),
    ("pages", "nobody"),
    ("testing", "the house"),
];

/// The rooms that the words in the table mean.
const WORDS: &[(&str, &str)] = &[
    ("nobody", ""),
    ("the contracts", "queue, scratchpad, outbox"),
    ("the builders", "progress, packet, stage, compute, pipeline"),
    (
        "all of these",
        "core, the contracts, backends, the builders, protocol, submit, worker, deployment",
    ),
    ("the house", "all of these, embedded"),
];

/// The rooms that the table lets this one know.
pub(crate) fn may_know(room: &str) -> BTreeSet<String> {
    fn add(words: &str, rooms: &mut BTreeSet<String>) {
        for word in words.split(", ").filter(|word| !word.is_empty()) {
            match WORDS.iter().find(|(known, _)| *known == word) {
                Some((_, meaning)) => add(meaning, rooms),
                None => drop(rooms.insert(word.to_owned())),
            }
        }
    }
    let mut rooms = BTreeSet::new();
    if let Some((_, words)) = RULE.iter().find(|(name, _)| *name == room) {
        add(words, &mut rooms);
    }
    rooms
}
