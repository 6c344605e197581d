//! Tables with many keys, which are merged in parts on several threads.

use std::collections::{BTreeMap, HashMap};

use catchment::{Pipeline, Stage};

fn mixed(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 17
}

#[tokio::test]
async fn many_keys_have_the_values_that_a_map_has() {
    const ITEMS: u64 = 60_000;
    let mut expected: HashMap<u64, Vec<u64>> = HashMap::new();
    for n in 0..ITEMS {
        expected.entry(mixed(n) % 20_000).or_default().push(n);
    }
    for fan_in in [2, 8, 32] {
        let pipeline = Pipeline::new()
            .group_by(|n: &u64| mixed(*n) % 20_000)
            .collect();
        let groups = pipeline
            .with(Stage::new().fan_in(fan_in))
            .run(0..ITEMS)
            .await
            .unwrap();
        let all: HashMap<u64, Vec<u64>> = groups.collect().await.unwrap();
        assert!(all == expected);
        for key in [0, 19_999, 20_000] {
            assert_eq!(groups.get(&key).await.unwrap().as_ref(), expected.get(&key));
        }
    }
}

/// Sums of floating point numbers depend on the order in which they are added.
#[tokio::test]
async fn the_same_input_has_the_same_bits() {
    let pipeline = |concurrency| {
        let numbers = Pipeline::new().map(|n: u64| 1.0 / (mixed(n) as f64 + 0.5));
        let numbers = numbers.with(Stage::new().concurrency(concurrency));
        numbers
            .group_by(|x: &f64| x.to_bits() % 9_001)
            .reduce(|| 0.0, |a, b| a + b)
    };
    let mut bits: Vec<BTreeMap<u64, u64>> = Vec::new();
    for concurrency in [1, 2, 5] {
        let sums = pipeline(concurrency).run(0..40_000).await.unwrap();
        let sums: Vec<(u64, f64)> = sums.collect().await.unwrap();
        bits.push(
            sums.into_iter()
                .map(|(key, sum)| (key, sum.to_bits()))
                .collect(),
        );
    }
    assert!(bits.iter().all(|sums| *sums == bits[0]));
}

/// Nearly all items have one key.
#[tokio::test]
async fn one_key_may_have_nearly_all_items() {
    let pipeline = Pipeline::new().group_by(|n: &u64| if n.is_multiple_of(10) { *n } else { 0 });
    let groups = pipeline
        .reduce(|| 0, |a, b| a + b)
        .run(0..50_000)
        .await
        .unwrap();
    let hot: u64 = (0..50_000).filter(|n| !u64::is_multiple_of(*n, 10)).sum();
    assert_eq!(groups.get(&0).await.unwrap(), Some(hot));
    assert_eq!(groups.len(), 5_000);
}

#[tokio::test]
async fn an_operator_that_fails_or_panics_in_a_merge_fails_the_run() {
    let refuse = |a: u64, b: u64| match a.max(b) {
        n if n > 49_990 => Err(catchment::permanent(format!("{n} is too large"))),
        n => Ok(n),
    };
    let keys = || Pipeline::new().group_by(|n: &u64| n % 25_000);
    let error = keys()
        .try_reduce(|| 0, refuse)
        .run(0..50_000)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("is too large"), "{error}");

    let explode = |a: u64, b: u64| match a.min(b) {
        24_990 => panic!("a merge that panics"),
        _ => a.max(b),
    };
    let once = keys().reduce(|| 0, explode).with(Stage::new().attempts(1));
    let error = once.run(0..50_000).await.unwrap_err();
    assert!(error.to_string().contains("a merge that panics"), "{error}");
}
