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

#[test]
fn in_every_order_of_steps_each_leaf_counts_once_in_its_partition() {
    explore_all([
        settings(0..=2, 1, Detail::Full, as_it_is),
        settings(0..=4, 0, Detail::Full, as_it_is),
    ]);
}

/// How many states there are is the question.
#[test]
fn sizes() {
    explore_all([
        settings(3..=4, 1, Detail::Short, as_it_is),
    ]);
}
