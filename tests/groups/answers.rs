//! What a pipeline that ends with a grouped reduction answers with, and keys of all kinds.

use std::collections::{BTreeMap, HashMap};

use catchment::{BoxError, Combine, Context, Items, Pipeline, Stage};
use futures::TryStreamExt;

#[tokio::test]
async fn no_items_make_no_groups() {
    let counts = Pipeline::new().group_by(|n: &u64| *n).count();
    let groups = counts.run([]).await.unwrap();
    assert!(groups.is_empty());
    assert_eq!(groups.get(&1).await.unwrap(), None);
    assert_eq!(groups.collect::<Vec<_>>().await.unwrap(), []);
    let filtered = Pipeline::new()
        .filter(|_: &u64| false)
        .group_by(|n| *n)
        .count();
    assert_eq!(filtered.run(0..100).await.unwrap().len(), 0);
}

#[tokio::test]
async fn keys_are_of_any_type_that_has_an_order_and_a_hash() {
    let pipeline = Pipeline::new()
        .group_by(|n: &u64| {
            (
                n.is_multiple_of(2),
                Some(format!("{}", n % 3)),
                [*n as u8 % 2; 2],
            )
        })
        .fold(
            || f64::NEG_INFINITY,
            |largest, n| largest.max(n as f64),
            f64::max,
        );
    let groups = pipeline.run(0..12).await.unwrap();
    let key = (true, Some("1".to_owned()), [0; 2]);
    assert_eq!(groups.get(&key).await.unwrap(), Some(10.0));
    assert_eq!(groups.len(), 6);
    let map: HashMap<_, _> = groups.collect().await.unwrap();
    assert_eq!(map.len(), 6);
}

/// Nothing is written in a run inside the process, so that no value is refused.
#[tokio::test]
async fn values_travel_as_they_are() {
    let pipeline = Pipeline::new().group_by(|n: &i64| n.signum()).fold(
        || f64::NAN,
        |_, n| f64::NAN.copysign(n as f64),
        |_, last| last,
    );
    let groups = pipeline.run([-1, 0, 1]).await.unwrap();
    let signs: BTreeMap<i64, f64> = groups.collect().await.unwrap();
    assert!(signs.values().all(|value| value.is_nan()));
    assert!(signs[&-1].is_sign_negative() && signs[&1].is_sign_positive());
}

#[tokio::test]
async fn a_stream_has_every_pair_in_the_order_of_the_keys() {
    let squares = Pipeline::new()
        .group_by(|n: &u64| 100 - n % 10)
        .reduce(|| 0, |a, b| a + b);
    let groups = squares.run(0..1000).await.unwrap();
    let copy = groups.clone();
    let pairs: Vec<(u64, u64)> = groups.stream().try_collect().await.unwrap();
    assert_eq!(pairs.len(), 10);
    assert!(pairs.is_sorted());
    assert_eq!(copy.collect::<Vec<_>>().await.unwrap(), pairs);
    let json = serde_json::to_value(&copy).unwrap();
    assert_eq!(
        json[0],
        serde_json::json!([91, (0..100).map(|n| n * 10 + 9).sum::<u64>()])
    );
}

/// Pairs are items like others, so without a reduction the answer is how many source items there were.
#[tokio::test]
async fn after_a_map_the_answer_is_that_of_items() {
    let names = Pipeline::new()
        .group_by(|n: &u64| n % 5)
        .count()
        .with(Stage::named("counts").fan_in(2))
        .map(|(key, count)| format!("{key}: {count}"))
        .with(Stage::named("names"));
    assert_eq!(names.run(0..12).await.unwrap(), 12);
    assert_eq!(
        names.clone().collect().run(0..12).await.unwrap(),
        ["0: 3", "1: 3", "2: 2", "3: 2", "4: 2"]
    );
    let deployment = names.deploy("names", catchment::Backend::memory()).unwrap();
    assert_eq!(
        deployment.stages().collect::<Vec<_>>()[1..],
        ["counts", "names", "reduce-3"]
    );
}

/// A reduction may follow at once, and so may an asynchronous function.
#[tokio::test]
async fn any_stage_may_follow() {
    let counts = Pipeline::new().group_by(|n: &u64| n % 5).count();
    assert_eq!(counts.clone().count().run(0..12).await.unwrap(), 5);
    let most = counts
        .clone()
        .reduce(|| (0, 0), |a, b| if b.1 > a.1 { b } else { a });
    assert_eq!(most.run(0..12).await.unwrap(), (0, 3));
    let then = counts
        .clone()
        .then(|(key, _)| async move { Ok::<_, BoxError>(key) });
    assert_eq!(then.collect().run(0..12).await.unwrap(), [0, 1, 2, 3, 4]);
    let again = counts.group_by(|(_, count)| *count).collect();
    let again: Vec<(u64, Vec<(u64, u64)>)> =
        again.run(0..12).await.unwrap().collect().await.unwrap();
    assert_eq!(
        again,
        [(2, vec![(2, 2), (3, 2), (4, 2)]), (3, vec![(0, 3), (1, 3)])]
    );
}

/// Joins texts, and yields in between.
struct Join;

impl Combine for Join {
    type Input = u64;
    type Output = String;

    fn identity(&self) -> String {
        String::new()
    }

    async fn fold(&self, items: Items<'_, u64>, _: &Context) -> Result<String, BoxError> {
        let texts: Vec<String> = items.map(|item| item.to_string()).collect();
        tokio::task::yield_now().await;
        Ok(texts.join(" "))
    }

    async fn combine(&self, group: Vec<String>, _: &Context) -> Result<String, BoxError> {
        tokio::task::yield_now().await;
        Ok(group.join(" "))
    }
}

#[tokio::test]
async fn a_combine_gets_the_items_of_one_key_in_their_order() {
    for packet_size in [1, 2, 5, 100] {
        let pipeline = Pipeline::new()
            .map(|n: u64| n)
            .with(Stage::new().packet_size(packet_size));
        let joined = pipeline
            .group_by(|n| n % 3)
            .combine(Join)
            .with(Stage::new().fan_in(2));
        let groups = joined.run(0..12).await.unwrap();
        assert_eq!(groups.get(&1).await.unwrap().as_deref(), Some("1 4 7 10"));
        assert_eq!(groups.len(), 3);
    }
}
