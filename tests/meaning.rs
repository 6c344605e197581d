//! Messages that are well-formed, and that the library has not written: the simulation of `examples/torture --hostile`, with a
//! fixed set of seeds and a random one. What must hold is said at `catchment::testing::faults::Stranger`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "common/counting.rs"]
#[allow(dead_code)]
mod counting;
#[path = "../examples/torture/meaning.rs"]
mod meaning;

use std::sync::atomic::Ordering::Relaxed;

use meaning::{Report, simulate};

fn play(seeds: impl IntoIterator<Item = u64>) -> Report {
    let mut whole = Report::default();
    for seed in seeds {
        whole += simulate(seed);
    }
    println!("{whole:#?}");
    assert_eq!(whole.problems, [""; 0]);
    assert_eq!((whole.wrong, whole.stuck), (0, 0));
    whole
}

#[test]
fn a_fixed_set_of_seeds_changes_no_result_of_a_run_that_was_not_impersonated() {
    let report = play(0..250);
    assert!(report.runs > 1_000, "{} runs", report.runs);
    assert!(report.sent.len() >= 20, "every kind: {:?}", report.sent);
    for (kind, tally) in &report.sent {
        assert!(tally.sent > 50, "{kind}: {tally:?}");
    }
    // A message claims lists of 2^64 values; nothing may make room for them.
    let peak = counting::PEAK.load(Relaxed);
    assert!(peak < 64 << 20, "{peak} bytes");
}

#[test]
fn random_seeds_change_no_result_of_a_run_that_was_not_impersonated() {
    let first = fastrand::u64(..u64::MAX / 2);
    println!("seeds from {first}");
    play(first..first + 100);
}

#[test]
fn a_seed_is_one_run_exactly() {
    for seed in [1, 2, 3, 5, 8, 13, 21, 34] {
        let first = simulate(seed);
        assert!(!first.sent.is_empty(), "{first:?}");
        assert_eq!(simulate(seed), first);
    }
}
