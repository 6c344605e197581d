//! 20,000 items in packets of the default size, some of which fail.

use catchment::{OnFailure, Stage};

use crate::common::*;
use crate::shapes::{SHAPES, Shape};

const LENGTH: u64 = 20_000;
const ATTEMPTS: u32 = 3;

/// Numbers below 1,000, without a pattern that packets could share.
fn spread(item: u64) -> u64 {
    (item.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % 1_000
}

/// One item in a hundred is `bad`, and one in twenty of the others fails at its first call.
fn some(bad: Nature) -> Shared {
    Plan::new((0..LENGTH).map(|item| match spread(item) {
        0..10 => bad,
        10..60 => Nature::Fails(1),
        _ => Nature::Good,
    }))
}

async fn exact(way: Way, shape: Shape, bad: Nature) {
    let plan = some(bad);
    let pipeline = shape.pipeline(&plan, skipping(ATTEMPTS));
    let seen = way.run(pipeline, LENGTH).await.unwrap();
    let what = format!("{way:?}, {shape:?}, {bad:?}");
    assert_exact(&what, &plan, ATTEMPTS, &seen, |item| shape.kept(item));
}

macro_rules! shapes {
    ($($name:ident: $shape:literal;)*) => {$(
        mod $name {
            use super::*;

            each_way! {
                failing = async |way| exact(way, SHAPES[$shape], Nature::Fails(ALWAYS)).await;
                permanent = async |way| exact(way, SHAPES[$shape], Nature::Permanent).await;
            }
        }
    )*};
}

shapes! {
    try_map: 0;
    then: 1;
    chain: 2;
    two_stages: 3;
    own_blocking: 4;
    own_async: 5;
}

/// Nobody is left out: every item that fails once succeeds at its second call, and no other is called again.
async fn nobody_fails_for_good(way: Way) {
    for shape in [Shape::TryMap, Shape::Then, Shape::TwoStages] {
        let plan = some(Nature::Fails(2));
        let options = skipping(ATTEMPTS).on_failure(OnFailure::Fail);
        let seen = way.run(shape.pipeline(&plan, options), LENGTH).await;
        let what = format!("{way:?}, {shape:?}");
        let seen = seen.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_exact(&what, &plan, ATTEMPTS, &seen, |item| shape.kept(item));
    }
}

each_way! {
    items_that_recover_fail_no_run = nobody_fails_for_good;
}

/// The stage before a stage with failures is not called again either.
#[tokio::test(start_paused = true)]
async fn a_stage_before_is_called_once() {
    let (first, second) = (Plan::with(LENGTH, []), some(Nature::Fails(ALWAYS)));
    let (of_first, of_second) = (Shared::clone(&first), Shared::clone(&second));
    let pipeline = catchment::Pipeline::new()
        .try_map(move |n: u64| of_first.call(n))
        .with(Stage::named("before"))
        .try_map(move |n: u64| of_second.call(n))
        .with(skipping(ATTEMPTS))
        .collect();
    let seen = Way::Deployed.run(pipeline, LENGTH).await.unwrap();
    assert_exact("the second", &second, ATTEMPTS, &seen, as_it_is);
    assert!((0..LENGTH).all(|item| first.calls(item) == 1));
}
