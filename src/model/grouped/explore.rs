//! Running the checker.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path};

use super::promises::{ENDS, PROMISES};
use super::state::State;
use super::{Action, After, Detail, Empty, Sealed, Setting, System};
use crate::model::explore::Explored;

/// Checks every reachable state. Panics with a trace if a promise is broken.
pub(super) fn explore(setting: Setting) -> Explored {
    let started = Instant::now();
    let name = setting.name();
    let checker = System::new(setting).checker().threads(2).spawn_bfs().join();
    for (promise, path) in checker.discoveries() {
        if promise != ENDS {
            let trace = checker.model().trace(path).join("\n");
            panic!("{name}: it does not hold that {promise}:\n{trace}");
        }
    }
    assert!(checker.discovery(ENDS).is_some(), "{name}: no run ends");
    let explored = Explored {
        settings: 1,
        states: checker.unique_state_count(),
        transitions: checker.state_count() - 1,
    };
    println!(
        "{name:<90} {:>11} {:>12} {:>6.1}",
        explored.states,
        explored.transitions,
        started.elapsed().as_secs_f64()
    );
    explored
}

/// The shortest run that breaks a promise, if there is one.
pub(super) fn shortest(setting: &Setting, promise: &'static str) -> Option<Vec<String>> {
    assert!(PROMISES.iter().any(|(name, _)| *name == promise));
    // The first discovery need not be the shortest: of several in one pass, the checker keeps the last.
    let mut best = find(setting, promise, None)?;
    loop {
        let states = best.clone().into_states().len();
        match find(setting, promise, Some(states)) {
            Some(shorter) => best = shorter,
            None => return Some(System::new(setting.clone()).trace(best)),
        }
    }
}

/// A run of fewer than `below` states that breaks a promise.
fn find(
    setting: &Setting,
    promise: &'static str,
    below: Option<usize>,
) -> Option<Path<State, Action>> {
    let checker = System::new(setting.clone()).checker();
    let checker = checker.finish_when(HasDiscoveries::AnyOf([promise].into()));
    // Zero means no limit.
    let checker = checker.target_max_depth(below.unwrap_or_default());
    checker.spawn_bfs().join().discovery(promise)
}

impl Setting {
    fn name(&self) -> String {
        let sealed = match self.sealed {
            Sealed::First => "first",
            Sealed::Last => "last",
        };
        let orders = match self.detail {
            Detail::Full | Detail::Numbered => "full",
            Detail::Short => "short",
        };
        let Self {
            leaves,
            fan_in,
            partitions,
            faults,
            ..
        } = self;
        let mut name = format!(
            "L={leaves} F={fan_in} P={partitions} sealed {sealed:<5} faults {faults} {orders:<5}"
        );
        name += &format!(" leaves {:?}", self.makes);
        let variants = [
            (self.after == After::Reduction, "a reduction follows"),
            (self.empty == Empty::AtOnce, "empty parts at once"),
            (
                self.empty == Empty::Beside,
                "empty parts on a record beside",
            ),
            (self.empty == Empty::WithTheOthers, "all parts at once"),
            (self.reads_back, "state read later"),
            (self.forgets, "tree dropped at the end"),
        ];
        for (_, variant) in variants.iter().filter(|(is_so, _)| *is_so) {
            name = format!("{name}, {variant}");
        }
        name
    }
}
