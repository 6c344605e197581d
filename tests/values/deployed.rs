//! Random values through deployments in each codec.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use catchment::testing::{MisfitKind, travels_in};
use catchment::{Backend, Codec, Deployment, Error, Pipeline, Result, Stage};
use tokio::time::timeout;

use crate::generate::values;
use crate::types::Value;

/// Values that travel together.
const TOGETHER: usize = 2_000;

#[tokio::test(start_paused = true)]
async fn json_gives_back_what_it_accepts() {
    come_back_or_are_refused(Codec::Json).await;
}

#[cfg(feature = "postcard")]
#[tokio::test(start_paused = true)]
async fn postcard_gives_back_what_it_accepts() {
    come_back_or_are_refused(Codec::Postcard).await;
}

async fn come_back_or_are_refused(codec: Codec) {
    let same = through(codec);
    let worker = same.worker().start();
    let making = Making::new(codec);
    let making_worker = making.deployment.worker().start();
    let (mut accepted, mut refused, mut all) = (Vec::new(), 0, 0);
    for value in values() {
        all += 1;
        match travels_in(codec, &value) {
            Ok(()) => accepted.push(value),
            Err(misfit) => {
                refused += 1;
                match misfit.kind {
                    MisfitKind::Refused(_) => {}
                    MisfitKind::Unreadable(_) if asks_what_it_is(codec, &value) => {}
                    _ => panic!("{misfit}\n{value:?}"),
                }
                let error = collected(&same, vec![value.clone()]).await.unwrap_err();
                assert!(!error.is_retryable(), "{error}\n{value:?}");
                making.is_refused(value).await;
            }
        }
        if accepted.len() == TOGETHER {
            come_back(&same, std::mem::take(&mut accepted)).await;
        }
    }
    come_back(&same, accepted).await;
    println!("{codec:?}: of {all} values, {refused} were refused and the others came back");
    assert!(refused < all * 3 / 4, "{refused} of {all} are refused");
    worker.shutdown().await;
    making_worker.shutdown().await;
}

/// Values that ask the format what they are, which postcard cannot tell: nothing shows that when they are written.
fn asks_what_it_is(codec: Codec, value: &Value) -> bool {
    let text = format!("{value:?}");
    let asks = ["Internal(", "Adjacent(", "Untagged(", "Flat(", "Json("];
    codec != Codec::Json && asks.iter().any(|name| text.contains(name))
}

fn through(codec: Codec) -> Deployment<Value, Vec<Value>> {
    let same = Pipeline::new()
        .map(|value: Value| value)
        .with(Stage::named("first").packet_size(7))
        .map(|value| value)
        .with(Stage::named("second"))
        .collect()
        .map(|values| values);
    same.codec(codec)
        .deploy("values", Backend::memory())
        .unwrap()
}

async fn come_back(same: &Deployment<Value, Vec<Value>>, values: Vec<Value>) {
    let back = collected(same, values.clone()).await.unwrap();
    assert_eq!(back.len(), values.len());
    for (back, value) in back.iter().zip(&values) {
        assert_eq!(back, value);
    }
}

async fn collected(same: &Deployment<Value, Vec<Value>>, values: Vec<Value>) -> Result<Vec<Value>> {
    let run = timeout(Duration::from_secs(3_600), async {
        same.submit(values).await?.result().await
    });
    run.await.expect("it does not hang")
}

/// A pipeline whose function makes the value, so that an output is refused, and not an item.
struct Making {
    deployment: Deployment<u8, Vec<Value>>,
    value: Arc<Mutex<Value>>,
}

impl Making {
    fn new(codec: Codec) -> Self {
        let value = Arc::new(Mutex::new(Value::Unit));
        let made = Arc::clone(&value);
        let make = Pipeline::new()
            .map(move |_: u8| made.lock().unwrap().clone())
            .with(Stage::named("make"))
            .map(|value| value)
            .with(Stage::named("read"))
            .collect();
        let deployment = make.codec(codec).deploy("made", Backend::memory()).unwrap();
        Self { deployment, value }
    }

    async fn is_refused(&self, value: Value) {
        *self.value.lock().unwrap() = value.clone();
        let run = timeout(Duration::from_secs(3_600), async {
            self.deployment.submit([0]).await?.result().await
        });
        match run.await.expect("it does not hang") {
            Err(Error::Failed { failure, .. }) => {
                assert_eq!(failure.attempts.len(), 1, "{failure}\n{value:?}");
            }
            other => panic!("{other:?}\n{value:?}"),
        }
    }
}
