//! Panics are failures of the item that they happened at, in whichever function.

use catchment::Pipeline;

use crate::common::*;
use crate::shapes::SHAPES;

const LENGTH: u64 = 60;
const ATTEMPTS: u32 = 3;

/// Several items of one packet misbehave: panics and errors, once and always. So does `another` one.
fn plan(another: Nature) -> Shared {
    Plan::with(
        LENGTH,
        [
            (3, Nature::Panics(1)),
            (4, Nature::Fails(1)),
            (5, Nature::Panics(ALWAYS)),
            (6, Nature::Panics(2)),
            (30, Nature::Panics(ALWAYS)),
            (31, another),
            (32, Nature::Panics(1)),
        ],
    )
}

/// Runs a pipeline of functions that have one call for each item and attempt.
async fn exact(way: Way, what: &str, another: Nature, build: impl Fn(Shared) -> Pipeline<u64>) {
    let plan = plan(another);
    let options = skipping(ATTEMPTS).packet_size(10);
    let pipeline = build(Shared::clone(&plan)).with(options).collect();
    let seen = way.run(pipeline, LENGTH).await.unwrap();
    let what = format!("{way:?}, in {what}");
    assert_exact(&what, &plan, ATTEMPTS, &seen, as_it_is);
}

async fn in_try_map(way: Way) {
    exact(way, "try_map", Nature::Permanent, |plan| {
        Pipeline::new().try_map(move |n| plan.call(n))
    })
    .await;
}

async fn in_then(way: Way) {
    exact(way, "then", Nature::Permanent, |plan| {
        Pipeline::new().then(move |n| {
            let plan = Shared::clone(&plan);
            async move { plan.called(n, || {}).await }
        })
    })
    .await;
}

/// Before there is a future.
async fn in_the_closure_of_then(way: Way) {
    exact(way, "the closure of then", Nature::Permanent, |plan| {
        Pipeline::new().then(move |n| std::future::ready(plan.call(n)))
    })
    .await;
}

/// Functions that cannot fail but by a panic.
async fn in_functions_that_return_no_result(way: Way) {
    let once = Nature::Panics(1);
    let call = |plan: &Shared, n| plan.call(n).unwrap();
    exact(way, "map", once, |plan| {
        Pipeline::new().map(move |n| call(&plan, n))
    })
    .await;
    exact(way, "filter", once, |plan| {
        let call = move |n: &u64| call(&plan, *n) == *n;
        Pipeline::new().filter(call)
    })
    .await;
    exact(way, "filter_map", once, |plan| {
        Pipeline::new().filter_map(move |n| Some(call(&plan, n)))
    })
    .await;
    exact(way, "flat_map", once, |plan| {
        Pipeline::new().flat_map(move |n| [call(&plan, n)])
    })
    .await;
}

async fn in_every_shape(way: Way) {
    for shape in SHAPES {
        let plan = plan(Nature::Permanent);
        let options = skipping(ATTEMPTS);
        let pipeline = shape.pipeline(&plan, options);
        let seen = way.run(pipeline, LENGTH).await.unwrap();
        let what = format!("{way:?}, {shape:?}");
        assert_exact(&what, &plan, ATTEMPTS, &seen, |item| shape.kept(item));
    }
}

each_way! {
    a_panic_in_try_map = in_try_map;
    a_panic_in_then = in_then;
    a_panic_in_the_closure_of_then = in_the_closure_of_then;
    a_panic_in_a_function_without_a_result = in_functions_that_return_no_result;
    a_panic_in_every_kind_of_stage = in_every_shape;
}

/// The reduction's own step over a packet. The functions before it were done with the item.
async fn in_a_fold(way: Way) {
    let (maps, folds) = (Plan::with(LENGTH, []), plan(Nature::Panics(2)));
    let (mapped, folded) = (Shared::clone(&maps), Shared::clone(&folds));
    let pipeline = Pipeline::new()
        .try_map(move |n: u64| mapped.call(n))
        .with(skipping(ATTEMPTS).packet_size(10))
        .fold(
            Vec::new,
            move |mut list, n| {
                // Only items that misbehave are called: how often a packet is folded is not promised.
                if folds.nature(n) != Nature::Good {
                    folds.call(n).unwrap();
                }
                list.push(n);
                list
            },
            |a, b| [a, b].concat(),
        );
    let seen = way.run(pipeline, LENGTH).await.unwrap();
    let good = |item: &u64| ![5, 30].contains(item);
    let expected: Vec<u64> = (0..LENGTH).filter(good).collect();
    assert_eq!(seen.value, expected, "{way:?}");
    assert!(
        [3, 6, 32].iter().all(|item| folded.calls(*item) >= 2),
        "{folded:?}"
    );
}

each_way! {
    a_panic_in_a_fold = in_a_fold;
}
