//! Everything at once, thousands of times: the simulation of `examples/torture`, with a fixed set
//! of seeds and a random one. `cargo run --release --features testing --example torture -- --seeds
//! N` runs as many as you like.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../examples/torture/simulation.rs"]
mod simulation;

use simulation::{Report, simulate};

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
fn a_fixed_set_of_seeds_has_no_wrong_result_and_none_is_stuck() {
    let report = play(0..400);
    assert!(report.runs > 700, "{} runs", report.runs);
    let kinds = [
        "calls past the visibility timeout",
        "duplicates",
        "errors of items",
        "items that hung",
        "items that were left out",
        "late duplicates",
        "lost acknowledgements",
        "lost heartbeats",
        "lost replies",
        "panics of items",
        "permanent errors of items",
        "reordered batches",
        "slow calls",
        "submitters that died",
        "throttled calls",
        "workers that died",
        "workers that shut down",
    ];
    for kind in kinds {
        let count = report.faults.get(kind).copied().unwrap_or(0);
        assert!(count > 100, "{kind}: {count}");
    }
}

#[test]
fn random_seeds_have_no_wrong_result_and_none_is_stuck() {
    let first = fastrand::u64(..u64::MAX / 2);
    println!("seeds from {first}");
    play(first..first + 200);
}

#[test]
fn a_seed_is_one_run_exactly() {
    // Most of them have a worker that shuts down while it keeps several packets: what wakes those must not be random.
    for seed in [3, 7, 11, 14, 31, 36, 48, 53, 83, 92, 104, 159, 2_653] {
        let first = simulate(seed);
        assert!(first.faults.values().sum::<u64>() > 10, "{first:?}");
        assert_eq!(simulate(seed), first);
    }
}
