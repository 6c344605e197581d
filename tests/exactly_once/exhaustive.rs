//! Every schedule of one death, and of two: the process dies at a call, before or after it took
//! effect, the next process dies at another, and a third is healthy. With a list the tree is sealed
//! before the packets are sent, with a stream after them.

use super::deaths::{first_deaths, longest, on_all_cores, pairs};
use super::plan::{plans, single};

#[test]
fn one_death_at_any_call_of_any_small_run() {
    let plans = plans(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let schedules = on_all_cores(&plans, async |plan| (plan.course, single(*plan).await));
    assert!(schedules > 5_000);
}

fn two_deaths(lengths: &[u64], stride: u64) -> u64 {
    // As many first deaths as a run of this plan can have, and then some.
    let first = first_deaths(&plans(lengths), |plan| 40 + 30 * plan.length);
    on_all_cores(&first, async |(plan, first)| {
        (plan.course, pairs(*plan, *first, stride).await.unwrap_or(0))
    })
}

/// Every eleventh second death, by the first's number.
#[test]
fn two_deaths_at_some_calls_of_a_run_of_three() {
    assert!(two_deaths(&[3], 11) > 3_000);
}

/// `LONGEST=6` leaves out the longer runs, which take most of the time.
#[test]
#[ignore = "takes long: cargo test --release --test exactly_once every_two -- --ignored --nocapture"]
fn every_two_deaths_of_any_small_run() {
    let lengths: Vec<u64> = (1..=longest(9)).collect();
    assert!(two_deaths(&lengths, 1) > 10_000);
}
