//! The settings that are explored, and each check left out in turn. `cargo test --lib model::strangers -- --nocapture` prints
//! the number of states.

use std::time::Instant;

use stateright::{Checker, Model};

use super::rules::{ENDS, NOT_STUCK, RIGHT, Rule};
use super::*;

fn setting(leaves: [u64; 2], fan_in: [u32; 2], writes: u8) -> Setting {
    Setting {
        leaves,
        fan_in,
        writes,
        broken: Vec::new(),
    }
}

fn explore(setting: Setting) -> usize {
    let (started, name) = (Instant::now(), format!("{setting:?}"));
    let checker = setting.checker().threads(2).spawn_bfs().join();
    for (promise, path) in checker.discoveries() {
        if promise != ENDS {
            let actions = path.into_actions();
            panic!("{name}: it does not hold that {promise}: {actions:#?}");
        }
    }
    assert!(checker.discovery(ENDS).is_some(), "{name}: no run ends");
    let (states, transitions) = (checker.unique_state_count(), checker.state_count() - 1);
    println!(
        "{name}: {states} states, {transitions} transitions, {:.1} s",
        started.elapsed().as_secs_f64()
    );
    states
}

#[test]
fn leftovers_of_the_first_run_change_nothing() {
    let mut states = 0;
    for leaves in [[1, 1], [2, 2], [2, 3], [3, 2], [3, 3]] {
        for fan_in in [[2, 2], [2, 3], [3, 2]] {
            states += explore(setting(leaves, fan_in, 0));
        }
    }
    println!("{states} states");
}

#[test]
fn a_strangers_messages_change_nothing() {
    let mut states = 0;
    for (leaves, fan_in) in [
        ([1, 1], [2, 2]),
        ([1, 2], [2, 2]),
        ([1, 3], [3, 2]),
        ([2, 2], [2, 3]),
    ] {
        states += explore(setting(leaves, fan_in, 1));
    }
    states += explore(setting([1, 2], [2, 2], 2));
    states += explore(setting([1, 1], [2, 2], 3));
    println!("{states} states");
}

/// Leaving out the check breaks the promise.
fn breaks(rules: &[Rule], promise: &'static str, leaves: [u64; 2], writes: u8) {
    let mut setting = setting(leaves, [2, 2], writes);
    setting.broken = rules.to_vec();
    let checker = setting.checker().spawn_bfs().join();
    assert!(
        checker.discovery(promise).is_some(),
        "without {rules:?} it holds that {promise}"
    );
}

#[test]
fn every_check_is_needed() {
    use Rule::*;
    breaks(&[MessagesHaveAGeneration], RIGHT, [1, 2], 1);
    breaks(&[KeysHaveTheGeneration], RIGHT, [2, 2], 0);
    breaks(&[KeysHaveTheGeneration], NOT_STUCK, [3, 2], 0);
    breaks(&[CompletingHasTheGeneration], RIGHT, [2, 2], 0);
    breaks(&[TheFanInIsTheRuns], RIGHT, [1, 3], 1);
    breaks(&[CountsAreThoseOfTheValues], RIGHT, [1, 2], 1);
    breaks(&[StraysDoNotFillAGroup], NOT_STUCK, [1, 1], 1);
    breaks(&[StraysAreNotCombined], RIGHT, [1, 1], 1);
    breaks(&[WhoeverCompletesChecks], RIGHT, [1, 2], 1);
}
