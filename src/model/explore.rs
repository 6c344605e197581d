//! Running the checker.

use std::time::Instant;

use stateright::{Checker, CheckerBuilder, HasDiscoveries, Model, Path};

use super::promises::{ENDS, PROMISES};
use super::state::State;
use super::{Action, Detail, Sealed, Setting, System};

/// How much was looked at.
#[derive(Clone, Copy, Default)]
pub(super) struct Explored {
    pub(super) settings: usize,
    pub(super) states: usize,
    pub(super) transitions: usize,
}

impl std::ops::AddAssign for Explored {
    fn add_assign(&mut self, other: Self) {
        self.settings += other.settings;
        self.states += other.states;
        self.transitions += other.transitions;
    }
}

/// Looks at every state that can be reached. Panics where a promise is broken, and tells how.
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
        "{name:<62} {:>11} {:>12} {:>6.1}",
        explored.states,
        explored.transitions,
        started.elapsed().as_secs_f64()
    );
    explored
}

/// Looks for the shortest run that breaks a promise.
pub(super) fn shortest(setting: Setting, promise: &'static str) -> Option<Vec<String>> {
    assert!(PROMISES.iter().any(|(name, _)| *name == promise));
    let look = |limit: fn(CheckerBuilder<System>, usize) -> CheckerBuilder<System>, depth| {
        let checker = System::new(setting.clone()).checker();
        let only = HasDiscoveries::AnyOf([promise].into());
        let checker = limit(checker.finish_when(only), depth).spawn_bfs().join();
        checker.discovery(promise)
    };
    let mut best: Path<State, Action> = look(|checker, _| checker, 0)?;
    // What is found first need not be the shortest: the checker notes the last one of those that it comes across at about
    // the same time.
    loop {
        let states = best.clone().into_states().len();
        match look(CheckerBuilder::target_max_depth, states) {
            Some(shorter) => best = shorter,
            None => return Some(System::new(setting.clone()).trace(best)),
        }
    }
}

impl Setting {
    fn name(&self) -> String {
        let variants = [
            (self.workers > 2).then_some("three workers"),
            (self.submitters > 1).then_some("two submitters"),
            self.shared_writes.then_some("shared writes"),
            self.reads_back.then_some("state read later"),
            self.forgets.then_some("tree dropped at the end"),
        ];
        let variants = variants.into_iter().flatten();
        let orders = match self.detail {
            Detail::Short => "short",
            Detail::Full | Detail::Numbered => "full",
        };
        let sealed = match self.sealed {
            Sealed::First => "first",
            Sealed::Last => "last",
        };
        [format!(
            "L={} F={} sealed {sealed:<5} faults {} {orders:<5}",
            self.leaves, self.fan_in, self.faults
        )]
        .into_iter()
        .chain(variants.map(str::to_owned))
        .collect::<Vec<_>>()
        .join(", ")
    }
}
