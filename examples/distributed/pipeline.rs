//! The adder's pipeline, wherever its parts run.

use catchment::pipeline::One;
use catchment::{Pipeline, Stage, permanent};

/// Takes numbers and returns their doubled sum. `limit` is the largest number that succeeds here,
/// if there is one.
pub(crate) fn adder(times_two: Stage, sum: Stage, limit: Option<i64>) -> Pipeline<i64, i64, One> {
    Pipeline::new()
        .try_map(move |n: i64| match limit {
            Some(limit) if n > limit => Err(permanent(format!(
                "{n} is above this worker's limit of {limit}"
            ))),
            _ => n
                .checked_mul(2)
                .ok_or_else(|| permanent(format!("{n} times two is more than 64 bits hold"))),
        })
        .with(times_two)
        .try_reduce(
            || 0,
            |sum, n| {
                sum.checked_add(n)
                    .ok_or_else(|| permanent(format!("{sum} + {n} is more than 64 bits hold")))
            },
        )
        .with(sum)
}
