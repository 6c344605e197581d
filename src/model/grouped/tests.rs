//! The settings that are explored. `cargo test --lib model::grouped -- --nocapture` shows how many states there were.

use std::collections::HashSet;

use super::explore::explore;
use super::state::{NODES, Set};
use super::*;
use crate::model::explore::Explored;

pub(super) fn setting(
    leaves: u64,
    partitions: usize,
    sealed: Sealed,
    faults: u8,
    detail: Detail,
) -> Setting {
    Setting {
        leaves,
        fan_in: 2,
        partitions,
        sealed,
        makes: Leaves::InTurn,
        after: After::Nothing,
        empty: Empty::Alone,
        reads_back: false,
        forgets: false,
        faults,
        detail,
        mutations: Vec::new(),
    }
}

/// Both numbers of partitions, both ways to seal, and both sequels.
fn settings(
    leaves: impl IntoIterator<Item = u64>,
    faults: u8,
    detail: Detail,
    vary: impl Fn(&mut Setting),
) -> Vec<Setting> {
    let mut settings = Vec::new();
    for leaves in leaves {
        for partitions in [1, 2] {
            for sealed in [Sealed::First, Sealed::Last] {
                for after in [After::Nothing, After::Reduction] {
                    let mut setting = setting(leaves, partitions, sealed, faults, detail);
                    setting.after = after;
                    vary(&mut setting);
                    settings.push(setting);
                }
            }
        }
    }
    settings
}

fn as_it_is(_: &mut Setting) {}

fn in_halves(setting: &mut Setting) {
    setting.makes = Leaves::InHalves;
}

fn at_once(setting: &mut Setting) {
    setting.makes = Leaves::InHalves;
    setting.empty = Empty::AtOnce;
}

fn beside(setting: &mut Setting) {
    setting.makes = Leaves::InHalves;
    setting.empty = Empty::Beside;
}

fn with_the_others(setting: &mut Setting) {
    setting.makes = Leaves::InHalves;
    setting.empty = Empty::WithTheOthers;
}

fn all_empty_beside(setting: &mut Setting) {
    setting.makes = Leaves::WithoutItems;
    setting.empty = Empty::Beside;
}

fn fickle(setting: &mut Setting) {
    setting.makes = Leaves::Fickle;
}

fn fickle_beside(setting: &mut Setting) {
    setting.makes = Leaves::Fickle;
    setting.empty = Empty::Beside;
}

fn reads_back(setting: &mut Setting) {
    setting.reads_back = true;
}

fn forgets(setting: &mut Setting) {
    setting.forgets = true;
}

fn explore_all(settings: impl IntoIterator<Item = Vec<Setting>>) {
    println!(
        "L leaves, F members a group, P partitions, up to so many faults: states, transitions, seconds"
    );
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

/// The settings that nothing follows.
fn alone(mut settings: Vec<Setting>) -> Vec<Setting> {
    settings.retain(|setting| setting.after == After::Nothing);
    settings
}

/// The settings with several partitions.
fn split(mut settings: Vec<Setting>) -> Vec<Setting> {
    settings.retain(|setting| setting.partitions > 1);
    settings
}

fn first(count: usize, mut settings: Vec<Setting>) -> Vec<Setting> {
    settings.truncate(count);
    settings
}

#[test]
fn in_every_order_of_steps_each_leaf_counts_once_in_its_partition() {
    explore_all([
        settings(0..=4, 0, Detail::Full, as_it_is),
        alone(settings(0..=2, 1, Detail::Full, as_it_is)),
    ]);
}

#[test]
fn larger_trees() {
    explore_all([
        settings(0..=4, 1, Detail::Short, as_it_is),
        split(settings(2..=2, 2, Detail::Short, as_it_is)),
    ]);
}

#[test]
fn empty_parts_that_share_a_write() {
    explore_all([
        split(alone(settings(1..=1, 1, Detail::Full, all_empty_beside))),
        split(alone(settings(1..=2, 1, Detail::Full, with_the_others))),
        split(settings(1..=4, 1, Detail::Short, with_the_others)),
        split(settings(1..=4, 1, Detail::Short, at_once)),
        split(settings(1..=2, 1, Detail::Short, beside)),
        split(first(3, alone(settings(3..=4, 1, Detail::Short, beside)))),
        split(settings(2..=2, 1, Detail::Short, all_empty_beside)),
    ]);
}

#[test]
fn leaves_that_differ_from_one_delivery_to_the_next() {
    explore_all([
        settings(1..=2, 1, Detail::Short, fickle),
        split(settings(2..=2, 1, Detail::Short, fickle_beside)),
    ]);
}

#[test]
fn other_stores() {
    explore_all([
        settings(0..=2, 1, Detail::Short, reads_back),
        alone(settings(3..=3, 1, Detail::Short, reads_back))[..3].to_vec(),
        settings(0..=3, 1, Detail::Short, forgets),
    ]);
}

#[test]
#[ignore = "minutes: cargo test --profile proofs --lib model::grouped -- --ignored --nocapture"]
fn all_that_fits_in_minutes() {
    explore_all([
        settings(0..=2, 1, Detail::Full, as_it_is),
        alone(settings(3..=3, 1, Detail::Full, as_it_is)),
        settings(0..=4, 2, Detail::Short, as_it_is),
        split(settings(0..=4, 1, Detail::Short, in_halves)),
        split(settings(0..=4, 1, Detail::Short, at_once)),
        split(settings(0..=3, 2, Detail::Short, with_the_others)),
        split(settings(0..=4, 1, Detail::Short, beside)),
        split(settings(0..=3, 2, Detail::Short, beside)),
        split(settings(0..=4, 1, Detail::Short, all_empty_beside)),
        settings(0..=4, 1, Detail::Short, fickle),
        split(settings(0..=3, 1, Detail::Short, fickle_beside)),
        settings(0..=4, 1, Detail::Short, reads_back),
        settings(0..=4, 1, Detail::Short, forgets),
        settings(0..=2, 2, Detail::Short, forgets),
    ]);
}

type Scratchpad = ([Partial; NODES], [Set; 4], Partial, bool);

/// The scratchpads that can be reached, without the values whose slots have not been added: nobody reads those, and the
/// shortcuts store them earlier.
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
    let scratchpads = seen.into_iter().map(|mut state| {
        let seen = state.arrived.or(state.shared);
        for (node, value) in state.values.iter_mut().enumerate() {
            if !seen.has(node) {
                *value = Partial::NONE;
            }
        }
        let sets = [state.arrived, state.shared, state.told, state.retired];
        (state.values, sets, state.result, state.done)
    });
    scratchpads.collect()
}

#[test]
fn the_shortcuts_lose_no_state_of_the_scratchpad() {
    let full = [
        alone(settings(1..=1, 1, Detail::Full, as_it_is)),
        settings(1..=2, 0, Detail::Full, beside),
        split(alone(settings(1..=1, 1, Detail::Full, beside)))[..1].to_vec(),
        settings(2..=2, 0, Detail::Full, fickle),
        alone(settings(1..=1, 1, Detail::Full, reads_back)),
        alone(settings(1..=1, 1, Detail::Full, forgets)),
    ];
    for full in full.into_iter().flatten() {
        let mut short = full.clone();
        short.detail = Detail::Short;
        let name = format!("{full:?}");
        let [full, short] = [full, short].map(|setting| scratchpads(&setting));
        assert!(full.len() > 1);
        assert!(full == short, "{name}");
    }
}
