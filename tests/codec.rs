//! The codec makes no difference to the result.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashSet;
use std::sync::Mutex;

use catchment::pipeline::One;
use catchment::{Backend, Data, Error, Pipeline, Result, Stage};

/// Fails the first time it sees an item for which this is so.
fn once<T: Clone + Eq + std::hash::Hash + Send + 'static>(
    fails: impl Fn(&T) -> bool + Send + Sync + 'static,
) -> impl Fn(T) -> std::result::Result<T, String> + Send + Sync + 'static {
    let seen = Mutex::new(HashSet::new());
    move |item| match fails(&item) && seen.lock().unwrap().insert(item.clone()) {
        true => Err("not yet".into()),
        false => Ok(item),
    }
}

#[tokio::test(start_paused = true)]
async fn values_that_stay_in_the_process_come_back_after_a_failure() {
    let numbers = Pipeline::new()
        .try_map(once(|n: &i64| n % 7 == 0))
        .with(Stage::new().packet_size(3))
        .try_map(once(|n: &i64| n % 5 == 0))
        .reduce(|| 0, |a, b| a + b);
    assert_eq!(numbers.run(1..=100).await.unwrap(), 5_050);

    let words = Pipeline::new()
        .try_map(once(|word: &String| word.len() == 3))
        .collect()
        .map(|words| words.join(" "));
    let input = ["all", "rivers", "run", "into", "the", "sea"].map(str::to_owned);
    let expected = input.join(" ");
    assert_eq!(words.run(input).await.unwrap(), expected);
}

/// The result of these items over a backend in memory, which encodes what a service would.
async fn deployed<I: Data, O: Data>(pipeline: &Pipeline<I, O, One>, items: Vec<I>) -> Result<O> {
    let deployment = pipeline.deploy("deployed", Backend::memory()).unwrap();
    let worker = deployment.worker().start();
    let run = deployment.submit(items).await?;
    let result = run.result().await;
    drop(worker);
    result
}

#[tokio::test(start_paused = true)]
async fn a_number_that_json_cannot_write_fails_when_deployed_only() {
    let pipeline = Pipeline::new()
        .map(|n: f64| 1.0 / n)
        .with(Stage::named("invert"))
        .map(|n: f64| n)
        .reduce(|| 0.0, |a, b| a + b);
    assert_eq!(pipeline.run([1.0, 0.0]).await.unwrap(), f64::INFINITY);
    match deployed(&pipeline, vec![1.0, 0.0]).await.unwrap_err() {
        Error::Failed { failure, .. } => assert_eq!(failure.item, Some(1)),
        other => panic!("{other}"),
    }
}

/// A type of the application's own may write itself as it likes.
#[tokio::test(start_paused = true)]
async fn types_of_ones_own_are_written_and_read_when_deployed() {
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Celsius(#[serde(with = "kelvin")] f64);
    mod kelvin {
        use serde::{Deserialize, Deserializer, Serialize, Serializer};
        pub(super) fn serialize<S: Serializer>(celsius: &f64, to: S) -> Result<S::Ok, S::Error> {
            (celsius + 273.0).serialize(to)
        }
        pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
            Ok(f64::deserialize(from)? - 273.0)
        }
    }
    let warmest = Pipeline::new()
        .map(|t: Celsius| t.0)
        .reduce(|| f64::MIN, f64::max);
    let input = [7.0, 21.0, -3.0].map(Celsius);
    assert_eq!(warmest.run(input.clone()).await.unwrap(), 21.0);
    assert_eq!(deployed(&warmest, input.into()).await.unwrap(), 21.0);
}

#[cfg(feature = "postcard")]
mod postcard {
    use super::*;
    use catchment::Codec;

    fn lengths(codec: Codec) -> Pipeline<String, Vec<u64>, One> {
        Pipeline::new()
            .flat_map(|line: String| {
                line.split_whitespace()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .with(Stage::new().packet_size(2))
            .filter(|word: &String| word != "the")
            .map(|word| word.len() as u64)
            .collect()
            .map(|lengths| lengths)
            .codec(codec)
    }

    fn lines() -> Vec<String> {
        let line = |n: usize| format!("the {} river {}", "r".repeat(n), "the ".repeat(n % 3));
        (0..70).map(line).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn both_codecs_give_the_same() {
        let expected = lengths(Codec::Json).run(lines()).await.unwrap();
        assert_eq!(expected.len(), 139, "0 r's are no word");
        assert_eq!(
            lengths(Codec::Postcard).run(lines()).await.unwrap(),
            expected
        );
        // A deployment may change its codec: workers read either.
        for (submits, works) in [
            (Codec::Json, Codec::Postcard),
            (Codec::Postcard, Codec::Json),
            (Codec::Postcard, Codec::Postcard),
        ] {
            let backend = Backend::memory();
            let submitter = lengths(submits).deploy("both", backend.clone()).unwrap();
            let worker = lengths(works).deploy("both", backend).unwrap();
            let run = submitter.submit(lines()).await.unwrap();
            let worker = worker.worker().start();
            assert_eq!(run.result().await.unwrap(), expected);
            worker.shutdown().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_type_that_the_codec_cannot_read_is_a_clear_failure() {
        #[derive(Clone, serde::Serialize, serde::Deserialize)]
        #[serde(untagged)]
        enum Size {
            Exact(u64),
            Named(String),
        }
        let sizes = Pipeline::new()
            .map(|size: Size| match size {
                Size::Exact(size) => size,
                Size::Named(name) => name.len() as u64,
            })
            .with(Stage::named("sizes"))
            .reduce(|| 0, |a, b| a + b);
        let input = || vec![Size::Exact(3), Size::Named("four".into())];
        assert_eq!(deployed(&sizes, input()).await.unwrap(), 7);
        let sizes = sizes.codec(Codec::Postcard);
        assert_eq!(sizes.run(input()).await.unwrap(), 7);
        let error = deployed(&sizes, input()).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("sizes") && text.contains("packet's items"),
            "{text}"
        );
    }
}
