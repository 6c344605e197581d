//! Deaths while items fail: exactly the bad ones are left out, or fail the run, wherever a process
//! dies, and whether the packets that wait are kept or go back to their queue.

mod plan;
mod play;

use super::deaths::{self, Death, first_deaths, longest, on_all_cores, pairs};
use plan::{Plan, Policy};

const POLICIES: [Policy; 5] = [
    Policy::Skip,
    Policy::SkipUntilMended,
    Policy::Fail,
    Policy::TolerateAll,
    Policy::TolerateLess,
];

/// Plans of this many packets, with functions of these kinds.
fn plans(packets: &[u64], asynchronous: &[bool], attempts: u32) -> Vec<Plan> {
    let mut plans = Vec::new();
    for policy in POLICIES {
        for goes_back in [false, true] {
            for &is_async in asynchronous {
                for sealed_first in [true, false] {
                    for (packet_size, fan_in) in [(2, 2), (2, 3), (3, 2), (3, 3)] {
                        plans.extend(packets.iter().map(|&packets| Plan {
                            policy,
                            goes_back,
                            is_async,
                            sealed_first,
                            packets,
                            packet_size,
                            fan_in,
                            attempts,
                        }));
                    }
                }
            }
        }
    }
    plans
}

/// One death in the run; if it may fail, of the process before the fix and of the one after it.
async fn single(plan: Plan) -> u64 {
    let mut schedules = deaths::single(plan, &[]).await;
    if plan.may_fail() {
        schedules += deaths::single(plan, &[Death::NONE]).await;
    }
    schedules
}

fn one_death(plans: &[Plan]) -> u64 {
    on_all_cores(plans, async |plan| {
        ((plan.policy, plan.goes_back), single(*plan).await)
    })
}

fn two_deaths(plans: &[Plan], stride: u64) -> u64 {
    // As many first deaths as a run of this plan can have, and then some.
    let first = first_deaths(plans, |plan| 60 + 60 * plan.packets);
    on_all_cores(&first, async |(plan, first)| {
        let schedules = pairs(*plan, *first, stride).await.unwrap_or(0);
        ((plan.policy, plan.goes_back), schedules)
    })
}

#[test]
fn one_death_at_any_call_of_two_packets_with_bad_items() {
    assert!(one_death(&plans(&[2], &[true], 2)) > 1_000);
}

#[test]
#[ignore = "takes long: cargo test --profile proofs --test exactly_once bad_items -- --ignored --nocapture"]
fn one_death_at_any_call_of_any_small_run_with_bad_items() {
    let packets: Vec<u64> = (1..=longest(6)).collect();
    assert!(one_death(&plans(&packets, &[true, false], 2)) > 10_000);
}

/// The item that is at work by itself when two processes die must not be blamed for both: three
/// attempts leave it one.
#[test]
#[ignore = "takes long: cargo test --profile proofs --test exactly_once bad_items -- --ignored --nocapture"]
fn two_deaths_at_some_calls_of_small_runs_with_bad_items() {
    let packets: Vec<u64> = (1..=longest(6).min(3)).collect();
    assert!(two_deaths(&plans(&packets, &[true], 3), 7) > 10_000);
}
