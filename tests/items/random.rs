//! Random failures of items, random packets, workers and policies: exactly the bad items are left out, and no function is
//! called more often than its item's attempts, the crashes and the hand-backs explain.

mod case;
mod play;

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use case::{Case, case};
use play::play;

/// Set it to the seed that a failed test has printed.
const SEED: &str = "CATCHMENT_TEST_SEED";

fn check(cases: u32, rng: TestRng, kills: bool, ends: bool) {
    let config = Config {
        cases,
        failure_persistence: None,
        // Each step of shrinking is a whole run.
        max_shrink_iters: 300,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let checked = runner.run(&case(kills, ends), |case: Case| {
        play(case).map_err(proptest::test_runner::TestCaseError::fail)
    });
    if let Err(error) = checked {
        panic!("{error}");
    }
}

/// The same cases each time, then others.
fn check_both(kills: bool, ends: bool) {
    let fixed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    check(80, fixed, kills, ends);
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("{SEED}={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    check(80, random, kills, ends);
}

/// Nothing but the items themselves: each is called exactly as often as it needs.
#[test]
fn items_fail_by_themselves() {
    check_both(false, false);
}

/// Workers are shut down, and processes die at a call to their backend.
#[test]
fn items_fail_and_processes_end() {
    check_both(false, true);
}

/// Items end the process that works on them.
#[test]
fn items_end_their_processes() {
    check_both(true, false);
}

#[test]
fn items_end_their_processes_and_processes_end() {
    check_both(true, true);
}
