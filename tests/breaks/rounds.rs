//! What several rounds make is put together, and each item has its own count.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use catchment::{Context, Pipeline, Stage, permanent};

use crate::gate::{Gate, Opens, pass};
use crate::store::soon;
use crate::{SECOND, skipping, waiting};

/// Item 3 hangs at its first call. Another round has done the others when that call returns, and goes on with its list.
#[tokio::test(start_paused = true)]
async fn a_round_that_returns_late_doubles_nothing() {
    let (gate, mut holds) = Gate::new();
    let _opens = Opens(gate.clone());
    let (held, calls) = (gate.clone(), Arc::new(AtomicU32::new(0)));
    let (first, late) = (AtomicU32::new(0), Arc::clone(&calls));
    let pipeline = Pipeline::new()
        .map(move |n: u64| {
            if n == 3 && first.fetch_add(1, SeqCst) == 0 {
                held.hold();
            }
            calls.fetch_add(1, SeqCst);
            n
        })
        .with(waiting(skipping(3)).packet_size(40).timeout(20 * SECOND))
        .collect();
    let run = tokio::spawn(async move { pipeline.run_outcome(0..40).await });
    holds.recv().await.unwrap();
    pass(20 * SECOND).await;
    // Three calls before the one that hangs; then all but that one, without the first, which was done.
    let before = 3 + 38;
    while late.load(SeqCst) < before {
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
    gate.open();
    // On purpose this blocks the only thread of the runtime: the late list of eight items is done before anything else.
    while late.load(SeqCst) < before + 6 {
        std::thread::yield_now();
    }
    for _ in 0..1_000 {
        std::thread::yield_now();
    }
    let outcome = soon(run).await.unwrap().unwrap();
    assert_eq!(outcome.skipped, 0);
    assert_eq!(outcome.value, (0..40).collect::<Vec<_>>());
}

/// All values of an item fail at once: that is one attempt.
#[tokio::test(start_paused = true)]
async fn several_values_of_an_item_that_fail_together_are_one_attempt() {
    for is_async in [false, true] {
        let spread = Pipeline::new().flat_map(|n: u64| [2 * n, 2 * n + 1]);
        let spread = spread.with(Stage::named("spread").packet_size(5));
        let call = |n: u64, attempt: u32| match n / 2 == 3 && attempt == 1 {
            true => Err("once"),
            false => Ok(n),
        };
        let items = match is_async {
            true => spread.then_with(move |n, context: Context| {
                std::future::ready(call(n, context.attempt()))
            }),
            false => spread.try_map_with(move |n, context: &Context| call(n, context.attempt())),
        };
        let pipeline = items.with(skipping(2)).collect();
        let outcome = soon(pipeline.run_outcome(0..10)).await.unwrap();
        assert_eq!(outcome.skipped, 0, "{:?}", outcome.failures);
        assert_eq!(outcome.value, (0..20).collect::<Vec<_>>());
    }
}

/// The reduction refuses one output once, after another item has failed: all run again, each with its own number.
#[tokio::test(start_paused = true)]
async fn neighbours_with_different_counts_see_their_own() {
    let seen: Arc<Mutex<BTreeMap<u64, Vec<u32>>>> = Arc::default();
    let (note, folds) = (Arc::clone(&seen), AtomicU32::new(0));
    let pipeline = Pipeline::new()
        .try_map_with(move |n: u64, context: &Context| {
            let attempt = context.attempt();
            note.lock().unwrap().entry(n).or_default().push(attempt);
            match n == 2 && attempt == 1 {
                true => Err("once"),
                false => Ok(vec![n]),
            }
        })
        .with(skipping(3).packet_size(6))
        .try_reduce(Vec::new, move |mut all, next| {
            if next == [4] && folds.fetch_add(1, SeqCst) == 0 {
                return Err("not yet");
            }
            all.extend(next);
            Ok(all)
        });
    let value = soon(pipeline.run(0..6)).await.unwrap();
    assert_eq!(value, (0..6).collect::<Vec<_>>());
    let seen = seen.lock().unwrap();
    for item in [0, 1, 3, 5] {
        assert_eq!(seen[&item], [1, 1], "item {item}");
    }
    assert_eq!((&seen[&2], &seen[&4]), (&vec![1, 2, 2], &vec![1, 2]));
}

/// A packet goes through its functions in lists of growing length. What the reduction refuses is found in any of them.
#[tokio::test(start_paused = true)]
async fn the_output_that_a_reduction_refuses_is_known() {
    for refused in [0, 1, 5, 9, 77, 300] {
        let pipeline = Pipeline::new()
            .filter_map(|n: u64| (!n.is_multiple_of(3) || n == 0).then(|| vec![n]))
            .flat_map(|n| [n.clone(), n])
            .with(skipping(3).packet_size(1_000))
            .try_reduce(Vec::new, move |mut all, next| {
                if next == [refused + u64::from(refused % 3 == 0 && refused > 0)] {
                    return Err(permanent("not this one"));
                }
                all.extend(next);
                Ok(all)
            });
        let outcome = soon(pipeline.run_outcome(0..1_000)).await.unwrap();
        let refused = refused + u64::from(refused % 3 == 0 && refused > 0);
        let listed: Vec<_> = outcome.failures.iter().map(|one| one.item).collect();
        assert_eq!(listed, [Some(refused)]);
        let left = (0..1_000).filter(|n: &u64| (!n.is_multiple_of(3) || *n == 0) && *n != refused);
        assert_eq!(outcome.value, left.flat_map(|n| [n, n]).collect::<Vec<_>>());
    }
}
