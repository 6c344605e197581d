//! Whole runs, by functions alone.

use aws_lambda_events::sqs::SqsEvent;
use catchment::{Deployment, Pipeline, Stage};
use lambda_runtime::{Context, LambdaEvent};
use tower::ServiceExt;

use super::*;

fn adder(store: &Store) -> Deployment<i64, i64> {
    let adder = Pipeline::new()
        .map(|n: i64| n * 2)
        .with(Stage::named("times_two"));
    let sum = Stage::named("sum").fan_in(2);
    let adder = adder.reduce(|| 0, |a, b| a + b).with(sum);
    adder.deploy("adder", store.backend()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn two_containers_add_up_run_after_run() {
    let store = Store::new();
    let adder = adder(&store);
    let times_two = Mapping::new(&store, adder.lambda("times_two").unwrap()).await;
    let sum = Mapping::new(&store, adder.lambda("sum").unwrap()).await;
    for length in [5, 0, 1, 100] {
        let run = adder.submit(1..=length).await.unwrap();
        let invocations = work_off(&[&times_two, &sum]).await;
        assert!(invocations >= 1 || length == 0, "{length}");
        let status = run.status().await.unwrap();
        assert_eq!(status.state.to_string(), "done", "no worker but these");
        let expected = length * (length + 1);
        assert_eq!(run.result().await.unwrap(), expected);
    }
    let left = store.depth(&adder).await;
    assert_eq!(
        (left.ready, left.in_flight, left.delayed, left.dead),
        (0, 0, 0, 0)
    );
}

/// One event after the other through the interface that the runtime calls, deadline included.
#[tokio::test(start_paused = true)]
async fn the_runtime_can_call_it() {
    let store = Store::new();
    let adder = adder(&store);
    let run = adder.submit([1, 2, 3, 4, 5]).await.unwrap();
    let times_two = Mapping::new(&store, adder.lambda("times_two").unwrap()).await;
    let sum = Mapping::new(&store, adder.lambda("sum").unwrap()).await;
    let deliveries = times_two.receive(NOW).await;
    let event = LambdaEvent::new(times_two.event(&deliveries), context(MINUTE));
    let response = times_two.function.clone().oneshot(event).await.unwrap();
    assert!(times_two.delete(&deliveries, &response).await.is_empty());
    work_off(&[&sum]).await;
    assert_eq!(soon(run.result()).await.unwrap(), 30);
    // A deadline that is over already, and none at all.
    let past = LambdaEvent::new(SqsEvent::default(), context(NOW));
    times_two.function.clone().oneshot(past).await.unwrap();
    let without = LambdaEvent::new(SqsEvent::default(), Context::default());
    times_two.function.clone().oneshot(without).await.unwrap();
}

fn context(remaining: Duration) -> Context {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let mut context = Context::default();
    context.deadline = (since + remaining).as_millis() as u64;
    context
}
