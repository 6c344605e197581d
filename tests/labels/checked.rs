//! A function for labels belongs to a stage whose items it takes.

use std::convert::Infallible;
use std::future::ready;

use catchment::{Backend, Data, Error, Pipeline, Stage};

/// The problem with a pipeline, the same whether it is run or deployed.
async fn problem<S>(pipeline: Pipeline<u64, u64, S>) -> String
where
    S: catchment::pipeline::Answer<u64>,
    S::Value: Data + std::fmt::Debug,
{
    let text = |error| match error {
        Error::InvalidPipeline { problem, .. } => problem,
        error => panic!("{error}"),
    };
    let run = text(pipeline.run([1]).await.unwrap_err());
    let Err(error) = pipeline.deploy("labels", Backend::memory()) else {
        panic!("it was deployed")
    };
    assert_eq!(run, text(error));
    run
}

#[tokio::test]
async fn a_function_of_another_type_is_refused_and_both_types_are_named() {
    let pipeline = Pipeline::new()
        .map(|n: u64| n)
        .with(Stage::named("fetch").label(|url: &String| url.clone()))
        .reduce(|| 0, |a, b| a + b);
    assert_eq!(
        problem(pipeline).await,
        "stage `fetch`: `label` is given a function of `String`, but the items of this stage are `u64`, \
         as its first function takes them: write `label(|item: &u64| …)`"
    );
}

#[tokio::test]
async fn types_of_the_same_name_are_told_apart_by_their_paths() {
    mod old {
        #[derive(Clone, serde::Serialize, serde::Deserialize)]
        pub(super) struct Order(pub(super) u64);
    }
    struct Order(u64);
    let pipeline = Pipeline::new()
        .map(old::Order)
        .with(Stage::new())
        .map(|order: old::Order| order.0)
        .with(Stage::named("ship").label(|order: &Order| order.0))
        .reduce(|| 0, |a, b| a + b);
    let problem = problem(pipeline).await;
    assert!(problem.contains("labels::checked::"), "{problem}");
    assert!(problem.contains("::old::Order`, as"), "{problem}");
}

/// The item of a stage of several functions is what the first one takes, and that of a second stage is its own.
#[tokio::test]
async fn each_stage_labels_its_own_items() {
    let pipeline = Pipeline::new()
        .map(|n: u64| n.to_string())
        .map(|text: String| text.len())
        .with(Stage::named("measure").label(|n: &u64| *n))
        .then(|length: usize| ready(Ok::<_, Infallible>(length as u64)))
        .with(Stage::named("convert").label(|length: &usize| *length))
        .reduce(|| 0, |a, b| a + b);
    assert_eq!(pipeline.run([1, 20, 300]).await.unwrap(), 6);
    assert!(pipeline.deploy("labels", Backend::memory()).is_ok());
}

#[tokio::test]
async fn a_reduction_has_no_items_to_label() {
    let sum = || Pipeline::new().map(|n: u64| n).reduce(|| 0, |a, b| a + b);
    let label = || Stage::named("last").label(|n: &u64| *n);
    for pipeline in [sum().with(label()), sum().map(|n| n).with(label())] {
        assert_eq!(
            problem(pipeline).await,
            "stage `last`: label is an option of a stage that works on items, before the reduction, \
             and stands at another stage: move it, or leave it out"
        );
    }
}

/// Options accumulate, so a label stays, and a later one takes its place.
#[tokio::test]
async fn a_label_is_an_option_like_the_others() {
    let labelled = Stage::new().label(|n: &u64| *n);
    assert_eq!(labelled.clone(), labelled);
    assert_ne!(labelled, Stage::new().label(|n: &u64| *n));
    assert!(
        format!("{labelled:?}").contains("label: Some((of `u64`))"),
        "{labelled:?}"
    );

    let stages = || {
        Pipeline::new()
            .map(|n: u64| n)
            .with(Stage::new().label(|text: &String| text.clone()))
    };
    let sum = stages().with(labelled).reduce(|| 0, |a, b| a + b);
    assert_eq!(sum.run([1, 2]).await.unwrap(), 3);
    let sum = stages()
        .with(Stage::named("sum"))
        .reduce(|| 0, |a, b| a + b);
    assert!(problem(sum).await.contains("`String`"));
}
