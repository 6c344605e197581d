//! The settings that are explored. `cargo test --lib model::items -- --nocapture` shows how many states there were.

use std::time::Instant;

use stateright::{Checker, Model};

use super::promises::{self, Promise};
use super::rules::Mutation;
use super::state::Behaviour::{self, Fails, FailsFirst, Kills, KillsOnce, Permanent, Works};
use super::{Alone, Policy, System};

const BEHAVIOURS: [Behaviour; 7] = [
    Works,
    FailsFirst(1),
    FailsFirst(2),
    Fails,
    Permanent,
    KillsOnce,
    Kills,
];

fn explore(system: System) -> (usize, Vec<&'static str>, String) {
    let checker = system.checker().threads(2).spawn_bfs().join();
    let mut broken = Vec::new();
    let mut trace = String::new();
    for (promise, path) in checker.discoveries() {
        if promise != promises::ENDS {
            broken.push(promise);
            trace = format!("{trace}\n{promise}:");
            let steps = path.into_vec();
            for (state, action) in &steps {
                trace = format!("{trace}\n  {action:?}");
                if action.is_none() {
                    trace = format!("{trace}\n{:?}", state.packets);
                }
            }
        }
    }
    (checker.unique_state_count(), broken, trace)
}

#[test]
fn probe() {
    for policy in [Policy::Skip, Policy::Fail] {
        for attempts in 1..=3 {
            let (started, mut states) = (Instant::now(), 0);
            for (index, first) in BEHAVIOURS.iter().enumerate() {
                for second in &BEHAVIOURS[index..] {
                    let packets = Box::leak(Box::new([[*first, *second]]));
                    let system = System {
                        packets,
                        processes: 2,
                        attempts,
                        policy,
                        alone: Alone::Always,
                        faults: std::env::var("FAULTS").unwrap().parse().unwrap(),
                        mutation: None,
                    };
                    let (explored, broken, trace) = explore(system);
                    assert!(broken.is_empty(), "{system:?} {broken:?} {trace}");
                    states += explored;
                }
            }
            println!("{policy:?} {attempts} {states} {:?}", started.elapsed());
        }
    }
}
