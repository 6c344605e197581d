//! What is drawn at random.

use proptest::prelude::*;

use crate::common::*;

/// A run, in all that may vary.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) natures: Vec<Nature>,
    pub(super) attempts: u32,
    pub(super) packet_size: u32,
    pub(super) concurrency: usize,
    pub(super) workers: usize,
    /// Whether an item that fails for good fails the run. It is left out otherwise.
    pub(super) fails: bool,
    /// Whether messages wait for longer than their visibility timeout before a retry.
    pub(super) waits_long: bool,
    /// After these milliseconds one worker after the other is shut down, and another one starts.
    pub(super) shutdowns: Vec<u64>,
    /// The first process dies at this call to its backend.
    pub(super) crash: Option<u64>,
}

fn nature(kills: bool, ends: bool) -> impl Strategy<Value = Nature> {
    // Where a process ends, so may what it knew of failed attempts: whether an item is bad must not depend on that.
    let times = move || match kills || ends {
        true => prop_oneof![Just(1), Just(ALWAYS)].boxed(),
        false => prop_oneof![Just(1), Just(2), Just(3), Just(ALWAYS)].boxed(),
    };
    // At any other number it depends on the deaths of others whether an item has used up its attempts.
    let deaths = prop_oneof![Just(1), Just(ALWAYS)];
    prop_oneof![
        200 => Just(Nature::Good),
        12 => times().prop_map(Nature::Fails),
        4 => Just(Nature::Permanent),
        4 => times().prop_map(Nature::Panics),
        3 => times().prop_map(Nature::Hangs),
        if kills { 2 } else { 0 } => deaths.prop_map(Nature::Kills),
    ]
}

/// `kills`: some items end their process. `ends`: processes end by themselves.
pub(super) fn case(kills: bool, ends: bool) -> impl Strategy<Value = Case> {
    // A process that ends by itself while one item alone is at work looks as if that item had ended it.
    let fewest = match (kills, ends) {
        (false, false) => 1,
        (true, true) => 4,
        _ => 2,
    };
    let most = if ends { 4 } else { 0 };
    let crash = match ends {
        true => prop::option::of(1..60u64).boxed(),
        false => Just(None).boxed(),
    };
    let work = (fewest..=4u32, 1..=60u32, 1..=60usize, 1..=3usize);
    (
        prop::collection::vec(nature(kills, ends), 0..200),
        work,
        any::<bool>(),
        any::<bool>(),
        prop::collection::vec(0..90_000u64, 0..=most),
        crash,
    )
        .prop_map(|(natures, work, fails, waits_long, shutdowns, crash)| {
            let (attempts, packet_size, concurrency, workers) = work;
            Case {
                natures,
                attempts,
                packet_size,
                concurrency,
                workers,
                fails,
                waits_long,
                shutdowns,
                crash,
            }
        })
}
