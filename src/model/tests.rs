//! The settings that are explored. `cargo test --lib model -- --nocapture` shows how many states
//! there were.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use super::explore::{Explored, explore};
use super::state::{Set, Value};
use super::*;

/// Both fan-ins and both ways to seal.
fn settings(
    leaves: RangeInclusive<u64>,
    faults: u8,
    detail: Detail,
    vary: fn(&mut Setting),
) -> Vec<Setting> {
    let mut settings = Vec::new();
    for fan_in in [2, 3] {
        for leaves in leaves.clone() {
            for sealed in [Sealed::First, Sealed::Last] {
                let mut setting = Setting::new(leaves, fan_in, sealed, faults, detail);
                vary(&mut setting);
                settings.push(setting);
            }
        }
    }
    settings
}

fn as_it_is(_: &mut Setting) {}

fn three_workers(setting: &mut Setting) {
    setting.workers = 3;
}

fn two_submitters(setting: &mut Setting) {
    setting.submitters = 2;
}

fn notes(setting: &mut Setting) {
    setting.notes = true;
}

fn notes_two_submitters(setting: &mut Setting) {
    notes(setting);
    two_submitters(setting);
}

fn shared_writes(setting: &mut Setting) {
    setting.shared_writes = true;
}

/// Two tasks of one process, and a worker in another.
fn shared_writes_and_another(setting: &mut Setting) {
    setting.shared_writes = true;
    setting.workers = 3;
}

fn reads_back(setting: &mut Setting) {
    setting.reads_back = true;
}

fn forgets(setting: &mut Setting) {
    setting.forgets = true;
}

fn together(setting: &mut Setting) {
    setting.together = true;
}

fn together_two_submitters(setting: &mut Setting) {
    together(setting);
    two_submitters(setting);
}

fn together_shared_writes(setting: &mut Setting) {
    together(setting);
    shared_writes(setting);
}

fn together_reads_back(setting: &mut Setting) {
    together(setting);
    reads_back(setting);
}

fn together_forgets(setting: &mut Setting) {
    together(setting);
    forgets(setting);
}

/// The settings in which there can be bundles.
fn full_groups(mut settings: Vec<Setting>) -> Vec<Setting> {
    settings.retain(|setting| setting.leaves >= setting.fan_in.into());
    settings
}

fn in_twos(mut settings: Vec<Setting>) -> Vec<Setting> {
    settings.retain(|setting| setting.fan_in == 2);
    settings
}

/// The settings with three members per group: fewer groups, and so fewer states.
fn in_threes(mut settings: Vec<Setting>) -> Vec<Setting> {
    settings.retain(|setting| setting.fan_in == 3);
    settings
}

fn explore_all(settings: impl IntoIterator<Item = Vec<Setting>>) {
    println!("L leaves, F members a group, up to so many faults: states, transitions, seconds");
    let mut sum = Explored::default();
    for setting in settings.into_iter().flatten() {
        sum += explore(setting);
    }
    let Explored {
        settings,
        states,
        transitions,
    } = sum;
    println!("{settings} settings, {states} states, {transitions} transitions");
}

#[test]
fn in_every_order_of_steps_each_leaf_counts_once_and_no_run_is_stuck() {
    explore_all([
        settings(0..=3, 1, Detail::Full, as_it_is),
        settings(0..=2, 2, Detail::Full, as_it_is),
    ]);
}

#[test]
fn larger_trees_and_more_faults() {
    explore_all([
        settings(0..=5, 1, Detail::Short, as_it_is),
        settings(0..=3, 2, Detail::Short, as_it_is),
    ]);
}

#[test]
fn other_ways_to_run_it() {
    explore_all([
        settings(0..=4, 1, Detail::Short, three_workers),
        settings(0..=2, 1, Detail::Short, two_submitters),
        settings(0..=3, 1, Detail::Full, notes),
        settings(0..=4, 1, Detail::Short, notes),
        settings(0..=2, 2, Detail::Short, notes),
        settings(0..=2, 1, Detail::Short, notes_two_submitters),
        settings(0..=4, 1, Detail::Short, shared_writes),
        settings(0..=3, 1, Detail::Short, shared_writes_and_another),
        settings(0..=4, 1, Detail::Short, reads_back),
        settings(0..=4, 1, Detail::Short, forgets),
    ]);
}

#[test]
fn packets_that_travel_together_and_may_go_apart() {
    explore_all([
        full_groups(settings(2..=2, 1, Detail::Full, together)),
        in_threes(settings(3..=3, 1, Detail::Full, together)),
        full_groups(settings(2..=2, 1, Detail::Full, together_shared_writes)),
        full_groups(settings(2..=2, 1, Detail::Full, together_reads_back)),
        full_groups(settings(2..=2, 1, Detail::Full, together_forgets)),
        full_groups(settings(2..=3, 1, Detail::Short, together)),
        in_twos(settings(4..=4, 1, Detail::Short, together)),
        in_threes(settings(5..=5, 1, Detail::Short, together)),
        full_groups(settings(2..=2, 2, Detail::Short, together)),
        full_groups(settings(2..=2, 1, Detail::Short, together_two_submitters)),
        full_groups(settings(3..=3, 1, Detail::Short, together_forgets)),
        in_threes(settings(3..=3, 1, Detail::Short, together_reads_back)),
    ]);
}

#[test]
#[ignore = "ten minutes and 2.5 GB: cargo test --release --lib model -- --ignored --nocapture"]
fn all_that_fits_in_minutes() {
    explore_all([
        settings(4..=4, 2, Detail::Short, as_it_is),
        settings(4..=5, 1, Detail::Full, as_it_is),
        settings(3..=3, 2, Detail::Full, as_it_is),
        settings(3..=3, 1, Detail::Full, three_workers),
        settings(2..=2, 1, Detail::Full, two_submitters),
        settings(2..=2, 2, Detail::Full, shared_writes_and_another),
        settings(4..=4, 1, Detail::Full, shared_writes),
        settings(3..=3, 1, Detail::Full, reads_back),
        settings(5..=5, 2, Detail::Short, as_it_is),
        settings(0..=4, 3, Detail::Short, as_it_is),
        settings(6..=7, 1, Detail::Short, as_it_is),
        settings(0..=3, 2, Detail::Short, three_workers),
        settings(0..=2, 2, Detail::Short, two_submitters),
        settings(3..=3, 1, Detail::Short, two_submitters),
        settings(3..=4, 2, Detail::Short, notes),
        settings(0..=2, 2, Detail::Short, notes_two_submitters),
        settings(0..=4, 2, Detail::Short, shared_writes),
        settings(0..=3, 2, Detail::Short, shared_writes_and_another),
        settings(0..=4, 2, Detail::Short, reads_back),
        settings(0..=4, 2, Detail::Short, forgets),
        full_groups(settings(2..=2, 2, Detail::Full, together)),
        full_groups(settings(3..=3, 1, Detail::Full, together)),
        full_groups(settings(4..=5, 1, Detail::Short, together)),
        in_threes(settings(6..=6, 1, Detail::Short, together)),
        full_groups(settings(3..=3, 2, Detail::Short, together)),
        in_threes(settings(3..=3, 1, Detail::Full, together_shared_writes)),
        full_groups(settings(3..=3, 1, Detail::Short, together_reads_back)),
    ]);
}

type Scratchpad = ([Value; NODES], [Set; 3], Value);

/// The scratchpads that can be reached.
fn scratchpads(setting: &Setting) -> HashSet<Scratchpad> {
    let system = System::new(setting.clone());
    let mut open = system.init_states();
    let mut seen: HashSet<State> = open.iter().cloned().collect();
    while let Some(state) = open.pop() {
        for next in system.next_states(&state) {
            if seen.insert(next.clone()) {
                open.push(next);
            }
        }
    }
    let scratchpads = seen.into_iter().map(|state| {
        let sets = [state.arrived, state.told, state.retired];
        (state.values, sets, state.result)
    });
    scratchpads.collect()
}

#[test]
fn the_shortcuts_lose_no_state_of_the_scratchpad() {
    let full = [
        settings(2..=2, 1, Detail::Full, as_it_is),
        settings(3..=3, 1, Detail::Full, as_it_is).split_off(2),
        settings(2..=2, 1, Detail::Full, shared_writes),
        settings(2..=2, 1, Detail::Full, reads_back),
        settings(2..=2, 1, Detail::Full, forgets),
        settings(2..=2, 1, Detail::Full, notes),
        full_groups(settings(2..=2, 1, Detail::Full, together)),
        // The other order of sealing takes twice as long.
        in_threes(settings(3..=3, 1, Detail::Full, together))[..1].to_vec(),
        full_groups(settings(2..=2, 1, Detail::Full, together_reads_back)),
        full_groups(settings(2..=2, 1, Detail::Full, together_forgets)),
    ];
    for full in full.into_iter().flatten() {
        let mut short = full.clone();
        short.detail = Detail::Short;
        let [full, short] = [full, short].map(|setting| scratchpads(&setting));
        assert!(full.len() > 1);
        assert_eq!(full, short);
    }
}
