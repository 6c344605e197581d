//! The settings that are explored. `cargo test --lib model::items -- --nocapture` shows how many states there were, and
//! which setting breaks each rule.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};

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

/// Each pair of items, in one order: the order in which items are called is open.
fn pairs() -> impl Iterator<Item = [Behaviour; 2]> {
    let firsts = BEHAVIOURS.iter().enumerate();
    firsts.flat_map(|(index, first)| BEHAVIOURS[index..].iter().map(|second| [*first, *second]))
}

/// One packet, and two processes that may both hold it.
fn one_packet(items: [Behaviour; 2], attempts: u8, policy: Policy, faults: u8) -> System {
    System {
        packets: Box::leak(Box::new([items])),
        processes: 2,
        attempts,
        policy,
        alone: Alone::Always,
        faults,
        mutation: None,
    }
}

/// Two packets in one process, which dies with both.
fn two_packets(items: [[Behaviour; 2]; 2], attempts: u8, policy: Policy, faults: u8) -> System {
    System {
        packets: Box::leak(Box::new(items)),
        processes: 1,
        ..one_packet(items[0], attempts, policy, faults)
    }
}

/// Checks every reachable state, and returns their number. Panics with a trace if a promise is broken.
fn explore(system: System) -> usize {
    let checker = system.checker().threads(2).spawn_bfs().join();
    for (promise, path) in checker.discoveries() {
        if promise != promises::ENDS {
            let (states, actions): (Vec<_>, Vec<_>) = path.into_vec().into_iter().unzip();
            let last = states.last();
            panic!("{system:?}: it does not hold that {promise}:\n{actions:?}\n{last:?}");
        }
    }
    let ends = checker.discovery(promises::ENDS).is_some();
    assert!(ends, "{system:?}: nothing comes to an end");
    checker.unique_state_count()
}

fn explore_all(name: &str, systems: impl IntoIterator<Item = System>) {
    let (started, mut settings, mut states) = (Instant::now(), 0, 0);
    for system in systems {
        settings += 1;
        states += explore(system);
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{name}: {settings} settings, {states} states, {seconds:.1} s");
}

fn each_packet(attempts: u8, faults: u8) -> impl Iterator<Item = System> {
    let policies = [Policy::Skip, Policy::Fail].into_iter();
    policies.flat_map(move |policy| {
        pairs().map(move |items| one_packet(items, attempts, policy, faults))
    })
}

/// One process, so that deliveries follow each other.
fn each_packet_in_one_process(attempts: u8, faults: u8) -> impl Iterator<Item = System> {
    each_packet(attempts, faults).map(|system| System {
        processes: 1,
        ..system
    })
}

/// Packets that make a difference to each other, or to themselves.
const PACKETS: [[[Behaviour; 2]; 2]; 5] = [
    [[Works, FailsFirst(1)], [Kills, Works]],
    [[FailsFirst(1), Fails], [Works, KillsOnce]],
    [[Works, Kills], [Fails, Permanent]],
    [[Works, Kills], [FailsFirst(1), Kills]],
    [[Works, Works], [Kills, Kills]],
];

fn each_two_packets(attempts: u8, faults: u8) -> impl Iterator<Item = System> {
    let policies = [Policy::Skip, Policy::Fail].into_iter();
    policies.flat_map(move |policy| {
        let packets = PACKETS.into_iter();
        packets.map(move |items| two_packets(items, attempts, policy, faults))
    })
}

#[test]
fn exactly_the_bad_items_are_left_out() {
    explore_all(
        "a packet without faults",
        (1..=3).flat_map(|attempts| each_packet(attempts, 0)),
    );
    explore_all(
        "a packet in one process, a fault",
        (1..=3).flat_map(|attempts| each_packet_in_one_process(attempts, 1)),
    );
    explore_all("a packet in two processes, a fault", each_packet(2, 1));
    explore_all(
        "two packets in a process, without faults",
        (1..=2).flat_map(|attempts| each_two_packets(attempts, 0)),
    );
}

#[test]
#[ignore = "some millions of states"]
fn exactly_the_bad_items_are_left_out_whatever_happens() {
    for attempts in 1..=3 {
        explore_all(
            &format!("{attempts} attempts, a packet in two processes, a fault"),
            each_packet(attempts, 1),
        );
        explore_all(
            &format!("{attempts} attempts, a packet in one process, four faults"),
            each_packet_in_one_process(attempts, 4),
        );
        explore_all(
            &format!("{attempts} attempts, two packets in a process, a fault"),
            each_two_packets(attempts, 1),
        );
    }
    for attempts in 1..=2 {
        explore_all(
            &format!("{attempts} attempts, a packet in two processes, two faults"),
            each_packet(attempts, 2),
        );
    }
}

/// Whether this promise is broken, and in how many steps.
fn breaks(system: System, promise: &Promise) -> Option<usize> {
    let found = HasDiscoveries::AnyOf([promise.name].into());
    let checker = system.checker().finish_when(found).spawn_bfs().join();
    let path = checker.discovery(promise.name)?;
    Some(path.into_actions().len())
}

fn assert_broken(system: System, mutation: Mutation, promise: &Promise) {
    let before = breaks(system, promise);
    assert_eq!(before, None, "{system:?} breaks it without the mutation");
    let mutated = System {
        mutation: Some(mutation),
        ..system
    };
    let steps = breaks(mutated, promise);
    let steps = steps.unwrap_or_else(|| panic!("{mutated:?}: the checker finds nothing"));
    println!("{mutation:?}: {steps} steps to break that {}", promise.name);
}

#[test]
fn each_rule_of_items_is_needed() {
    use Policy::{Fail, Skip};
    use promises::{AGREED, COUNTED, DESERVED, FEW_CALLS, KILLS, LISTED, REMEMBERED, WHOLE};
    let one = one_packet;
    for (mutation, system, promise) in [
        (
            Mutation::CountForThePacket,
            one([FailsFirst(1), Fails], 2, Skip, 0),
            &DESERVED,
        ),
        (
            Mutation::CountForThePacket,
            one([FailsFirst(1), Fails], 2, Fail, 0),
            &DESERVED,
        ),
        (
            Mutation::PermanentForThePacket,
            one([FailsFirst(1), Permanent], 2, Skip, 0),
            &DESERVED,
        ),
        (
            Mutation::ForgetFailures,
            one([Works, Fails], 2, Skip, 2),
            &FEW_CALLS,
        ),
        (
            Mutation::KeepTheLastCount,
            one([Works, Fails], 3, Skip, 3),
            &REMEMBERED,
        ),
        (
            Mutation::KeepWhatIsHandedBack,
            one([Works, Works], 1, Skip, 2),
            &WHOLE,
        ),
        (
            Mutation::SuspectsUnnamed,
            one([Works, Kills], 2, Skip, 0),
            &WHOLE,
        ),
        (
            Mutation::NameAfterCalling,
            one([Works, Kills], 2, Fail, 0),
            &DESERVED,
        ),
        (
            Mutation::KeepFormerNames,
            one([Works, Kills], 2, Skip, 0),
            &DESERVED,
        ),
        (
            Mutation::DropWhatWasSkipped,
            one([Works, Fails], 2, Skip, 1),
            &COUNTED,
        ),
        (
            Mutation::RunAllAgain,
            one([Works, FailsFirst(1)], 2, Skip, 0),
            &COUNTED,
        ),
        (
            Mutation::ArriveFirst,
            one([Works, Fails], 1, Skip, 0),
            &LISTED,
        ),
        (
            Mutation::AddToTheValue,
            one([Works, Works], 1, Skip, 1),
            &COUNTED,
        ),
        (
            Mutation::BlameTheFirst,
            one([Works, Fails], 1, Fail, 0),
            &DESERVED,
        ),
        (
            Mutation::DoNotLook,
            System {
                processes: 1,
                ..one([Works, Works], 1, Skip, 2)
            },
            &AGREED,
        ),
        (
            Mutation::DeathsDoNotCount,
            one([Works, Kills], 1, Skip, 0),
            &KILLS,
        ),
        (
            Mutation::UnnamedDeathsCount,
            one([Works, Kills], 2, Skip, 1),
            &DESERVED,
        ),
        (
            Mutation::UnnamedDeathsAndFailures,
            one([FailsFirst(1), Kills], 2, Skip, 0),
            &DESERVED,
        ),
        (
            Mutation::DeathsAndFailures,
            one([FailsFirst(1), Kills], 2, Skip, 1),
            &DESERVED,
        ),
    ] {
        assert_broken(system, mutation, promise);
    }
}

/// A neighbour that ends the process makes items of a suspect final, unless the suspect runs alone.
#[test]
fn suspects_run_alone() {
    let items = [[Works, Works], [Kills, Works]];
    for (alone, attempts, faults, holds) in [
        (Alone::AmongSuspects, 1, 1, false),
        (Alone::AmongSuspects, 2, 2, false),
        (Alone::AtLast, 1, 1, true),
        (Alone::AtLast, 2, 1, true),
        (Alone::AtLast, 2, 2, false),
        (Alone::Always, 1, 1, true),
        (Alone::Always, 2, 1, true),
    ] {
        let system = two_packets(items, attempts, Policy::Skip, faults);
        let system = System { alone, ..system };
        let steps = breaks(system, &promises::DESERVED);
        assert_eq!(steps.is_none(), holds, "{system:?}");
        println!("{alone:?}, {attempts} attempts, {faults} faults: {steps:?} steps to break it");
    }
}
