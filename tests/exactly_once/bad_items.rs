//! Deaths while items fail: exactly the bad ones are left out, or fail the run, wherever a process
//! dies, and whether the packets that wait are kept or go back to their queue.

mod limit;
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

/// Under each policy, with packets that are kept and with those that go back: this plan with as many packets.
fn under_each_policy(plan: Plan, packets: &[u64]) -> Vec<Plan> {
    let mut plans = Vec::new();
    for policy in POLICIES {
        for goes_back in [false, true] {
            plans.extend(packets.iter().map(|&packets| Plan {
                policy,
                goes_back,
                packets,
                ..plan
            }));
        }
    }
    plans
}

/// Plans of up to this many packets.
fn all(longest: u64) -> Vec<Plan> {
    let packets: Vec<u64> = (1..=longest).collect();
    let mut plans = Vec::new();
    for is_async in [true, false] {
        for sealed_first in [true, false] {
            for (packet_size, fan_in) in [(2, 2), (3, 3)] {
                let plan = Plan {
                    is_async,
                    sealed_first,
                    packet_size,
                    fan_in,
                    ..SMALL
                };
                plans.extend(under_each_policy(plan, &packets));
            }
        }
    }
    plans
}

const SMALL: Plan = Plan {
    policy: Policy::Skip,
    goes_back: false,
    is_async: true,
    sealed_first: true,
    packets: 2,
    packet_size: 2,
    fan_in: 2,
    attempts: 2,
};

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
    assert!(one_death(&under_each_policy(SMALL, &[2])) > 500);
}

#[test]
#[ignore = "takes long: cargo test --profile proofs --test exactly_once bad_items -- --ignored --nocapture"]
fn one_death_at_any_call_of_any_small_run_with_bad_items() {
    assert!(one_death(&all(longest(6))) > 10_000);
}

/// The item that is at work by itself when two processes die must not be blamed for both: three
/// attempts leave it one.
#[test]
#[ignore = "takes long: cargo test --profile proofs --test exactly_once bad_items -- --ignored --nocapture"]
fn two_deaths_at_some_calls_of_two_packets_with_bad_items() {
    let mut plans = Vec::new();
    for sealed_first in [true, false] {
        let plan = Plan {
            sealed_first,
            attempts: 3,
            ..SMALL
        };
        plans.extend(under_each_policy(plan, &[2]));
    }
    assert!(two_deaths(&plans, 7) > 10_000);
}
